"""Global adjustment of a grown map, and the choice between models of the camera's intrinsics."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from annotate.pose.bundle import Free, Priors, Solution, residuals
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
    """Covariance (6 K', 6 K') of the posed keyframes in their order, or None; and what was chosen."""

    covariance: np.ndarray | None
    diagnostics: dict[str, float | str | bool | None] = field(default_factory=dict)


def finish(keyframe_map: KeyframeMap, priors: Priors, free: Free) -> Finish:
    """Adjust everything, twice culling what does not fit, then let the intrinsics vary if that pays."""
    known = keyframe_map.known
    for limit in (2 * INLIER_PX, INLIER_PX):
        keyframe_map.adjust(free, priors, max_iterations=10, tolerance=1e-3)
        keyframe_map.cull(limit)
        keyframe_map.triangulate_new()
    solution = keyframe_map.adjust(free, priors, max_iterations=12, tolerance=3e-4)
    if not known and solution is not None:
        free, solution = _select_model(keyframe_map, priors, free, solution)
    keyframe_map.cull(INLIER_PX)
    keyframe_map.triangulate_new()
    final = keyframe_map.adjust(free, priors, max_iterations=12, tolerance=1e-4, covariance=True)
    if final is None:
        return Finish(None)
    use = keyframe_map.usable()
    error, _ = residuals(keyframe_map.cameras, keyframe_map.points, keyframe_map.seen.select(use))
    inside = keyframe_map.posed[keyframe_map.seen.camera]
    f = keyframe_map.cameras.intrinsics[keyframe_map.posed, 0]
    return Finish(final.covariance, {
        "reprojection_px": float(np.median(np.linalg.norm(error, axis=1))),
        "inlier_share": float(use.sum() / max(int(inside.sum()), 1)),
        "points": float(keyframe_map.solved.sum()),
        "focal_sigma_log": final.focal_sigma_log if not known else 0.0,
        "focal_model": "known" if known else free.focal,
        "focal_range": float((f.max() - f.min()) / np.median(f)),
        "principal_free": free.principal, "k1": keyframe_map.cameras.k1,
    })


def _select_model(
    keyframe_map: KeyframeMap, priors: Priors, free: Free, solution: Solution
) -> tuple[Free, Solution]:
    """Try a focal length per keyframe, lens distortion, a shared principal point; keep what pays."""
    turn = rotation_angle_deg(keyframe_map.cameras.rotation[keyframe_map.posed]
                              @ keyframe_map.cameras.rotation[keyframe_map.posed][0].T)
    candidates = [Free(focal="each")] if free.focal == "shared" else []
    candidates.append(Free(focal=free.focal, distortion=True))
    if turn.max() > MIN_TURN_DEG:
        candidates.append(Free(focal=free.focal, principal=True))
    for candidate in candidates:
        merged = Free(focal="each" if "each" in (candidate.focal, free.focal) else free.focal,
                      principal=free.principal or candidate.principal,
                      distortion=free.distortion or candidate.distortion)
        kept = keyframe_map.cameras.copy(), keyframe_map.points.copy()
        tried = keyframe_map.adjust(merged, priors, max_iterations=GLANCE, tolerance=1e-3)
        drop = MIN_ZOOM_DROP if candidate.focal != free.focal else MIN_LENS_DROP
        if tried is not None and tried.cost < (1 - 0.5 * drop) * solution.cost:
            tried = keyframe_map.adjust(merged, priors, max_iterations=15, tolerance=3e-4)
        f = keyframe_map.cameras.intrinsics[keyframe_map.posed, 0]
        varies = (f.max() - f.min()) / np.median(f) > MIN_FOCAL_RANGE
        pays = tried is not None and tried.cost < (1 - drop) * solution.cost
        if tried is not None and pays and (varies or candidate.focal == free.focal):
            free, solution = merged, tried
        else:
            keyframe_map.cameras, keyframe_map.points = kept
    return free, solution
