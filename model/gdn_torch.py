"""The steps of frame-wise gated delta attention in plain torch: the definition of each.

Sums and states are float32, or float64 for float64 tokens. Tokens are copied out of (B, T, S, h, D) into
products over a few frames at a time, (frames * B * h, S, D), so temporary memory does not grow with T.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from model.gdn_scan import EPS, Tokens

_ELEMENTS = 1 << 18  # of one token tensor copied at a time


def open_tokens(x: Tokens) -> Tokens:
    """Tokens as the steps take them."""
    return x


def sum_tokens(x: Tokens) -> list[tuple[Tensor, Tensor]]:
    """For each memory what a frame keeps, I - K^T L K (T, B*h, D, D), and writes, K^T L V (T, B*h, D, Dv)."""
    batch, number, _, heads, width = x.k.shape
    one = torch.eye(width, dtype=state_dtype(x.k), device=x.k.device)
    sums = []
    for values in [x.v.shape[-1]] + [1] * (x.k_plain is not None):
        sums.append((one.new_empty(number, batch * heads, width, width),
                     one.new_empty(number, batch * heads, width, values)))
    for group in frame_groups(x.k):
        for (keep, write), (k, v, beta) in zip(sums, writers(x, group)):
            weighted = (k * beta).mT
            torch.baddbmm(one, weighted, k, alpha=-1, out=keep[group].flatten(0, 1))
            torch.bmm(weighted, v, out=write[group].flatten(0, 1))
    return sums


def sum_tokens_backward(
    x: Tokens, grads: Sequence[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Gradients by k, v, beta and plain k, from those by K^T L K, plus its transpose, and by K^T L V."""
    grad_v, grad_beta = x.v.new_empty(x.v.shape), x.beta.new_empty(x.beta.shape)
    grad_keys = [k.new_empty(k.shape) for k in (x.k, x.k_plain) if k is not None]
    for group in frame_groups(x.k):
        by_beta = []
        for (grad_erase, grad_write), (k, v, beta), grad_k in zip(grads, writers(x, group), grad_keys):
            into_write = grad_write[group].flatten(0, 1)
            erased, written = k @ grad_erase[group].flatten(0, 1), k @ into_write
            by_beta.append((erased * k).sum(-1).mul_(0.5).add_((written * v).sum(-1)))
            put_tokens(grad_k, group, erased.baddbmm_(v, into_write.mT).mul_(beta))
            if grad_k is grad_keys[0]:
                put_tokens(grad_v, group, written.mul_(beta))
        put_tokens(grad_beta[..., None], group, sum(by_beta[1:], by_beta[0]))
    return grad_keys[0], grad_v, grad_beta, grad_keys[1] if len(grad_keys) > 1 else None


def pass_through(
    keep: Tensor, decay: Tensor, write: Tensor, starts: Tensor, resets: Sequence[int], adjoint: bool
) -> tuple[Tensor, Tensor]:
    """`gdn_scan.sweep` over the frames at hand."""
    entering, leaving = write.new_empty(2, *write.shape), torch.empty_like(starts)
    entering[0, 0], entering[1, -1] = starts
    passes, writes = (decay * keep).unbind(), write.unbind()
    forward, reverse = [*entering[0].unbind(), leaving[0]], [leaving[1], *entering[1].unbind()]
    for t in range(len(writes)):
        if adjoint and t in resets:
            forward[t].zero_()
        torch.baddbmm(writes[t], passes[t], forward[t], out=forward[t + 1])
    for t in reversed(range(len(writes))):
        if adjoint:
            torch.bmm(passes[t], reverse[t + 1] + writes[t], out=reverse[t])
        elif t in resets:
            reverse[t].zero_()
        else:
            torch.baddbmm(writes[t], passes[t], reverse[t + 1], out=reverse[t])
    return entering, leaving


def read_out(x: Tokens, seen: Sequence[Tensor]) -> Tensor:
    """The queries' sum over the first memory, over that of the second if there is one."""
    out = x.v.new_empty(x.v.shape)
    for group in frame_groups(x.q):
        answer = query(tokens(x.q, group), seen[0][group])
        if x.q_plain is not None:
            answer /= query(tokens(x.q_plain, group), seen[1][group]).add_(EPS)
        put_tokens(out, group, answer)
    return out


def read_out_backward(
    x: Tokens, seen: Sequence[Tensor], grad_out: Tensor
) -> tuple[Tensor, Tensor | None, list[Tensor]]:
    """Gradients by q, plain q and what was seen."""
    grad_q, grads_seen = x.q.new_empty(x.q.shape), [torch.empty_like(states) for states in seen]
    grad_q_plain = None if x.q_plain is None else x.q.new_empty(x.q.shape)
    for group in frame_groups(x.q):
        q, grad = tokens(x.q, group), tokens(grad_out, group)
        if x.q_plain is not None:
            q_plain, divisor = tokens(x.q_plain, group), seen[1][group]
            den = query(q_plain, divisor).add_(EPS)
            grad = grad / den
        by_q = grad @ seen[0][group].flatten(0, 1).mT
        put_tokens(grad_q, group, by_q)
        torch.bmm(q.mT, grad, out=grads_seen[0][group].flatten(0, 1))
        if grad_q_plain is not None:
            # out = num / den gives d den = -(d num . num) / den, and d num . num = q . d q.
            grad_den = -by_q.mul_(q).sum(-1, keepdim=True) / den
            torch.bmm(q_plain.mT, grad_den, out=grads_seen[1][group].flatten(0, 1))
            put_tokens(grad_q_plain, group, grad_den @ divisor.flatten(0, 1).mT)
    return grad_q, grad_q_plain, grads_seen


def query(q: Tensor, states: Tensor) -> Tensor:
    """(n, S, D) @ (frames, B*h, D, Dv) -> (n, S, Dv). One column is summed in pairs, which rounds less."""
    states = states.flatten(0, 1)
    return (q * states.mT).sum(-1, keepdim=True) if states.shape[-1] == 1 else q @ states


def writers(x: Tokens, group: slice) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Keys (n, S, D), values (n, S, Dv) and beta (n, S, 1) that each memory takes from a group of frames."""
    beta = tokens(x.beta[..., None], group).to(state_dtype(x.k))
    yield tokens(x.k, group), tokens(x.v, group), beta
    if x.k_plain is not None:
        yield tokens(x.k_plain, group), torch.ones_like(beta), beta


def state_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def tokens(x: Tensor, group: slice) -> Tensor:
    """(B, T, S, h, D) -> (n, S, D), n = frames of the group * B * h."""
    return x[:, group].permute(1, 0, 3, 2, 4).to(state_dtype(x)).flatten(0, 2)


def put_tokens(out: Tensor, group: slice, x: Tensor) -> None:
    """The opposite of `tokens`, into `out`."""
    target = out[:, group].permute(1, 0, 3, 2, 4)
    target.copy_(x.view(target.shape))


def frame_groups(x: Tensor) -> Iterator[slice]:
    """Consecutive frames, as many at a time as keep a copy small."""
    size = max(1, _ELEMENTS * x.shape[1] // max(1, x.numel()))
    return (slice(first, first + size) for first in range(0, x.shape[1], size))
