"""What the server counts, for its operator."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable

_RECENT = 500
"""Chunks over which times are summed up."""


class Figures:
    """Counts since the start, and times of the last chunks. Not guarded: the engine's lock is."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.drives = self.chunks = self.frames = self.underruns = self.failures = 0
        self.refused: Counter[int] = Counter()
        self._making: deque[float] = deque(maxlen=_RECENT)
        self._due: deque[float] = deque(maxlen=_RECENT)
        self._first: deque[float] = deque(maxlen=_RECENT)
        self._lengths: deque[float] = deque(maxlen=_RECENT)

    def chunk(self, frames: int, fps: float, making_s: float, due_s: float, is_first: bool) -> None:
        """making_s: of the model; due_s: since it was due, the turns of others included."""
        self.chunks, self.frames = self.chunks + 1, self.frames + frames
        self._making.append(making_s)
        self._lengths.append(frames / fps)
        (self._first if is_first else self._due).append(due_s)

    def summary(self) -> dict[str, object]:
        making = sum(self._making)
        return {
            "uptime_s": round(time.monotonic() - self.begun, 1), "drives": self.drives,
            "refused": {str(status): count for status, count in sorted(self.refused.items())},
            "failures": self.failures, "chunks": self.chunks, "frames": self.frames,
            "underruns": self.underruns, "first_chunk_s": spread(self._first), "chunk_s": spread(self._due),
            "making_s": spread(self._making),
            "times_real_time": round(sum(self._lengths) / making, 3) if making else None,
        }


def spread(values: Iterable[float]) -> dict[str, float] | None:
    """Median and 95th percentile: the smallest value that so large a share lies at or below."""
    ordered = sorted(values)
    if not ordered:
        return None
    return {name: round(ordered[max(0, -(-len(ordered) * share // 100) - 1)], 4)
            for name, share in (("p50", 50), ("p95", 95))}
