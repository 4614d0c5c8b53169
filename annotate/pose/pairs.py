"""Pairs of frames a useful distance apart, with points followed from one to the other."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from annotate.frames import Frames
from annotate.pose.tracks import working_size

MIN_FLOW_PX, MAX_FLOW_PX = 10.0, 40.0
_MAX_ROUND_TRIP_PX = 0.7
_CORNERS = 300
_MIN_CORNERS = 30
_TRIES = 6


@dataclass(frozen=True)
class FlowPairs:
    """Points followed between P pairs of frames.

    first, second: (P,) frame indices. pair: (N,) which pair a point belongs to. start, end: (N, 2) pixels of
    `size`, centres at +0.5. flow_px: (P,) median length of the displacement.
    """

    first: np.ndarray
    second: np.ndarray
    pair: np.ndarray
    start: np.ndarray
    end: np.ndarray
    flow_px: np.ndarray
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.first)


def follow_pairs(frames: Frames, count: int = 25, width: int = 640, margin: int = 0) -> FlowPairs:
    """About `count` pairs spread over the clip, median flow 10 to 40 px where motion allows, in frames shrunk
    to the pixel count of a 16:9 image of `width`.

    Points are corners followed by pyramidal Lucas-Kanade there and back within 0.7 px. `margin` frames at
    both ends stay unused. Pairs with too few points are left out; the result may be empty.
    """
    gray = frames.gray(working_size(frames.size, width)[1])
    low, high = margin, len(gray) - 1 - margin
    found: list[tuple[int, int, np.ndarray, np.ndarray]] = []
    taken: set[tuple[int, int]] = set()
    gap = 4
    if high - low >= 1:
        for centre in np.linspace(low, high, count):
            pair, gap = _fitting_pair(gray, float(centre), gap, low, high)
            if pair is not None and pair[:2] not in taken:
                taken.add(pair[:2])
                found.append(pair)
    starts = [start for _, _, start, _ in found]
    ends = [end for _, _, _, end in found]
    return FlowPairs(
        first=np.array([i for i, _, _, _ in found], np.int64),
        second=np.array([j for _, j, _, _ in found], np.int64),
        pair=np.repeat(np.arange(len(found)), [len(start) for start in starts]),
        start=np.concatenate(starts) if found else np.zeros((0, 2)),
        end=np.concatenate(ends) if found else np.zeros((0, 2)),
        flow_px=np.array([_median_flow(s, e) for s, e in zip(starts, ends)]),
        size=(gray.shape[1], gray.shape[2]),
    )


def _fitting_pair(
    gray: np.ndarray, centre: float, gap: int, low: int, high: int
) -> tuple[tuple[int, int, np.ndarray, np.ndarray] | None, int]:
    """The pair about `centre` whose gap gives a fitting flow, and that gap, a good start for the next."""
    best = None
    for _ in range(_TRIES):
        gap = min(gap, high - low)
        first = int(np.clip(round(centre - gap / 2), low, high - gap))
        start, end = follow(gray[first], gray[first + gap])
        if len(start) < _MIN_CORNERS:
            if gap == 1:
                return best, gap
            gap = max(1, gap // 2)
            continue
        best = (first, first + gap, start, end)
        flow = _median_flow(start, end)
        if flow < MIN_FLOW_PX and gap < high - low:
            gap = int(np.ceil(gap * np.clip(20 / max(flow, 1e-3), 1.5, 4)))
        elif flow > MAX_FLOW_PX and gap > 1:
            gap = max(1, int(gap * 20 / flow))
        else:
            break
    return best, min(gap, high - low)


def follow(
    before: np.ndarray, after: np.ndarray, corners: int = _CORNERS, homography: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Corners of one grey image and where they are in another: two (n, 2) arrays, pixel centres at +0.5.

    A `homography` (3, 3) from `before` to `after` says where to start looking.
    """
    points = cv2.goodFeaturesToTrack(before, corners, 0.01, 8)
    if points is None or len(points) == 0:
        return np.zeros((0, 2)), np.zeros((0, 2))
    points = np.asarray(points, np.float32)
    guess = points.copy()
    if homography is not None:
        guess = cv2.perspectiveTransform(points + 0.5, homography).astype(np.float32) - np.float32(0.5)
    there, there_ok = _lucas_kanade(before, after, points, guess)
    back, back_ok = _lucas_kanade(after, before, there, points)
    round_trip = np.linalg.norm((back - points).reshape(-1, 2), axis=1)
    end = there.reshape(-1, 2)
    height, width = after.shape
    good = there_ok & back_ok & (round_trip < _MAX_ROUND_TRIP_PX)
    good &= (end >= 0).all(1) & (end[:, 0] < width - 1) & (end[:, 1] < height - 1)
    return points.reshape(-1, 2)[good].astype(np.float64) + 0.5, end[good].astype(np.float64) + 0.5


def _lucas_kanade(
    before: np.ndarray, after: np.ndarray, points: np.ndarray, guess: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    moved, found, _ = cv2.calcOpticalFlowPyrLK(
        before, after, points, guess.copy(), winSize=(21, 21), maxLevel=4,
        criteria=(cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 30, 0.01),
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW,
    )
    return np.asarray(moved), np.asarray(found).ravel() == 1


def _median_flow(start: np.ndarray, end: np.ndarray) -> float:
    return float(np.median(np.linalg.norm(end - start, axis=1)))
