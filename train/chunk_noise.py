"""Noise levels of chunk-causal training: one index for each chunk, in one of four patterns along time.

Streams meet clean history, histories as noisy as the present and everything between, so training shows all.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from model.flow import LEVELS
from model.mask import Mask

MIXTURE = (0.1, 0.4, 0.4, 0.1)
"""How often the published recipe draws each pattern: the clip's index everywhere; non-decreasing through it
at a random chunk; at the last chunk; at the last, and clean before."""


def draw_chunk_indices(
    base: Tensor, chunks: int, mixture: Sequence[float], draws: torch.Generator,
) -> Tensor:
    """Noise indices (B, chunks) through the clips' own indices `base` (B,), by draws on the CPU.

    mixture: shares of the four patterns, see `MIXTURE`.
    """
    shares = torch.tensor(mixture, dtype=torch.float64)
    rows = []
    for own in base.tolist():
        pattern = int(torch.multinomial(shares, 1, generator=draws))
        if pattern == 0:
            rows.append(torch.full((chunks,), own))
            continue
        anchor = int(torch.randint(chunks, (), generator=draws)) if pattern == 1 else chunks - 1
        row = draw_non_decreasing(own, anchor, chunks, draws)
        if pattern == 3:
            row[:-1] = 0
        rows.append(row)
    return torch.stack(rows)


def draw_non_decreasing(
    value: int, anchor: int, length: int, draws: torch.Generator, levels: int = LEVELS,
) -> Tensor:
    """(length,): one of all non-decreasing sequences of numbers below `levels` that are `value` at `anchor`,
    all equally likely."""
    before = _draw_sorted(anchor, value + 1, draws)
    after = _draw_sorted(length - anchor - 1, levels - value, draws) + value
    return torch.cat([before, torch.tensor([value]), after])


def per_frame(indices: Tensor, mask: Mask, frames: int) -> Tensor:
    """Indices of chunks (B, chunks) as those of their frames (B, T)."""
    lengths = torch.tensor([end - start for start, end in mask.bounds(frames)])
    return indices.repeat_interleave(lengths.to(indices.device), 1)


def _draw_sorted(count: int, levels: int, draws: torch.Generator) -> Tensor:
    """One of all non-decreasing sequences of `count` numbers below `levels`, all equally likely.

    Adding 0, 1, 2, ... to one gives a set of `count` different numbers below levels + count - 1, and every
    such set comes from exactly one: a uniform set is drawn, so no table of counts is needed.
    """
    if not count:
        return torch.zeros(0, dtype=torch.long)
    chosen = torch.randperm(levels + count - 1, generator=draws)[:count]
    return chosen.sort().values - torch.arange(count)
