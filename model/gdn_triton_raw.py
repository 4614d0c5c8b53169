"""Triton kernels for raw tokens: their root mean squares, their encoding alone, and the gradient of both.

Raw tokens become ReLU(RMS norm) times a factor when a kernel loads them, then are encoded: see
`gdn_triton_kernels`. The norm runs over all heads of a token, so its gradient needs a pass over whole tokens.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl

from model.gdn_triton_kernels import MIN_KEY, _block, _load, _load_encoded, _store


@triton.jit
def inverse_rms_kernel(x, stride, inverse, tokens, width, eps, ROWS: tl.constexpr, COLS: tl.constexpr):
    """1 / sqrt(mean of squares + eps) of each token over all of its channels."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    ok = rows < tokens
    total = tl.zeros((ROWS,), tl.float32)
    for start in range(0, width, COLS):
        cols = start + tl.arange(0, COLS)[None, :]
        part = tl.load(x + rows[:, None] * stride + cols, mask=ok[:, None] & (cols < width), other=0.0)
        part = part.to(tl.float32)
        total += tl.sum(part * part, 1)
    tl.store(inverse + rows, 1.0 / tl.sqrt(total / width + eps), mask=ok)


@triton.jit
def encode_kernel(x, code, sizes, out, L: tl.constexpr):
    """Tokens encoded as they are: the scan's output, or a gradient on its way back."""
    block, head, frame = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    base, rows, ok, place = _block(block, frame, sizes, L.ROWS)
    _store(out, base, rows, ok, head, sizes.H,
           _load_encoded(x, code, base, rows, ok, place, head, L.D, L.DP, False, L.ENCODING), L.D, L.DP)


@triton.jit
def growth_backward_kernel(k, code, sizes, by_ratio, grad_k, grad_k_plain, L: tl.constexpr):
    """Adds to the gradient by encoded keys, and writes that by plain keys, what comes through their growth.

    by_ratio (B*T, h): gradient by each token's |encoded|^2 / |plain|^2, both at least MIN_KEY.
    """
    block, head, frame = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    base, rows, ok, place = _block(block, frame, sizes, L.ROWS)
    cols = tl.arange(0, L.DP)[None, :]
    plain = _load(k, base, rows, ok, head, cols, L.D, True)
    keys = _load_encoded(k, code, base, rows, ok, place, head, L.D, L.DP, True, L.ENCODING)
    had, has = tl.sum(plain * plain, 1), tl.sum(keys * keys, 1)
    least, by = tl.maximum(had, MIN_KEY), tl.load(by_ratio + frame * sizes.H + head)
    by_has = tl.where(has >= MIN_KEY, by / least, 0.0)
    by_had = tl.where(had >= MIN_KEY, -by * tl.maximum(has, MIN_KEY) / (least * least), 0.0)
    at = grad_k + (base * sizes.H + head) * L.D + (rows[:, None] * (sizes.H * L.D) + cols)
    inside = ok[:, None] & (cols < L.D)
    before = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    tl.store(at, before + 2.0 * by_has[:, None] * keys, mask=inside)
    _store(grad_k_plain, base, rows, ok, head, sizes.H, 2.0 * by_had[:, None] * plain, L.D, L.DP)


@triton.jit
def prepare_backward_kernel(
    raw, back, sizes, grad_encoded, grad_plain, grad_x, grad_weight, L: tl.constexpr
):
    """Gradient by raw tokens from those by encoded and by plain ones, and of the norm's weight, a row of
    (programs, d) per program.

    back: the encoding's transpose. A token's heads are gone through twice, first for what the norm needs.
    """
    block, frame = tl.program_id(0), tl.program_id(1)
    base, rows, ok, place = _block(block, frame, sizes, L.ROWS)
    program = frame.to(tl.int64) * tl.num_programs(0) + block
    inverse = tl.load(raw.inverse + base + rows, mask=ok, other=0.0)[:, None]
    ROWS: tl.constexpr = L.ROWS
    along = tl.zeros((ROWS,), tl.float32)
    for head in range(sizes.H):
        unit, by_unit, _by_weight = _norm_gradient(
            raw, back, base, rows, ok, place, head, grad_encoded, grad_plain, inverse, L)
        along += tl.sum(unit * by_unit, 1)
    mean = (along / (sizes.H * L.D))[:, None]
    for head in range(sizes.H):
        unit, by_unit, by_weight = _norm_gradient(
            raw, back, base, rows, ok, place, head, grad_encoded, grad_plain, inverse, L)
        _store(grad_x, base, rows, ok, head, sizes.H, inverse * (by_unit - unit * mean), L.D, L.DP)
        at = grad_weight + (program * sizes.H + head) * L.D + tl.arange(0, L.DP)
        tl.store(at, tl.sum(by_weight, 0), mask=tl.arange(0, L.DP) < L.D)


@triton.jit
def _norm_gradient(
    raw, back, base, rows, ok, place, head, grad_encoded, grad_plain, inverse, L: tl.constexpr
):
    """A head's x / rms(x), the gradient by it, and that by the weight of each token."""
    cols = tl.arange(0, L.DP)[None, :]
    grad = _load_encoded(grad_encoded, back, base, rows, ok, place, head, L.D, L.DP, False, L.ENCODING)
    if L.PLAIN:
        grad += _load(grad_plain, base, rows, ok, head, cols, L.D, False)
    weight = tl.load(raw.weight + head * L.D + cols, mask=cols < L.D, other=0.0).to(tl.float32)
    unit = _load(raw, base, rows, ok, head, cols, L.D, False) * inverse
    grad = tl.where(unit * weight > 0.0, grad * raw.scale, 0.0)
    return unit, grad * weight, grad * unit
