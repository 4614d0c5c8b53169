"""The frame scan against its equations, token by token, and against itself cut, resumed, differentiated."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from model import gdn_operator, gdn_torch
from model.gdn import GDNState, frame_gdn


class Inputs(NamedTuple):
    q: Tensor
    k: Tensor
    v: Tensor
    beta: Tensor
    decay: Tensor
    q_plain: Tensor
    k_plain: Tensor

    def frames(self, first: int, end: int) -> Inputs:
        return Inputs(*(x[:, first:end] for x in self))


def inputs(batch=2, frames=5, tokens=6, heads=3, width=4, values=None, dtype=torch.float64, seed=0) -> Inputs:
    draw = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=draw, dtype=torch.float64).to(dtype)

    shape = (batch, frames, tokens, heads, width)
    scale = (width * tokens) ** -0.5
    return Inputs(uniform(*shape) - 0.4, scale * (2 * uniform(*shape) - 0.7),
                  uniform(*shape[:4], values or width) - 0.3, uniform(*shape[:4]),
                  uniform(batch, frames, heads), uniform(*shape), scale * 2 * uniform(*shape))


def scan(x: Inputs, **options) -> tuple[Tensor, GDNState]:
    return frame_gdn(*x[:5], q_plain=x.q_plain, k_plain=x.k_plain, **options)


def scan_numerator(x: Inputs, **options) -> tuple[Tensor, GDNState]:
    return frame_gdn(*x[:5], **options)


def step(state: Tensor, k: Tensor, v: Tensor, beta: Tensor, decay: Tensor) -> Tensor:
    """One frame of one head: the state decays, all tokens read it, then their errors are written at once.

    state (D, Dv), k (S, D), v (S, Dv), beta (S,)
    """
    state = decay * state
    errors = [v[s] - k[s] @ state for s in range(len(k))]
    for s in range(len(k)):
        state = state + beta[s] * torch.outer(k[s], errors[s])
    return state


def by_the_token(x: Inputs, chunk_starts: tuple[int, ...], normalised: bool = True) -> Tensor:
    """The whole operator in python loops, straight from the equations."""
    batch, frames, tokens, heads, _ = x.v.shape
    ends = [*chunk_starts[1:], frames]
    out = torch.zeros_like(x.v)
    ones = torch.ones(tokens, 1, dtype=x.v.dtype)

    def state_at(t: int, b: int, h: int, k: Tensor, values: list[Tensor]) -> Tensor:
        """Forward over frames 0..t, plus backward over the rest of t's chunk."""
        def run(order) -> Tensor:
            state = torch.zeros(k.shape[-1], values[0].shape[-1], dtype=k.dtype)
            for f in order:
                state = step(state, k[b, f, :, h], values[f], x.beta[b, f, :, h], x.decay[b, f, h])
            return state

        end = next(e for e in ends if t < e)
        return run(range(t + 1)) + run(reversed(range(t + 1, end)))

    for b in range(batch):
        for h in range(heads):
            for t in range(frames):
                state = state_at(t, b, h, x.k, [x.v[b, f, :, h] for f in range(frames)])
                normaliser = state_at(t, b, h, x.k_plain, [ones] * frames)
                for s in range(tokens):
                    num = x.q[b, t, s, h] @ state
                    den = x.q_plain[b, t, s, h] @ normaliser + 1e-8
                    out[b, t, s, h] = num / den if normalised else num
    return out


SIZES = {
    "plain": {},
    "one frame": {"frames": 1},
    "one token": {"tokens": 1, "frames": 3},
    "wide values": {"values": 7, "batch": 1},
    "narrow values": {"values": 1, "heads": 1},
    "more tokens than width": {"tokens": 11, "width": 3, "frames": 4, "batch": 1},
}


@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize("chunk_starts", [(0,), (0, 1, 3)])
def test_the_scan_is_what_the_equations_say_token_by_token(sizes, chunk_starts):
    x = inputs(**sizes)
    chunk_starts = tuple(t for t in chunk_starts if t < x.v.shape[1])
    torch.testing.assert_close(scan(x, chunk_starts=chunk_starts)[0], by_the_token(x, chunk_starts),
                               rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(scan_numerator(x, chunk_starts=chunk_starts)[0],
                               by_the_token(x, chunk_starts, normalised=False), rtol=1e-10, atol=1e-10)


def test_many_frames_in_several_groups_are_what_the_equations_say(monkeypatch):
    monkeypatch.setattr(gdn_torch, "_ELEMENTS", 2 * 6 * 3 * 4 * 2)
    x = inputs(frames=7)
    torch.testing.assert_close(scan(x)[0], by_the_token(x, (0,)), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("run", [scan, scan_numerator])
@pytest.mark.parametrize("cut", [1, 2, 4])
def test_a_scan_in_two_halves_is_one_scan(run, cut):
    """With its gradients: the second half's reach the first half through the state."""
    x = inputs(frames=5)
    weights = torch.randn(x.v.shape, generator=torch.Generator().manual_seed(1), dtype=x.v.dtype)

    def whole(x: Inputs):
        out, state = run(x, chunk_starts=(0, cut))
        return out, state

    def halves(x: Inputs):
        first, state = run(x.frames(0, cut))
        second, state = run(x.frames(cut, 5), state=state)
        return torch.cat([first, second], 1), state

    results = []
    for form in (whole, halves):
        leaves = Inputs(*(t.clone().requires_grad_() for t in x))
        out, state = form(leaves)
        used = leaves if run is scan else leaves[:5]
        loss = (out * weights).sum() + state.matrix.square().sum()
        if state.normaliser is not None:
            loss = loss + state.normaliser.sum()
        results.append([out, state.matrix, *torch.autograd.grad(loss, used)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_chunks_in_turn_with_the_carried_state_are_one_chunk_causal_pass():
    x, starts = inputs(frames=11), (0, 4, 7)
    out, last = scan(x, chunk_starts=starts)
    state, parts = None, []
    for first, end in zip(starts, (4, 7, 11), strict=True):
        part, state = scan(x.frames(first, end), state=state)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, 1), out, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(state.matrix, last.matrix, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(state.normaliser, last.normaliser, rtol=1e-10, atol=1e-10)


def test_a_chunk_as_long_as_the_clip_sees_everything():
    x = inputs()
    assert torch.equal(scan(x, chunk_starts=(0, 5))[0], scan(x)[0])
    assert not torch.allclose(scan(x, chunk_starts=(0, 3))[0], scan(x)[0])


def test_nothing_before_a_chunk_depends_on_it():
    x = inputs(frames=7)
    later = Inputs(*(torch.cat([t[:, :4], t[:, 4:] * 0.5], 1) for t in x))
    torch.testing.assert_close(scan(x, chunk_starts=(0, 4))[0][:, :4],
                               scan(later, chunk_starts=(0, 4))[0][:, :4], rtol=0, atol=0)


def test_frames_that_write_nothing_and_keep_everything_change_nothing():
    """Padding: beta 0 and decay 1 let the states pass."""
    x = inputs(frames=6)
    for t in (2, 5):
        x.beta[:, t], x.decay[:, t] = 0, 1
    kept = [0, 1, 3, 4]
    padded, end = scan(x)
    out, end_out = scan(Inputs(*(t[:, kept] for t in x)))
    torch.testing.assert_close(padded[:, kept], out, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(end.matrix, end_out.matrix, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("chunk_starts", [(0,), (0, 2)])
def test_gradients_agree_with_finite_differences(chunk_starts):
    x = inputs(batch=1, frames=3, tokens=2, heads=2, width=3, values=2)
    matrix = torch.rand(1, 2, 3, 2, dtype=torch.float64)
    normaliser = torch.rand(1, 2, 3, dtype=torch.float64)

    def everything(*given: Tensor):
        out, state = scan(Inputs(*given[:7]), state=GDNState(given[7], given[8]), chunk_starts=chunk_starts)
        return out, state.matrix, state.normaliser

    def numerator(*given: Tensor):
        out, state = frame_gdn(*given, chunk_starts=chunk_starts)
        return out, state.matrix

    leaves = [t.requires_grad_() for t in (*x, matrix, normaliser)]
    assert torch.autograd.gradcheck(everything, leaves)
    assert torch.autograd.gradcheck(numerator, leaves[:5])


def test_a_decay_of_zero_has_a_gradient():
    x = inputs(batch=1, frames=3, tokens=2, heads=1, width=3)
    decay = x.decay.clone()
    decay[:, 1] = 0
    assert torch.autograd.gradcheck(lambda d: frame_gdn(x.q, x.k, x.v, x.beta, d)[0], decay.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_are_equal_twice_bit_for_bit(dtype):
    runs = []
    for _ in range(2):
        x = Inputs(*(t.requires_grad_() for t in inputs(frames=9, tokens=20, width=16, dtype=dtype)))
        out, _ = scan(x, chunk_starts=(0, 4))
        runs.append(torch.autograd.grad(out.square().sum(), x))
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_bfloat16_tokens_have_float32_states_and_nearly_the_same_result():
    x = inputs(frames=9, tokens=20, width=16, dtype=torch.float32)
    half = Inputs(*(t.bfloat16() for t in x))._replace(decay=x.decay)
    exact, _ = scan(Inputs(*(t.float() for t in half)))
    out, state = scan(half)
    assert out.dtype == torch.bfloat16
    assert state.matrix.dtype == state.normaliser.dtype == torch.float32
    assert torch.equal(out, exact.bfloat16())


def test_only_the_inputs_are_kept_for_the_gradient():
    x = Inputs(*(t.requires_grad_() for t in inputs(frames=9)))
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        scan(x)
    assert {t.data_ptr() for t in kept} <= {t.data_ptr() for t in x}


def test_keys_that_exceed_the_bound_make_the_state_grow_and_scaled_ones_do_not():
    """K^T K has eigenvalues far over 2 without the key scale: each frame then multiplies the state."""
    x = inputs(batch=1, frames=12, tokens=40, heads=2, width=8)
    unscaled = x._replace(k=x.k * (8 * 40) ** 0.5)
    assert scan_numerator(x)[1].matrix.abs().max() < 10
    assert scan_numerator(unscaled)[1].matrix.abs().max() > 1e6


def test_the_compiler_sees_one_operator_and_no_break():
    x = Inputs(*(t.requires_grad_() for t in inputs(dtype=torch.float32)))

    def network(x: Inputs) -> Tensor:
        out, state = scan(x._replace(q=x.q * 2), chunk_starts=(0, 2))
        return out.sin() + state.matrix.mean()

    expected = network(x)
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(compiled, expected)
    torch.testing.assert_close(torch.autograd.grad(compiled.sum(), x), torch.autograd.grad(expected.sum(), x))


def test_the_operator_keeps_the_promises_the_compiler_relies_on():
    x = Inputs(*(t.requires_grad_() for t in inputs(dtype=torch.float32)))
    wide = torch.cat([x.q, x.v], 2).requires_grad_()
    turned = x.k.transpose(0, 3).contiguous().transpose(0, 3)
    tokens = [x.q, turned, wide[:, :, 6:], x.beta, x.q_plain, x.k_plain]
    starts = [torch.rand(6, 4, 4), torch.rand(6, 4, 1)]
    torch.library.opcheck(gdn_operator._attend, (tokens, [], [1.0], x.decay, starts, [0, 2], "torch"))
    torch.library.opcheck(gdn_operator._attend, (tokens[:4], [], [1.0], x.decay, [], [0], "torch"))


def test_what_does_not_fit_is_named_with_what_was_found():
    x = inputs()
    with pytest.raises(ValueError, match=r"beta has shape \(2, 5, 6\), expected \(2, 5, 6, 3\)"):
        scan(x._replace(beta=x.beta[..., 0]))
    with pytest.raises(ValueError, match=r"decay has shape \(2, 4, 3\), expected \(2, 5, 3\)"):
        scan(x._replace(decay=x.decay[:, 1:]))
    with pytest.raises(ValueError, match="q_plain is missing"):
        frame_gdn(*x[:5], k_plain=x.k_plain)
    with pytest.raises(ValueError, match="without normaliser does not go on with plain keys"):
        scan(x, state=scan_numerator(x)[1])
    with pytest.raises(ValueError, match="'fast'; allowed are"):
        scan(x, kernel="fast")
