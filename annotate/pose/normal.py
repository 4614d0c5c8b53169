"""Normal equations of a bundle adjustment, and their reduction to the cameras (Schur complement).

Dense products over groups of points that the same cameras see, added to a chain of blocks (`annotate.pose.
chain`): on video the cost grows linearly with the length of the clip.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from annotate.pose.chain import Chain, Factor, order_cameras

GROUP = 192
"""Points reduced in one product."""
_PAIRS = (np.array([0, 0, 0, 1, 1, 2]), np.array([0, 1, 2, 1, 2, 2]))
"""Rows and columns of the six entries of a symmetric 3x3 matrix."""


@dataclass(frozen=True)
class _Group:
    """Points whose cameras lie in a block and the next: observations, which of the group's cameras and points
    they belong to, the points, and the parameters in the block (from 0) and in the next (from 0)."""

    chosen: np.ndarray
    local: np.ndarray
    within: np.ndarray
    members: np.ndarray
    cameras: int
    block: int
    here: np.ndarray
    there: np.ndarray


class NormalEquations:
    """J'J and J'r of a bundle adjustment with `width` parameters a camera and `shared` for all.

    camera, point: (O,) indices of each observation, sorted by point; camera -1 is one held fixed. Parameters
    are ordered cameras first, then the shared ones.
    """

    def __init__(
        self, camera: np.ndarray, point: np.ndarray, cameras: int, points: int, width: int, shared: int
    ) -> None:
        self.points, self.width, self.shared = points, width, shared
        self.size = cameras * width + shared
        self._point = point
        self._present, self._starts = np.unique(point, return_index=True)
        self._moving = np.flatnonzero(camera >= 0)
        self._camera, self._of = camera[self._moving], point[self._moving]
        self._position, self._edges = order_cameras(self._camera, self._of, cameras, points)
        self._by_camera = np.argsort(self._camera, kind="stable")
        self._seen_cameras, self._camera_starts = np.unique(self._camera[self._by_camera], return_index=True)
        self._touched, self._touched_starts = np.unique(self._of, return_index=True)
        self._groups = list(self._grouped())

    def _grouped(self) -> list[_Group]:
        """Points by the block that they begin in, those with the same first cameras together."""
        position = self._position[self._camera]
        first = np.full(self.points, len(self._position))
        last = np.full(self.points, -1)
        np.minimum.at(first, self._of, position)
        np.maximum.at(last, self._of, position)
        order = self._touched[np.lexsort((last[self._touched], first[self._touched]))]
        rank = np.empty(self.points, np.int64)
        rank[order] = np.arange(len(order))
        ranks = rank[self._of]
        by_rank = np.argsort(ranks, kind="stable")
        bounds = np.searchsorted(first[order], self._edges)
        groups = []
        for block, (begin, end) in enumerate(itertools.pairwise(bounds)):
            for low in range(begin, end, GROUP):
                high = min(low + GROUP, end)
                chosen = by_rank[slice(*np.searchsorted(ranks[by_rank], [low, high]))]
                used, local = np.unique(position[chosen], return_inverse=True)
                split = int(np.searchsorted(used, self._edges[block + 1]))
                start = np.repeat(self._edges[[block, block + 1]], [split, len(used) - split])
                columns = ((used - start)[:, None] * self.width + np.arange(self.width)).ravel()
                groups.append(_Group(chosen, local, ranks[chosen] - low, order[low:high], len(used), block,
                                     columns[:split * self.width], columns[split * self.width:]))
        return groups

    def assemble(
        self, error: np.ndarray, by_camera: np.ndarray, by_point: np.ndarray, by_shared: np.ndarray
    ) -> None:
        """Weighted errors (O, 2) and derivatives (O, 2, width), (O, 2, 3), (O, 2, shared)."""
        c, g = self.width, self.shared
        own = np.concatenate([by_camera, by_shared, error[:, :, None]], 2)[self._moving]
        near = by_point[self._moving]
        self.mixed = own[:, 0, :-1, None] * near[:, 0, None] + own[:, 1, :-1, None] * near[:, 1, None]
        own = own[self._by_camera].reshape(-1, c + g + 1)
        self.chain = Chain.zeros([int(n) * c for n in np.diff(self._edges)], g)
        self.slope, self.shared_slope = [np.zeros(len(d)) for d in self.chain.diagonal], np.zeros(g)
        edges = 2 * np.append(self._camera_starts, len(self._moving))
        for camera, begin, end in zip(self._seen_cameras, edges[:-1], edges[1:]):
            rows = own[begin:end]
            product = rows.T @ rows
            block, at = self._place(camera)
            self.chain.diagonal[block][at, at] = product[:c, :c]
            self.chain.border[block][at] = product[:c, c:-1]
            self.slope[block][at] = product[:c, -1]
            self.chain.corner += product[c:-1, c:-1]
            self.shared_slope += product[c:-1, -1]
        upper, left = by_point[:, 0], by_point[:, 1]
        first, second = _PAIRS
        terms = np.concatenate([
            upper[:, first] * upper[:, second] + left[:, first] * left[:, second],
            upper * error[:, :1] + left * error[:, 1:]], 1)
        sums = np.zeros((self.points, 9))
        sums[:, [0, 3, 5]] = 1.0
        sums[self._present] = np.add.reduceat(terms, self._starts, axis=0)
        self.point_block, self.point_slope = sums[:, :6], sums[:, 6:]

    def _place(self, camera: int) -> tuple[int, slice]:
        """Block of a camera and its parameters there."""
        position = self._position[camera]
        block = int(np.searchsorted(self._edges, position, side="right")) - 1
        start = int(position - self._edges[block]) * self.width
        return block, slice(start, start + self.width)

    def add_to_camera(self, camera: int, parameter: int, weight: float, value: float) -> None:
        """A further term (weight * step of one camera's parameter + value)^2."""
        block, at = self._place(camera)
        self.chain.diagonal[block][at.start + parameter, at.start + parameter] += weight * weight
        self.slope[block][at.start + parameter] += weight * value

    def add_between(self, camera: int, parameter: int, weight: float, value: float) -> None:
        """A further term (weight * (step of the next camera's parameter - step of this one's) + value)^2."""
        self.add_to_camera(camera, parameter, weight, -value)
        self.add_to_camera(camera + 1, parameter, weight, value)
        (block, at), (other, to) = self._place(camera), self._place(camera + 1)
        row, column = at.start + parameter, to.start + parameter
        if block == other:
            self.chain.diagonal[block][row, column] -= weight * weight
            self.chain.diagonal[block][column, row] -= weight * weight
        elif block < other:
            self.chain.links[block][row, column] -= weight * weight
        else:
            self.chain.links[other][column, row] -= weight * weight

    def add_to_shared(self, parameter: int, weight: float, value: float) -> None:
        """A further term (weight * step of a shared parameter + value)^2."""
        self.chain.corner[parameter, parameter] += weight * weight
        self.shared_slope[parameter] += weight * value

    def reduced(
        self, damping: float, held: np.ndarray
    ) -> tuple[Chain, list[np.ndarray], np.ndarray, np.ndarray]:
        """Reduced matrix, slopes of cameras and shared parameters, and the points' inverse factors.

        held: numbers of the camera parameters that stay.
        """
        c = self.width
        factor = _inverse_factor(self.point_block, damping)
        chain, slope, last = self.chain.copy(), [part.copy() for part in self.slope], self.shared_slope.copy()
        for matrix in [*chain.diagonal, chain.corner]:
            diagonal = np.einsum("ii->i", matrix)
            diagonal += damping * diagonal
        half = np.einsum("nij,nj->ni", factor, self.point_slope)
        for group in self._groups:
            mixed = self.mixed[group.chosen] @ factor[group.members[group.within]].swapaxes(1, 2)
            wide = group.cameras * c
            blocks = np.zeros((wide + self.shared, len(group.members), 3))
            blocks[:wide].reshape(group.cameras, c, -1, 3)[group.local, :, group.within] = mixed[:, :c]
            if self.shared:
                np.add.at(blocks[wide:].swapaxes(0, 1), group.within, mixed[:, c:])
            dense = blocks.reshape(wide + self.shared, -1)
            product, pull = dense @ dense.T, dense @ half[group.members].ravel()
            at, split = group.block, len(group.here)
            halves = (at, group.here, slice(0, split)), (at + 1, group.there, slice(split, wide))
            for block, rows, part in halves:
                if len(rows):
                    chain.diagonal[block][np.ix_(rows, rows)] -= product[part, part]
                    chain.border[block][rows] -= product[part, wide:]
                    slope[block][rows] -= pull[part]
            if len(group.there):
                chain.links[at][np.ix_(group.here, group.there)] -= product[:split, split:wide]
            chain.corner -= product[wide:, wide:]
            last -= pull[wide:]
        self._hold(chain, slope, held)
        return chain, slope, last, factor

    def _hold(self, chain: Chain, slope: list[np.ndarray], held: np.ndarray) -> None:
        for parameter in held:
            block, at = self._place(parameter // self.width)
            row = np.array([at.start + parameter % self.width])
            chain.hold(block, row)
            slope[block][row] = 0.0

    def solve(self, damping: float, held: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Step of camera and shared parameters (`held` ones stay), and of the points (N, 3)."""
        chain, slope, last, factor = self.reduced(damping, held)
        try:
            own, shared = Factor(chain).solve([-part for part in slope], -last)
        except scipy.linalg.LinAlgError:
            return None
        step = np.concatenate([self._by_number(own), shared])
        if not np.isfinite(step).all():
            return None
        moves = self._by_number(own).reshape(-1, self.width)[self._camera]
        if self.shared:
            moves = np.concatenate([moves, np.broadcast_to(shared, (len(moves), self.shared))], 1)
        pull = np.zeros((self.points, 3))
        pull[self._touched] = np.add.reduceat(
            np.einsum("oij,oi->oj", self.mixed, moves), self._touched_starts, axis=0)
        inner = np.einsum("nij,nj->ni", factor, self.point_slope + pull)
        return step, -np.einsum("nji,nj->ni", factor, inner)

    def variances(self, held: np.ndarray) -> np.ndarray | None:
        """Of all camera and shared parameters; 0 for `held` ones, None where the system is singular."""
        chain = self.reduced(0.0, held)[0]
        for matrix in [*chain.diagonal, chain.corner]:
            diagonal = np.einsum("ii->i", matrix)
            diagonal += 1e-12 * diagonal
        try:
            own, shared = Factor(chain).inverse_diagonal()
        except scipy.linalg.LinAlgError:
            return None
        variance = np.concatenate([self._by_number(own), shared])
        variance[held] = 0.0
        return variance

    def _by_number(self, blocks: list[np.ndarray]) -> np.ndarray:
        """Values of the camera parameters from order of position to order of number."""
        return np.concatenate(blocks).reshape(-1, self.width)[self._position].ravel()


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
