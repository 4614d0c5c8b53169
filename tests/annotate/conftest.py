"""Small videos whose frames say which they are, written as sources of all kinds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

BITS = 10


def numbered(index: int, size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """(H, W, 3) RGB: a still, smooth texture with `index` as a strip of bars in the middle."""
    height, width = size
    texture = np.random.default_rng(seed).integers(60, 200, (9, 16, 3), dtype=np.uint8)
    frame = cv2.resize(texture, (width, height), interpolation=cv2.INTER_CUBIC)
    top, bottom = round(height * 0.46), round(height * 0.54)
    edges = np.linspace(width * 0.3, width * 0.7, BITS + 1).round().astype(int)
    for bit in range(BITS):
        frame[top:bottom, edges[bit]:edges[bit + 1]] = 235 if index >> bit & 1 else 20
    return frame


def read_number(frame: np.ndarray) -> int:
    """The number of a frame that shows the whole height or the whole width of a `numbered` one, or a crop."""
    height, width = frame.shape[:2]
    strip = frame[round(height * 0.49):max(round(height * 0.51), round(height * 0.49) + 1)]
    grey = strip.reshape(strip.shape[0], width, -1).mean(axis=(0, 2))
    centres = (0.3 + 0.4 * (np.arange(BITS) + 0.5) / BITS) * width
    return sum(int(grey[int(x)] > 128) << bit for bit, x in enumerate(centres))


def write_video(
    path: Path, frames: Iterable[np.ndarray], fps: Fraction | int = 30,
    times: Sequence[Fraction] | None = None, pixel_format: str = "yuv420p", codec: str = "libx264",
    rotation: int = 0, audio: bool = False, options: dict[str, str] | None = None,
) -> Path:
    """Write RGB frames; `times` in multiples of 1/90000 s replace the constant rate; `rotation` clockwise."""
    container: Any = av.open(str(path), "w")
    stream = container.add_stream(codec, rate=Fraction(fps))
    stream.pix_fmt = pixel_format
    stream.codec_context.time_base = Fraction(1, 90000) if times is not None else 1 / Fraction(fps)
    if codec == "libx264":
        stream.options = {"crf": "10", "preset": "ultrafast", **(options or {})}
    sound = container.add_stream("aac", rate=16000) if audio else None
    if rotation:
        stream.set_display_rotation(-rotation)
    for k, image in enumerate(frames):
        if k == 0:
            stream.height, stream.width = image.shape[:2]
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), "rgb24")
        frame.pts = k if times is None else int(times[k] * 90000)
        frame.time_base = stream.codec_context.time_base
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
    if sound is not None:
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        silence.sample_rate, silence.pts = 16000, 0
        container.mux(sound.encode(silence))
        container.mux(sound.encode(None))
    container.close()
    return path


@pytest.fixture
def numbered_video(tmp_path: Path) -> Callable[..., Path]:
    """Write `count` numbered frames to a file in the test's folder; other arguments as `write_video`."""

    def write(count: int, size: tuple[int, int] = (90, 160), name: str = "video.mp4", **how: Any) -> Path:
        return write_video(tmp_path / name, (numbered(k, size) for k in range(count)), **how)

    return write


@pytest.fixture
def video_writer() -> Callable[..., Path]:
    """`write_video`."""
    return write_video


@pytest.fixture
def number_of() -> Callable[[np.ndarray], int]:
    """`read_number`."""
    return read_number


@pytest.fixture
def numbered_frame() -> Callable[..., np.ndarray]:
    """`numbered`."""
    return numbered
