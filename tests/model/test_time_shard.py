"""A clip over several processes is one clip: scans, neighbouring and gathered frames, and their gradients."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from model.gdn import frame_gdn
from model.mask import Mask
from model.time_shard import TimeShard, split_frames, starting_states
from tests.model.ranks import run_ranks

FRAMES = 11
BOUNDS = {2: (0, 4, 11), 4: (0, 1, 5, 7, 11)}
MASKS = {"everything": Mask(), "chunks across ranks": Mask((0, 4, 6, 9)), "chunks at ranks": Mask((0, 5, 7))}


def scan_inputs() -> list[Tensor]:
    """q, k, v, beta, decay, plain q, plain k, and weights of the output in the loss."""
    draw = torch.Generator().manual_seed(3)
    shape = (2, FRAMES, 5, 3, 4)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=draw, dtype=torch.float64)

    return [uniform(*shape), 0.4 * uniform(*shape), uniform(*shape), uniform(*shape[:4]),
            uniform(2, FRAMES, 3), uniform(*shape), 0.4 * uniform(*shape), uniform(*shape) - 0.5]


def scan_and_gradients(inputs: list[Tensor], normalised: bool, **options) -> list[Tensor]:
    *tokens, weights = inputs
    leaves = [x.clone().requires_grad_() for x in (tokens if normalised else tokens[:5])]
    plain = {"q_plain": leaves[5], "k_plain": leaves[6]} if normalised else {}
    out, _ = frame_gdn(*leaves[:5], **plain, **options)
    return [out.detach(), *torch.autograd.grad((out * weights).sum(), leaves)]


def neighbours(x: Tensor, shard: TimeShard) -> list[Tensor]:
    return [shard.before(x, 3), shard.after(x, 3), shard.gather(x)]


def work_of_a_rank(world) -> dict[int, dict[str, list[Tensor]]]:
    """Of four processes: in one group of all, and in two groups of two."""
    pair, _ = dist.new_subgroups(2)
    return {group.size(): in_a_group(group) for group in (world, pair)}


def in_a_group(group) -> dict[str, list[Tensor]]:
    shard = TimeShard(group, BOUNDS[group.size()])
    inputs = [shard.take(x) for x in scan_inputs()]
    found = {}
    for name, mask in MASKS.items():
        local = shard.mask(mask)
        for normalised in (True, False):
            found[f"{name}, {normalised}"] = scan_and_gradients(
                inputs, normalised, chunk_starts=local.starts_here(), link=shard)
    x = inputs[0].clone().requires_grad_()
    parts = neighbours(x, shard)
    # Every rank weighs what it got by its own number, so gradients must come from all of them.
    loss = sum((part.sin().sum() for part in parts), torch.zeros(())) * (group.rank() + 1)
    found["neighbours"] = [part.detach() for part in parts]
    found["gradient of neighbours"] = list(torch.autograd.grad(loss, x))
    return found


@pytest.fixture(scope="module")
def all_found(tmp_path_factory) -> list[dict[int, dict[str, list[Tensor]]]]:
    return run_ranks(work_of_a_rank, 4, tmp_path_factory.mktemp("ranks"))


@pytest.fixture(params=[2, 4])
def found(request, all_found) -> list[dict[str, list[Tensor]]]:
    """What each rank of a group of so many found."""
    return [rank[request.param] for rank in all_found[: request.param]]


@pytest.mark.slow
@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("name", MASKS)
def test_a_scan_over_processes_is_one_scan_with_its_gradients(found, name, normalised):
    expected = scan_and_gradients(scan_inputs(), normalised, chunk_starts=MASKS[name].chunk_starts)
    for parts, whole in zip(zip(*(rank[f"{name}, {normalised}"] for rank in found)), expected, strict=True):
        torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=1e-10)


@pytest.mark.slow
def test_neighbouring_frames_are_those_of_the_clip_with_their_gradients(found):
    x, bounds = scan_inputs()[0].requires_grad_(), BOUNDS[len(found)]
    padded = torch.cat([torch.zeros_like(x[:, :3]), x], 1)
    loss = torch.zeros((), dtype=x.dtype)
    for rank, (first, end) in enumerate(pairwise(bounds)):
        before, after, whole = padded[:, first : first + 3], x[:, end : end + 3], x
        for part, expected in zip(found[rank]["neighbours"], (before, after, whole), strict=True):
            assert torch.equal(part, expected)
        loss = loss + (rank + 1) * sum(part.sin().sum() for part in (before, after, whole))
    gradient = torch.cat([rank["gradient of neighbours"][0] for rank in found], 1)
    torch.testing.assert_close(gradient, torch.autograd.grad(loss, x)[0], rtol=0, atol=1e-12)


def test_composing_stretches_gives_the_state_before_each():
    draw = torch.Generator().manual_seed(0)
    pairs = [(torch.randn(2, 3, 3, generator=draw, dtype=torch.float64),
              torch.randn(2, 3, 5, generator=draw, dtype=torch.float64)) for _ in range(3)]
    (_, h0), (c1, h1), (_, h2) = pairs
    forward, reverse = starting_states(pairs), starting_states(pairs, reverse=True)
    assert not forward[0].any() and not reverse[2].any()
    torch.testing.assert_close(forward[2], c1 @ h0 + h1)
    torch.testing.assert_close(reverse[0], c1 @ h2 + h1)


@pytest.mark.parametrize("frames,parts", [(121, 2), (121, 4), (7, 4), (4, 4), (16, 3)])
def test_frames_are_split_as_evenly_as_can_be(frames, parts):
    bounds = split_frames(frames, parts)
    lengths = [b - a for a, b in pairwise(bounds)]
    assert bounds[0] == 0 and bounds[-1] == frames and len(lengths) == parts
    assert max(lengths) - min(lengths) <= 1 and lengths == sorted(lengths, reverse=True)


def test_fewer_frames_than_processes_are_refused():
    with pytest.raises(ValueError, match="3 latent frames for 4 processes"):
        split_frames(3, 4)
