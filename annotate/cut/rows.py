"""The index rows that cutting one source leaves behind."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from fractions import Fraction

from annotate.cut.bars import Bars
from annotate.cut.piece import Span, Window
from annotate.decode import ReadReport, VideoInfo
from annotate.source.item import SourceItem
from dataset.clip import ClipRecord, Kind, Verdict, clip_id


@dataclass(frozen=True)
class Rows:
    """Rows of one source. `info` is None while the file could not be opened, `bars` where nobody looked."""

    item: SourceItem
    video_id: str
    info: VideoInfo | None = None
    bars: Bars | None = None

    def clip_id(self, window: Window, frames: int, fps: int, size: tuple[int, int]) -> str:
        """Name of the clip that a window makes once it holds so many frames."""
        return clip_id(self.video_id, float(window.start_s), frames, fps, size)

    def clip(self, window: Window, fps: int, size: tuple[int, int], report: ReadReport) -> ClipRecord:
        """Row of a clip; `end_s` is the time of its last frame."""
        first, last = window.frames[0], window.frames[-1]
        return dataclasses.replace(
            self._shared(Kind.CLIP), clip_id=self.clip_id(window, len(window.frames), fps, size),
            shot=window.shot,
            start_s=float(window.start_s),
            end_s=float(window.start_s + Fraction(len(window.frames) - 1, fps)),
            corrupt_frames=sum(bool(first < at <= last) for at in report.lost_at),
            frames=len(window.frames), fps=float(fps), width=size[1], height=size[0])

    def span(self, span: Span) -> ClipRecord:
        """Row of a piece that makes no clip; `end_s` is exclusive."""
        edges = round(span.start_s * 10**6), round(span.end_s * 10**6)
        return dataclasses.replace(
            self._shared(Kind.SPAN), clip_id=self._name(Kind.SPAN, span.reason, *edges), shot=span.shot,
            start_s=float(span.start_s), end_s=float(span.end_s), verdict=Verdict.REJECTED,
            reasons=[span.reason], detail=span.detail)

    def video(self, reason: str, detail: str, verdict: Verdict = Verdict.FAILED) -> ClipRecord:
        """Row of a source with which something is wrong as a whole."""
        return dataclasses.replace(
            self._shared(Kind.VIDEO), clip_id=self._name(Kind.VIDEO, reason), start_s=self.item.start_s,
            end_s=self.item.end_s, verdict=verdict, reasons=[reason], detail=detail)

    def _name(self, *parts: object) -> str:
        text = "|".join(map(str, (self.video_id, *parts)))
        return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()

    def _shared(self, kind: Kind) -> ClipRecord:
        item, info = self.item, self.info
        record = ClipRecord(clip_id="", video_id=self.video_id, kind=kind, uri=item.uri, source=item.source,
                            licence=item.licence, caption=item.caption)
        if info is not None:
            record.source_height, record.source_width = info.size
            record.source_fps, record.source_codec = info.fps, info.codec
        if self.bars is not None:
            record.bars_top, record.bars_bottom = self.bars.top, self.bars.bottom
            record.bars_left, record.bars_right = self.bars.left, self.bars.right
        return record
