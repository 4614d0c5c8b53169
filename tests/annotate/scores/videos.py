"""Clips held in memory."""

from fractions import Fraction

import numpy as np

from annotate.frames import ArrayFrames
from annotate.stage import Clip
from dataset.clip import ClipRecord, Kind


class Video(ArrayFrames):
    """Frames with a rate."""

    fps = Fraction(16)


def clip(frames: np.ndarray) -> Clip:
    return Clip(ClipRecord("c", "v", Kind.CLIP), {}, Video(frames))


def noise(count: int, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (count, *size, 3), dtype=np.uint8)
