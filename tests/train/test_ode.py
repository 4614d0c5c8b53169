"""ODE warm-up: the teacher's path is kept at the right levels, once, and the student is asked about it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from dataset.store import Store
from model.flow import LEVELS, inference_sigmas, timestep_sigmas
from model.mask import Mask
from model.rollout import Guidance, denoise_chunks
from tests.train.clips import draws, empty_caption, random_batch, random_member
from train.objectives import Member
from train.ode import OdeConfig, OdeInit
from train.self_forcing import told_of

FRAMES = 7  # chunks of 4 and 3


def objective(folder: Path, **settings) -> OdeInit:
    config = OdeConfig(**{"teacher": "here", "steps": 4, "guidance": 2.0, "interval": 1.0, **settings})
    return OdeInit(config, FRAMES, empty_caption(), Store(folder))


def networks() -> dict[str, Member]:
    return {"network": random_member(0), "teacher": random_member(1, trained=False)}


def toward(clean: Tensor):
    """The exact field of one clip, whose path from noise is a straight line."""
    def network(latents: Tensor, timesteps: Tensor, *others: object, mask: Mask) -> Tensor:
        sigma = (timesteps.double() / LEVELS).clamp(min=1e-9)[:, None, :, None, None]
        return (latents - clean[:, :, : latents.shape[2]]) / sigma
    return network


@pytest.mark.parametrize("interval", [1.0, None])
def test_the_path_is_kept_at_the_students_levels_whatever_the_sampler_steps_through(tmp_path, interval):
    batch = random_batch(FRAMES)
    given, told, clean = objective(tmp_path, interval=interval, guidance=1.0), told_of(batch), batch.latents
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    path = given.follow(toward(clean), noise, told, clean[:, :, :1])
    assert path.shape == (5, *clean.shape)
    for state, sigma in zip(path, timestep_sigmas(given.config.timesteps)):
        expected = (1 - sigma) * clean + sigma * noise
        torch.testing.assert_close(state[:, :, 1:], expected[:, :, 1:], rtol=1e-5, atol=1e-5)
        assert torch.equal(state[:, :, :1], clean[:, :, :1])


def test_the_end_of_the_path_is_what_the_chunk_causal_sampler_makes(tmp_path):
    batch, given, teacher = random_batch(FRAMES), objective(tmp_path), random_member(1, trained=False)
    told, first = told_of(batch), batch.latents[:, :, :1]
    noise = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(0)).double()
    sigmas = torch.cat([inference_sigmas(4), timestep_sigmas(given.config.timesteps)]).unique().flip(0)
    states, mask = (x.expand(2, *x.shape) for x in given.away)
    expected = torch.cat([*denoise_chunks(teacher.call, noise, told, sigmas, (0, 4), interval=1.0,
                                          guidance=Guidance(states, mask, 2.0), first_frame=first)], 2)
    torch.testing.assert_close(given.follow(teacher.call, noise, told, first)[-1], expected)


def test_a_path_is_made_once_and_found_again_by_another_process(tmp_path):
    batch, members = random_batch(FRAMES), networks()
    calls = [0]
    members["teacher"].module.register_forward_hook(lambda *_: calls.__setitem__(0, calls[0] + 1))

    def loss(settings: dict | None = None) -> float:
        given = objective(tmp_path, **(settings or {}))
        return float(given.loss(members, batch, draws(), 0, "network").total.detach())

    first = loss()
    made, calls[0] = calls[0], 0
    assert made > 0 and len(list(tmp_path.glob("*.safetensors"))) == 2
    assert loss() == first and calls[0] == 0
    next(iter(tmp_path.glob("two-*"))).unlink()
    assert loss() == first and calls[0] == made, "one of the two is made again, the same"
    loss({"guidance": 3.0})
    assert len(list(tmp_path.glob("*.safetensors"))) == 4, "another question has another path"


def test_each_chunk_starts_at_its_own_level_and_clean_ones_do_not_count(tmp_path):
    given = objective(tmp_path)
    sigmas = timestep_sigmas(given.config.timesteps)
    path = sigmas.view(5, 1, 1, 1, 1, 1).expand(5, 40, 1, FRAMES, 1, 1)
    posed = given.pose(path, torch.ones(40, FRAMES), torch.Generator().manual_seed(0))
    assert torch.equal(posed.latents[:, 0, :, 0, 0], posed.sigma), "the state is that of its level"
    assert bool((posed.sigma[:, 0] == 0).all())
    for start, end in ((1, 4), (4, 7)):
        assert bool((posed.sigma[:, start:end] == posed.sigma[:, start : start + 1]).all())
        assert set(posed.sigma[:, start].tolist()) == set(sigmas.tolist())
    assert bool((posed.sigma[:, 1] != posed.sigma[:, 4]).any())
    assert torch.equal(posed.counts > 0, posed.sigma > 0)
    assert bool((posed.target == 0).all())


def test_the_loss_is_the_distance_of_the_jump_from_the_end_of_the_path(tmp_path):
    batch, members, given = random_batch(FRAMES), networks(), objective(tmp_path)
    losses = given.loss(members, batch, draws(3), 0, "network")
    told, first = told_of(batch), batch.latents[:, :, :1]
    posed = given.pose(given.paths(members, batch, told, first).double(), torch.ones(2, FRAMES),
                       draws(3).own)
    with torch.no_grad():
        v = members["network"].module(posed.latents, posed.timesteps, told.caption, told.caption_mask,
                                      told.camera_conditions, told.plucker, mask=Mask.chunk_causal(FRAMES))
    error = (posed.latents - posed.sigma[:, None, :, None, None] * v - posed.target).square().mean((1, 3, 4))
    expected = (error * posed.counts).sum(1) / posed.counts.sum(1).clamp(min=1)
    assert float(losses.total.detach()) == pytest.approx(float(expected.mean()), rel=1e-6)
    losses.total.backward()
    assert all(p.grad is None for p in members["teacher"].module.parameters())


def test_a_broken_teacher_is_named(tmp_path):
    members = networks()
    with torch.no_grad():
        members["teacher"].module.final_layer.linear.bias.fill_(torch.nan)
    with pytest.raises(RuntimeError, match=r"path of clip one by the teacher here is not finite"):
        objective(tmp_path).loss(members, random_batch(FRAMES), draws(), 0, "network")
    assert not list(tmp_path.glob("*.safetensors"))


@pytest.mark.parametrize(("settings", "message"), [
    ({"timesteps": [1000, 500]}, r"ode\.timesteps=\[1000, 500\]"), ({"steps": 0}, r"ode\.steps=0"),
    ({"guidance": 0.5}, r"guidance=0\.5"), ({"interval": 2.0}, r"ode\.interval=2\.0"),
])
def test_settings_that_make_no_sense_are_named(settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        OdeConfig(**settings).check()
