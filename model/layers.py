"""Small layers used all over the network. Tokens are (B, T, S, d); per-frame vectors (B, T, 1, d)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

_NORM_EPS = 1e-6


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + eps) · weight over all channels, inside in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        """Normalised x, times `scale`."""
        weight = self.weight if scale == 1.0 else self.weight * scale
        return F.rms_norm(x, weight.shape, weight, self.eps)


class PointwiseConv(nn.Module):
    """A convolution of kernel 1 over `axes` axes: a linear map of the last axis, its weight a kernel."""

    def __init__(self, inputs: int, outputs: int, axes: int, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, *[1] * axes))
        self.bias = nn.Parameter(torch.empty(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.flatten(1), self.bias)


class PatchEmbed(nn.Module):
    """Maps (B, C, T, H, W), patches of one cell, to tokens (B, T, S, d)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.proj = PointwiseConv(channels, width, axes=3)

    def forward(self, maps: Tensor) -> Tensor:
        return self.proj(maps.flatten(3).permute(0, 2, 3, 1))


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LN(x)·(1 + scale) + shift, the normalisation without weights."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=_NORM_EPS), 1 + scale)


def recompute(run: Callable[..., Any], *inputs: Any) -> Any:
    """run(*inputs), whose inner tensors are made again for the gradient instead of being kept."""
    if not torch.is_grad_enabled():
        return run(*inputs)
    return checkpoint(run, *inputs, use_reentrant=False, preserve_rng_state=False)
