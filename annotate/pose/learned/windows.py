"""Long videos in overlapping windows, each joined to the one before by a Sim(3) of what both see."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from annotate.scale.fusion import frame_scale
from dataset.camera import interpolate, rotation_angle_deg
from dataset.trajectory import PathShape, Sim3, apply_sim3, nearest_rotation

MAX_SCALE_SPREAD = 0.3
"""Range of log scale over the common frames beyond which two windows do not show the same scene."""


@dataclass
class Window:
    """What an engine says of some consecutive frames, in a world and unit of its own.

    c2w (n, 4, 4); intrinsics (n, 4), pixels of the depth maps; depth (n, h, w) z in the unit of c2w, NaN
    where unknown; confidence (n, h, w) logits. `first` is the number of its first frame.
    """

    first: int
    c2w: np.ndarray
    intrinsics: np.ndarray
    depth: np.ndarray
    confidence: np.ndarray

    @property
    def end(self) -> int:
        return self.first + len(self.c2w)


@dataclass
class Joined:
    """All windows in the world and unit of the first: cameras (F, ...), and maps of the frames (K,) wanted.

    seam_share: largest rms distance of the centres that two windows give to the same frames, as a share of
    the path; seam_rotation_deg: largest rms angle; scale_step: largest |log| of a window's scale against the
    first. `failure` says which windows could not be joined.
    """

    c2w: np.ndarray
    intrinsics: np.ndarray
    frames: np.ndarray
    depth: np.ndarray
    confidence: np.ndarray
    seam_share: float = 0.0
    seam_rotation_deg: float = 0.0
    scale_step: float = 0.0
    failure: str | None = None


def window_ranges(count: int, size: int, overlap: int) -> list[range]:
    """Windows of at most `size` frames over `count` frames, neighbours sharing `overlap` or more.

    The last one is moved back rather than cut short. Raises ValueError unless 0 < overlap < size.
    """
    if not 0 < overlap < size:
        raise ValueError(f"windows of {size} frames that share {overlap}: allowed are 1 to {size - 1}")
    starts = list(range(0, max(count - overlap, 1), size - overlap))
    starts = [min(start, max(count - size, 0)) for start in starts]
    return [range(start, min(start + size, count)) for start in dict.fromkeys(starts)]


def join(windows: Iterable[Window], every: int) -> Joined:
    """One track, and the depth of every `every`-th frame, from windows in order, each overlapping the last.

    Where two overlap, cameras pass from one to the other and depth changes over in the middle.
    """
    before: Window | None = None
    c2w, intrinsics = np.empty((0, 4, 4)), np.empty((0, 4))
    kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    seams, steps = [(0.0, 0.0)], [0.0]
    failure = None
    for window in windows:
        start = window.first
        if before is not None:
            sim3 = similarity(before, window)
            if sim3.refusal is not None:
                failure = f"frames {window.first} to {before.end - 1} do not join two windows: {sim3.refusal}"
                break
            steps.append(abs(float(np.log(sim3.scale))))
            window = Window(window.first, apply_sim3(sim3, window.c2w), window.intrinsics,
                            window.depth * sim3.scale, window.confidence)
            seams.append(_seam(before, window))
            c2w, intrinsics = _passing_over(c2w, intrinsics, window)
            start += (before.end - window.first) // 2
        else:
            c2w, intrinsics = window.c2w.copy(), window.intrinsics.copy()
        for frame in range(start, window.end):
            if frame % every == 0:
                there = frame - window.first
                kept[frame] = window.depth[there], window.confidence[there]
        before = window
    path = float(np.linalg.norm(np.diff(c2w[:, :3, 3], axis=0), axis=1).sum())
    frames = np.array(sorted(kept), np.int64)
    return Joined(
        c2w, intrinsics, frames, np.stack([kept[frame][0] for frame in frames]),
        np.stack([kept[frame][1] for frame in frames]),
        seam_share=max(apart for apart, _ in seams) / path if path > 0 else 0.0,
        seam_rotation_deg=max(turn for _, turn in seams), scale_step=max(steps), failure=failure)


def similarity(before: Window, window: Window) -> Sim3:
    """Takes the world of `window` to that of `before`, from the frames both see.

    Scale from the depth both give to the same pixels: of each frame the trimmed ratio of sums over the more
    confident half, of the frames the median. Rotation: chordal mean of the cameras' turns. Translation: mean
    of the centres' shifts. Depth errs along the rays, by far more than orientations do: a similarity of the
    points would turn with it, and one of the centres needs a camera that moves within the overlap.
    """
    common = range(window.first, before.end)
    ours, theirs = (w.c2w[common.start - w.first:common.stop - w.first] for w in (before, window))
    rotation = nearest_rotation((ours[:, :3, :3] @ theirs[:, :3, :3].swapaxes(1, 2)).mean(0))
    raw = np.array([_depth_ratio(before, window, frame) for frame in common])
    known = np.isfinite(raw)
    scale = float(np.median(raw[known])) if known.any() else np.nan
    refusal = None
    if not known.any():
        refusal = f"their depth agrees in none of {len(common)} frames"
    elif np.ptp(np.log(raw[known])) > MAX_SCALE_SPREAD:
        refusal = f"their depth says scales from {raw[known].min():.3g} to {raw[known].max():.3g}"
    moved = scale * theirs[:, :3, 3] @ rotation.T
    translation = (ours[:, :3, 3] - moved).mean(0)
    apart = ours[:, :3, 3] - moved - translation
    spread = ours[:, :3, 3] - ours[:, :3, 3].mean(0)
    residual, size = (float(np.sqrt((each**2).sum(1).mean())) for each in (apart, spread))
    return Sim3(scale, rotation, translation, known, PathShape.GENERAL, residual, size, refusal)


def _depth_ratio(before: Window, window: Window, frame: int) -> float:
    here, there = frame - before.first, frame - window.first
    ours, theirs = before.depth[here], window.depth[there]
    good = np.isfinite(ours) & np.isfinite(theirs)
    if good.any():
        weight = np.minimum(before.confidence[here], window.confidence[there])
        good &= weight >= np.median(weight[good])
    return frame_scale(theirs, ours, good).scale


def _seam(before: Window, window: Window) -> tuple[float, float]:
    """Rms distance and angle between the two cameras of each common frame."""
    ours, theirs = before.c2w[window.first - before.first:], window.c2w[:before.end - window.first]
    apart = np.linalg.norm(ours[:, :3, 3] - theirs[:, :3, 3], axis=1)
    turn = rotation_angle_deg(ours[:, :3, :3].swapaxes(1, 2) @ theirs[:, :3, :3])
    return float(np.sqrt(np.mean(apart**2))), float(np.sqrt(np.mean(turn**2)))


def _passing_over(c2w: np.ndarray, intrinsics: np.ndarray, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Cameras so far, which begin with frame 0, and a window's: blended where both have a frame."""
    common = len(c2w) - window.first
    longer = np.concatenate([c2w, window.c2w[common:]])
    columns = np.concatenate([intrinsics, window.intrinsics[common:]])
    for k in range(common):
        weight = (k + 1) / (common + 1)
        frame = window.first + k
        pair = np.stack([c2w[frame], window.c2w[k]])
        longer[frame] = interpolate(np.array([0.0, 1.0]), pair, np.array([weight]))[0]
        columns[frame] = (1 - weight) * intrinsics[frame] + weight * window.intrinsics[k]
    return longer, columns
