"""The feed-forward part: a gated convolution over each frame, then a mix of neighbouring frames."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.cache import LayerState
from model.layers import PointwiseConv
from model.mask import Mask


class MixFFN(nn.Module):
    """d -> 2·3d, silu, depthwise 3 x 3; first half times silu of the second -> d; plus its temporal convolution.

    Names follow the checkpoint, which wraps each spatial convolution once.
    """

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.inverted_conv = _Wrapped(PointwiseConv(width, 2 * inner, axes=2))
        self.depth_conv = _Wrapped(nn.Conv2d(2 * inner, 2 * inner, 3, padding=1, groups=2 * inner))
        self.point_conv = _Wrapped(PointwiseConv(inner, width, axes=2, bias=False))
        self.t_conv = TemporalConv(width)

    def forward(
        self, x: Tensor, size: tuple[int, int], mask: Mask, valid: Tensor | None = None,
        cache: LayerState | None = None, write: bool = False,
    ) -> Tensor:
        """x (B, T, S, d) of frames of `size` (H, W)."""
        y = self.spatial(x, size)
        if valid is not None:
            y = y * valid
        tail = None if cache is None else cache.ffn_tail
        if cache is not None and write:
            cache.ffn_tail = y[:, -1:].clone()
        return self.t_conv(y, mask, tail)

    def spatial(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        frames = x.shape[:2]
        hidden = F.silu(self.inverted_conv.conv(x))
        maps = hidden.flatten(0, 1).unflatten(1, size).permute(0, 3, 1, 2)              # channels last in memory
        maps = self.depth_conv.conv(maps).permute(0, 2, 3, 1).flatten(1, 2).unflatten(0, frames)
        value, gate = maps.chunk(2, -1)
        return self.point_conv.conv(value * F.silu(gate))


class TemporalConv(nn.Module):
    """y plus all channels of frames t-1, t, t+1 mixed; the right neighbour counts only inside a chunk."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width, width, 3, 1))

    def forward(self, y: Tensor, mask: Mask, tail: Tensor | None = None) -> Tensor:
        """y (B, T, S, d); tail (B, 1, S, d) is the frame before it, None zero."""
        left, centre, right = self.weight[..., 0].unbind(-1)
        before = torch.zeros_like(y[:, :1]) if tail is None else tail
        earlier = F.linear(torch.cat([before, y[:, :-1]], 1), left)
        out = y + F.linear(y, centre) + earlier
        ends = [end for _, end in mask.bounds(y.shape[1])]
        later = F.pad(F.linear(y[:, 1:], right), (0, 0, 0, 0, 0, 1))
        if len(ends) > 1:
            inside = torch.ones(y.shape[1], 1, 1, dtype=y.dtype, device=y.device)
            inside[[end - 1 for end in ends]] = 0
            later = later * inside
        return out + later


class _Wrapped(nn.Module):
    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv
