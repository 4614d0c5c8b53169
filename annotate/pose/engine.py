"""The interface of a pose engine."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from annotate.frames import Frames
from dataset.clip import CameraTrack


class PoseEngine(Protocol):
    """Estimates the camera of every frame of one clip.

    Pure: equal input gives an equal track. A clip that cannot be posed comes back as a track whose
    `failure` says why; exceptions are for defects, not for difficult video.
    """

    name: str
    version: str

    def estimate(
        self, frames: Frames, timestamps: np.ndarray, intrinsics: np.ndarray | None = None
    ) -> CameraTrack:
        """frames: F images; timestamps (F,) seconds; intrinsics (F, 4) pixels of `frames.size` if known."""
        ...
