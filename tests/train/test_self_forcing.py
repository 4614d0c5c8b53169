"""Self-forcing: rollouts as when streaming, gradients where they belong, and a push towards the teacher."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from model.flow import clean_estimate, shift, timestep_sigmas
from model.mask import Mask
from model.parallel import recompute_blocks
from model.rollout import write_chunk
from tests.train.clips import draws, empty_caption, random_batch, random_member
from train.objectives import Member
from train.self_forcing import (
    SelfForcing,
    SelfForcingConfig,
    counting,
    distribution_matching,
    draw_score_sigmas,
    told_of,
)

FRAMES = 8  # chunks of 4 and 4, since 8 is not 3k + 1
LONG = 10   # chunks of 4, 3, 3


def objective(frames: int = LONG, **settings) -> SelfForcing:
    return SelfForcing(SelfForcingConfig(teacher="released", **settings), frames, empty_caption())


def networks(seeds: tuple[int, int, int] = (0, 1, 2)) -> dict[str, Member]:
    generator, critic, teacher = seeds
    return {"network": random_member(generator), "critic": random_member(critic),
            "teacher": random_member(teacher, trained=False)}


def gradients(member: Member) -> list[Tensor | None]:
    return [None if p.grad is None else p.grad.clone() for p in member.module.parameters()]


def roll_out(given: SelfForcing, member: Member, exit_step: int, seed: int = 3) -> Tensor:
    batch = random_batch(given.frames)
    return given.roll_out(member, told_of(batch), batch.latents[:, :, :1], exit_step,
                          torch.Generator().manual_seed(seed))


def test_every_fifth_step_trains_the_generator_and_every_step_the_critic():
    assert [objective().turns(step) for step in range(6)] == [
        ("network", "critic"), ("critic",), ("critic",), ("critic",), ("critic",), ("network", "critic")]


@pytest.mark.parametrize("exit_step", [0, 2, 3])
def test_a_rollout_is_the_stream_written_out_with_its_gradient(exit_step: int):
    given, batch = objective(window=2), random_batch(LONG)
    told, first = told_of(batch), batch.latents[:, :, :1]
    member, plain = random_member(), random_member().module
    weights = torch.linspace(-1, 1, LONG, dtype=torch.float64)[:, None, None]
    (roll_out(given, member, exit_step) * weights).sum().backward()

    own = torch.Generator().manual_seed(3)
    noise = torch.randn(batch.latents.shape, generator=own).double()
    sigmas, mask = timestep_sigmas(given.config.timesteps), Mask(window=2)
    cache, made = plain.new_cache(2), []
    for start, end in ((0, 4), (4, 7), (7, 10)):
        x = noise[:, :, start:end].clone()
        levels = torch.ones(2, end - start, dtype=torch.float64)
        if start == 0:
            x[:, :, :1], levels[:, 0] = first, 0
        part = told.frames(start, end)
        for step in range(exit_step + 1):
            with torch.set_grad_enabled(step == exit_step):
                velocity = plain(x, 1000 * levels * sigmas[step], part.caption, part.caption_mask,
                                 part.camera_conditions, part.plucker, mask=mask, cache=cache.clone())
            clean = clean_estimate(x, velocity, levels * sigmas[step])
            if step < exit_step:
                fresh = torch.randn(x.shape, generator=own, dtype=x.dtype)
                level = (levels * sigmas[step + 1])[:, None, :, None, None]
                x = (1 - level) * clean + level * fresh
        made.append(clean)
        write_chunk(plain, cache, part, clean, mask)
    expected = torch.cat(made, 2)
    (expected * weights).sum().backward()
    assert torch.equal(roll_out(given, member, exit_step)[:, :, :1], first)
    torch.testing.assert_close(roll_out(given, member, exit_step), expected, rtol=1e-10, atol=1e-10)
    for found, wanted in zip(gradients(member), gradients(Member(plain)), strict=True):
        assert (found is None) == (wanted is None)
        if found is not None:
            torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def test_blocks_computed_again_for_the_gradient_find_the_cache_as_it_was():
    """Backwards runs after all chunks are written: a block must not read what came later."""
    plain, again = random_member(), random_member()
    recompute_blocks(again.module)
    for member in (plain, again):
        roll_out(objective(), member, 1).square().sum().backward()
    for found, wanted in zip(gradients(again), gradients(plain), strict=True):
        if wanted is not None:
            torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("turn", "other"), [("network", "critic"), ("critic", "network")])
def test_a_turn_gives_a_gradient_to_its_own_network_alone(turn: str, other: str):
    given, members = objective(), networks()
    losses = given.loss(members, random_batch(LONG), draws(), 0, turn)
    assert losses.total.ndim == 0 and bool(losses.total.isfinite())
    losses.total.backward()
    assert any(g is not None and bool(g.abs().sum() > 0) for g in gradients(members[turn]))
    assert all(g is None for name in (other, "teacher") for g in gradients(members[name]))


def test_all_processes_leave_at_the_same_step_whatever_their_clips():
    """The number of calls of a network must agree where its parameters are shared out."""
    calls: list[list[int]] = []
    for seed in (1, 2):
        members, given = networks(), objective()
        told: list[object] = []
        members["network"].module.register_forward_hook(lambda *call, told=told: told.append(call))
        calls.append([])
        for step in range(6):
            told.clear()
            with torch.no_grad():
                given.loss(members, random_batch(LONG), draws(seed, shared=step), 1, "critic")
            calls[-1].append(len(told))
    assert calls[0] == calls[1] and len(set(calls[0])) > 1


def test_a_critic_that_agrees_with_its_teacher_pushes_nowhere():
    given, members = objective(guidance=1.0), networks((0, 5, 5))
    losses = given.loss(members, random_batch(LONG), draws(), 0, "network")
    losses.total.backward()
    assert float(losses.total.detach()) < 1e-20
    assert all(g is None or float(g.abs().max()) < 1e-12 for g in gradients(members["network"]))


def test_the_gradient_of_the_loss_is_the_normalised_difference_of_the_scores():
    torch.manual_seed(0)
    clean, real, fake = (torch.randn(2, 4, 5, 2, 3, dtype=torch.float64) for _ in range(3))
    counts = torch.tensor([[0.0, 1, 1, 1, 1], [0, 1, 1, 0, 0]])
    clean.requires_grad_()
    loss, _ = distribution_matching(clean, real, fake, counts)
    loss.sum().backward()
    for i in range(2):
        g = (fake[i] - real[i]) / (clean[i] - real[i]).abs().mean()
        values = counts[i].sum() * 4 * 2 * 3
        g = (g * counts[i][:, None, None]).detach()
        torch.testing.assert_close(clean.grad[i], g / values)
        assert float(loss[i].detach()) == pytest.approx(float(0.5 * g.square().sum() / values))


def test_following_the_push_moves_the_generators_distribution_onto_the_teachers():
    """Both normal, so the expected clean clip behind a noised one is known:
    m + (1-σ)s² / ((1-σ)²s² + σ²) · (x - (1-σ)m)."""
    own = torch.Generator().manual_seed(0)
    mean, scale = torch.tensor(-2.0, requires_grad=True), torch.tensor(2.0, requires_grad=True)
    optimiser = torch.optim.Adam([mean, scale], 0.03)

    def expected(x: Tensor, sigma: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
        gain = (1 - sigma) * scale**2 / ((1 - sigma) ** 2 * scale**2 + sigma**2)
        return mean + gain * (x - (1 - sigma) * mean)

    for _ in range(400):
        clean = mean + scale * torch.randn(256, 1, 1, 1, 1, generator=own)
        sigma = draw_score_sigmas(256, SelfForcingConfig(score_shift=1.0), own).float().view(-1, 1, 1, 1, 1)
        noised = ((1 - sigma) * clean + sigma * torch.randn(clean.shape, generator=own)).detach()
        real = expected(noised, sigma, torch.tensor(1.0), torch.tensor(0.5))
        fake = expected(noised, sigma, mean.detach(), scale.detach())
        optimiser.zero_grad()
        distribution_matching(clean, real, fake, torch.ones(256, 1))[0].mean().backward()
        optimiser.step()
    assert float(mean.detach()) == pytest.approx(1.0, abs=0.15)
    assert abs(float(scale.detach())) == pytest.approx(0.5, abs=0.15)


def test_score_levels_are_shifted_uniform_ones_kept_within_their_bounds():
    sigma = draw_score_sigmas(20000, SelfForcingConfig(), torch.Generator().manual_seed(0))
    assert float(sigma.min()) == 0.02 and float(sigma.max()) == 0.98
    middle = shift(torch.tensor(0.5, dtype=torch.float64), 10.0)
    assert float((sigma < middle).double().mean()) == pytest.approx(0.5, abs=0.02)
    assert float((sigma == 0.98).double().mean()) == pytest.approx(1 - 0.98 / (10 - 9 * 0.98), abs=0.02)


def test_the_first_frame_and_clips_that_were_not_read_do_not_count():
    batch = random_batch(FRAMES)
    batch.frame_valid[1] = False
    told_of(batch)
    assert counting(batch).tolist() == [[0.0] + [1.0] * 7, [0.0] * 8]
    members, given = networks(), objective(FRAMES)
    whole = given.loss(members, batch, draws(), 0, "critic").total
    assert batch.latents is not None
    changed = batch.latents.clone()
    changed[1] = 0
    without = given.loss(members, replace(batch, latents=changed), draws(), 0, "critic").total
    torch.testing.assert_close(without, whole)


def test_clips_of_another_length_or_with_padding_are_refused():
    given, members = objective(), networks()
    with pytest.raises(ValueError, match=r"one, two: 8 latent frames, expected 10"):
        given.loss(members, random_batch(FRAMES), draws(), 0, "critic")
    batch = random_batch(LONG)
    batch.frame_valid[1, -2:] = False
    with pytest.raises(ValueError, match=r"clips two: shorter than the batch and padded"):
        given.loss(members, batch, draws(), 0, "critic")


@pytest.mark.parametrize(("settings", "message"), [
    ({"teacher": None}, r"self_forcing\.teacher is missing"),
    ({"timesteps": [900, 0]}, r"self_forcing\.timesteps=\[900, 0\], allowed numbers that fall from 1000"),
    ({"window": 1}, r"self_forcing\.window=1, allowed 2"),
    ({"score_timesteps": [20]}, r"self_forcing\.score_timesteps=\[20\]"),
    ({"generator_every": 0}, r"self_forcing\.generator_every=0"),
])
def test_settings_that_make_no_sense_are_named(settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        SelfForcingConfig(**{"teacher": "released", **settings}).check()
