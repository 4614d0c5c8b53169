"""The whole network at a tiny size: what its frames see, and what may change without changing its numbers.

Agreement with the released model is the business of the golden files; streams are tested with their cache.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from model.config import DiTConfig
from model.dit import SanaWM
from model.gdn import frame_gdn
from model.mask import Mask
from tests.model.networks import frames_of, random_inputs, random_network

HYBRID = DiTConfig(depth=3, width=48, heads=3, latent_channels=4, caption_channels=6, caption_length=5,
                   mlp_ratio=2.0, softmax_blocks=(1,), plucker_channels=12)
EXACT = 1e-10


@pytest.fixture(scope="module")
def network() -> SanaWM:
    return random_network(HYBRID)


def gap(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape and expected.std() > 0.2
    return float((found - expected).abs().max())


def gradients(network: SanaWM, inputs: dict[str, Any], weight: Tensor, **options: Any) -> list[Tensor]:
    """Of a weighted sum of the first frames of the velocity, in latents, cameras and all parameters."""
    leaves = [inputs[name].detach().requires_grad_() for name in ("latents", "plucker", "caption")]
    given = inputs | dict(zip(("latents", "plucker", "caption"), leaves))
    velocity = network(**given, **options)[:, :, : weight.shape[2]]
    found = torch.autograd.grad((velocity * weight).sum(), [*leaves, *network.parameters()],
                                allow_unused=True, materialize_grads=True)
    return [gradient.narrow(2, 0, weight.shape[2]) if i < 2 else gradient for i, gradient in enumerate(found)]


@pytest.mark.parametrize("rule", ["first_chunk_plus_one", "uniform"])
def test_a_chunk_as_long_as_the_clip_is_the_bidirectional_pass(network: SanaWM, rule: str):
    inputs = random_inputs(HYBRID, 5)
    for size in (5, 8):
        mask = Mask.chunk_causal(5, size, rule)
        assert mask == Mask.bidirectional()
        assert torch.equal(network(**inputs, mask=mask), network(**inputs))
    assert gap(network(**inputs, mask=Mask((0, 2))), network(**inputs)) > 1e-3


def test_frames_see_their_chunk_and_the_past_and_nothing_later(network: SanaWM):
    inputs, mask = random_inputs(HYBRID, 8), Mask((0, 3, 5))
    plain = network(**inputs, mask=mask)
    for start, end in mask.bounds(8):
        changed = {name: value.clone() for name, value in inputs.items()}
        last = frames_of(changed, end - 1, end)         # views
        last["latents"].neg_()
        last["plucker"].neg_()
        last["timesteps"].copy_(1000 - last["timesteps"])
        last["camera_conditions"][..., 3] += 0.7        # x of the camera
        moved = (network(**changed, mask=mask) - plain).abs().amax((0, 1, 3, 4))
        assert not moved[:start].any() and (moved[start:] > 1e-6).all()


@pytest.mark.parametrize("starts", [(0,), (0, 2)])
def test_padding_changes_neither_valid_frames_nor_a_gradient(network: SanaWM, starts: tuple[int, ...]):
    frames, padded = 4, random_inputs(HYBRID, 7)
    inputs, mask = frames_of(padded, 0, frames), Mask(starts)
    valid = (torch.arange(7) < frames).expand(2, 7).to(torch.float64)
    expected = network(**inputs, mask=mask)
    found = network(**padded, mask=mask, frame_valid=valid)
    assert gap(found[:, :, :frames], expected) < EXACT
    assert gap(network(**padded, mask=mask)[:, :, :frames], expected) > 1e-3
    learner = random_network(HYBRID).requires_grad_()
    weight = random_inputs(HYBRID, frames, seed=1)["latents"]
    pairs = zip(gradients(learner, padded, weight, mask=mask, frame_valid=valid),
                gradients(learner, inputs, weight, mask=mask))
    assert all((a - b).abs().max() < EXACT * (1 + b.abs().max()) for a, b in pairs)


def test_all_frames_valid_is_no_mask(network: SanaWM):
    inputs = random_inputs(HYBRID, 4)
    assert gap(network(**inputs, frame_valid=torch.ones(2, 4)), network(**inputs)) < EXACT


def test_turning_the_world_changes_nothing(network: SanaWM):
    inputs = random_inputs(HYBRID, 4)
    conditions = inputs["camera_conditions"]
    poses, intrinsics = conditions[..., :16].unflatten(-1, (4, 4)), conditions[..., 16:]
    turn = torch.eye(4, dtype=torch.float64)
    turn[:3, :3] = poses[0, 2, :3, :3]
    turned = torch.cat([(turn @ poses).flatten(-2), intrinsics], -1)
    still = torch.cat([poses[:, :1].expand_as(poses).flatten(-2), intrinsics], -1)
    assert gap(turned, conditions) > 0.1
    assert gap(network(**(inputs | {"camera_conditions": turned})), network(**inputs)) < 1e-9
    assert gap(network(**(inputs | {"camera_conditions": still})), network(**inputs)) > 1e-3


def test_samples_of_a_batch_do_not_meet(network: SanaWM):
    inputs = random_inputs(HYBRID, 4)
    alone = {name: value[1:] for name, value in inputs.items()}
    assert gap(network(**alone), network(**inputs)[1:]) < EXACT


def test_one_timestep_stands_for_those_of_all_frames_and_fractions_are_cut_off(network: SanaWM):
    inputs = random_inputs(HYBRID, 3)
    every = network(**(inputs | {"timesteps": torch.tensor([[741.0] * 3, [12.0] * 3])}))
    assert torch.equal(network(**(inputs | {"timesteps": torch.tensor([741.9, 12.5])})), every)


def test_masked_words_are_not_read(network: SanaWM):
    inputs = random_inputs(HYBRID, 3)
    changed = inputs["caption"].clone()
    changed[1, 3:] += 5                             # `caption_mask` of the second sample ends there
    assert gap(network(**(inputs | {"caption": changed})), network(**inputs)) < EXACT
    assert gap(network(**(inputs | {"caption": changed, "caption_mask": None})), network(**inputs)) > 1e-4


def test_the_key_scale_is_a_factor_of_the_keys():
    """ReLU keeps a factor, so the same factor in the norms before it gives the same network."""
    inputs, tokens, width = random_inputs(HYBRID, 4), 2 * 3, HYBRID.head_width
    velocities = {}
    for scale, factor in (("dim_spatial", (width * tokens) ** -0.5), ("dim", width ** -0.5), ("none", 1.0)):
        scaled = random_network(replace(HYBRID, key_scale=scale))
        velocities[scale] = scaled(**inputs)
        assert scaled.config.scaled_key(tokens) == factor
        plain = random_network(replace(HYBRID, key_scale="none"))
        for block in (plain.blocks[0], plain.blocks[2]):
            block.attn.k_norm.weight.mul_(factor)
            block.attn.k_norm_cam.weight.mul_(factor)
        assert gap(plain(**inputs), velocities[scale]) < 1e-9
    assert gap(velocities["dim"], velocities["dim_spatial"]) > 1e-3
    single = random_inputs(HYBRID, 4, (1, 1))
    assert torch.equal(*(random_network(replace(HYBRID, key_scale=scale))(**single)
                         for scale in ("dim", "dim_spatial")))


def test_the_released_key_scale_bounds_the_scan_and_none_does_not():
    q, k, v = (torch.rand(1, 40, 24, 3, 16, generator=torch.Generator().manual_seed(i)) for i in range(3))
    beta, decay = torch.full((1, 40, 24, 3), 0.9), torch.full((1, 40, 3), 0.99)
    sizes = {}
    for scale in ("dim_spatial", "none"):
        keys = k * replace(HYBRID, key_scale=scale).scaled_key(24)
        sizes[scale] = frame_gdn(q, keys, v, beta, decay)[0].abs().max()
    assert sizes["dim_spatial"] < 100 and not sizes["none"] < 1e20


def test_in_bfloat16_the_network_is_finite_and_near():
    network, inputs = random_network(HYBRID, torch.float32), random_inputs(HYBRID, 6, dtype=torch.float32)
    expected = network(**inputs)
    found = network.to(torch.bfloat16)(**inputs)
    assert found.dtype == torch.bfloat16 and found.isfinite().all()
    error = (found.float() - expected).std() / expected.std()
    assert 1e-4 < error < 0.05


@pytest.mark.slow
def test_the_network_compiles_as_one_graph():
    torch.compiler.reset()
    config = replace(HYBRID, depth=2)
    network, inputs = random_network(config, torch.float32), random_inputs(config, 5, dtype=torch.float32)
    compiled, mask = torch.compile(network, fullgraph=True, backend="eager"), Mask((0, 2))
    whole, cache = network(**inputs, mask=mask), network.new_cache(2)
    assert gap(compiled(**inputs, mask=mask), whole) < 1e-5
    network(**frames_of(inputs, 0, 2), cache=cache, write=True)
    second = compiled(**frames_of(inputs, 2, 5), cache=cache, write=True)
    assert cache.frame == 5 and gap(second, whole[:, :, 2:]) < 1e-5
