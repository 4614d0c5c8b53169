"""Rotary embedding of frame, row and column, as complex factors of adjacent channel pairs (3-D RoPE).

Angles are computed in float64; a table is rounded once, to the precision its features are rotated in.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

THETA = 10000.0


@dataclass(frozen=True)
class Rotary:
    """What position does to the main branch: turns queries and keys, leaves values and the output alone.

    turn: (T, S, 1, D/2) complex.
    """

    turn: Tensor

    def queries(self, q: Tensor) -> Tensor:
        """(B, T, S, h, D), as all of these."""
        return rotate(q, self.turn)

    def keys(self, k: Tensor) -> Tensor:
        return rotate(k, self.turn)

    def values(self, v: Tensor) -> Tensor:
        return v

    def output(self, out: Tensor) -> Tensor:
        return out


def rotary_turns(
    grid: tuple[int, int, int], head_width: int, *, first_frame: int = 0,
    pairs: tuple[int, int, int] | None = None, device: torch.device | str | None = None,
) -> Tensor:
    """Factors exp(i · position · ω) for all tokens of `grid` (T, H, W): (T, S, 1, pairs) complex128.

    Bands of channel pairs for frame, row and column follow one another. Only the first `pairs` of each band
    are made, those of the highest frequencies.
    """
    bands = band_pairs(head_width)
    axes = []
    for axis, (size, band) in enumerate(zip(grid, bands)):
        count = band if pairs is None else pairs[axis]
        exponent = torch.arange(count, dtype=torch.float64, device=device) / band
        position = torch.arange(size, dtype=torch.float64, device=device) + (0 if axis else first_frame)
        angle = torch.outer(position, THETA ** -exponent)
        shape = [1, 1, 1, angle.shape[1]]
        shape[axis] = size
        axes.append(torch.polar(torch.ones_like(angle), angle).view(shape).expand(*grid, -1))
    return torch.cat(axes, -1).flatten(1, 2)[:, :, None]


def camera_turns(
    grid: tuple[int, int, int], head_width: int, *, first_frame: int = 0,
    device: torch.device | str | None = None,
) -> Tensor:
    """Factors for the half of a head that the camera branch rotates, (T, S, 1, D/4): from each band of the
    whole head the leading pairs that a head of half the width has."""
    return rotary_turns(grid, head_width, first_frame=first_frame, pairs=band_pairs(head_width // 2),
                        device=device)


def band_pairs(width: int) -> tuple[int, int, int]:
    """Channel pairs of frame, row and column in a head of `width`."""
    side = width // 6
    return width // 2 - 2 * side, side, side


def rotate(x: Tensor, turn: Tensor) -> Tensor:
    """x (..., 2n) times turn (..., n) as complex numbers, in float32 at least; shaped and typed like x."""
    pairs = torch.view_as_complex(x.to(turn.real.dtype).unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * turn).flatten(-2).to(x.dtype)
