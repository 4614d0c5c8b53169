"""From projections to what the frame scan takes: norm, ReLU, key scale, encoding of position; and back out.

This is the definition that the Triton kernels, which do it on loading, answer to.
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from model.camera import Rays, squared_norm
from model.gdn_scan import Tokens
from model.layers import rms_norm
from model.rope import Rotary

_MIN_KEY = 1e-12


class RawTokens(NamedTuple):
    """Projections q, k (after its convolution) and v, (B, T, S, h, D), and how they are prepared.

    weights (d,): of the RMS norms, over all heads of a token, of q and k.
    encoding: rotary for the main branch, which has plain queries and keys too; rays for the camera branch.
    """

    q: Tensor
    k: Tensor
    v: Tensor
    beta: Tensor  # (B, T, S, h)
    q_weight: Tensor
    k_weight: Tensor
    encoding: Rotary | Rays
    key_scale: float
    eps: float


def prepare(x: RawTokens) -> Tokens:
    """Tokens as the scan takes them."""
    q_plain = F.relu(_norm(x.q, x.q_weight, x.eps))
    k_plain = F.relu(_norm(x.k, x.k_weight * x.key_scale, x.eps))
    q, k, v = x.encoding.queries(q_plain), x.encoding.keys(k_plain), x.encoding.values(x.v)
    if isinstance(x.encoding, Rays):
        return Tokens(q, k, v, x.beta / key_growth(k_plain, k))
    return Tokens(q, k, v, x.beta, q_plain, k_plain)


def key_growth(before: Tensor, after: Tensor) -> Tensor:
    """How much the ray transform lengthened the keys (B, T, S, h, D) of a frame, at least 1: (B, T, 1, h).

    Writing is damped by it, which keeps the scan contractive when the transform holds a translation.
    """
    had, has = (squared_norm(x).clamp(min=_MIN_KEY) for x in (before, after))
    return (has / had).mean(2, keepdim=True).clamp(min=1.0)


def _norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMS norm over all heads of a token."""
    return rms_norm(x.flatten(-2), weight, eps).view(x.shape)
