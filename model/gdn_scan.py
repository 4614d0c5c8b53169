"""Frame-wise gated delta attention and its gradient, out of five steps that plain torch and Triton each have:
sums over tokens, the scan over frames, the read-out, and the gradients of the first and the last.

Nothing but the inputs is kept for the gradient, which computes the D x D states again. Matrices over frames
are (T, B*h, rows, columns).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import zip_longest
from types import ModuleType
from typing import Any, NamedTuple, Protocol

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
    """What a memory holds at each frame."""

    entering: Tensor  # (2, T, B*h, D, Dv): from the frames before t; from those after it to the chunk's end
    end: Tensor  # (B*h, D, Dv): forward state after the last frame

    def seen(self) -> Tensor:
        """What the queries of frame t read, (T, B*h, D, Dv): itself and earlier frames, and later ones."""
        earlier, later = self.entering
        seen = later.clone()
        seen[:-1] += earlier[1:]
        seen[-1] += self.end
        return seen


def attend(
    x: Any, time: Time, starts: Sequence[Tensor], steps: ModuleType
) -> tuple[Tensor, list[Tensor]]:
    """Output (B, T, S, h, D) and the last forward state (B*h, D, Dv) of each memory.

    starts: the forward states before frame 0, or nothing for zero.
    """
    x, seen, ends = steps.open_tokens(x), [], []
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
    x: Any, time: Time, starts: Sequence[Tensor], steps: ModuleType, grad_out: Tensor,
    grad_ends: Sequence[Tensor],
) -> Gradients:
    """Gradients of `attend`."""
    x, memories = steps.open_tokens(x), []
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
    """Pass a state through the frames from each side."""
    starts = write.new_zeros(2, *write.shape[1:])
    if start is not None:
        starts[0] = start
    entering, leaving = sweep(frames, write, starts, time, steps)
    return States(entering, leaving[0])


def forget(
    frames: Frames, states: States, grad_seen: Tensor, grad_end: Tensor, time: Time, steps: ModuleType
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of `remember` by K^T L K (plus its transpose), the writes, decay (T, B*h) and the start.

    The gradient of a scan is a scan the other way with the same transitions.
    """
    starts = torch.stack([torch.zeros_like(grad_end), grad_end]).to(grad_seen.dtype)
    (from_reverse, from_forward), leaving = sweep(frames, grad_seen, starts, time, steps, adjoint=True)
    from_forward += grad_seen
    earlier, later = states.entering
    grad_pass = (from_forward @ earlier.mT).add_(from_reverse @ later.mT)
    grad_decay = (grad_pass * frames.keep).sum((-2, -1))
    grad_pass *= -frames.decay
    return grad_pass + grad_pass.mT, from_forward.add_(from_reverse), grad_decay, leaving[1]


def sweep(
    frames: Frames, write: Tensor, starts: Tensor, time: Time, steps: ModuleType, *, adjoint: bool = False
) -> tuple[Tensor, Tensor]:
    """States that enter each frame (2, T, B*h, D, Dv), forwards and in reverse, and those that leave last.

    starts (2, B*h, D, Dv) enter first. A frame makes decay (keep @ x) + write of x. Reverse states stop at
    chunks. Going back over such a scan (adjoint), forward states do, and for reverse ones a frame writes
    first: decay (keep @ (x + write)). The result is the same whoever holds the other frames.
    """
    resets = [t for t in time.chunk_starts if 0 <= t < len(write)]
    entering, leaving = steps.pass_through(frames.keep, frames.decay, write, starts, resets, adjoint)
    if time.link is None or frames.through is None:
        return entering, leaving
    # keep is symmetric, so the frames in descending order are the transpose of those in ascending order.
    through = torch.stack([frames.through, frames.through.mT])
    if resets:
        through[0 if adjoint else 1] = 0
    more = [time.link.carry(through[way], leaving[way], bool(way)) for way in (0, 1)]
    return steps.pass_through(frames.keep, frames.decay, write, starts + torch.stack(more), resets, adjoint)
