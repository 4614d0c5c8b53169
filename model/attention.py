"""The token mixer of a block: frame-wise gated delta scan or softmax, main and camera branch through one path.

Both branches have their own q, k, v and norms and share gates, output gate and output projection. What position
does to a branch is an encoding with `queries`, `keys`, `values` and `output`: `Rotary` or `Rays`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.cache import KVState, LayerState, ScanState
from model.camera import Rays, clamp_rms
from model.config import DiTConfig
from model.gdn import frame_gdn
from model.layers import RMSNorm
from model.mask import Mask
from model.rope import Rotary

_EPS = 1e-5
_KERNEL = 4
_MIN_KEY = 1e-12


@dataclass(frozen=True)
class Positions:
    """Where tokens are and who sees whom; the same for all blocks.

    valid: (B, T, 1, 1), one for frames that are there and zero for padding; None where all are.
    """

    size: tuple[int, int]
    rotary: Rotary
    rays: Rays | None
    mask: Mask
    valid: Tensor | None = None


class Gates(NamedTuple):
    """How strongly tokens write, beta (B, T, S, h), and what a frame keeps, decay (B, T, h)."""

    beta: Tensor
    decay: Tensor


class Attention(nn.Module):
    """y = proj( (main + out_proj_cam(camera)) · silu(output_gate(u)) ). Softmax blocks have no convolutions, and
    keep the gates' tensors unused, as the checkpoints do."""

    recall_gate: Tensor

    def __init__(self, config: DiTConfig, softmax: bool) -> None:
        super().__init__()
        width, heads = config.width, config.heads
        self.config, self.softmax = config, softmax
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_norm, self.k_norm = RMSNorm(width, _EPS), RMSNorm(width, _EPS)
        self.q_proj_cam, self.k_proj_cam = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj_cam = nn.Linear(width, width)
        self.q_norm_cam, self.k_norm_cam = RMSNorm(width, _EPS), RMSNorm(width, _EPS)
        self.conv_k = None if softmax else ShortConv(width)
        self.conv_k_cam = None if softmax else ShortConv(width)
        self.beta_proj, self.gate_proj = nn.Linear(width, heads), nn.Linear(width, heads)
        self.A_log, self.dt_bias = nn.Parameter(torch.zeros(heads)), nn.Parameter(torch.zeros(heads))
        self.register_buffer("recall_gate", torch.zeros(1))
        self.out_proj_cam = nn.Linear(width, width)
        self.output_gate = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)

    def forward(
        self, u: Tensor, positions: Positions, cache: LayerState | None = None, write: bool = False,
    ) -> Tensor:
        """u (B, T, S, d), the modulated stream; returns (B, T, S, d)."""
        gates = None if self.softmax else self.gates(u, positions.valid)
        q, k, v = self.qkv(u).chunk(3, -1)
        mixed = self.branch(q, k, v, positions.rotary, positions, gates,
                            None if cache is None else cache.main, write)
        if positions.rays is not None:
            q, k, v = self.q_proj_cam(u), self.k_proj_cam(u), self.v_proj_cam(u)
            camera = self.branch(q, k, v, positions.rays, positions, gates,
                                 None if cache is None else cache.camera, write)
            mixed = mixed + self.out_proj_cam(camera)
        return self.proj(mixed * F.silu(self.output_gate(u)))

    def gates(self, u: Tensor, valid: Tensor | None) -> Gates:
        """beta = sigmoid(beta_proj(u)); decay = exp(-exp(A_log) · softplus(gate_proj(mean of u) + dt_bias))."""
        dtype = torch.promote_types(u.dtype, torch.float32)
        beta = self.beta_proj(u).sigmoid()
        rate = F.softplus(self.gate_proj(u.mean(2)).to(dtype) + self.dt_bias.to(dtype))
        decay = torch.exp(-self.A_log.to(dtype).exp() * rate)
        if valid is not None:
            there = valid[..., 0]
            beta, decay = beta * valid, torch.where(there.bool(), decay, torch.ones_like(decay))
        return Gates(beta, decay)

    def branch(
        self, q: Tensor, k: Tensor, v: Tensor, encoding: Rotary | Rays, positions: Positions,
        gates: Gates | None, cache: ScanState | KVState | None, write: bool,
    ) -> Tensor:
        """One branch from its projections to its result, (B, T, S, d) all."""
        camera = isinstance(encoding, Rays)
        q_norm, k_norm = (self.q_norm_cam, self.k_norm_cam) if camera else (self.q_norm, self.k_norm)
        if gates is None:
            assert cache is None or isinstance(cache, KVState)
            out = self._softmax(q_norm(q), k_norm(k), v, encoding, positions, cache, write)
        else:
            assert cache is None or isinstance(cache, ScanState)
            conv = self.conv_k_cam if camera else self.conv_k
            assert conv is not None
            k = conv(k if positions.valid is None else k * positions.valid, positions.mask, cache, write)
            scale = self.config.scaled_key(k.shape[2])
            out = self._scan(F.relu(q_norm(q)), F.relu(k_norm(k, scale)), v, encoding, positions, gates,
                             cache, write)
        return out.flatten(-2)

    def _scan(
        self, q: Tensor, k: Tensor, v: Tensor, encoding: Rotary | Rays, positions: Positions, gates: Gates,
        cache: ScanState | None, write: bool,
    ) -> Tensor:
        q, k, v = self._heads(q, k, v)
        beta, plain = gates.beta, (q, k)
        q, k, v = self._encoded(q, k, v, encoding)
        if isinstance(encoding, Rays):
            beta, plain = beta / key_growth(plain[1], k), (None, None)
        out, state = frame_gdn(q, k, v, beta, gates.decay, q_plain=plain[0], k_plain=plain[1],
                               chunk_starts=positions.mask.chunk_starts,
                               state=None if cache is None else cache.gdn)
        if cache is not None and write:
            cache.gdn = state
        return encoding.output(out)

    def _softmax(
        self, q: Tensor, k: Tensor, v: Tensor, encoding: Rotary | Rays, positions: Positions,
        cache: KVState | None, write: bool,
    ) -> Tensor:
        q, k, v = self._encoded(*self._heads(q, k, v), encoding)
        past = 0
        if cache is not None:
            seen, mask, chunk = cache.seen(positions.mask), positions.mask, (k, v)
            k = torch.cat([*(cache.keys[i] for i in seen), k], 1)
            v = torch.cat([*(cache.values[i] for i in seen), v], 1)
            past = k.shape[1] - q.shape[1]
            if write:
                cache.store(chunk[0].clone(), chunk[1].clone(), mask)
        return encoding.output(softmax_attention(q, k, v, positions, past))

    def _heads(self, *branch: Tensor) -> list[Tensor]:
        return [x.unflatten(-1, (self.config.heads, -1)) for x in branch]

    def _encoded(
        self, q: Tensor, k: Tensor, v: Tensor, encoding: Rotary | Rays,
    ) -> tuple[Tensor, Tensor, Tensor]:
        encoded = encoding.queries(q), encoding.keys(k), encoding.values(v)
        clamp = self.config.camera_clamp
        if isinstance(encoding, Rays) and (clamp == "all" or (clamp == "softmax" and self.softmax)):
            return clamp_rms(encoded[0], q), clamp_rms(encoded[1], k), clamp_rms(encoded[2], v)
        return encoded


class ShortConv(nn.Module):
    """Depthwise convolution over time at each site, four taps forwards over all frames and the same four
    backwards inside a chunk, the centre counted once."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(width, 1, _KERNEL))

    def forward(
        self, x: Tensor, mask: Mask, cache: ScanState | None = None, write: bool = False,
    ) -> Tensor:
        """x (B, T, S, d)."""
        reach = _KERNEL - 1
        tail = None if cache is None else cache.conv_tail
        before = x.new_zeros(x.shape[0], reach, *x.shape[2:])
        if tail is not None:
            before = torch.cat([before, tail], 1)[:, -reach:]
        extended = torch.cat([before, x], 1)
        if cache is not None and write:
            cache.conv_tail = extended[:, -reach:].clone()
        taps = self.weight[:, 0].T[:, None, None]                              # (4, 1, 1, d)
        out = x * taps[-1]
        for back in range(1, reach + 1):
            out = out + extended[:, reach - back : extended.shape[1] - back] * taps[reach - back]
        for start, end in mask.bounds(x.shape[1]):
            for ahead in range(1, min(reach, end - start - 1) + 1):
                out[:, start : end - ahead] += x[:, start + ahead : end] * taps[reach - ahead]
        return out


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, positions: Positions, past: int = 0) -> Tensor:
    """Queries (B, T, S, h, D) of each chunk on keys of all frames up to its end, behind `past` earlier ones.

    One product per chunk with a prefix of the keys, so no table of who sees whom is ever made.
    """
    tokens, valid = q.shape[2], positions.valid
    bias = None
    if valid is not None:
        there = valid.new_ones(valid.shape[0], past + q.shape[1], 1)
        there[:, past:] = valid[..., 0]
        bias = there.expand(-1, -1, tokens).flatten(1)[:, None, None].bool()
    out = []
    for start, end in positions.mask.bounds(q.shape[1]):
        parts = (x.flatten(1, 2).transpose(1, 2) for x in (q[:, start:end], k[:, :past + end], v[:, :past + end]))
        allowed = None if bias is None else bias[..., : (past + end) * tokens]
        mixed = F.scaled_dot_product_attention(*parts, attn_mask=allowed)
        out.append(mixed.transpose(1, 2).unflatten(1, (end - start, tokens)))
    return out[0] if len(out) == 1 else torch.cat(out, 1)


def key_growth(before: Tensor, after: Tensor) -> Tensor:
    """How much the ray transform lengthened the keys of a frame, at least 1: (B, T, 1, h).

    Writing is damped by it, which keeps the scan contractive when the transform holds a translation.
    """
    had, has = (x.square().sum(-1, dtype=torch.promote_types(x.dtype, torch.float32)).clamp(min=_MIN_KEY)
                for x in (before, after))
    return (has / had).mean(2, keepdim=True).clamp(min=1.0)


