"""What makes a network run on several devices, applied from outside: sharding of time and of parameters,
recomputation, compilation. The network's files know nothing of it and its results stay the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.utils.checkpoint import checkpoint

from model.attention import Attention, scan_frames, softmax_attention
from model.dit import SanaWM
from model.gdn import GDNState, prepare_and_scan
from model.gdn_prepare import RawTokens
from model.mask import Mask
from model.temporal import REACH, ShortConv, TemporalConv
from model.time_shard import ShardedMask, TimeShard, split_frames


class ContextParallel:
    """`SanaWM`'s call for a group of processes, each of which computes a stretch of the clip.

    All of them give the same whole clips and get the whole velocity. Gradients are those of the sum of the
    processes' losses: average them over all processes, as FSDP and DDP do, whether the group has one or more.
    """

    def __init__(self, model: SanaWM, group: dist.ProcessGroup) -> None:
        share_time(model)
        self.model, self.group = model, group

    def __call__(
        self, latents: Tensor, timesteps: Tensor, caption: Tensor, caption_mask: Tensor | None = None,
        camera_conditions: Tensor | None = None, plucker: Tensor | None = None, *,
        mask: Mask = Mask.bidirectional(), frame_valid: Tensor | None = None,       # noqa: B008
    ) -> Tensor:
        shard = TimeShard(self.group, split_frames(latents.shape[2], self.group.size()))

        def here(x: Tensor | None, dim: int = 1) -> Tensor | None:
            return None if x is None else shard.take(x, dim)

        velocity = self.model(
            shard.take(latents, 2), timesteps if timesteps.ndim == 1 else shard.take(timesteps), caption,
            caption_mask, here(camera_conditions), here(plucker, 2), mask=shard.mask(mask),
            frame_valid=here(frame_valid))
        return shard.gather(velocity.transpose(1, 2)).transpose(1, 2)


def share_time(model: SanaWM) -> None:
    """Teach the layers that look over time to fetch what lies with other processes, when a `ShardedMask` says
    that they have a stretch of a clip. Calls with any other mask stay as they are."""
    for module in model.modules():
        if isinstance(module, Attention):
            module.scan, module.attend = _scan, _attend
        if isinstance(module, ShortConv | TemporalConv):
            reach = REACH if isinstance(module, ShortConv) else 1
            module.forward = partial(  # type: ignore[method-assign]
                _convolve, type(module).forward.__get__(module), reach)
    model.positions = partial(  # type: ignore[method-assign]
        _positions, type(model).positions.__get__(model))


def shard_parameters(
    model: SanaWM, mesh: DeviceMesh, *, compute: torch.dtype = torch.bfloat16,
    reduce: torch.dtype = torch.float32,
) -> None:
    """FSDP2: every process keeps its part of each block's parameters and gathers the block when it is needed.

    Stored parameters keep their type; `compute` is that of the gathered ones, `reduce` that of gradients on
    their way. Gradients are averaged over the mesh, which is all processes, those of a time group too.
    """
    # Inputs are not cast: noise levels and camera poses need their precision.
    policy = MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=reduce, cast_forward_inputs=False)
    for block in model.blocks:
        fully_shard(block, mesh=mesh, mp_policy=policy)
    # The refiner holds the layers of its blocks under a second name, which must not be sharded again.
    done = {parameter for block in model.blocks for parameter in block.parameters()}
    fully_shard(model, mesh=mesh, mp_policy=policy, ignored_params=done)
    for module in (*model.blocks, model):
        if hasattr(module, "read_text"):  # of the refiner: needs parameters too
            register_fsdp_forward_method(module, "read_text")


def recompute_blocks(model: SanaWM, every: int = 1) -> None:
    """Keep only the input of every `every`-th block and compute the block again for the gradient."""
    for block in list(model.blocks)[::every]:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)


def compile_blocks(model: SanaWM, **options: Any) -> None:
    """Compile each block. Equal blocks share a graph. After `recompute_blocks`, before `shard_parameters`."""
    for block in model.blocks:
        block.forward = torch.compile(block.forward, **options)


def _positions(
    positions: Callable[..., Any], grid: tuple[int, int, int], camera_conditions: Tensor | None, mask: Mask,
    frame_valid: Tensor | None, first_frame: int, like: Tensor,
) -> Any:
    """Frames are numbered as in the clip."""
    first = mask.shard.first if isinstance(mask, ShardedMask) else first_frame
    return positions(grid, camera_conditions, mask, frame_valid, first, like)


def _scan(raw: RawTokens, decay: Tensor, mask: Mask, state: GDNState | None) -> tuple[Tensor, GDNState]:
    """States come from the processes before and after."""
    if not isinstance(mask, ShardedMask):
        return scan_frames(raw, decay, mask, state)
    return prepare_and_scan(raw, decay, chunk_starts=mask.starts_here(), state=state, link=mask.shard)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Mask, valid: Tensor | None = None) -> Tensor:
    """The queries here on keys and values of all processes, of a chunk those up to its end."""
    if not isinstance(mask, ShardedMask):
        return softmax_attention(q, k, v, mask, valid)
    shard, out = mask.shard, []
    k, v = shard.gather(k), shard.gather(v)
    valid = None if valid is None else shard.gather(valid)
    for start, end in mask.over(q.shape[1]).bounds(q.shape[1]):
        seen = mask.end_of_chunk(end - 1)
        out.append(softmax_attention(q[:, start:end], k[:, :seen], v[:, :seen], Mask(),
                                     None if valid is None else valid[:, :seen]))
    return torch.cat(out, 1)


def _convolve(
    forward: Callable[..., Tensor], reach: int, x: Tensor, mask: Mask, tail: Tensor | None = None
) -> Tensor:
    """With `reach` frames of the neighbours on both sides."""
    if not isinstance(mask, ShardedMask):
        return forward(x, mask, tail)
    extended = torch.cat([x, mask.shard.after(x, reach)], 1)
    return forward(extended, mask.over(extended.shape[1]), mask.shard.before(x, reach))[:, : x.shape[1]]
