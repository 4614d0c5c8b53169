"""A map of keyframes and points that grows keyframe by keyframe, adjusted in a sliding window."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from annotate.pose.bundle import Noise, Priors, Solution, adjust, surplus
from annotate.pose.config import ClassicalConfig
from annotate.pose.pnp import ransac_pose, resect
from annotate.pose.reprojection import Cameras, Free, Observations, residuals
from annotate.pose.tracks import Tracks
from annotate.pose.triangulation import triangulate

MIN_ANGLE_DEG = 0.6
"""Rays closer than this say nothing of depth."""
MIN_ZOOM_KEYFRAMES = 7
"""Fewer keyframes cannot tell a zoom from a wrong focal length."""
MIN_FOCAL_RANGE = 0.03
"""A focal length per frame must vary by this share to be believed."""
SETTLED = 20
"""Keyframes after which the focal length has settled, and the whole map is adjusted less often."""
INLIER_PX = 2.5
"""Residual within which an observation supports a pose or a point, at the working size."""
_MEDIAN_LENGTH = 1.1774
"""Median length of an error in the plane, in units of the 1-sigma of either coordinate."""
_LEAST_NOISE_PX = 0.02
"""Below it, errors are those of interpolation and no longer spread like noise."""


def keyframe_observations(tracks: Tracks) -> tuple[Observations, np.ndarray]:
    """Keyframes' observations, tracks seen at least twice renumbered 0..P-1; and the track of each (P,)."""
    number = np.full(len(tracks.survival), -1)
    number[tracks.keyframes] = np.arange(len(tracks.keyframes))
    keep = number[tracks.frame] >= 0
    seen_often = np.bincount(tracks.track[keep], minlength=tracks.count) >= 2
    keep &= seen_often[tracks.track]
    names, point = np.unique(tracks.track[keep], return_inverse=True)
    return Observations(number[tracks.frame[keep]], point, tracks.pixel[keep]), names


def longest(seen: Observations, points: int, each: int) -> Observations:
    """The observations of the points (of `points`) that are among the `each` most often seen ones of those
    that lead on from any camera to a later one."""
    often = np.bincount(seen.point, minlength=points)
    order = np.lexsort((seen.camera, seen.point))
    point, camera = seen.point[order], seen.camera[order]
    leads = np.flatnonzero(point[1:] == point[:-1])
    point, camera = point[leads], camera[leads]
    order = np.lexsort((point, -often[point], camera))
    rank = np.arange(len(order)) - np.searchsorted(camera[order], camera[order])
    wanted = np.zeros(points, bool)
    wanted[point[order[rank < each]]] = True
    return seen.select(wanted[seen.point])


class KeyframeMap:
    """Keyframe cameras, of which `posed` (K,) are known, and points (P, 3), of which `solved` (P,) are.

    `valid` (O,) marks observations not yet found to be wrong.
    """

    def __init__(
        self, seen: Observations, points: int, intrinsics: np.ndarray, known: bool, config: ClassicalConfig
    ) -> None:
        count = len(intrinsics)
        self.known = known  # the intrinsics are given, not a hypothesis
        self.seen, self.config = seen, config
        self.cameras = Cameras(np.tile(np.eye(3), (count, 1, 1)), np.zeros((count, 3)), intrinsics.copy())
        self.posed = np.zeros(count, bool)
        self.points = np.zeros((points, 3))
        self.solved = np.zeros(points, bool)
        self.valid = np.ones(len(seen), bool)
        self.noise = Noise(config.noise_px, config.huber_px)

    def widen(self, seen: Observations) -> None:
        """Go on with other observations of the same points, all of them valid to begin with."""
        self.seen, self.valid = seen, np.ones(len(seen), bool)
        self.triangulate_new()
        self.cull(2 * INLIER_PX)

    def measure_noise(self) -> None:
        """Take the noise of the observations from what is left of them after adjustment.

        Most points are seen far more sharply than to the pixel, and a few slide along edges or belong to
        things that move: a limit near the noise of the many keeps the few from bending the path.
        """
        use = self.usable()
        error, _ = residuals(self.cameras, self.points, self.seen.select(use))
        left = surplus(self.seen.select(use), 6 * int(self.posed.sum()))
        if left <= 0:
            return
        median = float(np.median(np.sqrt((error**2).sum(1)))) * np.sqrt(2 * len(error) / left)
        sigma = max(median / _MEDIAN_LENGTH, _LEAST_NOISE_PX)
        self.noise = Noise(sigma, sigma)

    def begin(self, first: int, second: int, rotation: np.ndarray, translation: np.ndarray) -> None:
        """Place two cameras, the second with unit baseline, and their points."""
        self.cameras.rotation[first], self.cameras.centre[first] = np.eye(3), 0.0
        self.cameras.rotation[second] = rotation
        self.cameras.centre[second] = -rotation.T @ translation
        self.posed[[first, second]] = True
        self.triangulate_new()

    def usable(self) -> np.ndarray:
        """Mask (O,) of valid observations of solved points by posed cameras."""
        return self.valid & self.posed[self.seen.camera] & self.solved[self.seen.point]

    def triangulate_new(self) -> None:
        """Solve points that at least two posed cameras see from different enough places."""
        open_ones = self.valid & self.posed[self.seen.camera] & ~self.solved[self.seen.point]
        often = np.bincount(self.seen.point[open_ones], minlength=len(self.points)) >= 2
        open_ones &= often[self.seen.point]
        if not open_ones.any():
            return
        names, local = np.unique(self.seen.point[open_ones], return_inverse=True)
        part = Observations(self.seen.camera[open_ones], local, self.seen.pixel[open_ones])
        points, angle = triangulate(self.cameras, part, len(names))
        error, depth = residuals(self.cameras, points, part)
        worst = np.zeros(len(names))
        np.maximum.at(worst, local, np.where(depth > 0, np.sqrt((error**2).sum(1)), np.inf))
        good = (angle > MIN_ANGLE_DEG) & (worst < 2 * INLIER_PX)
        self.points[names[good]] = points[good]
        self.solved[names[good]] = True

    def place(self, keyframe: int) -> bool:
        """Pose one more keyframe from the solved points it sees, starting from its neighbours' motion."""
        seen = self.valid & (self.seen.camera == keyframe) & self.solved[self.seen.point]
        if seen.sum() < self.config.min_inliers:
            return False
        pixel, where = self.seen.pixel[seen], self.points[self.seen.point[seen]]
        starts = self._guesses(keyframe)
        found = ransac_pose(where, pixel, self.cameras.intrinsics[keyframe], INLIER_PX)
        if found is not None:
            starts.append(found)
        rotation, centre = (np.stack([start[i] for start in starts]) for i in range(2))
        intrinsics = np.tile(self.cameras.intrinsics[keyframe], (len(starts), 1))
        many = Cameras(rotation, centre, intrinsics, self.cameras.k1)
        count = len(pixel)
        part = Observations(np.repeat(np.arange(len(starts)), count), np.tile(np.arange(count), len(starts)),
                            np.tile(pixel, (len(starts), 1)))
        result = resect(many, where, part, self.noise, INLIER_PX)
        best = int(np.argmax(result.share - 1e-3 * result.median_px))
        self.cameras.rotation[keyframe] = result.cameras.rotation[best]
        self.cameras.centre[keyframe] = result.cameras.centre[best]
        inliers, share = result.inliers[best], result.share[best]
        placed = inliers >= self.config.min_inliers and (share >= 0.4 or (share >= 0.25 and inliers >= 40))
        self.posed[keyframe] = placed
        return bool(placed)

    def _guesses(self, keyframe: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Where the keyframe may be: at its nearest posed neighbour, or as far on as the neighbours moved."""
        known = np.flatnonzero(self.posed)
        known = known[np.argsort(np.abs(known - keyframe), kind="stable")]
        near = known[0]
        guesses = [(self.cameras.rotation[near], self.cameras.centre[near])]
        if len(known) > 1 and abs(known[1] - keyframe) == abs(near - keyframe) + 1:
            other = known[1]
            turn = self.cameras.rotation[near] @ self.cameras.rotation[other].T
            guesses.append((turn @ self.cameras.rotation[near],
                            2 * self.cameras.centre[near] - self.cameras.centre[other]))
        return guesses

    def adjust(
        self, free: Free, priors: Priors, cameras: np.ndarray | None = None, max_iterations: int = 20,
        tolerance: float = 1e-4, variance: bool = False,
    ) -> Solution | None:
        """Bundle adjustment of the posed cameras, or of `cameras` (K,) bool with the others that see their
        points held fixed. None where there is nothing to adjust."""
        use = self.usable()
        if cameras is not None:
            touched = np.zeros(len(self.points), bool)
            touched[self.seen.point[use & cameras[self.seen.camera]]] = True
            use &= touched[self.seen.point]
        often = np.bincount(self.seen.point[use], minlength=len(self.points)) >= 2
        use &= often[self.seen.point]
        if use.sum() < 20:
            return None
        which, camera = np.unique(self.seen.camera[use], return_inverse=True)
        names, point = np.unique(self.seen.point[use], return_inverse=True)
        if cameras is not None:
            free = Free(cameras[which], free.focal, free.principal, free.distortion)
        part = Cameras(self.cameras.rotation[which], self.cameras.centre[which],
                       self.cameras.intrinsics[which], self.cameras.k1)
        if priors.frame is not None:
            priors = replace(priors, frame=priors.frame[which])
        solution = adjust(
            part, self.points[names], Observations(camera, point, self.seen.pixel[use]), free, priors,
            self.noise, max_iterations, tolerance, variance)
        self.cameras.rotation[which] = solution.cameras.rotation
        self.cameras.centre[which] = solution.cameras.centre
        self.cameras.intrinsics[which] = solution.cameras.intrinsics
        if free.focal == "shared" or free.principal:
            others = np.setdiff1d(np.arange(len(self.posed)), which)
            self.cameras.intrinsics[others] = solution.cameras.intrinsics.mean(0)
        self.cameras.k1 = solution.cameras.k1
        self.points[names] = solution.points
        return solution

    def cull(self, limit_px: float) -> None:
        """Mark observations farther than `limit_px` off as wrong, and unsolve points left with too little."""
        use = self.usable()
        error, depth = residuals(self.cameras, self.points, self.seen.select(use))
        length = np.sqrt((error**2).sum(1))
        bad = np.flatnonzero(use)[(length > limit_px) | (depth <= 0)]
        self.valid[bad] = False
        left = self.usable()
        support = np.bincount(self.seen.point[left], minlength=len(self.points))
        wrong = np.bincount(self.seen.point[bad], minlength=len(self.points))
        rejected = self.solved & ((support < 2) | (wrong > support))
        self.solved &= ~rejected
        # a track that mostly misses belongs to something that moves, or slid along an edge: never again
        self.valid[(rejected & (wrong > 0))[self.seen.point]] = False

    def grow(self, priors: Priors, free: Free) -> tuple[int | None, Free]:
        """Place all other keyframes, those that see most points first; one where that failed, or None.

        `free` holds for the adjustments of the whole map in between: a focal length settled on few keyframes
        would bend all that is built on it. Where the fit worsens as the map grows and a focal length per
        keyframe mends it, the camera zooms: then that is returned as what is free.
        """
        count = len(self.posed)
        failed: int | None = None
        tried_with = np.zeros(count, np.int64)  # points in view when a keyframe could last not be placed
        next_whole, best_fit = 0.0, np.inf
        while not self.posed.all():
            ready = self.valid & self.solved[self.seen.point]
            in_view = np.bincount(self.seen.camera[ready], minlength=count)
            in_view[self.posed | (in_view < 1.3 * tried_with) | (in_view < self.config.min_inliers)] = 0
            if not in_view.any():
                break
            keyframe = int(np.argmax(in_view))
            self._borrow_focal(keyframe)
            if not self.place(keyframe):
                tried_with[keyframe] = in_view[keyframe]
                failed = keyframe
                continue
            self.triangulate_new()
            known = int(self.posed.sum())
            if known >= next_whole:
                iterations = 10 if known < SETTLED else 5
                whole = self.adjust(free, priors, max_iterations=iterations, tolerance=1e-3)
                next_whole = max((1.3 if known < SETTLED else 1.6) * known, known + 2)
                fit = whole.cost / max(len(whole.residual_px), 1) if whole is not None else np.inf
                if free.focal == "shared" and known >= MIN_ZOOM_KEYFRAMES and fit > 1.3 * best_fit:
                    free = self._zooming(free, priors, fit)
                    best_fit = fit
                best_fit = min(best_fit, fit)
            else:
                local = Free(focal="each" if free.focal == "each" else "none")
                self.adjust(local, priors, self._window_of(keyframe), max_iterations=2, tolerance=1e-3)
            self.cull(2 * INLIER_PX)
        return (failed if not self.posed.all() else None), free

    def _borrow_focal(self, keyframe: int) -> None:
        """Start a keyframe with the intrinsics of the nearest posed one, unless they are given."""
        if not self.known:
            posed = np.flatnonzero(self.posed)
            nearest = posed[np.argmin(np.abs(posed - keyframe))]
            self.cameras.intrinsics[keyframe] = self.cameras.intrinsics[nearest]

    def _zooming(self, free: Free, priors: Priors, fit: float) -> Free:
        """What is free once a focal length per keyframe has been tried; kept only if it pays a lot."""
        kept = self.cameras.copy(), self.points.copy()
        each = Free(focal="each")
        tried = self.adjust(each, priors, max_iterations=4, tolerance=1e-3)
        if tried is not None and tried.cost / max(len(tried.residual_px), 1) < 0.9 * fit:
            tried = self.adjust(each, priors, max_iterations=15, tolerance=1e-3)
        focal = self.cameras.intrinsics[self.posed, 0]
        if (tried is not None and tried.cost / max(len(tried.residual_px), 1) < 0.7 * fit
                and focal.max() - focal.min() > MIN_FOCAL_RANGE * np.median(focal)):
            return each
        self.cameras, self.points = kept
        return free

    def _window_of(self, keyframe: int) -> np.ndarray | None:
        """The posed keyframes that share most points with one, (K,) bool; None when that is all of them."""
        if self.posed.sum() <= self.config.window:
            return None
        use = self.usable()
        mine = np.zeros(len(self.points), bool)
        mine[self.seen.point[use & (self.seen.camera == keyframe)]] = True
        shared = np.bincount(self.seen.camera[use & mine[self.seen.point]], minlength=len(self.posed))
        near = np.zeros(len(self.posed), bool)
        near[np.argsort(-shared, kind="stable")[: self.config.window]] = True
        return near & self.posed
