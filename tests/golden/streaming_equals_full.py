"""The network chunk by chunk with a cache: all history, windows with and without sink, the cache itself."""

import re
from itertools import pairwise

import torch
from torch import Tensor

from model.cache import KVState, ModelState, ScanState
from model.dit import SanaWM
from model.mask import Mask
from tests.golden.dit_tiny_weights import load_network
from tests.golden.fixture import Comparison, Fixture

_TOLERANCE = 1e-5
_WINDOW = re.compile(r"out\.velocity_window(\d+)(_sink)?")


def check(fixture: Fixture) -> list[Comparison]:
    network = load_network(fixture.network_weights())
    bounds = fixture.metadata["chunk_bounds"]
    found = []
    for key, expected in fixture.tensors.items():
        if key == "out.velocity_all_history":
            found.append(Comparison(key, run(network, fixture, bounds, Mask())[0], expected, _TOLERANCE))
            whole = _call(network, fixture, 0, bounds[-1], mask=Mask(tuple(bounds[:-1])))
            found.append(Comparison(f"{key} in one pass", whole, expected, _TOLERANCE))
        elif named := _WINDOW.fullmatch(key):
            mask = Mask(window=int(named[1]), sink=bool(named[2]))
            found.append(Comparison(key, run(network, fixture, bounds, mask)[0], expected, _TOLERANCE))
    first = run(network, fixture, bounds[:2], Mask())[1]
    for key, expected in fixture.tensors.items():
        if named := re.fullmatch(r"mid\.cache_after_chunk0\.block(\d+)\.(\w+)", key):
            found.append(Comparison(key, _part(first, int(named[1]), named[2]), expected, _TOLERANCE))
    return found


def run(network: SanaWM, fixture: Fixture, bounds: list[int], mask: Mask) -> tuple[Tensor, ModelState]:
    """Velocity of all chunks in turn, and the state they leave."""
    cache = network.new_cache(fixture["in.latents"].shape[0])
    chunks = [_call(network, fixture, start, end, mask=mask, cache=cache, write=True)
              for start, end in pairwise(bounds)]
    return torch.cat(chunks, 2), cache


def _call(network: SanaWM, fixture: Fixture, start: int, end: int, **streaming: object) -> Tensor:
    part = slice(start, end)
    return network(fixture["in.latents"][:, :, part], fixture["in.timesteps"][:, part], fixture["in.caption"],
                   fixture["in.caption_mask"], fixture["in.camera_conditions"][:, part],
                   fixture["in.chunk_plucker"][:, :, part], **streaming)


def _part(cache: ModelState, block: int, name: str) -> Tensor:
    layer = cache.layers[block]
    if name == "ffn_tail":
        assert layer.ffn_tail is not None
        return layer.ffn_tail
    branch = layer.camera if name.startswith("cam_") else layer.main
    if isinstance(branch, KVState):
        return (branch.keys if name.endswith("_k") else branch.values)[0].flatten(1, 2)
    assert isinstance(branch, ScanState) and branch.gdn is not None
    part = branch.conv_tail if name.endswith("k_conv_tail") else (
        branch.gdn.normaliser if name.endswith("_z") else branch.gdn.matrix)
    assert part is not None
    return part
