"""Weights that wait elsewhere: the same numbers, and never more on the device than is said."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from infer.load import LoadConfig
from infer.offload import BlockStream, Offload, Parked, Placement
from infer.pipeline import WorldModel
from infer.precision import Precision, quantise
from model.dit import SanaWM
from tests.infer.conftest import SIZE
from tests.infer.test_precision import arguments

CPU = torch.device("cpu")


def deeper(network: SanaWM) -> SanaWM:
    """With five blocks, so that most are away."""
    from dataclasses import replace

    config = replace(network.config, depth=5)
    deep, generator = SanaWM(config), torch.Generator().manual_seed(4)
    for name, tensor in deep.state_dict().items():
        tensor.normal_(1.0 if "norm" in name else 0.0, 0.1, generator=generator)
    return deep.eval()


@pytest.mark.parametrize("precision", [Precision.bf16, Precision.int8])
def test_streamed_blocks_compute_the_same_and_two_are_there_at_a_time(
    network: SanaWM, precision: Precision,
) -> None:
    deep = deeper(network)
    quantise(deep, precision, CPU)
    with torch.no_grad():
        wanted = deep(*arguments(deep))
    stream, there = BlockStream(list(deep.blocks), CPU), []
    for number, block in enumerate(deep.blocks):
        block.attn.register_forward_pre_hook(
            lambda *_, number=number: there.append((number, [p.loaded for p in stream.parked])))
    with torch.no_grad():
        found = [deep(*arguments(deep)) for _ in range(2)]
    assert torch.equal(found[0], wanted) and torch.equal(found[1], wanted)
    assert [number for number, _ in there] == 2 * list(range(5))
    for number, loaded in there:
        assert loaded == [other in (number, (number + 1) % 5) for other in range(5)]
    stream.drop()
    assert not any(parked.loaded for parked in stream.parked)


def test_what_is_dropped_is_what_was_at_home(network: SanaWM) -> None:
    module = copy.deepcopy(network.blocks[0])
    before = dict(module.named_parameters())
    parked = Parked(module.modules())
    home = dict(module.named_parameters())
    parked.load(CPU)
    away = dict(module.named_parameters())
    assert all(away[name].data_ptr() != home[name].data_ptr() for name in home)
    assert all(torch.equal(away[name], before[name]) for name in home)
    parked.drop()
    assert all(tensor.data_ptr() == home[name].data_ptr() for name, tensor in module.named_parameters())


def test_shared_weights_stay_shared() -> None:
    pair = torch.nn.ModuleList([torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)])
    pair[1].weight = pair[0].weight
    parked = Parked(pair.modules())
    parked.load(CPU)
    assert pair[0].weight is pair[1].weight


@pytest.mark.parametrize("offload", ["text", "model", "sequential"])
def test_a_video_is_the_same_whatever_leaves_the_device(
    make_world: Callable[..., WorldModel], room: Path, offload: str,
) -> None:
    world = make_world("distilled")
    request = world.prepare(room, "a room", "w-24,dw-24", seed=3, size=SIZE)
    wanted = np.concatenate(list(world.generate(request)))
    network = copy.deepcopy(world.network)
    placement = Placement(CPU, Offload(offload))
    placement.park(network, False, list(network.blocks))
    placement.park(world.text, True)
    placement.park(world.codec, False)
    moved = WorldModel(network, world.codec, world.text, world.sampler, placement=placement)
    at_work: list[tuple[bool, ...]] = []
    kept = [placement.parked.get(id(part)) for part in (network, world.codec)]

    def look(step: int, of: int) -> None:
        at_work.append(tuple(bool(part and part[0].loaded) for part in kept))

    found = np.concatenate(list(moved.generate(request, look)))
    np.testing.assert_array_equal(found, wanted)
    taking_turns = offload != "text"
    assert set(at_work) == {(taking_turns, False)}  # the network without the codec beside it
    assert not any(part[0].loaded for part in placement.parked.values())


def test_what_does_not_go_together_is_refused() -> None:
    with pytest.raises(ValueError, match="compile=true with offload=sequential"):
        LoadConfig(device="cpu", offload=Offload.sequential, compile=True).resolved()


def test_an_interrupted_video_leaves_nothing_on_the_device(
    make_world: Callable[..., WorldModel], room: Path,
) -> None:
    world = make_world("distilled")
    network = copy.deepcopy(world.network)
    placement = Placement(CPU, Offload.model)
    placement.park(network, False, list(network.blocks))
    moved = WorldModel(network, world.codec, world.text, world.sampler, placement=placement)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    request = moved.prepare(room, camera="w-24", size=SIZE)
    with pytest.raises(KeyboardInterrupt):
        list(moved.generate(request, stop))
    assert not placement.parked[id(network)][0].loaded
