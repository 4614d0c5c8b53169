"""LoRA trains little, keeps the rest, and exports a whole network that computes the same."""

from __future__ import annotations

import re

import torch

from model.dit import SanaWM
from tests.model.networks import random_inputs, random_network
from tests.train.clips import CONFIG
from tests.train.conftest import losses
from train.lora import TARGETS, add_lora, merged


def test_a_merged_network_computes_what_the_adapted_one_does() -> None:
    base = random_network(CONFIG)
    tensors = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    given = random_inputs(CONFIG, 5)
    before = base(**given)
    add_lora(base, 4, 0, torch.float64)
    assert torch.equal(base(**given), before)
    adapter = {name: p for name, p in base.named_parameters() if p.requires_grad}
    assert len(adapter) == 2 * 2 * 10  # two matrices, two blocks, ten projections
    with torch.no_grad():
        for p in adapter.values():
            p.normal_(generator=torch.Generator().manual_seed(p.numel()))
    plain = SanaWM(CONFIG).double()
    plain.load_state_dict(merged(tensors, {name: p.detach() for name, p in adapter.items()}))
    after = base(**given)
    assert not torch.allclose(after, before)
    torch.testing.assert_close(plain(**given), after, rtol=1e-5, atol=1e-5)


def test_a_run_with_lora_resumes_and_exports_a_whole_network(settings, train, tmp_path) -> None:
    assert train(settings(tmp_path / "base", stage="minute", steps=2))[0] == 0
    given = {"stage": "sft", "start": str(tmp_path / "base"), "lora__rank": 3, "optim__lr": 0.01}
    assert train(settings(tmp_path / "whole", steps=4, **given))[0] == 0
    assert train(settings(tmp_path / "parts", steps=2, **given))[0] == 0
    assert train(settings(tmp_path / "parts", steps=4, **given))[0] == 0
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    base, tuned, again = (SanaWM.from_pretrained(tmp_path / run / "export" / "network").state_dict()
                          for run in ("base", "whole", "parts"))
    changed = {name for name in base if not torch.equal(base[name], tuned[name])}
    assert changed and all(re.fullmatch(TARGETS, name.removesuffix(".weight")) for name in changed)
    assert all(torch.equal(tuned[name], again[name]) for name in tuned)
