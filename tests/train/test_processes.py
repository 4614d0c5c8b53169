"""Objectives over several processes are the objectives: outputs, losses and gradients, in float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor

from dataset.batch import Batch
from model.parallel import ContextParallel, shard_parameters
from tests.model.ranks import run_ranks
from tests.train.clips import draws, empty_caption, random_batch, random_member, random_refiner
from train.objectives import FlowConfig, FlowMatching, Member, Objective
from train.refiner import RefinerLora, RefinerTrainConfig
from train.self_forcing import SelfForcing, SelfForcingConfig

FRAMES = 7  # over 2 and over 4 processes: stretches of different lengths
SINGLE = torch.float32
CASES = {"whole clips": (2, 4), "chunks": (2, 4), "padding": (2, 4), "generator": (2,), "critic": (4,)}
"""And the sizes of the groups that share clips in them."""


def objective(case: str) -> Objective:
    if case in ("generator", "critic"):
        config = SelfForcingConfig(teacher="here", window=1, sink=False)
        return SelfForcing(config, FRAMES, empty_caption(SINGLE))
    return FlowMatching(FlowConfig(chunk=3 if case == "chunks" else None, caption_dropout=0.5))


def clips(case: str) -> Batch:
    batch = random_batch(FRAMES, SINGLE)
    if case == "padding":
        batch.frame_valid[1, 5:] = False
    return batch


def learn(case: str, group: Any = None, mesh: Any = None) -> list[Tensor]:
    """What the network that learns says last, its loss, and the gradients it gets."""
    turn = "critic" if case == "critic" else "network"
    networks, said = {}, []
    several = case in ("generator", "critic")
    for seed, name in enumerate(("network", "critic", "teacher") if several else ("network",)):
        member = random_member(seed, trained=name != "teacher", dtype=SINGLE)
        if mesh is not None:
            shard_parameters(member.module, mesh, compute=SINGLE, reduce=SINGLE)
        call = member.call if group is None else ContextParallel(member.module, group)

        def heard(*args: Any, call=call, name=name, **named: Any) -> Tensor:
            out = call(*args, **named)
            if name == turn:
                said.append(out.detach())
            return out

        networks[name] = Member(member.module, heard)
    losses = objective(case).loss(networks, clips(case), draws(3), 0, turn)
    losses.total.backward()
    gradients = [torch.zeros(p.shape) if p.grad is None else
                 p.grad.full_tensor() if isinstance(p.grad, DTensor) else p.grad.clone()
                 for p in networks[turn].module.parameters()]
    if mesh is None and group is not None:
        for gradient in gradients:
            dist.all_reduce(gradient, group=group)
            gradient /= group.size()
    return [*said[-1:], losses.total.detach(), *gradients]


def refine(mesh: Any = None) -> list[Tensor]:
    """Loss and gradients of the refiner's adapter."""
    network = random_refiner()
    if mesh is not None:
        shard_parameters(network, mesh, compute=SINGLE, reduce=SINGLE)
    objective = RefinerLora(RefinerTrainConfig(rank=3))
    losses = objective.loss({"network": Member(network)}, random_batch(FRAMES, SINGLE), draws(), 0, "network")
    losses.total.backward()
    gradients = [p.grad for p in network.parameters() if p.requires_grad]
    return [losses.total.detach(), *(g.full_tensor() if isinstance(g, DTensor) else g for g in gradients)]


def work_of_a_rank(world: Any) -> dict[str, list[Tensor]]:
    """Of four processes: a group of all, groups of two, parameters sharded over all with the latter."""
    pair, _ = dist.new_subgroups(2)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    groups = {2: pair, 4: world}
    found = {f"{case} in {n}": learn(case, groups[n]) for case, sizes in CASES.items() for n in sizes}
    found |= {f"{case} sharded": learn(case, pair, mesh) for case in ("chunks", "generator")}
    if dist.get_rank() < 2:
        found["refiner sharded"] = refine(DeviceMesh.from_group(pair, "cpu"))
    return found


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> list[dict[str, list[Tensor]]]:
    return run_ranks(work_of_a_rank, 4, tmp_path_factory.mktemp("ranks"))


@pytest.fixture(scope="module")
def expected() -> dict[str, list[Tensor]]:
    return {**{case: learn(case) for case in CASES}, "refiner": refine()}


def check(found: list[dict[str, list[Tensor]]], where: str, expected: list[Tensor]) -> None:
    where_found = [rank[where] for rank in found if where in rank]
    assert where_found
    for rank in where_found:
        for part, whole in zip(rank, expected, strict=True):
            torch.testing.assert_close(part, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "processes"), [(case, n) for case, sizes in CASES.items() for n in sizes])
def test_clips_shared_along_time_teach_what_whole_ones_do(found, expected, case: str, processes: int):
    check(found, f"{case} in {processes}", expected[case])


@pytest.mark.slow
@pytest.mark.parametrize("case", ["chunks", "generator", "refiner"])
def test_sharded_parameters_get_the_gradients_of_whole_ones(found, expected, case: str):
    check(found, f"{case} sharded", expected[case])
