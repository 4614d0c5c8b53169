"""Where tokens are in time, in the frame and in the world, and who sees whom: made once for all blocks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from model.camera import Rays, invert_rigid, ray_from_world
from model.mask import Mask
from model.rope import Rotary, camera_turns, rotary_turns


@dataclass(frozen=True)
class Positions:
    """size: (H, W)    valid: (B, T, 1, 1), one for frames that are there, zero for padding; None if all."""

    size: tuple[int, int]
    rotary: Rotary
    rays: Rays | None
    mask: Mask
    valid: Tensor | None = None


def make_positions(
    grid: tuple[int, int, int], head_width: int, dtype: torch.dtype, camera_conditions: Tensor | None = None,
    mask: Mask = Mask.bidirectional(), *,                                                     # noqa: B008
    frame_valid: Tensor | None = None, first_frame: int = 0, device: torch.device | None = None,
) -> Positions:
    """Of a grid (T, H, W) whose first frame is frame `first_frame` of its clip, for features of `dtype`.

    camera_conditions (B, T, 20)    frame_valid (B, T)
    Tables are made in float64 and kept in float32 at least.
    """
    table = torch.promote_types(dtype, torch.float32)
    turn_type = torch.promote_types(table, torch.complex64)
    turn = rotary_turns(grid, head_width, first_frame=first_frame, device=device)
    rays = None
    if camera_conditions is not None:
        from_world = ray_from_world(camera_conditions, *grid[1:]).unflatten(1, (grid[0], -1))
        half_turn = camera_turns(grid, head_width, first_frame=first_frame, device=device)
        rays = Rays(from_world.to(table), invert_rigid(from_world).to(table),
                    half_turn.to(turn_type))
    valid = None if frame_valid is None else frame_valid.to(dtype)[:, :, None, None]
    return Positions(grid[1:], Rotary(turn.to(turn_type)), rays, mask, valid)
