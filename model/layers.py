"""Small layers used all over the network. Tokens are (B, T, S, d); per-frame vectors (B, T, 1, d)."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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
        return rms_norm(x, weight, self.eps)


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


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x²) + eps) · weight over the last axis, inside in float32 at least."""
    if x.device.type == "cpu":     # where torch composes it and its gradient of a dozen passes over memory
        return _RMSNorm.apply(x, weight, eps)
    return F.rms_norm(x, weight.shape, weight, eps)


def gate(value: Tensor, by: Tensor) -> Tensor:
    """value · silu(by), of which the gradient keeps these two alone."""
    return _Gate.apply(value, by)


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        dtype = torch.promote_types(x.dtype, torch.float32)
        scale = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=dtype)
        scale.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return (x * scale).mul_(weight).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        x, weight, scale = (saved.flatten(0, -2) if saved.ndim > 1 else saved for saved in ctx.saved_tensors)
        rows = grad.flatten(0, -2).to(scale.dtype)
        product = rows * x
        by_weight = torch.mv(product.mT, scale[:, 0])
        along = torch.mv(product, weight.to(scale.dtype))[:, None] * scale.pow(3).div_(-x.shape[-1])
        by_x = torch.mul(rows, scale, out=product).mul_(weight).addcmul_(x, along)
        return by_x.view(grad.shape).to(x.dtype), by_weight.to(weight.dtype), None


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, by: Tensor) -> Tensor:
        ctx.save_for_backward(value, by)
        return F.silu(by).mul_(value)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        value, by = ctx.saved_tensors
        return F.silu(by).mul_(grad), torch.ops.aten.silu_backward(grad * value, by)
