"""Joins real shots by transitions whose place is known: cuts, dissolves, fades, flashes and fast pans."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

SIZE = (90, 160)


@dataclass(frozen=True)
class Joined:
    """Frames (F, h, w, 3) uint8 BGR; the first frames of new shots; frames [start, end) of transitions."""

    frames: np.ndarray
    cuts: list[int]
    gradual: list[tuple[int, int]]


def fit(frames: np.ndarray) -> np.ndarray:
    """Frames (F, h, w, 3) resized to `SIZE`."""
    return np.stack([cv2.resize(frame, SIZE[::-1], interpolation=cv2.INTER_AREA) for frame in frames])


def cut(shots: list[np.ndarray]) -> Joined:
    """Shots put one behind the other."""
    return Joined(np.concatenate(shots), np.cumsum([len(shot) for shot in shots])[:-1].tolist(), [])


def dissolve(before: np.ndarray, after: np.ndarray, length: int, around: int = 40) -> Joined:
    """`length` mixed frames, both shots moving on underneath; up to `around` pure frames on either side."""
    lead, tail = min(around, len(before) - length), min(around, len(after) - length)
    if min(lead, tail) < 8:
        raise ValueError(f"shots of {len(before)} and {len(after)} frames are too short to mix {length}")
    mixed = _mix(before[lead:lead + length], after[:length], _ramp(length))
    frames = np.concatenate([before[:lead], mixed, after[length:length + tail]])
    return Joined(frames, [], [(lead, lead + length)])


def fade(
    before: np.ndarray, after: np.ndarray, length: int, hold: int, colour: int, around: int = 40,
) -> Joined:
    """Out to a flat colour in `length` frames, `hold` frames of it, and in again."""
    lead, tail = min(around, len(before) - length), min(around, len(after) - length)
    if min(lead, tail) < 8:
        raise ValueError(f"shots of {len(before)} and {len(after)} frames are too short to fade in {length}")
    flat = np.full((length, *before.shape[1:]), colour, np.uint8)
    frames = np.concatenate([
        before[:lead], _mix(before[lead:lead + length], flat, _ramp(length)),
        np.full((hold, *before.shape[1:]), colour, np.uint8),
        _mix(flat, after[:length], _ramp(length)), after[length:length + tail]])
    return Joined(frames, [], [(lead, lead + 2 * length + hold)])


def flash(shot: np.ndarray, length: int) -> Joined:
    """A camera flash in the middle of a shot, dying away over `length` frames."""
    frames, middle = shot.copy(), len(shot) // 2
    for k in range(length):
        lit = frames[middle + k].astype(np.float32) * 1.3 + 40 + 120 * (1 - k / length)
        frames[middle + k] = np.clip(lit, 0, 255).astype(np.uint8)
    return Joined(frames, [], [])


def pan(picture: np.ndarray, speed: float, ramp: int) -> Joined:
    """Rest, a pan at `speed` frame widths a frame with motion blur, and rest; `ramp` frames to speed up."""
    picture = cv2.resize(picture, (6 * SIZE[1], 6 * SIZE[0]))
    wide = np.concatenate([picture, picture[:, ::-1], picture, picture[:, ::-1]], axis=1)
    width, height = 3 * SIZE[1], 3 * SIZE[0]
    moving = max(1, int(min(wide.shape[1] - width - 4, 40 * speed * width) / (speed * width)))
    speeds = np.array([0.0] * 20 + [0.98 * speed * width] * moving + [0.0] * 20)
    speeds = np.convolve(speeds, np.ones(ramp) / ramp, "same")
    frames, x = [], 0.0
    for step in speeds:
        blurred = np.zeros((height, width, 3), np.float32)
        for shutter in range(8):  # half a frame of exposure
            shift = np.array([[1, 0, -(x + step * shutter / 16)], [0, 1, -(wide.shape[0] - height) / 2]])
            blurred += cv2.warpAffine(wide, shift, (width, height)).astype(np.float32)
        frames.append((blurred / 8).astype(np.uint8))
        x += step
    return Joined(fit(np.stack(frames)), [], [])


def _ramp(length: int) -> np.ndarray:
    return (np.arange(1, length + 1) / (length + 1)).reshape(-1, 1, 1, 1)


def _mix(before: np.ndarray, after: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return np.rint(before * (1 - weight) + after * weight).astype(np.uint8)
