"""Frame-wise gated delta attention (paper, Eq. 3, with the released normaliser), one operator for all uses.

For each head and frame, with the frame's keys, values as rows of K, V and L = diag(beta), D x D states follow
    M_t = decay_t (I - K_t^T L_t K_t) M_{t-1} + K_t^T L_t V_t
forwards including frame t, and backwards from the end of its chunk excluding it; queries read their sum.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from model import gdn_scan, gdn_torch
from model.gdn_scan import Link, Time, Tokens

log = logging.getLogger(__name__)


@dataclass
class GDNState:
    """What the forward scan carries past a frame: all history in one matrix per head, in float32."""

    matrix: Tensor  # (B, h, D_key, D_value)
    normaliser: Tensor | None  # (B, h, D_key); None for a numerator alone


def frame_gdn(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, decay: Tensor, *,
    q_plain: Tensor | None = None, k_plain: Tensor | None = None,
    chunk_starts: Sequence[int] = (0,), state: GDNState | None = None, kernel: str = "auto",
    link: Link | None = None,
) -> tuple[Tensor, GDNState]:
    """Attend over all frames of a chunk and of the chunks before it.

    q, k, v: (B, T, S, h, D), q and k rotated    beta: (B, T, S, h)    decay: (B, T, h)
    q_plain, k_plain: the same before rotation; a second memory of them, whose values are one, gives the
    denominator. Without them the result is the numerator.
    chunk_starts: first frames of the chunks; (0,) sees everything.    state: forward state before frame 0.
    link: where states come from and go to if these are not all frames; the state returned is then local.
    Returns num / (den + 1e-8), shaped like v, and the forward state after the last frame.
    """
    matrix, normaliser = (None, None) if state is None else (state.matrix, state.normaliser)
    _check_shapes(k, v.shape[-1], q=q, v=v, beta=beta, decay=decay, q_plain=q_plain, k_plain=k_plain,
                  matrix=matrix, normaliser=normaliser)
    if (q_plain is None) != (k_plain is None):
        missing = "q_plain" if q_plain is None else "k_plain"
        raise ValueError(f"frame_gdn: {missing} is missing; give both for the normalised result or neither "
                         "for the numerator")
    if state is not None and (normaliser is None) != (k_plain is None):
        raise ValueError(f"frame_gdn: a state {'without' if normaliser is None else 'with'} normaliser does "
                         f"not go on {'without' if k_plain is None else 'with'} k_plain")
    tokens = [q, k, v, beta] if q_plain is None or k_plain is None else [q, k, v, beta, q_plain, k_plain]
    starts = [] if matrix is None else [matrix.flatten(0, 1)]
    if normaliser is not None:
        starts.append(normaliser.flatten(0, 1)[..., None])
    kernel = choose_kernel(kernel, q.device.type)
    if link is None:
        out, *ends = _attend(tokens, decay, starts, list(chunk_starts), kernel)
    else:
        out, *ends = _Linked.apply(link, chunk_starts, kernel, len(tokens), *tokens, decay, *starts)
    matrix, *divisor = (end.unflatten(0, decay[:, 0].shape) for end in ends)
    return out, GDNState(matrix, divisor[0][..., 0] if divisor else None)


def _check_shapes(k: Tensor, values: int, **given: Tensor | None) -> None:
    """Raises ValueError naming the first argument that does not go with k."""
    batch, frames, per_frame, heads, width = k.shape
    wanted = {
        "q": k.shape, "v": (batch, frames, per_frame, heads, values), "beta": k.shape[:4],
        "decay": (batch, frames, heads), "q_plain": k.shape, "k_plain": k.shape,
        "matrix": (batch, heads, width, values), "normaliser": (batch, heads, width),
    }
    for name, tensor in given.items():
        if tensor is not None and tuple(tensor.shape) != tuple(wanted[name]):
            raise ValueError(f"frame_gdn: {name} has shape {tuple(tensor.shape)}, expected "
                             f"{tuple(wanted[name])} beside k of shape {tuple(k.shape)} = (B, T, S, h, D)")


def choose_kernel(kernel: str, device_type: str) -> str:
    """ "auto" is the Triton kernels on a CUDA device where Triton is installed, else plain torch."""
    if kernel == "auto":
        return "triton" if device_type == "cuda" and _has_triton() else "torch"
    if kernel not in ("torch", "triton"):
        raise ValueError(f'frame_gdn: kernel is {kernel!r}; allowed are "auto", "torch" and "triton"')
    return kernel


@cache
def _has_triton() -> bool:
    found = importlib.util.find_spec("triton") is not None
    log.info("frame-wise GDN runs on %s", "its Triton kernels" if found else "torch; triton is not installed")
    return found


def steps_of(kernel: str) -> ModuleType:
    """The module whose functions do the steps of gdn_scan.py."""
    return importlib.import_module(f"model.gdn_{kernel}")


# One opaque operator for the compiler: it neither unrolls the scan nor breaks the graph at a kernel's launch.
@torch.library.custom_op("sana_wm::frame_gdn", mutates_args=())
def _attend(
    tokens: list[Tensor], decay: Tensor, starts: list[Tensor], chunk_starts: list[int], kernel: str
) -> list[Tensor]:
    """Output and last forward states; tokens: the fields of `Tokens`, the last two of them or not."""
    return _run(Time(decay, chunk_starts), kernel, tokens, starts)


@_attend.register_fake
def _attend_shapes(
    tokens: list[Tensor], decay: Tensor, starts: list[Tensor], chunk_starts: list[int], kernel: str
) -> list[Tensor]:
    _, k, v, *others = tokens
    end = k.new_empty(decay[:, 0].numel(), k.shape[-1], v.shape[-1], dtype=gdn_torch.state_dtype(k))
    return [torch.empty_like(v), end] + [end.new_empty(*end.shape[:2], 1)] * (len(others) > 1)


@torch.library.custom_op("sana_wm::frame_gdn_backward", mutates_args=())
def _attend_backward(
    tokens: list[Tensor], decay: Tensor, starts: list[Tensor], chunk_starts: list[int], kernel: str,
    grads: list[Tensor],
) -> list[Tensor]:
    """Gradients of tokens, decay and starts."""
    return _run_backward(Time(decay, chunk_starts), kernel, tokens, starts, grads)


@_attend_backward.register_fake
def _attend_backward_shapes(
    tokens: list[Tensor], decay: Tensor, starts: list[Tensor], chunk_starts: list[int], kernel: str,
    grads: list[Tensor],
) -> list[Tensor]:
    return [torch.empty_like(x) for x in (*tokens, decay, *starts)]


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    tokens, decay, starts, ctx.chunk_starts, ctx.kernel = inputs
    ctx.tokens = len(tokens)
    ctx.save_for_backward(*tokens, decay, *starts)


def _gradients(ctx: Any, grads: list[Tensor]) -> tuple[Any, ...]:
    tokens, decay, starts = _split(ctx.saved_tensors, ctx.tokens)
    found = _attend_backward(tokens, decay, starts, ctx.chunk_starts, ctx.kernel, grads)
    return *_split(found, ctx.tokens), None, None


_attend.register_autograd(_gradients, setup_context=_keep_inputs)


class _Linked(torch.autograd.Function):
    """The same where other processes hold other frames, with which it speaks in both passes."""

    @staticmethod
    def forward(
        ctx: Any, link: Link, chunk_starts: Sequence[int], kernel: str, number: int, *inputs: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.link, ctx.chunk_starts, ctx.kernel, ctx.tokens = link, chunk_starts, kernel, number
        ctx.save_for_backward(*inputs)
        tokens, decay, starts = _split(inputs, number)
        return tuple(_run(Time(decay, chunk_starts, link), kernel, tokens, starts))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        tokens, decay, starts = _split(ctx.saved_tensors, ctx.tokens)
        time = Time(decay, ctx.chunk_starts, ctx.link)
        return None, None, None, None, *_run_backward(time, ctx.kernel, tokens, starts, grads)


def _run(time: Time, kernel: str, tokens: list[Tensor], starts: Sequence[Tensor]) -> list[Tensor]:
    out, ends = gdn_scan.attend(Tokens(*tokens), time, starts, steps_of(kernel))
    return [out, *ends]


def _run_backward(
    time: Time, kernel: str, tokens: list[Tensor], starts: Sequence[Tensor], grads: Sequence[Tensor]
) -> list[Tensor]:
    found = gdn_scan.attend_backward(Tokens(*tokens), time, starts, steps_of(kernel), grads[0], grads[1:])
    return [*(x for x in found.tokens if x is not None), found.decay, *found.starts[: len(starts)]]


def _split(found: Sequence[Tensor], tokens: int) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    """Tokens, decay and starts of them all."""
    return list(found[:tokens]), found[tokens], list(found[tokens + 1 :])
