"""From tracks to a finished map of keyframes: start, growth, global adjustment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from annotate.pose.bundle import Priors
from annotate.pose.config import ClassicalConfig
from annotate.pose.finish import finish
from annotate.pose.recover import map_from_mapper
from annotate.pose.reprojection import Free
from annotate.pose.start import find_start, focal_of_fov
from annotate.pose.tracks import Tracks
from annotate.pose.window import KeyframeMap, keyframe_observations, longest


@dataclass
class Solved:
    """A finished map. names (P,) are the tracks of its points; `broke` is a keyframe that found no place."""

    map: KeyframeMap
    names: np.ndarray
    variance: np.ndarray | None
    broke: int | None
    diagnostics: dict[str, float | str | bool | None]

    @property
    def posed(self) -> int:
        """Number of keyframes that have a pose."""
        return int(self.map.posed.sum())

    @property
    def complete(self) -> bool:
        return bool(self.map.posed.all())


def solve(
    tracks: Tracks, known: np.ndarray | None, config: ClassicalConfig, recover: bool = False
) -> Solved | None:
    """The map of a clip's keyframes, or None where no start was found. known (F, 4): intrinsics to be kept.

    `recover` starts from a mapper's cameras instead of a pair of our own.
    """
    height, width = tracks.size
    whole, names = keyframe_observations(tracks)
    seen = longest(whole, len(names), config.growth_points)
    at_keyframes = None if known is None else known[tracks.keyframes]
    priors = Priors(
        log_focal=float(np.log(focal_of_fov(config.prior_fov_deg, tracks.size))),
        frame=tracks.keyframes.astype(np.float64), principal=np.array([width / 2, height / 2]),
        principal_sigma=0.01 * width)
    diagnostics: dict[str, float | str | bool | None] = {"recovered": recover}
    if recover:
        begun = map_from_mapper(tracks, seen, len(names), at_keyframes, config)
        if begun is None:
            return None
    else:
        start, tried = find_start(tracks, seen, len(names), at_keyframes, priors, config)
        if start is None:
            return None
        begun = start.map
        first, second = tracks.keyframes[[start.pair.first, start.pair.second]]
        diagnostics |= {
            "starts_tried": float(len(tried)), "start_first": float(first),
            "start_gap": float(second - first), "start_focal_px": start.focal_px,
            "start_cost": start.cost, "start_cheirality": start.cheirality}
    broke, free = begun.grow(priors, Free(focal="shared" if known is None else "none"))
    if broke is not None:
        begun.widen(whole)
        broke, free = begun.grow(priors, free)
    report = finish(begun, whole, priors, free)
    return Solved(begun, names, report.variance, broke, {**diagnostics, **report.diagnostics})
