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

import torch
from torch import Tensor

from model.camera import Rays
from model.gdn_operator import attend
from model.gdn_prepare import RawTokens, prepare
from model.gdn_scan import Link, Tokens
from model.rope import Rotary

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
    x = Tokens(q, k, v, beta, q_plain, k_plain)
    _check_shapes(k, v.shape[-1], q=q, v=v, beta=beta, decay=decay, q_plain=q_plain, k_plain=k_plain)
    if (q_plain is None) != (k_plain is None):
        missing = "q_plain" if q_plain is None else "k_plain"
        raise ValueError(f"frame_gdn: {missing} is missing; give both for the normalised result or neither "
                         "for the numerator")
    return _attend(x, decay, chunk_starts, state, choose_kernel(kernel, k), link)


def prepare_and_scan(
    x: RawTokens, decay: Tensor, *, chunk_starts: Sequence[int] = (0,), state: GDNState | None = None,
    kernel: str = "auto", link: Link | None = None,
) -> tuple[Tensor, GDNState]:
    """One branch from its projections to its output: `prepare`, `frame_gdn`, the encoding's `output`.

    For the gradient the kernels keep the projections alone, plain torch what the scan takes besides.
    """
    _check_shapes(x.k, x.v.shape[-1], q=x.q, v=x.v, beta=x.beta, decay=decay)
    kernel = choose_kernel(kernel, x.k)
    clamped = isinstance(x.encoding, Rays) and x.encoding.clamp
    if kernel == "triton" and not clamped:
        return _attend(x, decay, chunk_starts, state, kernel, link)
    out, state = _attend(prepare(x), decay, chunk_starts, state, kernel, link)
    return x.encoding.output(out), state


def _attend(
    x: Tokens | RawTokens, decay: Tensor, chunk_starts: Sequence[int], state: GDNState | None, kernel: str,
    link: Link | None,
) -> tuple[Tensor, GDNState]:
    starts = []
    if state is not None:
        divides = isinstance(x.encoding, Rotary) if isinstance(x, RawTokens) else x.k_plain is not None
        if divides != (state.normaliser is not None):
            raise ValueError(f"frame_gdn: a state with{'out' * divides} normaliser does not go on with"
                             f"{'out' * (not divides)} plain keys")
        _check_shapes(x.k, x.v.shape[-1], matrix=state.matrix, normaliser=state.normaliser)
        starts.append(state.matrix.flatten(0, 1))
        if state.normaliser is not None:
            starts.append(state.normaliser.flatten(0, 1)[..., None])
    out, *ends = attend(x, decay, starts, chunk_starts, kernel, link)
    matrix, *normalisers = (end.unflatten(0, decay[:, 0].shape) for end in ends)
    return out, GDNState(matrix, normalisers[0][..., 0] if normalisers else None)


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


def choose_kernel(kernel: str, tokens: Tensor) -> str:
    """ "auto" is the Triton kernels for tokens on a CUDA device if Triton is installed, else plain torch."""
    if kernel == "auto":
        fits = tokens.is_cuda and tokens.dtype != torch.float64
        return "triton" if fits and _has_triton() else "torch"
    if kernel not in ("torch", "triton"):
        raise ValueError(f'frame_gdn: kernel is {kernel!r}; allowed are "auto", "torch" and "triton"')
    return kernel


@cache
def _has_triton() -> bool:
    found = importlib.util.find_spec("triton") is not None
    log.info("frame-wise GDN runs on %s", "its Triton kernels" if found else "torch; triton is not installed")
    return found
