"""What the stages of learned scores have in common: a network loaded once a worker, licences, sampling."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from annotate.learned import LearnedConfig
from annotate.scores.config import ScoresConfig
from annotate.stage import Clip, Resources, StageOutput
from annotate.weights import Needs, licence_fields


class ScoreStage(ABC):
    """One network and the columns it fills."""

    name: str
    version = "1"

    def __init__(self, config: ScoresConfig, learned: LearnedConfig) -> None:
        config.check()
        self._config, self._learned = config, learned
        self.resources = Resources(num_cpus=1.0, num_gpus=learned.num_gpus)
        self._network: Any = None

    @abstractmethod
    def needs(self) -> list[Needs]:
        """What the network needs before a run may start."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What changes a score."""

    @abstractmethod
    def load(self) -> Any:
        """The network, on its device."""

    @abstractmethod
    def score(self, clip: Clip) -> dict[str, Any]:
        """Values by `ClipRecord` field; None where the clip allows no answer."""

    def setup(self) -> None:
        self._network = self.load()

    def gray_widths(self, size: tuple[int, int]) -> list[int]:
        return []

    def process(self, clip: Clip) -> StageOutput:
        return StageOutput(self.score(clip) | licence_fields(clip.record, self.needs()))


def every(clip: Clip, seconds: float, until_s: float | None = None) -> list[int]:
    """Frames of a clip so many seconds apart, from the first one on."""
    fps = float(clip.frames.fps)
    last = len(clip.frames) - 1 if until_s is None else min(len(clip.frames) - 1, int(until_s * fps))
    return list(range(0, last + 1, max(1, round(seconds * fps))))
