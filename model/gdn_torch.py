"""Frame-wise gated delta attention and its gradient in plain torch: batched products, a scan over frames.

Nothing but the inputs is kept for the gradient, which computes the D x D states again. Matrices over frames
are laid out (T, B*h, rows, columns); tokens are copied out of (B, T, S, h, D) a few frames at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

EPS = 1e-8
_ELEMENTS = 1 << 18  # of one token tensor copied at a time


class Link(Protocol):
    """Where states come from when other processes hold the frames before and after these."""

    def carry(self, transition: Tensor, local: Tensor, reverse: bool) -> Tensor:
        """State that enters these frames, if one that enters as x leaves as `transition @ x + local`.

        transition: (B*h, D, D)    local: (B*h, D, Dv)    reverse: it comes from later frames.
        """
        ...


class Stream(NamedTuple):
    """One memory: queries, keys and values, (B, T, S, h, D), and its forward state before frame 0."""

    q: Tensor
    k: Tensor
    v: Tensor | None  # None: every value is the number one, Dv = 1
    start: Tensor | None  # (B, h, D, Dv)


class Gates(NamedTuple):
    """How strongly tokens write, how much of a state each frame keeps, and where chunks begin."""

    beta: Tensor  # (B, T, S, h)
    decay: Tensor  # (B, T, h)
    chunk_starts: Collection[int]
    link: Link | None = None


class Frames(NamedTuple):
    """What each frame does to a state x that passes it: decay * (keep @ x), and then it writes."""

    keep: Tensor  # (T, B*h, D, D), symmetric: I - K^T L K with L = diag(beta)
    decay: Tensor  # (T, B*h, 1, 1)
    through: Tensor | None  # (B*h, D, D): all frames as one transition, where a link needs it


class States(NamedTuple):
    """What a stream remembers at each frame, all (T, B*h, D, Dv) but the end."""

    earlier: Tensor  # forward state before frame t
    later: Tensor  # reverse state: frames after t to the end of its chunk
    end: Tensor  # (B*h, D, Dv): forward state after the last frame

    def read(self) -> Tensor:
        """What the queries of frame t see: itself and earlier frames, and later ones."""
        return self.later + torch.cat([self.earlier[1:], self.end[None]])


def attend(main: Stream, plain: Stream | None, gates: Gates) -> tuple[Tensor, Tensor, Tensor | None]:
    """Numerator over denominator, (B, T, S, h, D), and the last forward states (B, h, D, Dv) of both streams.

    plain: queries and keys before rotation with values of one; without it, the numerator alone.
    """
    states = remember(main, gates)[1]
    seen, ends = states.read(), [unfold_heads(states.end, gates)]
    if plain is not None:
        states = remember(plain, gates)[1]
        seen_plain = states.read()
        ends.append(unfold_heads(states.end, gates))
    del states
    out = torch.empty_like(main.q if main.v is None else main.v)
    for group in frame_groups(out):
        answer = query(tokens(main.q, group), seen[group].flatten(0, 1))
        if plain is not None:
            answer /= query(tokens(plain.q, group), seen_plain[group].flatten(0, 1)).add_(EPS)
        put_tokens(out, group, answer)
    return out, ends[0], None if plain is None else ends[1]


def attend_backward(
    main: Stream, plain: Stream | None, gates: Gates, grad_out: Tensor,
    grad_end: Tensor | None, grad_end_plain: Tensor | None,
) -> tuple[Stream, Stream | None, Gates]:
    """Gradients of `attend`, each in the place of what it belongs to."""
    frames, states = remember(main, gates)
    seen = states.read()
    grad_seen, grad_q = torch.empty_like(seen), torch.empty_like(main.q)
    if plain is not None:
        frames_plain, states_plain = remember(plain, gates)
        seen_plain = states_plain.read()
        grad_seen_plain, grad_q_plain = torch.empty_like(seen_plain), torch.empty_like(plain.q)
    for group in frame_groups(grad_out):
        q, grad = tokens(main.q, group), tokens(grad_out, group)
        if plain is not None:
            q_plain, divisor = tokens(plain.q, group), seen_plain[group].flatten(0, 1)
            den = query(q_plain, divisor).add_(EPS)
            grad = grad / den
        answer = grad @ seen[group].flatten(0, 1).mT
        torch.bmm(q.mT, grad, out=grad_seen[group].flatten(0, 1))
        put_tokens(grad_q, group, answer)
        if plain is not None:
            # out = num / den gives d den = -(d num . num) / den, and d num . num = q . d q.
            grad_den = -answer.mul_(q).sum(-1, keepdim=True) / den
            torch.bmm(q_plain.mT, grad_den, out=grad_seen_plain[group].flatten(0, 1))
            put_tokens(grad_q_plain, group, grad_den @ divisor.mT)
    del seen
    grad_main, grad_gates = forget(main, gates, frames, states, grad_seen, grad_end)
    grad_main = grad_main._replace(q=grad_q)
    if plain is None:
        return grad_main, None, grad_gates
    del frames, states, grad_seen
    grad_plain, more = forget(plain, gates, frames_plain, states_plain, grad_seen_plain, grad_end_plain)
    grad_gates = grad_gates._replace(beta=grad_gates.beta + more.beta, decay=grad_gates.decay + more.decay)
    return grad_main, grad_plain._replace(q=grad_q_plain), grad_gates


def remember(stream: Stream, gates: Gates) -> tuple[Frames, States]:
    """Sum over the tokens of each frame, then pass the states through the frames from both sides."""
    frames, write = sum_tokens(stream, gates)
    start = torch.zeros_like(write[0])
    if stream.start is not None:
        start += stream.start.flatten(0, 1)
    later, _ = sweep(frames, write, torch.zeros_like(start), gates, reverse=True, reset=True)
    earlier, end = sweep(frames, write, start, gates)
    return frames, States(earlier, later, end)


def sum_tokens(stream: Stream, gates: Gates) -> tuple[Frames, Tensor]:
    """What each frame keeps of a state and what it writes, K^T L V: (T, B*h, D, Dv)."""
    batch, number, _, heads, width = stream.k.shape
    dtype = state_dtype(stream.k)
    keep = torch.empty(number, batch * heads, width, width, dtype=dtype, device=stream.k.device)
    write = keep.new_empty(number, batch * heads, width, 1 if stream.v is None else stream.v.shape[-1])
    one = torch.eye(width, dtype=dtype, device=keep.device)
    for group in frame_groups(stream.k):
        k, v, beta = read_tokens(stream, gates, group)
        weighted = (k * beta).mT
        torch.baddbmm(one, weighted, k, alpha=-1, out=keep[group].flatten(0, 1))
        torch.bmm(weighted, v, out=write[group].flatten(0, 1))
    decay = gates.decay.transpose(0, 1).flatten(1)[..., None, None].to(dtype)
    through = None
    if gates.link is not None:
        through = one.expand_as(keep[0])
        for t in range(number):
            through = keep[t] @ (decay[t] * through)
    return Frames(keep, decay, through), write


def sweep(
    frames: Frames, write: Tensor, start: Tensor, gates: Gates, *,
    reverse: bool = False, reset: bool = False, write_first: bool = False,
) -> tuple[Tensor, Tensor]:
    """Pass a state through the frames in turn: the states that enter each frame, and the one that leaves.

    A frame makes decay (keep @ x) + write of x, or decay (keep @ (x + write)) if it is to write first.
    reset: nothing passes from a chunk to the next. The result is the same whoever holds the other frames.
    """
    def run(state: Tensor) -> tuple[Tensor, Tensor]:
        entering, zero = torch.empty_like(write), torch.zeros_like(start)
        for t in reversed(range(len(write))) if reverse else range(len(write)):
            begins = reset and t in gates.chunk_starts
            if begins and not reverse:
                state = zero
            entering[t] = state
            if write_first:
                state = keep[t] @ (decay[t] * (state + write[t]))
            else:
                state = torch.baddbmm(write[t], keep[t], decay[t] * state)
            if begins and reverse:
                state = zero
        return entering, state

    keep, decay, through = frames
    entering, leaving = run(start)
    if gates.link is None or through is None:
        return entering, leaving
    # keep is symmetric, so the frames in descending order are the transpose of those in ascending order.
    through = through.mT if reverse else through
    if reset and any(0 <= t < len(write) for t in gates.chunk_starts):
        through = torch.zeros_like(through)
    return run(start + gates.link.carry(through, leaving, reverse))


def forget(
    stream: Stream, gates: Gates, frames: Frames, states: States, grad_seen: Tensor, grad_end: Tensor | None
) -> tuple[Stream, Gates]:
    """Gradients of what `remember` was given, except the queries', from those of the states that were read.

    The gradient of a scan is a scan the other way with the same transitions.
    """
    start = torch.zeros_like(grad_seen[0])
    if grad_end is not None:
        start += grad_end.flatten(0, 1)
    grad_later, _ = sweep(frames, grad_seen, torch.zeros_like(start), gates, reset=True)
    grad_leaving, grad_start = sweep(frames, grad_seen, start, gates, reverse=True, write_first=True)
    grad_leaving += grad_seen
    grad_pass = (grad_leaving @ states.earlier.mT).add_(grad_later @ states.later.mT)
    grad_write = grad_leaving.add_(grad_later)
    grad_decay = (grad_pass * frames.keep).sum((-2, -1))
    grad_pass *= -frames.decay
    both_sides = grad_pass + grad_pass.mT

    grad_k = torch.empty_like(stream.k)
    grad_v = None if stream.v is None else torch.empty_like(stream.v)
    grad_beta = torch.empty_like(gates.beta, dtype=grad_seen.dtype)[..., None]
    for group in frame_groups(stream.k):
        k, v, beta = read_tokens(stream, gates, group)
        into_write = grad_write[group].flatten(0, 1)
        erased, written = k @ both_sides[group].flatten(0, 1), k @ into_write
        by_beta = (erased * k).sum(-1, keepdim=True).mul_(0.5).add_((written * v).sum(-1, keepdim=True))
        put_tokens(grad_beta, group, by_beta)
        put_tokens(grad_k, group, erased.baddbmm_(v, into_write.mT).mul_(beta))
        if grad_v is not None:
            put_tokens(grad_v, group, written.mul_(beta))
    batch, number, heads = gates.decay.shape
    grad_decay = grad_decay.view(number, batch, heads).transpose(0, 1).contiguous()
    return (Stream(stream.q, grad_k, grad_v, unfold_heads(grad_start, gates)),
            gates._replace(beta=grad_beta[..., 0], decay=grad_decay))


def query(q: Tensor, state: Tensor) -> Tensor:
    """q @ state: (n, S, D), (n, D, Dv) -> (n, S, Dv). A single column is summed in pairs, which rounds less."""
    return (q * state.mT).sum(-1, keepdim=True) if state.shape[-1] == 1 else q @ state


def state_dtype(x: Tensor) -> torch.dtype:
    """States and sums are float32 whatever the tokens are; float64 for those of float64."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def read_tokens(stream: Stream, gates: Gates, group: slice) -> tuple[Tensor, Tensor, Tensor]:
    """Keys (n, S, D), values (n, S, Dv) and beta (n, S, 1) of the n frames and heads of a group."""
    k = tokens(stream.k, group)
    v = k.new_ones(1).expand(*k.shape[:2], 1) if stream.v is None else tokens(stream.v, group)
    return k, v, tokens(gates.beta[..., None], group).to(k.dtype)


def tokens(x: Tensor, group: slice) -> Tensor:
    """(B, T, S, h, D) -> (frames of the group * B * h, S, D), in float32 or float64."""
    return x[:, group].permute(1, 0, 3, 2, 4).to(state_dtype(x)).flatten(0, 2)


def put_tokens(out: Tensor, group: slice, x: Tensor) -> None:
    """The opposite of `tokens`, into `out`."""
    target = out[:, group].permute(1, 0, 3, 2, 4)
    target.copy_(x.view(target.shape))


def frame_groups(x: Tensor) -> Iterator[slice]:
    """Consecutive frames, as many at a time as keep a copy small."""
    size = max(1, _ELEMENTS * x.shape[1] // max(1, x.numel()))
    return (slice(first, first + size) for first in range(0, x.shape[1], size))


def unfold_heads(state: Tensor, gates: Gates) -> Tensor:
    """(B*h, D, Dv) -> (B, h, D, Dv)."""
    return state.unflatten(0, (gates.decay.shape[0], gates.decay.shape[2]))
