"""Frame-wise gated delta attention and its gradient, out of five steps that plain torch and Triton each have:
sums over tokens, the scan over frames, the read-out, and the gradients of the first and the last.

Nothing but the inputs is kept for the gradient, which computes the D x D states again. Matrices over frames
are (T, B*h, rows, columns).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import zip_longest
from types import ModuleType
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

EPS = 1e-8


class Tokens(NamedTuple):
    """Queries, keys, values (B, T, S, h, D) and writing strengths (B, T, S, h) of all tokens.

    The plain queries and keys, before rotation, address a second memory, whose values are one: its read-out
    divides that of the first. None leaves the first as it is.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    beta: Tensor
    q_plain: Tensor | None = None
    k_plain: Tensor | None = None


class Link(Protocol):
    """Where states come from when other processes hold the frames before and after these."""

    def carry(self, transition: Tensor, local: Tensor, reverse: bool) -> Tensor:
        """State that enters these frames, if one that enters as x leaves as `transition @ x + local`.

        transition: (B*h, D, D)    local: (B*h, D, Dv)    reverse: it comes from later frames.
        """
        ...


class Time(NamedTuple):
    """How much of a state each frame keeps, at which frames chunks begin, and who holds other frames."""

    decay: Tensor  # (B, T, h)
    chunk_starts: Collection[int]
    link: Link | None = None


class Frames(NamedTuple):
    """What the frames do to a state x of one memory: they make decay * (keep @ x) + write of it, in turn."""

    keep: Tensor  # (T, B*h, D, D), symmetric: I - K^T L K with L = diag(beta)
    decay: Tensor  # (T, B*h, 1, 1)
    through: Tensor | None  # (B*h, D, D): all frames as one transition, where a link needs it


class States(NamedTuple):
    """What a memory holds at each frame, (T, B*h, D, Dv)."""

    earlier: Tensor  # forward state before frame t
    later: Tensor  # reverse state of the frames after t, to the end of its chunk
    end: Tensor  # (B*h, D, Dv): forward state after the last frame

    def seen(self) -> Tensor:
        """What the queries of frame t read: itself and earlier frames, and later ones."""
        seen = self.later.clone()
        seen[:-1] += self.earlier[1:]
        seen[-1] += self.end
        return seen


def attend(
    x: Tokens, time: Time, starts: Sequence[Tensor], steps: ModuleType
) -> tuple[Tensor, list[Tensor]]:
    """Output (B, T, S, h, D) and the last forward state (B*h, D, Dv) of each memory.

    starts: the forward states before frame 0, or nothing for zero.
    """
    seen, ends = [], []
    for (keep, write), start in zip_longest(steps.sum_tokens(x), starts):
        states = remember(make_frames(keep, time), write, start, time, steps)
        seen.append(states.seen())
        ends.append(states.end)
    return steps.read_out(x, seen), ends


class Gradients(NamedTuple):
    """Each in the place of what it belongs to."""

    tokens: Tokens
    decay: Tensor
    starts: list[Tensor]


def attend_backward(
    x: Tokens, time: Time, starts: Sequence[Tensor], steps: ModuleType, grad_out: Tensor,
    grad_ends: Sequence[Tensor],
) -> Gradients:
    """Gradients of `attend`."""
    memories = []
    for (keep, write), start in zip_longest(steps.sum_tokens(x), starts):
        frames = make_frames(keep, time)
        memories.append((frames, remember(frames, write, start, time, steps)))
    grad_q, grad_q_plain, grads_seen = steps.read_out_backward(
        x, [states.seen() for _, states in memories], grad_out)
    grads_sum, grads_decay, grad_starts = [], [], []
    for grad_end in grad_ends:
        by_erase, by_write, by_decay, by_start = forget(
            *memories.pop(0), grads_seen.pop(0), grad_end, time, steps)
        grads_sum.append((by_erase, by_write))
        grads_decay.append(by_decay)
        grad_starts.append(by_start)
    grad_k, grad_v, grad_beta, grad_k_plain = steps.sum_tokens_backward(x, grads_sum)
    batch, number, heads = time.decay.shape
    grad_decay = sum(grads_decay[1:], grads_decay[0]).view(number, batch, heads).transpose(0, 1)
    return Gradients(Tokens(grad_q, grad_k, grad_v, grad_beta, grad_q_plain, grad_k_plain),
                     grad_decay.to(time.decay.dtype).contiguous(), grad_starts)


def make_frames(keep: Tensor, time: Time) -> Frames:
    decay = time.decay.transpose(0, 1).flatten(1)[..., None, None].to(keep.dtype)
    through = None
    if time.link is not None:
        through = torch.eye(keep.shape[-1], dtype=keep.dtype, device=keep.device).expand_as(keep[0])
        for t in range(len(keep)):
            through = keep[t] @ (decay[t] * through)
    return Frames(keep, decay, through)


def remember(frames: Frames, write: Tensor, start: Tensor | None, time: Time, steps: ModuleType) -> States:
    """Pass the states through the frames from both sides."""
    nothing = torch.zeros_like(write[0])
    start = nothing if start is None else start.to(write.dtype)
    later, _ = sweep(frames, write, nothing, time, steps, reverse=True, reset=True)
    earlier, end = sweep(frames, write, start, time, steps)
    return States(earlier, later, end)


def forget(
    frames: Frames, states: States, grad_seen: Tensor, grad_end: Tensor, time: Time, steps: ModuleType
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of `remember` by K^T L K (plus its transpose), the writes, decay (T, B*h) and the start.

    The gradient of a scan is a scan the other way with the same transitions.
    """
    from_earlier, _ = sweep(frames, grad_seen, torch.zeros_like(grad_end), time, steps, reset=True)
    from_later, grad_start = sweep(frames, grad_seen, grad_end.to(grad_seen.dtype), time, steps, reverse=True,
                                   write_first=True)
    from_later += grad_seen
    grad_pass = (from_later @ states.earlier.mT).add_(from_earlier @ states.later.mT)
    grad_decay = (grad_pass * frames.keep).sum((-2, -1))
    grad_pass *= -frames.decay
    return grad_pass + grad_pass.mT, from_later.add_(from_earlier), grad_decay, grad_start


def sweep(
    frames: Frames, write: Tensor, start: Tensor, time: Time, steps: ModuleType, *,
    reverse: bool = False, reset: bool = False, write_first: bool = False,
) -> tuple[Tensor, Tensor]:
    """The states that enter each frame when one passes through them all, and the one that leaves in the end.

    A frame makes decay (keep @ x) + write of x, or decay (keep @ (x + write)) if it is to write first.
    reset: nothing passes from one chunk to another. The result is the same whoever holds the other frames.
    """
    resets = [t for t in time.chunk_starts if 0 <= t < len(write)] if reset else []
    options = {"resets": resets, "reverse": reverse, "write_first": write_first}
    entering, leaving = steps.pass_through(frames.keep, frames.decay, write, start, **options)
    if time.link is None or frames.through is None:
        return entering, leaving
    # keep is symmetric, so the frames in descending order are the transpose of those in ascending order.
    through = frames.through.mT if reverse else frames.through
    through = torch.zeros_like(through) if resets else through
    start = start + time.link.carry(through, leaving, reverse)
    return steps.pass_through(frames.keep, frames.decay, write, start, **options)
