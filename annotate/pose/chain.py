"""Symmetric matrices whose blocks couple with their neighbours only, bordered by a few full rows.

The reduced matrix of a bundle adjustment of video is one, since a track spans keyframes that lie near each
other: solving with it and the diagonal of its inverse are chains of small dense steps, linear in its length.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import scipy.sparse
from scipy.linalg import cholesky, solve_triangular
from scipy.sparse.csgraph import reverse_cuthill_mckee

MIN_CAMERAS = 32
"""Cameras of a block: with smaller ones the steps cost more than their arithmetic."""


def order_cameras(
    camera: np.ndarray, point: np.ndarray, cameras: int, points: int
) -> tuple[np.ndarray, np.ndarray]:
    """Position (M,) of every camera and edges (m + 1,) of the blocks of positions.

    Cameras that see a point together, and neighbours in number, lie in the same block or in neighbouring
    ones, also where the clip returns to places it has seen.
    """
    if cameras <= 2 * MIN_CAMERAS:
        return np.arange(cameras), np.array([0, cameras])
    sees = scipy.sparse.csr_matrix((np.ones(len(camera)), (camera, point)), shape=(cameras, points))
    neighbours = scipy.sparse.diags([1.0, 1.0], [-1, 1], shape=(cameras, cameras))
    joined = scipy.sparse.csr_matrix(sees @ sees.T + neighbours)
    position = np.empty(cameras, np.int64)
    position[reverse_cuthill_mckee(joined, symmetric_mode=True)] = np.arange(cameras)
    row, column = joined.nonzero()
    reach = np.zeros(cameras, np.int64)
    np.maximum.at(reach, position[row], position[column])
    reach = np.maximum.accumulate(reach)
    edges = [0, MIN_CAMERAS]
    while edges[-1] < cameras:
        edges.append(min(max(int(reach[edges[-1] - 1]) + 1, edges[-1] + MIN_CAMERAS), cameras))
    return position, np.array(edges)


@dataclass
class Chain:
    """m blocks: diagonal (n_i, n_i), links (n_i, n_i+1) to the next, border (n_i, g), and corner (g, g)."""

    diagonal: list[np.ndarray]
    links: list[np.ndarray]
    border: list[np.ndarray]
    corner: np.ndarray

    @classmethod
    def zeros(cls, sizes: list[int], shared: int) -> Chain:
        return cls([np.zeros((n, n)) for n in sizes], [np.zeros(pair) for pair in itertools.pairwise(sizes)],
                   [np.zeros((n, shared)) for n in sizes], np.zeros((shared, shared)))

    def copy(self) -> Chain:
        return Chain([a.copy() for a in self.diagonal], [a.copy() for a in self.links],
                     [a.copy() for a in self.border], self.corner.copy())

    def hold(self, block: int, rows: np.ndarray) -> None:
        """Take unknowns out of a block: their step is zero, and they touch no other."""
        self.diagonal[block][rows] = 0.0
        self.diagonal[block][:, rows] = 0.0
        self.diagonal[block][rows, rows] = 1.0
        self.border[block][rows] = 0.0
        if block < len(self.links):
            self.links[block][rows] = 0.0
        if block:
            self.links[block - 1][:, rows] = 0.0


class Factor:
    """Cholesky factor of a chain. Raises numpy's LinAlgError where the matrix is not positive definite."""

    def __init__(self, chain: Chain) -> None:
        self.lower: list[np.ndarray] = []
        self.link: list[np.ndarray] = []
        self.border: list[np.ndarray] = []
        corner = chain.corner.copy()
        for i, diagonal in enumerate(chain.diagonal):
            border = chain.border[i]
            if i:
                diagonal = diagonal - self.link[-1].T @ self.link[-1]
                border = border - self.link[-1].T @ self.border[-1]
            lower = cholesky(diagonal, lower=True, check_finite=False)
            self.lower.append(lower)
            self.border.append(_forward(lower, border))
            corner -= self.border[-1].T @ self.border[-1]
            if i < len(chain.links):
                self.link.append(_forward(lower, chain.links[i]))
        self.corner = cholesky(corner, lower=True, check_finite=False) if len(corner) else corner

    def solve(self, right: list[np.ndarray], last: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """Solution by blocks, and its part (g,) of the border, of a right-hand side given alike."""
        ahead: list[np.ndarray] = []
        for i, value in enumerate(right):
            ahead.append(_forward(self.lower[i], value - self.link[i - 1].T @ ahead[-1] if i else value))
            last = last - self.border[i].T @ ahead[-1]
        if len(last):
            last = _backward(self.corner, _forward(self.corner, last))
        return self._back([value - border @ last for value, border in zip(ahead, self.border)]), last

    def _back(self, right: list[np.ndarray]) -> list[np.ndarray]:
        found = [_backward(self.lower[-1], right[-1])]
        for i in range(len(right) - 2, -1, -1):
            found.append(_backward(self.lower[i], right[i] - self.link[i] @ found[-1]))
        return found[::-1]

    def inverse_diagonal(self) -> tuple[list[np.ndarray], np.ndarray]:
        """Diagonal of the inverse by blocks, and of the border's part (g,)."""
        alone: list[np.ndarray] = []  # of the chain without its border, last block first
        inverse = np.zeros(0)
        for i in range(len(self.lower) - 1, -1, -1):
            later, inverse = inverse, _inverse(self.lower[i])
            if i < len(self.link):
                pull = _backward(self.lower[i], self.link[i])
                inverse = inverse + pull @ later @ pull.T
            alone.append(np.diag(inverse).copy())
        if not len(self.corner):
            return alone[::-1], np.zeros(0)
        shared = _inverse(self.corner)
        across = self._back(self.border)
        return [own + ((x @ shared) * x).sum(1) for own, x in zip(alone[::-1], across)], np.diag(shared)


def _forward(lower: np.ndarray, right: np.ndarray) -> np.ndarray:
    return solve_triangular(lower, right, lower=True, check_finite=False)


def _backward(lower: np.ndarray, right: np.ndarray) -> np.ndarray:
    return solve_triangular(lower, right, lower=True, trans=1, check_finite=False)


def _inverse(lower: np.ndarray) -> np.ndarray:
    return _backward(lower, _forward(lower, np.eye(len(lower))))
