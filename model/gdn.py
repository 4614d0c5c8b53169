"""Frame-wise gated delta attention (paper, Eq. 3, with the released normaliser), one operator for all uses.

For each head and frame, with the frame's keys, values as rows of K, V and L = diag(beta), D x D states follow
    M_t = decay_t (I - K_t^T L_t K_t) M_{t-1} + K_t^T L_t V_t
forwards including frame t, and backwards from the end of its chunk excluding it; queries read their sum.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from model import gdn_torch
from model.gdn_torch import Gates, Stream

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
) -> tuple[Tensor, GDNState]:
    """Attend over all frames of a chunk and of the chunks before it.

    q, k, v: (B, T, S, h, D), q and k rotated    beta: (B, T, S, h)    decay: (B, T, h)
    q_plain, k_plain: the same before rotation; a second memory of them, whose values are one, gives the
    denominator. Without them the result is the numerator.
    chunk_starts: first frames of the chunks; (0,) sees everything.    state: forward state before frame 0.
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
    out, matrix, normaliser = _attend(q, k, v, beta, decay, q_plain, k_plain, matrix, normaliser,
                                      list(chunk_starts), choose_kernel(kernel, q.device.type))
    return out, GDNState(matrix, None if k_plain is None else normaliser)


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


def _implementation(kernel: str) -> ModuleType:
    if kernel == "triton":
        from model import gdn_triton

        return gdn_triton
    return gdn_torch


# One opaque operator for the compiler: it neither unrolls the scan nor breaks the graph at a kernel's launch.
# An operator cannot return None: an empty tensor stands for a result that does not exist.
@torch.library.custom_op("sana_wm::frame_gdn", mutates_args=())
def _attend(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, decay: Tensor, q_plain: Tensor | None,
    k_plain: Tensor | None, matrix: Tensor | None, normaliser: Tensor | None, chunk_starts: list[int],
    kernel: str,
) -> tuple[Tensor, Tensor, Tensor]:
    streams = _streams(q, k, v, q_plain, k_plain, matrix, normaliser)
    out, end, end_plain = _implementation(kernel).attend(*streams, Gates(beta, decay, chunk_starts))
    return out, end, _or_empty(None if end_plain is None else end_plain[..., 0], end)


@_attend.register_fake
def _attend_shapes(
    q: Tensor, k: Tensor, v: Tensor, beta: Tensor, decay: Tensor, q_plain: Tensor | None, *others: Any
) -> tuple[Tensor, Tensor, Tensor]:
    batch, _, _, heads, width = k.shape
    end = k.new_empty(batch, heads, width, v.shape[-1], dtype=gdn_torch.state_dtype(k))
    return torch.empty_like(v), end, end.new_empty(0) if q_plain is None else end.new_empty(end.shape[:3])


@torch.library.custom_op("sana_wm::frame_gdn_backward", mutates_args=())
def _attend_backward(
    inputs: list[Tensor | None], chunk_starts: list[int], kernel: str, grads: list[Tensor]
) -> list[Tensor]:
    q, k, v, beta, decay, q_plain, k_plain, matrix, normaliser = inputs
    assert q is not None and k is not None and v is not None and beta is not None and decay is not None
    main, plain, gates = _implementation(kernel).attend_backward(
        *_streams(q, k, v, q_plain, k_plain, matrix, normaliser), Gates(beta, decay, chunk_starts),
        grads[0], grads[1], grads[2][..., None])
    start_plain = None if plain is None or plain.start is None else plain.start[..., 0]
    found = (main.q, main.k, main.v, gates.beta, gates.decay,
             *((None, None) if plain is None else (plain.q, plain.k)), main.start, start_plain)
    return [_or_empty(grad, q).to(q.dtype if x is None else x.dtype) for x, grad in zip(inputs, found)]


@_attend_backward.register_fake
def _attend_backward_shapes(
    inputs: list[Tensor | None], chunk_starts: list[int], kernel: str, grads: list[Tensor]
) -> list[Tensor]:
    return [grads[0].new_empty(0) if x is None else torch.empty_like(x) for x in inputs]


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs[:9])
    ctx.chunk_starts, ctx.kernel = inputs[9:]


def _gradients(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
    inputs = list(ctx.saved_tensors)
    found = _attend_backward(inputs, ctx.chunk_starts, ctx.kernel, list(grads))
    return *(None if x is None else grad for x, grad in zip(inputs, found)), None, None


_attend.register_autograd(_gradients, setup_context=_keep_inputs)


def _streams(
    q: Tensor, k: Tensor, v: Tensor, q_plain: Tensor | None, k_plain: Tensor | None,
    matrix: Tensor | None, normaliser: Tensor | None,
) -> tuple[Stream, Stream | None]:
    main = Stream(q, k, v, matrix)
    if q_plain is None or k_plain is None:
        return main, None
    return main, Stream(q_plain, k_plain, None, None if normaliser is None else normaliser[..., None])


def _or_empty(x: Tensor | None, like: Tensor) -> Tensor:
    return like.new_empty(0) if x is None else x
