"""One process's stretch of a clip, and what a group of processes exchanges so that each can work on its own.

Scans are composed over processes exactly; neighbouring frames and frames of all processes are fetched.
Gradients are those of the sum of the losses of all processes of the group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from model.mask import Mask


class TimeShard:
    """Frames bounds[rank] to bounds[rank + 1] of a clip are here, others with other ranks of `group`."""

    def __init__(self, group: dist.ProcessGroup, bounds: Sequence[int]) -> None:
        self.group, self.bounds, self.rank = group, tuple(bounds), group.rank()
        if len(self.bounds) != group.size() + 1:
            raise ValueError(f"TimeShard: bounds {self.bounds} for {group.size()} processes, expected one "
                             "number more than processes; split_frames() makes them")
        self.first, self.end = self.bounds[self.rank : self.rank + 2]

    def take(self, x: Tensor, dim: int = 1) -> Tensor:
        """This process's frames of x, which holds those of the whole clip in dimension `dim`."""
        if x.shape[dim] != self.bounds[-1]:
            raise ValueError(f"TimeShard: dimension {dim} of a tensor of shape {tuple(x.shape)} is its "
                             f"frames, expected {self.bounds[-1]}, those of the whole clip")
        return x.narrow(dim, self.first, self.end - self.first)

    def mask(self, mask: Mask) -> ShardedMask:
        """The clip's mask, for a call of the network with this process's frames."""
        return ShardedMask(mask.chunk_starts, mask.window, mask.sink, shard=self)

    def gather(self, x: Tensor) -> Tensor:
        """All frames of the clip, for this process's own x (B, T, ...)."""
        return gather_frames(x, self._lengths(), self.group)

    def before(self, x: Tensor, count: int) -> Tensor:
        """The `count` frames before x (B, T, ...), zeros where the clip has none."""
        lengths = self._lengths(count)
        edges = gather_frames(x[:, x.shape[1] - lengths[self.rank] :], lengths, self.group)
        here = sum(lengths[: self.rank])
        edges = edges[:, max(0, here - count) : here]
        return torch.cat([x.new_zeros(x.shape[0], count - edges.shape[1], *x.shape[2:]), edges], 1)

    def after(self, x: Tensor, count: int) -> Tensor:
        """The frames after x (B, T, ...), at most `count` and no more than the clip has."""
        lengths = self._lengths(count)
        edges = gather_frames(x[:, : lengths[self.rank]], lengths, self.group)
        return edges[:, sum(lengths[: self.rank + 1]) :][:, :count]

    def carry(self, transition: Tensor, local: Tensor, reverse: bool) -> Tensor:
        """The state that enters these frames, see `gdn_scan.Link`."""
        pair = torch.cat([transition, local], -1)
        every = pair.new_empty(self.group.size(), *pair.shape)
        dist.all_gather_single(every.flatten(0, 1), pair, group=self.group)
        pairs = [part.split([transition.shape[-1], local.shape[-1]], -1) for part in every]
        return starting_states(pairs, reverse)[self.rank]

    def _lengths(self, most: int | None = None) -> list[int]:
        """Frames that each rank holds, or `most` of them."""
        lengths = [end - first for first, end in zip(self.bounds, self.bounds[1:])]
        return lengths if most is None else [min(most, length) for length in lengths]


@dataclass(frozen=True)
class ShardedMask(Mask):
    """A mask whose chunks are numbered by the clip's frames, for layers that are given a stretch of them."""

    shard: TimeShard = field(kw_only=True)

    def check(self, frames: int) -> None:
        super().check(self.shard.bounds[-1])

    def bounds(self, frames: int) -> list[tuple[int, int]]:
        raise ValueError("a ShardedMask reached a layer that knows nothing of other processes; "
                         "parallel.share_time(model) prepares a network for it")

    def starts_here(self) -> list[int]:
        """Frames here at which a chunk begins, numbered from the first one here."""
        return [start - self.shard.first for start in self.chunk_starts if start >= self.shard.first]

    def end_of_chunk(self, frame: int) -> int:
        """Where in the clip the chunk of a frame here ends."""
        return next((start for start in self.chunk_starts if start > self.shard.first + frame),
                    self.shard.bounds[-1])

    def over(self, frames: int) -> Mask:
        """The mask of `frames` frames from the first one here, which need not be the first of its chunk."""
        return Mask((0, *(start for start in self.starts_here() if 0 < start < frames)))


def starting_states(pairs: Sequence[tuple[Tensor, Tensor]], reverse: bool = False) -> list[Tensor]:
    """The state that enters each stretch, from the transition C and local state H of all: x -> C x + H.

    Stretches follow one another in time; in reverse, states come from later ones.
    """
    state, starts = torch.zeros_like(pairs[0][1]), []
    for transition, local in reversed(pairs) if reverse else pairs:
        starts.append(state)
        state = transition @ state + local
    return starts[::-1] if reverse else starts


def split_frames(frames: int, parts: int) -> tuple[int, ...]:
    """Bounds of `parts` stretches as equal as can be, the longer ones first: `parts` + 1 numbers."""
    if frames < parts:
        raise ValueError(f"context parallelism: {frames} latent frames for {parts} processes, expected at "
                         "least one each; use smaller groups or longer clips")
    return tuple((frames * i + parts - 1) // parts for i in range(parts + 1))


def gather_frames(x: Tensor, lengths: Sequence[int], group: dist.ProcessGroup) -> Tensor:
    """Frames of all ranks in turn, (B, sum of lengths, ...), from each rank's own (B, lengths[rank], ...)."""
    return _Gather.apply(x, tuple(lengths), group)


class _Gather(torch.autograd.Function):
    """Stretches travel padded to the longest; the gradient of a stretch is the sum of all ranks' for it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, lengths: tuple[int, ...], group: dist.ProcessGroup) -> Tensor:
        ctx.lengths, ctx.group = lengths, group
        mine = x.new_zeros(max(lengths), x.shape[0], *x.shape[2:])
        mine[: x.shape[1]] = x.transpose(0, 1)
        every = mine.new_empty(len(lengths), *mine.shape)
        dist.all_gather_single(every.flatten(0, 1), mine, group=group)
        return torch.cat([part[:length] for part, length in zip(every, lengths)]).transpose(0, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        every = grad.new_zeros(len(ctx.lengths), max(ctx.lengths), grad.shape[0], *grad.shape[2:])
        for part, of_rank in zip(every, grad.transpose(0, 1).split(ctx.lengths)):
            part[: len(of_rank)] = of_rank
        mine = torch.empty_like(every[0])
        dist.reduce_scatter_single(mine, every.flatten(0, 1), group=ctx.group)
        return mine[: ctx.lengths[ctx.group.rank()]].transpose(0, 1), None, None
