"""Noise of a video, drawn latent frame by latent frame from a counter: a frame's noise depends on the seed,
the frame's number and its shape, and on nothing else. So a longer video begins like the shorter one, whatever
the chunks, the device or the number of processes.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

MOST = 2**63
"""Seeds lie below."""


class Use(IntEnum):
    """What noise is for; each use has numbers of its own."""

    LATENTS = 0
    REFINER = 1


def frame_noise(seed: int, frames: range, shape: tuple[int, int, int], use: Use = Use.LATENTS) -> Tensor:
    """Normal noise (1, C, T, H, W) in float32 of latent frames `frames`; shape (C, H, W)."""
    drawn = [_generator(seed, frame, use).standard_normal(shape, np.float32) for frame in frames]
    return torch.from_numpy(np.stack(drawn, 1)[None])


def check_seed(seed: int) -> None:
    """Raises ValueError for a seed that no generator takes."""
    if not 0 <= seed < MOST:
        raise ValueError(f"seed={seed}, allowed 0 to {MOST - 1}")


def _generator(seed: int, frame: int, use: Use) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, frame, int(use)]))
