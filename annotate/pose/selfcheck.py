"""Is this camera file read by the right convention? Images decide.

Points followed between frames must lie on the epipolar lines of the poses, and in front of both cameras. Both
numbers are needed: straight motion hides its direction from the epipolar lines, an orbit hides an inverted
pose from the side of the camera. Every other reading of the same numbers must do clearly worse. This catches
what no test of a reader can: world-to-camera taken for camera-to-world, OpenGL for OpenCV, quaternions in
another order, intrinsics of another size, poses of other frames.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum

import cv2
import numpy as np

from annotate.frames import Frames
from annotate.pose.pairs import FlowPairs, follow_pairs
from dataset.camera import invert, resize_intrinsics
from dataset.clip import CameraTrack

MAX_SAMPSON_PX = 1.0
MIN_CHEIRALITY = 0.9
MARGIN = 2.0
MAX_OFFSET = 3
PAIRS = 25
WIDTH = 640

_MIN_POINTS = 200
_MIN_PARALLAX_DEG = 0.1
_MIN_PARALLAX_SHARE = 0.1
_MAX_POINTS = 1500  # for a median over a reading; there are hundreds of readings
_SIZE_FACTORS = (0.5, 2 / 3, 1.5, 2.0)
_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
_HOMOGRAPHY_PX = 1.0
_HOMOGRAPHY_SHARE = 0.9
# A frame early or late hardly shows in smooth motion: such a reading need only fit no better than the stated.
_SHIFT_TOLERANCE = 0.8


class Outcome(StrEnum):
    """What the images say about the stated reading."""

    ACCEPTED = "accepted"  # it fits, and every other reading is clearly worse
    REFUSED = "refused"  # it does not fit, or another fits better
    UNDECIDED = "undecided"  # too little translation or texture to tell: use another clip


class QuaternionOrder(StrEnum):
    """Order of the numbers in the file."""

    xyzw = "xyzw"
    wxyz = "wxyz"


@dataclass(frozen=True)
class Score:
    """How one reading fits: median Sampson distance, pixels at the working width, and share of points in
    front of both cameras; NaN where it could not be measured."""

    reading: str
    sampson_px: float
    cheirality: float
    only_shifted: bool = False  # the stated reading but for the frame each camera belongs to

    @property
    def is_measured(self) -> bool:
        return bool(np.isfinite(self.sampson_px) and np.isfinite(self.cheirality))

    @property
    def fits(self) -> bool:
        return self.sampson_px < MAX_SAMPSON_PX and self.cheirality >= MIN_CHEIRALITY


@dataclass(frozen=True)
class SelfCheck:
    """Outcome for one clip; `scores[0]` is the stated reading, the others follow from best to worst."""

    outcome: Outcome
    reason: str
    scores: list[Score]
    pairs: int
    flow_px: float

    @property
    def stated(self) -> Score:
        return self.scores[0]

    def table(self, rows: int = 12) -> str:
        """The readings tried, best first, as text."""
        lines = [f"{self.outcome}: {self.reason}",
                 f"  {self.pairs} frame pairs, median flow {self.flow_px:.1f} px; "
                 f"wanted: Sampson < {MAX_SAMPSON_PX:g} px, in front >= {MIN_CHEIRALITY:g}",
                 f"  {'Sampson px':>10}  {'in front':>8}  reading"]
        for score in self.scores[:rows]:
            lines.append(f"  {score.sampson_px:10.2f}  {score.cheirality:8.2f}  {score.reading}")
        if len(self.scores) > rows:
            lines.append(f"  and {len(self.scores) - rows} that fit worse")
        return "\n".join(lines)


def measure(
    pairs: FlowPairs, c2w: np.ndarray, intrinsics: np.ndarray, offset: int = 0
) -> tuple[float, float]:
    """(median Sampson distance in pixels, share of points in front) of poses (F, 4, 4) on followed points.

    intrinsics (F, 4) in pixels of `pairs.size`. Frame i takes the camera i + `offset`; pairs without cameras
    or without translation do not count. NaN where fewer than 200 points remain.
    """
    first, second = pairs.first + offset, pairs.second + offset
    inside = (np.minimum(first, second) >= 0) & (np.maximum(first, second) < len(c2w))
    first, second = np.where(inside, first, 0), np.where(inside, second, 0)
    second_from_first = invert(c2w[second]) @ c2w[first]
    rotation, translation = second_from_first[:, :3, :3], second_from_first[:, :3, 3]
    baseline = np.linalg.norm(translation, axis=1)
    usable = inside & np.isfinite(second_from_first).all((1, 2)) & (baseline > 1e-12)
    usable &= np.isfinite(intrinsics[first]).all(1) & np.isfinite(intrinsics[second]).all(1)
    points = usable[pairs.pair]
    if points.sum() < _MIN_POINTS:
        return np.nan, np.nan
    pair = pairs.pair[points]
    ray_first = _rays(pairs.start[points], intrinsics[first][pair])
    ray_second = _rays(pairs.end[points], intrinsics[second][pair])
    direction = (translation / np.where(baseline > 0, baseline, 1.0)[:, None])[pair]
    turned = np.einsum("nij,nj->ni", rotation[pair], ray_first)
    line_second = np.cross(direction, turned)  # E x1
    line_first = np.einsum("nji,nj->ni", rotation[pair], np.cross(ray_second, direction))  # Eᵀ x2
    gradient = np.concatenate([line_second[:, :2] / intrinsics[second][pair, :2],
                               line_first[:, :2] / intrinsics[first][pair, :2]], 1)
    residual = np.abs((ray_second * line_second).sum(1))
    sampson = residual / np.maximum(np.linalg.norm(gradient, axis=1), 1e-12)
    return float(np.median(sampson)), _share_in_front(turned, ray_second, direction)


def _rays(pixels: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    return np.concatenate([(pixels - intrinsics[:, 2:]) / intrinsics[:, :2], np.ones((len(pixels), 1))], 1)


def _share_in_front(turned: np.ndarray, ray_second: np.ndarray, direction: np.ndarray) -> float:
    """Depths z of z2 x2 = z1 R x1 + t by least squares; points almost at infinity have no side."""
    aa, bb, ab = (turned**2).sum(1), (ray_second**2).sum(1), (turned * ray_second).sum(1)
    at, bt = (turned * direction).sum(1), (ray_second * direction).sum(1)
    determinant = aa * bb - ab**2
    seen = determinant > np.sin(np.radians(_MIN_PARALLAX_DEG)) ** 2 * aa * bb
    if seen.mean() < _MIN_PARALLAX_SHARE:
        return np.nan
    in_front = (ab * bt - bb * at > 0) & (aa * bt - ab * at > 0)
    return float(in_front[seen].mean())


def check_convention(
    frames: Frames, c2w: np.ndarray, intrinsics: np.ndarray, quaternion: QuaternionOrder | None = None,
) -> SelfCheck:
    """Try every reading of imported cameras on the images.

    c2w (F, 4, 4) and intrinsics (F, 4), pixels of `frames.size`, are what the stated reading gave: already
    camera-to-world, OpenCV, NaN where unknown. `quaternion` is the stated order if the rotations came as
    quaternions. The other readings follow from these, since each is the same numbers taken differently.
    """
    margin = MAX_OFFSET if len(frames) > 6 * MAX_OFFSET else 0
    pairs = follow_pairs(frames, PAIRS, WIDTH, margin)
    return check_pairs(pairs, c2w, resize_intrinsics(intrinsics, frames.size, pairs.size), quaternion)


def check_pairs(
    pairs: FlowPairs, c2w: np.ndarray, intrinsics: np.ndarray, quaternion: QuaternionOrder | None = None,
) -> SelfCheck:
    """`check_convention` on points that are already followed; intrinsics in pixels of `pairs.size`."""
    pairs = _thinned(pairs)
    stated = Score("as stated", *measure(pairs, c2w, intrinsics))
    others = []
    for pose_name, poses in _pose_readings(c2w, quaternion):
        for intrinsics_name, k in _intrinsics_readings(intrinsics, pairs.size):
            for offset in range(-MAX_OFFSET, MAX_OFFSET + 1):
                names = [pose_name, intrinsics_name, f"{offset:+d} frames" if offset else ""]
                if any(names):
                    others.append(Score(", ".join(filter(None, names)), *measure(pairs, poses, k, offset),
                                        only_shifted=not (pose_name or intrinsics_name)))
    others.sort(key=lambda s: s.sampson_px / max(s.cheirality, 1e-3) if s.is_measured else np.inf)
    outcome, reason = _judge(stated, others, pairs)
    flow = float(np.median(pairs.flow_px)) if len(pairs) else 0.0
    return SelfCheck(outcome, reason, [stated, *others], len(pairs), flow)


def _thinned(pairs: FlowPairs) -> FlowPairs:
    every = max(1, len(pairs.pair) // _MAX_POINTS)
    return dataclasses.replace(pairs, pair=pairs.pair[::every], start=pairs.start[::every],
                               end=pairs.end[::every])


def _pose_readings(c2w: np.ndarray, quaternion: QuaternionOrder | None) -> list[tuple[str, np.ndarray]]:
    inverse = invert(c2w)
    readings = [("", c2w), ("inverted", inverse), ("OpenGL axes", c2w @ _FLIP),
                ("inverted, OpenGL axes", inverse @ _FLIP)]
    if quaternion is not None:
        # The numbers in the file are those of c2w or of its inverse, whichever the format stores.
        permuted, permuted_inverse = _other_order(c2w, quaternion), invert(_other_order(inverse, quaternion))
        name = "quaternion in the other order"
        readings += [(name, permuted), (f"{name}, OpenGL axes", permuted @ _FLIP),
                     (f"{name}, of the inverse", permuted_inverse),
                     (f"{name}, of the inverse, OpenGL axes", permuted_inverse @ _FLIP)]
    return readings


def _other_order(c2w: np.ndarray, stated: QuaternionOrder) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    poses = c2w.copy()
    known = np.isfinite(c2w).all((1, 2))
    if known.any():
        xyzw = Rotation.from_matrix(c2w[known, :3, :3]).as_quat()
        shift = -1 if stated is QuaternionOrder.xyzw else 1  # the file's x y z w taken for w x y z, or back
        poses[known, :3, :3] = Rotation.from_quat(np.roll(xyzw, shift, axis=1)).as_matrix()
    return poses


def _intrinsics_readings(intrinsics: np.ndarray, size: tuple[int, int]) -> list[tuple[str, np.ndarray]]:
    height, width = size
    whole = np.array([width, height, width, height], np.float64)
    return [("", intrinsics), ("intrinsics normalised", intrinsics * whole),
            ("intrinsics not normalised", intrinsics / whole),
            *((f"intrinsics of {1 / by:.2g} x the size", intrinsics * by) for by in _SIZE_FACTORS)]


def _judge(stated: Score, others: list[Score], pairs: FlowPairs) -> tuple[Outcome, str]:
    if not stated.is_measured:
        return Outcome.UNDECIDED, "too few points could be followed, or they show no parallax"
    rivals = [other for other in others if not _is_beaten(stated, other)]
    if stated.fits and not rivals:
        return Outcome.ACCEPTED, "the stated reading fits and every other is clearly worse"
    better = [rival for rival in rivals if rival.only_shifted or _is_beaten(rival, stated)]
    if better and better[0].fits:
        return Outcome.REFUSED, f"the cameras fit better when read as: {better[0].reading}"
    if _only_turns(pairs):
        return Outcome.UNDECIDED, "the images show no parallax"
    if not stated.fits:
        return Outcome.REFUSED, (f"Sampson distance {stated.sampson_px:.2f} px, {stated.cheirality:.0%} of "
                                 "the points in front, and no other reading fits either")
    return Outcome.UNDECIDED, f"they fit nearly as well when read as: {rivals[0].reading}"


def _is_beaten(winner: Score, other: Score) -> bool:
    """Whether `winner` is clearly better than `other` on either number."""
    if not other.is_measured:
        return True
    if other.only_shifted:
        return other.sampson_px >= _SHIFT_TOLERANCE * winner.sampson_px
    return other.sampson_px >= MARGIN * winner.sampson_px or other.cheirality <= winner.cheirality / MARGIN


def _only_turns(pairs: FlowPairs) -> bool:
    """Whether one homography explains almost all points of most pairs: no translation, or a wall."""
    shares = []
    for index in range(len(pairs)):
        mine = pairs.pair == index
        homography, inliers = cv2.findHomography(pairs.start[mine], pairs.end[mine], cv2.RANSAC,
                                                 _HOMOGRAPHY_PX)
        shares.append(float(inliers.mean()) if homography is not None else 0.0)
    return float(np.median(shares)) >= _HOMOGRAPHY_SHARE


def check_own(frames: Frames, track: CameraTrack, width: int = WIDTH) -> tuple[float, float]:
    """(Sampson px at `width`, cheirality) of an engine's own result; NaN where nothing can be measured."""
    pairs = follow_pairs(frames, PAIRS, width)
    return measure(pairs, track.c2w, resize_intrinsics(track.intrinsics, track.size, pairs.size))
