"""Rotations and focal length of a camera that turns and does not move, from homographies.

Classic self-calibration of a rotating camera (Hartley 1994; Hartley and Zisserman, 2nd edition, section
19.4), then a bundle adjustment over rotations and focal length. Translation is zero and stated as such: the
motion of the track is ROTATION_ONLY, so no scale exists for it.
"""

from __future__ import annotations

import cv2
import numpy as np

from annotate.frames import Frames
from annotate.pose.config import RotationConfig
from annotate.pose.pairs import follow
from annotate.pose.rotation_bundle import Matches, RotationFit, fit_rotations, transfer_error, turn_between
from annotate.pose.tracks import working_size
from dataset.camera import resize_intrinsics, rotation_angle_deg
from dataset.clip import CameraTrack, FrameVerdict, Motion

NAME = "rotation"

_HOMOGRAPHY_PX = 1.5
_MIN_POINTS = 25
_MIN_INLIER_SHARE = 0.5
_MAX_SHIFT = 0.25  # of the width, before a new keyframe is taken
_MAX_LOOPS = 40
_FOCAL_START = np.geomspace(0.4, 3.0, 14)  # of the width: fields of view from 103 to 19 degrees
_PRIOR_FOCAL = 0.9  # of the longer side


def estimate_rotations(
    frames: Frames, timestamps: np.ndarray, intrinsics: np.ndarray | None = None,
    config: RotationConfig | None = None,
) -> CameraTrack:
    """Camera of every frame of a clip whose camera only turns; `failure` says why not.

    intrinsics (F, 4) pixels of `frames.size` are held fixed when given; otherwise the clip shares one focal
    length, or has one per frame where that explains the images clearly better, with the principal point at
    the centre. Diagnostics: focal_sigma_log, focal_per_frame, reprojection_px (median, at the working width),
    inlier_share, turn_deg (largest angle to frame 0).
    """
    config = config or RotationConfig()
    gray = frames.gray(working_size(frames.size, config.width)[1])
    count, size = len(gray), (gray.shape[1], gray.shape[2])
    known = None if intrinsics is None else resize_intrinsics(intrinsics, frames.size, size)
    links, inlier_share = _link_frames(gray, config.points)
    if links is None or inlier_share < _MIN_INLIER_SHARE:
        reason = ("too few points could be followed from frame to frame" if links is None else
                  f"one homography explains {inlier_share:.0%} of the points: the camera does not only turn")
        return CameraTrack.failed(reason, timestamps, frames.size, NAME, Motion.ROTATION_ONLY,
                                  {"inlier_share": inlier_share})
    fit = _solve(links, gray, known, config)
    centre = np.array([size[1] / 2, size[0] / 2])
    found = np.concatenate([np.repeat(fit.focal[:, None], 2, 1), np.tile(centre, (count, 1))], 1)
    c2w = np.tile(np.eye(4), (count, 1, 1))
    c2w[:, :3, :3] = fit.rotations
    return CameraTrack(
        c2w=c2w,
        intrinsics=resize_intrinsics(found, size, frames.size) if intrinsics is None else intrinsics.copy(),
        size=frames.size, timestamps=np.asarray(timestamps, np.float64),
        sigma_position=np.full(count, np.nan), sigma_rotation_deg=fit.sigma_rotation_deg,
        frame_verdict=np.full(count, FrameVerdict.ESTIMATED, np.uint8), motion=Motion.ROTATION_ONLY,
        engine=NAME,
        diagnostics={
            "focal_sigma_log": None if known is not None else float(np.median(fit.sigma_log_focal)),
            "focal_per_frame": bool(known is None and np.ptp(fit.focal) > 0),
            "reprojection_px": float(np.median(fit.residual_px)), "inlier_share": inlier_share,
            "turn_deg": float(rotation_angle_deg(fit.rotations).max()),
        },
    )


Link = tuple[int, int, np.ndarray, np.ndarray]
"""Two frames and the points seen in both, pixels of the working size, inliers of one homography."""


def _link_frames(gray: np.ndarray, points: int) -> tuple[list[Link] | None, float]:
    """Every frame linked to its keyframe, and the median share of points one homography explains.

    Points are always followed from the keyframe's own patches, so that errors do not add up along the way.
    None when a frame cannot be linked at all.
    """
    links: list[Link] = []
    shares: list[float] = []
    keyframe, guess = 0, np.eye(3)
    width = gray.shape[2]
    for frame in range(1, len(gray)):
        link, share, found = _link(gray, keyframe, frame, points, guess)
        if (link is None or share < _MIN_INLIER_SHARE) and keyframe != frame - 1:
            keyframe = frame - 1
            link, share, found = _link(gray, keyframe, frame, points, np.eye(3))
        if link is None:
            return None, float(np.median(shares)) if shares else 0.0
        links.append(link)
        shares.append(share)
        guess = found
        shift = np.median(np.linalg.norm(link[3] - link[2], axis=1))
        if shift > _MAX_SHIFT * width or len(link[2]) < points // 4:
            keyframe, guess = frame, np.eye(3)
    return links, float(np.median(shares)) if shares else 0.0


def _link(
    gray: np.ndarray, first: int, second: int, points: int, guess: np.ndarray
) -> tuple[Link | None, float, np.ndarray]:
    start, end = follow(gray[first], gray[second], points, guess)
    if len(start) < _MIN_POINTS:
        return None, 0.0, guess
    cv2.setRNGSeed(0)
    homography, inliers = cv2.findHomography(start, end, cv2.RANSAC, _HOMOGRAPHY_PX)
    if homography is None or inliers.sum() < _MIN_POINTS:
        return None, 0.0, guess
    inside = inliers.ravel() == 1
    return (first, second, start[inside], end[inside]), float(inside.mean()), homography


def _solve(
    links: list[Link], gray: np.ndarray, known: np.ndarray | None, config: RotationConfig
) -> RotationFit:
    """Focal length by trial, rotations along the links, loops between keyframes, then all together."""
    count, (height, width) = len(gray), gray.shape[1:]
    centre = np.array([width / 2, height / 2])
    prior = _PRIOR_FOCAL * max(height, width)
    if known is not None:
        # One focal length and the centre describe a ray well enough to start; pixels are made to fit below.
        focal = known[:, :2].mean(1)
        flat = [_normalised(link, known, focal) for link in links]
    else:
        flat = [(i, j, start - centre, end - centre) for i, j, start, end in links]
        focal = np.full(count, _best_focal(flat, count, width))
    rotations = _chain(flat, count, focal)
    for first, second, guess in _loops(flat, rotations, focal, centre, width):
        link, share, _ = _link(gray, first, second, config.points, guess)
        if link is not None and share >= _MIN_INLIER_SHARE:
            i, j, start, end = link
            flat.append(_normalised(link, known, focal) if known is not None
                        else (i, j, start - centre, end - centre))
    matches = _stack(flat)
    if known is not None:
        return fit_rotations(matches, rotations, focal, "known", prior)
    shared = fit_rotations(matches, rotations, focal, "shared", prior)
    each = fit_rotations(matches, shared.rotations, shared.focal, "each", prior)
    zooms = (each.cost < (1 - config.zoom_gain) * shared.cost
             and np.ptp(each.focal) > config.zoom_range * np.median(each.focal))
    return each if zooms else shared


def _normalised(link: Link, known: np.ndarray, focal: np.ndarray) -> Link:
    """Pixels about the principal point as a camera with square pixels of focal length `focal` sees them."""
    i, j, start, end = link
    return (i, j, (start - known[i, 2:]) * focal[i] / known[i, :2],
            (end - known[j, 2:]) * focal[j] / known[j, :2])


def _best_focal(links: list[Link], count: int, width: int) -> float:
    """The one of several focal lengths whose rotations transfer the points of all links best."""
    costs = []
    for factor in _FOCAL_START:
        focal = np.full(count, factor * width)
        # Each link is judged alone: frame i at the identity, frame j turned.
        error = np.concatenate([
            transfer_error(Matches(np.zeros(len(start), np.int64), np.ones(len(start), np.int64), start, end),
                           np.stack([np.eye(3), turn_between(start, end, focal[0], focal[0]).T]), focal[:2])
            for _, _, start, end in links
        ])
        costs.append(float(np.minimum(error, 3.0).mean()))
    return float(_FOCAL_START[int(np.argmin(costs))] * width)


def _chain(links: list[Link], count: int, focal: np.ndarray) -> np.ndarray:
    """Camera-to-world rotations (F, 3, 3) by following the links from frame 0."""
    rotations = np.tile(np.eye(3), (count, 1, 1))
    for first, second, start, end in links:
        rotations[second] = rotations[first] @ turn_between(start, end, focal[first], focal[second]).T
    return rotations


def _loops(
    links: list[Link], rotations: np.ndarray, focal: np.ndarray, centre: np.ndarray, width: int
) -> list[tuple[int, int, np.ndarray]]:
    """Pairs of keyframes that should overlap though no link joins them, with the homography expected."""
    keyframes = sorted({first for first, _, _, _ in links} | {links[-1][1]})
    joined = {(first, second) for first, second, _, _ in links}
    found = []
    for a, first in enumerate(keyframes):
        for second in keyframes[a + 1:]:
            k_first, k_second = (np.array([[f, 0, centre[0]], [0, f, centre[1]], [0, 0, 1]])
                                 for f in (focal[first], focal[second]))
            homography = k_second @ rotations[second].T @ rotations[first] @ np.linalg.inv(k_first)
            moved = homography @ np.array([*centre, 1.0])
            if (first, second) in joined or moved[2] <= 0:
                continue
            shift = float(np.linalg.norm(moved[:2] / moved[2] - centre))
            if shift < 0.5 * width:
                found.append((shift, first, second, homography))
    found.sort(key=lambda loop: loop[:3])
    return [(first, second, homography) for _, first, second, homography in found[:_MAX_LOOPS]]


def _stack(links: list[Link]) -> Matches:
    counts = [len(start) for _, _, start, _ in links]
    return Matches(
        first=np.repeat([i for i, _, _, _ in links], counts),
        second=np.repeat([j for _, j, _, _ in links], counts),
        start=np.concatenate([start for _, _, start, _ in links]),
        end=np.concatenate([end for _, _, _, end in links]),
    )
