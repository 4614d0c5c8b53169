"""Videos as they leave: an MP4 that plays while it grows, and the record of a camera."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from infer.trajectory import FPS

_BT709, _LIMITED = 1, 1
_PIXEL_FRAMES = 32


class GrowingVideo:
    """An MP4 in fragments of at most a second: what is written so far can be played, and stays valid when
    the program ends early. One thread and no clock: equal frames give equal bytes.
    """

    def __init__(self, path: Path, size: tuple[int, int], crf: int = 18, fps: float = FPS) -> None:
        """Raises ValueError for sides that 4:2:0 video cannot hold."""
        if size[0] % 2 or size[1] % 2:
            raise ValueError(f"video of {size[1]} x {size[0]}: both sides must be even")
        self.size, self.frames = size, 0
        rate = Fraction(fps).limit_denominator(1001)
        flags = "frag_keyframe+empty_moov+default_base_moof"
        self._file = path.open("wb", buffering=0)
        self._container = av.open(self._file, "w", format="mp4",
                                  options={"movflags": flags, "fflags": "+bitexact"})
        stream = self._container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = size[1], size[0], "yuv420p"
        # Without look-ahead a frame leaves the encoder as soon as it enters.
        stream.options = {"preset": "fast", "tune": "zerolatency", "crf": str(crf), "threads": "1"}
        context = stream.codec_context
        context.gop_size = round(fps)
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED
        self._stream = stream

    def add(self, frames: np.ndarray) -> None:
        """Append frames (f, H, W, 3) uint8."""
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), "rgb24").reformat(
                format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG", threads=1)
            frame.pts, self.frames = self.frames, self.frames + 1
            self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()
        self._file.close()


def write_video(path: Path, chunks: Iterable[np.ndarray], crf: int = 18) -> Iterator[np.ndarray]:
    """Write chunks of frames (f, H, W, 3) while passing them on. The file grows as `<name>.partial.mp4` and
    takes its name when it is whole; where making it fails, what there is stays and can be played."""
    growing, writer = path.with_name(f"{path.stem}.partial{path.suffix}"), None
    try:
        for frames in chunks:
            if writer is None:
                path.parent.mkdir(parents=True, exist_ok=True)
                writer = GrowingVideo(growing, frames.shape[1:3], crf)
            writer.add(frames)
            yield frames
    finally:
        if writer is not None:
            writer.close()
    if writer is not None:
        growing.replace(path)


def to_pixels(video: Tensor) -> np.ndarray:
    """(1, 3, F, H, W) in [-1, 1] to frames (F, H, W, 3) uint8, some at a time: a minute of 720p is 10 GB in
    float32, and there is no room for it twice."""
    pixels = torch.cat([((part.float().clamp(-1, 1) + 1) * 127.5).round_().byte().cpu()
                        for part in video[0].split(_PIXEL_FRAMES, 1)], 1)
    return np.ascontiguousarray(pixels.permute(1, 2, 3, 0).numpy())


@dataclass(frozen=True)
class Video:
    """frames (F, H, W, 3) uint8    c2w (F, 4, 4), relative to the first pose asked for, metres
    intrinsics (F, 4) in pixels of the frames
    """

    frames: np.ndarray
    c2w: np.ndarray
    intrinsics: np.ndarray

    def save(self, path: str | Path, crf: int = 18) -> None:
        """An MP4, and beside it `camera.npz`."""
        path = Path(path)
        if path.suffix != ".mp4":
            raise ValueError(f"{path}: expected a name that ends in .mp4")
        for _ in write_video(path, [self.frames], crf):
            pass
        save_camera(path.with_name("camera.npz"), self.c2w, self.intrinsics, self.frames.shape[1:3])


def save_camera(path: Path, c2w: np.ndarray, intrinsics: np.ndarray, size: tuple[int, ...]) -> None:
    """Poses, intrinsics and size as a trajectory file that makes the same path again."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, c2w=c2w, intrinsics=intrinsics, size=np.array(size))
    write_whole(path, buffer.getvalue())


def write_whole(path: Path, data: bytes) -> None:
    """A file that appears complete or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.partial")
    unfinished.write_bytes(data)
    unfinished.replace(path)
