"""Frame-wise gated delta attention (paper, Eq. 3, with the released normaliser stream).

All tokens of a frame write at once: per-frame sums over tokens, a short scan over frames, one read-out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

EPS = 1e-8


@dataclass
class GDNState:
    """What the forward scan carries past a frame: all history in one matrix per head."""

    matrix: Tensor  # (B, h, D_key, D_value)
    normaliser: Tensor | None  # (B, h, D_key); None for a numerator-only scan


def accumulator_dtype(dtype: torch.dtype) -> torch.dtype:
    """The recurrence runs in float32, or in float64 for float64 inputs."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def frame_sums(k: Tensor, v: Tensor | None, beta: Tensor) -> tuple[Tensor, Tensor]:
    """What a frame erases and writes: K^T L K (B, T, h, D, D) and K^T L V (B, T, h, D, Dv), L = diag(beta).

    k, v: (B, T, S, h, D)    beta: (B, T, S, h).    Without v all values are one and Dv = 1.
    """
    weighted = (k * beta[..., None].to(k.dtype)).permute(0, 1, 3, 4, 2)
    erase = weighted @ k.transpose(2, 3)
    write = weighted.sum(-1, keepdim=True) if v is None else weighted @ v.transpose(2, 3)
    dtype = accumulator_dtype(k.dtype)
    return erase.to(dtype), write.to(dtype)


def scan_frames(
    erase: Tensor, write: Tensor, decay: Tensor, chunk_starts: Sequence[int], start: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Forward states that include frame t plus reverse states that begin after it, and the last forward state.

    erase: (B, T, h, D, D)    write: (B, T, h, D, Dv)    decay: (B, T, h)    start: (B, h, D, Dv) or None.
    The reverse scan is zero at the last frame of each chunk.
    """
    frames = erase.shape[1]
    gate = decay[..., None, None].to(write.dtype)
    erases, writes, gates = erase.unbind(1), write.unbind(1), gate.unbind(1)
    zero = torch.zeros_like(writes[0])
    state = zero if start is None else start.to(write.dtype)
    forward = []
    for t in range(frames):
        state = gates[t] * (state - erases[t] @ state) + writes[t]
        forward.append(state)
    begins = set(chunk_starts)
    ahead = zero
    reverse = [zero]
    for t in range(frames - 1, 0, -1):
        ahead = zero if t in begins else gates[t] * (ahead - erases[t] @ ahead) + writes[t]
        reverse.append(ahead)
    return torch.stack(forward, 1) + torch.stack(reverse[::-1], 1), state


def frame_gdn(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    beta: Tensor,
    decay: Tensor,
    *,
    q_plain: Tensor | None = None,
    k_plain: Tensor | None = None,
    chunk_starts: Sequence[int] = (0,),
    state: GDNState | None = None,
    kernel: str = "auto",
) -> tuple[Tensor, GDNState]:
    """Attend over frames with a gated delta memory, in both directions.

    q, k, v: (B, T, S, h, D), q and k rotated    beta: (B, T, S, h)    decay: (B, T, h)
    q_plain, k_plain: the un-rotated twins, for the normaliser; None gives the numerator alone.
    chunk_starts: the reverse scan sees frames up to the end of the chunk.    state: before frame 0.
    Returns num / (den + 1e-8), shaped like v, and the forward state after the last frame.
    """
    erase, write = frame_sums(k, v, beta)
    states, matrix = scan_frames(erase, write, decay, chunk_starts, None if state is None else state.matrix)
    out = (q.transpose(2, 3).to(states.dtype) @ states).transpose(2, 3)
    if q_plain is None or k_plain is None:
        return out.to(v.dtype), GDNState(matrix, None)
    erase, write = frame_sums(k_plain, None, beta)
    start = None if state is None or state.normaliser is None else state.normaliser[..., None]
    states, normaliser = scan_frames(erase, write, decay, chunk_starts, start)
    den = (q_plain.transpose(2, 3).to(states.dtype) @ states).transpose(2, 3)
    return (out / (den + EPS)).to(v.dtype), GDNState(matrix, normaliser[..., 0])
