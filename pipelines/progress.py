"""One line that says how a run is doing; on a terminal it is rewritten in place."""

from __future__ import annotations

import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping
from typing import Self, TextIO

from dataset.clip import ClipRecord, Kind, Verdict
from dataset.funnel import duration

_TERMINAL_EVERY_S = 0.5
_PLAIN_EVERY_S = 15.0


class StatusLine(ABC):
    """Prints `line()` now and then, from a thread of its own, for the time of a `with` block.

    A subclass says what is in the line; whoever feeds it holds `lock` meanwhile.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._given = stream
        self._begun = time.monotonic()
        self._stop = threading.Event()
        self.lock = threading.Lock()
        self._thread = threading.Thread(target=self._tick, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        with self.lock:
            self._print(last=True)

    @abstractmethod
    def line(self) -> str:
        """The state in one line."""

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return max(time.monotonic() - self._begun, 1e-9)

    def _tick(self) -> None:
        while not self._stop.wait(_TERMINAL_EVERY_S if self._stream.isatty() else _PLAIN_EVERY_S):
            with self.lock:
                self._print()

    @property
    def _stream(self) -> TextIO:
        return self._given or sys.stderr  # asked for anew: it is another one while Ray starts

    def _print(self, last: bool = False) -> None:
        line = self.line()
        if self._stream.isatty():
            self._stream.write(f"\r\x1b[K{line}" + ("\n" if last else ""))
        else:
            self._stream.write(line + "\n")
        self._stream.flush()


class Progress(StatusLine):
    """Counts what the sink of an annotation reports.

    workers: number of workers of each stage, to tell which stage holds up the others.
    """

    def __init__(self, videos: int, videos_done: int, workers: Mapping[str, int],
                 stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._videos = videos
        self._before = videos_done
        self._done = videos_done
        self._shares: dict[str, float] = {}  # of videos that are under way
        self._workers = workers
        self._verdicts: Counter[Verdict] = Counter()
        self._lost_videos = 0
        self._video_seconds = 0.0
        self._stage_seconds: Counter[str] = Counter()

    def row(self, record: ClipRecord, seconds: Mapping[str, float], share: float | None = None) -> None:
        """A row got its verdict; seconds: what each stage spent on it; share: of its video, up to its end."""
        with self.lock:
            if share is not None:
                self._shares[record.uri] = max(share, self._shares.get(record.uri, 0.0))
            if record.kind is Kind.CLIP:
                self._verdicts[record.verdict] += 1
                if record.frames and record.fps:
                    self._video_seconds += record.frames / record.fps
            elif record.kind is Kind.VIDEO and record.verdict is Verdict.FAILED:
                self._lost_videos += 1
            self._stage_seconds.update(seconds)

    def videos(self, done: int) -> None:
        """So many videos are through, in this run."""
        with self.lock:
            self._done = self._before + done

    def line(self) -> str:
        """The state in one line."""
        elapsed = self.elapsed
        parts = [f"videos {self._done:,}/{self._videos:,}"]
        if self._lost_videos:
            parts.append(f"{self._lost_videos:,} failed")
        clips = " ".join(f"{verdict} {self._verdicts[verdict]:,}" for verdict in
                         (Verdict.KEPT, Verdict.REJECTED, Verdict.FAILED))
        parts += [f"clips {clips}", f"{self._video_seconds / elapsed:.2f} s of video per s"]
        if (left := self._left_s(elapsed)) is not None:
            parts.append(f"ETA {duration(left)}")
        if self._stage_seconds:
            parts.append(f"slowest {self._slowest()}")
        parts.append(duration(elapsed))
        return "  |  ".join(parts)

    def _left_s(self, elapsed: float) -> float | None:
        """Time that is left if the rest of the videos takes as long as those so far; None if unknown."""
        whole = self._done - self._before
        through = max(whole, sum(self._shares.values()))  # shares also count videos that are through
        left = self._videos - self._before - through
        return elapsed / through * left if through > 0 and left > 0 else None

    def _slowest(self) -> str:
        spent = self._stage_seconds
        return max(spent, key=lambda name: spent[name] / self._workers.get(name, 1))
