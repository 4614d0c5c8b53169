"""A camera path as a picture: from above, its height, its speed."""

from __future__ import annotations

import cv2
import numpy as np

from dataset.camera import rotation_angle_deg
from infer.camera import CameraPath
from infer.trajectory import FPS

_PAPER, _INK, _GRID, _LOOK = 250, (60, 60, 60), (215, 215, 215), (200, 120, 30)
_SIDE, _PLOT, _MARGIN = 640, (200, 640), 56


def draw_preview(path: CameraPath) -> bytes:
    """A PNG: the path seen from above (ahead is up), with where the camera looks twice a second; below it
    height, speed and turning rate over time."""
    c2w = path.c2w
    seconds = np.arange(len(c2w)) / FPS
    steps = np.linalg.norm(np.diff(c2w[:, :3, 3], axis=0), axis=1) * FPS
    turns = rotation_angle_deg(c2w[:-1, :3, :3].swapaxes(1, 2) @ c2w[1:, :3, :3]) * FPS
    pages = [_from_above(c2w, path.source),
             _plot("height, m", seconds, 0.0 - c2w[:, 1, 3]),
             _plot("speed, m/s", seconds[1:], steps), _plot("turning, deg/s", seconds[1:], turns)]
    done, png = cv2.imencode(".png", np.concatenate(pages)[..., ::-1])
    assert done
    return png.tobytes()


def _from_above(c2w: np.ndarray, title: str) -> np.ndarray:
    ground = c2w[:, [0, 2], 3]
    middle, span = (ground.min(0) + ground.max(0)) / 2, max(float(np.ptp(ground, axis=0).max()), 1.0)
    scale = (_SIDE - 2 * _MARGIN) / span
    page = np.full((_SIDE, _SIDE, 3), _PAPER, np.uint8)

    def place(points: np.ndarray) -> np.ndarray:
        moved = (points - middle) * [1, -1] * scale + _SIDE / 2
        return np.round(moved).astype(np.int32)

    metre = 10.0 ** np.floor(np.log10(span))
    first = np.floor((middle - span) / metre) * metre
    for line in np.arange(0, 2 * span + 2 * metre, metre):
        x, y = place(first + line)
        cv2.line(page, (int(x), 0), (int(x), _SIDE), _GRID, 1)
        cv2.line(page, (0, int(y)), (_SIDE, int(y)), _GRID, 1)
    cv2.polylines(page, [place(ground)], False, _INK, 2, cv2.LINE_AA)
    for pose in c2w[:: round(FPS / 2)]:
        here = place(pose[[0, 2], 3])
        ahead = here + np.round(pose[[0, 2], 2] * [1, -1] * 24).astype(np.int32)
        cv2.arrowedLine(page, tuple(map(int, here)), tuple(map(int, ahead)), _LOOK, 1, cv2.LINE_AA,
                        tipLength=0.3)
    cv2.circle(page, tuple(map(int, place(ground[0]))), 6, _LOOK, -1, cv2.LINE_AA)
    _write(page, f"{title[:60]}", (12, 22))
    _write(page, f"{len(c2w)} frames, {len(c2w) / FPS:.1f} s; a square is {metre:g} m", (12, 42))
    return page


def _plot(title: str, seconds: np.ndarray, values: np.ndarray) -> np.ndarray:
    height, width = _PLOT
    page = np.full((height, width, 3), _PAPER, np.uint8)
    low, high = float(values.min()), float(values.max())
    span = max(high - low, 1e-3)
    x = _MARGIN + seconds / seconds[-1] * (width - 2 * _MARGIN)
    y = height - 36 - (values - low) / span * (height - 80)
    cv2.line(page, (_MARGIN, height - 36), (width - _MARGIN, height - 36), _GRID, 1)
    cv2.polylines(page, [np.round(np.stack([x, y], -1)).astype(np.int32)], False, _INK, 2, cv2.LINE_AA)
    _write(page, f"{title}: {low:.2f} to {high:.2f}", (12, 22))
    _write(page, f"{seconds[-1]:.1f} s", (width - _MARGIN - 10, height - 14))
    return page


def _write(page: np.ndarray, text: str, place: tuple[int, int]) -> None:
    shown = text.encode("ascii", "replace").decode()
    cv2.putText(page, shown, place, cv2.FONT_HERSHEY_SIMPLEX, 0.45, _INK, 1, cv2.LINE_AA)
