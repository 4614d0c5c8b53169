"""Comparing camera paths: Sim(3) alignment (Umeyama 1991; trimming as paper, App. B) and pose errors.

Direction matters. Least squares shrinks the scale when the *source* is noisy: by the factor
spread² / (spread² + 3 noise²), a half for 5 cm of noise on a path that spreads 9 cm. So put the exact
path (ground truth, a manifest's poses) as source and the estimate as target, and use `Sim3.inverse`
for the other direction. Degenerate paths are an answer with a status, never an exception.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from dataset.camera import invert, relative, rotation_angle_deg

MIN_PAIRS = 10
MIN_SPREAD_TO_RESIDUAL = 5.0
MIN_SPAN = 0.6
MAX_TRIM_ROUNDS = 5


class Alignment(StrEnum):
    """What is removed before two paths are compared."""

    NONE = "none"
    SE3 = "se3"
    SIM3 = "sim3"
    FRAMEWISE = "framewise"  # of the published SANA-WM evaluation, see `align_framewise`


class PathShape(StrEnum):
    """How much of a similarity the paths determine."""

    GENERAL = "general"
    STRAIGHT = "straight"  # the turn about the line comes from the orientations, or is arbitrary
    STATIONARY = "stationary"  # no scale exists


@dataclass(frozen=True)
class Sim3:
    """target ≈ scale · rotation · source + translation.

    `scale` is NaN where the source does not move. `inliers` (n,) are the pairs that were fitted, `residual`
    their rms and `spread` the rms distance of source centres from their mean, both in target units.
    `refusal` says why this fit must not be used to declare a scale, or is None.
    """

    scale: float
    rotation: np.ndarray
    translation: np.ndarray
    inliers: np.ndarray
    shape: PathShape
    residual: float
    spread: float
    refusal: str | None

    def inverse(self) -> Sim3:
        """Source from target. Raises ValueError without a scale."""
        if not self.scale > 0:
            raise ValueError(f"a Sim(3) of scale {self.scale} has no inverse ({self.shape} path)")
        rotation = self.rotation.T
        return Sim3(1 / self.scale, rotation, -rotation @ self.translation / self.scale, self.inliers,
                    self.shape, self.residual / self.scale, self.spread / self.scale, self.refusal)


def apply_sim3(sim3: Sim3, c2w: ArrayLike) -> np.ndarray:
    """Poses (..., 4, 4) in the target's world. Without a scale the centres keep their unit."""
    poses = np.array(c2w, np.float64)
    scale = 1.0 if np.isnan(sim3.scale) else sim3.scale
    poses[..., :3, 3] = scale * poses[..., :3, 3] @ sim3.rotation.T + sim3.translation
    poses[..., :3, :3] = sim3.rotation @ poses[..., :3, :3]
    return poses


def nearest_rotation(matrix: np.ndarray) -> np.ndarray:
    """The rotation closest to a (3, 3) matrix in the Frobenius norm: of a mean rotation, the chordal mean."""
    u, _, vt = np.linalg.svd(matrix)
    return u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u) * np.linalg.det(vt))]) @ vt


def align_sim3(
    source: ArrayLike, target: ArrayLike, trim_percentile: float | None = None, *, with_scale: bool = True,
    times: ArrayLike | None = None, orientation: np.ndarray | None = None,
) -> Sim3:
    """Similarity that takes centres `source` (n, 3) to `target` (n, 3) in the least-squares sense.

    `trim_percentile` (80 in the paper) refits on the pairs whose residual is within that percentile until
    they stay the same, at most five times. `with_scale=False` gives the rigid motion. `times` (n,) judge how
    much of the span the inliers cover; frames are taken as evenly spaced without them. `orientation` (3, 3)
    is the mean of R_target R_sourceᵀ; it settles the turn about a straight path. Rows that are not finite
    are never inliers. Raises ValueError only for shapes that do not match.
    """
    x, y = np.asarray(source, np.float64), np.asarray(target, np.float64)
    if x.shape != y.shape or x.ndim != 2 or x.shape[1] != 3:
        raise ValueError(f"align_sim3: source {x.shape} and target {y.shape}, expected two (n, 3) arrays")
    usable = np.isfinite((x + y).sum(axis=1))
    inliers = usable.copy()
    scale, rotation, translation, shape = _fit(x[inliers], y[inliers], with_scale, orientation)
    percentile = 100.0 if trim_percentile is None else trim_percentile
    for _ in range(MAX_TRIM_ROUNDS if usable.any() else 0):
        residual = _residual(x, y, scale, rotation, translation)
        kept = usable & (residual <= np.percentile(residual[usable], percentile))
        if (kept == inliers).all():
            break
        inliers = kept
        scale, rotation, translation, shape = _fit(x[inliers], y[inliers], with_scale, orientation)
    rms = _rms(_residual(x, y, scale, rotation, translation)[inliers])
    spread = _rms(np.linalg.norm(x[inliers] - x[inliers].mean(0), axis=1)) if inliers.any() else 0.0
    spread *= 1.0 if np.isnan(scale) else scale
    refusal = _refusal(shape, inliers, spread, rms, times)
    return Sim3(scale, rotation, translation, inliers, shape, rms, spread, refusal)


def align_tracks(
    source_c2w: ArrayLike, target_c2w: ArrayLike, trim_percentile: float | None = None, *,
    with_scale: bool = True, times: ArrayLike | None = None,
) -> Sim3:
    """`align_sim3` of poses (n, 4, 4): orientations settle what a straight or still path leaves open."""
    source, target = np.asarray(source_c2w, np.float64), np.asarray(target_c2w, np.float64)
    turns = target[:, :3, :3] @ source[:, :3, :3].swapaxes(1, 2)
    turns = turns[np.isfinite(turns).all((1, 2))]
    orientation = nearest_rotation(turns.mean(0)) if len(turns) else None
    return align_sim3(source[:, :3, 3], target[:, :3, 3], trim_percentile, with_scale=with_scale, times=times,
                      orientation=orientation)


def align_framewise(estimate_c2w: ArrayLike, reference_c2w: ArrayLike) -> Sim3:
    """Alignment used by the published SANA-WM evaluation, which is not Umeyama's.

    World rotation: chordal mean of R_ref R_estᵀ. Scale and offset: least squares over the translations of
    the *world-to-camera* poses, that is, from the estimated centres to d_i = R_est,i R_ref,iᵀ c_ref,i. It
    differs from Sim(3) as soon as orientations err, so its figures compare only with each other.
    """
    estimate, reference = np.asarray(estimate_c2w, np.float64), np.asarray(reference_c2w, np.float64)
    r_est, r_ref = estimate[:, :3, :3], reference[:, :3, :3]
    rotation = nearest_rotation((r_ref @ r_est.swapaxes(1, 2)).mean(0))
    x = estimate[:, :3, 3]
    d = np.einsum("nij,nkj,nk->ni", r_est, r_ref, reference[:, :3, 3])
    xc = x - x.mean(0)
    spread = _rms(np.linalg.norm(xc, axis=1))
    moving = spread > 1e-10 * np.abs(x).max(initial=0.0)
    scale = float((xc * (d - d.mean(0))).sum() / (xc**2).sum()) if moving else np.nan
    translation = rotation @ (d.mean(0) - (scale if moving else 1.0) * x.mean(0))
    shape = PathShape.GENERAL if moving else PathShape.STATIONARY
    residual = _rms(_residual(x, reference[:, :3, 3], scale, rotation, translation))
    return Sim3(scale, rotation, translation, np.ones(len(x), bool), shape, residual,
                spread * (scale if moving else 1.0),
                "frame-wise alignment is for comparing figures, not for declaring a scale")


def _fit(
    x: np.ndarray, y: np.ndarray, with_scale: bool, orientation: np.ndarray | None,
) -> tuple[float, np.ndarray, np.ndarray, PathShape]:
    identity = np.eye(3) if orientation is None else orientation
    if not len(x):
        return np.nan, identity, np.zeros(3), PathShape.STATIONARY
    mean_x, mean_y = x.mean(0), y.mean(0)
    xc, yc = x - mean_x, y - mean_y
    spread_x, spread_y = _rms(np.linalg.norm(xc, axis=1)), _rms(np.linalg.norm(yc, axis=1))
    still = spread_x <= 1e-10 * np.abs(x).max() or spread_y <= 1e-10 * np.abs(y).max()
    if still:
        return (np.nan if with_scale else 1.0), identity, mean_y - identity @ mean_x, PathShape.STATIONARY
    rotation = nearest_rotation(yc.T @ xc / len(x))
    scale = _scale(xc, yc, rotation) if with_scale else 1.0
    residual = _rms(np.linalg.norm(yc - scale * xc @ rotation.T, axis=1))
    ways_x, ways_y = np.linalg.svd(xc, full_matrices=False), np.linalg.svd(yc, full_matrices=False)
    side = min(abs(scale) * _second(ways_x[1]), _second(ways_y[1])) / np.sqrt(len(x))
    if side >= max(1e-6 * spread_y, 2 * residual):
        return scale, rotation, mean_y - scale * rotation @ mean_x, PathShape.GENERAL
    if orientation is not None:
        # All turns about the line fit the centres equally: take the one nearest to the orientations.
        along_x, along_y = ways_x[2][0], ways_y[2][0]
        along_y = along_y * np.sign((yc @ along_y) @ (xc @ along_x) or 1.0)
        rotation = _swing(orientation @ along_x, along_y) @ orientation
        scale = _scale(xc, yc, rotation) if with_scale else 1.0
    return scale, rotation, mean_y - scale * rotation @ mean_x, PathShape.STRAIGHT


def _scale(xc: np.ndarray, yc: np.ndarray, rotation: np.ndarray) -> float:
    return float((yc * (xc @ rotation.T)).sum() / (xc**2).sum())


def _second(singular: np.ndarray) -> float:
    return float(singular[1]) if len(singular) > 1 else 0.0


def _swing(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Smallest rotation that takes unit vector `a` to `b`."""
    axis, cosine = np.cross(a, b), float(a @ b)
    if cosine < -1 + 1e-12:  # opposite: any axis across will do
        across = np.cross(a, np.eye(3)[np.argmin(np.abs(a))])
        across /= np.linalg.norm(across)
        return 2 * np.outer(across, across) - np.eye(3)
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + k + k @ k / (1 + cosine)


def _residual(
    x: np.ndarray, y: np.ndarray, scale: float, rotation: np.ndarray, shift: np.ndarray,
) -> np.ndarray:
    return np.linalg.norm(y - ((1.0 if np.isnan(scale) else scale) * x @ rotation.T + shift), axis=1)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if len(values) else 0.0


def _refusal(
    shape: PathShape, inliers: np.ndarray, spread: float, residual: float, times: ArrayLike | None,
) -> str | None:
    count = int(inliers.sum())
    if count < MIN_PAIRS:
        return f"{count} pairs of poses, at least {MIN_PAIRS} are needed"
    if shape is PathShape.STATIONARY:
        return "the path is stationary: no scale exists"
    if spread < MIN_SPREAD_TO_RESIDUAL * residual:
        return (f"the path spreads {spread:.3g} but the fit leaves {residual:.3g}: "
                f"below {MIN_SPREAD_TO_RESIDUAL:g} times the residual the scale is noise")
    clock = np.arange(len(inliers), dtype=np.float64) if times is None else np.asarray(times, np.float64)
    covered = float(np.ptp(clock[inliers]) / np.ptp(clock))
    if covered < MIN_SPAN:
        return (f"inliers cover {covered:.0%} of the time, at least {MIN_SPAN:.0%} is needed: "
                "a whole end that does not fit is drift")
    return None


@dataclass(frozen=True)
class ErrorStats:
    """Statistics of error norms; NaN where `count` is 0. `std` is of the population."""

    rmse: float
    mean: float
    median: float
    std: float
    min: float
    max: float
    sse: float
    count: int

    @classmethod
    def of(cls, errors: np.ndarray) -> ErrorStats:
        e = errors[np.isfinite(errors)]
        if not len(e):
            return cls(np.nan, np.nan, np.nan, np.nan, np.nan, np.nan, np.nan, 0)
        sse = float(np.sum(e**2))
        return cls(rmse=float(np.sqrt(sse / len(e))), mean=float(e.mean()), median=float(np.median(e)),
                   std=float(e.std()), min=float(e.min()), max=float(e.max()), sse=sse, count=len(e))


@dataclass(frozen=True)
class TrajectoryError:
    """Error of a path: `translation` in the reference's unit, `rotation_deg`, and what aligned it.

    `share_of_path` is the translation rmse over the length of the reference; NaN for a stationary one.
    """

    translation: ErrorStats
    rotation_deg: ErrorStats
    share_of_path: float
    sim3: Sim3 | None


def align(
    estimate: ArrayLike, reference: ArrayLike, alignment: Alignment | str,
) -> tuple[np.ndarray, Sim3 | None]:
    """The estimate (n, 4, 4) in the reference's world, and the similarity that took it there."""
    alignment = Alignment(alignment)
    if alignment is Alignment.NONE:
        return np.asarray(estimate, np.float64), None
    if alignment is Alignment.FRAMEWISE:
        sim3 = align_framewise(estimate, reference)
    else:
        sim3 = align_tracks(estimate, reference, with_scale=alignment is Alignment.SIM3)
    return apply_sim3(sim3, estimate), sim3


def absolute_error(
    estimate: ArrayLike, reference: ArrayLike, alignment: Alignment | str = Alignment.SIM3,
) -> TrajectoryError:
    """ATE of poses (n, 4, 4) after `alignment`: distance of centres and angle between orientations.

    Frames whose pose is NaN in either path do not count; see `translation.count`.
    """
    aligned, sim3 = align(estimate, reference, alignment)
    truth = np.asarray(reference, np.float64)
    distance = np.linalg.norm(aligned[:, :3, 3] - truth[:, :3, 3], axis=1)
    angle = rotation_angle_deg(truth[:, :3, :3].swapaxes(1, 2) @ aligned[:, :3, :3])
    return _trajectory_error(distance, angle, truth, sim3)


def relative_error(
    estimate: ArrayLike, reference: ArrayLike, frames: int = 1, alignment: Alignment | str = Alignment.SIM3,
) -> TrajectoryError:
    """RPE of poses (n, 4, 4): error of the motion over `frames` frames, all pairs.

    Of the alignment only the scale matters here. Raises ValueError for `frames` < 1.
    """
    if frames < 1:
        raise ValueError(f"relative_error: frames = {frames}, expected 1 or more")
    aligned, sim3 = align(estimate, reference, alignment)
    truth = np.asarray(reference, np.float64)
    moved = invert(aligned[:-frames]) @ aligned[frames:]
    wanted = invert(truth[:-frames]) @ truth[frames:]
    error = invert(wanted) @ moved
    return _trajectory_error(np.linalg.norm(error[:, :3, 3], axis=1), rotation_angle_deg(error[:, :3, :3]),
                             truth, sim3)


def rotation_error_to_first(estimate: ArrayLike, reference: ArrayLike) -> ErrorStats:
    """Angle, degrees, between R_0ᵀ R_i of both paths, i ≥ 1. Blind to a constant rotation, as it must be:
    a wrong principal point turns every frame alike and no video can tell."""
    turned, wanted = relative(estimate)[1:, :3, :3], relative(reference)[1:, :3, :3]
    return ErrorStats.of(rotation_angle_deg(wanted.swapaxes(1, 2) @ turned))


@dataclass(frozen=True)
class CameraControlError:
    """RotErr (degrees), TransErr and CamMC, each the mean over frames (paper, App. D)."""

    rot_err_deg: float
    trans_err: float
    cam_mc: float


def camera_control_error(
    estimate: ArrayLike, reference: ArrayLike, alignment: Alignment | str = Alignment.FRAMEWISE,
) -> CameraControlError:
    """How far a video's camera (n, 4, 4) strays from the one that was asked for (paper, App. D).

    Both paths are taken relative to their first frame, then aligned; the default is what the published
    evaluation does. CamMC is the Frobenius norm of the difference of the 3x4 poses. Units of the reference.
    """
    angle, distance, matrix = camera_control_errors(estimate, reference, alignment)
    return CameraControlError(float(angle.mean()), float(distance.mean()), float(matrix.mean()))


def camera_control_errors(
    estimate: ArrayLike, reference: ArrayLike, alignment: Alignment | str = Alignment.FRAMEWISE,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `camera_control_error` is the mean of, frame by frame: degrees, distances, norms, each (n,)."""
    wanted = relative(reference)
    aligned, _ = align(relative(estimate), wanted, alignment)
    difference = aligned[:, :3] - wanted[:, :3]
    angle = rotation_angle_deg(wanted[:, :3, :3].swapaxes(1, 2) @ aligned[:, :3, :3])
    return angle, np.linalg.norm(difference[:, :, 3], axis=1), np.linalg.norm(difference, axis=(1, 2))


def _trajectory_error(
    distance: np.ndarray, angle: np.ndarray, reference: np.ndarray, sim3: Sim3 | None,
) -> TrajectoryError:
    centres = reference[np.isfinite(reference).all((1, 2)), :3, 3]
    length = float(np.linalg.norm(np.diff(centres, axis=0), axis=1).sum())
    translation = ErrorStats.of(distance)
    share = translation.rmse / length if length > 0 else np.nan
    return TrajectoryError(translation, ErrorStats.of(angle), share, sim3)
