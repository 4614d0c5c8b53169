"""The depth stage: maps of every k-th frame of a posed clip, in the unit of its poses."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from annotate.depth.config import DepthConfig
from annotate.depth.consistency import confirmed
from annotate.depth.sweep import SweptMap, sweep
from annotate.depth.views import Views, choose_neighbours, scene_depths
from annotate.frames import Frames
from annotate.stage import Clip, Resources, StageOutput
from dataset.camera import resize_intrinsics
from dataset.clip import CameraTrack, DepthMaps, Motion

ENGINE = "plane_sweep"

_WITHOUT_PARALLAX = {
    Motion.STATIC: "the camera does not move",
    Motion.ROTATION_ONLY: "the camera only turns",
}
_FIRST_GUESSES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # depth of the scene, in path lengths
_MIN_POINTS = 12


class DepthStage:
    """`pose.npz` to `depth.npz`. Given maps whose unit is the poses' own are passed on as they are.

    A clip without depth is an answer: `depth_frames` is 0 and `depth_failure` says why.
    """

    name = "depth"
    version = "2"
    resources = Resources(num_cpus=1.0)

    def __init__(self, config: DepthConfig | None = None) -> None:
        self._config = config or DepthConfig()

    def settings(self) -> dict[str, Any]:
        return dataclasses.asdict(self._config)

    def setup(self) -> None:
        """Nothing to load."""

    def gray_widths(self, size: tuple[int, int]) -> list[int]:
        return [self._config.width] if self._config.enabled else []

    def process(self, clip: Clip) -> StageOutput:
        track = CameraTrack.from_npz(clip.files["pose.npz"])
        given = given_depth(clip)
        if given is not None and (track.unit == "m" or track.engine == "given"):  # both in the same unit
            maps, failure = given, None
        elif not self._config.enabled:
            maps, failure = None, "switched off: depth.enabled=false"
        else:
            maps, failure = sweep_clip(clip.frames, track, self._config)
        if maps is None:
            return StageOutput(fields={"depth_engine": ENGINE, "depth_frames": 0, "depth_failure": failure})
        return StageOutput(
            fields={"depth_engine": maps.engine, "depth_frames": len(maps.frames),
                    "depth_valid_share": float(maps.valid.mean()), "depth_failure": None},
            files={"depth.npz": maps.to_npz()},
        )


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
