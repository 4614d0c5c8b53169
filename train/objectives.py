"""What a stage asks of its networks: the interface of an objective, and flow matching (paper, section 3.4).

The trainer knows no stage: it shards, optimises and checkpoints the networks of an objective, gives it
batches and random numbers, and follows the losses it returns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from model.flow import Denoising, noise_index, pose_denoising, training_sigmas
from model.mask import Mask
from model.rollout import Network
from train.chunk_noise import MIXTURE, draw_chunk_indices, per_frame

if TYPE_CHECKING:
    from dataset.batch import Batch


@dataclass
class Member:
    """One network of an objective.

    module: as sharded; `module.blocks` are what is sharded and recomputed one by one. Called directly it
            knows whole clips and caches. Parameters that require a gradient are trained, in float32.
    call:   the same for whole clips, computed by all processes of the context-parallel group together. The
            trainer puts it here; until then, and for a group of one, it is `module`.
    lr:     learning rate; None takes that of the settings. Ignored where nothing is trained.
    keeps_frozen: checkpoints hold frozen parameters too; without it they are loaded from their source again
            when a run resumes, as is right for a large network of which little is trained.
    """

    module: nn.Module
    call: Network = field(default=None)  # type: ignore[assignment]
    lr: float | None = None
    keeps_frozen: bool = True

    def __post_init__(self) -> None:
        self.call = self.module if self.call is None else self.call  # type: ignore[redundant-expr]

    @property
    def trained(self) -> bool:
        return any(p.requires_grad for p in self.module.parameters())


Networks = Mapping[str, Member]
"""Networks of an objective by name. The one called "network" is exported."""


@dataclass(frozen=True)
class Draws:
    """Random numbers of one batch: functions of seed, step and place alone; a resumed run restores nothing.

    own:    another one for each clip group; the processes that share a clip have the same.
    shared: the same in all processes, for decisions all must take alike: which parameters get a gradient,
            how many times a network is called.
    """

    own: torch.Generator
    shared: torch.Generator


@dataclass(frozen=True)
class Losses:
    """total: what is differentiated, a mean over the batch.    parts: what is logged beside it.
    by_sigma: noise levels (n,) and mean squared errors (n,) of single frames, for the table by noise level.
    """

    total: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
    by_sigma: tuple[Tensor, Tensor] | None = None


class Objective(Protocol):
    """What is learnt. Several networks may learn in turns within a step."""

    def turns(self, step: int) -> Sequence[str]:
        """Names of the networks that are trained in this step, in order; each has its own loss and update."""

    def loss(self, networks: Networks, batch: Batch, draws: Draws, step: int, turn: str) -> Losses:
        """Loss of the network `turn`. The gradient of `total` reaches the parameters of that one alone."""


@dataclass
class FlowConfig:
    """Flow matching on clean latents."""

    shift: float = 9.95  # of noise levels towards noise
    first_frame: float = 0.9  # probability, per batch, that frame 0 is given clean and left out of the loss
    caption_dropout: float = 0.1  # probability, per clip, that the caption is replaced by the null caption
    camera: bool = True  # condition on the camera path; without it both camera paths are absent
    camera_dropout: float = 0.0  # probability, per batch, that the camera branches are skipped (the Plücker
    # maps stay)
    chunk: int | None = None  # latent frames of a chunk of the chunk-causal network; null: bidirectional
    chunk_mix: list[float] = field(default_factory=lambda: list(MIXTURE))  # shares of the patterns of
    # noise over chunks: equal; rising through a random chunk; rising to the last; that on a clean history

    def check(self) -> None:
        """Raises ValueError for values that make no sense."""
        for name in ("first_frame", "caption_dropout", "camera_dropout"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"flow.{name}={getattr(self, name)}, allowed 0 to 1")
        if self.shift <= 0:
            raise ValueError(f"flow.shift={self.shift}, allowed more than 0; 1 shifts nothing")
        if self.chunk is not None and self.chunk < 1:
            raise ValueError(f"flow.chunk={self.chunk}, allowed 1 or more, or null")
        if len(self.chunk_mix) != 4 or min(self.chunk_mix) < 0 or abs(sum(self.chunk_mix) - 1) > 1e-6:
            raise ValueError(f"flow.chunk_mix={self.chunk_mix}, allowed four shares that add up to 1")


class FlowMatching:
    """Predict ε - x₀ of x = (1 - σ) x₀ + σ ε; one noise level a clip, or one a chunk."""

    def __init__(self, config: FlowConfig) -> None:
        self.config = config

    def turns(self, step: int) -> Sequence[str]:
        return ("network",)

    def loss(self, networks: Networks, batch: Batch, draws: Draws, step: int, turn: str) -> Losses:
        network = networks["network"]
        clean = batch.latents
        assert clean is not None
        config = self.config
        mask = self.mask(clean.shape[2])
        index = draw_index(clean.shape[0], clean.shape[2], mask, config, draws.own).to(clean.device)
        noise = torch.randn(clean.shape, generator=draws.own).to(clean)
        given = happens(config.first_frame, draws.shared)
        drop_camera = happens(config.camera_dropout, draws.shared)
        posed = pose_denoising(clean, noise, index, given, batch.frame_valid, training_sigmas(config.shift))
        told = conditions(network.module, batch, config, draws.own)
        if drop_camera:
            told["camera_conditions"] = None
        predicted = network.call(posed.latents, posed.timesteps, mask=mask, **told)
        return frame_losses(predicted, posed)

    def mask(self, frames: int) -> Mask:
        """Who sees whom in a clip of `frames` latent frames."""
        if self.config.chunk is None:
            return Mask.bidirectional()
        return Mask.chunk_causal(frames, self.config.chunk)


def draw_index(batch: int, frames: int, mask: Mask, config: FlowConfig, own: torch.Generator) -> Tensor:
    """Noise indices, (B,) of clips or (B, T) of frames, equal within a chunk."""
    if config.chunk is None:
        return noise_index(torch.randn(batch, generator=own))
    base = noise_index(torch.randn(batch, generator=own))
    of_chunks = draw_chunk_indices(base, len(mask.chunk_starts), config.chunk_mix, own)
    return per_frame(of_chunks, mask, frames)


def conditions(module: nn.Module, batch: Batch, config: FlowConfig, own: torch.Generator) -> dict[str, Any]:
    """Keyword arguments of the network for a batch; captions of some clips are replaced by the null caption,
    their masks stay as they were."""
    states = batch.caption_states
    assert states is not None
    null: Any = module.y_embedder.y_embedding  # type: ignore[union-attr]
    dropped = torch.rand(len(states), generator=own) < config.caption_dropout
    states = torch.where(dropped.to(states.device)[:, None, None], null.to(states), states)
    # The network is not asked about clips without any frame, those that could not be read.
    valid = batch.frame_valid | ~batch.frame_valid.any(1, keepdim=True)
    return {
        "caption": states, "caption_mask": batch.caption_mask,
        "camera_conditions": batch.camera_conditions if config.camera else None,
        "plucker": batch.plucker if config.camera else None,
        "frame_valid": None if bool(valid.all()) else valid.to(states),
    }


def frame_losses(predicted: Tensor, posed: Denoising) -> Losses:
    """Mean over clips of the mean squared error over frames that count; clips without any are left out."""
    wanted = torch.promote_types(predicted.dtype, torch.float32)
    error = (predicted.to(wanted) - posed.target.to(wanted)).square().mean((1, 3, 4))  # (B, T)
    counts = posed.counts.to(error)
    of_clips = (error * counts).sum(1) / counts.sum(1).clamp(min=1)
    total = of_clips.sum() / counts.any(1).sum().clamp(min=1)
    seen = counts.bool()
    return Losses(total, by_sigma=(posed.sigma[seen].detach(), error[seen].detach()))


def happens(probability: float, draws: torch.Generator) -> bool:
    """One draw, taken at any probability, so that those after it do not depend on the settings."""
    return bool(torch.rand((), generator=draws) < probability)
