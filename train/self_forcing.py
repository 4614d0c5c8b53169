"""Self-forcing: a streaming generator of four steps learns on its own rollouts (arXiv 2506.08009), by
distribution matching (arXiv 2405.14867); numbers are those of the recipe published with SANA-WM.

Three networks. "network" makes clips chunk by chunk as it will when it streams. "teacher" sees whole clips,
is frozen, and says where real clips lie; "critic" sees whole clips and learns where the generator's lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from model.flow import (
    DISTILLATION_TIMESTEPS,
    LEVELS,
    Denoising,
    clean_estimate,
    interpolate,
    shift,
    timestep_sigmas,
    timesteps,
    velocity,
    velocity_loss,
)
from model.mask import Mask
from model.rollout import Conditioning, Guidance, cut_chunks, guided_velocity, predict_velocity, stream
from train.objectives import Draws, Losses, Member, Networks, frame_losses

if TYPE_CHECKING:
    from dataset.batch import Batch


@dataclass
class SelfForcingConfig:
    """Distillation of a streaming generator by the distributions of two networks that see whole clips."""

    teacher: str | None = None  # bidirectional checkpoint, the frozen teacher, where the critic starts too
    negative: str | None = None  # .npz with the states and mask of the caption to guide away from; null: the
    # empty caption of the latent set
    chunk: int = 3  # latent frames of a chunk
    window: int | None = None  # chunks of the past that softmax blocks see; null: all
    sink: bool = True  # the first chunk is always one of those
    timesteps: list[int] = field(default_factory=lambda: list(DISTILLATION_TIMESTEPS))  # of the generator,
    # 1000 first and 0 last
    generator_every: int = 5  # steps of the critic to one of the generator
    critic_lr: float = 2.0e-6  # learning rate of the critic
    guidance: float = 4.0  # of the teacher; 1 uses no negative caption
    score_shift: float = 10.0  # of the levels at which teacher and critic compare, towards noise
    score_timesteps: list[int] = field(default_factory=lambda: [20, 980])  # least and most of those levels

    def check(self) -> None:
        """Raises ValueError for values that make no sense."""
        if not self.teacher:
            raise ValueError("self_forcing.teacher is missing: the checkpoint of a bidirectional stage")
        for name in ("chunk", "generator_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"self_forcing.{name}={getattr(self, name)}, allowed 1 or more")
        if self.window is not None and self.window < 1 + self.sink:
            raise ValueError(f"self_forcing.window={self.window}, allowed {1 + self.sink} or more, or null")
        check_timesteps("self_forcing.timesteps", self.timesteps)
        ends = self.score_timesteps
        if len(ends) != 2 or not 0 < ends[0] < ends[1] <= LEVELS:
            raise ValueError(f"self_forcing.score_timesteps={ends}, allowed two numbers that "
                             f"rise within 1 to {LEVELS}")
        if self.score_shift <= 0 or self.critic_lr <= 0 or self.guidance < 1:
            raise ValueError(f"self_forcing: score_shift={self.score_shift}, critic_lr={self.critic_lr}, "
                             f"guidance={self.guidance}; allowed above 0, above 0, and 1 or more")


def check_timesteps(key: str, values: Sequence[int]) -> None:
    """Raises ValueError unless they fall from pure noise to clean."""
    falling = all(a > b for a, b in pairwise(values))
    if len(values) < 2 or values[0] != LEVELS or values[-1] != 0 or not falling:
        raise ValueError(f"{key}={list(values)}, allowed numbers that fall from {LEVELS} to 0")


class SelfForcing:
    """frames: latent frames of every clip; all processes make the same number of chunks.
    away: the caption to guide away from, states (L, Ct) and mask (L,).
    """

    def __init__(self, config: SelfForcingConfig, frames: int, away: tuple[Tensor, Tensor]) -> None:
        self.config, self.frames, self.away = config, frames, away

    def turns(self, step: int) -> Sequence[str]:
        due = step % self.config.generator_every == 0
        return ("network", "critic") if due else ("critic",)

    def loss(self, networks: Networks, batch: Batch, draws: Draws, step: int, turn: str) -> Losses:
        told, first = told_of(batch), given_frame(batch, self.frames)
        # One for all chunks and all processes, which so call their networks equally often.
        exit_step = int(torch.randint(len(self.config.timesteps) - 1, (), generator=draws.shared))
        with torch.set_grad_enabled(turn == "network"):
            clean = self.roll_out(networks["network"], told, first, exit_step, draws.own)
        posed = self.pose_scores(clean.detach(), counting(batch), draws.own)
        if turn == "critic":
            predicted = predict_velocity(networks["critic"].call, posed.latents, posed.sigma, told,
                                         Mask.bidirectional())
            return frame_losses(predicted, posed)
        real, fake = self.score(networks, posed, told)
        total, push = distribution_matching(clean, real, fake, posed.counts)
        return Losses(total.mean(), {"push": push.mean()})

    def roll_out(
        self, generator: Member, told: Conditioning, first_frame: Tensor, exit_step: int,
        draws: torch.Generator,
    ) -> Tensor:
        """A clip (B, C, T, H, W) made from noise as when streaming. Of the evaluations of a chunk the one at
        `exit_step` alone may have a gradient; the cache has none."""
        config = self.config
        size = (*first_frame.shape[:2], self.frames, *first_frame.shape[3:])
        noise = torch.randn(size, generator=draws).to(first_frame)
        bounds = [*Mask.chunk_causal(self.frames, config.chunk).chunk_starts, self.frames]
        cache = generator.module.new_cache(len(noise))                             # type: ignore[operator]
        return torch.cat([*stream(
            generator.module, cache, cut_chunks(noise, told, bounds), timestep_sigmas(config.timesteps),
            Mask(window=config.window, sink=config.sink), first_frame=first_frame, exit_step=exit_step,
            renoise=draws)], 2)

    def pose_scores(self, clean: Tensor, counts: Tensor, draws: torch.Generator) -> Denoising:
        """Clips noised, each at its own level, for teacher and critic; frame 0 stays and is told clean."""
        later = torch.arange(clean.shape[2], device=clean.device) > 0
        sigma = draw_score_sigmas(len(clean), self.config, draws).to(clean.device)[:, None] * later
        noise = torch.randn(clean.shape, generator=draws).to(clean)
        return Denoising(interpolate(clean, noise, sigma), sigma, timesteps(sigma).floor(),
                         velocity(clean, noise), counts)

    @torch.no_grad()
    def score(self, networks: Networks, posed: Denoising, told: Conditioning) -> tuple[Tensor, Tensor]:
        """Where teacher (guided) and critic expect the clean clips behind noised ones."""
        states, mask = (x.to(told.caption.device).expand(len(told.caption), *x.shape) for x in self.away)
        guidance = Guidance(states.to(told.caption.dtype), mask, self.config.guidance)
        whole = Mask.bidirectional()
        real = guided_velocity(networks["teacher"].call, posed.latents, posed.sigma, told, guidance, whole)
        fake = predict_velocity(networks["critic"].call, posed.latents, posed.sigma, told, whole)
        return (clean_estimate(posed.latents, real, posed.sigma),
                clean_estimate(posed.latents, fake, posed.sigma))


def draw_score_sigmas(count: int, config: SelfForcingConfig, draws: torch.Generator) -> Tensor:
    """Levels (count,), float64: uniform over the whole timesteps, shifted, kept within the least and most."""
    uniform = torch.randint(LEVELS, (count,), generator=draws).double() / LEVELS
    low, high = config.score_timesteps
    return shift(uniform, config.score_shift).clamp(low / LEVELS, high / LEVELS)


def distribution_matching(
    clean: Tensor, real: Tensor, fake: Tensor, counts: Tensor,
) -> tuple[Tensor, Tensor]:
    """Loss (B,) whose gradient with respect to `clean` is g / (number of values that count), and mean |g|.

        g = (fake - real) / mean |clean - real|        loss = 1/2 mean (clean - stopgrad(clean - g))²

    clean, real, fake (B, C, T, H, W)    counts (B, T): frames of the mean in the loss
    """
    with torch.no_grad():
        apart = (clean - real).abs().mean((1, 2, 3, 4), keepdim=True)
        push = (fake - real) / apart
        target = clean - push
    return 0.5 * velocity_loss(clean, target, counts), push.abs().mean((1, 2, 3, 4))


def told_of(batch: Batch) -> Conditioning:
    """What networks are told of a batch. Raises ValueError for padded clips: streams have no padding."""
    whole = batch.frame_valid.all(1) | ~batch.frame_valid.any(1)         # all of it, or nothing could be read
    if not bool(whole.all()):
        short = [clip for clip, good in zip(batch.clip_ids, whole.tolist()) if not good]
        raise ValueError(f"clips {', '.join(short[:3])}: shorter than the batch and padded, expected whole "
                         "clips: distillation rolls them out chunk by chunk; cut clips to one length")
    assert batch.caption_states is not None
    return Conditioning(batch.caption_states, batch.caption_mask, batch.camera_conditions, batch.plucker)


def given_frame(batch: Batch, frames: int) -> Tensor:
    """The first frame (B, C, 1, H, W) of clips, which must have `frames` latent frames."""
    assert batch.latents is not None
    if batch.latents.shape[2] != frames:
        raise ValueError(f"clips {', '.join(batch.clip_ids[:3])}: {batch.latents.shape[2]} latent frames, "
                         f"expected {frames} as data.frames says")
    return batch.latents[:, :, :1]


def counting(batch: Batch) -> Tensor:
    """(B, T) float32: the frames of a distillation loss, all but the given first one and clips not read."""
    counts = batch.frame_valid.float()
    counts[:, 0] = 0
    return counts
