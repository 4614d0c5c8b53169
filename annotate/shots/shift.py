"""Large shifts between two small images, as fast camera turns make them."""

from __future__ import annotations

import cv2
import numpy as np

_SIZE = (64, 36)  # long and short side of the thumbnails that are compared
_BORDER = 3  # pixels that a full-width piece may shift
_PIECES = ((0, 1, 0, .5), (0, 1, .5, 1), (0, .5, 0, 1), (.5, 1, 0, 1), (.25, .75, .25, .75))
_SMOOTH = 4.0  # a piece with less contrast matches anything


def thumbnail(gray: np.ndarray) -> np.ndarray:
    """Luma (h, w) uint8 shrunk to the size that `best_shift` compares."""
    size = _SIZE if gray.shape[1] >= gray.shape[0] else _SIZE[::-1]
    return cv2.resize(gray, size, interpolation=cv2.INTER_AREA)


def best_shift(image: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """Where a half of one thumbnail, or its centre, lies best in another.

    Returns (correlation, displacement as a share of the frame's size); correlation 0 if all is smooth.
    """
    height, width = image.shape
    framed = cv2.copyMakeBorder(other, _BORDER, _BORDER, _BORDER, _BORDER, cv2.BORDER_REPLICATE)
    best = (0.0, 0.0)
    for top, bottom, left, right in _PIECES:
        y, x = int(top * height), int(left * width)
        piece = image[y:int(bottom * height), x:int(right * width)]
        if piece.std() < _SMOOTH:
            continue
        _, correlation, _, (at_x, at_y) = cv2.minMaxLoc(
            cv2.matchTemplate(framed, piece, cv2.TM_CCOEFF_NORMED))
        if correlation > best[0]:
            best = (correlation, max(abs(at_x - _BORDER - x) / width, abs(at_y - _BORDER - y) / height))
    return best
