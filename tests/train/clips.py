"""A batch of clips for objectives, and the tiny networks that learn from it: SANA-WM and the refiner."""

from __future__ import annotations

import torch

from dataset.batch import Batch
from model.config import DiTConfig
from model.dit import SanaWM
from model.refiner_lora import add_lora
from model.refiner_network import RefinerNetwork
from tests.model.networks import random_inputs, random_network
from train.objectives import Draws, Member

CONFIG = DiTConfig.tiny()
GRID = (2, 3)
REFINER = {
    "in_channels": CONFIG.latent_channels, "out_channels": CONFIG.latent_channels, "num_attention_heads": 2,
    "attention_head_dim": 12, "cross_attention_dim": 24, "audio_in_channels": 4, "audio_out_channels": 4,
    "audio_num_attention_heads": 2, "audio_attention_head_dim": 6, "audio_cross_attention_dim": 12,
    "num_layers": 2, "caption_channels": CONFIG.caption_channels,
}
"""Arguments of diffusers' transformer."""


def random_batch(frames: int, dtype: torch.dtype = torch.float64) -> Batch:
    """Two clips of `frames` latent frames, whole and readable."""
    given = random_inputs(CONFIG, frames, GRID, dtype)
    video = 8 * (frames - 1) + 1
    return Batch(
        clip_ids=["one", "two"], sources=["here"] * 2, captions=["a", "b"], size=(64, 96),
        camera_conditions=given["camera_conditions"], plucker=given["plucker"],
        frame_valid=torch.ones(2, frames, dtype=torch.bool),
        c2w=torch.eye(4, dtype=torch.float64).expand(2, video, 4, 4),
        intrinsics=torch.ones(2, video, 4, dtype=torch.float64), latents=given["latents"],
        caption_states=given["caption"], caption_mask=given["caption_mask"])


def random_member(seed: int = 0, trained: bool = True, dtype: torch.dtype = torch.float64) -> Member:
    network: SanaWM = random_network(CONFIG, dtype, seed)
    return Member(network.requires_grad_(trained))


def random_refiner(rank: int = 3) -> RefinerNetwork:
    """A video half of LTX-2 of the sizes of the batch, with an adapter that counts."""
    from diffusers import SanaWMLTX2RefinerTransformer3DModel
    torch.manual_seed(0)
    network = RefinerNetwork(SanaWMLTX2RefinerTransformer3DModel(**REFINER))
    for parameter in add_lora(network, rank):
        torch.nn.init.normal_(parameter, std=0.2)
    return network


def empty_caption(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """States (L, Ct) and mask (L,)."""
    draws = torch.Generator().manual_seed(11)
    mask = torch.arange(CONFIG.caption_length) < 2
    return torch.randn(CONFIG.caption_length, CONFIG.caption_channels, generator=draws, dtype=dtype), mask


def draws(seed: int = 0, shared: int = 0) -> Draws:
    return Draws(torch.Generator().manual_seed(seed), torch.Generator().manual_seed(shared))
