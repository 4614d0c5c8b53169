"""Videos to look at while a run trains: made, true, and the camera path from above, side by side."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

_MARGIN = 0.12
_PAPER, _INK, _HERE = 24, (150, 150, 150), (80, 200, 255)


def draw_path(c2w: np.ndarray, size: int) -> np.ndarray:
    """The path of a camera seen from above, frame by frame: (F, size, size, 3) uint8.

    c2w (F, 4, 4), OpenCV axes: right is right, forward is up. The line is the whole path, the dot the camera,
    the stroke where it looks.
    """
    import cv2

    ground = c2w[:, [0, 2], 3]
    low, high = ground.min(0), ground.max(0)
    span = max(float((high - low).max()), 1e-6)
    scale = size * (1 - 2 * _MARGIN) / span
    flat = (ground - (low + high) / 2) * scale
    places = np.stack([size / 2 + flat[:, 0], size / 2 - flat[:, 1]], 1)
    looks = c2w[:, [0, 2], 2] * [1, -1] * size * 0.08
    paper = np.full((size, size, 3), _PAPER, np.uint8)
    cv2.polylines(paper, [np.round(places).astype(np.int32)], False, _INK, 1, cv2.LINE_AA)
    frames = []
    for place, look in zip(places, looks):
        frame = paper.copy()
        here, ahead = (tuple(int(x) for x in np.round(point)) for point in (place, place + look))
        cv2.line(frame, here, ahead, _HERE, 2, cv2.LINE_AA)
        cv2.circle(frame, here, max(2, size // 60), _HERE, -1, cv2.LINE_AA)
        frames.append(frame)
    return np.stack(frames)


def beside(*videos: np.ndarray) -> np.ndarray:
    """Videos (F, H, W, 3) of one height next to each other, sides made even for the encoder."""
    joined = np.concatenate(videos, 2)
    height, width = joined.shape[1] // 2 * 2, joined.shape[2] // 2 * 2
    return joined[:, :height, :width]


def write_film(path: Path, video: np.ndarray, fps: float, crf: int = 23) -> None:
    """An MP4 of frames (F, H, W, 3) uint8 that appears whole; crf: of x264, lower is better and larger."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    with av.open(str(partial), "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.height, stream.width = video.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(crf)}
        for frame in video:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        file.mux(stream.encode())
    partial.replace(path)
