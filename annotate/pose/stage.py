"""The pose stage: given cameras first, else an engine by name; then how far the answer can be trusted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from annotate.frames import Frames
from annotate.learned import LearnedConfig
from annotate.pose.config import ClassicalConfig
from annotate.pose.engine import DepthGuided, LearnedEngine, PoseEngine, StructureEngine
from annotate.pose.given import central_intrinsics, focal_for_poses, given_cameras, has_intrinsics
from annotate.pose.learned.config import FeedForwardConfig, RefineConfig, VipeConfig
from annotate.pose.second import SecondConfig, is_chosen, second_opinion
from annotate.pose.selfcheck import Outcome, check_convention, check_own
from annotate.pose.tracks import working_size
from annotate.stage import Clip, Resources, StageOutput
from annotate.weights import Needs, licence_fields
from dataset.clip import CameraTrack, ClipRecord, DepthMaps, Motion

GIVEN = "given"
MISREAD = "convention self-check"
"""How the failure of given cameras begins when the images contradict them."""


class PoseMode(StrEnum):
    """What is made of cameras and depth that came with a clip (paper, App. B)."""

    default = "default"  # given poses are honoured, others estimated
    gt_depth = "gt_depth"  # poses are estimated on the given depth, and are in its unit (OmniWorld)
    gt_pose = "gt_pose"  # given poses are honoured, and estimated ones say how long a metre is (Sekai, DL3DV)


@dataclass
class PoseStageConfig:
    """Which engine estimates cameras, and how its answers are checked."""

    engine: str = "classical"  # for clips without poses: classical, vipe, pi3x, vggt, depth_anything3
    mode: PoseMode = PoseMode.default  # what is made of cameras and depth that came with a clip
    classical: ClassicalConfig = field(default_factory=ClassicalConfig)
    feed_forward: FeedForwardConfig = field(default_factory=FeedForwardConfig)
    vipe: VipeConfig = field(default_factory=VipeConfig)
    refine: RefineConfig = field(default_factory=RefineConfig)
    second: SecondConfig = field(default_factory=SecondConfig)

    def __post_init__(self) -> None:
        self.mode = PoseMode(self.mode)


def _classical(config: PoseStageConfig, learned: LearnedConfig) -> PoseEngine:
    from annotate.pose.classical import ClassicalEngine

    return ClassicalEngine(config.classical)


def _vipe(config: PoseStageConfig, learned: LearnedConfig) -> PoseEngine:
    from annotate.pose.learned.vipe import VipeEngine

    return VipeEngine(config.vipe, config.feed_forward, learned)


def _feed_forward(name: str) -> Callable[[PoseStageConfig, LearnedConfig], PoseEngine]:
    def make(config: PoseStageConfig, learned: LearnedConfig) -> PoseEngine:
        from annotate.pose.learned.feed_forward import FeedForwardEngine

        return FeedForwardEngine(name, config.feed_forward, learned)

    return make


ENGINES: dict[str, Callable[[PoseStageConfig, LearnedConfig], PoseEngine]] = {
    "classical": _classical, "vipe": _vipe,
    **{name: _feed_forward(name) for name in ("pi3x", "vggt", "depth_anything3")}}
"""Every engine by its name; loading is left to the worker that runs it."""
IN_METRES = ("vipe", "pi3x", "depth_anything3")
"""Engines whose own unit is the metre, as far as they know it."""


class PoseStage:
    """Frames, and "given.npz" where the source brought cameras, to "pose.npz" and the record's pose columns.

    Raises ValueError for an engine nobody knows.
    """

    name = "pose"

    def __init__(self, config: PoseStageConfig | None = None, learned: LearnedConfig | None = None,
                 depth_every: int | None = None) -> None:
        self._config = config or PoseStageConfig()
        self._learned = (learned or LearnedConfig()).absolute()
        self._depth_every = depth_every  # None: nobody asks for the engine's own depth
        if self._config.engine not in ENGINES:
            raise ValueError(f"pose.engine={self._config.engine}: no such engine; "
                             f"known: {', '.join(ENGINES)}")
        self._engine = ENGINES[self._config.engine](self._config, self._learned)
        self._check_mode()
        self._needs = self._engine.needs() if isinstance(self._engine, LearnedEngine) else []
        self.resources = Resources(num_cpus=1.0, num_gpus=self._learned.num_gpus if self._needs else 0.0)
        self.version = f"1+{self._engine.name}-{self._engine.version}"

    def _check_mode(self) -> None:
        engine, mode = self._config.engine, self._config.mode
        if mode is PoseMode.gt_depth and not isinstance(self._engine, DepthGuided):
            raise ValueError(f"pose.mode=gt_depth: the engine {engine} takes no depth; set pose.engine=vipe")
        if mode is PoseMode.gt_pose and engine not in IN_METRES:
            raise ValueError(f"pose.mode=gt_pose: the engine {engine} knows no metres; set pose.engine to "
                             f"one of {', '.join(IN_METRES)}")

    def needs(self) -> Sequence[Needs]:
        """What a learned engine has to find installed."""
        return self._needs

    def settings(self) -> dict[str, Any]:
        settings = dataclasses.asdict(self._config)
        if not self._needs:
            for unused in ("feed_forward", "vipe", "refine"):
                settings.pop(unused)
        weights = {needs.engine: needs.weights for needs in self._needs}
        return {**settings, "depth_every": self._depth_every, "weights": weights}

    def setup(self) -> None:
        import cv2

        cv2.setNumThreads(1)

    def gray_widths(self, size: tuple[int, int]) -> list[int]:
        return [working_size(size, self._config.classical.width)[1]]

    def process(self, clip: Clip) -> StageOutput:
        given = given_cameras(clip)
        mode = self._config.mode
        if given is not None and given.posed.any() and mode is not PoseMode.gt_depth:
            output = self._honour(clip, given)
            honoured = CameraTrack.from_npz(output.files["pose.npz"])
            if mode is PoseMode.gt_pose and honoured.failure is None and honoured.unit != "m":
                estimate, _ = self._estimate(clip, honoured.timestamps, honoured.intrinsics)
                output.files["estimate.npz"] = estimate.to_npz()
                output.fields |= licence_fields(clip.record, self._needs)
            return output
        known = given.intrinsics if given is not None and has_intrinsics(given) else None
        timestamps = given.timestamps if given is not None else _timestamps(clip)
        track, files = self._estimate(clip, timestamps, known)
        fields = track_fields(track) | licence_fields(clip.record, self._needs)
        if track.failure is None:
            fields |= self._own_check(clip.frames, track)
            fields |= self.ask_again(clip, track, known)
        return StageOutput(fields, {"pose.npz": track.to_npz(), **files})

    def _estimate(
        self, clip: Clip, timestamps: np.ndarray, known: np.ndarray | None
    ) -> tuple[CameraTrack, dict[str, bytes]]:
        """The engine's cameras, adjusted if it is a learned one, and the depth that it saw with them."""
        frames, engine, files = clip.frames, self._engine, {}
        if self._config.mode is PoseMode.gt_depth and isinstance(engine, DepthGuided):
            if "given_depth.npz" not in clip.files:
                reason = "pose.mode=gt_depth: the clip came without depth"
                return CameraTrack.failed(reason, timestamps, frames.size, engine.name, Motion.PARALLAX), {}
            depth = DepthMaps.from_npz(clip.files["given_depth.npz"])
            track = engine.estimate_with_depth(frames, timestamps, known, depth)
            track.diagnostics["depth"] = GIVEN
        elif isinstance(engine, StructureEngine) and self._depth_every is not None:
            found = engine.structure(frames, timestamps, known, self._depth_every)
            track = found.track
            if found.maps is not None:
                files["structure.npz"] = found.maps.to_npz()
        else:
            track = engine.estimate(frames, timestamps, known)
        if self._needs:
            from annotate.pose.learned.refine import refine

            track = refine(frames, track, known, self._config.refine, self._config.classical)
        return track, files

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
