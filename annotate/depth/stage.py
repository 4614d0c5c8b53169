"""The depth stage: maps of every k-th frame of a posed clip, in the unit of its poses."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from annotate.depth.config import METRIC, STRUCTURE, DepthConfig
from annotate.depth.consistency import confirmed
from annotate.depth.learned import in_unit_of, metric_engine, structure_engine
from annotate.depth.sweep import SweptMap, sweep
from annotate.depth.views import Views, choose_neighbours, scene_depths
from annotate.frames import Frames
from annotate.learned import LearnedConfig
from annotate.scale.fused import MetricScales, compare, multiplied
from annotate.stage import Clip, Resources, StageOutput
from annotate.weights import Needs, licence_fields
from dataset.camera import resize_intrinsics
from dataset.clip import CameraTrack, DepthMaps, Motion

ENGINE = "plane_sweep"
GIVEN = "given"

_WITHOUT_PARALLAX = {
    Motion.STATIC: "the camera does not move",
    Motion.ROTATION_ONLY: "the camera only turns",
}
_FIRST_GUESSES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # depth of the scene, in path lengths
_MIN_POINTS = 12


class DepthStage:
    """`pose.npz` to `depth.npz`. Given maps whose unit is the poses' own are passed on as they are.

    Where an engine knows metres, `scales.npz` says frame by frame how many of them a unit of the poses is. A
    clip without depth is an answer: `depth_frames` is 0 and `depth_failure` says why.
    """

    name = "depth"

    def __init__(self, config: DepthConfig | None = None, learned: LearnedConfig | None = None) -> None:
        self._config = config or DepthConfig()
        learned = (learned or LearnedConfig()).absolute()
        engine, metric = self._config.engine, self._config.metric_engine
        used = self._config.enabled
        self._structure = structure_engine(engine, learned) if used and engine in STRUCTURE else None
        self._metric = metric_engine(metric, learned, self._config.metric_width) if used and metric else None
        self._needs: list[Needs] = []
        for each in (self._structure, self._metric):
            self._needs += each.needs() if each is not None else []
        self.resources = Resources(num_cpus=1.0, num_gpus=learned.num_gpus if self._needs else 0.0)
        names = [each for each in (self._structure, self._metric) if each is not None]
        self.version = "+".join(["3", *(f"{each.name}-{each.version}" for each in names)])

    def needs(self) -> Sequence[Needs]:
        """What learned engines have to find installed."""
        return self._needs

    def settings(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self._config),
                "weights": {needs.engine: needs.weights for needs in self._needs}}

    def setup(self) -> None:
        """Nothing to load: learned engines load with the first clip that asks for them."""

    def gray_widths(self, size: tuple[int, int]) -> list[int]:
        swept = self._config.engine == ENGINE or self._config.engine in METRIC
        return [self._config.width] if self._config.enabled and swept else []

    def process(self, clip: Clip) -> StageOutput:
        track = CameraTrack.from_npz(clip.files["pose.npz"])
        maps, failure = self._consistent(clip, track)
        files: dict[str, bytes] = {}
        if maps is not None and self._metric is not None:
            metric = self._metric.estimate(clip.frames, maps.frames.tolist(), track.intrinsics)
            scales = compare(maps, metric, self._config.smoothing)
            if track.unit != "m":
                files["scales.npz"] = scales.to_npz()
            maps, failure = self._with_metric(maps, metric, scales)
        licences = licence_fields(clip.record, self._needs)
        if maps is None:
            fields = {"depth_engine": self._config.engine, "depth_frames": 0, "depth_failure": failure}
            return StageOutput({**fields, **licences}, files)
        fields = {"depth_engine": maps.engine, "depth_frames": len(maps.frames),
                  "depth_valid_share": float(maps.valid.mean()), "depth_failure": None}
        return StageOutput({**fields, **licences}, {**files, "depth.npz": maps.to_npz()})

    def _consistent(self, clip: Clip, track: CameraTrack) -> tuple[DepthMaps | None, str | None]:
        """Maps consistent over the clip in the unit of its poses, or the reason for there being none."""
        given = given_depth(clip)
        same_unit = track.unit == "m" or GIVEN in (track.engine, track.diagnostics.get("depth"))
        if given is not None and same_unit:
            return given, None
        if not self._config.enabled:
            return None, "switched off: depth.enabled=false"
        if track.failure is not None:
            return None, f"no poses: {track.failure}"
        if self._config.engine == "pose":
            if "structure.npz" not in clip.files:
                return None, f"the pose engine {track.engine} gave no depth; set depth.engine to another one"
            return DepthMaps.from_npz(clip.files["structure.npz"]), None
        if self._structure is not None:
            known = track.intrinsics if track.posed.all() else None
            found = self._structure.structure(clip.frames, track.timestamps, known, self._config.every)
            return in_unit_of(track, found)
        return sweep_clip(clip.frames, track, self._config)

    def _with_metric(
        self, maps: DepthMaps, metric: DepthMaps, scales: MetricScales
    ) -> tuple[DepthMaps | None, str | None]:
        """The maps to be stored, once both engines' are there: in the unit of the poses."""
        if maps.engine == GIVEN:
            return maps, None
        raw = np.array([scale.scale for scale in scales.each], np.float64)
        known = np.isfinite(raw)
        if self._config.engine in METRIC:
            if not known.any():
                return None, f"{metric.engine}: no frame agrees with swept depth, so its unit is unknown"
            return multiplied(metric, 1 / scales.at(metric.frames), metric.engine), None
        if maps.engine in STRUCTURE and known.any():  # its scale wavers; that of swept depth cannot
            middle = float(np.median(raw[known]))
            return multiplied(maps, scales.at(maps.frames) / middle, f"{maps.engine}+{metric.engine}"), None
        return maps, None


def given_depth(clip: Clip) -> DepthMaps | None:
    """The maps that came with the source."""
    return DepthMaps.from_npz(clip.files["given_depth.npz"]) if "given_depth.npz" in clip.files else None


def sweep_clip(
    frames: Frames, track: CameraTrack, config: DepthConfig,
) -> tuple[DepthMaps | None, str | None]:
    """Depth maps of a clip in the unit of its track, or None and the reason.

    float16 maps are stored relative to nothing: a unit in which depths leave 6e-5 .. 65504 is refused.
    """
    if track.failure is not None:
        return None, f"no poses: {track.failure}"
    if track.motion in _WITHOUT_PARALLAX:
        return None, _WITHOUT_PARALLAX[track.motion]
    if track.path_length <= 0:
        return None, "the camera does not move"
    images = frames.gray(config.width)
    size = (int(images.shape[1]), int(images.shape[2]))
    usable = track.posed & np.isfinite(track.c2w).all((1, 2)) & np.isfinite(track.intrinsics).all(1)
    views = Views(images, resize_intrinsics(track.intrinsics, track.size, size), track.c2w, usable)
    swept = _sweep_frames(views, track.path_length, config)
    if not swept:
        return None, "no frame has neighbours at a usable parallax with points to match"
    valid = np.stack([
        confirmed(views, swept, i, config.consistency, config.min_agreeing) for i in range(len(swept))])
    depth = np.where(valid, np.stack([m.depth for m in swept]), 0.0)
    valid &= (depth > np.finfo(np.float16).tiny) & (depth < np.finfo(np.float16).max)
    share = float(valid.mean())
    if share < config.min_valid_share:
        return None, (f"views agree on {share:.1%} of the pixels, "
                      f"at least {config.min_valid_share:.1%} is needed")
    kept = np.array([m.frame for m in swept], np.int32)
    return DepthMaps(depth=np.where(valid, depth, 0.0).astype(np.float16), valid=valid, frames=kept,
                     intrinsics=views.intrinsics[kept], engine=ENGINE), None


def _sweep_frames(views: Views, path_length: float, config: DepthConfig) -> list[SweptMap]:
    """Swept maps of every k-th usable frame that has neighbours."""
    swept = []
    guess: float | None = None
    for index in np.flatnonzero(views.usable):
        if index % config.every:
            continue
        points = _points_near(views, int(index), guess, path_length)
        if len(points) < _MIN_POINTS:
            continue
        guess = float(np.median(points))
        neighbours = choose_neighbours(views, int(index), guess, config.neighbours)
        if len(neighbours) < 2:
            continue
        nearest, farthest = _depth_range(points)
        swept.append(sweep(views, int(index), neighbours, nearest, farthest, config))
    return swept


def _points_near(views: Views, index: int, guess: float | None, path_length: float) -> np.ndarray:
    """Depths of a frame's corners; without a guess the scene's distance is searched for."""
    if guess is not None:
        points = scene_depths(views, index, guess)
        if len(points) >= _MIN_POINTS:
            return scene_depths(views, index, float(np.median(points)))
    tries = [scene_depths(views, index, path_length * share) for share in _FIRST_GUESSES]
    points = max(tries, key=len)
    return scene_depths(views, index, float(np.median(points))) if len(points) >= _MIN_POINTS else points


def _depth_range(points: np.ndarray) -> tuple[float, float]:
    """Nearest and farthest depth to try: the corners' own range with room on both sides."""
    nearest, farthest = np.percentile(points, [2, 98])
    return 0.6 * float(nearest), 1.6 * float(farthest)
