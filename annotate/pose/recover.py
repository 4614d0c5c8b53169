"""A start for the map from pycolmap's mapper, where no start of our own leads far."""

from __future__ import annotations

import numpy as np

from annotate.pose.config import ClassicalConfig
from annotate.pose.mapper import MapperConfig, MapperMethod, PointTracks, map_frames
from annotate.pose.reprojection import Cameras, Observations
from annotate.pose.start import focal_of_fov
from annotate.pose.tracks import Tracks
from annotate.pose.window import KeyframeMap

MAX_KEYFRAMES = 60
"""Keyframes given to the mapper, spread over the clip; the others are placed on its points."""


def map_from_mapper(
    tracks: Tracks, seen: Observations, points: int, intrinsics: np.ndarray | None, config: ClassicalConfig
) -> KeyframeMap | None:
    """The mapper's cameras with our own points on them, or None when it poses fewer than three keyframes.

    intrinsics (K, 4) of the keyframes if known.
    """
    count = len(tracks.keyframes)
    chosen = np.unique(np.linspace(0, count - 1, min(count, MAX_KEYFRAMES)).astype(int))
    given = [tracks.at(tracks.keyframes[index]) for index in chosen]
    found = map_frames(
        tracks.size, MapperConfig(method=MapperMethod.global_mapping, time_limit_s=config.recover_limit_s),
        tracks=PointTracks([pixels for _, pixels in given], [ids for ids, _ in given]),
        intrinsics=None if intrinsics is None else intrinsics[chosen],
        focal_px=focal_of_fov(config.prior_fov_deg, tracks.size) if intrinsics is None else None)
    posed = found.posed if found.failure is None else np.zeros(len(chosen), bool)
    if posed.sum() < 3:
        return None
    known = chosen[posed]
    guess = intrinsics
    if guess is None:
        guess = np.tile(np.median(found.intrinsics[posed], axis=0), (count, 1))
    recovered = KeyframeMap(seen, points, guess, intrinsics is not None, config)
    rotation = np.tile(np.eye(3), (count, 1, 1))
    centre = np.zeros((count, 3))
    rotation[known] = found.c2w[posed][:, :3, :3].swapaxes(1, 2)
    baseline = np.median(np.linalg.norm(np.diff(found.c2w[posed][:, :3, 3], axis=0), axis=1))
    centre[known] = found.c2w[posed][:, :3, 3] / max(float(baseline), 1e-12)
    recovered.cameras = Cameras(rotation, centre, recovered.cameras.intrinsics)
    recovered.posed[known] = True
    recovered.triangulate_new()
    return recovered if recovered.solved.sum() >= config.min_inliers else None
