"""Sampling: a whole clip at once, chunk after chunk without a cache, and streaming with one.

Each takes the network as a callable with the signature of `SanaWM.forward` and knows nothing else of it. The
streaming part also serves the rollouts of self-forcing training. Latents are (B, C, T, H, W).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from model.flow import clean_estimate, euler_step, interpolate, multistep_step, timesteps
from model.mask import Mask

if TYPE_CHECKING:
    from model.cache import ModelState

Network = Callable[..., Tensor]
"""As `SanaWM.forward`."""
Progress = Callable[[int, int], None]
"""Told (steps done, steps in all) after every step."""


@dataclass(frozen=True)
class Conditioning:
    """What the network is told beside noise. The network is fed latents of the dtype of `caption`.

    caption (B, L, C)    caption_mask (B, L)    camera_conditions (B, T, 20)    plucker (B, 48, T, H, W)
    """

    caption: Tensor
    caption_mask: Tensor | None = None
    camera_conditions: Tensor | None = None
    plucker: Tensor | None = None

    def frames(self, start: int, stop: int) -> Conditioning:
        """The part that belongs to latent frames `start` to `stop`."""
        camera, plucker = self.camera_conditions, self.plucker
        return replace(self, camera_conditions=None if camera is None else camera[:, start:stop],
                       plucker=None if plucker is None else plucker[:, :, start:stop])


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance away from another caption: v = v' + scale (v - v').

    Used while σ lies in `sigmas`, which the release leaves whole; elsewhere one evaluation is saved.
    """

    caption: Tensor
    caption_mask: Tensor | None = None
    scale: float = 5.0
    sigmas: tuple[float, float] = (0.0, 1.0)


def denoise_clip(
    model: Network, noise: Tensor, conditioning: Conditioning, sigmas: Tensor, *,
    guidance: Guidance | None = None, first_frame: Tensor | None = None, second_order: bool = False,
    progress: Progress | None = None,
) -> Tensor:
    """Clean latents of a clip whose frames all see each other, from `noise` along the schedule `sigmas`.

    `first_frame` (B, C, 1, H, W) is kept and told as clean throughout. Steps are Euler's; with `second_order`
    those of the two-step DPM-Solver, which needs fewer.
    """
    _check_schedule(sigmas)
    latents, levels = _place(noise, first_frame), _first_clean(noise, first_frame)
    previous: tuple[Tensor, Tensor] | None = None
    for step in range(len(sigmas) - 1):
        sigma, target = levels * sigmas[step], levels * sigmas[step + 1]
        velocity = guided_velocity(model, latents, sigma, conditioning, guidance, Mask.bidirectional())
        if second_order:
            clean = clean_estimate(latents, velocity, sigma)
            latents = multistep_step(latents, clean, sigma, target, previous)
            previous = clean, sigma
        else:
            latents = euler_step(latents, velocity, sigma, target)
        if progress is not None:
            progress(step + 1, len(sigmas) - 1)
    return latents


def denoise_chunks(
    model: Network, noise: Tensor, conditioning: Conditioning, sigmas: Tensor, chunk_starts: Sequence[int],
    *, interval: float | None = None, guidance: Guidance | None = None, first_frame: Tensor | None = None,
    progress: Progress | None = None,
) -> Iterator[Tensor]:
    """Yields the clean latents of each chunk of a clip in turn, the network running on all chunks begun.

    Chunk i begins `interval` of a schedule after chunk i - 1 (default 1 over the number of chunks): at 1
    chunks follow one another, below that their noise levels overlap. Chunks not yet begun are absent, and
    finished ones stay, told as clean.
    """
    _check_schedule(sigmas)
    steps, count = len(sigmas) - 1, len(chunk_starts)
    ends = [*chunk_starts[1:], noise.shape[2]]
    interval = 1 / count if interval is None else interval
    begins = [int(i * interval * steps) for i in range(count)]
    latents, levels = _place(noise, first_frame), _first_clean(noise, first_frame)
    for step in range(begins[-1] + steps):
        begun = sum(begin <= step for begin in begins)
        frames = ends[begun - 1]
        taken = torch.empty(frames, dtype=torch.long)
        for start, end, begin in zip(chunk_starts[:begun], ends, begins):
            taken[start:end] = min(step - begin, steps)
        sigma = levels[:, :frames] * sigmas[taken]
        target = levels[:, :frames] * sigmas[(taken + 1).clamp(max=steps)]
        velocity = guided_velocity(model, latents[:, :, :frames], sigma, conditioning.frames(0, frames),
                                    guidance, Mask(chunk_starts=tuple(chunk_starts[:begun])))
        stepped = euler_step(latents[:, :, :frames], velocity, sigma, target)
        latents = torch.cat([stepped, latents[:, :, frames:]], 2)
        if progress is not None:
            progress(step + 1, begins[-1] + steps)
        for start, end, begin in zip(chunk_starts, ends, begins):
            if step - begin == steps - 1:
                yield latents[:, :, start:end]


@dataclass(frozen=True)
class Chunk:
    """A chunk of a stream to be made: its noise, and what the network is told of its frames."""

    noise: Tensor
    conditioning: Conditioning


def cut_chunks(noise: Tensor, conditioning: Conditioning, bounds: Sequence[int]) -> Iterator[Chunk]:
    """The chunks of a clip known in advance; `bounds` are their first frames and the end."""
    if bounds[0] != 0 or bounds[-1] != noise.shape[2]:
        raise ValueError(f"bounds: from {bounds[0]} to {bounds[-1]}, expected 0 to {noise.shape[2]}, the "
                         "number of frames of noise")
    for start, stop in pairwise(bounds):
        yield Chunk(noise[:, :, start:stop], conditioning.frames(start, stop))


def stream(
    model: Network, cache: ModelState, chunks: Iterable[Chunk], sigmas: Tensor, mask: Mask, *,
    first_frame: Tensor | None = None, exit_step: int | None = None,
    renoise: torch.Generator | None = None, progress: Progress | None = None,
) -> Iterator[Tensor]:
    """Yields the clean latents of each chunk as it is finished and written to `cache`.

    `chunks` may be made while the stream runs: a chunk's camera path is only asked for when it is due.
    `first_frame` belongs to the first chunk, and only where the stream starts at frame 0. `exit_step` and
    `renoise` are those of `denoise_chunk`.
    """
    for chunk in chunks:
        # Of the cache as it is now: blocks that compute again for the gradient must not find later chunks.
        clean = denoise_chunk(model, cache.detach(), chunk, sigmas, mask, exit_step=exit_step,
                              renoise=renoise, progress=progress,
                              first_frame=first_frame if cache.frame == 0 else None)
        write_chunk(model, cache, chunk.conditioning, clean, mask)
        yield clean


def denoise_chunk(
    model: Network, cache: ModelState, chunk: Chunk, sigmas: Tensor, mask: Mask, *,
    first_frame: Tensor | None = None, exit_step: int | None = None,
    renoise: torch.Generator | None = None, progress: Progress | None = None,
) -> Tensor:
    """Clean latents of the chunk that follows the cache, which is read and not written.

    Inference takes Euler steps to the end. Self-forcing training leaves at `exit_step` with the clean
    estimate, the only evaluation with a gradient, and draws fresh noise from `renoise` between steps.
    """
    _check_schedule(sigmas)
    last = len(sigmas) - 2 if exit_step is None else exit_step
    if not 0 <= last < len(sigmas) - 1:
        raise ValueError(f"exit_step: {exit_step}, expected 0 to {len(sigmas) - 2}, a step of the schedule")
    latents, levels = _place(chunk.noise, first_frame), _first_clean(chunk.noise, first_frame)
    for step in range(last + 1):
        sigma, target = levels * sigmas[step], levels * sigmas[step + 1]
        with torch.set_grad_enabled(torch.is_grad_enabled() and step == last):
            velocity = predict_velocity(model, latents, sigma, chunk.conditioning, mask, cache=cache)
        clean = clean_estimate(latents, velocity, sigma)
        if step == last:
            latents = clean
        elif renoise is None:
            latents = euler_step(latents, velocity, sigma, target)
        else:
            fresh = torch.randn(latents.shape, generator=renoise, device=renoise.device, dtype=latents.dtype)
            latents = interpolate(clean, fresh.to(latents.device), target)
        if progress is not None:
            progress(step + 1, last + 1)
    return latents


def write_chunk(
    model: Network, cache: ModelState, conditioning: Conditioning, clean: Tensor, mask: Mask,
) -> None:
    """Run a finished chunk once more, told as clean, and leave its trace in the cache."""
    level = torch.zeros(clean.shape[0], clean.shape[2], dtype=torch.float64)
    with torch.no_grad():
        predict_velocity(model, clean, level, conditioning, mask, cache=cache, write=True)


def guided_velocity(
    model: Network, latents: Tensor, sigma: Tensor, conditioning: Conditioning, guidance: Guidance | None,
    mask: Mask,
) -> Tensor:
    """As `predict_velocity`, guided where the levels ask for it."""
    velocity = predict_velocity(model, latents, sigma, conditioning, mask)
    if guidance is None or guidance.scale <= 1:
        return velocity
    lowest, highest = guidance.sigmas
    if not lowest <= float(sigma.max()) <= highest:
        return velocity
    other = replace(conditioning, caption=guidance.caption, caption_mask=guidance.caption_mask)
    away = predict_velocity(model, latents, sigma, other, mask)
    return away + guidance.scale * (velocity - away)


def predict_velocity(
    model: Network, latents: Tensor, sigma: Tensor, conditioning: Conditioning, mask: Mask,
    **streaming: object,
) -> Tensor:
    """Velocity of latents at levels `sigma` (B, T); `streaming`: a cache, and whether to `write` it."""
    told = conditioning
    return model(latents.to(told.caption.dtype), timesteps(sigma).to(latents.device), told.caption,
                 told.caption_mask, told.camera_conditions, told.plucker, mask=mask, **streaming).to(latents)


def _place(noise: Tensor, first_frame: Tensor | None) -> Tensor:
    """The noise, its first frame replaced by the one given."""
    if first_frame is None:
        return noise
    expected = (*noise.shape[:2], 1, *noise.shape[3:])
    if first_frame.shape != expected:
        raise ValueError(f"first_frame: shape {tuple(first_frame.shape)}, expected {expected} for noise "
                         f"{tuple(noise.shape)}")
    return torch.cat([first_frame.to(noise), noise[:, :, 1:]], 2)


def _first_clean(noise: Tensor, first_frame: Tensor | None) -> Tensor:
    """(B, T): what the level of the schedule is multiplied by in each frame, 0 in a frame that is given."""
    levels = torch.ones(noise.shape[0], noise.shape[2], dtype=torch.float64)
    if first_frame is not None:
        levels[:, 0] = 0
    return levels


def _check_schedule(sigmas: Tensor) -> None:
    if sigmas.ndim != 1 or len(sigmas) < 2 or bool((sigmas.diff() >= 0).any()) or sigmas[-1] != 0:
        raise ValueError(f"sigmas: {sigmas.tolist()}, expected levels that fall strictly and end at 0")
