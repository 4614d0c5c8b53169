"""The perceptual hash of a clip: for a frame every so often, 64 signs of its coarsest frequencies."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from annotate.frames import shrink

BITS = 64
_SIDE = 32  # pixels a side of what a frame is shrunk to
_LOW = 9  # frequencies a side, the constant one of either direction apart
_LEAST_OVERLAP = 0.5  # of the shorter clip, that two clips have in common at least
_FLAT = 1.0  # grey levels that the coarse picture varies: less has no hash to speak of


def hash_frames(frames: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """(n,) uint64 of grey frames (h, w) uint8; 0 for a frame that shows nothing.

    A bit says whether a coefficient of the discrete cosine transform lies above their median, so that
    brightness and contrast drop out. Size, aspect and compression hardly change coarse frequencies.
    """
    signs = np.zeros((len(frames), BITS), bool)
    for row, frame in zip(signs, frames):
        small = shrink(frame, (_SIDE, _SIDE)).astype(np.float32)
        if small.std() < _FLAT:
            continue
        low = cv2.dct(small)[1:_LOW, 1:_LOW].ravel()
        row[:] = low > np.median(low)
    return np.packbits(signs, axis=1).view(">u8").astype(np.uint64).ravel()


def to_text(hashes: np.ndarray) -> str:
    """16 hex digits a frame."""
    return "".join(f"{value:016x}" for value in hashes.tolist())


def from_text(text: str) -> np.ndarray:
    """Inverse of `to_text`: (n,) uint64."""
    return np.array([int(text[k:k + 16], 16) for k in range(0, len(text), 16)], np.uint64)


def similarity(one: np.ndarray, other: np.ndarray) -> float:
    """Share of equal bits of two clips' hashes (n,) and (m,) uint64, at the shift in time that fits best.

    At least half of the shorter clip must overlap the other one; frames that show nothing do not count.
    Symmetric. 0.5 is chance, 1 is equal.
    """
    if len(one) > len(other):
        one, other = other, one
    if not len(one):
        return 0.0
    equal = 1 - np.bitwise_count(one[:, None] ^ other[None, :]).astype(np.float64) / BITS
    counts = (one[:, None] != 0) & (other[None, :] != 0)
    least = max(1, int(np.ceil(_LEAST_OVERLAP * len(one))))
    best = 0.0
    for shift in range(least - len(one), len(other) - least + 1):
        told = np.diagonal(counts, shift)
        if told.sum() >= least:
            best = max(best, float(np.diagonal(equal, shift)[told].mean()))
    return best
