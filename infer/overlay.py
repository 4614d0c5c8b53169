"""What leads a video, drawn on it: the keys held, and the path seen from above with the place reached."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from infer.camera import CameraPath
from infer.trajectory import FPS
from infer.video import GrowingVideo

_LAYOUT = (("w", 1, 0), ("a", 0, 1), ("s", 1, 1), ("d", 2, 1), ("i", 5, 0), ("j", 4, 1), ("k", 5, 1),
           ("l", 6, 1))
"""Keys as they lie under two hands: column and row."""
_COLUMNS, _ROWS = 7, 2
_FINE = 4
"""Pictures are drawn this much larger and made small, which smooths their edges."""
_DARK, _LIGHT, _LIT = (16, 18, 22), (235, 238, 242), (255, 178, 56)


class Overlay:
    """Draws on frames of `size` (height, width) of a video along `path`; corners only, the middle stays."""

    def __init__(self, path: CameraPath, size: tuple[int, int]) -> None:
        self.path, self.size = path, size
        self._unit = max(min(size[0] / 15, size[1] / 24), 3.0)  # side of a key
        self._margin = round(self._unit * 0.5)
        self._map, self._places, self._triangle = self._draw_map()
        steps = np.linalg.norm(np.diff(path.c2w[:, :3, 3], axis=0), axis=1) * FPS
        self._speed = np.concatenate([[0.0], steps])

    def draw(self, frames: np.ndarray, first: int) -> np.ndarray:
        """A copy of frames (f, H, W, 3) uint8 that begin at frame `first` of the path, drawn on."""
        drawn = frames.copy()
        for offset, picture in enumerate(drawn):
            number = first + offset
            if self.path.held:
                _put(picture, _keys(self.path.held[number], self._unit), self._margin, left=True)
            _put(picture, self._progress(number), self._margin, left=False)
        return drawn

    def _progress(self, number: int) -> np.ndarray:
        """The map with the way so far, the camera and where it looks, and its time and speed."""
        page = Image.fromarray(self._map)
        draw = ImageDraw.Draw(page)
        way = [tuple(place) for place in self._places[: number + 1]]
        width = max(1, round(self._unit * 0.12 * _FINE))
        if len(way) > 1:
            draw.line(way, fill=(*_LIT, 255), width=width, joint="curve")
        right, ahead = self.path.c2w[number][[0, 2], 0], self.path.c2w[number][[0, 2], 2]
        corners = self._triangle @ np.stack([right, ahead]) * [1, -1] + self._places[number]
        draw.polygon([tuple(corner) for corner in corners], fill=(*_LIGHT, 255))
        text = f"{number / FPS:.1f} s   {self._speed[number]:.2f} m/s"
        draw.text((self._unit * 0.3 * _FINE, self._unit * 0.15 * _FINE), text, (*_LIGHT, 255),
                  _font(self._unit * 0.42))
        return _shrunk(page)

    def _draw_map(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The whole path on a dark page, where each pose lies on it, and the camera's shape."""
        side, head = round(self._unit * 4.5) * _FINE, round(self._unit * 0.7) * _FINE
        ground = self.path.c2w[:, [0, 2], 3]
        middle, span = (ground.min(0) + ground.max(0)) / 2, max(float(np.ptp(ground, axis=0).max()), 1.0)
        places = (ground - middle) * [1, -1] * (side * 0.74 / span) + [side / 2, head + side / 2]
        page = Image.new("RGBA", (side, side + head), (0, 0, 0, 0))
        draw = ImageDraw.Draw(page)
        draw.rounded_rectangle((0, 0, side - 1, side + head - 1), self._unit * 0.25 * _FINE, (*_DARK, 150))
        width = max(1, round(self._unit * 0.06 * _FINE))
        draw.line([tuple(place) for place in places], fill=(*_LIGHT, 130), width=width, joint="curve")
        triangle = np.array([[0, 0.42], [-0.24, -0.24], [0.24, -0.24]]) * self._unit * _FINE
        return np.asarray(page), places, triangle


def write_overlay(
    path: Path, chunks: Iterator[np.ndarray], camera: CameraPath, first: int, crf: int,
) -> Iterator[np.ndarray]:
    """Pass chunks of frames (f, H, W, 3) on as they are, and write them drawn on to `path`, which appears
    when the last has gone; `first` is the number of the first one's first frame."""
    growing, writer = path.with_name(f".{path.name}.partial"), None
    try:
        for frames in chunks:
            if writer is None:
                path.parent.mkdir(parents=True, exist_ok=True)
                overlay = Overlay(camera, (frames.shape[1], frames.shape[2]))
                writer = GrowingVideo(growing, overlay.size, crf)
            yield frames
            writer.add(overlay.draw(frames, first))
            first += len(frames)
        if writer is not None:
            writer.close()
            writer = None
            growing.replace(path)
    finally:
        if writer is not None:
            writer.close()
            growing.unlink()


@lru_cache(maxsize=256)
def _keys(held: frozenset[str], unit: float) -> np.ndarray:
    """Two groups of keys, those held lit: (h, w, 4) uint8."""
    side, gap = unit * _FINE, unit * 0.12 * _FINE
    page = Image.new("RGBA", (round(_COLUMNS * side), round(_ROWS * side)), (0, 0, 0, 0))
    draw = ImageDraw.Draw(page)
    for key, column, row in _LAYOUT:
        x, y, lit = column * side, row * side, key in held
        box = (x + gap / 2, y + gap / 2, x + side - gap / 2, y + side - gap / 2)
        draw.rounded_rectangle(box, unit * 0.18 * _FINE, (*_LIT, 240) if lit else (*_DARK, 150))
        draw.text((x + side / 2, y + side / 2), key.upper(), (*_DARK, 255) if lit else (*_LIGHT, 220),
                  _font(unit * 0.5), anchor="mm")
    return _shrunk(page)


@lru_cache(maxsize=8)
def _font(pixels: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(pixels * _FINE)


def _shrunk(page: Image.Image) -> np.ndarray:
    """Colours are weighed by how opaque they are, so that edges do not darken."""
    return np.asarray(page.convert("RGBa").reduce(_FINE).convert("RGBA"))


def _put(picture: np.ndarray, patch: np.ndarray, margin: int, left: bool) -> None:
    """Blend a patch (h, w, 4) into a lower corner of a picture, cut where the picture ends."""
    patch = patch[: picture.shape[0], : picture.shape[1]]
    height, width = patch.shape[:2]
    top = max(picture.shape[0] - height - margin, 0)
    start = min(margin, picture.shape[1] - width) if left else max(picture.shape[1] - width - margin, 0)
    part = picture[top : top + height, start : start + width]
    opacity = cv2.merge([patch[..., 3]] * 3).astype(np.float32) / 255
    part[:] = np.round(part + (patch[..., :3] - part.astype(np.float32)) * opacity)
