import itertools

import numpy as np
import pytest
from scipy.linalg import block_diag

from annotate.pose.chain import Chain, Factor, order_cameras

SIZES = [3, 5, 2, 4]


def chain_and_matrix(shared: int, seed: int = 0) -> tuple[Chain, np.ndarray]:
    """A positive definite chain with a border, and the same as one dense matrix."""
    draw = np.random.default_rng(seed)
    edges = np.cumsum([0, *SIZES])
    size = edges[-1] + shared
    dense = np.zeros((size, size))
    for i in range(len(SIZES)):  # a term for each pair of neighbours and the border keeps the pattern
        last = edges[min(i + 2, len(SIZES))]
        rows = np.r_[edges[i]:last, edges[-1]:size]
        half = draw.normal(size=(len(rows), len(rows)))
        dense[np.ix_(rows, rows)] += half @ half.T
    part = [slice(a, b) for a, b in itertools.pairwise(edges)]
    links = [dense[a, b].copy() for a, b in itertools.pairwise(part)]
    return Chain([dense[s, s].copy() for s in part], links, [dense[s, edges[-1]:].copy() for s in part],
                 dense[edges[-1]:, edges[-1]:].copy()), dense


@pytest.mark.parametrize("shared", [0, 3])
def test_a_chain_is_solved_like_the_dense_matrix(shared):
    chain, dense = chain_and_matrix(shared)
    right = np.random.default_rng(1).normal(size=len(dense))
    edges = np.cumsum([0, *SIZES])
    found, last = Factor(chain).solve([right[a:b] for a, b in itertools.pairwise(edges)], right[edges[-1]:])
    np.testing.assert_allclose(np.concatenate([*found, last]), np.linalg.solve(dense, right), rtol=1e-9)


@pytest.mark.parametrize("shared", [0, 3])
def test_the_diagonal_of_the_inverse_is_that_of_the_dense_one(shared):
    chain, dense = chain_and_matrix(shared)
    found, last = Factor(chain).inverse_diagonal()
    np.testing.assert_allclose(np.concatenate([*found, last]), np.diag(np.linalg.inv(dense)), rtol=1e-9)


def test_a_held_unknown_does_not_move_and_moves_nothing():
    chain, dense = chain_and_matrix(2)
    right = np.random.default_rng(2).normal(size=len(dense))
    held = 3 + 1  # the second unknown of the second block
    chain.hold(1, np.array([1]))
    right[held] = 0.0
    edges = np.cumsum([0, *SIZES])
    found, last = Factor(chain).solve([right[a:b] for a, b in itertools.pairwise(edges)], right[edges[-1]:])
    rest = np.delete(np.arange(len(dense)), held)
    wanted = np.zeros(len(dense))
    wanted[rest] = np.linalg.solve(dense[np.ix_(rest, rest)], right[rest])
    np.testing.assert_allclose(np.concatenate([*found, last]), wanted, rtol=1e-9, atol=1e-12)


def test_a_matrix_that_is_not_positive_definite_is_refused():
    chain, _ = chain_and_matrix(0)
    chain.diagonal[2] -= 1e3 * np.eye(SIZES[2])
    with pytest.raises(np.linalg.LinAlgError):
        Factor(chain)


@pytest.mark.parametrize("loop", [False, True])
def test_cameras_that_share_a_point_lie_in_neighbouring_blocks(loop):
    cameras, span = 150, 6
    camera = (np.arange(cameras)[:, None] + np.arange(span)).ravel() % (cameras if loop else 10**9)
    point = np.repeat(np.arange(cameras), span)
    inside = camera < cameras
    position, edges = order_cameras(camera[inside], point[inside], cameras, cameras)
    assert sorted(position) == list(range(cameras)) and edges[0] == 0 and edges[-1] == cameras
    assert len(edges) > 3, "one dense block is no chain"
    block = np.searchsorted(edges, position, side="right") - 1
    for j in range(cameras):
        seen = block[camera[inside & (point == j)]]
        assert np.ptp(seen) <= 1


def test_blocks_of_a_chain_of_zeros_fit_each_other():
    chain = Chain.zeros(SIZES, 2)
    assert block_diag(*chain.diagonal).shape == (sum(SIZES), sum(SIZES))
    assert [link.shape for link in chain.links] == [(3, 5), (5, 2), (2, 4)]
