"""The interface of an engine that gives depth in metres of single frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from annotate.frames import Frames
from annotate.weights import Needs
from dataset.clip import DepthMaps


class MetricDepthEngine(Protocol):
    """Depth of frames one by one. Equal input gives equal maps; raises for defects alone."""

    name: str
    version: str

    def needs(self) -> list[Needs]:
        """What has to be installed for it."""
        ...

    def estimate(self, frames: Frames, chosen: Sequence[int], intrinsics: np.ndarray | None) -> DepthMaps:
        """z in metres of the `chosen` frames. intrinsics (F, 4), pixels of `frames.size`, where known."""
        ...
