"""ODE warm-up of distillation: the student learns to jump to the end of its teacher's paths.

The teacher, chunk-causal and guided, is run from noise to clean without randomness; of its path are kept the
states at the student's few levels. A path is made when a clip is first met and stored beside the run, so that
an interrupted run goes on with those it has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from dataset.store import Store
from model.flow import (
    DISTILLATION_TIMESTEPS,
    INFERENCE_SHIFT,
    Denoising,
    clean_estimate,
    inference_sigmas,
    timestep_sigmas,
    timesteps,
)
from model.mask import Mask
from model.rollout import Conditioning, Guidance, Network, denoise_chunks, predict_velocity
from train.chunk_noise import per_frame
from train.objectives import Draws, Losses, Networks, frame_losses
from train.self_forcing import check_timesteps, counting, given_frame, told_of

if TYPE_CHECKING:
    from dataset.batch import Batch


@dataclass
class OdeConfig:
    """The teacher's paths, and what the student is asked about them."""

    teacher: str | None = None  # chunk-causal checkpoint; null: the one the student starts from
    paths: str | None = None  # folder or URL of stored paths; null: paths/ in the run folder
    chunk: int = 3  # latent frames of a chunk
    timesteps: list[int] = field(default_factory=lambda: list(DISTILLATION_TIMESTEPS))  # levels at which the
    # path is kept, those of the student: 1000 first and 0 last
    steps: int = 60  # of the teacher's sampler, besides those at the levels kept
    shift: float = INFERENCE_SHIFT  # of the sampler's levels towards noise
    guidance: float = 5.0  # of the teacher away from the empty caption; 1: none
    interval: float | None = None  # of a schedule between the beginnings of neighbouring chunks; 1: one after
    # another; null: 1 / number of chunks, as released

    def check(self) -> None:
        """Raises ValueError for values that make no sense."""
        check_timesteps("ode.timesteps", self.timesteps)
        for name in ("chunk", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"ode.{name}={getattr(self, name)}, allowed 1 or more")
        if self.shift <= 0 or self.guidance < 1:
            raise ValueError(f"ode: shift={self.shift}, guidance={self.guidance}; allowed above 0, 1 or more")
        if self.interval is not None and not 0 < self.interval <= 1:
            raise ValueError(f"ode.interval={self.interval}, allowed above 0 to 1, or null")


class OdeInit:
    """Predict the clean end of the teacher's path from a state on it, each chunk at its own level."""

    def __init__(self, config: OdeConfig, frames: int, away: tuple[Tensor, Tensor], store: Store) -> None:
        """frames: latent frames of every clip.    away: as of `SelfForcing`.    store: of paths."""
        self.config, self.frames, self.away, self.store = config, frames, away, store

    def turns(self, step: int) -> Sequence[str]:
        return ("network",)

    def loss(self, networks: Networks, batch: Batch, draws: Draws, step: int, turn: str) -> Losses:
        told, first = told_of(batch), given_frame(batch, self.frames)
        paths = self.paths(networks, batch, told, first).to(first)
        posed = self.pose(paths, counting(batch), draws.own)
        mask = Mask.chunk_causal(self.frames, self.config.chunk)
        predicted = predict_velocity(networks["network"].call, posed.latents, posed.sigma, told, mask)
        return frame_losses(clean_estimate(posed.latents, predicted, posed.sigma), posed)

    def pose(self, paths: Tensor, counts: Tensor, draws: torch.Generator) -> Denoising:
        """States on the paths (levels, B, C, T, H, W), each chunk at a level of its own; the target is their
        end. Frame 0 is clean; frames told clean do not count."""
        mask = Mask.chunk_causal(self.frames, self.config.chunk)
        place = torch.randint(len(paths), (paths.shape[1], len(mask.chunk_starts)), generator=draws)
        place = per_frame(place, mask, self.frames)
        place[:, 0] = len(paths) - 1
        sigma = timestep_sigmas(self.config.timesteps)[place].to(counts.device)
        chosen = place.to(paths.device)[None, :, None, :, None, None].expand(1, *paths.shape[1:])
        return Denoising(paths.gather(0, chosen)[0], sigma, timesteps(sigma), paths[-1],
                         counts * (sigma > 0))

    def paths(self, networks: Networks, batch: Batch, told: Conditioning, first_frame: Tensor) -> Tensor:
        """The teacher's paths (levels, B, C, T, H, W) in float16, as stored; those missing are made first."""
        names = [f"{clip}-{self._digest(told, first_frame, i)}" for i, clip in enumerate(batch.clip_ids)]
        paths = [self._read(name) for name in names]
        if _anywhere(any(path is None for path in paths), first_frame.device):
            noise = torch.stack([self._noise(name, first_frame[0]) for name in names]).to(first_frame)
            made = self.follow(networks["teacher"].call, noise, told, first_frame).half().cpu()
            for i, name in enumerate(names):
                if paths[i] is None:
                    paths[i] = self._keep(name, made[:, i])
        return torch.stack([path for path in paths if path is not None], 1)

    @torch.no_grad()
    def follow(self, teacher: Network, noise: Tensor, told: Conditioning, first_frame: Tensor) -> Tensor:
        """The teacher's path from `noise` (B, C, T, H, W), at the levels that are kept: those, and before."""
        config = self.config
        kept = timestep_sigmas(config.timesteps)
        sigmas = torch.cat([inference_sigmas(config.steps, config.shift), kept]).unique().flip(0)
        states, mask = (x.to(noise.device).expand(len(noise), *x.shape) for x in self.away)
        seen = _Watched(teacher, timesteps(kept[:-1]), noise)
        clean = torch.cat([*denoise_chunks(
            seen, noise, told, sigmas, Mask.chunk_causal(self.frames, config.chunk).chunk_starts,
            interval=config.interval, first_frame=first_frame,
            guidance=Guidance(states.to(told.caption.dtype), mask, config.guidance))], 2)
        paths = torch.stack([*seen.states, clean])
        paths[:, :, :, :1] = first_frame
        return paths

    def _digest(self, told: Conditioning, first_frame: Tensor, sample: int) -> str:
        """Of everything that decides the path of a clip, so that no path is taken for another's."""
        config = self.config
        about = [config.teacher, config.chunk, config.timesteps, config.steps, config.shift, config.guidance,
                 config.interval, self.frames]
        digest = hashlib.sha256(repr(about).encode())
        for tensor in (first_frame, told.caption, told.caption_mask, told.camera_conditions, told.plucker):
            if tensor is not None:
                digest.update(tensor[sample].detach().float().cpu().numpy().tobytes())
        for tensor in self.away:
            digest.update(tensor.float().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]

    def _noise(self, name: str, first_frame: Tensor) -> Tensor:
        """(C, T, H, W), by the name of the path, so that a path made twice is the same."""
        draws = torch.Generator().manual_seed(int(name.rsplit("-", 1)[1], 16) >> 1)
        return torch.randn(first_frame.shape[0], self.frames, *first_frame.shape[2:], generator=draws)

    def _read(self, name: str) -> Tensor | None:
        try:
            return from_bytes(self.store.read(f"{name}.safetensors"))["path"]
        except FileNotFoundError:
            return None

    def _keep(self, name: str, path: Tensor) -> Tensor:
        """Store a path; one of a broken teacher is refused."""
        if not bool(path.isfinite().all()):
            raise RuntimeError(f"ode: the path of clip {name.rsplit('-', 1)[0]} by the teacher "
                               f"{self.config.teacher} is not finite, expected numbers; is it a chunk-causal "
                               "checkpoint of these latents?")
        self.store.write_new(f"{name}.safetensors", to_bytes({"path": path.contiguous()}))
        return path


class _Watched:
    """A network, and the latents it was given at each of some levels."""

    def __init__(self, network: Network, levels: Tensor, like: Tensor) -> None:
        self.network, self.levels = network, levels
        self.states = [torch.full_like(like, torch.nan) for _ in levels]

    def __call__(self, latents: Tensor, told: Tensor, *others: Any, **named: Any) -> Tensor:
        for level, state in zip(self.levels.tolist(), self.states):
            here = (told == level)[:, None, :, None, None]
            frames = slice(latents.shape[2])
            state[:, :, frames] = torch.where(here, latents.to(state), state[:, :, frames])
        return self.network(latents, told, *others, **named)


def _anywhere(here: bool, device: torch.device) -> bool:
    """Whether it is so in any process: all of them call a network that is shared out, or none does."""
    if not dist.is_initialized():
        return here
    found = torch.tensor(float(here), device=device)
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return bool(found)
