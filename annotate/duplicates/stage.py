"""The stage that hashes clips; which of them are near-duplicates is found when all are hashed."""

from __future__ import annotations

from typing import Any

from annotate.duplicates.config import DuplicatesConfig
from annotate.duplicates.hashing import hash_frames, to_text
from annotate.stage import Clip, Resources, StageOutput

_WIDTH = 320  # of the greys, as the depth stage has them


class HashStage:
    """The record's `video_hash`."""

    name = "video_hash"
    version = "1"
    resources = Resources(num_cpus=1.0)

    def __init__(self, config: DuplicatesConfig | None = None) -> None:
        self._config = config or DuplicatesConfig()
        self._config.check()

    def settings(self) -> dict[str, Any]:
        return {"enabled": self._config.enabled, "every_s": self._config.every_s}

    def setup(self) -> None:
        """Nothing to load."""

    def gray_widths(self, size: tuple[int, int]) -> list[int]:
        return [_WIDTH] if self._config.enabled else []

    def process(self, clip: Clip) -> StageOutput:
        if not self._config.enabled:
            return StageOutput()
        step = max(1, round(self._config.every_s * float(clip.frames.fps)))
        return StageOutput({"video_hash": to_text(hash_frames(clip.frames.gray(_WIDTH)[::step]))})
