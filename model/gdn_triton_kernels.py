"""Triton kernels of frame-wise gated delta attention: sums over tokens, scan, read-out, gradients.

Channels of a head of token n = (b T + t) S + s begin at `x + n * stride + head * D`. Matrices over frames are
(T, B*h, D, D or DV). Products take operands of the tokens' type and add in float32, as the scan does
everything. Every result has one writer and one order of addition, so it is the same in every run.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import triton
import triton.language as tl

EPS = tl.constexpr(1e-8)
MIN_KEY = tl.constexpr(1e-12)

READY = tl.constexpr(0)  # tokens are as the scan takes them, plain ones beside them
ROTARY = tl.constexpr(1)  # tokens are raw: normalised on loading, then adjacent channels are rotated
RAYS = tl.constexpr(2)  # raw: the first half of a head is taken through 4 x 4 matrices, the second rotated


@dataclass(frozen=True)
class Layout:
    """What a kernel is compiled for."""

    D: int  # width of a head's keys, and the power of two that holds it
    DP: int
    DV: int  # of its values
    DVP: int
    ROWS: int  # tokens at a time
    ENCODING: int
    PLAIN: bool  # there is a second memory
    TYPE: Any  # of the operands of products
    INTERPRETED: bool


class Raw(NamedTuple):
    """A token tensor; for raw ones its norm's weight, 1 / root mean square of each token, and a factor."""

    x: Any
    stride: Any
    weight: Any
    inverse: Any
    scale: Any


class Encoding(NamedTuple):
    """matrix (B*T*S, 4, 4), turn (T*S, pairs, 2) as cosine and sine, and 1, or -1 to rotate back."""

    matrix: Any
    turn: Any
    direction: Any


class Sizes(NamedTuple):
    T: Any
    S: Any
    H: Any
    BH: Any


class Sums(NamedTuple):
    """Matrices of one memory over frames: (T, B*h, D, D) and (T, B*h, D, DV), or gradients by them."""

    square: Any
    value: Any


@triton.jit
def _operand(x, L: tl.constexpr):
    """x as an operand of a product. The interpreter would multiply bfloat16 as if it were integers."""
    x = x.to(L.TYPE)
    return x.to(tl.float32) if L.INTERPRETED else x


@triton.jit
def _dot(a, b, L: tl.constexpr):
    return tl.dot(_operand(a, L), _operand(b, L), input_precision="ieee")


@triton.jit
def _block(block, frame, sizes, ROWS: tl.constexpr):
    """A block of a frame's tokens: the frame's first token, their numbers from it on, whether they exist, and
    the first token's place in its clip."""
    rows = block * ROWS + tl.arange(0, ROWS)
    return frame.to(tl.int64) * sizes.S, rows, rows < sizes.S, (frame % sizes.T) * sizes.S


@triton.jit
def _load(raw, base, rows, ok, head, cols, D: tl.constexpr, NORM: tl.constexpr):
    """Channels `cols` (1, n) of a head of tokens `rows` in float32; NORM: ReLU(RMS norm) times the factor."""
    at = raw.x + base * raw.stride + head * D + (rows[:, None] * raw.stride + cols)
    x = tl.load(at, mask=ok[:, None] & (cols < D), other=0.0).to(tl.float32)
    if NORM:
        weight = tl.load(raw.weight + head * D + cols, mask=cols < D, other=0.0).to(tl.float32)
        inverse = tl.load(raw.inverse + base + rows, mask=ok, other=0.0)
        x = tl.maximum(x * inverse[:, None] * weight, 0.0) * raw.scale
    return x


@triton.jit
def _load_encoded(
    raw, code, base, rows, ok, place, head, D: tl.constexpr, DP: tl.constexpr, NORM: tl.constexpr,
    ENCODING: tl.constexpr,
):
    """Tokens encoded, (rows, DP) in float32. Each channel is a sum over channels near it, loaded again."""
    cols = tl.arange(0, DP)[None, :]
    out = _load(raw, base, rows, ok, head, cols, D, NORM)
    if ENCODING != 0:
        FIRST: tl.constexpr = D // 2 if ENCODING == 2 else 0
        PAIRS: tl.constexpr = (D - FIRST) // 2
        turned = ok[:, None] & (cols >= FIRST) & (cols < D)
        at = code.turn + place * (2 * PAIRS) + (rows[:, None] * PAIRS + (cols - FIRST) // 2) * 2
        cos = tl.load(at, mask=turned, other=0.0)
        sin = tl.load(at + 1, mask=turned, other=0.0) * code.direction
        partner = _load(raw, base, rows, ok, head, cols + 1 - 2 * (cols % 2), D, NORM)
        out = out * cos + partner * tl.where(cols % 2 == 0, -sin, sin)
    if ENCODING == 2:
        grouped = ok[:, None] & (cols < D // 2)
        for j in tl.static_range(4):
            at = code.matrix + base * 16 + (rows[:, None] * 16 + (cols % 4) * 4 + j)
            near = _load(raw, base, rows, ok, head, cols - cols % 4 + j, D, NORM)
            out += tl.load(at, mask=grouped, other=0.0) * near
    return out


@triton.jit
def _store(to, base, rows, ok, head, H, x, D: tl.constexpr, DP: tl.constexpr):
    """x (rows, DP) into a contiguous (B, T, S, h, D)."""
    cols = tl.arange(0, DP)[None, :]
    at = to + (base * H + head) * D + (rows[:, None] * (H * D) + cols)
    tl.store(at, x, mask=ok[:, None] & (cols < D))


@triton.jit
def _load_scalar(x, base, rows, ok, head, H):
    """A number of each token and head, (B, T, S, h), in float32: (rows,)."""
    return tl.load(x + base * H + (rows * H + head), mask=ok, other=0.0).to(tl.float32)


@triton.jit
def _store_scalar(to, base, rows, ok, head, H, x):
    tl.store(to + base * H + (rows * H + head), x, mask=ok)


@triton.jit
def _matrix_of(frame, head, sizes):
    """Place of a frame and head, frame = b T + t, in (T, B*h)."""
    return ((frame % sizes.T) * sizes.BH + (frame // sizes.T) * sizes.H + head).to(tl.int64)


@triton.jit
def _load_matrix(x, place, D: tl.constexpr, DP: tl.constexpr, E: tl.constexpr, EP: tl.constexpr):
    i, j = tl.arange(0, DP)[:, None], tl.arange(0, EP)[None, :]
    return tl.load(x + place * D * E + i * E + j, mask=(i < D) & (j < E), other=0.0)


@triton.jit
def _store_matrix(to, place, x, D: tl.constexpr, DP: tl.constexpr, E: tl.constexpr, EP: tl.constexpr):
    i, j = tl.arange(0, DP)[:, None], tl.arange(0, EP)[None, :]
    tl.store(to + place * D * E + i * E + j, x, mask=(i < D) & (j < E))


@triton.jit
def sum_tokens_kernel(k, v, k_plain, beta, code, sizes, main, plain, growth, L: tl.constexpr):
    """Part 0: keep = I - K^T L K and write = K^T L V of a frame; part 1: the same of the second memory.

    Both operands are weighted by the root of beta, so that keep is symmetric to the last bit.
    Keys that rays lengthen on average write less: `growth` (B*T, h) is by how much.
    """
    part, head, frame = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    DP: tl.constexpr = L.DP
    DVP: tl.constexpr = L.DVP
    erase = tl.zeros((DP, DP), tl.float32)
    matrix = _matrix_of(frame, head, sizes)
    one = (tl.arange(0, DP)[:, None] == tl.arange(0, DP)[None, :]).to(tl.float32)
    cols = tl.arange(0, DP)[None, :]
    if part == 0:
        write = tl.zeros((DP, DVP), tl.float32)
        lengthened = 0.0
        for block in range(tl.cdiv(sizes.S, L.ROWS)):
            base, rows, ok, place = _block(block, frame, sizes, L.ROWS)
            root = tl.sqrt(_load_scalar(beta, base, rows, ok, head, sizes.H))[:, None]
            keys = _load_encoded(k, code, base, rows, ok, place, head, L.D, DP, L.ENCODING != 0, L.ENCODING)
            values = _load_encoded(
                v, code, base, rows, ok, place, head, L.DV, DVP, False, 2 * (L.ENCODING // 2))
            if L.ENCODING == 2:
                before = tl.sum(_square(_load(k, base, rows, ok, head, cols, L.D, True)), 1)
                ratio = tl.maximum(tl.sum(keys * keys, 1), MIN_KEY) / tl.maximum(before, MIN_KEY)
                lengthened += tl.sum(tl.where(ok, ratio, 0.0), 0)
            across = tl.trans(keys * root)
            erase += _dot(across, keys * root, L)
            write += _dot(across, values * root, L)
        by = 1.0
        if L.ENCODING == 2:
            by = tl.maximum(lengthened / sizes.S, 1.0)
            tl.store(growth + frame * sizes.H + head, by)
        _store_matrix(main.square, matrix, one - erase / by, L.D, DP, L.D, DP)
        _store_matrix(main.value, matrix, write / by, L.D, DP, L.DV, DVP)
    else:
        total = tl.zeros((DP,), tl.float32)
        for block in range(tl.cdiv(sizes.S, L.ROWS)):
            base, rows, ok, _place = _block(block, frame, sizes, L.ROWS)
            weight = _load_scalar(beta, base, rows, ok, head, sizes.H)[:, None]
            keys = _load(k_plain, base, rows, ok, head, cols, L.D, L.ENCODING != 0)
            rooted = keys * tl.sqrt(weight)
            erase += _dot(tl.trans(rooted), rooted, L)
            total += tl.sum(keys * weight, 0)
        _store_matrix(plain.square, matrix, one - erase, L.D, DP, L.D, DP)
        tl.store(plain.value + matrix * L.D + tl.arange(0, DP), total, mask=tl.arange(0, DP) < L.D)


@triton.jit
def _square(x):
    return x * x


@triton.jit
def pass_through_kernel(
    keep, decay, write, start, resets, entering, leaving, sizes, D: tl.constexpr, DP: tl.constexpr,
    DV: tl.constexpr, BV: tl.constexpr, ADJOINT: tl.constexpr,
):
    """One state, a few of its columns, through all frames: direction 0 forwards, 1 in reverse.

    start, leaving: (2, B*h, D, DV)    entering: (2, T, B*h, D, DV)    resets: (T,), 1 where a chunk begins.
    A frame makes decay (keep @ x) + write of x. Going back over a scan (ADJOINT) the reverse direction writes
    before the frame does that, and chunks cut the forward direction instead of the reverse one.
    """
    column, head, reverse = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    i, inner = tl.arange(0, DP)[:, None], tl.arange(0, DP)[None, :]
    j = column * BV + tl.arange(0, BV)[None, :]
    inside, at, square = (i < D) & (j < DV), i * DV + j, i * D + inner
    size = D * DV
    state = tl.load(start + (reverse * sizes.BH + head).to(tl.int64) * size + at, mask=inside, other=0.0)
    cut = (reverse == 0) if ADJOINT else (reverse == 1)
    first = (reverse == 1).to(tl.float32) if ADJOINT else 0.0
    for step in range(sizes.T):
        t = step + reverse * (sizes.T - 1 - 2 * step)
        place = (t * sizes.BH + head).to(tl.int64)
        begins = cut & (tl.load(resets + t) == 1)
        if ADJOINT:
            state = tl.where(begins, 0.0, state)
        tl.store(entering + (reverse * sizes.T * sizes.BH + place) * size + at, state, mask=inside)
        wrote = tl.load(write + place * size + at, mask=inside, other=0.0)
        passes = tl.load(keep + place * D * D + square, mask=(i < D) & (inner < D), other=0.0)
        kept = tl.load(decay + place) * (state + first * wrote)
        state = tl.dot(passes, kept, input_precision="tf32x3") + (1.0 - first) * wrote
        if not ADJOINT:
            state = tl.where(begins, 0.0, state)
    tl.store(leaving + (reverse * sizes.BH + head).to(tl.int64) * size + at, state, mask=inside)


@triton.jit
def read_out_kernel(q, q_plain, code, sizes, seen, seen_plain, out, L: tl.constexpr):
    """Queries on what their frame sees, over the plain ones' sum where there is a second memory."""
    block, head, frame = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    base, rows, ok, place = _block(block, frame, sizes, L.ROWS)
    matrix = _matrix_of(frame, head, sizes)
    queries = _load_encoded(q, code, base, rows, ok, place, head, L.D, L.DP, L.ENCODING != 0, L.ENCODING)
    answer = _dot(queries, _load_matrix(seen, matrix, L.D, L.DP, L.DV, L.DVP), L)
    if L.PLAIN:
        answer /= _divisor(q_plain, base, rows, ok, head, seen_plain, matrix, L)[1][:, None]
    _store(out, base, rows, ok, head, sizes.H, answer, L.DV, L.DVP)


@triton.jit
def _divisor(q_plain, base, rows, ok, head, seen_plain, matrix, L: tl.constexpr):
    """The second memory's state (1, DP) and what it gives to the plain queries, (rows,), plus eps."""
    cols = tl.arange(0, L.DP)[None, :]
    state = tl.load(seen_plain + matrix * L.D + cols, mask=cols < L.D, other=0.0)
    return state, tl.sum(_load(q_plain, base, rows, ok, head, cols, L.D, L.ENCODING != 0) * state, 1) + EPS


@triton.jit
def read_out_by_query_kernel(
    q, q_plain, code, sizes, seen, seen_plain, grad_out, grad_q, grad_q_plain, inverse, grad_den,
    L: tl.constexpr
):
    """Gradients by encoded and plain queries; 1 / denominator and the gradient by it, (B*T*S, h)."""
    block, head, frame = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    base, rows, ok, place = _block(block, frame, sizes, L.ROWS)
    matrix = _matrix_of(frame, head, sizes)
    grad = _load(grad_out, base, rows, ok, head, tl.arange(0, L.DVP)[None, :], L.DV, False)
    if L.PLAIN:
        state, den = _divisor(q_plain, base, rows, ok, head, seen_plain, matrix, L)
        grad = grad / den[:, None]
    by_q = _dot(grad, tl.trans(_load_matrix(seen, matrix, L.D, L.DP, L.DV, L.DVP)), L)
    _store(grad_q, base, rows, ok, head, sizes.H, by_q, L.D, L.DP)
    if L.PLAIN:
        # out = num / den gives d den = -(d num . num) / den, and d num . num = q . d q.
        queries = _load_encoded(q, code, base, rows, ok, place, head, L.D, L.DP, L.ENCODING != 0, L.ENCODING)
        by_den = -tl.sum(queries * by_q, 1) / den
        _store(grad_q_plain, base, rows, ok, head, sizes.H, by_den[:, None] * state, L.D, L.DP)
        _store_scalar(inverse, base, rows, ok, head, sizes.H, 1.0 / den)
        _store_scalar(grad_den, base, rows, ok, head, sizes.H, by_den)


@triton.jit
def read_out_by_state_kernel(
    q, q_plain, code, sizes, grad_out, inverse, grad_den, grad_seen, grad_seen_plain, L: tl.constexpr
):
    """Gradients by what the queries of a frame saw."""
    head, frame = tl.program_id(0), tl.program_id(1)
    DP: tl.constexpr = L.DP
    DVP: tl.constexpr = L.DVP
    by_seen = tl.zeros((DP, DVP), tl.float32)
    by_plain = tl.zeros((DP,), tl.float32)
    for block in range(tl.cdiv(sizes.S, L.ROWS)):
        base, rows, ok, place = _block(block, frame, sizes, L.ROWS)
        grad = _load(grad_out, base, rows, ok, head, tl.arange(0, DVP)[None, :], L.DV, False)
        queries = _load_encoded(q, code, base, rows, ok, place, head, L.D, DP, L.ENCODING != 0, L.ENCODING)
        if L.PLAIN:
            grad *= _load_scalar(inverse, base, rows, ok, head, sizes.H)[:, None]
            by_den = _load_scalar(grad_den, base, rows, ok, head, sizes.H)[:, None]
            plain = _load(q_plain, base, rows, ok, head, tl.arange(0, DP)[None, :], L.D, L.ENCODING != 0)
            by_plain += tl.sum(plain * by_den, 0)
        by_seen += _dot(tl.trans(queries), grad, L)
    matrix = _matrix_of(frame, head, sizes)
    _store_matrix(grad_seen, matrix, by_seen, L.D, DP, L.DV, DVP)
    if L.PLAIN:
        tl.store(grad_seen_plain + matrix * L.D + tl.arange(0, DP), by_plain, mask=tl.arange(0, DP) < L.D)


@triton.jit
def sum_tokens_backward_kernel(
    k, v, k_plain, beta, code, sizes, main, plain, growth, grad_k, grad_k_plain, grad_v, grad_beta,
    L: tl.constexpr
):
    """Gradients by encoded keys and values, plain keys and beta, from those by K^T L K, plus its transpose,
    and K^T L V."""
    block, head, frame = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    base, rows, ok, place = _block(block, frame, sizes, L.ROWS)
    matrix = _matrix_of(frame, head, sizes)
    damped = 1.0
    if L.ENCODING == 2:
        damped = 1.0 / tl.load(growth + frame * sizes.H + head)
    weight = (_load_scalar(beta, base, rows, ok, head, sizes.H) * damped)[:, None]
    keys = _load_encoded(k, code, base, rows, ok, place, head, L.D, L.DP, L.ENCODING != 0, L.ENCODING)
    values = _load_encoded(v, code, base, rows, ok, place, head, L.DV, L.DVP, False, 2 * (L.ENCODING // 2))
    by_write = _load_matrix(main.value, matrix, L.D, L.DP, L.DV, L.DVP)
    erased = _dot(keys, _load_matrix(main.square, matrix, L.D, L.DP, L.D, L.DP), L)
    written = _dot(keys, by_write, L)
    by_beta = 0.5 * tl.sum(erased * keys, 1) + tl.sum(written * values, 1)
    _store(grad_v, base, rows, ok, head, sizes.H, weight * written, L.DV, L.DVP)
    erased += _dot(values, tl.trans(by_write), L)
    _store(grad_k, base, rows, ok, head, sizes.H, weight * erased, L.D, L.DP)
    if L.PLAIN:
        cols = tl.arange(0, L.DP)[None, :]
        keys = _load(k_plain, base, rows, ok, head, cols, L.D, L.ENCODING != 0)
        by_write = tl.load(plain.value + matrix * L.D + cols, mask=cols < L.D, other=0.0)
        erased = _dot(keys, _load_matrix(plain.square, matrix, L.D, L.DP, L.D, L.DP), L)
        by_beta += tl.sum((0.5 * erased + by_write) * keys, 1)
        _store(grad_k_plain, base, rows, ok, head, sizes.H, weight * (erased + by_write), L.D, L.DP)
    _store_scalar(grad_beta, base, rows, ok, head, sizes.H, by_beta * damped)
