"""A proxy for imaging quality without weights: edges count for a picture, noise against it."""

from __future__ import annotations

import cv2
import numpy as np

NAME = "proxy: edges against noise"
_EDGES, _NOISE = 6.0, 4.0
"""Grey levels at which either halves the score."""


def proxy_score(picture: np.ndarray) -> float:
    """0 to 100 for (H, W, 3) uint8: 100 · e/(e + 6) · 4/(n + 4).

    e: rms gradient of the slightly blurred luma, grey levels a pixel. n: noise, the median size of diagonal
    second differences of 2x2 pixels over 0.6745 (Donoho and Johnstone 1994), which straight edges do not
    raise. It knows nothing of beauty or truth; it falls when a video blurs, greys or grows noisy.
    """
    luma = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    blurred = cv2.GaussianBlur(luma, (0, 0), 1.0)
    gx, gy = (cv2.Sobel(blurred, cv2.CV_32F, *way, scale=1 / 8) for way in ((1, 0), (0, 1)))
    edges = float(np.sqrt(np.mean(gx**2 + gy**2)))
    height, width = (side // 2 * 2 for side in luma.shape)
    a, b = luma[:height:2, :width:2], luma[:height:2, 1:width:2]
    c, d = luma[1:height:2, :width:2], luma[1:height:2, 1:width:2]
    noise = float(np.median(np.abs(a - b - c + d)) / 2 / 0.6745)
    return 100 * edges / (edges + _EDGES) * _NOISE / (noise + _NOISE)


def windows(frames: int, fps: float, seconds: float, pictures: int) -> tuple[list[int], list[int]]:
    """Frames to look at in the first and in the last seconds, which never overlap, `pictures` of each."""
    length = min(round(seconds * fps), frames // 2)
    first = np.unique(np.linspace(0, length - 1, min(pictures, length)).round().astype(int))
    return first.tolist(), (frames - 1 - first[::-1]).tolist()
