"""Rectified flow: noise schedules, the line between data and noise, Euler steps, the training objective.

    x_σ = (1 - σ) x₀ + σ ε      network: v = ε - x₀      step: x ← x - (σ - σ') v      x₀ = x - σ v

Levels σ are float64; the network is told 1000 σ as float32 and truncates it, so that a level given as a
whole timestep survives the way there. Latents are (B, C, T, H, W), levels one for all or (B, T).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LEVELS = 1000
"""Noise levels of the training table, and the timestep of pure noise."""
TRAINING_SHIFT = 9.95
INFERENCE_SHIFT = 9.8
STREAMING_SHIFT = 8.0
"""Named by the streaming configuration; the distilled list is this shift of 1, 3/4, 1/2, 1/4, rounded."""
DISTILLED_TIMESTEPS = (1000, 960, 889, 727, 0)
"""Of the released four-step sampler."""
DISTILLATION_TIMESTEPS = (1000, 967, 908, 764, 0)
"""Of the published distillation recipe, which disagrees with the sampler."""
REFINER_SIGMAS = (0.909375, 0.725, 0.421875, 0.0)


def shift(sigma: Tensor, amount: float) -> Tensor:
    """Levels moved towards noise: s σ / (1 + (s - 1) σ)."""
    return amount * sigma / (1 + (amount - 1) * sigma)


def inference_sigmas(steps: int, amount: float = INFERENCE_SHIFT) -> Tensor:
    """Schedule (steps + 1,) from 1 to 0. The points are laid linearly between shifted ends and then shifted
    again: so does the scheduler of the release, and its weights are sampled with it."""
    if steps < 1:
        raise ValueError(f"steps: {steps}, expected at least 1")
    ends = shift(torch.tensor([1.0, 1 / LEVELS], dtype=torch.float64), amount)
    points = torch.linspace(float(ends[0]), float(ends[1]), steps, dtype=torch.float64)
    return torch.cat([shift(points, amount), torch.zeros(1, dtype=torch.float64)])


def timestep_sigmas(timesteps: Sequence[int]) -> Tensor:
    """Schedule of a list of timesteps, such as `DISTILLED_TIMESTEPS`; no shift is applied."""
    return torch.tensor(timesteps, dtype=torch.float64) / LEVELS


def training_sigmas(amount: float = TRAINING_SHIFT) -> Tensor:
    """Table (1000,): σ of every noise index; index 0 is clean."""
    return shift(torch.arange(LEVELS, dtype=torch.float64) / LEVELS, amount)


def noise_index(normal: Tensor) -> Tensor:
    """Logit-normal noise indices 0..999 from standard normal draws of any shape."""
    return (LEVELS * normal.double().sigmoid()).long().clamp(max=LEVELS - 1)


def timesteps(sigma: Tensor) -> Tensor:
    """What the network is told of levels: 1000 σ in float32, where float64's rounding vanishes."""
    return (LEVELS * sigma.double()).float()


def interpolate(clean: Tensor, noise: Tensor, sigma: Tensor) -> Tensor:
    """x_σ, of the type of `clean`."""
    level = _over_latents(sigma, clean)
    return ((1 - level) * clean + level * noise).to(clean.dtype)


def velocity(clean: Tensor, noise: Tensor) -> Tensor:
    """What the network learns to predict, at every level."""
    return noise - clean


def clean_estimate(latents: Tensor, predicted: Tensor, sigma: Tensor) -> Tensor:
    """x₀ that the predicted velocity points to."""
    return (latents - _over_latents(sigma, latents) * predicted).to(latents.dtype)


def euler_step(latents: Tensor, predicted: Tensor, sigma: Tensor, target: Tensor) -> Tensor:
    """Each frame from its own level `sigma` to its own `target`; frames with equal levels keep still."""
    return (latents - _over_latents(sigma - target, latents) * predicted).to(latents.dtype)


def multistep_step(
    latents: Tensor, clean: Tensor, sigma: Tensor, target: Tensor, previous: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """Two-step DPM-Solver: Euler towards an x₀ extrapolated from this estimate and the `previous` one, which
    is its (x₀, σ). Linear in λ = log((1 - σ) / σ); at both ends, where λ is infinite, it is Euler."""
    pointed = clean
    if previous is not None:
        before, earlier = previous
        ahead = torch.logit(1 - target) - torch.logit(1 - sigma)
        behind = torch.logit(1 - sigma) - torch.logit(1 - earlier)
        share = torch.where(ahead.isfinite() & behind.isfinite(), ahead / (2 * behind), 0.0)
        pointed = clean + _over_latents(share, latents) * (clean - before)
    moved = 1 - torch.where(sigma > 0, target / sigma, 1.0)
    return (latents + _over_latents(moved, latents) * (pointed - latents)).to(latents.dtype)


def _over_latents(sigma: Tensor, latents: Tensor) -> Tensor:
    """Levels, one of all or (B, T), shaped to multiply latents, in float32 at least."""
    sigma = sigma.to(latents.device, torch.promote_types(latents.dtype, torch.float32))
    return sigma if sigma.ndim == 0 else sigma[:, None, :, None, None]


@dataclass(frozen=True)
class Denoising:
    """One training question: what the network sees, what it should say, and which frames count.

    latents, target: (B, C, T, H, W)    sigma, timesteps, counts: (B, T), counts 0 or 1
    """

    latents: Tensor
    sigma: Tensor
    timesteps: Tensor
    target: Tensor
    counts: Tensor


def pose_denoising(
    clean: Tensor, noise: Tensor, index: Tensor, first_frame_given: bool,
    frame_valid: Tensor | None = None, sigmas: Tensor | None = None,
) -> Denoising:
    """Noise a batch at the levels `index`, (B,) or one of each frame (B, T), of the table `sigmas` (default:
    that of training).

    With `first_frame_given` frame 0 is clean, told so, and does not count: the network learns to go on from
    an image. `frame_valid` (B, T) leaves out padding frames.
    """
    batch, frames = clean.shape[0], clean.shape[2]
    if index.shape not in ((batch,), (batch, frames)):
        raise ValueError(f"index: shape {tuple(index.shape)}, expected ({batch},) or ({batch}, {frames}) "
                         f"for latents {tuple(clean.shape)}")
    if noise.shape != clean.shape:
        raise ValueError(f"noise: shape {tuple(noise.shape)}, expected that of clean, {tuple(clean.shape)}")
    index = (index[:, None] if index.ndim == 1 else index).expand(batch, frames)
    counts = torch.ones(batch, frames, device=clean.device)
    if frame_valid is not None:
        counts = counts * frame_valid
    if first_frame_given:
        later = torch.arange(frames, device=clean.device) > 0
        index, counts = index * later, counts * later
    table = training_sigmas() if sigmas is None else sigmas
    sigma = table.to(index.device)[index]
    return Denoising(interpolate(clean, noise, sigma), sigma, timesteps(sigma).floor(),
                     velocity(clean, noise), counts)


def masked_error(predicted: Tensor, target: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of squared errors over the counting frames of each sample, and the number of values summed, both
    (B,) float32. Ranks that hold pieces of a clip add both before they divide."""
    wanted = torch.promote_types(predicted.dtype, torch.float32)
    error = (predicted.to(wanted) - target.to(wanted)).square().sum((1, 3, 4))
    values = predicted.shape[1] * predicted.shape[3] * predicted.shape[4]
    return (error * counts).sum(1), counts.sum(1) * values


def velocity_loss(predicted: Tensor, target: Tensor, counts: Tensor) -> Tensor:
    """Mean squared error of each sample (B,) over the frames that count; 0 where none does."""
    error, number = masked_error(predicted, target, counts)
    return error / number.clamp(min=1)
