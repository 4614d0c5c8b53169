"""The token mixer of a block: frame-wise gated delta scan or softmax; main and camera branch take one path.

Each branch has its own q, k, v and norms; gates, output gate and output projection are shared. What position
does to a branch is an encoding with `queries`, `keys`, `values` and `output`: `Rotary` or `Rays`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.cache import KVState, LayerState, ScanState
from model.camera import Rays
from model.config import DiTConfig
from model.gdn import GDNState, prepare_and_scan
from model.gdn_prepare import RawTokens
from model.layers import RMSNorm, gate
from model.mask import Mask
from model.positions import Positions
from model.rope import Rotary
from model.temporal import ShortConv

_EPS = 1e-5


class Gates(NamedTuple):
    """How strongly tokens write, beta (B, T, S, h), and what a frame keeps of the past, decay (B, T, h)."""

    beta: Tensor
    decay: Tensor


class Branch(NamedTuple):
    """Modules of one branch that are its own, its encoding, and what its stream carries."""

    q_norm: RMSNorm
    k_norm: RMSNorm
    conv: ShortConv | None
    encoding: Rotary | Rays
    cache: ScanState | KVState | None


class Attention(nn.Module):
    """y = proj( (main + out_proj_cam(camera)) · silu(output_gate(u)) ).

    Softmax blocks have no convolutions, and keep the tensors of the gates unused, as the checkpoints do.
    `scan` and `attend` are how frames reach one another; what runs frames on several devices replaces them.
    """

    recall_gate: Tensor
    scan: Callable[..., tuple[Tensor, GDNState]]
    attend: Callable[..., Tensor]

    def __init__(self, config: DiTConfig, softmax: bool) -> None:
        super().__init__()
        width, heads = config.width, config.heads
        self.config, self.softmax = config, softmax
        self.clamp = config.camera_clamp == "all" or (config.camera_clamp == "softmax" and softmax)
        self.scan, self.attend = scan_frames, softmax_attention
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
        main = Branch(self.q_norm, self.k_norm, self.conv_k, positions.rotary,
                      None if cache is None else cache.main)
        mixed = self._mix(main, q, k, v, positions, gates, write)
        if positions.rays is not None:
            q, k, v = self.q_proj_cam(u), self.k_proj_cam(u), self.v_proj_cam(u)
            rays = replace(positions.rays, clamp=self.clamp)
            camera = Branch(self.q_norm_cam, self.k_norm_cam, self.conv_k_cam, rays,
                            None if cache is None else cache.camera)
            mixed = mixed + self.out_proj_cam(self._mix(camera, q, k, v, positions, gates, write))
        return self._gated(mixed, self.output_gate(u))

    def gates(self, u: Tensor, valid: Tensor | None) -> Gates:
        """beta = sigmoid(beta_proj(u)); decay = exp(-exp(A_log) · softplus(gate_proj(mean u) + dt_bias))."""
        dtype = torch.promote_types(u.dtype, torch.float32)
        beta = self.beta_proj(u).sigmoid()
        rate = F.softplus(self.gate_proj(u.mean(2)).to(dtype) + self.dt_bias.to(dtype))
        decay = torch.exp(-self.A_log.to(dtype).exp() * rate)
        if valid is not None:
            beta, decay = beta * valid, torch.where(valid[..., 0].bool(), decay, 1.0)
        return Gates(beta, decay)

    def _mix(
        self, branch: Branch, q: Tensor, k: Tensor, v: Tensor, positions: Positions, gates: Gates | None,
        write: bool,
    ) -> Tensor:
        """One branch from its projections to its result, all (B, T, S, d)."""
        if gates is None:
            out = self._softmax(branch, q, k, v, positions, write)
        else:
            out = self._scan(branch, q, k, v, positions, gates, write)
        return out.flatten(-2)

    def _scan(
        self, branch: Branch, q: Tensor, k: Tensor, v: Tensor, positions: Positions, gates: Gates,
        write: bool,
    ) -> Tensor:
        cache, mask = branch.cache, positions.mask
        assert branch.conv is not None and not isinstance(cache, KVState)
        tail = None if cache is None else cache.conv_tail
        if positions.valid is not None:
            k = k * positions.valid
        raw = RawTokens(*self._heads(q, branch.conv(k, mask, tail), v), gates.beta,
                        branch.q_norm.weight, branch.k_norm.weight, branch.encoding,
                        self.config.scaled_key(k.shape[2]), _EPS)
        out, state = self.scan(raw, gates.decay, mask=mask, state=None if cache is None else cache.gdn)
        if cache is not None and write:
            cache.gdn, cache.conv_tail = state, branch.conv.next_tail(k, tail)
        return out

    def _softmax(
        self, branch: Branch, q: Tensor, k: Tensor, v: Tensor, positions: Positions, write: bool,
    ) -> Tensor:
        cache, mask = branch.cache, positions.mask
        assert not isinstance(cache, ScanState)
        q, k, v = self._encoded(branch, q, k, v)
        keys, values = (k, v) if cache is None else cache.extended(k, v, mask)
        if cache is not None and write:
            cache.store(k, v, mask)
        return branch.encoding.output(self.attend(q, keys, values, mask, positions.valid))

    def _gated(self, mixed: Tensor, by: Tensor) -> Tensor:
        return self.proj(gate(mixed, by))

    def _encoded(self, branch: Branch, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self._heads(branch.q_norm(q), branch.k_norm(k), v)
        return branch.encoding.queries(q), branch.encoding.keys(k), branch.encoding.values(v)

    def _heads(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shape = self.config.heads, self.config.head_width
        return q.unflatten(-1, shape), k.unflatten(-1, shape), v.unflatten(-1, shape)


def scan_frames(
    raw: RawTokens, decay: Tensor, mask: Mask, state: GDNState | None,
) -> tuple[Tensor, GDNState]:
    """A branch of a scanning block, from its projections to its output and the state after its last frame."""
    return prepare_and_scan(raw, decay, chunk_starts=mask.chunk_starts, state=state)


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, mask: Mask, valid: Tensor | None = None) -> Tensor:
    """Queries (B, T, S, h, D) of each chunk on keys of all frames up to its end, at scale D^(-1/2).

    k, v may begin with frames before those of q. Frames whose valid (B, T, 1, 1) is zero are not seen.
    One product per chunk with a prefix of the keys, so no table of who sees whom is ever made.
    """
    frames, tokens = q.shape[1:3]
    past = k.shape[1] - frames
    seen = None
    if valid is not None:
        seen = F.pad(valid[..., 0, 0].bool(), (k.shape[1] - valid.shape[1], 0), value=True)
        seen = seen.repeat_interleave(tokens, 1)[:, None, None]
    out = []
    for start, end in mask.bounds(frames):
        queries, keys, values = (x.flatten(1, 2).transpose(1, 2)
                                 for x in (q[:, start:end], k[:, : past + end], v[:, : past + end]))
        allowed = None if seen is None else seen[..., : (past + end) * tokens]
        mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=allowed)
        out.append(mixed.transpose(1, 2).unflatten(1, (end - start, tokens)))
    return out[0] if len(out) == 1 else torch.cat(out, 1)
