"""Noise schedules, the training objective and the solvers' steps."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model import flow

B, C, T, H, W = 2, 3, 5, 4, 6


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(steps=st.integers(1, 80), amount=st.floats(1.0, 12.0))
def test_a_schedule_falls_strictly_from_pure_noise_to_clean(steps: int, amount: float):
    sigmas = flow.inference_sigmas(steps, amount)
    assert len(sigmas) == steps + 1 and sigmas[0] == 1 and sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()


def test_the_distilled_list_is_a_rounded_shift_of_quarters():
    quarters = torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0], dtype=torch.float64)
    told = flow.timesteps(flow.shift(quarters, flow.STREAMING_SHIFT))
    assert told.round().tolist() == list(flow.DISTILLED_TIMESTEPS)


@pytest.mark.parametrize("listed", [flow.DISTILLED_TIMESTEPS, flow.DISTILLATION_TIMESTEPS])
def test_whole_timesteps_survive_the_way_to_the_network_which_truncates(listed: tuple[int, ...]):
    for kind in (torch.float32, torch.float64):
        told = flow.timesteps(flow.timestep_sigmas(listed).to(kind))
        assert told.floor().tolist() == list(listed)


def test_noise_indices_stay_in_the_table_for_extreme_draws():
    assert flow.noise_index(torch.tensor([-1e9, -40.0, 0.0, 40.0, 1e9])).tolist() == [0, 0, 500, 999, 999]
    assert flow.training_sigmas()[0] == 0 and len(flow.training_sigmas()) == 1000


def test_the_exact_velocity_leads_to_the_clean_latents_in_one_step_from_any_level():
    clean, noise = draw(1, B, C, T, H, W), draw(2, B, C, T, H, W)
    sigma = torch.rand(B, T, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    noisy, velocity = flow.interpolate(clean, noise, sigma), flow.velocity(clean, noise)
    assert torch.allclose(flow.clean_estimate(noisy, velocity, sigma), clean, atol=1e-12)
    assert torch.allclose(flow.euler_step(noisy, velocity, sigma, torch.zeros_like(sigma)), clean, atol=1e-12)
    halfway = flow.euler_step(noisy, velocity, sigma, sigma / 2)
    assert torch.allclose(halfway, flow.interpolate(clean, noise, sigma / 2), atol=1e-12)


def test_latents_of_a_narrow_type_keep_it_and_their_level_is_not_rounded_to_it():
    clean, noise = draw(1, B, C, T, H, W).bfloat16(), draw(2, B, C, T, H, W).bfloat16()
    noisy = flow.interpolate(clean, noise, torch.full((B, T), 0.999, dtype=torch.float64))
    assert noisy.dtype == torch.bfloat16
    exact = 0.001 * clean.double() + 0.999 * noise.double()
    assert (noisy.double() - exact).abs().max() < 2**-8 * exact.abs().max()


def test_a_given_first_frame_is_clean_told_so_and_outside_the_loss():
    clean, noise, index = draw(1, B, C, T, H, W), draw(2, B, C, T, H, W), torch.tensor([700, 20])
    task = flow.pose_denoising(clean, noise, index, first_frame_given=True)
    assert torch.equal(task.latents[:, :, 0], clean[:, :, 0])
    assert (task.timesteps[:, 0] == 0).all() and (task.timesteps[:, 1:] > 0).all()
    predicted = task.target.clone()
    predicted[:, :, 0] += 100
    assert (flow.velocity_loss(predicted, task.target, task.counts) == 0).all()
    predicted[1, :, 2] += 1
    assert flow.velocity_loss(predicted, task.target, task.counts).tolist() == [0, pytest.approx(1 / 4)]


def test_padding_frames_do_not_count_and_ranks_errors_add_up_to_the_clip_s():
    clean, noise = draw(1, B, C, T, H, W), draw(2, B, C, T, H, W)
    valid = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    task = flow.pose_denoising(clean, noise, torch.tensor([300, 600]), True, frame_valid=valid)
    predicted = draw(3, B, C, T, H, W)
    loss = flow.velocity_loss(predicted, task.target, task.counts)
    alone = (predicted - task.target)[0, :, 1:3].square().mean()
    assert torch.allclose(loss[0].double(), alone)
    parts = [flow.masked_error(predicted[:, :, s], task.target[:, :, s], task.counts[:, s])
             for s in (slice(0, 3), slice(3, 5))]
    together = sum(error for error, _ in parts) / sum(number for _, number in parts)
    assert torch.allclose(together, loss)


def test_levels_of_another_shape_are_refused_by_name():
    clean = draw(1, B, C, T, H, W)
    with pytest.raises(ValueError, match=r"index: shape \(5,\), expected \(2,\) or \(2, 5\)"):
        flow.pose_denoising(clean, clean, torch.zeros(5, dtype=torch.long), False)
    with pytest.raises(ValueError, match="noise: shape"):
        flow.pose_denoising(clean, clean[:, :, 1:], torch.tensor([3, 4]), False)
    with pytest.raises(ValueError, match="steps: 0"):
        flow.inference_sigmas(0)


def test_two_step_solver_is_of_second_order_and_euler_of_first():
    """Data N(0, s²): the flow's path is x(σ) ∝ sqrt((1-σ)² s² + σ²), known exactly. Between inner levels: at
    the ends λ is infinite, and no refinement makes its steps small."""
    scale = 0.3

    def spread(sigma: Tensor) -> Tensor:
        return ((1 - sigma).square() * scale**2 + sigma.square()).sqrt()

    def error(steps: int, second_order: bool) -> float:
        sigmas = torch.linspace(0.9, 0.1, steps + 1, dtype=torch.float64)
        start = draw(4, 1, 1, 1, 2, 2)
        latents, previous = start, None
        end = start * spread(sigmas[-1]) / spread(sigmas[0])
        for sigma, target in zip(sigmas[:-1, None, None], sigmas[1:, None, None], strict=True):
            estimate = (1 - sigma) * scale**2 / spread(sigma).square()
            clean = estimate[..., None, None, None] * latents
            velocity = (latents - clean) / sigma
            if second_order:
                latents = flow.multistep_step(latents, clean, sigma, target, previous)
                previous = clean, sigma
            else:
                latents = flow.euler_step(latents, velocity, sigma, target)
        return float((latents - end).abs().max())

    assert 3.5 < error(80, True) / error(160, True) < 4.5
    assert 1.9 < error(80, False) / error(160, False) < 2.1
    assert error(20, True) < error(20, False) / 10
