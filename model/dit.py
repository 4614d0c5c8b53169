"""SANA-WM: noisy latents, noise levels, a caption and a camera path to velocity; one path for all uses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.attention import Attention
from model.cache import LayerState, ModelState
from model.conditioning import CaptionEmbed, TimeEmbed
from model.config import DiTConfig
from model.cross_attention import MASKED, CrossAttention
from model.ffn import MixFFN
from model.initialise import initialise
from model.inputs import check_inputs
from model.layers import PatchEmbed, RMSNorm, modulate
from model.mask import Mask
from model.positions import Positions, make_positions


class Block(nn.Module):
    """x += gate₁·Attention(mod(x)); x += PlückerProj(p); x += CrossAttention(x); x += gate₂·FFN(mod(x))."""

    def __init__(self, config: DiTConfig, softmax: bool) -> None:
        super().__init__()
        width = config.width
        self.scale_shift_table = nn.Parameter(torch.zeros(6, width))
        self.attn = Attention(config, softmax)
        self.plucker_proj = nn.Linear(width, width)
        self.cross_attn = CrossAttention(width, config.heads)
        self.mlp = MixFFN(width, config.ffn_width)

    def forward(
        self, x: Tensor, modulation: Tensor, text: Tensor, text_bias: Tensor | None, plucker: Tensor | None,
        positions: Positions, cache: LayerState | None = None, write: bool = False,
    ) -> Tensor:
        """x, plucker (B, T, S, d)    modulation (B, T, 6, d), of the noise level    text (B, L, d)."""
        vectors = (self.scale_shift_table + modulation)[:, :, :, None].unbind(2)    # 6 of (B, T, 1, d)
        shift, scale, gate, shift_ffn, scale_ffn, gate_ffn = vectors
        valid = positions.valid
        u = _masked(modulate(x, shift, scale), valid)
        x = torch.addcmul(x, _masked(gate, valid), self.attn(u, positions, cache, write))
        if plucker is not None:
            x = x + self.plucker_proj(plucker)
        x = _masked(x + self.cross_attn(x, text, text_bias), valid)
        u = _masked(modulate(x, shift_ffn, scale_ffn), valid)
        y = self.mlp(u, positions.size, positions.mask, valid, cache, write)
        return torch.addcmul(x, _masked(gate_ffn, valid), y)


class FinalLayer(nn.Module):
    """Tokens to latent channels, modulated by the embedding of the noise level itself."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.scale_shift_table = nn.Parameter(torch.zeros(2, width))
        self.linear = nn.Linear(width, channels)

    def forward(self, x: Tensor, level: Tensor) -> Tensor:
        """x (B, T, S, d), level (B, T, d) -> (B, T, S, channels)."""
        shift, scale = (self.scale_shift_table + level[:, :, None])[:, :, :, None].unbind(2)
        return self.linear(modulate(x, shift, scale))


class SanaWM(nn.Module):
    """The stage-1 network. Parameter names are those of the released checkpoints; `raymap_embedder` is a
    leftover in them that nothing uses."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.x_embedder = PatchEmbed(config.latent_channels, width)
        self.t_embedder = TimeEmbed(width)
        self.t_block = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))
        self.y_embedder = CaptionEmbed(config.caption_channels, width, config.caption_length)
        self.attention_y_norm = RMSNorm(width, eps=1e-5)
        self.plucker_embedder = PatchEmbed(config.plucker_channels, width)
        self.raymap_embedder = PatchEmbed(3, width)
        self.blocks = nn.ModuleList(Block(config, i in config.softmax_blocks) for i in range(config.depth))
        self.final_layer = FinalLayer(width, config.latent_channels)
        initialise(self)

    def new_cache(self, batch: int) -> ModelState:
        """The state of `batch` streams before their first frame."""
        return ModelState.empty(self.config.depth, self.config.softmax_blocks)

    @classmethod
    def from_pretrained(cls, source: str | Path, **options: Any) -> SanaWM:
        """As `model.weights.load`: a file, a folder or a hub repository, strictly by name and shape."""
        from model.weights import load
        return load(source, **options)

    def save_pretrained(self, folder: str | Path, **options: Any) -> None:
        """As `model.weights.save`: a folder that `from_pretrained` reads, bit for bit the same."""
        from model.weights import save
        save(self, folder, **options)

    def forward(
        self, latents: Tensor, timesteps: Tensor, caption: Tensor, caption_mask: Tensor | None = None,
        camera_conditions: Tensor | None = None, plucker: Tensor | None = None, *,
        mask: Mask = Mask.bidirectional(), frame_valid: Tensor | None = None,       # noqa: B008
        cache: ModelState | None = None, write: bool = False,
    ) -> Tensor:
        """Velocity (B, C, T, H, W), the prediction of noise - clean.

        latents (B, C, T, H, W)    timesteps (B, T) or (B,), in [0, 1000]    caption (B, L, Ct)
        caption_mask (B, L), 0 where there is no text    camera_conditions (B, T, 20) and plucker
        (B, 48, T, H, W), see dataset/rays.py; either may be absent    frame_valid (B, T), 0 for padding.
        With a cache the latents are the chunk that follows it; `write` adds the chunk to it.
        """
        check_inputs(self.config, latents, timesteps, caption, caption_mask, camera_conditions, plucker, mask,
                     frame_valid, cache, write)
        batch, _, frames, height, width = latents.shape
        dtype = self.x_embedder.proj.weight.dtype
        positions = self.positions((frames, height, width), camera_conditions, mask, frame_valid,
                                   0 if cache is None else cache.frame, latents)
        if timesteps.ndim == 1:
            timesteps = timesteps[:, None].expand(batch, frames)
        level = self.t_embedder(timesteps)
        modulation = self.t_block(level).unflatten(-1, (6, -1))
        text, bias = self.text(caption.to(dtype)), self.text_bias(caption_mask)
        rays = None if plucker is None else self.plucker_embedder(plucker.to(dtype))
        x = _masked(self.x_embedder(latents.to(dtype)), positions.valid)
        for i, block in enumerate(self.blocks):
            x = block(x, modulation, text, bias, rays, positions, cache and cache.layers[i], write)
        if cache is not None and write:
            cache.frame += frames
        out = self.final_layer(x, level)
        return out.permute(0, 3, 1, 2).unflatten(-1, (height, width)).contiguous()

    def positions(
        self, grid: tuple[int, int, int], camera_conditions: Tensor | None, mask: Mask,
        frame_valid: Tensor | None, first_frame: int, like: Tensor,
    ) -> Positions:
        """As `make_positions`; what runs frames on several devices numbers them here."""
        dtype = self.x_embedder.proj.weight.dtype
        return make_positions(grid, self.config.head_width, dtype, camera_conditions, mask,
                              frame_valid=frame_valid, first_frame=first_frame, device=like.device)

    def text(self, caption: Tensor) -> Tensor:
        """Caption states (B, L, Ct) to text tokens (B, L, d)."""
        return self.attention_y_norm(self.y_embedder(caption))

    def text_bias(self, caption_mask: Tensor | None) -> Tensor | None:
        """What is added to the logits of text tokens, (B, 1, 1, L)."""
        if caption_mask is None:
            return None
        there = caption_mask.to(self.x_embedder.proj.weight.dtype)
        return ((1 - there) * MASKED)[:, None, None]


def _masked(x: Tensor, valid: Tensor | None) -> Tensor:
    return x if valid is None else x * valid
