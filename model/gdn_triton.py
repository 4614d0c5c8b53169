"""The steps of frame-wise gated delta attention as Triton kernels; gdn_torch.py is their definition.

They also take raw tokens, which are normalised and encoded where they are loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from model import gdn_triton_kernels as kernels
from model import gdn_triton_raw as raw_kernels
from model.camera import Rays
from model.gdn_prepare import RawTokens
from model.gdn_scan import Tokens
from model.gdn_triton_kernels import Encoding, Layout, Raw, Sizes, Sums

_TYPES = {torch.bfloat16: tl.bfloat16, torch.float16: tl.float16, torch.float32: tl.float32}
_COLUMNS = 32  # of a state that one program of the scan carries


class Launch:
    """One set of tokens as the kernels take them."""

    def __init__(self, x: Tokens | RawTokens) -> None:
        batch, frames, tokens, heads, width = x.k.shape
        if x.k.dtype not in _TYPES:
            raise ValueError(f'frame_gdn: kernel "triton" with tokens of {x.k.dtype}, expected one of '
                             f'{", ".join(str(t) for t in _TYPES)}; kernel "torch" takes all')
        self.x, self.beta = x, x.beta.contiguous()
        self.growth = torch.empty(batch, frames, heads, device=x.k.device)
        if isinstance(x, RawTokens):
            encoding = kernels.RAYS if isinstance(x.encoding, Rays) else kernels.ROTARY
            self.q = self.q_plain = raw_at(x.q, x.q_weight, x.eps, 1.0)
            self.k = self.k_plain = raw_at(x.k, x.k_weight, x.eps, x.key_scale)
            plain = encoding == kernels.ROTARY
        else:
            encoding, plain = kernels.READY, x.k_plain is not None
            self.q, self.k = tokens_at(x.q), tokens_at(x.k)
            self.q_plain = self.q if x.q_plain is None else tokens_at(x.q_plain)
            self.k_plain = self.k if x.k_plain is None else tokens_at(x.k_plain)
        self.v = tokens_at(x.v)
        self.sizes = Sizes(frames, tokens, heads, batch * heads)
        rows = 32 if encoding == kernels.RAYS else 64
        self.layout = Layout(
            D=width, DP=padded(width), DV=x.v.shape[-1], DVP=padded(x.v.shape[-1]), ROWS=rows,
            ENCODING=encoding.value, PLAIN=bool(plain), TYPE=_TYPES[x.k.dtype],
            INTERPRETED=bool(triton.knobs.runtime.interpret))
        self.by_frame = (heads, batch * frames)
        self.by_block = (triton.cdiv(tokens, rows), heads, batch * frames)
        # Raw tokens are gathered by many loads, whose buffers would not fit if they were fetched ahead.
        self.options = {"num_warps": warps(width), "num_stages": 1 if encoding != kernels.READY else 2}

    def code(self, of: str, back: bool = False) -> Encoding:
        """How queries "q", keys and values "k" or the output "out" are encoded, or the transpose of that."""
        if not isinstance(self.x, RawTokens):
            return Encoding(self.beta, self.beta, 1)
        encoding, direction = self.x.encoding, -1 if of == "out" else 1
        turn = torch.view_as_real(encoding.turn).to(torch.float32).contiguous()
        matrix = turn
        if isinstance(encoding, Rays):
            matrix = {"q": encoding.from_world.mT, "k": encoding.to_world, "out": encoding.from_world}[of]
            matrix = (matrix.mT if back else matrix).to(torch.float32).contiguous()
        return Encoding(matrix, turn, -direction if back else direction)

    def states(self, *shape: int) -> Tensor:
        """Room for matrices over frames, (T, B*h, ...)."""
        return torch.empty(self.sizes.T, self.sizes.BH, *shape, device=self.beta.device)


def open_tokens(x: Tokens | RawTokens) -> Launch:
    return Launch(x)


def sum_tokens(x: Launch) -> list[tuple[Tensor, Tensor]]:
    width = x.layout.D
    main = Sums(x.states(width, width), x.states(width, x.layout.DV))
    plain = Sums(x.states(width, width), x.states(width, 1)) if x.layout.PLAIN else main
    # Two sums at once leave registers for few tokens at a time whose channels each gather six.
    layout = replace(x.layout, ROWS=16) if x.layout.ROWS == 32 else x.layout
    kernels.sum_tokens_kernel[(1 + x.layout.PLAIN, *x.by_frame)](
        x.k, x.v, x.k_plain, x.beta, x.code("k"), x.sizes, main, plain, x.growth, L=layout, **x.options)
    return [main, plain] if x.layout.PLAIN else [main]


def pass_through(
    keep: Tensor, decay: Tensor, write: Tensor, starts: Tensor, resets: Sequence[int], adjoint: bool
) -> tuple[Tensor, Tensor]:
    frames, heads, width, values = write.shape
    entering, leaving = write.new_empty(2, *write.shape), torch.empty_like(starts)
    columns = min(_COLUMNS, padded(values))
    kernels.pass_through_kernel[(triton.cdiv(values, columns), heads, 2)](
        keep, decay.contiguous(), write.contiguous(), starts.contiguous(),
        first_frames(frames, tuple(resets), write.device), entering, leaving, Sizes(frames, 0, heads, heads),
        D=width, DP=padded(width), DV=values, BV=columns, ADJOINT=adjoint, num_warps=warps(width),
        num_stages=2)
    return entering, leaving


def read_out(x: Launch, seen: Sequence[Tensor]) -> Tensor:
    out = x.x.v.new_empty(x.x.v.shape)
    kernels.read_out_kernel[x.by_block](
        x.q, x.q_plain, x.code("q"), x.sizes, seen[0], seen[-1], out, L=x.layout, **x.options)
    return encode(x, out, "out")


def read_out_backward(
    x: Launch, seen: Sequence[Tensor], grad_out: Tensor
) -> tuple[Tensor, Tensor | None, list[Tensor]]:
    grad_out = encode(x, grad_out.contiguous(), "out", back=True)
    grads = [x.x.q.new_empty(x.x.q.shape) for _ in range(1 + x.layout.PLAIN)]
    divided = torch.empty(2, *x.x.beta.shape, device=x.beta.device) if x.layout.PLAIN else x.growth
    code, grads_seen = x.code("q"), [torch.empty_like(states) for states in seen]
    kernels.read_out_by_query_kernel[x.by_block](
        x.q, x.q_plain, code, x.sizes, seen[0], seen[-1], tokens_at(grad_out), grads[0], grads[-1],
        divided[0], divided[-1], L=x.layout, **x.options)
    kernels.read_out_by_state_kernel[x.by_frame](
        x.q, x.q_plain, code, x.sizes, tokens_at(grad_out), divided[0], divided[-1], grads_seen[0],
        grads_seen[-1], L=x.layout, **x.options)
    if isinstance(x.x, RawTokens):
        return *prepare_backward(x, x.q, "q", grads), grads_seen
    return grads[0], grads[1] if x.layout.PLAIN else None, grads_seen


def sum_tokens_backward(
    x: Launch, grads: Sequence[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    grad_keys = [x.x.k.new_empty(x.x.k.shape) for _ in range(1 + x.layout.PLAIN)]
    grad_v = x.x.v.new_empty(x.x.v.shape)
    grad_beta = torch.empty(x.beta.shape, device=x.beta.device)
    main, plain = (Sums(*(part.contiguous() for part in grads[i])) for i in (0, -1))
    code = x.code("k")
    kernels.sum_tokens_backward_kernel[x.by_block](
        x.k, x.v, x.k_plain, x.beta, code, x.sizes, main, plain, x.growth, grad_keys[0], grad_keys[-1],
        grad_v, grad_beta, L=x.layout, **x.options)
    if not isinstance(x.x, RawTokens):
        return grad_keys[0], grad_v, grad_beta, grad_keys[1] if x.layout.PLAIN else None
    if isinstance(x.x.encoding, Rays):
        # Keys were written with beta / growth, growth the mean of the tokens' ratios if over 1.
        by_growth = -(grad_beta * x.beta).sum(2) / x.growth
        by_ratio = torch.where(x.growth > 1, by_growth / x.sizes.S, 0.0).contiguous()
        grad_keys.append(torch.empty_like(grad_keys[0]))
        raw_kernels.growth_backward_kernel[x.by_block](
            x.k, code, x.sizes, by_ratio, grad_keys[0], grad_keys[1], L=x.layout, **x.options)
        grad_v = encode(x, grad_v, "k", back=True)
    grad_k, grad_weight = prepare_backward(x, x.k, "k", grad_keys)
    return grad_k, grad_v, grad_beta, grad_weight


def encode(x: Launch, tokens: Tensor, of: str, back: bool = False) -> Tensor:
    """Contiguous tokens encoded, where the encoding has a part for them."""
    if not (isinstance(x.x, RawTokens) and isinstance(x.x.encoding, Rays)):
        return tokens
    out = torch.empty_like(tokens)
    raw_kernels.encode_kernel[x.by_block](
        tokens_at(tokens), x.code(of, back), x.sizes, out, L=x.layout, **x.options)
    return out


def prepare_backward(x: Launch, raw: Raw, of: str, grads: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Gradients by raw tokens and by the weight of their norm, from those by encoded and plain ones."""
    layout = replace(x.layout, ROWS=16, PLAIN=len(grads) > 1)
    blocks, (heads, frames) = triton.cdiv(x.sizes.S, layout.ROWS), x.by_frame
    grad_x, grad_weight = torch.empty_like(grads[0]), x.growth.new_empty(frames * blocks, heads * layout.D)
    raw_kernels.prepare_backward_kernel[(blocks, frames)](
        raw, x.code(of, back=True), x.sizes, tokens_at(grads[0]), tokens_at(grads[-1]), grad_x, grad_weight,
        L=layout, num_warps=4)
    return grad_x, grad_weight.sum(0)


def tokens_at(x: Tensor) -> Raw:
    """Tokens (B, T, S, h, D), or a copy of them, each of which has its channels together."""
    stride = x.stride(2)
    wanted = (x.shape[1] * x.shape[2] * stride, x.shape[2] * stride, stride, x.shape[4], 1)
    if any(size > 1 and found != want for size, found, want in zip(x.shape, x.stride(), wanted)):
        return tokens_at(x.contiguous())
    return Raw(x, stride, x, x, 1.0)


def raw_at(x: Tensor, weight: Tensor, eps: float, scale: float) -> Raw:
    """Raw tokens with what their norm needs."""
    raw, tokens = tokens_at(x), x.shape[:3].numel()
    inverse = torch.empty(tokens, device=x.device)
    raw_kernels.inverse_rms_kernel[(triton.cdiv(tokens, 16),)](
        raw.x, raw.stride, inverse, tokens, x.shape[3] * x.shape[4], eps, ROWS=16, COLS=256, num_warps=4)
    return raw._replace(weight=weight.contiguous(), inverse=inverse, scale=scale)


@cache
def first_frames(frames: int, resets: tuple[int, ...], device: torch.device) -> Tensor:
    """(T,), one where a chunk begins; made once, since copying it to a GPU waits for that."""
    cuts = torch.zeros(frames, dtype=torch.int32)
    cuts[list(resets)] = 1
    return cuts.to(device)


def warps(width: int) -> int:
    return 8 if padded(width) > 64 else 4


def padded(width: int) -> int:
    return max(16, triton.next_power_of_2(width))
