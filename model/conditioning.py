"""What the network is told beside latents: the noise level of every frame, and the caption."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FREQUENCIES = 128


class TimeEmbed(nn.Module):
    """Timesteps in [0, 1000] to vectors of the model's width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(2 * FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, timesteps: Tensor) -> Tensor:
        """(...) -> (..., d). Fractions are cut off, as the release does."""
        exponent = torch.arange(FREQUENCIES, dtype=torch.float32, device=timesteps.device) / FREQUENCIES
        angle = timesteps.trunc().float()[..., None] * torch.exp(-math.log(10000.0) * exponent)
        features = torch.cat([angle.cos(), angle.sin()], -1)
        return self.mlp(features.to(next(self.mlp.parameters()).dtype))


class CaptionEmbed(nn.Module):
    """Text encoder states to the model's width. `y_embedding` is the null caption, which replaces whole
    captions in training."""

    y_embedding: Tensor

    def __init__(self, channels: int, width: int, length: int) -> None:
        super().__init__()
        self.y_proj = _Projection(channels, width)
        self.register_buffer("y_embedding", torch.zeros(length, channels))

    def forward(self, caption: Tensor) -> Tensor:
        """(B, L, channels) -> (B, L, d)."""
        return self.y_proj(caption)


class _Projection(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, width)
        self.fc2 = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))
