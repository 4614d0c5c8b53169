"""Where the camera of a video really was: one of the annotation's pose engines, and how far it strayed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from annotate.frames import Frames
from annotate.learned import LearnedConfig
from annotate.pose.engine import LearnedEngine, PoseEngine
from annotate.pose.learned.config import FeedForwardConfig, VipeConfig
from annotate.pose.stage import ENGINES, PoseStageConfig
from dataset.clip import CameraTrack, FrameVerdict, Motion
from dataset.trajectory import Alignment, CameraControlError, camera_control_error
from pipelines.evaluation.path import FPS

ALIGNMENTS = {"umeyama": Alignment.SIM3, "framewise": Alignment.FRAMEWISE}
"""Both in use, by the names the report gives them: Umeyama's Sim(3), and the released evaluator's."""
ENOUGH = 0.5
"""Share of the frames that must have poses for their errors to stand for a video's."""


@dataclass
class RecoveryConfig:
    """How the cameras of videos are found."""

    engine: str = "classical"  # a pose engine of the annotation: classical, vipe, pi3x, vggt, depth_anything3
    intrinsics: str = "requested"  # requested: those asked for are held fixed; estimated: the engine's
    feed_forward: FeedForwardConfig = field(default_factory=FeedForwardConfig)
    vipe: VipeConfig = field(default_factory=VipeConfig)
    learned: LearnedConfig = field(default_factory=LearnedConfig)

    def check(self) -> None:
        """Raises ValueError for values that make no sense."""
        if self.engine not in ENGINES:
            raise ValueError(f"recovery.engine={self.engine}: no such engine; known: {', '.join(ENGINES)}")
        if self.intrinsics not in ("requested", "estimated"):
            raise ValueError(f"recovery.intrinsics={self.intrinsics}, allowed requested or estimated")

    def open(self) -> PoseEngine:
        """The engine; its weights are loaded with the first video."""
        settings = PoseStageConfig(engine=self.engine, feed_forward=self.feed_forward, vipe=self.vipe)
        return ENGINES[self.engine](settings, self.learned)

    @property
    def num_gpus(self) -> float:
        """GPUs of a process that runs it."""
        return self.learned.num_gpus if isinstance(self.open(), LearnedEngine) else 0.0


def recover(
    engine: PoseEngine, frames: Frames, intrinsics: np.ndarray, config: RecoveryConfig,
) -> CameraTrack:
    """The cameras (F) of a video; intrinsics (F, 4) asked for, in pixels of its frames."""
    times = np.arange(len(frames)) / FPS
    return engine.estimate(frames, times, intrinsics if config.intrinsics == "requested" else None)


def control_errors(track: CameraTrack, wanted: np.ndarray) -> dict[str, CameraControlError]:
    """RotErr, TransErr and CamMC of the frames that have poses, by the name of the alignment.

    wanted (F, 4, 4): the path asked for, metres. Straight and still paths have errors like any other: what
    their alignment leaves open is settled by the orientations. Raises ValueError where less than half of the
    frames have poses.
    """
    posed = track.posed & np.isfinite(track.c2w).all((1, 2))
    if posed.mean() < ENOUGH or posed.sum() < 2:
        why = f": {track.failure}" if track.failure else ""
        raise ValueError(f"the camera was found in {posed.mean():.0%} of the frames, {ENOUGH:.0%} are "
                         f"needed{why}")
    return {name: camera_control_error(track.c2w[posed], wanted[posed], alignment)
            for name, alignment in ALIGNMENTS.items()}


def as_track(c2w: np.ndarray, intrinsics: np.ndarray, size: tuple[int, int]) -> CameraTrack:
    """A path that was asked for, as a track in metres."""
    count = len(c2w)
    return CameraTrack(
        c2w=c2w, intrinsics=intrinsics, size=size, timestamps=np.arange(count) / FPS,
        sigma_position=np.zeros(count), sigma_rotation_deg=np.zeros(count),
        frame_verdict=np.full(count, FrameVerdict.GIVEN, np.uint8), motion=Motion.PARALLAX,
        engine="asked for", unit="m")
