"""The second stage beside the first: latents are refined block by block while later ones are still made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from infer.noise import block_generator
from model.refiner import RELEASED, RELEASED_STREAMING, Refiner, RefinerConfig
from model.refiner_text import RefinerText


@dataclass
class RefinerStage:
    """The refiner, and the encoder of its prompts."""

    refiner: Refiner
    text: RefinerText

    @classmethod
    def from_pretrained(
        cls, name: str, streaming: bool, device: torch.device, dtype: torch.dtype,
        text_device: torch.device | str,
    ) -> RefinerStage | None:
        """`name` is "none", "ltx2" for the released weights, or a folder that holds such."""
        if name == "none":
            return None
        released = RELEASED_STREAMING if streaming else RELEASED
        source = released if name == "ltx2" else name
        text = RefinerText.from_pretrained(source, RELEASED + "/text_encoder" if source == RELEASED_STREAMING
                                           else None, text_device, dtype)
        return cls(Refiner.from_pretrained(source, device=device, dtype=dtype), text)

    def read(self, prompt: str, offload: bool) -> tuple[Tensor, Tensor]:
        """States and mask of a prompt; with `offload` the encoder is on the device only for this."""
        if offload:
            self.text.to(self.refiner.network.device)
        found = self.text.encode([prompt])
        if offload:
            self.text.to("cpu")
        return found


def refined(
    refiner: Refiner, latents: Iterator[Tensor], frames: int, states: Tensor, mask: Tensor, seed: int,
) -> Iterator[Tensor]:
    """Latents (1, C, t, H, W), `frames` in all, refined: the sink first, as it was, then blocks as soon as
    their frames are there. states (1, L, C), mask (1, L): of the prompt."""
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
            yield refiner.refine_block(state, block, block_generator(seed, done),
                                       last=done + count == frames)
            done += count


def _next_block(config: RefinerConfig, waiting: int, missing: int) -> int:
    """Frames of the next block, 0 while they are not there."""
    count = min(config.block_frames or missing, missing)
    return count if waiting >= count else 0
