"""Frame-wise gated delta attention as an operator of torch: opaque to the compiler, gradients by hand."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from model import gdn_scan
from model.camera import Rays
from model.gdn_prepare import RawTokens
from model.gdn_scan import Link, Time, Tokens
from model.gdn_torch import state_dtype
from model.rope import Rotary


def attend(
    x: Tokens | RawTokens, decay: Tensor, starts: list[Tensor], chunk_starts: Sequence[int], kernel: str,
    link: Link | None = None,
) -> list[Tensor]:
    """`gdn_scan.attend` with a gradient: the output, then the last state (B*h, D, Dv) of each memory."""
    tokens, tables, numbers = _pack(x)
    if link is None:
        # Torch takes an empty list for one of tensors, which would need gradients.
        return _attend(tokens, tables, numbers, decay, starts, list(chunk_starts) or [0], kernel)
    static = tables, numbers, chunk_starts, kernel, link, len(tokens)
    return list(_Linked.apply(static, *tokens, decay, *starts))


def steps_of(kernel: str) -> ModuleType:
    """The module whose functions do the steps of `gdn_scan`."""
    return importlib.import_module(f"model.gdn_{kernel}")


def _pack(x: Tokens | RawTokens) -> tuple[list[Tensor], list[Tensor], list[float]]:
    """Tensors that have gradients, tables of the encoding, and numbers."""
    if isinstance(x, Tokens):
        return [tensor for tensor in x if tensor is not None], [], [1.0]
    tables = [x.encoding.turn]
    if isinstance(x.encoding, Rays):
        tables += [x.encoding.from_world, x.encoding.to_world]
    return list(x[:6]), tables, [x.key_scale, x.eps]


def _unpack(
    tokens: Sequence[Tensor], tables: Sequence[Tensor], numbers: Sequence[float]
) -> Tokens | RawTokens:
    if not tables:
        return Tokens(*tokens)
    (q, k, v, beta, q_weight, k_weight), (turn, *matrices), (key_scale, eps) = tokens, tables, numbers
    encoding = Rays(matrices[0], matrices[1], turn) if matrices else Rotary(turn)
    return RawTokens(q, k, v, beta, q_weight, k_weight, encoding, key_scale, eps)


# The compiler neither unrolls the scan nor breaks the graph where kernels are launched.
@torch.library.custom_op("sana_wm::frame_gdn", mutates_args=())
def _attend(
    tokens: list[Tensor], tables: list[Tensor], numbers: list[float], decay: Tensor, starts: list[Tensor],
    chunk_starts: list[int], kernel: str,
) -> list[Tensor]:
    return _run(_unpack(tokens, tables, numbers), Time(decay, chunk_starts), starts, kernel)


@_attend.register_fake
def _attend_shapes(
    tokens: list[Tensor], tables: list[Tensor], numbers: list[float], decay: Tensor, starts: list[Tensor],
    chunk_starts: list[int], kernel: str,
) -> list[Tensor]:
    k, v = tokens[1], tokens[2]
    end = k.new_empty(decay[:, 0].numel(), k.shape[-1], v.shape[-1], dtype=state_dtype(k))
    memories = 1 if len(tables) > 1 or len(tokens) < 6 else 2
    return [v.new_empty(v.shape), end, *[end.new_empty(*end.shape[:2], 1)] * (memories - 1)]


@torch.library.custom_op("sana_wm::frame_gdn_backward", mutates_args=())
def _attend_backward(
    tokens: list[Tensor], tables: list[Tensor], numbers: list[float], decay: Tensor, starts: list[Tensor],
    chunk_starts: list[int], kernel: str, grads: list[Tensor],
) -> list[Tensor]:
    return _run_backward(_unpack(tokens, tables, numbers), Time(decay, chunk_starts), starts, kernel, grads)


@_attend_backward.register_fake
def _attend_backward_shapes(
    tokens: list[Tensor], tables: list[Tensor], numbers: list[float], decay: Tensor, starts: list[Tensor],
    chunk_starts: list[int], kernel: str, grads: list[Tensor],
) -> list[Tensor]:
    return [x.new_empty(x.shape) for x in (*tokens, decay, *starts)]


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    tokens, tables, ctx.numbers, decay, starts, ctx.chunk_starts, ctx.kernel = inputs
    ctx.counts = len(tokens), len(tables)
    ctx.save_for_backward(*tables, *tokens, decay, *starts)


def _gradients(ctx: Any, grads: list[Tensor]) -> tuple[Any, ...]:
    (count, tables), saved = ctx.counts, list(ctx.saved_tensors)
    tokens, decay, starts = _split(saved[tables:], count)
    found = _attend_backward(tokens, saved[:tables], ctx.numbers, decay, starts, ctx.chunk_starts, ctx.kernel,
                             grads)
    by_tokens, by_decay, by_starts = _split(found, count)
    return by_tokens, [None] * tables, None, by_decay, by_starts, None, None


_attend.register_autograd(_gradients, setup_context=_keep_inputs)


class _Linked(torch.autograd.Function):
    """The same where other processes hold other frames, with which it speaks in both passes."""

    @staticmethod
    def forward(ctx: Any, static: tuple[Any, ...], *inputs: Tensor) -> tuple[Tensor, ...]:
        tables, numbers, chunk_starts, kernel, link, count = ctx.static = static
        ctx.save_for_backward(*inputs)
        tokens, decay, starts = _split(inputs, count)
        return tuple(_run(_unpack(tokens, tables, numbers), Time(decay, chunk_starts, link), starts, kernel))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:  # type: ignore[override]
        tables, numbers, chunk_starts, kernel, link, count = ctx.static
        tokens, decay, starts = _split(ctx.saved_tensors, count)
        x, time = _unpack(tokens, tables, numbers), Time(decay, chunk_starts, link)
        return None, *_run_backward(x, time, starts, kernel, grads)


def _run(x: Tokens | RawTokens, time: Time, starts: Sequence[Tensor], kernel: str) -> list[Tensor]:
    out, ends = gdn_scan.attend(x, time, starts, steps_of(kernel))
    return [out, *ends]


def _run_backward(
    x: Tokens | RawTokens, time: Time, starts: Sequence[Tensor], kernel: str, grads: Sequence[Tensor]
) -> list[Tensor]:
    found = gdn_scan.attend_backward(x, time, starts, steps_of(kernel), grads[0], grads[1:])
    tokens = [grad for grad in found.tokens if grad is not None]
    inputs = [*_pack(x)[0], time.decay, *starts]
    return [grad.to(given.dtype) for grad, given in
            zip([*tokens, found.decay, *found.starts[: len(starts)]], inputs, strict=True)]


def _split(found: Sequence[Tensor], tokens: int) -> tuple[list[Tensor], Tensor, list[Tensor]]:
    """Tokens, decay and starts of them all."""
    return list(found[:tokens]), found[tokens], list(found[tokens + 1 :])
