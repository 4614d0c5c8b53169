"""Reads source videos in order, from the first frame to the last.

Sources are never entered in the middle: seeking is wrong on open groups of pictures, and counting frames is
wrong where the rate varies. Every frame carries its exact presentation time, counted from the first frame.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from annotate.ahead import Ahead

CONTAINERS = ("mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg,mxf,"
              "mp3,wav,flac,aac")  # the last four only to be able to say that they hold no video
ATTACHED_PICTURE = 0x400
"""FFmpeg's disposition flag of cover art, which is a video stream by name only."""

_SPACES = {1: "ITU709", 5: "ITU601", 6: "ITU601", 7: "SMPTE240M", 9: "BT2020", 10: "BT2020"}
_FULL_RANGE = 2
_AHEAD = 4
"""Pictures decoded before they are asked for."""


class UnreadableVideo(Exception):
    """A file that yields no video. `code` is short enough to count, `reason` is a sentence."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return UnreadableVideo, (self.code, self.reason)


@dataclass(frozen=True)
class VideoInfo:
    """What a file says about itself, and what its first frame adds."""

    container: str
    codec: str
    pixel_format: str
    stored_size: tuple[int, int]  # (height, width) as coded
    size: tuple[int, int]  # (height, width) as displayed: after rotation and pixel aspect
    quarter_turns: int  # clockwise, from stored to displayed
    fps: float | None  # average
    header_frames: int | None  # None when the container does not count
    duration_s: float | None  # of the video stream, None when not stated
    variable_rate: bool  # the stated average and base rates differ; unstated is False
    colour_space: str  # of the stored frames, by swscale's names; untagged SD is taken for BT.601
    full_range: bool


@dataclass
class ReadReport:
    """What reading a file to its end, or to where it breaks, brought to light."""

    frames: int = 0  # delivered, sound
    damaged: int = 0  # decoded with errors, or undecodable: not delivered
    out_of_order: int = 0  # not later than the frame before: not delivered
    lost_at: list[int] = field(default_factory=list)  # number of frames delivered before each of those
    code: str | None = None  # "truncated", "damaged"; None when the file is whole
    reason: str | None = None

    @property
    def seen(self) -> int:
        """Frames met, delivered or not."""
        return self.frames + self.damaged + self.out_of_order


@dataclass(frozen=True)
class SourceFrame:
    """One sound frame; `picture` is as stored: neither rotated nor scaled."""

    index: int  # among the delivered frames
    time_s: Fraction
    picture: av.VideoFrame


class _Lost:
    """Stands for a frame that is damaged or cannot be decoded."""


class VideoReader:
    """Frames of one local file in presentation order, with constant memory.

    Raises UnreadableVideo on construction when the file holds no video that can be decoded. Bad content
    behind the first frame is no exception: damaged frames are counted and left out up to the next sound
    one, and `report` says afterwards what was wrong. A thread decodes a few frames ahead of the iteration.
    """

    def __init__(self, path: str | Path) -> None:
        self.report = ReadReport()
        self._container, self._stream = open_video(Path(path))
        # One thread: with more, which frames a damaged file gives depends on their number.
        self._stream.thread_count, self._stream.thread_type = 1, "NONE"
        self._container_broke = False
        self._decoded: Ahead[av.VideoFrame | _Lost] | Generator[av.VideoFrame | _Lost, None, None]
        self._decoded = self._decode()
        try:
            self._first = self._next()
            if self._first is None:
                raise UnreadableVideo("undecodable", f"{Path(path).name}: not one frame of its "
                                      f"{self._stream.codec_context.name} stream can be decoded")
            self.info = _describe(self._container, self._stream, self._first)
        except BaseException:
            self._container.close()
            raise

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._decoded.close()  # it refers to this reader, which would otherwise stay for the collector
        self._container.close()

    def __iter__(self) -> Iterator[SourceFrame]:
        """The frames, once. Leaving early leaves `report` without its verdict."""
        if self._first is None:
            return
        base: int | None = None
        time_base = Fraction(self._stream.time_base or 1)
        period = Fraction(1) / Fraction(self._stream.average_rate or 25)
        last: Fraction | None = None
        frame: av.VideoFrame | None = self._first
        self._first = None
        if isinstance(self._decoded, Generator):
            self._decoded = Ahead(self._decoded, _AHEAD)
        while frame is not None:
            ticks = frame.pts if frame.pts is not None else frame.dts
            if base is None:
                stated = self._stream.start_time if self.report.lost_at else None
                base = stated if stated is not None else ticks or 0
            if ticks is not None:
                time_s = (ticks - base) * time_base
            else:
                time_s = last + period if last is not None else Fraction(0)
            if last is None or time_s > last:
                yield SourceFrame(self.report.frames, time_s, frame)
                self.report.frames += 1
                last = time_s
            else:
                self.report.out_of_order += 1
                self.report.lost_at.append(self.report.frames)
            frame = self._next()
        self._conclude(last if last is not None else Fraction(0), period)

    def _next(self) -> av.VideoFrame | None:
        """The next sound picture; those lost before it are counted."""
        for decoded in self._decoded:
            if not isinstance(decoded, _Lost):
                return decoded
            self.report.damaged += 1
            self.report.lost_at.append(self.report.frames)
        return None

    def _decode(self) -> Generator[av.VideoFrame | _Lost, None, None]:
        packets = self._container.demux(self._stream)
        broken = False  # an undecodable packet spoils what refers to it, up to the next key frame
        while True:
            try:
                packet = next(packets, None)
            except (av.FFmpegError, OSError):
                self._container_broke = True
                packet = None
            if packet is None:
                return
            try:
                frames = packet.decode()
            except av.FFmpegError:
                self._container_broke |= bool(packet.is_corrupt)
                yield _Lost()
                broken = True
                continue
            for frame in frames:
                broken = broken and not frame.key_frame
                if broken or frame.is_corrupt:
                    yield _Lost()
                else:
                    yield frame

    def _conclude(self, last: Fraction, period: Fraction) -> None:
        report, info = self.report, self.info
        expected_end = Fraction(info.duration_s or 0) * Fraction(49, 50)
        if info.header_frames is None:
            short = last + period < expected_end - 1
        else:
            # An edit list hides frames that the header counts; then the last one still comes when it should.
            fewer = report.seen < info.header_frames - max(1, info.header_frames // 100)
            short = fewer and (info.duration_s is None or last + period < expected_end)
        if short or self._container_broke:
            stated = (f"{info.header_frames} frames" if info.header_frames is not None
                      else f"{info.duration_s} s" if info.duration_s is not None else "more")
            report.code = "truncated"
            report.reason = (f"the file ends early: its header states {stated}, {report.frames} sound frames "
                             f"up to {float(last):.3f} s could be read")
        elif report.damaged:
            report.code = "damaged"
            report.reason = f"{report.damaged} frames are damaged; the other {report.frames} could be read"


def probe(path: str | Path) -> VideoInfo:
    """What the file says about itself. Raises UnreadableVideo unless its first frame can be decoded."""
    with VideoReader(path) as reader:
        return reader.info


def count_frames(path: str | Path) -> int:
    """Frames of a video, damaged ones among them."""
    with VideoReader(path) as reader:
        for _ in reader:
            pass
        return reader.report.seen


def read_frames(path: str | Path, width: int | None = None) -> Iterator[tuple[Fraction, np.ndarray]]:
    """Presentation time and (h, w, 3) BGR image as displayed, at most `width` wide, of every sound frame."""
    with VideoReader(path) as reader:
        for frame in reader:
            yield frame.time_s, bgr(frame.picture, reader.info, width)


def bgr(picture: av.VideoFrame, info: VideoInfo, width: int | None = None) -> np.ndarray:
    """(h, w, 3) BGR uint8 of a stored picture as displayed, shrunk to `width` where it is wider."""
    height, full_width = info.size
    if width is not None and width < full_width:
        height, full_width = max(1, round(height * width / full_width)), width
    stored = (full_width, height) if info.quarter_turns % 2 else (height, full_width)
    image = reformat(picture, info, stored, "bgr24").to_ndarray()
    return np.ascontiguousarray(np.rot90(image, -info.quarter_turns)) if info.quarter_turns else image


def reformat(
    picture: av.VideoFrame, info: VideoInfo, size: tuple[int, int], pixel_format: str,
) -> av.VideoFrame:
    """A stored picture at `size` = (height, width) before rotation, in BT.709, limited range if YUV."""
    shrinks = size[0] * size[1] <= picture.height * picture.width
    return picture.reformat(
        width=size[1], height=size[0], format=pixel_format, interpolation="AREA" if shrinks else "LANCZOS",
        src_colorspace=info.colour_space, dst_colorspace="ITU709",
        src_color_range="JPEG" if info.full_range else "MPEG", dst_color_range="MPEG", threads=1)


def open_video(path: Path) -> tuple[Any, Any]:
    """The container and the video stream that counts. Raises UnreadableVideo."""
    name = path.name
    try:
        if path.stat().st_size == 0:
            raise UnreadableVideo("empty", f"{name}: the file is empty")
        # Lists and still images are not containers; nothing a file says may make us open another one.
        container = av.open(str(path), options={"format_whitelist": CONTAINERS, "protocol_whitelist": "file"},
                            metadata_errors="replace")
    except (av.FFmpegError, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise UnreadableVideo("missing", f"{name}: no such file") from None
        raise UnreadableVideo("unreadable", f"{name}: not a video file, or its index is missing") from None
    streams = [s for s in container.streams.video if not int(s.disposition) & ATTACHED_PICTURE]
    if not streams:
        kinds = sorted({s.type for s in container.streams})
        container.close()
        raise UnreadableVideo("no_video", f"{name}: no video stream, only {', '.join(kinds) or 'nothing'}")
    stream = max(streams, key=lambda s: (int(s.disposition) & 1, s.width * s.height, -s.index))
    if stream.codec_context is None:
        container.close()
        raise UnreadableVideo("codec", f"{name}: no decoder for its video stream")
    return container, stream


def _tagged_duration(stream: Any) -> Fraction | None:
    """Seconds that Matroska states for each stream in a tag, as "00:01:02.345000000"."""
    for name, value in stream.metadata.items():
        if name.upper().startswith("DURATION"):
            clock = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", value.strip())
            if clock:
                return int(clock[1]) * 3600 + int(clock[2]) * 60 + Fraction(clock[3])
    return None


def _describe(container: Any, stream: Any, first: av.VideoFrame) -> VideoInfo:
    turns = round(-first.rotation / 90) % 4
    stored = (first.height, first.width)
    aspect = Fraction(stream.sample_aspect_ratio or 1) or Fraction(1)
    displayed = (stored[0], max(1, round(stored[1] * aspect)))
    average, base = stream.average_rate, stream.base_rate
    duration = stream.duration * stream.time_base if stream.duration else _tagged_duration(stream)
    if duration is None and container.duration and len(container.streams) == 1:
        duration = Fraction(container.duration, av.time_base)
    pixel_format = first.format.name
    untagged = "ITU601" if stored[0] <= 576 else "ITU709"
    return VideoInfo(
        container=container.format.name, codec=stream.codec_context.name, pixel_format=pixel_format,
        stored_size=stored, size=displayed[::-1] if turns % 2 else displayed, quarter_turns=turns,
        fps=float(average) if average else None, header_frames=stream.frames or None,
        duration_s=float(duration) if duration is not None else None,
        variable_rate=bool(average and base and abs(average / base - 1) > Fraction(1, 100)),
        colour_space=_SPACES.get(int(first.colorspace), untagged),
        full_range=int(first.color_range) == _FULL_RANGE or pixel_format.startswith("yuvj"),
    )
