"""Where a video is cut: hard cuts, fades and dissolves, found in one pass over small frames.

Memory is bounded by the configuration, except for eight bytes of time a frame.
"""

from __future__ import annotations

from array import array
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
    """Frames of one shot; gradual transitions and blank stretches belong to no shot.

    Frames are counted from 0 in presentation order over all frames pushed; times are presentation times
    in seconds as pushed.
    """

    start_frame: int
    end_frame: int  # exclusive
    start_s: float  # of the first frame
    last_s: float  # of the last frame
    end_s: float  # of the first frame after the shot; at the end of the video last_s + one frame period
    opens_with: Boundary
    closes_with: Boundary


@dataclass
class ShotConfig:
    """How shots are found."""

    long_side: int = 160  # frames are shrunk to this many pixels along their longer side
    hard: HardCutConfig = field(default_factory=HardCutConfig)
    gradual: DissolveConfig = field(default_factory=DissolveConfig)


class ShotDetector:
    """Finds the shots of one video from its frames in presentation order."""

    def __init__(self, config: ShotConfig) -> None:
        self.config = config
        self._times = array("d")
        self._size: tuple[int, int] | None = None  # (width, height) of the analysis
        self._hard = HardCutDetector(config.hard)
        self._dissolves = DissolveDetector(config.gradual)
        self._blanks = BlankDetector(config.gradual)
        self._cuts: list[int] = []
        self._gaps: list[Gap] = []

    def push(self, time_s: float, bgr: np.ndarray) -> None:
        """Take the next frame: presentation time in seconds and (h, w, 3) uint8 BGR of any size."""
        if self._size is None:
            height, width = bgr.shape[:2]
            shrink = min(1.0, self.config.long_side / max(height, width))
            self._size = (max(16, round(width * shrink)), max(16, round(height * shrink)))
        if bgr.shape[1::-1] != self._size:
            bgr = cv2.resize(bgr, self._size, interpolation=cv2.INTER_AREA)
        gray = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
        self._cuts += self._hard.push(len(self._times), time_s, bgr, gray)
        self._gaps += self._dissolves.push(gray) + self._blanks.push(gray)
        self._times.append(time_s)

    def finish(self) -> list[Shot]:
        """All shots of the video, in order; empty when it holds nothing but blank frames."""
        if not self._times:
            return []
        self._cuts += self._hard.finish()
        self._gaps += self._dissolves.finish() + self._blanks.finish()
        return self._between(_merged(self._gaps))

    def _between(self, gaps: list[Gap]) -> list[Shot]:
        """Shots between the gaps, parted at the cuts that lie in no gap."""
        count = len(self._times)
        shots: list[Shot] = []
        position, opens = 0, Boundary.start
        for gap in [*gaps, Gap(count, count)]:
            # a cut at the very edge of a gap parts the shot from frames that the gap holds already
            inside = [cut for cut in self._cuts if position < cut < gap.start]
            for cut in inside:
                shots.append(self._shot(position, cut, opens, Boundary.cut))
                position, opens = cut, Boundary.cut
            closes = Boundary.end if gap.start == count else _edge(gap, gap.fades_out)
            if gap.start > position:
                shots.append(self._shot(position, gap.start, opens, closes))
            position, opens = gap.end, _edge(gap, gap.fades_in)
        return shots

    def _shot(self, start: int, end: int, opens: Boundary, closes: Boundary) -> Shot:
        times = self._times
        last_s = times[end - 1]
        if end < len(times):
            end_s = times[end]
        else:
            steps = np.diff(np.frombuffer(times, np.float64)[-50:])
            end_s = last_s + (float(np.median(steps)) if len(steps) else 0.0)
        return Shot(start, end, times[start], last_s, end_s, opens, closes)


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
