"""Alignment of image patches with their first view, to a fraction of a pixel.

Affine inverse-compositional alignment (Baker and Matthews 2004) of all patches at once, after taking out each
patch's mean and contrast. Tracking from frame to frame drifts as errors add up; this does not, because each
track keeps one reference.
"""

from __future__ import annotations

import cv2
import numpy as np

_MAX_SHIFT_PX = 2.0
"""An alignment that wanders farther from the tracked position found another spot."""


class Patches:
    """First views of the living tracks. Positions are integer-centred, as OpenCV's."""

    def __init__(self, side: int) -> None:
        half = side // 2
        self.half = half
        y, x = np.mgrid[-half:half + 1, -half:half + 1].astype(np.float32)
        self.grid = np.stack([x.ravel(), y.ravel()])  # (2, S)
        self.ids = np.zeros(0, np.int64)
        samples = self.grid.shape[1]
        self.template = np.zeros((0, samples), np.float32)
        self.towards = np.zeros((0, 6, samples), np.float32)  # from a patch's difference to its step
        self.warp = np.zeros((0, 2, 2), np.float32)  # from the first view to the last aligned one

    def remember(self, image: np.ndarray, ids: np.ndarray, points: np.ndarray) -> None:
        """Keep the first views of new tracks, ids ascending and above all known ones."""
        if not len(ids):
            return
        plain = np.tile(np.eye(2, dtype=np.float32), (len(ids), 1, 1))
        wide = self._sample(image, points, plain, self.half + 1)
        side = 2 * self.half + 3
        wide = wide.reshape(-1, side, side)
        dx = (wide[:, 1:-1, 2:] - wide[:, 1:-1, :-2]).reshape(len(ids), -1) / 2
        dy = (wide[:, 2:, 1:-1] - wide[:, :-2, 1:-1]).reshape(len(ids), -1) / 2
        values = wide[:, 1:-1, 1:-1].reshape(len(ids), -1)
        values, contrast = _normalised(values)
        dx, dy = dx / contrast, dy / contrast
        x, y = self.grid
        descent = np.stack([dx, dy, dx * x, dx * y, dy * x, dy * y], 2)
        descent -= descent.mean(1, keepdims=True)  # the mean of a patch is not compared
        hessian = descent.swapaxes(1, 2) @ descent
        # shears of a patch with one strong edge are not seen; a small ridge keeps them still
        ridge = np.array([0, 0, 1, 1, 1, 1], np.float32) * 1e-3
        scale = np.trace(hessian[:, 2:, 2:], axis1=1, axis2=2)[:, None, None]
        hessian = hessian + np.diag(ridge) * scale + 1e-6 * np.eye(6, dtype=np.float32)
        self.ids = np.concatenate([self.ids, ids])
        self.template = np.concatenate([self.template, values.astype(np.float32)])
        towards = np.linalg.inv(hessian.astype(np.float64)) @ descent.swapaxes(1, 2)
        self.towards = np.concatenate([self.towards, towards.astype(np.float32)])
        self.warp = np.concatenate([self.warp, plain])

    def forget(self, living: np.ndarray) -> None:
        """Drop the views of tracks that have ended; `living` ids ascending."""
        keep = np.isin(self.ids, living, assume_unique=True)
        self.ids, self.template = self.ids[keep], self.template[keep]
        self.towards, self.warp = self.towards[keep], self.warp[keep]

    def align(
        self, image: np.ndarray, ids: np.ndarray, points: np.ndarray, min_correlation: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mask of tracks that still look like their first view, and positions (n, 2), refined where possible.

        A track ends where its patch no longer correlates, has left its tracked position, or is stretched out
        of shape.
        """
        if not len(ids):
            return np.zeros(0, bool), points
        slot = np.searchsorted(self.ids, ids)
        template, towards = self.template[slot], self.towards[slot]
        warp, centre = self.warp[slot].copy(), points.astype(np.float32).copy()
        moving = np.arange(len(ids))
        for _ in range(8):
            values, _ = _normalised(self._sample(image, centre[moving], warp[moving], self.half))
            step = (towards[moving] @ (values - template[moving])[:, :, None])[:, :, 0]
            turned = warp[moving] @ np.linalg.inv(np.eye(2, dtype=np.float32) + step[:, 2:].reshape(-1, 2, 2))
            centre[moving] -= (turned @ step[:, :2, None])[:, :, 0]
            warp[moving] = turned
            sane = np.abs(centre[moving] - points[moving]).max(1) < 2 * _MAX_SHIFT_PX
            moving = moving[(np.abs(step[:, :2]).max(1) > 0.005) & sane]
            if not len(moving):
                break
        values, _ = _normalised(self._sample(image, centre, warp, self.half))
        correlation = (values * template).mean(1)
        stretch = np.abs(np.linalg.det(warp.astype(np.float64)))
        good = (np.linalg.norm(centre - points, axis=1) < _MAX_SHIFT_PX) & (correlation > min_correlation)
        good &= (stretch > 0.2) & (stretch < 5.0)
        self.warp[slot[good]] = warp[good]
        return good, np.where(good[:, None], centre, points)

    def _sample(self, image: np.ndarray, centre: np.ndarray, warp: np.ndarray, half: int) -> np.ndarray:
        """Grey values (n, S) of the patches around `centre` under the affine `warp`, bilinear."""
        if half == self.half:
            grid = self.grid
        else:
            y, x = np.mgrid[-half:half + 1, -half:half + 1].astype(np.float32)
            grid = np.stack([x.ravel(), y.ravel()])
        where = warp @ grid + centre[:, :, None].astype(np.float32)
        # remap refuses maps beyond 32767 rows
        parts = [cv2.remap(image.astype(np.float32), part[:, 0], part[:, 1], cv2.INTER_LINEAR,
                           borderMode=cv2.BORDER_REPLICATE)
                 for part in np.array_split(where, len(where) // 16384 + 1)]
        return np.concatenate(parts)


def _normalised(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values (n, S) with mean 0 and standard deviation 1, and the deviations (n, 1)."""
    values = values - values.mean(1, keepdims=True)
    contrast = np.maximum(np.sqrt((values**2).mean(1, keepdims=True)), 1.0)
    return values / contrast, contrast
