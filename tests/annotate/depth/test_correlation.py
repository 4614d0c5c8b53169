"""Patch correlation against NumPy's, and the best two of several."""

import numpy as np
import pytest

from annotate.depth.correlation import BestTwo, Patches

SIZE = (21, 34)


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    noise = rng.uniform(0, 255, (3, *SIZE)).astype(np.float32)
    return [noise[0], (0.4 * noise[0] + 0.3 * noise[1] + 20).astype(np.float32), noise[2]]


def test_correlation_is_that_of_the_patches_whatever_was_compared_before() -> None:
    first, alike, other = pictures()
    patches = Patches(first, 7)
    score = np.empty(SIZE, np.float32)
    patches.correlate(other, score)
    assert patches.correlate(alike, score) is score
    for y, x in ((5, 8), (10, 20), (16, 29)):
        a, b = (image[y - 3:y + 4, x - 3:x + 4].ravel().astype(float) for image in (first, alike))
        assert score[y, x] == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-4)
        assert patches.contrast[y, x] == pytest.approx(a.std(), rel=1e-3)


def test_a_patch_without_contrast_correlates_with_nothing() -> None:
    flat = np.full(SIZE, 90, np.float32)
    score = Patches(flat, 5).correlate(pictures()[0], np.empty(SIZE, np.float32))
    assert np.abs(score).max() < 0.05


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_best_two_count_and_the_next_round_begins_anew(count: int) -> None:
    rng = np.random.default_rng(1)
    best, mean = BestTwo(SIZE), np.empty(SIZE, np.float32)
    for _ in range(2):
        scores = rng.uniform(-1, 1, (count, *SIZE)).astype(np.float32)
        for score in scores:
            best.take(score)
        best.finish(mean)
        assert np.allclose(mean, np.sort(scores, axis=0)[-2:].mean(axis=0), atol=1e-6)
