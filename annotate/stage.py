"""What a stage of annotation is. Stages know nothing of Ray, of shards or of each other.

A stage receives one clip (its record so far and the files earlier stages made), and returns record
fields and files. The runner in `pipelines` gives it workers with the resources it declares, remembers
what is finished, and never calls it twice for the same clip, settings and version.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from annotate.frames import ClipFrames
from dataset.clip import ClipRecord


@dataclass(frozen=True)
class Resources:
    """What one worker of a stage occupies."""

    num_cpus: float = 1.0
    num_gpus: float = 0.0
    batch_size: int = 1  # clips it is given at once; more than one for a `BatchStage` alone


@dataclass
class Clip:
    """One clip on its way through the stages.

    `files` maps a name ("mp4", "given.npz", "pose.npz", "camera.npz", "depth.npz") to bytes and reads
    lazily; `frames` decodes the clip's own video on demand and is shared by all stages of one worker.
    """

    record: ClipRecord
    files: Mapping[str, bytes]
    frames: ClipFrames


@dataclass
class StageOutput:
    """What a stage found: values for fields of `ClipRecord`, and new or replaced files."""

    fields: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


class ClipStage(Protocol):
    """One question asked of a clip.

    `version` changes whenever the stage would answer differently for the same input; together with
    `settings()` it keys the ledger.
    """

    name: str
    version: str
    resources: Resources

    def settings(self) -> dict[str, Any]:
        """Everything configurable that changes the answer, as plain values."""
        ...

    def setup(self) -> None:
        """Load models, once per worker."""
        ...

    def gray_widths(self, size: tuple[int, int]) -> list[int]:
        """Widths of `Frames.gray` it will ask for in clips of `size` = (height, width).

        A hint, so that the clip is decoded once for all stages of a worker; asking for others costs a pass.
        """
        ...

    def process(self, clip: Clip) -> StageOutput:
        """Answer for one clip. Pure; difficult video is an answer, not an exception."""
        ...


@runtime_checkable
class BatchStage(ClipStage, Protocol):
    """A stage that answers sooner for several clips at once, up to `resources.batch_size` of them."""

    def process_batch(self, clips: Sequence[Clip]) -> Sequence[StageOutput]:
        """An answer for each clip, in order, each as `process` gives it for that clip alone.

        Where it raises, the clips are given to it one by one.
        """
        ...
