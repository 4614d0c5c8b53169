"""An update over several batches is one over their mean loss."""

from __future__ import annotations

import torch

from train.launch import meet
from train.trainer import Trainer


def test_accumulated_gradients_are_those_of_the_mean_loss(settings, tmp_path) -> None:
    config = settings(tmp_path, stage="minute", accumulate=2)
    with meet(config.parallel) as ranks:
        trainer = Trainer(config, ranks)
        batches = [batch for batch, _ in zip(trainer.loader, range(2))]
        loss, _ = trainer._gradients("network", batches)
        module = trainer.networks["network"].module
        accumulated = {name: p.grad.clone() for name, p in module.named_parameters() if p.requires_grad}
        module.zero_grad()
        ask = trainer.stage.objective.loss
        alone = [ask(trainer.networks, batch, trainer._draws("network", i), 0, "network")
                 for i, batch in enumerate(batches)]
        mean = (alone[0].total + alone[1].total) / 2
        mean.backward()
    torch.testing.assert_close(loss, mean.detach())
    assert alone[0].total != alone[1].total
    for name, gradient in accumulated.items():
        torch.testing.assert_close(gradient, module.get_parameter(name).grad, rtol=1e-4, atol=1e-6)
