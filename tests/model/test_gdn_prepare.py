"""From projections to the scan's tokens and back: what is normalised, encoded and damped."""

from __future__ import annotations

import torch
from torch import Tensor

from model.camera import Rays, invert_rigid, ray_from_world
from model.gdn import frame_gdn, prepare_and_scan
from model.gdn_prepare import RawTokens, key_growth, prepare
from model.rope import Rotary, camera_turns, rotary_turns

GRID, HEADS, WIDTH = (3, 2, 3), 2, 16


def raw_tokens(rays: bool, step: float = 1.0) -> RawTokens:
    draw, shape = torch.Generator().manual_seed(2), (2, 3, 6, HEADS, WIDTH)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=draw, dtype=torch.float64).requires_grad_()

    encoding: Rotary | Rays = Rotary(rotary_turns(GRID, WIDTH))
    if rays:
        conditions = torch.zeros(2, GRID[0], 20, dtype=torch.float64)
        conditions[..., :16] = torch.eye(4).flatten()
        conditions[..., 3] = step * torch.arange(GRID[0])
        conditions[..., 16:] = torch.tensor([2.0, 2.0, 1.0, 1.0])
        from_world = ray_from_world(conditions, *GRID[1:]).unflatten(1, (GRID[0], -1))
        encoding = Rays(from_world, invert_rigid(from_world), camera_turns(GRID, WIDTH))
    beta = torch.rand(shape[:4], generator=draw, dtype=torch.float64).requires_grad_()
    return RawTokens(normal(*shape), normal(*shape), normal(*shape), beta, normal(HEADS * WIDTH),
                     normal(HEADS * WIDTH), encoding, 0.1, 1e-5)


def test_norms_run_over_all_heads_and_keys_are_scaled():
    x = raw_tokens(rays=False)
    tokens = prepare(x)
    queries, keys = (tokens.q_plain, x.q, x.q_weight, 1.0), (tokens.k_plain, x.k, x.k_weight, 0.1)
    for plain, raw, weight, scale in (queries, keys):
        flat = raw.flatten(-2)
        expected = flat / (flat.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight
        torch.testing.assert_close(plain.flatten(-2), expected.clamp(min=0) * scale)
    assert tokens.v is x.v and tokens.beta is x.beta
    torch.testing.assert_close(tokens.k.norm(dim=-1), tokens.k_plain.norm(dim=-1))


def test_keys_that_rays_lengthen_write_less_and_others_as_they_are():
    short, long = (prepare(raw_tokens(rays=True, step=step)) for step in (0.0, 20.0))
    assert short.q_plain is None and long.k_plain is None
    torch.testing.assert_close(short.beta, raw_tokens(rays=True).beta, rtol=1e-12, atol=0)
    assert (long.beta[:, 1:] < short.beta[:, 1:]).all()
    before = torch.ones(1, 1, 2, 1, 4)
    assert key_growth(before, torch.stack([3 * before[:, :, 0], before[:, :, 1]], 2)).item() == 5.0
    assert key_growth(before, 0.5 * before).item() == 1.0
    assert key_growth(0 * before, 0 * before).item() == 1.0


def test_one_call_is_preparation_scan_and_output_with_their_gradients():
    for rays in (False, True):
        x, decay = raw_tokens(rays), torch.full((2, 3, HEADS), 0.9, dtype=torch.float64, requires_grad=True)
        tokens = prepare(x)
        plain = {"q_plain": tokens.q_plain, "k_plain": tokens.k_plain}
        out, _ = frame_gdn(*tokens[:4], decay, **plain, chunk_starts=(0, 2))
        once, _ = prepare_and_scan(x, decay, chunk_starts=(0, 2))
        results = [[y, *torch.autograd.grad(y.sin().sum(), [*x[:6], decay])]
                   for y in (x.encoding.output(out), once)]
        for a, b in zip(*results, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
