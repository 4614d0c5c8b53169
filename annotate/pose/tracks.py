"""Point tracks through a clip: corners on a grid, Lucas-Kanade checked forward and backward.

Dense flow at half size (Kroeger et al. 2016) says where to look. Frames in between are tracked from frame
to frame; at keyframes every patch is aligned with its first view (`annotate.pose.patches`), so that errors
do not add up along a track.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from annotate.pose.config import TrackConfig
from annotate.pose.patches import Patches


@dataclass
class Tracks:
    """Observations sorted by frame: frame (O,), track (O,), pixel (O, 2) with centres at +0.5.

    keyframes (K,) are frame indices, the first and the last frame among them. survival (F,) is the share of
    the points of the previous frame that were found again.
    """

    frame: np.ndarray
    track: np.ndarray
    pixel: np.ndarray
    keyframes: np.ndarray
    survival: np.ndarray
    size: tuple[int, int]
    offsets: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.offsets = np.searchsorted(self.frame, np.arange(len(self.survival) + 1))

    @property
    def count(self) -> int:
        """Number of tracks."""
        return int(self.track.max()) + 1 if len(self.track) else 0

    def at(self, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """Track ids, ascending, and pixels of one frame."""
        span = slice(self.offsets[frame], self.offsets[frame + 1])
        return self.track[span], self.pixel[span]

    def common(self, a: int, b: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Tracks seen in both frames: ids, pixels in a, pixels in b."""
        ids_a, pixels_a = self.at(a)
        ids_b, pixels_b = self.at(b)
        ids, left, right = np.intersect1d(ids_a, ids_b, assume_unique=True, return_indices=True)
        return ids, pixels_a[left], pixels_b[right]


def working_size(size: tuple[int, int], width: int) -> tuple[int, int]:
    """Size with the pixel count of a 16:9 image of `width`, in the aspect of `size`, never larger than it."""
    area = width * width * 9 / 16
    wanted = min(round(float(np.sqrt(area * size[1] / size[0]))), size[1])
    return max(1, round(size[0] * wanted / size[1])), wanted


def follow(gray: np.ndarray, timestamps: np.ndarray, config: TrackConfig) -> Tracks:
    """Tracks through the frames gray (F, h, w) uint8 taken at `timestamps` (F,) seconds."""
    return _Follower(gray, timestamps, config).run()


class _Follower:
    """State of the tracker between frames. Positions are OpenCV's, integer-centred, until they are stored."""

    def __init__(self, gray: np.ndarray, timestamps: np.ndarray, config: TrackConfig) -> None:
        self.gray, self.times, self.config = gray, timestamps, config
        self.height, self.width = gray.shape[1:]
        self.lk: dict[str, Any] = {
            "winSize": (config.window_px,) * 2, "maxLevel": config.levels,
            "flags": cv2.OPTFLOW_USE_INITIAL_FLOW,
            "criteria": (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 20, 0.01)}
        self.flow = cv2.DISOpticalFlow_create(  # type: ignore[attr-defined]
            cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self.half = cv2.pyrDown(gray[0])  # of the last frame followed
        self.patches = Patches(config.patch_px)
        self.ids = np.zeros(0, np.int64)
        self.points = np.zeros((0, 2), np.float32)
        self.next_id = 0
        self.frames: list[np.ndarray] = []
        self.tracks: list[np.ndarray] = []
        self.pixels: list[np.ndarray] = []

    def run(self) -> Tracks:
        count = len(self.gray)
        survival = np.ones(count)
        keyframes = [0]
        self._detect(0)
        self._store(0)
        at_keyframe = (self.ids, self.points)
        for index in range(1, count):
            before = len(self.ids)
            self._advance(self.gray[index - 1], self.gray[index])
            survival[index] = len(self.ids) / before if before else 0.0
            if index == count - 1 or self._is_keyframe(index, keyframes[-1], at_keyframe):
                keyframes.append(index)
                self._align(index)
                self._detect(index)
                at_keyframe = (self.ids, self.points)
            self._store(index)
        return Tracks(
            np.concatenate(self.frames), np.concatenate(self.tracks),
            np.concatenate(self.pixels).astype(np.float64) + 0.5, np.array(keyframes), survival,
            (self.height, self.width),
        )

    def _advance(self, previous: np.ndarray, current: np.ndarray) -> None:
        """Follow all points into the next frame; those not found, or not found back, end."""
        before, self.half = self.half, cv2.pyrDown(current)
        if not len(self.points):
            return
        start = self.points.reshape(-1, 1, 2)
        found, keep = self._follow(previous, current, start, self._predict(before))
        lost = np.flatnonzero(~keep)
        if len(lost) > _MANY_LOST * len(keep):
            guess = _homography_guess(start, found, keep)
            if guess is not None:
                found[lost], keep[lost] = self._follow(previous, current, start[lost], guess[lost])
        self.ids, self.points = self.ids[keep], found[keep, 0]

    def _follow(
        self, previous: np.ndarray, current: np.ndarray, start: np.ndarray, guess: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Where points (n, 1, 2) are found from a guess, and which of them inside and found back."""
        found, good, _ = cv2.calcOpticalFlowPyrLK(previous, current, start, guess, **self.lk)
        back, good_back, _ = cv2.calcOpticalFlowPyrLK(current, previous, found, start.copy(), **self.lk)
        miss = np.linalg.norm((back - start)[:, 0], axis=1)
        margin = 2.0
        inside = (found > margin) & (found < np.array([self.width, self.height]) - 1 - margin)
        keep = (good[:, 0] == 1) & (good_back[:, 0] == 1) & (miss < self.config.backward_px)
        return found, keep & inside[:, 0].all(1)

    def _predict(self, before: np.ndarray) -> np.ndarray:
        """Where all points should be, (n, 1, 2), by the dense flow from `before` to the frame, at half size.

        Fast motion moves the image farther than a patch is wide, and where texture repeats the nearest match
        is then a wrong one.
        """
        if min(self.half.shape) < _MIN_FLOW_SIDE:
            return self.points.reshape(-1, 1, 2).copy()
        flow = self.flow.calc(before, self.half, None)
        start = self.points.reshape(-1, 1, 2)
        half = start * 0.5
        return start + 2 * cv2.remap(flow, half[..., 0], half[..., 1], cv2.INTER_LINEAR,
                                     borderMode=cv2.BORDER_REPLICATE)

    def _is_keyframe(self, index: int, last: int, reference: tuple[np.ndarray, np.ndarray]) -> bool:
        ids, points = reference
        if self.times[index] - self.times[last] >= self.config.keyframe_s - 1e-6:
            return True
        _, left, right = np.intersect1d(ids, self.ids, assume_unique=True, return_indices=True)
        if len(left) < self.config.keyframe_survival * len(ids):
            return True
        moved = parallax(points[left].astype(np.float64), self.points[right].astype(np.float64),
                         (self.height, self.width))
        return bool(moved > self.config.keyframe_parallax * self.width)

    def _align(self, index: int) -> None:
        """Sharpen positions against the first view of each patch; end tracks that no longer look like it."""
        least = self.config.min_correlation
        keep, refined = self.patches.align(self.gray[index], self.ids, self.points, least)
        self.ids, self.points = self.ids[keep], refined[keep]

    def _detect(self, index: int) -> None:
        """Top up the grid with the strongest corners of cells that have too few points."""
        cell = self.config.cell_px
        columns, rows = -(-self.width // cell), -(-self.height // cell)
        quota = max(1, round(self.config.points / (columns * rows)))
        image = self.gray[index]
        strength = cv2.cornerMinEigenVal(image, 5, ksize=3)
        peak = cv2.dilate(strength, np.ones((7, 7), np.uint8))
        border = self.config.window_px // 2 + 1
        is_corner = (strength == peak) & (strength > _MIN_CORNER)
        is_corner[:border] = is_corner[-border:] = False
        is_corner[:, :border] = is_corner[:, -border:] = False
        if len(self.points):
            taken = np.zeros(image.shape, np.uint8)
            x, y = np.rint(self.points).astype(int).T
            taken[np.clip(y, 0, self.height - 1), np.clip(x, 0, self.width - 1)] = 1
            is_corner &= cv2.dilate(taken, np.ones((9, 9), np.uint8)) == 0
        y, x = np.nonzero(is_corner)
        home = (y // cell) * columns + x // cell
        order = np.lexsort((-strength[y, x], home))
        home = home[order]
        rank = np.arange(len(home)) - np.searchsorted(home, home)
        have = np.zeros(columns * rows, np.int64)
        if len(self.points):
            spots = self.points.astype(int) // cell
            row, column = np.clip(spots[:, 1], 0, rows - 1), np.clip(spots[:, 0], 0, columns - 1)
            np.add.at(have, row * columns + column, 1)
        chosen = order[rank < quota - have[home]]
        fresh = np.stack([x[chosen], y[chosen]], 1).astype(np.float32)
        ids = np.arange(self.next_id, self.next_id + len(fresh))
        self.next_id += len(fresh)
        self.ids = np.concatenate([self.ids, ids])
        self.points = np.concatenate([self.points, fresh])
        self.patches.remember(image, ids, fresh)
        self.patches.forget(self.ids)

    def _store(self, index: int) -> None:
        self.frames.append(np.full(len(self.ids), index))
        self.tracks.append(self.ids)
        self.pixels.append(self.points)


def _homography_guess(start: np.ndarray, found: np.ndarray, keep: np.ndarray) -> np.ndarray | None:
    """Where points (n, 1, 2) should be by the homography of those found; None where there is none."""
    if keep.sum() < _MIN_FOR_HOMOGRAPHY:
        return None
    cv2.setRNGSeed(0)
    matrix, mask = cv2.findHomography(start[keep], found[keep], cv2.RANSAC, 4.0, maxIters=100)
    if matrix is None or mask.sum() < _MIN_FOR_HOMOGRAPHY:
        return None
    return cv2.perspectiveTransform(start.astype(np.float64), matrix).astype(np.float32)


_MANY_LOST = 0.3
"""Share of lost points from which they are looked for a second time."""
_MIN_FOR_HOMOGRAPHY = 12
_MIN_FLOW_SIDE = 16
"""Dense flow needs an image at least so high and wide."""
_MIN_CORNER = 2e-5
"""Smallest eigenvalue taken for texture; sensor noise of 2 grey levels on a flat wall stays below it."""


def parallax(a: np.ndarray, b: np.ndarray, size: tuple[int, int]) -> float:
    """Median length of the flow a -> b (n, 2) that no small camera rotation explains, in pixels.

    The rotational flow is linear in the rotation for a focal length near the width; two rounds of weights
    make the fit follow the majority.
    """
    if len(a) < 8:
        return np.inf
    focal = 0.9 * max(size)
    x, y = (a[:, 0] - size[1] / 2) / focal, (a[:, 1] - size[0] / 2) / focal
    across, down = np.stack([x * y, -(1 + x * x), y], 1), np.stack([1 + y * y, -x * y, -x], 1)
    rows = focal * np.concatenate([across, down])
    flow = np.concatenate([b[:, 0] - a[:, 0], b[:, 1] - a[:, 1]])
    weight = np.ones(len(flow))
    rest = np.zeros(len(a))
    for _ in range(3):
        turn = np.linalg.lstsq(rows * weight[:, None], flow * weight, rcond=None)[0]
        left = (flow - rows @ turn).reshape(2, -1)
        rest = np.sqrt((left**2).sum(0))
        weight = np.tile(1.0 / np.sqrt(np.maximum(rest, 0.5)), 2)
    return float(np.median(rest))
