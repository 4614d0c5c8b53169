"""Zero-mean normalised correlation of one picture with others that were warped into its view."""

from __future__ import annotations

import cv2
import numpy as np

_LEAST_VARIANCE = 0.25  # of a patch, squared grey levels: rounding to whole levels alone gives a third of it


class Patches:
    """The patches of a picture (h, w), one about every pixel, and buffers for comparing them.

    contrast (h, w): standard deviation of grey levels within the patch.
    """

    def __init__(self, picture: np.ndarray, side: int) -> None:
        self._side = (side, side)
        self._picture = picture.astype(np.float32)
        self._mean = cv2.boxFilter(self._picture, -1, self._side)
        variance = cv2.boxFilter(self._picture * self._picture, -1, self._side) - self._mean * self._mean
        self.contrast = np.sqrt(np.maximum(variance, 0))
        self._least = np.full_like(self._mean, _LEAST_VARIANCE)  # numpy is four times slower with a scalar
        self._weight = 1 / np.sqrt(np.maximum(variance, self._least))
        self._product, self._square, self._other_mean = (np.empty_like(self._mean) for _ in range(3))

    def correlate(self, other: np.ndarray, score: np.ndarray) -> np.ndarray:
        """Fill `score` (h, w) with the correlation, -1 to 1, with the patches of `other` (h, w) float32."""
        product, square, mean = self._product, self._square, self._other_mean
        cv2.boxFilter(np.multiply(other, other, out=product), -1, self._side, dst=square)
        cv2.boxFilter(np.multiply(other, self._picture, out=product), -1, self._side, dst=score)
        cv2.boxFilter(other, -1, self._side, dst=mean)
        score -= np.multiply(mean, self._mean, out=product)
        square -= np.multiply(mean, mean, out=mean)
        np.maximum(square, self._least, out=square)
        score /= np.sqrt(square, out=square)
        score *= self._weight
        return score


class BestTwo:
    """Mean of the two highest of the scores (h, w) given one after the other; of one score, that one."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._first, self._second, self._lower = (np.empty(size, np.float32) for _ in range(3))
        self._count = 0

    def take(self, score: np.ndarray) -> None:
        first, second = self._first, self._second
        if self._count == 0:
            first[:] = score
        else:
            lower = np.minimum(first, score, out=self._lower if self._count > 1 else second)
            if self._count > 1:
                np.maximum(second, lower, out=second)
            np.maximum(first, score, out=first)
        self._count += 1

    def finish(self, mean: np.ndarray) -> None:
        """Fill `mean` (h, w) and begin anew."""
        if self._count == 1:
            mean[:] = self._first
        else:
            np.add(self._first, self._second, out=mean)
            mean *= 0.5
        self._count = 0
