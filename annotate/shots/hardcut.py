"""Hard cuts: proposed by PySceneDetect's detectors, then tried against every innocent explanation.

The library's content, adaptive and hash detectors run at low thresholds, so that they propose every cut
and much else. A proposal is a cut when no motion explains it (the frames before and after differ after
dense flow has aligned them, far more than neighbouring frames do) and when it lasts (no frame shortly
before resembles any shortly after, which clears camera flashes and single broken frames).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np

from annotate.shots.shift import best_shift, thumbnail

_CLOCK_S = 0.002  # containers may round times to milliseconds


@dataclass
class HardCutConfig:
    """When a change between two frames is a cut. Grey levels are of 0..255."""

    content: float = 20.0  # proposal: content score of neighbouring frames
    adaptive: float = 1.6  # proposal: content score over the mean of its four neighbours
    adaptive_content: float = 4.0  # proposal: least content score for the ratio to count
    hash_distance: float = 0.25  # proposal: share of differing bits of the perceptual hash
    ratio: float = 1.9  # cut: unexplained change over that of the neighbourhood
    change: float = 3.0  # cut: least unexplained change, grey levels
    contrast_share: float = 0.1  # cut: least unexplained change over the contrast of the frames
    flash_s: float = 0.3  # a change undone within this time (from the frame before) is a flash, not a cut
    undone: float = 0.6  # remaining change over the whole change below which it counts as undone
    sweep: float = 0.04  # displacement, share of the frame, that makes a change a fast turn
    sweep_match: float = 0.9  # least correlation for that displacement to count
    neighbours: int = 10  # frames on either side that set the usual change


@dataclass
class _Frame:
    index: int
    time_s: float
    bgr: np.ndarray
    gray: np.ndarray
    contrast: float
    change: float | None = None  # unexplained change from the frame before; measured when asked for
    proposed: bool = False


class HardCutDetector:
    """Streaming detector of hard cuts; holds some thirty small frames."""

    def __init__(self, config: HardCutConfig) -> None:
        from scenedetect.detectors import AdaptiveDetector, ContentDetector, HashDetector

        self.config = config
        self._detectors = [
            ContentDetector(threshold=config.content, min_scene_len=0),
            AdaptiveDetector(adaptive_threshold=config.adaptive, min_scene_len=0,
                             min_content_val=config.adaptive_content),
            HashDetector(threshold=config.hash_distance, min_scene_len=0),
        ]
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._frames: deque[_Frame] = deque(maxlen=3 * config.neighbours + 2)
        self._grid: tuple[np.ndarray, np.ndarray] | None = None
        self._still = np.zeros((0, 0), np.float32)
        self.judged = 0  # cuts at frames below this have all been returned

    def push(self, index: int, time_s: float, bgr: np.ndarray, gray: np.ndarray) -> list[int]:
        """Take the next small frame; returns first frames of new shots, some frames late."""
        from scenedetect import FrameTimecode

        self._frames.append(_Frame(index, time_s, bgr, gray, float(gray.std())))
        timecode = FrameTimecode(index, fps=25.0)
        first = self._frames[0].index
        for detector in self._detectors:
            for proposal in detector.process_frame(timecode, bgr):
                self._frames[proposal.frame_num - first].proposed = True
        return self._judge(index - self.config.neighbours)

    def finish(self) -> list[int]:
        """Cuts among the last frames."""
        return self._judge(self._frames[-1].index) if self._frames else []

    def _judge(self, last: int) -> list[int]:
        cuts = []
        while self.judged <= last:
            position = self.judged - self._frames[0].index
            frame = self._frames[position]
            if frame.proposed and position > 0 and self._is_cut(position):
                cuts.append(frame.index)
            self.judged += 1
        return cuts

    def _is_cut(self, position: int) -> bool:
        config = self.config
        before, after = self._frames[position - 1], self._frames[position]
        change = self._change(position)
        if change < max(config.change, config.contrast_share * min(before.contrast, after.contrast)):
            return False
        limit = config.ratio * (self._usual_change(position) + 0.5)  # half a level of coding noise
        if change < limit or self._is_undone(position, max(limit, config.undone * change)):
            return False
        correlation, shift = best_shift(thumbnail(after.gray), thumbnail(before.gray))
        return correlation < config.sweep_match or shift < config.sweep

    def _usual_change(self, position: int) -> float:
        """Second largest change on the livelier side: one other cut nearby does not count as usual, and
        video that repeats frames (2 or 3 times, as converted rates do) is judged by its moving ones."""
        sides = (range(position - self.config.neighbours, position),
                 range(position + 1, position + 1 + self.config.neighbours))
        usual = 0.0
        for side in sides:
            changes = sorted(self._change(i) for i in side if 1 <= i < len(self._frames))
            usual = max(usual, changes[-2] if len(changes) > 1 else 0.0)
        return usual

    def _is_undone(self, position: int, limit: float) -> bool:
        """Whether some frame shortly before resembles some frame shortly after.

        They may differ by `limit`; by more if the change lies between a jump and its return, as the dying
        of a flash does while the camera moves on.
        """
        at, flash_s = self._frames[position].time_s, self.config.flash_s + _CLOCK_S
        jump = 0.0  # largest change between frame a and the one before `position`
        for a in range(position - 1, -1, -1):
            if at - self._frames[a].time_s > flash_s:
                break
            back = 0.0  # largest change behind `position` up to frame b
            for b in range(position, len(self._frames)):
                span_s = self._frames[b].time_s - self._frames[a].time_s
                if span_s > flash_s or b - a > self.config.neighbours:
                    break
                if b > position and jump:
                    back = max(back, self._change(b))
                allowed = max(limit, self.config.undone * min(jump, back))
                if b - a > 1 and self._difference(self._frames[a], self._frames[b]) < allowed:
                    return True
            if a > 0:
                jump = max(jump, self._change(a))
        return False

    def _change(self, position: int) -> float:
        frame = self._frames[position]
        if frame.change is None:
            frame.change = self._difference(self._frames[position - 1], frame)
        return frame.change

    def _difference(self, a: _Frame, b: _Frame) -> float:
        """Mean absolute difference in grey levels that motion between the frames does not explain."""
        direct = float(np.mean(cv2.mean(cv2.absdiff(a.bgr, b.bgr))[:3]))
        if direct < self.config.change:
            return direct
        height, width = a.gray.shape
        if self._grid is None:
            x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
            self._grid = (x, y)
        flow = np.asarray(self._flow.calc(b.gray, a.gray, self._still))
        aligned = cv2.remap(a.bgr, self._grid[0] + flow[..., 0], self._grid[1] + flow[..., 1],
                            cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return min(direct, float(np.mean(cv2.mean(cv2.absdiff(aligned, b.bgr))[:3])))
