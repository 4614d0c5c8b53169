"""A stream of chunks against one pass over the clip, and what it holds between chunks."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from model.cache import KVState, ModelState
from model.config import DiTConfig
from model.dit import SanaWM
from model.mask import Mask
from tests.model.networks import frames_of, random_inputs, random_network

HYBRID = DiTConfig(depth=3, width=48, heads=3, latent_channels=4, caption_channels=6, caption_length=5,
                   mlp_ratio=2.0, softmax_blocks=(1,), plucker_channels=12)


def stream(
    network: SanaWM, inputs: dict[str, Any], bounds: list[int], mask: Mask, cache: ModelState | None = None,
) -> tuple[Tensor, ModelState]:
    """Velocity of all chunks in turn, and the state they leave."""
    cache = network.new_cache(2) if cache is None else cache
    chunks = [network(**frames_of(inputs, *bound), mask=mask, cache=cache, write=True)
              for bound in pairwise(bounds)]
    return torch.cat(chunks, 2), cache


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize("bounds", [[0, 4, 7, 10], [0, 1, 2, 3, 5, 6], [0, 5, 8]])
@pytest.mark.parametrize("camera", [True, False])
def test_chunks_in_turn_are_one_chunk_causal_pass(
    bounds: list[int], dtype: torch.dtype, tolerance: float, camera: bool,
):
    network, inputs = random_network(HYBRID, dtype), random_inputs(HYBRID, bounds[-1], dtype=dtype)
    if not camera:
        inputs |= {"camera_conditions": None, "plucker": None}
    inputs = {name: value for name, value in inputs.items() if value is not None}
    whole = network(**inputs, mask=Mask(tuple(bounds[:-1])))
    chunks, cache = stream(network, inputs, bounds, Mask())
    assert whole.std() > 0.3 and cache.frame == bounds[-1]
    assert (chunks - whole).abs().max() < tolerance


def test_the_gradient_of_chunks_in_turn_is_that_of_one_pass():
    bounds, inputs = [0, 3, 5], random_inputs(HYBRID, 5)
    network = random_network(HYBRID).requires_grad_()
    inputs["latents"].requires_grad_()
    wanted = [parameter for name, parameter in network.named_parameters() if "raymap" not in name]
    weight = random_inputs(HYBRID, 5, seed=1)["latents"]
    found = []
    for velocity in (network(**inputs, mask=Mask((0, 3))), stream(network, inputs, bounds, Mask())[0]):
        found.append(torch.autograd.grad((velocity * weight).sum(), [inputs["latents"], *wanted],
                                         allow_unused=True, materialize_grads=True))
    assert sum(bool(gradient.any()) for gradient in found[0]) > 0.9 * len(wanted)
    for whole, chunks in zip(*found):
        assert (chunks - whole).abs().max() < 1e-10 * (1 + whole.abs().max())


def test_a_stream_that_is_saved_and_resumed_is_one_stream(tmp_path: Path):
    network, inputs, mask = random_network(HYBRID, torch.float32), random_inputs(
        HYBRID, 13, dtype=torch.float32), Mask(window=2)
    bounds = [0, 4, 7, 10, 13]
    whole, end = stream(network, inputs, bounds, mask)
    first, cache = stream(network, inputs, bounds[:3], mask)
    cache.save(tmp_path / "stream.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["stream.safetensors"]
    resumed = ModelState.load(tmp_path / "stream.safetensors")
    assert resumed.frame == 7 and resumed.nbytes() == cache.nbytes()
    second, resumed = stream(network, inputs, bounds[2:], mask, resumed)
    assert torch.equal(torch.cat([first, second], 2), whole)
    assert all(name == other and torch.equal(x, y)
               for (name, x), (other, y) in zip(end.tensors(), resumed.tensors(), strict=True))


def test_reading_leaves_the_cache_as_it_was():
    network, inputs = random_network(HYBRID), random_inputs(HYBRID, 7)
    _, cache = stream(network, inputs, [0, 4], Mask())
    before = {name: x.clone() for name, x in cache.tensors()}
    later = frames_of(inputs, 4, 7)
    once, again = (network(**later, cache=cache) for _ in range(2))
    assert torch.equal(once, again) and cache.frame == 4
    assert all(torch.equal(before.pop(name), x) for name, x in cache.tensors()) and not before


@pytest.mark.parametrize("window, sink, held",
                         [(2, True, 7), (2, False, 6), (1, True, 4), (1, False, 3), (3, True, 10)])
def test_with_a_window_a_stream_holds_the_same_however_long_it_gets(window: int, sink: bool, held: int):
    network, mask = random_network(HYBRID, torch.float32), Mask(window=window, sink=sink)
    inputs, cache, sizes = random_inputs(HYBRID, 25, dtype=torch.float32), network.new_cache(2), []
    for bound in pairwise([0, *range(4, 26, 3)]):
        network(**frames_of(inputs, *bound), mask=mask, cache=cache, write=True)
        sizes.append(cache.nbytes())
    assert len(sizes) == 8 and len(set(sizes[3:])) == 1
    samples, branches, frame = 2, 2, 6 * HYBRID.width
    normaliser = HYBRID.heads * HYBRID.head_width
    scan = branches * (normaliser * HYBRID.head_width + 3 * frame) + normaliser
    softmax = branches * 2 * held * frame    # keys and values
    assert sizes[-1] == 4 * samples * (2 * scan + softmax + HYBRID.depth * frame)


def test_the_window_keeps_the_first_chunk_and_the_latest():
    network, inputs = random_network(HYBRID), random_inputs(HYBRID, 10)
    _, everything = stream(network, inputs, [0, 4, 7, 10], Mask())
    _, windowed = stream(network, inputs, [0, 4, 7], Mask())
    windowed = windowed.clone()
    network(**frames_of(inputs, 7, 10), mask=Mask(window=2), cache=windowed, write=True)
    kept, every = windowed.layers[1].main, everything.layers[1].main
    assert isinstance(kept, KVState) and isinstance(every, KVState)
    assert [x.shape[1] for x in every.keys] == [4, 3, 3] and [x.shape[1] for x in kept.keys] == [4, 3]
    assert torch.equal(kept.keys[0], every.keys[0]) and torch.equal(kept.values[1], every.values[2])


def test_without_a_window_softmax_blocks_keep_all_keys_and_scans_still_do_not_grow():
    network, inputs = random_network(HYBRID), random_inputs(HYBRID, 10)
    cache, sizes = network.new_cache(2), []
    for bound in pairwise([0, 4, 7, 10]):
        network(**frames_of(inputs, *bound), cache=cache, write=True)
        held = sum(x.numel() * x.element_size() for name, x in cache.tensors() if not name.startswith("1."))
        sizes.append((held, cache.nbytes() - held))
    (first, _), (second, less), (third, more) = sizes
    assert first == second == third and less < more


def test_copies_stand_for_themselves():
    network, inputs = random_network(HYBRID).requires_grad_(), random_inputs(HYBRID, 4)
    _, cache = stream(network, inputs, [0, 4], Mask())
    assert any(x.requires_grad for _, x in cache.tensors())
    detached, copy, narrow = cache.detach(), cache.clone(), cache.to(torch.float32)
    assert not any(x.requires_grad for _, x in detached.tensors())
    assert all(x.dtype == torch.float32 for _, x in narrow.tensors())
    assert narrow.nbytes() * 2 == cache.nbytes()
    assert detached.frame == copy.frame == narrow.frame == 4
    names = [name for name, _ in cache.tensors()]
    assert names == [name for name, _ in copy.tensors()] and len(set(names)) == len(names)
    with torch.no_grad():
        next(copy.tensors())[1].add_(1)
    assert not torch.equal(next(copy.tensors())[1], next(cache.tensors())[1])


def test_another_file_is_no_stream(tmp_path: Path):
    save_file({"x": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"other\.safetensors: not a saved stream"):
        ModelState.load(tmp_path / "other.safetensors")
