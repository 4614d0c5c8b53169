"""Blank stretches (black, white, any flat colour) and the fades that lead into and out of them.

A fade is followed outwards from the blank frames while contrast keeps growing.
"""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np

from annotate.shots.dissolve import PROJECTED, DissolveConfig, Gap

_STRIDE = 4  # frames over which growth is measured: motion makes it uneven from frame to frame
_GROWTH = 1.04  # of contrast over so many frames of a fade, away from the blank
_FADED = 1.5  # of contrast over all frames of a fade


class BlankDetector:
    """Streaming detector of blank stretches and the fades that lead into and out of them."""

    def __init__(self, config: DissolveConfig) -> None:
        self.config = config
        self._contrasts: deque[float] = deque(maxlen=config.max_frames)  # up to the blank or newest frame
        self._index = 0
        self._start: int | None = None  # of the stretch, with its fade-out
        self._fades_out = False
        self._run = 0  # blank frames in a row
        self._rising_from: int | None = None  # first frame after the stretch

    @property
    def settled(self) -> int:
        """No stretch but the open one that `push` has yet to return begins before this frame."""
        return self._index - self.config.max_frames

    @property
    def open(self) -> Gap | None:
        """The stretch that has not ended, as far as it is certain; how it ends is not."""
        if self._start is None:
            return None
        until = self._index if self._rising_from is None else self._rising_from
        return Gap(max(0, self._start), until, fades_out=self._fades_out)

    def push(self, gray: np.ndarray) -> list[Gap]:
        """Take the next small luma frame; returns stretches that have ended."""
        small = cv2.resize(gray, PROJECTED, interpolation=cv2.INTER_AREA)
        contrast = float(small.std())
        gaps: list[Gap] = []
        if contrast < self.config.blank_contrast:
            self._run += 1
            if self._run == self.config.blank_frames and self._start is None:
                self._open(self._index - self._run + 1)
            self._rising_from = None
        else:
            if self._start is not None:
                gaps = self._rise(contrast)
            self._run = 0
        self._contrasts.append(contrast)
        self._index += 1
        return gaps

    def finish(self) -> list[Gap]:
        """The stretch that the video ends in, if it does."""
        if self._start is None:
            return []
        return [self._close(self._index, fades_in=False)]

    def _open(self, first: int) -> None:
        before = list(self._contrasts)[:len(self._contrasts) - self.config.blank_frames + 1]
        steps = 0
        while steps + 1 < len(before) and before[max(0, len(before) - steps - 1 - _STRIDE)] > (
                _GROWTH * before[-steps - 1]):
            steps += 1
        if steps and before[-steps - 1] < _FADED * before[-1]:
            steps = 0
        self._fades_out = steps > 0 or (len(before) > 0 and self._is_faint(before[-1]))
        self._start = first - steps - (1 if steps else 0)

    def _rise(self, contrast: float) -> list[Gap]:
        if self._rising_from is None:
            self._rising_from = self._index
            return []
        risen = self._index - self._rising_from
        earlier = self._contrasts[max(0, len(self._contrasts) - min(_STRIDE, risen))]
        if contrast > _GROWTH * earlier and risen < self.config.max_frames - 1:
            return []
        rose = self._contrasts[-1] > _FADED * self._contrasts[-risen]
        faint = self._is_faint(self._contrasts[-risen])
        return [self._close(self._index if rose else self._rising_from, fades_in=rose or faint)]

    def _is_faint(self, contrast: float) -> bool:
        """Whether a frame beside the blank shows so little that no cut lies between."""
        return contrast < 2 * self.config.blank_contrast

    def _close(self, end: int, fades_in: bool) -> Gap:
        gap = Gap(max(0, self._start or 0), end, fades_out=self._fades_out, fades_in=fades_in)
        self._start = self._rising_from = None
        return gap
