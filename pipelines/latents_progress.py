"""The line that says how far encoding is."""

from __future__ import annotations

from typing import TextIO

from dataset.funnel import duration
from dataset.latents import LatentRecord, Status
from pipelines.progress import StatusLine


class EncodeProgress(StatusLine):
    """clips: of the selection; before: of them, in the latent set already."""

    def __init__(self, clips: int, before: int, stream: TextIO | None = None) -> None:
        super().__init__(stream)
        self._clips, self._before = clips, before
        self._done = self._failed = 0
        self._video_s = 0.0

    def clip(self, record: LatentRecord) -> None:
        """One more clip is through."""
        with self.lock:
            self._done += 1
            self._failed += record.status is Status.FAILED
            if record.status is Status.OK and record.frames and record.fps:
                self._video_s += record.frames / record.fps

    def line(self) -> str:
        elapsed, left = self.elapsed, self._clips - self._before - self._done
        parts = [f"clips {self._before + self._done:,}/{self._clips:,}"]
        if self._failed:
            parts.append(f"{self._failed:,} failed")
        parts.append(f"{self._video_s / elapsed:.2f} s of video per s")
        if self._done and left:
            parts.append(f"ETA {duration(elapsed / self._done * left)}")
        return "  |  ".join([*parts, duration(elapsed)])
