"""Noise over chunks: every admissible sequence equally likely, each pattern as often as stated."""

from __future__ import annotations

from collections import Counter
from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from model.flow import LEVELS
from model.mask import Mask
from train.chunk_noise import MIXTURE, draw_chunk_indices, draw_non_decreasing, per_frame

DRAWS = 6000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def log_counts(length: int, levels: int) -> np.ndarray:
    """(length, levels): log of the number N of non-decreasing continuations to the end of a sequence that is
    t at place f: N[f, t] = N[f, t + 1] + N[f + 1, t], and 1 at the last place."""
    table = np.zeros((length, levels))
    for f in range(length - 2, -1, -1):
        table[f] = np.logaddexp.accumulate(table[f + 1, ::-1])[::-1]
    return table


@pytest.mark.parametrize(("value", "anchor"), [(2, 1), (0, 0), (4, 3), (3, 2), (1, 3)])
def test_every_sequence_through_the_anchor_is_equally_likely(value: int, anchor: int):
    length, levels, draws = 4, 5, generator()
    allowed = [row for row in product(range(levels), repeat=length)
               if list(row) == sorted(row) and row[anchor] == value]
    found = Counter(tuple(draw_non_decreasing(value, anchor, length, draws, levels).tolist())
                    for _ in range(DRAWS))
    assert set(found) == set(allowed)
    assert chisquare([found[row] for row in allowed]).pvalue > 0.001


def test_at_full_size_the_next_value_has_the_probability_that_counting_gives_it():
    value, anchor, length = 300, 4, 14
    counts = log_counts(length, LEVELS)
    after = np.exp(counts[anchor + 1, value:] - np.logaddexp.reduce(counts[anchor + 1, value:]))
    draws, taken = generator(1), np.zeros(LEVELS - value)
    for _ in range(DRAWS):
        taken[draw_non_decreasing(value, anchor, length, draws)[anchor + 1] - value] += 1
    edges = np.searchsorted(np.cumsum(after), np.linspace(0.1, 0.9, 9))
    found, expected = ([part.sum() for part in np.split(x, edges)] for x in (taken, after * DRAWS))
    assert chisquare(found, expected).pvalue > 0.001


def test_patterns_come_as_often_as_stated_and_keep_the_clips_level():
    base, draws = torch.full((DRAWS,), 400), generator(2)
    rows = draw_chunk_indices(base, 6, MIXTURE, draws)
    assert rows.dtype == torch.long and rows.shape == (DRAWS, 6)
    assert bool((rows.diff(dim=1) >= 0).all()) and int(rows.min()) >= 0 and int(rows.max()) < LEVELS
    assert bool((rows == 400).any(1).all())
    same = (rows == 400).all(1)
    clean = (rows[:, :-1] == 0).all(1)
    ends = (rows[:, -1] == 400) & ~same & ~clean
    beyond = rows[:, -1] > 400
    found = [int(x.sum()) / DRAWS for x in (same, clean, ends, beyond)]
    # of the second pattern one in six has its anchor at the end
    assert found == pytest.approx([0.1, 0.1, 0.4 + 0.4 / 6, 0.4 * 5 / 6], abs=0.02)


@pytest.mark.parametrize(("mixture", "expected"), [((1, 0, 0, 0), [7, 7, 7]), ((0, 0, 0, 1), [0, 0, 7])])
def test_a_pattern_alone_is_what_its_name_says(mixture: tuple[float, ...], expected: list[int]):
    assert draw_chunk_indices(torch.tensor([7, 7]), 3, mixture, generator()).tolist() == [expected] * 2


def test_all_frames_of_a_chunk_share_its_index():
    mask = Mask.chunk_causal(10)
    assert per_frame(torch.tensor([[1, 5, 9]]), mask, 10).tolist() == [[1] * 4 + [5] * 3 + [9] * 3]


def test_one_chunk_and_the_ends_of_the_table():
    draws = generator(3)
    assert draw_non_decreasing(12, 0, 1, draws).tolist() == [12]
    assert draw_non_decreasing(0, 3, 4, draws).tolist() == [0, 0, 0, 0]
    assert draw_non_decreasing(LEVELS - 1, 0, 4, draws).tolist() == [LEVELS - 1] * 4
