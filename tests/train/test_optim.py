"""Warm-up, clipping, decay of matrices alone, and the mean of the weights, to the number."""

from __future__ import annotations

import torch
from torch import nn

from train.config import OptimConfig
from train.optim import Ema, Optimiser


def layer() -> nn.Linear:
    made = nn.Linear(3, 2)
    with torch.no_grad():
        made.weight.fill_(1.0)
        made.bias.fill_(1.0)
    return made


def test_the_rate_rises_to_its_height_and_stays() -> None:
    optimiser = Optimiser(layer(), OptimConfig(lr=2.0, warmup=3))
    assert [optimiser.rate(step) for step in range(6)] == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    assert Optimiser(layer(), OptimConfig(lr=2.0), lr=0.1).rate(0) == 0.1


def test_updates_are_those_of_adam_behind_a_clipped_gradient() -> None:
    module, plain = layer(), layer()
    config = OptimConfig(lr=0.1, betas=[0.8, 0.9], eps=1e-10, clip=0.5)
    optimiser = Optimiser(module, config)
    reference = torch.optim.AdamW(plain.parameters(), lr=0.1, betas=(0.8, 0.9), eps=1e-10, weight_decay=0.0)
    for step in range(4):
        x = torch.arange(6.0).view(2, 3) + step
        for network in (module, plain):
            network(x).square().sum().backward()
        norm = optimiser.norm()
        torch.testing.assert_close(norm, torch.cat([p.grad.flatten() for p in plain.parameters()]).norm())
        optimiser.update(norm, step)
        optimiser.clear()
        nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
        reference.step()
        reference.zero_grad()
    for ours, theirs in zip(module.parameters(), plain.parameters()):
        torch.testing.assert_close(ours, theirs)
    assert set(optimiser.state()) == {"weight", "bias"} and float(optimiser.state()["bias"]["step"]) == 4


def test_matrices_decay_and_vectors_do_not() -> None:
    module = layer()
    optimiser = Optimiser(module, OptimConfig(lr=0.1, weight_decay=0.5))
    (module(torch.zeros(1, 3)) * 0).sum().backward()
    optimiser.update(optimiser.norm(), 0)
    torch.testing.assert_close(module.weight, torch.full((2, 3), 0.95))
    torch.testing.assert_close(module.bias, torch.ones(2))


def test_frozen_parameters_have_no_state() -> None:
    module = layer()
    module.bias.requires_grad_(False)
    assert set(Optimiser(module, OptimConfig()).state()) == {"weight"}


def test_the_mean_of_the_weights() -> None:
    module = layer()
    ema = Ema(dict(module.named_parameters()), decay=0.9, start=1)
    for step, value in enumerate((2.0, 3.0, 5.0)):
        with torch.no_grad():
            module.weight.fill_(value)
        ema.update(step)
    torch.testing.assert_close(ema.mean["weight"], torch.full((2, 3), 0.9 * (0.9 * 2 + 0.1 * 3) + 0.1 * 5))
    mean = ema.mean["weight"].clone()
    ema.exchange()
    torch.testing.assert_close(module.weight.detach(), mean)
    ema.exchange()
    torch.testing.assert_close(module.weight.detach(), torch.full((2, 3), 5.0))
