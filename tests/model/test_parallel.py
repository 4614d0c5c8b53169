"""The network over several processes is the network, gradients too; also sharded, recomputed, compiled."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from model.config import DiTConfig
from model.dit import SanaWM
from model.mask import Mask
from model.parallel import ContextParallel, compile_blocks, recompute_blocks, shard_parameters, share_time
from model.time_shard import TimeShard, split_frames
from tests.model.networks import frames_of, random_inputs, random_network
from tests.model.ranks import run_ranks

FRAMES = 7  # over 2 and over 4 processes: stretches of different lengths
CASES = {
    "whole clip": {"mask": Mask()},
    "chunks": {"mask": Mask((0, 3, 4))},
    "padding": {"mask": Mask((0, 5)), "frame_valid": torch.tensor([[1.0] * 7, [1.0] * 5 + [0.0] * 2])},
    "no camera": {"mask": Mask(), "camera": False},
}


def network() -> SanaWM:
    return random_network(DiTConfig.tiny()).requires_grad_()


def inputs(camera: bool = True) -> dict[str, Tensor]:
    given = random_inputs(DiTConfig.tiny(), FRAMES)
    return {name: x for name, x in given.items() if camera or name not in ("camera_conditions", "plucker")}


def velocity_and_gradients(model: SanaWM, call, case: dict) -> list[Tensor]:
    given = inputs(case.get("camera", True))
    velocity = call(**given, **{name: value for name, value in case.items() if name != "camera"})
    weights = torch.linspace(-1, 1, velocity.numel(), dtype=velocity.dtype).view(velocity.shape)
    model.zero_grad()
    (velocity * weights).sum().backward()
    return [velocity.detach(), *(torch.zeros_like(p) if p.grad is None else p.grad.clone()
                                 for p in model.parameters())]


def work_of_a_rank(world) -> dict[int, dict[str, list[Tensor]]]:
    """Of four processes: a group of all; groups of two; parameters sharded over all with the latter."""
    pair, _ = dist.new_subgroups(2)
    found = {group.size(): {name: in_a_group(group, case) for name, case in CASES.items()}
             for group in (world, pair)}
    found[2]["sharded and recomputed"] = sharded_and_recomputed(pair)
    return found


def in_a_group(group, case: dict) -> list[Tensor]:
    model = network()
    velocity, *gradients = velocity_and_gradients(model, ContextParallel(model, group), case)
    for gradient in gradients:
        dist.all_reduce(gradient, group=group)
    return [velocity, *(gradient / group.size() for gradient in gradients)]


def sharded_and_recomputed(group) -> list[Tensor]:
    model = network()
    recompute_blocks(model)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    shard_parameters(model, mesh, compute=torch.float64, reduce=torch.float64)
    velocity, *gradients = velocity_and_gradients(model, ContextParallel(model, group), CASES["chunks"])
    return [velocity, *(gradient.full_tensor() if isinstance(gradient, DTensor) else gradient
                        for gradient in gradients)]


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> list[dict[int, dict[str, list[Tensor]]]]:
    return run_ranks(work_of_a_rank, 4, tmp_path_factory.mktemp("ranks"))


@pytest.fixture(scope="module")
def expected() -> dict[str, list[Tensor]]:
    model = network()
    return {name: velocity_and_gradients(model, model, case) for name, case in CASES.items()}


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("name", CASES)
def test_the_network_over_processes_is_the_network_with_its_gradients(found, expected, name, processes):
    for rank in found:
        for part, whole in zip(rank[processes][name], expected[name], strict=True):
            torch.testing.assert_close(part, whole, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
def test_sharding_parameters_and_recomputing_blocks_change_nothing(found, expected):
    for rank in found:
        for part, whole in zip(rank[2]["sharded and recomputed"], expected["chunks"], strict=True):
            torch.testing.assert_close(part, whole, rtol=1e-10, atol=1e-10)


def test_a_prepared_network_still_runs_whole_clips_and_streams():
    model, prepared, given = network(), network(), inputs()
    share_time(prepared)
    share_time(prepared)
    mask = Mask((0, 3))
    assert torch.equal(model(**given, mask=mask), prepared(**given, mask=mask))
    first = frames_of(given, 0, 3)
    caches = [model.new_cache(2), prepared.new_cache(2)]
    assert torch.equal(*(m(**first, cache=cache, write=True) for m, cache in zip((model, prepared), caches)))


def test_recomputing_and_compiling_blocks_change_nothing():
    model, given = network(), CASES["chunks"]
    expected = velocity_and_gradients(model, model, given)
    recompute_blocks(model, every=2)
    compile_blocks(model, backend="eager", fullgraph=True)
    for found, wanted in zip(velocity_and_gradients(model, model, given), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)


def test_a_network_that_was_not_prepared_refuses_a_stretch_of_a_clip():
    class Group:
        def size(self) -> int:
            return 2

        def rank(self) -> int:
            return 1

    shard, given = TimeShard(Group(), split_frames(FRAMES, 2)), inputs(camera=False)
    with pytest.raises(ValueError, match=r"share_time\(model\) prepares"):
        network()(shard.take(given["latents"], 2), shard.take(given["timesteps"]), given["caption"],
                  mask=shard.mask(Mask()))
