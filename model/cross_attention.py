"""Attention of video tokens to caption tokens."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from model.layers import RMSNorm

MASKED = -10000.0
"""Added to the logits of masked text; a caption masked as a whole is then attended to evenly."""


class CrossAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_linear = nn.Linear(width, width)
        self.kv_linear = nn.Linear(width, 2 * width)
        self.q_norm = RMSNorm(width, eps=1e-6)
        self.k_norm = RMSNorm(width, eps=1e-6)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, text: Tensor, bias: Tensor | None) -> Tensor:
        """x (B, T, S, d), text (B, L, d), bias (B, 1, 1, L) added to the logits; returns (B, T, S, d)."""
        k, v = self.kv_linear(text).chunk(2, -1)
        q, k, v = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2)
                   for y in (self.q_norm(self.q_linear(x)).flatten(1, 2), self.k_norm(k), v))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        return self.proj(out.transpose(1, 2).reshape(x.shape))
