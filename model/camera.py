"""The camera branch's geometry: the ray frame of every token, and what it does to q, k, v and the output
(UCPE, ray-local: only the relative pose of two rays enters their product).

Rays go through integer latent coordinates, as the released weights were trained; see dataset/rays.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from model.rope import rotate

_MIN_NORM = 1e-6


@dataclass(frozen=True)
class Rays:
    """What position does to the camera branch: the first half of a head is taken through the token's ray
    frame four channels at a time, the second half is rotated.

    from_world, to_world: (B, T, S, 4, 4)    turn: (T, S, 1, D/4) complex
    clamp: scale q, k and v back to the RMS they had before, where the transform enlarged it.
    """

    from_world: Tensor
    to_world: Tensor
    turn: Tensor
    clamp: bool = False

    def queries(self, q: Tensor) -> Tensor:
        """(B, T, S, h, D), as all of these."""
        return self._clamped(q, _Transform.apply(q, self.from_world.mT, self.turn))

    def keys(self, k: Tensor) -> Tensor:
        return self._clamped(k, _Transform.apply(k, self.to_world, self.turn))

    def values(self, v: Tensor) -> Tensor:
        return self.keys(v)

    def output(self, out: Tensor) -> Tensor:
        return _Transform.apply(out, self.from_world, self.turn.conj())

    def _clamped(self, before: Tensor, after: Tensor) -> Tensor:
        return clamp_rms(after, before) if self.clamp else after


def ray_from_world(conditions: Tensor, height: int, width: int) -> Tensor:
    """World-to-ray matrices (B, T·H·W, 4, 4) in float64 of camera conditions (B, T, 20).

    A row holds camera-to-world, row-major, then fx, fy, cx, cy in latent cells. The ray of cell (x, y) goes
    through the integer point (x, y); the y axis of its frame is the camera's, made orthogonal to it.
    """
    rows = conditions.to(torch.float64)
    c2w, (fx, fy, cx, cy) = rows[..., :16].unflatten(-1, (4, 4)), rows[..., 16:, None, None].unbind(-3)
    x = torch.arange(width, dtype=torch.float64, device=rows.device)
    y = torch.arange(height, dtype=torch.float64, device=rows.device)[:, None]
    across, down = torch.broadcast_tensors((x - cx) / fx, (y - cy) / fy)              # (B, T, H, W)
    direction = F.normalize(torch.stack([across, down, torch.ones_like(across)], -1), dim=-1, eps=_MIN_NORM)
    rotation, centre = c2w[:, :, None, None, :3, :3], c2w[:, :, None, None, :3, 3]
    z = (rotation @ direction[..., None])[..., 0]
    x_axis = F.normalize(torch.linalg.cross(rotation[..., 1].expand_as(z), z), dim=-1, eps=_MIN_NORM)
    y_axis = F.normalize(torch.linalg.cross(z, x_axis), dim=-1, eps=_MIN_NORM)
    axes = torch.stack([x_axis, y_axis, z], -2)                                       # (B, T, H, W, 3, 3)
    shift = -(axes @ centre[..., None])
    last = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64, device=rows.device)
    frame = torch.cat([torch.cat([axes, shift], -1), last.expand(*shift.shape[:-2], 1, 4)], -2)
    finite = direction.isfinite().all(-1)[..., None, None]
    one = torch.eye(4, dtype=torch.float64, device=rows.device)
    return torch.where(finite, frame, one).flatten(1, 3)


def invert_rigid(frame: Tensor) -> Tensor:
    """Inverse of rigid transforms (..., 4, 4)."""
    rotation = frame[..., :3, :3].mT
    top = torch.cat([rotation, -(rotation @ frame[..., :3, 3:])], -1)
    return torch.cat([top, frame[..., 3:, :]], -2)


def clamp_rms(after: Tensor, before: Tensor) -> Tensor:
    """`after` scaled down, per token and head, to the RMS of `before` where it exceeds it."""
    had, has = (squared_norm(x)[..., None] / x.shape[-1] + 1e-6 for x in (before, after))
    return after * (had / has).sqrt().clamp(max=1.0).to(after.dtype)


def squared_norm(x: Tensor) -> Tensor:
    """Sum of squares over the last axis, in float32 at least."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    return torch.linalg.vector_norm(x, dim=-1, dtype=dtype).square()


class _Transform(torch.autograd.Function):
    """A linear map of every token: `matrix` on fours of channels of the first half, `turn` on the other half.
    Its gradient is the map with the matrix transposed and the turn reversed, so nothing of x is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor, turn: Tensor) -> Tensor:
        ctx.save_for_backward(matrix, turn)
        return _transform(x, matrix, turn)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        matrix, turn = ctx.saved_tensors
        return _transform(grad, matrix.mT, turn.conj()), None, None


def _transform(x: Tensor, matrix: Tensor, turn: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    grouped = x[..., :half].to(matrix.dtype).unflatten(-1, (-1, 4)).flatten(-3, -2)   # (B, T, S, h·D/8, 4)
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    out[..., :half] = (grouped @ matrix.mT).view(*x.shape[:-1], half)
    out[..., half:] = rotate(x[..., half:], turn)
    return out
