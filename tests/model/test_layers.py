"""Norm and gate with gradients by hand are torch's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.layers import gate, rms_norm

SHAPE = (2, 5, 6, 7)


def drawn(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(len(shape))
    return torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()


def test_the_norm_and_its_gradient_are_exact() -> None:
    x, weight = drawn(*SHAPE), drawn(7)
    expected = F.rms_norm(x, (7,), weight, 1e-5)
    torch.testing.assert_close(rms_norm(x, weight, 1e-5), expected, rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(lambda x, w: rms_norm(x, w, 1e-3), (x, weight))


def test_the_norm_takes_tokens_that_do_not_lie_together() -> None:
    """As the thirds of one projection do, whose gradient too is a third."""
    x, weight = drawn(2, 5, 21), drawn(7)
    middle = x.chunk(3, -1)[1]
    torch.testing.assert_close(rms_norm(middle, weight, 1e-5), F.rms_norm(middle, (7,), weight, 1e-5))
    assert torch.autograd.gradcheck(lambda x, w: rms_norm(x.chunk(3, -1)[1], w, 1e-3).mT, (x, weight))


def test_tokens_of_zeros_stay_zeros_with_a_finite_gradient() -> None:
    x = torch.zeros(3, 7, requires_grad=True)
    out = rms_norm(x, torch.ones(7), 1e-6)
    out.sum().backward()
    assert not out.any() and x.grad is not None and x.grad.isfinite().all()


def test_half_precision_is_normalised_in_float32() -> None:
    """Squares of 300 do not fit into float16, and sums of bf16 lose digits."""
    x = (drawn(4, 512, dtype=torch.float32).detach() * 300)
    for dtype in (torch.float16, torch.bfloat16):
        weight = torch.ones(512, dtype=dtype)
        found = rms_norm(x.to(dtype), weight, 1e-5)
        assert found.dtype == dtype
        torch.testing.assert_close(found, F.rms_norm(x.to(dtype).float(), (512,), eps=1e-5).to(dtype))


@pytest.mark.parametrize("halves", [False, True])
def test_the_gate_and_its_gradient_are_exact(halves: bool) -> None:
    value, by = drawn(*SHAPE, 14).chunk(2, -1) if halves else (drawn(*SHAPE), drawn(*SHAPE))
    torch.testing.assert_close(gate(value, by), value * F.silu(by))
    value, by = value.detach().requires_grad_(), by.detach().requires_grad_()
    assert torch.autograd.gradcheck(gate, (value, by))


def test_the_gate_keeps_only_what_it_was_given() -> None:
    value, by, kept = drawn(*SHAPE), drawn(*SHAPE), []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):
        gate(value, by)
    assert sorted(x.data_ptr() for x in kept) == sorted([value.data_ptr(), by.data_ptr()])
