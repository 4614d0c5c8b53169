"""The pose stage: given cameras first, else an engine by name; then how far the answer can be trusted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from annotate.frames import Frames
from annotate.pose.config import ClassicalConfig
from annotate.pose.engine import PoseEngine
from annotate.pose.given import central_intrinsics, focal_for_poses, given_cameras, has_intrinsics
from annotate.pose.second import SecondConfig, is_chosen, second_opinion
from annotate.pose.selfcheck import Outcome, check_convention, check_own
from annotate.pose.tracks import working_size
from annotate.stage import Clip, Resources, StageOutput
from dataset.clip import CameraTrack, ClipRecord, Motion

GIVEN = "given"
MISREAD = "convention self-check"
"""How the failure of given cameras begins when the images contradict them."""


@dataclass
class PoseStageConfig:
    """Which engine estimates cameras, and how its answers are checked."""

    engine: str = "classical"  # the engine for clips that come without poses
    classical: ClassicalConfig = field(default_factory=ClassicalConfig)
    second: SecondConfig = field(default_factory=SecondConfig)


def _classical(config: PoseStageConfig) -> PoseEngine:
    from annotate.pose.classical import ClassicalEngine

    return ClassicalEngine(config.classical)


ENGINES: dict[str, Callable[[PoseStageConfig], PoseEngine]] = {"classical": _classical}
"""Every engine by its name; loading is left to the worker that runs it."""


class PoseStage:
    """Frames, and "given.npz" where the source brought cameras, to "pose.npz" and the record's pose columns.

    Raises ValueError for an engine nobody knows.
    """

    name = "pose"
    resources = Resources(num_cpus=1.0)

    def __init__(self, config: PoseStageConfig | None = None) -> None:
        self._config = config or PoseStageConfig()
        if self._config.engine not in ENGINES:
            raise ValueError(f"pose.engine={self._config.engine}: no such engine; "
                             f"known: {', '.join(ENGINES)}")
        self._engine = ENGINES[self._config.engine](self._config)
        self.version = f"1+{self._engine.name}-{self._engine.version}"

    def settings(self) -> dict[str, Any]:
        return dataclasses.asdict(self._config)

    def setup(self) -> None:
        import cv2

        cv2.setNumThreads(1)

    def gray_widths(self, size: tuple[int, int]) -> list[int]:
        return [working_size(size, self._config.classical.width)[1]]

    def process(self, clip: Clip) -> StageOutput:
        given = given_cameras(clip)
        if given is not None and given.posed.any():
            return self._honour(clip, given)
        known = given.intrinsics if given is not None and has_intrinsics(given) else None
        timestamps = given.timestamps if given is not None else _timestamps(clip)
        track = self._engine.estimate(clip.frames, timestamps, known)
        fields = track_fields(track)
        if track.failure is None:
            fields |= self._own_check(clip.frames, track)
            fields |= self.ask_again(clip, track, known)
        return StageOutput(fields, {"pose.npz": track.to_npz()})

    def _honour(self, clip: Clip, given: CameraTrack) -> StageOutput:
        """Cameras that came with the clip, bit for bit, unless the images say that they are misread."""
        fields: dict[str, Any] = {}
        if not has_intrinsics(given):
            focal, _ = focal_for_poses(clip.frames, given.c2w)
            if not np.isfinite(focal):
                failure = "poses came without intrinsics, and the images do not show which focal length fits"
                given = dataclasses.replace(given, failure=failure)
            else:
                intrinsics = central_intrinsics(focal, len(given.c2w), given.size)
                given = dataclasses.replace(given, intrinsics=intrinsics)
        if given.failure is None:
            check = check_convention(clip.frames, given.c2w, given.intrinsics)
            fields = {"selfcheck_sampson_px": _finite(check.stated.sampson_px),
                      "selfcheck_cheirality": _finite(check.stated.cheirality)}
            if check.outcome is Outcome.REFUSED:
                fields["detail"] = check.table()
                given = dataclasses.replace(given, failure=f"{MISREAD}: {check.reason}")
        fields |= track_fields(given)
        return StageOutput(fields, {"pose.npz": given.to_npz()})

    def _own_check(self, frames: Frames, track: CameraTrack) -> dict[str, Any]:
        if track.motion in (Motion.STATIC, Motion.ROTATION_ONLY):
            return {}
        sampson, cheirality = check_own(frames, track, self._config.classical.width)
        return {"selfcheck_sampson_px": _finite(sampson), "selfcheck_cheirality": _finite(cheirality)}

    def ask_again(self, clip: Clip, track: CameraTrack, known: np.ndarray | None) -> dict[str, Any]:
        """What a second engine thinks of the track, for sampled and doubtful clips that translate."""
        second = self._config.second
        doubtful = second.doubtful and track.diagnostics.get("doubts") is not None
        if not doubtful and not is_chosen(clip.record.clip_id, second.share):
            return {}
        if track.motion in (Motion.STATIC, Motion.ROTATION_ONLY):
            return {"agreement": "not asked: the mapper needs a camera that moves"}
        found = second_opinion(clip.frames, track, known, second)
        return {"agreement": found.reason, "pose_confirmed": found.agrees,
                "agreement_position": found.position, "agreement_rotation_deg": found.rotation_deg,
                "agreement_focal": found.focal if known is None else None}


def track_fields(track: CameraTrack) -> dict[str, Any]:
    """The columns of the index that a camera track fills by itself."""
    posed = track.posed
    diagnostics = track.diagnostics
    focal = track.intrinsics[posed, 0] if posed.any() else track.intrinsics[:, 0]
    known_focal = bool(np.isfinite(focal).any()) and track.motion is not Motion.STATIC
    sigma, path = track.sigma_position[posed], track.path_length
    return {
        "pose_engine": track.engine, "motion": str(track.motion), "pose_failure": track.failure,
        "posed_share": float(posed.mean()) if len(posed) else 0.0,
        "pose_inlier_share": _number(diagnostics.get("inlier_share")),
        "reprojection_px": _number(diagnostics.get("reprojection_px")),
        "focal_px": float(np.nanmedian(focal)) if known_focal else None,
        "focal_sigma_log": _number(diagnostics.get("focal_sigma_log")),
        "lens_k1": _number(diagnostics.get("k1")),
        "focal_range": _range(focal) if known_focal else None,
        "pose_doubts": str(diagnostics["doubts"]) if diagnostics.get("doubts") else None,
        "pose_sigma_share": float(np.sqrt(np.mean(sigma**2)) / path)
        if path > 0 and np.isfinite(sigma).all() and len(sigma) else None,
    }


def _timestamps(clip: Clip) -> np.ndarray:
    record: ClipRecord = clip.record
    if not record.fps:
        raise ValueError(f"clip {record.clip_id}: fps={record.fps}; the cutter states the rate of every clip")
    return np.arange(len(clip.frames)) / record.fps


def _range(focal: np.ndarray) -> float:
    known = focal[np.isfinite(focal)]
    return float(np.ptp(known) / np.median(known)) if len(known) else 0.0


def _number(value: float | str | bool | None) -> float | None:
    return _finite(float(value)) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
