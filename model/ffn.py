"""The feed-forward part: a gated convolution over each frame, then a mix of neighbouring frames."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.cache import LayerState
from model.layers import PointwiseConv, gate
from model.mask import Mask
from model.temporal import TemporalConv

_ELEMENTS, _ELEMENTS_CPU = 1 << 27, 1 << 22
"""Of the inner maps made at a time. They are six times as wide as the tokens, convolutions index them in 32
bits, and on a CPU fresh memory for large ones costs as much as the arithmetic."""


class MixFFN(nn.Module):
    """d -> 2·3d, silu, depthwise 3 x 3, first half times silu of the second -> d, temporal convolution.

    Names follow the checkpoint, which wraps each spatial convolution once.
    """

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.inner = inner
        self.inverted_conv = _Wrapped(PointwiseConv(width, 2 * inner, axes=2))
        self.depth_conv = _Wrapped(nn.Conv2d(2 * inner, 2 * inner, 3, padding=1, groups=2 * inner))
        self.point_conv = _Wrapped(PointwiseConv(inner, width, axes=2, bias=False))
        self.t_conv = TemporalConv(width)

    def forward(
        self, x: Tensor, size: tuple[int, int], mask: Mask, valid: Tensor | None = None,
        cache: LayerState | None = None, write: bool = False,
    ) -> Tensor:
        """x (B, T, S, d) of frames of `size` (H, W); valid (B, T, 1, 1)."""
        most = _ELEMENTS_CPU if x.device.type == "cpu" else _ELEMENTS
        frames = max(1, most // (2 * self.inner * x[:, 0].shape[:2].numel()))
        parts = [self._spatial(part, size) for part in x.split(frames, 1)]
        y = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        if valid is not None:
            y = y * valid
        tail = None if cache is None else cache.ffn_tail
        if cache is not None and write:
            cache.ffn_tail = self.t_conv.next_tail(y)
        return self.t_conv(y, mask, tail)

    def _spatial(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        hidden = self.inverted_conv.conv(x)
        maps = F.silu(hidden).flatten(0, 1).unflatten(1, size).permute(0, 3, 1, 2)   # channels last in memory
        maps = self.depth_conv.conv(maps).permute(0, 2, 3, 1).reshape(hidden.shape)
        return self.point_conv.conv(gate(*maps.chunk(2, -1)))


class _Wrapped(nn.Module):
    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv = conv
