"""Dissolves, which no library detector finds.

A dissolve from scene A to scene B shows frames (1-w) A + w B with w rising from 0 to 1. When the scenes
are unrelated, three energies (luma variance, horizontal and vertical gradient energy) follow

    E(w) = (1-w)^2 E_A + w^2 E_B + 2 w (1-w) c        with c small,

a dip that the motion of either scene leaves alone, since motion moves energy about and motion blur takes
only the gradients along it. Meanwhile the projections of the frames on A and B trade places steadily, and
the middle frame is no shifted piece of either, which a pan's would be.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import cv2
import numpy as np

from annotate.shots.shift import best_shift, thumbnail

PROJECTED = (32, 18)  # long and short side of the frames that are projected on each other
_PATIENCE = 3  # longest dissolves' worth of frames that overlapping windows may stay undecided
_EMPTY = 0.2  # contrast of one end over the other's below which a dissolve is called a fade


@dataclass
class DissolveConfig:
    """When a gradual change is a transition. Energies are judged over mean(E_A, E_B)."""

    min_frames: int = 6  # shortest dissolve looked for
    max_frames: int = 64  # longest dissolve or fade looked for
    dip: float = 0.3  # largest c, mean of the three energies: 0 is a perfect dissolve, 1 no dip
    dip_worst: float = 0.6  # largest c of any of the three energies
    misfit: float = 0.13  # largest rms distance from the curve, mean of the three energies
    related: float = 0.6  # correlation of A and B above which they are the same scene
    progress: float = 0.9  # least correlation of the projections with time
    explained: float = 0.12  # least share of a middle frame that A and B explain together
    shifted: float = 0.82  # correlation with a shifted piece of both A and B above which it was motion
    sweep: float = 0.1  # displacement within two frames, share of the frame, that makes it a fast turn
    sweep_match: float = 0.9  # least correlation for that displacement to count
    blank_contrast: float = 2.0  # standard deviation of small luma below which a frame shows nothing
    blank_frames: int = 3  # blank frames in a row that part two shots


@dataclass(frozen=True)
class Gap:
    """Frames that belong to no shot. A blank stretch that neither fades in nor out has hard edges."""

    start: int
    end: int  # exclusive
    is_dissolve: bool = False
    fades_out: bool = False  # the shot before ends in a fade
    fades_in: bool = False  # the shot after begins with one


@dataclass(frozen=True)
class _Hit:
    start: int
    end: int
    error: float
    is_fade: bool


class DissolveDetector:
    """Streaming detector of dissolves; remembers some ninety thumbnails.

    Of overlapping windows the best is taken as soon as no later one can overlap them.
    """

    def __init__(self, config: DissolveConfig) -> None:
        self.config = config
        lengths, length = [], float(config.min_frames)
        while length <= config.max_frames:
            lengths.append(round(length))
            length = max(length * 1.2, length + 1)
        self._lengths = np.array(lengths)
        self._flanks = np.maximum(2, self._lengths // 6)
        self._keep = int(self._lengths[-1] + 2 * self._flanks[-1] + 2)
        self._reach = int((self._flanks + self._lengths).max())  # from the newest frame back to a window
        self._count = 0
        capacity = 4 * self._keep
        self._projected = np.zeros((capacity, PROJECTED[0] * PROJECTED[1]), np.float32)
        self._matched: deque[np.ndarray] = deque(maxlen=self._keep)
        self._energies = np.zeros((3, capacity))
        self._used = 0  # filled slots; the last one is frame `_count - 1`
        self._hits: list[_Hit] = []

    @property
    def settled(self) -> int:
        """No dissolve that `push` has yet to return begins before this frame."""
        future = self._count + 1 - self._reach - _margin(int(self._lengths[-1]))
        return min([future, *(hit.start - _margin(hit.end - hit.start) for hit in self._hits)])

    def push(self, gray: np.ndarray) -> list[Gap]:
        """Take the next small luma frame; returns dissolves that are now certain."""
        self._append(gray)
        gaps: list[Gap] = []
        oldest = self._count - _PATIENCE * self.config.max_frames
        for group in _overlapping(self._hits):
            # Windows that overlap without an end are settled for good once they hold too many frames up.
            if max(hit.end for hit in group) <= self._count - self._reach or group[0].start < oldest:
                gaps += self._settle(group)
        hit = self._best_window()
        if hit is not None:
            self._hits.append(hit)
        return gaps

    def finish(self) -> list[Gap]:
        """Dissolves among the last frames."""
        return self._settle(self._hits)

    def _append(self, gray: np.ndarray) -> None:
        if self._used == len(self._projected):
            keep = self._keep
            self._projected[:keep] = self._projected[-keep:]
            self._energies[:, :keep] = self._energies[:, -keep:]
            self._used = keep
        wide = gray.shape[1] >= gray.shape[0]
        tiny = cv2.resize(gray, PROJECTED if wide else PROJECTED[::-1], interpolation=cv2.INTER_AREA)
        vector = tiny.astype(np.float32).ravel()
        vector -= vector.mean()
        level = gray.astype(np.float32)
        slot = self._used
        self._projected[slot] = vector
        self._energies[:, slot] = (
            float(vector @ vector) / vector.size,
            float(np.mean(np.square(level[:, 1:] - level[:, :-1]))),
            float(np.mean(np.square(level[1:] - level[:-1]))),
        )
        self._matched.append(thumbnail(gray))
        self._used += 1
        self._count += 1

    def _best_window(self) -> _Hit | None:
        """The best dissolve whose flank ends with the newest frame; windows of all lengths are tried."""
        last = self._used - self._flanks  # first pure frame of B, as a slot
        first = last - self._lengths - 1  # last pure frame of A
        possible = np.flatnonzero(first - self._flanks + 1 >= 0)
        if not len(possible):
            return None
        first, last = first[possible], last[possible]
        ends = (self._energies[:, first] + self._energies[:, last]) / 2
        middle = self._energies[:, (first + last) // 2]
        promising = (middle / (ends + 1e-6)).mean(axis=0) < 0.5 + 0.5 * self.config.dip + self.config.misfit
        best: _Hit | None = None
        for k in possible[promising]:
            length, flank = int(self._lengths[k]), int(self._flanks[k])
            b = self._used - flank
            a = b - length - 1
            error = self._energy_error(a, b, flank)
            if error is None or (best is not None and error >= best.error):
                continue
            if self._trades_places(a, b) and not self._is_motion(a, b):
                start = self._count - (self._used - a) + 1
                contrasts = np.sqrt(self._energies[0, [a, b]])
                best = _Hit(start, start + length, error, contrasts.min() < _EMPTY * contrasts.max())
        return best

    def _energy_error(self, a: int, b: int, flank: int) -> float | None:
        """How far the energies are from a dissolve's; None when too far."""
        config = self.config
        w = np.arange(1, b - a) / (b - a)
        energies = self._energies
        energy_a = np.median(energies[:, a - flank + 1:a + 1], axis=1)
        energy_b = np.median(energies[:, b:b + flank], axis=1)
        if min(energy_a[0], energy_b[0]) < config.blank_contrast**2:
            return None
        mean = (energy_a + energy_b) / 2 + 1e-6
        shape = 2 * w * (1 - w)
        rest = energies[:, a + 1:b] - np.outer(energy_a, (1 - w) ** 2) - np.outer(energy_b, w**2)
        c = rest @ shape / (shape @ shape)
        misfit = np.sqrt(np.mean((rest - np.outer(c, shape)) ** 2, axis=1)) / mean
        c = c / mean
        if c.mean() > config.dip or c.max() > config.dip_worst or misfit.mean() > config.misfit:
            return None
        return float(misfit.mean() + 0.1 * c.mean())

    def _trades_places(self, a: int, b: int) -> bool:
        """Whether the frames between project less and less on A and more and more on B."""
        config = self.config
        frame_a, frame_b = self._projected[a].astype(float), self._projected[b].astype(float)
        aa, bb, ab = frame_a @ frame_a, frame_b @ frame_b, frame_a @ frame_b
        determinant = aa * bb - ab * ab
        if ab > config.related * np.sqrt(aa * bb) or determinant <= 1e-6 * aa * bb:
            return False
        between = self._projected[a + 1:b].astype(float)
        on_a, on_b = between @ frame_a, between @ frame_b
        share_a = (on_a * bb - on_b * ab) / determinant
        share_b = (on_b * aa - on_a * ab) / determinant
        trade = share_b - share_a
        if trade.std() < 1e-6 or np.corrcoef(trade, np.arange(len(trade)))[0, 1] < config.progress:
            return False
        total = np.einsum("ij,ij->i", between, between) + 1e-6
        explained = (share_a * on_a + share_b * on_b) / total
        quarter = (b - a) // 4
        return bool(explained[quarter:len(explained) - quarter].mean() >= config.explained)

    def _is_motion(self, a: int, b: int) -> bool:
        """Whether some middle frame holds a shifted piece of both ends, or the camera sweeps there."""
        config, newest = self.config, self._used
        image_a, image_b = self._matched[a - newest], self._matched[b - newest]
        for slot in (a + (b - a) // 3, (a + b) // 2, b - (b - a) // 3):
            middle = self._matched[slot - newest]
            if min(best_shift(middle, image_a)[0], best_shift(middle, image_b)[0]) >= config.shifted:
                return True
            correlation, shift = best_shift(middle, self._matched[slot + 2 - newest])
            if correlation >= config.sweep_match and shift >= config.sweep:
                return True
        return False

    def _settle(self, hits: list[_Hit]) -> list[Gap]:
        """The best of these windows that do not overlap, widened by what their ends are uncertain."""
        chosen: list[_Hit] = []
        for hit in sorted(hits, key=lambda hit: hit.error):
            if all(hit.end <= other.start or hit.start >= other.end for other in chosen):
                chosen.append(hit)
        self._hits = [hit for hit in self._hits if hit not in hits]
        gaps = []
        for hit in sorted(chosen, key=lambda hit: hit.start):
            margin = _margin(hit.end - hit.start)
            gaps.append(Gap(max(0, hit.start - margin), min(self._count, hit.end + margin),
                            not hit.is_fade, hit.is_fade, hit.is_fade))
        return gaps


def _margin(length: int) -> int:
    """Frames by which either end of a dissolve is uncertain."""
    return 1 + length // 4


def _overlapping(hits: list[_Hit]) -> list[list[_Hit]]:
    """Windows in groups of which none overlaps another."""
    groups: list[list[_Hit]] = []
    end = 0
    for hit in sorted(hits, key=lambda hit: hit.start):
        if groups and hit.start < end:
            groups[-1].append(hit)
        else:
            groups.append([hit])
        end = max(end, hit.end)
    return groups
