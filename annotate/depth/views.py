"""Which frames to match a frame with, and between which depths its scene lies."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from dataset.camera import invert, resize_intrinsics

TARGET_PX = (9.0, 20.0)
"""Parallax at the scene's middle depth aimed at, in pixels of a map 320 wide: one short and one long baseline
on each side in time. Longer is more exact, shorter finds occluded and repeated things."""

MIN_PARALLAX_PX = 2.5
"""At 320 wide; below it, a tenth of a pixel is four per cent of the depth."""

MIN_OVERLAP = 0.6
_CORNERS = 250
_ENOUGH = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 10, 0.03)  # steps, pixels: enough for a range
_GRID = np.stack(np.meshgrid(np.linspace(0.1, 0.9, 7), np.linspace(0.1, 0.9, 5)), -1).reshape(-1, 2)


@dataclass(frozen=True)
class Views:
    """Small grey images (F, h, w) uint8 and their cameras: intrinsics (F, 4) of (h, w), c2w, usable (F,)."""

    images: np.ndarray
    intrinsics: np.ndarray
    c2w: np.ndarray
    usable: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        return int(self.images.shape[1]), int(self.images.shape[2])

    def matrix(self, index: int) -> np.ndarray:
        """K (3, 3)."""
        fx, fy, cx, cy = self.intrinsics[index]
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])

    def between(self, index: int, other: int) -> np.ndarray:
        """(4, 4): points in the camera axes of `index` to those of `other`."""
        return invert(self.c2w[other]) @ self.c2w[index]


def halved(views: Views, frames: list[int]) -> Views:
    """Only these frames, at half the size."""
    height, width = views.size
    size = (-(-height // 2), -(-width // 2))
    images = [cv2.resize(views.images[i], size[::-1], interpolation=cv2.INTER_AREA) for i in frames]
    intrinsics = resize_intrinsics(views.intrinsics[frames], views.size, size)
    return Views(np.stack(images), intrinsics, views.c2w[frames], views.usable[frames])


def rays(views: Views, index: int, pixels: np.ndarray) -> np.ndarray:
    """Directions (..., 3) with z = 1 of pixels (..., 2)."""
    fx, fy, cx, cy = views.intrinsics[index]
    return np.stack([(pixels[..., 0] - cx) / fx, (pixels[..., 1] - cy) / fy, np.ones(pixels.shape[:-1])], -1)


def parallax(views: Views, index: int, others: np.ndarray, depth: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean pixels (n,) by which translation moves points at `depth`, and the share (n,) in view."""
    height, width = views.size
    directions = rays(views, index, _GRID * (width, height))
    motion = invert(views.c2w[others]) @ views.c2w[index]  # (n, 4, 4)
    turned = np.einsum("nij,pj->npi", motion[:, :3, :3], directions)
    moved = turned + motion[:, None, :3, 3] / depth
    k = views.intrinsics[others][:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        before, after = (k[..., :2] * p[..., :2] / p[..., 2:] + k[..., 2:] for p in (turned, moved))
    seen = (moved[..., 2] > 0.05) & (turned[..., 2] > 0.05)
    seen &= ((after >= 0) & (after <= (width, height))).all(-1)
    shift = np.where(seen, np.linalg.norm(after - before, axis=-1), 0.0)
    return shift.sum(1) / np.maximum(seen.sum(1), 1), seen.mean(1)


def choose_neighbours(views: Views, index: int, depth: float, count: int) -> list[int]:
    """Up to `count` frames whose parallax is near the targets, from both sides in time where there are."""
    others = np.flatnonzero(views.usable & (np.arange(len(views.usable)) != index))
    shift, overlap = parallax(views, index, others, depth)
    unit = views.size[1] / 320.0
    fit = (shift >= MIN_PARALLAX_PX * unit) & (overlap >= MIN_OVERLAP)
    fit &= shift <= 2 * TARGET_PX[-1] * unit
    others, shift = others[fit], shift[fit]
    chosen: list[int] = []
    while len(others) and len(chosen) < count:
        # In turn: long before, long after, short before, short after; when a side is empty, the other serves.
        target = TARGET_PX[::-1][(len(chosen) // 2) % len(TARGET_PX)] * unit
        side = others < index if len(chosen) % 2 == 0 else others > index
        miss = np.abs(np.log(shift / target)) + np.where(side, 0.0, 1.0)
        best = int(miss.argmin())
        chosen.append(int(others[best]))
        # A view next to a chosen one adds nothing.
        other_side = (others < index) != (others[best] < index)
        apart = other_side | (np.abs(np.log(shift / shift[best])) > 0.1)
        others, shift = others[apart], shift[apart]
    return sorted(chosen)


def scene_depths(views: Views, index: int, guess: float) -> np.ndarray:
    """Depths of corners of a frame, triangulated with a frame at moderate parallax; may be empty.

    `guess` is the depth at which parallax is judged; the caller tries again with what was found.
    """
    others = np.flatnonzero(views.usable & (np.arange(len(views.usable)) != index))
    shift, overlap = parallax(views, index, others, guess)
    unit = views.size[1] / 320.0
    fit = overlap >= MIN_OVERLAP
    if not fit.any():
        return np.zeros(0)
    others, shift = others[fit], shift[fit]
    other = int(others[np.abs(shift - 8.0 * unit).argmin()])
    image, target = views.images[index], views.images[other]
    corners = cv2.goodFeaturesToTrack(image, _CORNERS, 0.01, 5)
    if corners is None or len(corners) < 8:
        return np.zeros(0)
    found, forward = _follow(image, target, corners, corners)
    back, backward = _follow(target, image, found, corners)
    good = forward & backward
    good &= np.linalg.norm((back - corners).reshape(-1, 2), axis=1) < 0.5
    return _triangulate(views, index, other, corners.reshape(-1, 2)[good] + 0.5,
                        found.reshape(-1, 2)[good] + 0.5)


def _follow(
    image: np.ndarray, target: np.ndarray, points: np.ndarray, guess: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Places (n, 1, 2) of `points` in `target`, looked for from `guess`, and whether they were found (n,)."""
    found, status, _ = cv2.calcOpticalFlowPyrLK(
        image, target, points, guess.copy(), winSize=(13, 13), maxLevel=3, criteria=_ENOUGH,
        flags=cv2.OPTFLOW_USE_INITIAL_FLOW)
    return np.asarray(found), np.asarray(status).ravel() > 0


def _triangulate(
    views: Views, index: int, other: int, pixels: np.ndarray, found: np.ndarray,
) -> np.ndarray:
    """Depths (m,) in `index` of matches that fit the epipolar geometry and show enough parallax."""
    motion = views.between(index, other)
    a, b, t = rays(views, index, pixels) @ motion[:3, :3].T, rays(views, other, found), motion[:3, 3]
    # z a + t = w b: cross with b, least squares for z.
    across, offset = np.cross(b, a), np.cross(b, np.broadcast_to(t, b.shape))
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = -(across * offset).sum(1) / (across**2).sum(1)
        point = depth[:, None] * a + t
        k = views.intrinsics[other]
        error = np.linalg.norm(k[:2] * (point / point[:, 2:] - b)[:, :2], axis=1)
        still = np.linalg.norm(k[:2] * (a / a[:, 2:] - b)[:, :2], axis=1)
    good = np.isfinite(depth) & (depth > 0) & (point[:, 2] > 0) & (error < 1.0)
    return depth[good & (still > 1.0)]
