"""Normal equations of a bundle adjustment, and their reduction to the cameras (Schur complement).

Dense products over groups of points that the same cameras see: on video, where a track spans neighbouring
keyframes, that is a band of small matrices, and the cost grows linearly with the length of the clip.
"""

from __future__ import annotations

import itertools

import numpy as np
import scipy.linalg

GROUP = 192
"""Points reduced in one product."""
_PAIRS = (np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1, 2, 1, 2, 2]))
"""Rows and columns of the six entries of a symmetric 3x3 matrix."""


class NormalEquations:
    """J'J and J'r of a bundle adjustment with `width` parameters a camera and `shared` for all.

    camera, point: (O,) indices of each observation, sorted by point. Parameters are ordered cameras first,
    then the shared ones.
    """

    def __init__(
        self, camera: np.ndarray, point: np.ndarray, cameras: int, points: int, width: int, shared: int
    ) -> None:
        self.camera, self.point = camera, point
        self.cameras, self.points, self.width, self.shared = cameras, points, width, shared
        self.shared_at = cameras * width
        self.size = self.shared_at + shared
        self._present, self._starts = np.unique(point, return_index=True)
        self._by_camera = np.argsort(camera, kind="stable")
        self._seen_cameras, self._camera_starts = np.unique(camera[self._by_camera], return_index=True)
        # groups hold points whose first cameras are alike, so that each group touches few cameras
        first = np.full(points, cameras)
        last = np.full(points, -1)
        np.minimum.at(first, point, camera)
        np.maximum.at(last, point, camera)
        order = self._present[np.lexsort((last[self._present], first[self._present]))]
        rank = np.empty(points, np.int64)
        rank[order] = np.arange(len(order))
        by_rank = np.argsort(rank[point], kind="stable")
        edges = np.searchsorted(rank[point][by_rank], np.arange(0, len(order) + GROUP, GROUP))
        self._groups = []
        for number, (a, b) in enumerate(itertools.pairwise(edges)):
            if a == b:
                continue
            chosen = by_rank[a:b]
            used, local = np.unique(camera[chosen], return_inverse=True)
            members = order[number * GROUP:(number + 1) * GROUP]
            parameters = (used[:, None] * width + np.arange(width)).ravel()
            within = rank[point[chosen]] - number * GROUP
            self._groups.append((chosen, local, within, members, len(used), parameters))

    def assemble(
        self, error: np.ndarray, by_camera: np.ndarray, by_point: np.ndarray, by_shared: np.ndarray
    ) -> None:
        """Weighted errors (O, 2) and derivatives (O, 2, width), (O, 2, 3), (O, 2, shared)."""
        c, g = self.width, self.shared
        own = np.concatenate([by_camera, by_shared, error[:, :, None]], 2)  # (O, 2, c + g + 1)
        self.mixed = own[:, 0, :-1, None] * by_point[:, 0, None] + own[:, 1, :-1, None] * by_point[:, 1, None]
        own = own[self._by_camera].reshape(-1, c + g + 1)
        self.full = np.zeros((self.size, self.size))
        self.slope = np.zeros(self.size)
        shared = slice(self.shared_at, self.size)
        edges = 2 * np.append(self._camera_starts, len(error))
        for camera, begin, end in zip(self._seen_cameras, edges[:-1], edges[1:]):
            rows = own[begin:end]
            block = rows.T @ rows
            at = slice(camera * c, camera * c + c)
            self.full[at, at] = block[:c, :c]
            self.full[at, shared] = block[:c, c:-1]
            self.full[shared, at] = block[c:-1, :c]
            self.full[shared, shared] += block[c:-1, c:-1]
            self.slope[at] = block[:c, -1]
            self.slope[shared] += block[c:-1, -1]
        upper, left = by_point[:, 0], by_point[:, 1]
        first, second = _PAIRS
        terms = np.concatenate([
            upper[:, first] * upper[:, second] + left[:, first] * left[:, second],
            upper * error[:, :1] + left * error[:, 1:]], 1)
        sums = np.zeros((self.points, 9))
        sums[:, [0, 3, 5]] = 1.0
        sums[self._present] = np.add.reduceat(terms, self._starts, axis=0)
        self.point_block, self.point_slope = sums[:, :6], sums[:, 6:]

    def add_rows(self, rows: np.ndarray, values: np.ndarray) -> None:
        """Further linear terms |rows d + values|^2 on cameras and shared parameters."""
        if len(rows):
            self.full += rows.T @ rows
            self.slope += rows.T @ values

    def reduced(self, damping: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Reduced matrix and slope over cameras and shared parameters, and the points' inverse factors."""
        c, g = self.width, self.shared
        factor = _inverse_factor(self.point_block, damping)
        matrix, slope = self.full.copy(), self.slope.copy()
        diag = np.einsum("ii->i", matrix)
        diag += damping * diag
        half = np.einsum("nij,nj->ni", factor, self.point_slope)
        for chosen, local, rank, members, count, parameters in self._groups:
            mixed = self.mixed[chosen] @ factor[members[rank]].swapaxes(1, 2)
            blocks = np.zeros((count * c + g, len(members), 3))
            blocks[: count * c].reshape(count, c, len(members), 3)[local, :, rank] = mixed[:, :c]
            if g:
                np.add.at(blocks[count * c:].swapaxes(0, 1), rank, mixed[:, c:])
            dense = blocks.reshape(count * c + g, -1)
            where = np.concatenate([parameters, self.shared_at + np.arange(g)]) if g else parameters
            matrix[np.ix_(where, where)] -= dense @ dense.T
            slope[where] -= dense @ half[members].ravel()
        return matrix, slope, factor

    def solve(self, damping: float, columns: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Step of camera and shared parameters (those not in `columns` stay), and of the points (N, 3)."""
        matrix, slope, factor = self.reduced(damping)
        step = np.zeros(self.size)
        try:
            lower = scipy.linalg.cho_factor(matrix[np.ix_(columns, columns)], lower=True, check_finite=False)
            step[columns] = -scipy.linalg.cho_solve(lower, slope[columns], check_finite=False)
        except scipy.linalg.LinAlgError:
            return None
        if not np.isfinite(step).all():
            return None
        c = self.width
        own = step[: self.shared_at].reshape(self.cameras, c)[self.camera]
        if self.shared:
            own = np.concatenate([own, np.broadcast_to(step[self.shared_at:], (len(own), self.shared))], 1)
        pull = np.zeros((self.points, 3))
        pull[self._present] = np.add.reduceat(np.einsum("oij,oi->oj", self.mixed, own), self._starts, axis=0)
        inner = np.einsum("nij,nj->ni", factor, self.point_slope + pull)
        return step, -np.einsum("nji,nj->ni", factor, inner)


def _inverse_factor(block: np.ndarray, damping: float) -> np.ndarray:
    """Inverse of the lower Cholesky factor, (N, 3, 3), of damped symmetric matrices given as (N, 6)."""
    xx, xy, xz, yy, yz, zz = block.T
    floor = 1e-9 * np.maximum(np.maximum(xx, yy), zz) + 1e-30
    xx, yy, zz = (entry * (1.0 + damping) + floor for entry in (xx, yy, zz))
    a = np.sqrt(xx)
    b, c = xy / a, xz / a
    d = np.sqrt(np.maximum(yy - b * b, floor))
    e = (yz - b * c) / d
    f = np.sqrt(np.maximum(zz - c * c - e * e, floor))
    inverse = np.zeros((len(block), 3, 3))
    inverse[:, 0, 0], inverse[:, 1, 1], inverse[:, 2, 2] = 1 / a, 1 / d, 1 / f
    inverse[:, 1, 0] = -b / (a * d)
    inverse[:, 2, 1] = -e / (d * f)
    inverse[:, 2, 0] = (b * e - c * d) / (a * d * f)
    return inverse
