"""Global adjustment of a grown map, and the choice between models of the camera's intrinsics."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from annotate.pose.bundle import Priors, Solution
from annotate.pose.reprojection import Free, Observations, residuals
from annotate.pose.window import INLIER_PX, MIN_FOCAL_RANGE, KeyframeMap
from dataset.camera import rotation_angle_deg

MIN_ZOOM_DROP, MIN_LENS_DROP = 0.05, 0.02
"""Share by which the robust cost must fall for a focal length per frame; for one more number for all."""
GLANCE = 4
"""Iterations after which a model that gains nothing is given up."""
MIN_TURN_DEG = 15.0
"""The principal point shows itself only where the camera turns."""


@dataclass
class Finish:
    """Variances (K', 6) of the posed keyframes in their order, or None; and what was chosen."""

    variance: np.ndarray | None
    diagnostics: dict[str, float | str | bool | None] = field(default_factory=dict)


def finish(keyframe_map: KeyframeMap, whole: Observations, priors: Priors, free: Free) -> Finish:
    """Adjust the grown map and let the intrinsics vary if that pays; then go on with the `whole` of what is
    seen of its points."""
    known = keyframe_map.known
    keyframe_map.adjust(free, priors, max_iterations=10, tolerance=1e-3)
    keyframe_map.cull(INLIER_PX)
    keyframe_map.triangulate_new()
    keyframe_map.measure_noise()
    solution = keyframe_map.adjust(free, priors, max_iterations=12, tolerance=3e-4)
    if not known and solution is not None:
        free = _select_model(keyframe_map, priors, free, solution)
    keyframe_map.widen(whole)
    keyframe_map.measure_noise()
    keyframe_map.adjust(free, priors, max_iterations=10, tolerance=1e-3)
    keyframe_map.cull(INLIER_PX)
    keyframe_map.triangulate_new()
    keyframe_map.measure_noise()
    final = keyframe_map.adjust(free, priors, max_iterations=10, tolerance=2e-4, variance=True)
    if final is None:
        return Finish(None)
    use = keyframe_map.usable()
    error, _ = residuals(keyframe_map.cameras, keyframe_map.points, keyframe_map.seen.select(use))
    inside = keyframe_map.posed[keyframe_map.seen.camera]
    f = keyframe_map.cameras.intrinsics[keyframe_map.posed, 0]
    return Finish(final.variance, {
        "reprojection_px": float(np.median(np.linalg.norm(error, axis=1))),
        "inlier_share": float(use.sum() / max(int(inside.sum()), 1)),
        "points": float(keyframe_map.solved.sum()),
        "noise_px": keyframe_map.noise.sigma_px,
        "focal_sigma_log": final.focal_sigma_log if not known else 0.0,
        "focal_model": "known" if known else free.focal,
        "focal_range": float((f.max() - f.min()) / np.median(f)),
        "principal_free": free.principal, "k1": keyframe_map.cameras.k1,
    })


def _select_model(keyframe_map: KeyframeMap, priors: Priors, free: Free, solution: Solution) -> Free:
    """Try a focal length per keyframe, lens distortion, a shared principal point in turn; keep what pays."""
    rotation = keyframe_map.cameras.rotation[keyframe_map.posed]
    if free.focal == "shared":
        free, solution = _try(keyframe_map, priors, free, replace(free, focal="each"), solution)
    free, solution = _try(keyframe_map, priors, free, replace(free, distortion=True), solution)
    if rotation_angle_deg(rotation @ rotation[0].T).max() > MIN_TURN_DEG:
        free, solution = _try(keyframe_map, priors, free, replace(free, principal=True), solution)
    return free


def _try(
    keyframe_map: KeyframeMap, priors: Priors, free: Free, freer: Free, solution: Solution
) -> tuple[Free, Solution]:
    """What is free, and its solution, after a freer model has been tried; the map is that of the better."""
    zooms = freer.focal != free.focal
    drop = MIN_ZOOM_DROP if zooms else MIN_LENS_DROP
    kept = keyframe_map.cameras.copy(), keyframe_map.points.copy()
    tried = keyframe_map.adjust(freer, priors, max_iterations=GLANCE, tolerance=1e-3)
    if tried is not None and tried.cost < (1 - 0.5 * drop) * solution.cost:
        tried = keyframe_map.adjust(freer, priors, max_iterations=15, tolerance=3e-4)
    focal = keyframe_map.cameras.intrinsics[keyframe_map.posed, 0]
    varies = np.ptp(focal) > MIN_FOCAL_RANGE * np.median(focal)
    if tried is not None and tried.cost < (1 - drop) * solution.cost and (varies or not zooms):
        return freer, tried
    keyframe_map.cameras, keyframe_map.points = kept
    return free, solution
