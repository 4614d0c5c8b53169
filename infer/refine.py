"""The second stage beside the first: latents are refined block by block while later ones are still made, or
all at once when the clip is finished.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor

from infer.noise import Use, frame_noise
from infer.offload import Placement
from model.refiner import Refiner, RefinerConfig
from model.refiner_text import RefinerText


class RefineMode(Enum):
    """What a refined frame sees, and when it is refined."""

    blocks = "blocks"
    whole = "whole"
    diffusers = "diffusers"


@dataclass
class RefineConfig:
    """How the second stage works."""

    mode: RefineMode = RefineMode.blocks  # blocks, refined as they come, see the sink and the last frames;
    # whole: frames of the finished clip see each other; diffusers: its own refiner, on the finished clip
    block: int = 3  # latent frames of a block
    window: int = 11  # latent frames a block sees besides itself, the sink among them

    def check(self) -> None:
        """Raises ValueError for values that make no sense."""
        if self.block < 1:
            raise ValueError(f"refine.block={self.block}, allowed 1 or more")
        if self.window < 2:
            raise ValueError(f"refine.window={self.window}, allowed 2 or more: the sink and one frame")

    def refiner_config(self) -> RefinerConfig:
        whole = self.mode is RefineMode.whole
        return RefinerConfig(block_frames=None if whole else self.block, window_frames=self.window)


@dataclass
class RefinerStage:
    """The refiner, the encoder of its prompts, and what a frame sees."""

    refiner: Refiner
    text: RefinerText
    mode: RefineMode = RefineMode.blocks

    def read(self, prompt: str, placement: Placement) -> tuple[Tensor, Tensor]:
        """States and mask of a prompt."""
        with placement.working(self.text):
            return self.text.encode([prompt])


def refined(
    refiner: Refiner, latents: Iterator[Tensor], frames: int, states: Tensor, mask: Tensor, seed: int,
    mode: RefineMode = RefineMode.blocks,
) -> Iterator[Tensor]:
    """Latents (1, C, t, H, W), `frames` in all, refined: the sink first, as it was, then blocks as soon as
    their frames are there. states (1, L, C), mask (1, L): of the prompt.

    A latent frame's noise depends on the seed and its number alone, save in diffusers' refiner, which draws
    its own.
    """
    if mode is RefineMode.diffusers:
        yield _as_diffusers(refiner, torch.cat(list(latents), 2), states, mask, seed)
        return
    config, state, done = refiner.config, None, 0
    waiting: Tensor | None = None
    for chunk in latents:
        waiting = chunk if waiting is None else torch.cat([waiting, chunk], 2)
        if state is None and waiting.shape[2] >= config.sink_frames:
            done = config.sink_frames
            sink, waiting = waiting[:, :, :done], waiting[:, :, done:]
            state = refiner.start(sink, states, mask)
            yield sink
        while state is not None and (count := _next_block(config, waiting.shape[2], frames - done)):
            block, waiting = waiting[:, :, :count], waiting[:, :, count:]
            shape = (block.shape[1], block.shape[3], block.shape[4])
            noise = frame_noise(seed, range(done, done + count), shape, Use.REFINER)
            yield refiner.refine_block(state, block, last=done + count == frames, noise=noise)
            done += count


def _next_block(config: RefinerConfig, waiting: int, missing: int) -> int:
    """Frames of the next block, 0 while they are not there."""
    count = min(config.block_frames or missing, missing)
    return count if waiting >= count else 0


def _as_diffusers(refiner: Refiner, latents: Tensor, states: Tensor, mask: Tensor, seed: int) -> Tensor:
    """A finished clip through diffusers' SanaWMLTX2Refiner, from the prompt's states on."""
    from diffusers import FlowMatchEulerDiscreteScheduler, SanaWMLTX2Refiner

    network, config = refiner.network, refiner.config

    class FromStates(SanaWMLTX2Refiner):
        """Its text encoder is not loaded: the states are there."""

        def _encode_prompt(self, *_: object, **__: object) -> tuple[Tensor, Tensor]:
            return states.to(network.device, network.dtype), mask.to(network.device)

    scheduler = FlowMatchEulerDiscreteScheduler(shift=1.0)
    pipeline: Any = FromStates(network.transformer, None, None, None, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    found = pipeline(
        latents.to(network.device, network.dtype), "", fps=config.fps, sink_size=config.sink_frames,
        generator=torch.Generator().manual_seed(seed), block_size=config.block_frames or latents.shape[2],
        kv_max_frames=config.window_frames, sigmas=config.sigmas, output_type="latent")
    return found.to(latents)
