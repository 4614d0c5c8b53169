"""The scale stage: one factor per clip, where it comes from, and how sure it is. 1.0 never means unknown.

In falling order of trust: given metric poses, given metric depth against the swept depth (ratio of sums,
paper App. B), the height of a walker's or a car's camera over the ground where the source's configuration
says so, or none: then translations are divided by the path length.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from annotate.scale.fusion import FrameScale, clip_scale, frame_scale, fusion_mask
from annotate.scale.ground import camera_height
from annotate.source.item import Rig
from annotate.stage import Clip, Resources, StageOutput
from dataset.clip import CameraTrack, DepthMaps, Motion, ScaleStatus


@dataclass
class ScaleConfig:
    """What may be assumed about the unit of a clip."""

    walking_height_m: float = 1.55  # of the camera over the ground where source.rig=walking
    walking_sigma_m: float = 0.15  # its 1-sigma
    driving_height_m: float = 1.3  # of a dashboard camera where source.rig=driving
    driving_sigma_m: float = 0.2  # its 1-sigma
    sensor_sigma_log: float = 0.01  # 1-sigma of given metric poses and depth

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, float) and not value > 0:
                raise ValueError(f"scale.{item.name}={value}, must be positive")


@dataclass(frozen=True)
class Scale:
    """Metres per unit of the clip's own track, or None; `origin` is a sentence on where it comes from."""

    status: ScaleStatus
    factor: float | None
    sigma_log: float | None
    origin: str
    cov: float | None = None
    mad_log: float | None = None


class ScaleStage:
    """`pose.npz` and `depth.npz` to the final `camera.npz` and `depth.npz`, in metres or path lengths.

    rig: how the camera was carried; walking and driving allow the camera-height prior.
    """

    name = "scale"
    version = "1"
    resources = Resources(num_cpus=1.0)  # as its neighbours, to share their worker

    def __init__(self, config: ScaleConfig | None = None, rig: Rig = Rig.unknown) -> None:
        self._config = config or ScaleConfig()
        self._rig = Rig(rig)

    def settings(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self._config), "rig": self._rig}

    def setup(self) -> None:
        """Nothing to load."""

    def gray_widths(self, size: tuple[int, int]) -> list[int]:
        return []

    def process(self, clip: Clip) -> StageOutput:
        track = CameraTrack.from_npz(clip.files["pose.npz"])
        maps = DepthMaps.from_npz(clip.files["depth.npz"]) if "depth.npz" in clip.files else None
        scale = find_scale(track, maps, _metric_depth(clip), self._config, self._rig)
        factor, unit = _conversion(track, scale)
        track, files = track.scaled(factor, unit), {}
        track.diagnostics = {**track.diagnostics, "scale_status": str(scale.status),
                             "metric_scale": scale.factor, "scale_sigma_log": scale.sigma_log}
        files["camera.npz"] = track.to_npz()
        if maps is not None:
            files["depth.npz"] = maps.scaled(factor).to_npz()
        fields = {
            "scale_status": str(scale.status), "metric_scale": scale.factor,
            "scale_sigma_log": scale.sigma_log, "scale_origin": scale.origin, "scale_cov": scale.cov,
            "scale_mad_log": scale.mad_log,
            "path_length": track.path_length if scale.status.is_metric else None,
        }
        return StageOutput(fields=fields, files=files)


def find_scale(
    track: CameraTrack, maps: DepthMaps | None, metric_depth: DepthMaps | None, config: ScaleConfig,
    rig: Rig = Rig.unknown,
) -> Scale:
    """The most trusted scale there is evidence for.

    maps: depth in the unit of the track; metric_depth: given depth in metres.
    """
    if track.failure is not None:
        return Scale(ScaleStatus.NONE, None, None, f"no poses: {track.failure}")
    if track.unit == "m":
        return Scale(ScaleStatus.METRIC_SENSOR, 1.0, config.sensor_sigma_log, "poses given in metres")
    if track.motion in (Motion.STATIC, Motion.ROTATION_ONLY) or track.path_length <= 0:
        return Scale(ScaleStatus.NONE, None, None, f"no translation observable ({track.motion})")
    tried = []
    if metric_depth is not None:
        found, why = _from_depth(track, maps, metric_depth, config)
        if found is not None:
            return found
        tried.append(f"given depth: {why}")
    if rig is not Rig.unknown:
        found, why = _from_height(track, maps, config, rig)
        if found is not None:
            return found
        tried.append(f"camera height: {why}")
    origin = "; ".join(["unit unknown: translations divided by the path length", *tried])
    return Scale(ScaleStatus.RELATIVE, None, None, origin)


def _from_depth(
    track: CameraTrack, maps: DepthMaps | None, metric: DepthMaps, config: ScaleConfig,
) -> tuple[Scale | None, str | None]:
    """Given depth against swept depth, frame by frame."""
    if maps is None:
        return None, "there is no depth from the poses to compare it with"
    at = {int(frame): k for k, frame in enumerate(metric.frames)}
    both = [(k, at[int(frame)]) for k, frame in enumerate(maps.frames) if int(frame) in at]
    scales: list[FrameScale] = []
    for k, j in both:
        structure = np.where(maps.valid[k], maps.depth[k], np.nan).astype(np.float64)
        depth = np.where(metric.valid[j], metric.depth[j], np.nan).astype(np.float64)
        resized = cv2.resize(depth, structure.shape[::-1], interpolation=cv2.INTER_NEAREST)
        scales.append(frame_scale(structure, resized, fusion_mask(structure, resized)))
    if not scales:
        return None, "it covers none of the frames that have swept depth"
    times = track.timestamps[[maps.frames[k] for k, _ in both]]
    found = clip_scale(scales, times, config.sensor_sigma_log)
    if found.scale is None:
        return None, found.refusal
    return Scale(ScaleStatus.METRIC_SENSOR, found.scale, found.sigma_log,
                 f"given depth against swept depth in {int(np.isfinite(found.raw).sum())} frames",
                 found.cov, found.mad_log), None


def _from_height(
    track: CameraTrack, maps: DepthMaps | None, config: ScaleConfig, rig: Rig,
) -> tuple[Scale | None, str | None]:
    """A known camera height over a fitted ground plane: σ² = σ_prior² + (MAD(h) / h)²."""
    if maps is None:
        return None, "there is no depth to find the ground in"
    found, why = camera_height(track, maps)
    if found is None:
        return None, why
    prior, sigma = {
        Rig.walking: (config.walking_height_m, config.walking_sigma_m),
        Rig.driving: (config.driving_height_m, config.driving_sigma_m),
    }[rig]
    sigma_log = float(np.hypot(sigma / prior, found.deviation / found.height))
    origin = f"camera {prior:g} m over the ground ({rig}), seen in {found.windows} depth maps"
    return Scale(ScaleStatus.METRIC_PRIOR, prior / found.height, sigma_log, origin), None


def _metric_depth(clip: Clip) -> DepthMaps | None:
    """Given depth when it is in metres: its unit is that of the given poses, and metres without any."""
    if "given_depth.npz" not in clip.files:
        return None
    if "given.npz" in clip.files:
        given = CameraTrack.from_npz(clip.files["given.npz"])
        if given.posed.any() and given.unit != "m":
            return None
    return DepthMaps.from_npz(clip.files["given_depth.npz"])


def _conversion(track: CameraTrack, scale: Scale) -> tuple[float, str]:
    """What translations and depth are multiplied with, and the unit they then have."""
    if scale.factor is not None:
        return scale.factor, "m"
    if scale.status is ScaleStatus.RELATIVE:
        return 1.0 / track.path_length, "path"
    return 1.0, track.unit
