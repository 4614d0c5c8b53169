"""One process's stretch of a clip: context parallelism along time.

Scans are composed over processes exactly, convolutions fetch their neighbours' frames, softmax attention
gathers keys and values. It changes speed and memory only; gradients are those of the sum of the losses of
all processes of the group.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from model.mask import Mask
from model.span import Span


class TimeShard(Span):
    """Frames bounds[rank] to bounds[rank + 1] of a clip are here, others with other ranks of `group`."""

    def __init__(self, group: dist.ProcessGroup, bounds: Sequence[int]) -> None:
        self.group, self.bounds_of_ranks = group, tuple(bounds)
        if len(self.bounds_of_ranks) != group.size() + 1:
            raise ValueError(f"TimeShard: bounds {self.bounds_of_ranks} for {group.size()} processes, "
                             "expected one number more than processes; split_frames() makes them")
        self.rank = group.rank()
        self.first, self.end = self.bounds_of_ranks[self.rank : self.rank + 2]
        self.link = self

    def take(self, x: Tensor, dim: int = 1) -> Tensor:
        """This process's frames of x, whose dimension `dim` is the clip's frames."""
        if x.shape[dim] != self.bounds_of_ranks[-1]:
            raise ValueError(f"TimeShard: dimension {dim} of a tensor of shape {tuple(x.shape)} is its "
                             f"frames, expected {self.bounds_of_ranks[-1]}, those of the whole clip")
        return x.narrow(dim, self.first, self.end - self.first)

    def lengths(self, most: int | None = None) -> list[int]:
        """Frames each rank holds, or `most` of them."""
        ranks = zip(self.bounds_of_ranks, self.bounds_of_ranks[1:])
        return [end - first if most is None else min(most, end - first) for first, end in ranks]

    def before(self, x: Tensor, count: int) -> Tensor:
        last = self.lengths(count)
        edges = gather_frames(x[:, x.shape[1] - last[self.rank] :], last, self.group)
        here = sum(last[: self.rank])
        edges = edges[:, max(0, here - count) : here]
        return torch.cat([x.new_zeros(x.shape[0], count - edges.shape[1], *x.shape[2:]), edges], 1)

    def after(self, x: Tensor, count: int) -> Tensor:
        first = self.lengths(count)
        edges = gather_frames(x[:, : first[self.rank]], first, self.group)
        return edges[:, sum(first[: self.rank + 1]) :][:, :count]

    def gather(self, x: Tensor) -> Tensor:
        return gather_frames(x, self.lengths(), self.group)

    def bounds(self, mask: Mask, frames: int) -> list[tuple[int, int]]:
        chunks = mask.bounds(self.bounds_of_ranks[-1])
        return [(max(first, self.first) - self.first, end - self.first) for first, end in chunks
                if first < self.end and end > self.first]

    def carry(self, transition: Tensor, local: Tensor, reverse: bool) -> Tensor:
        """The state that the frames of the ranks before this one, or after it, leave behind."""
        pair = torch.cat([transition, local], -1).contiguous()
        every = pair.new_empty(self.group.size(), *pair.shape)
        dist.all_gather_single(every.flatten(0, 1), pair, group=self.group)
        width = transition.shape[-1]
        return starting_states([(p[..., :width], p[..., width:]) for p in every], reverse)[self.rank]


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
