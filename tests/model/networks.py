"""Tiny networks in which nothing is silent, and something to call them with."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from model.config import DiTConfig
from model.dit import SanaWM


def random_network(config: DiTConfig, dtype: torch.dtype = torch.float64, seed: int = 0) -> SanaWM:
    """Gates, convolutions and the camera branch all count; outputs are of order one. Without gradients."""
    generator, network = torch.Generator().manual_seed(seed), SanaWM(config).to(dtype)
    for name, tensor in network.state_dict().items():
        spread = tensor[0].numel() ** -0.5 if tensor.ndim > 1 else 0.3
        mean = 1.0 if name.endswith(("norm.weight", "norm_cam.weight")) else 0.0
        tensor.copy_(mean + spread * torch.randn(tensor.shape, generator=generator))
    return network.requires_grad_(False)


def random_inputs(
    config: DiTConfig, frames: int, size: tuple[int, int] = (2, 3), dtype: torch.dtype = torch.float64,
    seed: int = 7,
) -> dict[str, Any]:
    """Of `SanaWM.forward`: two samples, a camera that walks and turns, captions of two lengths."""
    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=dtype)

    generator = torch.Generator().manual_seed(seed)
    turn = torch.zeros(2, frames, 3, 3, dtype=dtype)
    turn[..., 0, 1], turn[..., 0, 2], turn[..., 1, 2] = torch.cumsum(0.2 * draw(3, 2, frames), 2)
    c2w = torch.eye(4, dtype=dtype).repeat(2, frames, 1, 1)
    c2w[..., :3, :3] = torch.matrix_exp(turn - turn.mT)
    c2w[..., :3, 3] = torch.cumsum(0.5 * draw(2, frames, 3), 1)
    intrinsics = torch.tensor([2.0, 2.2, 1.4, 0.9], dtype=dtype).expand(2, frames, 4)
    caption_mask = torch.ones(2, config.caption_length, dtype=torch.int64)
    caption_mask[1, 3:] = 0
    return {
        "latents": draw(2, config.latent_channels, frames, *size),
        "timesteps": 1000 * torch.rand(2, frames, generator=generator),
        "caption": draw(2, config.caption_length, config.caption_channels), "caption_mask": caption_mask,
        "camera_conditions": torch.cat([c2w.flatten(2), intrinsics], 2),
        "plucker": draw(2, config.plucker_channels, frames, *size),
    }


def frames_of(inputs: dict[str, Any], start: int, end: int) -> dict[str, Any]:
    """The part of `random_inputs` that belongs to these frames."""
    times = {"latents": 2, "timesteps": 1, "camera_conditions": 1, "plucker": 2}
    return {name: value.narrow(times[name], start, end - start) if name in times else value
            for name, value in inputs.items()}
