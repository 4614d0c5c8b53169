"""The video half of the LTX-2 transformer as the refiner runs it: some frames at one noise level, attending
to each other and to frames that went before, whose keys and values are handed in.

The layers and their weights are diffusers'; the order of work is here. Where the text is the same for many
calls its keys and values are computed once, and a level is embedded once for all tokens that share it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import register_dataclass

Rotary = tuple[Tensor, Tensor]
"""Cosines and sines of the positions of some frames."""


@dataclass(frozen=True)
class KeyValue:
    """What one attention layer is asked: key and value (B, N, d)."""

    key: Tensor
    value: Tensor

    def nbytes(self) -> int:
        return self.key.nbytes + self.value.nbytes


register_dataclass(KeyValue)  # so that what shards parameters finds the tensors in it

@dataclass(frozen=True)
class Context:
    """What the layers see besides the frames themselves.

    text:     keys and values of the prompt, one per layer, and the bias (B, 1, 1, L) that hides its padding
    earlier:  of a layer, the rotated keys and values of frames before; none, and frames see each other only
    """

    text: list[KeyValue]
    text_bias: Tensor | None = None
    earlier: Callable[[int], list[KeyValue]] | None = None


class RefinerNetwork(nn.Module):
    """Velocity of a block of latent frames (B, C, T, H, W)."""

    def __init__(self, transformer: Any) -> None:
        """`transformer`: a SanaWMLTX2RefinerTransformer3DModel, with its audio half or without."""
        super().__init__()
        config = transformer.config
        for name, wanted in (("cross_attn_mod", False), ("patch_size", 1), ("patch_size_t", 1)):
            if config[name] != wanted:
                raise ValueError(f"refiner: {name} of the transformer is {config[name]}, expected "
                                 f"{wanted} as in LTX-2; later families are another network")
        self.transformer = transformer
        self.blocks: Any = nn.ModuleList(Block(block) for block in transformer.transformer_blocks)
        self.channels: int = config["in_channels"]
        self.heads: int = config["num_attention_heads"]
        self.timestep_scale = float(config["timestep_scale_multiplier"])

    @property
    def dtype(self) -> torch.dtype:
        return self.transformer.proj_in.weight.dtype

    @property
    def device(self) -> torch.device:
        return self.transformer.proj_in.weight.device

    def rotary(self, frames: range, size: tuple[int, int], fps: float) -> Rotary:
        """Positions of latent frames of `size` (H, W), counted from the clip's first; time is in seconds."""
        return self.transformer.build_rotary_emb_for_absolute_positions(
            batch_size=1, frame_positions=list(frames), height=size[0], width=size[1], device=self.device,
            fps=fps)

    def rotate(self, x: Tensor, rotary: Rotary) -> Tensor:
        """Queries or keys (B, N, d) turned by their positions."""
        return rotate(x, rotary, self.transformer.config["rope_type"], self.heads)

    def read_text(self, states: Tensor, mask: Tensor) -> Context:
        """What the layers see of a prompt: states (B, L, C), mask (B, L) of 0 and 1."""
        states = self.transformer.caption_projection(states.to(self.device, self.dtype))
        bias = None
        if not mask.all():
            bias = ((1 - mask.to(states)) * -10000.0)[:, None, None]
        return Context([block.read_text(states) for block in self.blocks], bias)

    def forward(
        self, latents: Tensor, sigma: Tensor, rotary: Rotary, context: Context, keep: bool = False,
    ) -> tuple[Tensor, list[KeyValue]]:
        """Velocity at the level `sigma`, one of all or (B,), and with `keep` each layer's own keys, not
        rotated, and values."""
        batch, _, *grid = latents.shape
        level = (sigma * self.timestep_scale).float().to(self.device).expand(batch)
        modulation, embedded = self.transformer.time_embed(level, batch_size=batch, hidden_dtype=self.dtype)
        x = self.transformer.proj_in(latents.to(self.device, self.dtype).flatten(2).transpose(1, 2))
        kept = []
        for layer, block in enumerate(self.blocks):
            earlier = context.earlier(layer) if context.earlier else []
            x, own = block(x, modulation[:, None], rotary, context.text[layer], context.text_bias, earlier)
            if keep:
                kept.append(own)
        shift, scale = (self.transformer.scale_shift_table + embedded[:, None]).chunk(2, 1)
        x = self.transformer.proj_out(self.transformer.norm_out(x) * (1 + scale) + shift)
        return x.transpose(1, 2).unflatten(2, tuple(grid)).to(latents.dtype), kept


class Block(nn.Module):
    """One LTX-2 block: self-attention and feed-forward, modulated by the noise level, text between them."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.block = block

    def forward(
        self, x: Tensor, modulation: Tensor, rotary: Rotary, text: KeyValue, text_bias: Tensor | None,
        earlier: list[KeyValue],
    ) -> tuple[Tensor, KeyValue]:
        """x (B, N, d), modulation (B, 1, 6d). Returns x and its own keys, not rotated, and values."""
        block = self.block
        table = block.scale_shift_table + modulation.unflatten(-1, (6, -1))           # (B, 1, 6, d)
        shift, scale, gate, shift_ffn, scale_ffn, gate_ffn = table.unbind(2)
        u = block.norm1(x) * (1 + scale) + shift
        own = key_value(block.attn1, u)
        seen = KeyValue(rotate(own.key, rotary, block.attn1.rope_type, block.attn1.heads), own.value)
        x = x + gate * attend(block.attn1, u, join(*earlier, seen), rotary)
        x = x + attend(block.attn2, block.norm2(x), text, bias=text_bias)
        return x + gate_ffn * block.ff(block.norm3(x) * (1 + scale_ffn) + shift_ffn), own

    def read_text(self, states: Tensor) -> KeyValue:
        return key_value(self.block.attn2, states)


def key_value(attention: Any, x: Tensor) -> KeyValue:
    """What tokens offer to an attention layer, keys normalised and not rotated."""
    return KeyValue(attention.norm_k(attention.to_k(x)), attention.to_v(x))


def attend(
    attention: Any, x: Tensor, seen: KeyValue, rotary: Rotary | None = None, bias: Tensor | None = None,
) -> Tensor:
    """What the tokens x (B, N, d) read from those seen."""
    heads = attention.heads
    query = attention.norm_q(attention.to_q(x))
    if rotary is not None:
        query = rotate(query, rotary, attention.rope_type, heads)
    q, k, v = (part.unflatten(2, (heads, -1)).transpose(1, 2) for part in (query, seen.key, seen.value))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(1, 2)     # (B, N, h, D)
    if attention.to_gate_logits is not None:
        out = out * (2 * attention.to_gate_logits(x).sigmoid())[..., None]
    return attention.to_out[0](out.flatten(2))


def join(*runs: KeyValue) -> KeyValue:
    """Keys and values of runs of frames, one after the other."""
    if len(runs) == 1:
        return runs[0]
    return KeyValue(torch.cat([run.key for run in runs], 1), torch.cat([run.value for run in runs], 1))


def rotate(x: Tensor, rotary: Rotary, kind: str, heads: int) -> Tensor:
    """x (B, N, d) turned in float32. Pairs are neighbours ("interleaved") or, in each head, the halves
    ("split"): the two forms LTX-2 checkpoints come in."""
    cos, sin = rotary
    y = x.float()
    if kind == "interleaved":                                                         # cos, sin (1, N, d)
        turned = torch.stack([-y[..., 1::2], y[..., ::2]], -1).flatten(-2)
        return (y * cos + turned * sin).to(x.dtype)
    first, second = y.unflatten(2, (heads, 2, -1)).transpose(1, 2).unbind(3)          # (B, h, N, D/2)
    y = torch.stack([first * cos - second * sin, second * cos + first * sin], 3)
    return y.transpose(1, 2).flatten(2).to(x.dtype)
