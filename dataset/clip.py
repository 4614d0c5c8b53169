"""What a clip is: its index row, its camera track, and how both are stored. Versioned.

The index row is one flat record so that any tool that reads Parquet can ask questions of it; the
camera track is the `camera.npz` member beside each video. No pixels here.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any

import numpy as np
import pyarrow as pa

from dataset.rows import arrow_schema

SCHEMA_VERSION = 1


class Verdict(StrEnum):
    """What became of a row."""

    KEPT = "kept"
    REJECTED = "rejected"  # measured, and outside a threshold
    FAILED = "failed"  # could not be read or measured; `reasons` says why


class Kind(StrEnum):
    """What a row stands for."""

    CLIP = "clip"  # a written clip
    SPAN = "span"  # a piece of video that made no clip: too short a shot, a tail, a transition
    VIDEO = "video"  # a whole source that made no clip: unreadable, truncated, poison


class Motion(StrEnum):
    """What the camera did, as far as the images tell."""

    PARALLAX = "parallax"
    PLANAR = "planar"
    ROTATION_ONLY = "rotation_only"
    STATIC = "static"
    LOW_TEXTURE = "low_texture"
    CHAOTIC = "chaotic"


class ScaleStatus(StrEnum):
    """Where the unit of the translations comes from, in falling order of trust."""

    METRIC_SENSOR = "metric_sensor"
    METRIC_GPS = "metric_gps"
    METRIC_LEARNED = "metric_learned"
    METRIC_PRIOR = "metric_prior"
    RELATIVE = "relative"  # translations are divided by the path length
    NONE = "none"  # no translation observable

    @property
    def is_metric(self) -> bool:
        return self.value.startswith("metric")


class FrameVerdict(IntEnum):
    """How a frame got its pose."""

    UNPOSED = 0
    INTERPOLATED = 1
    ESTIMATED = 2
    GIVEN = 3


@dataclass
class CameraTrack:
    """Cameras of every frame of a clip.

    c2w (F, 4, 4) float64, OpenCV axes, NaN where `frame_verdict` is UNPOSED; intrinsics (F, 4) pixels of
    `size`; timestamps (F,) seconds from the first frame; sigma_position (F,) in units of c2w and
    sigma_rotation_deg (F,), NaN where unknown; `unit` is "m", "path" (path length = 1) or "engine"
    (whatever the engine chose). `failure` is a sentence, or None when the track can be used.
    """

    c2w: np.ndarray
    intrinsics: np.ndarray
    size: tuple[int, int]  # (height, width)
    timestamps: np.ndarray
    sigma_position: np.ndarray
    sigma_rotation_deg: np.ndarray
    frame_verdict: np.ndarray  # (F,) uint8, FrameVerdict
    motion: Motion
    engine: str
    unit: str = "engine"
    failure: str | None = None
    diagnostics: dict[str, float | str | bool | None] = field(default_factory=dict)

    @classmethod
    def failed(
        cls, reason: str, timestamps: np.ndarray, size: tuple[int, int], engine: str, motion: Motion,
        diagnostics: dict[str, float | str | bool | None] | None = None,
    ) -> CameraTrack:
        """A track without poses that says why."""
        count = len(timestamps)
        nan = np.full(count, np.nan)
        return cls(
            c2w=np.full((count, 4, 4), np.nan), intrinsics=np.full((count, 4), np.nan), size=size,
            timestamps=np.asarray(timestamps, np.float64), sigma_position=nan, sigma_rotation_deg=nan.copy(),
            frame_verdict=np.zeros(count, np.uint8), motion=motion, engine=engine, failure=reason,
            diagnostics=diagnostics or {},
        )

    @property
    def posed(self) -> np.ndarray:
        """(F,) bool: frames that have a pose."""
        return self.frame_verdict != FrameVerdict.UNPOSED

    @property
    def path_length(self) -> float:
        """Sum of steps between neighbouring posed frames, in `unit`."""
        centres = self.c2w[self.posed, :3, 3]
        return float(np.linalg.norm(np.diff(centres, axis=0), axis=1).sum()) if len(centres) > 1 else 0.0

    def scaled(self, factor: float, unit: str) -> CameraTrack:
        """The same track with translations and their sigma multiplied by `factor`."""
        c2w = self.c2w.copy()
        c2w[:, :3, 3] *= factor
        return dataclasses.replace(self, c2w=c2w, sigma_position=self.sigma_position * factor, unit=unit)

    def to_npz(self) -> bytes:
        """Bytes of the `camera.npz` member; equal tracks give equal bytes."""
        meta = {"schema_version": SCHEMA_VERSION, "size": list(self.size), "motion": str(self.motion),
                "engine": self.engine, "unit": self.unit, "failure": self.failure,
                "diagnostics": self.diagnostics, "axes": "opencv", "direction": "c2w"}
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer, c2w=self.c2w, intrinsics=self.intrinsics, timestamps=self.timestamps,
            sigma_position=self.sigma_position, sigma_rotation_deg=self.sigma_rotation_deg,
            frame_verdict=self.frame_verdict.astype(np.uint8),
            meta=np.frombuffer(json.dumps(meta, sort_keys=True, default=float).encode(), np.uint8),
        )
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, data: bytes, poses_only: bool = False) -> CameraTrack:
        """Inverse of `to_npz`; `poses_only` leaves times, sigmas and verdicts empty, which is quicker.
        Raises ValueError on another schema version."""
        with np.load(io.BytesIO(data)) as arrays:
            def beside(name: str) -> np.ndarray:
                return np.empty(0) if poses_only else arrays[name]

            meta = json.loads(arrays["meta"].tobytes())
            version = meta["schema_version"]
            if version != SCHEMA_VERSION:
                raise ValueError(f"camera.npz: schema version {version}, expected {SCHEMA_VERSION}")
            return cls(
                c2w=arrays["c2w"], intrinsics=arrays["intrinsics"], timestamps=beside("timestamps"),
                sigma_position=beside("sigma_position"), sigma_rotation_deg=beside("sigma_rotation_deg"),
                frame_verdict=beside("frame_verdict"), size=(meta["size"][0], meta["size"][1]),
                motion=Motion(meta["motion"]), engine=meta["engine"], unit=meta["unit"],
                failure=meta["failure"], diagnostics=meta["diagnostics"],
            )


@dataclass
class DepthMaps:
    """Depth of some frames of a clip: the `depth.npz` member.

    depth (K, h, w) float16, z in the unit of the clip's camera track, 0 where not `valid`;
    valid (K, h, w) bool; frames (K,) indices into the clip; intrinsics (K, 4) pixels of (h, w).
    """

    depth: np.ndarray
    valid: np.ndarray
    frames: np.ndarray
    intrinsics: np.ndarray
    engine: str

    def scaled(self, factor: float) -> DepthMaps:
        """The maps in another unit; what float16 cannot hold there becomes invalid, not infinite."""
        if factor == 1.0:
            return self
        depth = self.depth.astype(np.float32) * np.float32(factor)
        limits = np.finfo(np.float16)
        valid = self.valid & (depth < limits.max) & (depth > limits.tiny)
        return dataclasses.replace(self, depth=np.where(valid, depth, 0).astype(np.float16), valid=valid)

    def to_npz(self) -> bytes:
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer, depth=self.depth.astype(np.float16), valid=np.packbits(self.valid, axis=-1),
            frames=self.frames.astype(np.int32), intrinsics=self.intrinsics.astype(np.float64),
            engine=np.frombuffer(self.engine.encode(), np.uint8),
            schema_version=np.int32(SCHEMA_VERSION),
        )
        return buffer.getvalue()

    @classmethod
    def from_npz(cls, data: bytes) -> DepthMaps:
        with np.load(io.BytesIO(data)) as arrays:
            version = int(arrays["schema_version"])
            if version != SCHEMA_VERSION:
                raise ValueError(f"depth.npz: schema version {version}, expected {SCHEMA_VERSION}")
            depth = arrays["depth"]
            valid = np.unpackbits(arrays["valid"], axis=-1, count=depth.shape[-1]).astype(bool)
            return cls(depth=depth, valid=valid, frames=arrays["frames"], intrinsics=arrays["intrinsics"],
                       engine=arrays["engine"].tobytes().decode())


@dataclass
class Member:
    """One file of a clip inside its shard."""

    name: str  # "<clip_id>.mp4"
    offset: int  # of the file's first byte within the tar
    size: int
    sha256: str


@dataclass
class ClipRecord:
    """One row of the index. A score that could not be measured is None, never a neutral number."""

    # identity
    clip_id: str
    video_id: str
    kind: Kind
    schema_version: int = SCHEMA_VERSION
    # where it comes from
    uri: str = ""
    source: str = ""  # name of the data set
    licence: str | None = None
    caption: str | None = None
    shot: int | None = None  # index of the shot within the video
    start_s: float | None = None  # presentation time of the first frame in the source
    end_s: float | None = None
    source_width: int | None = None  # as displayed, after rotation metadata
    source_height: int | None = None
    source_fps: float | None = None  # average
    source_codec: str | None = None
    source_frames: int | None = None  # decoded; only on rows of kind "video"
    corrupt_frames: int | None = None
    caption_engine: str | None = None  # "given" with the video, "file", or "vlm:<model>"
    caption_failure: str | None = None  # what is wrong with the caption, or why there is none
    caption_attempts: int | None = None  # times a model was asked for it
    bars_top: int | None = None  # pixels of the displayed source cut off as black bars; None: not looked for
    bars_bottom: int | None = None
    bars_left: int | None = None
    bars_right: int | None = None
    # what was written
    frames: int | None = None
    fps: float | None = None
    width: int | None = None
    height: int | None = None
    # verdict
    verdict: Verdict = Verdict.FAILED
    reasons: list[str] = field(default_factory=list)  # rule names such as "flow_dis<3"; empty when kept
    detail: str | None = None  # the sentence behind a failure
    # camera
    pose_engine: str | None = None
    motion: str | None = None  # Motion
    pose_failure: str | None = None
    posed_share: float | None = None
    pose_inlier_share: float | None = None
    reprojection_px: float | None = None  # median, at the engine's working size
    focal_px: float | None = None  # median fx in pixels of the clip
    focal_sigma_log: float | None = None
    focal_range: float | None = None  # (max - min) / median of fx over the clip
    lens_k1: float | None = None  # radial distortion that the poses allow for; intrinsics do not hold it
    pose_doubts: str | None = None  # what the engine's own numbers say against its track
    pose_sigma_share: float | None = None  # rms of the engine's own 1-sigma of position, share of the path
    pose_confirmed: bool | None = None  # a second engine agrees; None: none was asked, or it found nothing
    agreement_position: float | None = None  # second engine, share of the path
    agreement_rotation_deg: float | None = None
    agreement_focal: float | None = None  # relative difference
    agreement: str | None = None  # the second engine's verdict in words; None: no second engine was asked
    selfcheck_sampson_px: float | None = None
    selfcheck_cheirality: float | None = None
    path_length: float | None = None  # metres if the scale is metric, else null
    fov_x_deg: float | None = None  # median over frames
    fov_y_deg: float | None = None
    fov_outside_share: float | None = None  # frames outside [25, 120] degrees on either axis
    focal_divergence: float | None = None  # |fx - fy| / mean, median
    speed_max: float | None = None  # m/s when metric, path lengths/s when relative
    acceleration_max: float | None = None
    angular_speed_max_deg: float | None = None  # degrees/s
    angular_jump_deg: float | None = None  # largest change of angular step between neighbours
    jerk_ratio: float | None = None  # largest step / median step
    # metric scale
    scale_status: str | None = None  # ScaleStatus
    metric_scale: float | None = None  # metres per unit of the engine's own track; None when unknown
    scale_sigma_log: float | None = None
    scale_origin: str | None = None
    scale_cov: float | None = None  # std/mean of raw per-frame scales; None when there are none
    scale_mad_log: float | None = None
    # depth
    depth_engine: str | None = None
    depth_frames: int | None = None
    depth_valid_share: float | None = None
    depth_failure: str | None = None  # why there is none
    # image quality
    saturation: float | None = None  # mean S of HSV, 0..255
    vmaf_motion: float | None = None
    flow_dis: float | None = None  # mean |flow| over 0.5 s at 320 x 576, pixels, OpenCV DIS
    sharpness: float | None = None  # variance of the Laplacian, median over frames
    exposure: float | None = None  # mean luma, 0..255
    dark_share: float | None = None  # pixels at luma <= 16
    bright_share: float | None = None  # pixels at luma >= 235
    cuts: float | None = None  # cuts found in the finished clip
    overlay_share: float | None = None  # of the picture, under a logo or text that stands still
    overlay_boxes: str | None = None  # JSON: [top, left, bottom, right] of each, shares of the picture
    # image quality, by learned engines
    flow_raft: float | None = None  # as flow_dis, of RGB
    flow_unimatch: float | None = None
    dover: float | None = None  # fused, 0..1, mean over whole chunks of 5 s
    dover_technical: float | None = None  # 0..1
    dover_aesthetic: float | None = None
    aesthetic: float | None = None  # LAION's predictor, about 1..10, mean over sampled frames
    text_share: float | None = None  # of the picture within boxes of text, mean over sampled frames
    people: float | None = None  # seen in the clip, as a vision-language model counts
    vehicles: float | None = None
    animals: float | None = None
    entities: float | None = None  # their sum
    vlm_quality: float | None = None  # 1: a usable real or rendered scene; 0: not
    vlm_failure: str | None = None  # why the model's counts are missing
    # near-duplicates
    video_hash: str | None = None  # perceptual hash
    embedding: str | None = None  # mean CLIP embedding of sampled frames: base64 of float16
    duplicate_similarity: float | None = None  # to the most similar clip that goes before this one, 0..1
    duplicate_of: str | None = None  # that clip, where they are near-duplicates
    # how it was made
    engines: str = "{}"  # JSON: stage -> engine and version
    engine_licences: str = "{}"  # JSON: learned engine -> licence of its code and weights
    config_hash: str = ""
    code_version: str = ""
    # where it lies: not content, may differ between two runs over the same input
    shard: str | None = None
    members: list[Member] = field(default_factory=list)
    annotated_at: str | None = None  # ISO time
    stage_seconds: str = "{}"  # JSON: stage -> seconds of wall time


PLACEMENT_COLUMNS = ("shard", "members", "annotated_at", "stage_seconds")
"""Columns that may differ between two runs over the same input; all others are content."""

SETTLED_COLUMNS = ("duplicate_similarity", "duplicate_of")
"""Columns that depend on the other clips of the data set; known, and changed, after a clip is written."""


def index_schema() -> pa.Schema:
    """Arrow schema of the index, derived from `ClipRecord`; carries the schema version as metadata."""
    return arrow_schema(ClipRecord, SCHEMA_VERSION)


def to_row(record: ClipRecord) -> dict[str, Any]:
    """Plain dict of a record, as the index and the `json` member hold it."""
    return dataclasses.asdict(record)


def from_row(row: dict[str, Any]) -> ClipRecord:
    """Inverse of `to_row`. Raises ValueError on unknown columns or another schema version."""
    known = {f.name for f in dataclasses.fields(ClipRecord)}
    unknown = sorted(set(row) - known)
    if unknown:
        raise ValueError(f"clip record: unknown columns {unknown}")
    if row.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
        raise ValueError(f"clip record: schema version {row['schema_version']}, expected {SCHEMA_VERSION}")
    row = dict(row)
    row["kind"] = Kind(row["kind"])
    row["verdict"] = Verdict(row.get("verdict", Verdict.FAILED))
    row["members"] = [Member(**m) for m in row.get("members") or []]
    row["reasons"] = list(row.get("reasons") or [])
    return ClipRecord(**row)


def clip_id(video_id: str, start_s: float, frames: int, fps: float, size: tuple[int, int]) -> str:
    """Name of a clip: a hash of the video's content hash and the span and format cut from it.

    Times enter as whole microseconds so that the same span always gives the same name. 20 hex digits.
    """
    height, width = size
    text = f"{video_id}|{round(start_s * 1e6)}|{frames}|{round(fps * 1000)}|{width}x{height}"
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()
