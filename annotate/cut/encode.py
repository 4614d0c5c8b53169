"""Writes clips: H.264 in MP4, closed groups of pictures, constant rate, equal bytes for equal frames."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
from av.video.frame import PictureType

BT709 = 1
LIMITED_RANGE = 1

_KEPT = "8x8dct=1:analyse=i4x4,i8x8:subme=1:deblock=0,0"
"""What x264's ultrafast preset is denied: it costs a tenth more time and saves a third of the bytes.

Against superfast at one crf lower, clips are as good and as large, and take half the time to write and, since
they are without CABAC, to read, which every stage does.
"""


class ClipWriter:
    """Encodes one clip in memory.

    A key frame starts every second and no frame refers across it, so the clip can be entered at any of
    them; the index lies at the front. One thread and no time stamps of the machine: equal frames and
    settings give equal bytes. Raises ValueError for sizes 4:2:0 cannot hold.
    """

    def __init__(
        self, size: tuple[int, int], fps: int | Fraction = 16, crf: int = 19, preset: str = "ultrafast",
    ) -> None:
        height, width = size
        if height < 2 or width < 2 or height % 2 or width % 2:
            raise ValueError(f"clip size {width}x{height}: 4:2:0 video needs even, positive sides")
        self.size = size
        self.frames = 0
        self._tick = 1 / Fraction(fps)
        self._buffer = buffer = io.BytesIO()
        self._container = av.open(
            self._buffer, "w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"},
            # To move the index to the front the muxer reads back what it wrote. No reference to self: a
            # cycle would keep every encoder until the next collection.
            io_open=lambda url, flags, options: io.BytesIO(buffer.getvalue()),
        )
        stream = self._container.add_stream("libx264", rate=Fraction(fps))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"preset": preset, "crf": str(crf), "threads": "1", "sc_threshold": "0",
                          "x264-params": "open-gop=0" + (f":{_KEPT}" if preset == "ultrafast" else "")}
        context = stream.codec_context
        context.time_base = self._tick
        context.gop_size = max(1, round(fps))
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED_RANGE
        context.sample_aspect_ratio = Fraction(1)
        self._stream = stream

    def add(self, frame: av.VideoFrame | np.ndarray) -> None:
        """Append a frame: (H, W, 3) RGB uint8, or a yuv420p frame in BT.709 limited range."""
        if isinstance(frame, np.ndarray):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "rgb24").reformat(
                format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG", interpolation="AREA",
                threads=1)
        if (frame.height, frame.width) != self.size:
            raise ValueError(f"frame {self.frames} is {frame.width}x{frame.height}, the clip is "
                             f"{self.size[1]}x{self.size[0]}")
        frame.pts, frame.time_base = self.frames, self._tick
        frame.pict_type = PictureType.NONE
        self.frames += 1
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def finish(self) -> bytes:
        """Bytes of the finished MP4. The writer takes no frames afterwards."""
        for packet in self._stream.encode(None):
            self._container.mux(packet)
        self._container.close()
        return self._buffer.getvalue()

    def discard(self) -> None:
        """Give up the clip. Without it, an unfinished encoder stays until the next collection."""
        self._container.close()
