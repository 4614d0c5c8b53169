"""Colour by direction of view: real spherical harmonics up to degree 3, with the signs 3DGS stores."""

from __future__ import annotations

from math import pi, sqrt

import numpy as np

_C0 = 0.5 / sqrt(pi)
_C1 = sqrt(3 / (4 * pi))
_C2 = (sqrt(15 / pi) / 2, sqrt(5 / pi) / 4, sqrt(15 / pi) / 4)
_C3 = (sqrt(35 / (2 * pi)) / 4, sqrt(105 / pi) / 2, sqrt(21 / (2 * pi)) / 4, sqrt(7 / pi) / 4,
       sqrt(105 / pi) / 4)


def harmonics(directions: np.ndarray, count: int) -> np.ndarray:
    """The first `count` (1, 4, 9 or 16) basis functions, (N, count), of unit directions (N, 3)."""
    x, y, z = directions.T
    basis = np.empty((len(directions), count), directions.dtype)
    basis[:, 0] = _C0
    if count > 1:
        basis[:, 1], basis[:, 2], basis[:, 3] = -_C1 * y, _C1 * z, -_C1 * x
    if count > 4:
        basis[:, 4], basis[:, 5] = _C2[0] * x * y, -_C2[0] * y * z
        basis[:, 6] = _C2[1] * (2 * z * z - x * x - y * y)
        basis[:, 7], basis[:, 8] = -_C2[0] * x * z, _C2[2] * (x * x - y * y)
    if count > 9:
        basis[:, 9] = -_C3[0] * y * (3 * x * x - y * y)
        basis[:, 10] = _C3[1] * x * y * z
        basis[:, 11] = -_C3[2] * y * (4 * z * z - x * x - y * y)
        basis[:, 12] = _C3[3] * z * (2 * z * z - 3 * x * x - 3 * y * y)
        basis[:, 13] = -_C3[2] * x * (4 * z * z - x * x - y * y)
        basis[:, 14] = _C3[4] * z * (x * x - y * y)
        basis[:, 15] = -_C3[0] * x * (x * x - 3 * y * y)
    return basis


def colours(sh: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """RGB (N, 3), not below 0, of coefficients (N, K, 3) seen along unit directions (N, 3)."""
    basis = harmonics(directions, sh.shape[1])
    return np.maximum(np.einsum("nk,nkc->nc", basis, sh) + sh.dtype.type(0.5), 0)
