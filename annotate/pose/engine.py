"""The interface of a pose engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from annotate.frames import Frames
from annotate.weights import Needs
from dataset.clip import CameraTrack, DepthMaps

if TYPE_CHECKING:
    from annotate.pose.learned.feed_forward import Structure


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


@runtime_checkable
class StructureEngine(PoseEngine, Protocol):
    """An engine that sees cameras and depth together, in one unit."""

    def structure(
        self, frames: Frames, timestamps: np.ndarray, intrinsics: np.ndarray | None, every: int
    ) -> Structure:
        """Cameras as `estimate` gives them, and depth of every `every`-th frame."""
        ...


@runtime_checkable
class LearnedEngine(PoseEngine, Protocol):
    """An engine that has weights."""

    def needs(self) -> list[Needs]:
        """What has to be installed for it."""
        ...


@runtime_checkable
class DepthGuided(PoseEngine, Protocol):
    """An engine that takes depth which came with the clip; its cameras then are in the unit of that depth."""

    def estimate_with_depth(
        self, frames: Frames, timestamps: np.ndarray, intrinsics: np.ndarray | None, depth: DepthMaps
    ) -> CameraTrack:
        """As `estimate`, with depth of some frames."""
        ...
