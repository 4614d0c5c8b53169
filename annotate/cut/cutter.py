"""From one source to its clips: one pass in order, memory bounded by the settings and not by the length.

Every source ends in rows: its clips, the spans that made none, and what was wrong with the file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import cv2
import numpy as np

from annotate.cut.bars import NO_BARS, find_bars
from annotate.cut.cameras import ClipCameras
from annotate.cut.framing import Framing
from annotate.cut.piece import Rules, Span
from annotate.cut.rows import Rows
from annotate.cut.walk import Encoding, Walk
from annotate.decode import UnreadableVideo, VideoReader
from annotate.shots.detector import ShotConfig
from annotate.source.cameras import BadCameras
from annotate.source.fetch import FetchError, LocalVideo, local_video, video_id
from annotate.source.item import SourceItem
from annotate.stage import Resources
from dataset.clip import ClipRecord, Verdict

MOST_OPEN_CLIPS = 8
PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")


@dataclass
class CutConfig:
    """What a clip is. Overlapping clips are encoded side by side, at most eight at once."""

    frames: int = 161  # of a clip; 8k + 1: 161 is 10 s, 961 is 60 s
    fps: int = 16  # of a clip
    overlap: int = 0  # frames that neighbouring clips of a shot share
    width: int = 1280  # of a clip, even
    height: int = 720  # of a clip, even
    upscale_max: float = 1.5  # a source that would have to be enlarged more than this makes no clip
    min_shot_s: float = 0.0  # shorter shots make no clip even if one would fit
    max_shot_s: float | None = None  # longer shots are divided into pieces of this length; null: never
    max_gap_s: float = 0.25  # where source frames are missing for longer, a shot is divided
    crop_bars: bool = True  # black bars around the picture are cut off; false: they stay in the clips
    crf: int = 19  # of x264: lower is better and larger
    preset: str = "ultrafast"  # of x264, but with sub-pixel motion, 8x8 transform and deblocking; slower ones
    # make smaller files, but from veryfast on (they look ahead) x264 gives other bytes now and then for
    # pictures less than 160 pixels wide
    shots: ShotConfig = field(default_factory=ShotConfig)  # how shots are found

    def check(self) -> None:
        """Raises ValueError for settings no clip can have."""
        if self.frames < 9 or self.frames % 8 != 1:
            raise ValueError(f"cut.frames={self.frames}: clips hold 8k+1 frames, 9 or more, such as 161")
        if not 1 <= self.fps <= 120:
            raise ValueError(f"cut.fps={self.fps}, allowed 1 to 120")
        stride = self.frames - self.overlap
        if self.overlap < 0 or stride < 1 or -(-self.frames // stride) > MOST_OPEN_CLIPS:
            most = self.frames - -(-self.frames // MOST_OPEN_CLIPS)
            raise ValueError(f"cut.overlap={self.overlap}, allowed 0 to {most} at cut.frames={self.frames}")
        for name in ("width", "height"):
            if getattr(self, name) < 16 or getattr(self, name) % 2:
                raise ValueError(f"cut.{name}={getattr(self, name)}: needs an even number, 16 or more")
        if self.preset not in PRESETS:
            raise ValueError(f"cut.preset={self.preset}, allowed: {', '.join(PRESETS)}")
        if not 0 <= self.crf <= 51:
            raise ValueError(f"cut.crf={self.crf}, allowed 0 to 51")
        length = (self.frames - 1) / self.fps
        if self.max_shot_s is not None and self.max_shot_s < length:
            raise ValueError(f"cut.max_shot_s={self.max_shot_s:g} is shorter than a clip, {length:g} s")
        if self.upscale_max <= 0 or self.max_gap_s <= 0 or self.min_shot_s < 0:
            raise ValueError(f"cut.upscale_max={self.upscale_max:g}, cut.max_gap_s={self.max_gap_s:g}: must "
                             f"be above 0; cut.min_shot_s={self.min_shot_s:g}: must not be negative")


@dataclass
class CutClip:
    """A row of the index and, for a clip, its files.

    "mp4"; "given.npz" and "given_depth.npz" where the manifest brought cameras or depth; "truth.npz" for
    synthetic video.
    """

    record: ClipRecord
    files: dict[str, bytes] = field(default_factory=dict)


class Cutter:
    """Cuts sources into clips. Raises ValueError for settings no clip can have.

    num_gpus: what one worker occupies, where sources are drawn on a GPU.
    """

    name = "cut"
    version = "3"

    def __init__(self, config: CutConfig, num_gpus: float = 0.0) -> None:
        config.check()
        self.config = config
        self.resources = Resources(num_cpus=1.0, num_gpus=num_gpus)

    def settings(self) -> dict[str, Any]:
        """Everything that changes which clips are made and what is in them."""
        return dataclasses.asdict(self.config)

    def setup(self) -> None:
        """One thread: the number of threads must not change a result, and workers share the machine."""
        cv2.setNumThreads(1)

    def cut(self, item: SourceItem, done: Collection[str] = ()) -> Iterator[CutClip]:
        """The rows of one source, each as soon as it is complete: clips in order of time, then all others.

        Rows whose id is in `done` are left out, and such clips are not encoded. A source that cannot be
        read gives one row of kind "video" that says why; one that breaks off gives its clips and that row.
        """
        try:
            with local_video(item) as local:
                yield from self._cut(Rows(item, local.video_id), local, done)
        except FetchError as error:
            rows = Rows(item, video_id(item, item.uri))
            yield from _unless_done([rows.video(error.code, str(error), error.verdict)], done)

    def _cut(self, rows: Rows, local: LocalVideo, done: Collection[str]) -> Iterator[CutClip]:
        item, config = rows.item, self.config
        try:
            with VideoReader(local.path) as reader:
                bars = None
                if config.crop_bars:
                    bars = find_bars(local.path, reader.info, item.start_s, item.end_s)
                rows = dataclasses.replace(rows, info=reader.info, bars=bars)
                framing = Framing.fit(reader.info.size, (config.height, config.width), bars or NO_BARS)
                if framing.enlargement > config.upscale_max:
                    yield from _unless_done([self._too_small(rows, framing)], done)
                    return
                cameras = ClipCameras.load(item, local, reader.info, framing, config.fps)
                walk = Walk(reader, framing, config.shots, self._rules(),
                            Encoding(config.fps, config.crf, config.preset), item.start_s, item.end_s)
                size, frames = framing.size, config.frames
                for window, mp4 in walk.clips(lambda w: rows.clip_id(w, frames, config.fps, size) in done):
                    record = rows.clip(window, config.fps, size, reader.report)
                    shown = np.array(window.frames, np.int64)
                    yield CutClip(record, {"mp4": mp4, **cameras.files(shown, window.times, reader.report)})
        except UnreadableVideo as error:
            yield from _unless_done([rows.video(error.code, error.reason)], done)
        except BadCameras as error:
            yield from _unless_done([rows.video("bad_cameras", str(error))], done)
        else:
            yield from _unless_done(self._other_rows(rows, walk), done)

    def _rules(self) -> Rules:
        c = self.config
        return Rules(c.frames, c.fps, c.overlap, c.min_shot_s, c.max_shot_s, c.max_gap_s)

    def _too_small(self, rows: Rows, framing: Framing) -> ClipRecord:
        height, width = framing.inner
        return rows.video(
            f"upscale>{self.config.upscale_max:g}",
            f"{width}x{height} would have to be enlarged {framing.enlargement:.2f} times; raise "
            "cut.upscale_max, or lower cut.width and cut.height", Verdict.REJECTED)

    def _other_rows(self, rows: Rows, walk: Walk) -> list[ClipRecord]:
        """Rows of spans without a clip, and of the file if something is wrong with it."""
        item, report, found = rows.item, walk.reader.report, [rows.span(span) for span in walk.spans]
        if item.start_s is not None and walk.first:
            begin = walk.begin_s if walk.begin_s is not None else Fraction(item.start_s)
            span = Span(Fraction(0), begin, "outside_span", "before the stated start")
            found.insert(0, rows.span(span))
        if walk.begin_s is None:
            stated = f"{item.start_s or 0:g} s to {'the end' if item.end_s is None else f'{item.end_s:g} s'}"
            found.append(rows.video("empty_span", f"no frame within the stated span, {stated}"))
        if report.code is not None:
            record = rows.video(report.code, report.reason or "")
            record.source_frames, record.corrupt_frames = report.frames, report.damaged
            found.append(record)
        return found


def _unless_done(records: list[ClipRecord], done: Collection[str]) -> Iterator[CutClip]:
    yield from (CutClip(record) for record in records if record.clip_id not in done)
