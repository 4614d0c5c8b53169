"""The scale stage: one factor per clip, where it comes from, and how sure it is. 1.0 never means unknown.

In falling order of trust: given metric poses; given metric depth against the clip's own (ratio of sums, paper
App. B); a learned engine's metric depth likewise, or given poses against the path of a learned engine that
knows metres (Sim(3)), or that engine's own unit; the height of a walker's or a car's camera over the ground
where the source's configuration says so; or none: then translations are divided by the path length.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from annotate.scale.fused import MetricScales, compare
from annotate.scale.fusion import Smoothing, clip_scale, path_scale
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
    learned_sigma_log: float = 0.1  # 1-sigma of a learned engine's metres, shared by all frames of a clip
    smoothing: Smoothing = Smoothing.ema  # of per-frame scales

    def __post_init__(self) -> None:
        self.smoothing = Smoothing(self.smoothing)
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


@dataclass(frozen=True)
class Evidence:
    """What speaks of the unit of a clip beside its track.

    maps: depth in the unit of the track; given: depth in metres that came with the clip; scales: a metric
    depth engine's, frame by frame; estimate: a learned engine's own track of a clip whose poses were given.
    """

    maps: DepthMaps | None = None
    given: DepthMaps | None = None
    scales: MetricScales | None = None
    estimate: CameraTrack | None = None

    @classmethod
    def of(cls, clip: Clip) -> Evidence:
        files = clip.files
        return cls(
            maps=DepthMaps.from_npz(files["depth.npz"]) if "depth.npz" in files else None,
            given=_given_in_metres(clip),
            scales=MetricScales.from_npz(files["scales.npz"]) if "scales.npz" in files else None,
            estimate=CameraTrack.from_npz(files["estimate.npz"]) if "estimate.npz" in files else None)


class ScaleStage:
    """`pose.npz` and `depth.npz` to the final `camera.npz` and `depth.npz`, in metres or path lengths.

    rig: how the camera was carried; walking and driving allow the camera-height prior.
    """

    name = "scale"
    version = "2"
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
        evidence = Evidence.of(clip)
        scale = find_scale(track, evidence, self._config, self._rig)
        factor, unit = _conversion(track, scale)
        track, files = track.scaled(factor, unit), {}
        track.diagnostics = {**track.diagnostics, "scale_status": str(scale.status),
                             "metric_scale": scale.factor, "scale_sigma_log": scale.sigma_log}
        files["camera.npz"] = track.to_npz()
        if evidence.maps is not None:
            files["depth.npz"] = evidence.maps.scaled(factor).to_npz()
        fields = {
            "scale_status": str(scale.status), "metric_scale": scale.factor,
            "scale_sigma_log": scale.sigma_log, "scale_origin": scale.origin, "scale_cov": scale.cov,
            "scale_mad_log": scale.mad_log,
            "path_length": track.path_length if scale.status.is_metric else None,
        }
        return StageOutput(fields=fields, files=files)


def find_scale(
    track: CameraTrack, evidence: Evidence, config: ScaleConfig, rig: Rig = Rig.unknown,
) -> Scale:
    """The most trusted scale there is evidence for."""
    if track.failure is not None:
        return Scale(ScaleStatus.NONE, None, None, f"no poses: {track.failure}")
    if track.unit == "m":
        return Scale(ScaleStatus.METRIC_SENSOR, 1.0, config.sensor_sigma_log, "poses given in metres")
    if track.motion in (Motion.STATIC, Motion.ROTATION_ONLY) or track.path_length <= 0:
        return Scale(ScaleStatus.NONE, None, None, f"no translation observable ({track.motion})")
    tried = []
    for asked, source, answer in (
        (evidence.given is not None, "given depth", lambda: _from_given(track, evidence, config)),
        (evidence.scales is not None, "metric depth", lambda: _from_scales(track, evidence, config)),
        (evidence.estimate is not None, "estimated path", lambda: _from_estimate(track, evidence, config)),
        (track.diagnostics.get("metric") is True, "engine", lambda: _from_engine(track, config)),
        (rig is not Rig.unknown, "camera height", lambda: _from_height(track, evidence.maps, config, rig)),
    ):
        if asked:
            found, why = answer()
            if found is not None:
                return found
            tried.append(f"{source}: {why}")
    origin = "; ".join(["unit unknown: translations divided by the path length", *tried])
    return Scale(ScaleStatus.RELATIVE, None, None, origin)


def _from_given(
    track: CameraTrack, evidence: Evidence, config: ScaleConfig
) -> tuple[Scale | None, str | None]:
    """Given depth against that of the poses."""
    assert evidence.given is not None
    if evidence.maps is None:
        return None, "there is no depth from the poses to compare it with"
    scales = compare(evidence.maps, evidence.given, config.smoothing)
    return _of_clip(track, scales, ScaleStatus.METRIC_SENSOR, config.sensor_sigma_log, config)


def _from_scales(
    track: CameraTrack, evidence: Evidence, config: ScaleConfig
) -> tuple[Scale | None, str | None]:
    """A metric engine's depth against that of the poses, as the depth stage compared them."""
    assert evidence.scales is not None
    return _of_clip(track, evidence.scales, ScaleStatus.METRIC_LEARNED, config.learned_sigma_log, config)


def _of_clip(
    track: CameraTrack, scales: MetricScales, status: ScaleStatus, sigma_log: float, config: ScaleConfig
) -> tuple[Scale | None, str | None]:
    if not scales.each:
        return None, f"{scales.engines}: no frame has both"
    found = clip_scale(scales.each, track.timestamps[scales.frames], sigma_log, config.smoothing)
    if found.scale is None:
        return None, f"{scales.engines}: {found.refusal}"
    origin = f"depth of {scales.engines} in {int(np.isfinite(found.raw).sum())} frames"
    return Scale(status, found.scale, found.sigma_log, origin, found.cov, found.mad_log), None


def _from_estimate(
    track: CameraTrack, evidence: Evidence, config: ScaleConfig
) -> tuple[Scale | None, str | None]:
    """Given poses against the path that a learned engine found in metres."""
    estimate = evidence.estimate
    assert estimate is not None
    if estimate.failure is not None:
        return None, estimate.failure
    if estimate.diagnostics.get("metric") is not True:
        return None, f"{estimate.engine} does not claim metres"
    both = track.posed & estimate.posed
    found = path_scale(track.c2w[both], estimate.c2w[both], track.timestamps[both])
    if found.scale is None or found.sigma_log is None:
        return None, found.refusal
    sigma = float(np.hypot(config.learned_sigma_log, found.sigma_log))
    return Scale(ScaleStatus.METRIC_LEARNED, found.scale, sigma,
                 f"given path against that of {estimate.engine} in {int(both.sum())} frames"), None


def _from_engine(track: CameraTrack, config: ScaleConfig) -> tuple[Scale | None, str | None]:
    return Scale(ScaleStatus.METRIC_LEARNED, 1.0, config.learned_sigma_log,
                 f"poses of {track.engine}, which claims metres"), None


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


def _given_in_metres(clip: Clip) -> DepthMaps | None:
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
