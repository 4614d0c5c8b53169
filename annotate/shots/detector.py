"""Where a video is cut: hard cuts, fades and dissolves, found in one pass over small frames.

What no later frame can change is handed out at once. Memory is bounded by the configuration, but for a few
words a shot.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

import cv2
import numpy as np

from annotate.shots.blank import BlankDetector
from annotate.shots.dissolve import DissolveConfig, DissolveDetector, Gap
from annotate.shots.hardcut import HardCutConfig, HardCutDetector


class Boundary(StrEnum):
    """What lies at an end of a shot."""

    start = "start"  # the video begins here
    end = "end"  # the video ends here
    cut = "cut"
    fade = "fade"
    dissolve = "dissolve"


@dataclass(frozen=True)
class Shot:
    """Frames of one shot, counted from 0; gradual transitions and blank stretches belong to no shot."""

    start_frame: int
    end_frame: int  # exclusive
    opens_with: Boundary
    closes_with: Boundary


@dataclass(frozen=True)
class OpenShot:
    """What is certain of the shot behind the last one whose two ends are."""

    start_frame: int
    stop_frame: int  # frames before it belong to the shot, if any; exclusive
    opens_with: Boundary
    is_over: bool  # it ends at `stop_frame`; only how it ends is open
    ends_by: int | None  # it holds no frame from here on; None while no end is in sight


@dataclass
class ShotConfig:
    """How shots are found."""

    long_side: int = 160  # frames are shrunk to this many pixels along their longer side
    hard: HardCutConfig = field(default_factory=HardCutConfig)
    gradual: DissolveConfig = field(default_factory=DissolveConfig)


class ShotDetector:
    """Finds the shots of one video from its frames in presentation order.

    With the default settings a frame becomes certain 74 frames after it came (3.1 s at 24 frames a second,
    1.2 s at 60), around a dissolve up to some 180, and at the latest when the video ends.
    """

    def __init__(self, config: ShotConfig) -> None:
        self.config = config
        self.shots: list[Shot] = []  # those whose two ends are certain
        self.open = OpenShot(0, 0, Boundary.start, is_over=False, ends_by=None)
        self.settled = 0  # of frames before this one it is certain which shot they belong to, if any
        self._count = 0
        self._size: tuple[int, int] | None = None  # (width, height) of the analysis
        self._hard = HardCutDetector(config.hard)
        self._dissolves = DissolveDetector(config.gradual)
        self._blanks = BlankDetector(config.gradual)
        self._cuts: list[int] = []  # not yet an end of a shot, nor known to lie in a gap
        self._gaps: list[Gap] = []  # behind the last shot in `shots`

    def push(self, time_s: float, bgr: np.ndarray) -> None:
        """Take the next frame: presentation time in seconds and (h, w, 3) uint8 BGR of any size."""
        if self._size is None:
            height, width = bgr.shape[:2]
            shrink = min(1.0, self.config.long_side / max(height, width))
            self._size = (max(16, round(width * shrink)), max(16, round(height * shrink)))
        if bgr.shape[1::-1] != self._size:
            bgr = cv2.resize(bgr, self._size, interpolation=cv2.INTER_AREA)
        gray = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
        self._cuts += self._hard.push(self._count, time_s, bgr, gray)
        self._gaps += self._dissolves.push(gray) + self._blanks.push(gray)
        self._count += 1
        self._advance(min(self._hard.judged, self._dissolves.settled, self._blanks.settled))

    def finish(self) -> list[Shot]:
        """All shots of the video, in order; empty when it holds nothing but blank frames."""
        self._cuts += self._hard.finish()
        self._gaps += self._dissolves.finish() + self._blanks.finish()
        self._advance(self._count + 1)
        if self._count > self.open.start_frame:
            self._end_shot(self._count, Boundary.end, self._count, Boundary.end)
        self.settled = self._count
        return self.shots

    def _advance(self, frontier: int) -> None:
        """Hand out what is certain now that no gap and no cut can be added before frame `frontier`."""
        blank = self._blanks.open
        gaps = _merged([*self._gaps, *([blank] if blank else [])])
        while gaps and gaps[0].end < frontier and (blank is None or gaps[0].end < blank.start):
            gap = gaps.pop(0)
            self._part(gap.start)
            self._end_shot(gap.start, _edge(gap, gap.fades_out), gap.end, _edge(gap, gap.fades_in))
            self._gaps = [other for other in self._gaps if other.start > gap.end]
        certain = min([frontier, self._count, *(gap.start for gap in gaps[:1])])
        self._part(certain)
        start, ends = self.open.start_frame, [gap.start for gap in gaps] + self._cuts
        certain = max(certain, start)
        is_over = bool(gaps) and gaps[0].start == certain
        self.open = OpenShot(start, certain, self.open.opens_with, is_over, min(ends, default=None))
        self.settled = gaps[0].end if is_over else certain

    def _part(self, before: int) -> None:
        """Part the open shot at its cuts before a frame; no gap ends or begins there or earlier."""
        for cut in self._cuts:
            # a cut at the very edge of a gap parts the shot from frames that the gap holds already
            if self.open.start_frame < cut < before:
                self._end_shot(cut, Boundary.cut, cut, Boundary.cut)
        self._cuts = [cut for cut in self._cuts if cut >= before]

    def _end_shot(self, end: int, closes: Boundary, resumes: int, opens: Boundary) -> None:
        """End the open shot, if it has frames, and open the next one."""
        if end > self.open.start_frame:
            self.shots.append(Shot(self.open.start_frame, end, self.open.opens_with, closes))
        self._cuts = [cut for cut in self._cuts if cut > resumes]
        self.open = OpenShot(resumes, resumes, opens, is_over=False, ends_by=None)


def _edge(gap: Gap, fades: bool) -> Boundary:
    if gap.is_dissolve:
        return Boundary.dissolve
    return Boundary.fade if fades else Boundary.cut


def _merged(gaps: list[Gap]) -> list[Gap]:
    """Overlapping or touching gaps become one; a blank stretch within tells how its edges look."""
    merged: list[Gap] = []
    for gap in sorted(gaps, key=lambda gap: (gap.start, gap.end)):
        if merged and gap.start <= merged[-1].end:
            last = merged.pop()
            both = last.is_dissolve and gap.is_dissolve
            gap = Gap(last.start, max(last.end, gap.end), is_dissolve=both,
                      fades_out=last.fades_out or last.is_dissolve,
                      fades_in=gap.fades_in or gap.is_dissolve)
        merged.append(gap)
    return merged


def find_shots(frames: Iterable[tuple[float, np.ndarray]], config: ShotConfig) -> list[Shot]:
    """Shots of a video given as (presentation time in seconds, small BGR frame) in order."""
    detector = ShotDetector(config)
    for time_s, bgr in frames:
        detector.push(time_s, bgr)
    return detector.finish()
