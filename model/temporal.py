"""Convolutions over time: the short one on keys, and the one that mixes all channels of neighbouring frames.

Both look back over chunk borders and never look forward over them. Tokens are (B, T, S, d).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.mask import Mask

TAPS = 4
REACH = TAPS - 1


class ShortConv(nn.Module):
    """Depthwise, at each site: four taps backwards in time over all frames and the same four forwards inside
    the chunk, the centre counted once."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width, 1, TAPS))

    def forward(self, x: Tensor, mask: Mask, tail: Tensor | None = None) -> Tensor:
        """x (B, T, S, d); tail: the last frames before it, as of `next_tail`; None is none."""
        past = _filter(torch.cat([self._history(x, tail), x], 1), self.weight)
        if x.shape[1] == 1:
            return past
        # Zeros behind every chunk keep its last frames from seeing the next one.
        lengths = [end - start for start, end in mask.bounds(x.shape[1])]
        zeros = x.new_zeros(x.shape[0], REACH, *x.shape[2:])
        spread = torch.cat([part for chunk in x.split(lengths, 1) for part in (chunk, zeros)], 1)
        ahead = _filter(spread[:, 1:], self.weight[..., :-1].flip(-1))
        sizes = [size for length in lengths for size in (length, REACH)][:-1]
        return past + torch.cat(ahead.split(sizes, 1)[::2], 1)

    def next_tail(self, x: Tensor, tail: Tensor | None = None) -> Tensor:
        """What a chunk after x needs: its last 3 input frames (B, 3, S, d)."""
        if x.shape[1] < REACH:
            x = torch.cat([self._history(x, tail), x], 1)
        return x[:, -REACH:].clone()

    @staticmethod
    def _history(x: Tensor, tail: Tensor | None) -> Tensor:
        return x.new_zeros(x.shape[0], REACH, *x.shape[2:]) if tail is None else tail


class TemporalConv(nn.Module):
    """y plus all channels of frames t-1, t, t+1 mixed; the right neighbour counts only inside a chunk."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width, width, 3, 1))

    def forward(self, y: Tensor, mask: Mask, tail: Tensor | None = None) -> Tensor:
        """y (B, T, S, d); tail: the frame before it, as of `next_tail`; None is zero."""
        taps = self.weight[..., 0].permute(2, 0, 1)
        left, centre, right = F.linear(y, taps.flatten(0, 1)).chunk(3, -1)
        first = torch.zeros_like(y[:, :1]) if tail is None else F.linear(tail, taps[0])
        out = y + centre + torch.cat([first, left[:, :-1]], 1)
        zero = torch.zeros_like(y[:, :1])
        later = [part for start, end in mask.bounds(y.shape[1]) for part in (right[:, start + 1 : end], zero)]
        return out + torch.cat(later, 1)

    @staticmethod
    def next_tail(y: Tensor) -> Tensor:
        """What a chunk after y needs: its last input frame (B, 1, S, d)."""
        return y[:, -1:].clone()


def _filter(x: Tensor, weight: Tensor) -> Tensor:
    """Depthwise correlation over frames of (B, T, S, d) with (d, 1, taps): (B, T - taps + 1, S, d)."""
    out = F.conv2d(x.permute(0, 3, 1, 2), weight[..., None], groups=x.shape[-1])
    return out.permute(0, 2, 3, 1)
