"""Where training starts: each rule by its numbers, and what a base model's tensors become."""

import math
from dataclasses import replace
from fnmatch import fnmatchcase

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.config import DiTConfig
from model.dit import SanaWM
from model.initialise import initialise, start_from_base
from model.mask import Mask
from tests.model.networks import random_inputs, random_network

CONFIG = DiTConfig(depth=2, width=96, heads=3, latent_channels=5, caption_channels=40, caption_length=30,
                   softmax_blocks=(1,), plucker_channels=12)
NEW = ("plucker_embedder.*", "raymap_embedder.*", "blocks.*.plucker_proj.*", "*_cam.*", "*.conv_k.weight",
       "*.A_log", "*.dt_bias", "*.beta_proj.*", "*.gate_proj.*", "*.output_gate.*", "*.recall_gate")


def fresh(config: DiTConfig = CONFIG, seed: int = 3) -> SanaWM:
    network = random_network(config, torch.float32)          # every tensor must be filled anew
    initialise(network, torch.Generator().manual_seed(seed))
    return network


TENSORS = fresh().state_dict()


def named(*patterns: str) -> list[Tensor]:
    found = [tensor for name, tensor in TENSORS.items() if any(fnmatchcase(name, p) for p in patterns)]
    assert found, patterns
    return found


def assert_uniform(tensor: Tensor, bound: float) -> None:
    assert 0.9 * bound < tensor.abs().max() <= bound
    assert math.isclose(float(tensor.std()), bound / math.sqrt(3), rel_tol=0.15)


def assert_normal(tensor: Tensor, std: float) -> None:
    assert math.isclose(float(tensor.std()), std, rel_tol=0.1) and tensor.abs().max() > 2 * std


@pytest.mark.parametrize("pattern, value", [
    ("*.A_log", 0.0), ("*.dt_bias", -5.0), ("*.beta_proj.weight", 0.0), ("*.beta_proj.bias", 5.0),
    ("*.gate_proj.*", 0.0), ("*.output_gate.weight", 0.0), ("*.output_gate.bias", 1.278464542761074),
    ("*.t_conv.weight", 0.0), ("*.out_proj_cam.*", 0.0), ("plucker_embedder.*", 0.0), ("*.recall_gate", 0.0),
    ("attention_y_norm.weight", 0.01), ("blocks.*norm*.weight", 1.0),
    ("*.proj.bias", 0.0), ("*_proj_cam.bias", 0.0), ("blocks.*.plucker_proj.bias", 0.0),
    ("*.q_linear.bias", 0.0), ("*.kv_linear.bias", 0.0), ("final_layer.linear.bias", 0.0),
    ("t_embedder.mlp.*.bias", 0.0), ("t_block.1.bias", 0.0), ("y_embedder.y_proj.*.bias", 0.0),
])
def test_what_starts_at_one_number(pattern: str, value: float):
    assert all((tensor == torch.tensor(value)).all() for tensor in named(pattern))


@pytest.mark.parametrize("pattern", [
    "*.attn.qkv.weight", "*.attn.proj.weight", "*.q_linear.weight", "*.kv_linear.weight",
    "*.cross_attn.proj.weight", "*.plucker_proj.weight", "final_layer.linear.weight",
    "x_embedder.proj.weight"])
def test_linear_layers_start_xavier_uniform(pattern: str):
    for tensor in named(pattern):
        assert_uniform(tensor, math.sqrt(6 / sum(tensor.flatten(1).shape)))


@pytest.mark.parametrize("pattern, fan_in", [
    ("*.inverted_conv.conv.*", 96), ("*.depth_conv.conv.*", 9), ("*.point_conv.conv.weight", 288)])
def test_convolutions_of_the_feed_forward_start_as_in_torch(pattern: str, fan_in: int):
    for tensor in named(pattern):
        assert_uniform(tensor, fan_in ** -0.5)


@pytest.mark.parametrize("pattern, std", [
    ("t_embedder.mlp.*.weight", 0.02), ("t_block.1.weight", 0.02), ("y_embedder.y_proj.*.weight", 0.02),
    ("*scale_shift_table", 96 ** -0.5), ("y_embedder.y_embedding", 40 ** -0.5)])
def test_conditioning_starts_normal(pattern: str, std: float):
    for tensor in named(pattern):
        assert_normal(tensor, std)


def test_short_convolutions_start_as_the_identity():
    for tensor in named("*.conv_k.weight", "*.conv_k_cam.weight"):
        assert tensor.shape == (96, 1, 4) and (tensor == torch.tensor([0.0, 0.0, 0.0, 1.0])).all()
    network, k = fresh(), torch.randn(2, 6, 4, 96)
    assert torch.equal(network.blocks[0].attn.conv_k(k, Mask((0, 2))), k)


def test_gates_start_where_the_paper_has_them():
    gates = fresh().blocks[0].attn.gates(torch.randn(2, 5, 4, 96), None)
    assert torch.allclose(gates.beta, torch.tensor(5.0).sigmoid())
    assert torch.allclose(gates.decay, torch.tensor(0.9933), atol=1e-4)
    assert torch.allclose(F.silu(torch.tensor(1.278464542761074)), torch.tensor(1.0))


def test_the_camera_branch_starts_as_a_copy_of_the_main_one_and_silent():
    for i in range(2):
        attention = fresh().blocks[i].attn
        q, k, v = attention.qkv.weight.chunk(3)
        for copy, source in ((attention.q_proj_cam, q), (attention.k_proj_cam, k), (attention.v_proj_cam, v)):
            assert torch.equal(copy.weight, source) and not copy.bias.any()
    network, inputs = fresh(), random_inputs(CONFIG, 4, dtype=torch.float32)
    told = network(**inputs)
    assert told.std() > 0.1
    assert torch.equal(told, network(**(inputs | {"camera_conditions": None, "plucker": None})))


def test_of_the_pluecker_pair_exactly_one_is_zero_and_both_learn():
    network, inputs = fresh().requires_grad_(), random_inputs(CONFIG, 4, dtype=torch.float32)
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (network(**inputs) - 1).square().mean().backward()
        optimizer.step()
    block = network.blocks[0]
    assert network.plucker_embedder.proj.weight.any() and block.plucker_proj.weight.grad.any()
    assert block.attn.out_proj_cam.weight.any() and block.attn.q_proj_cam.weight.grad.any()


def test_the_same_seed_gives_the_same_network_and_a_network_is_made_initialised():
    again, other = fresh().state_dict(), fresh(seed=4).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in TENSORS.items())
    assert not torch.equal(other["blocks.1.attn.qkv.weight"], TENSORS["blocks.1.attn.qkv.weight"])
    made = []
    for _ in range(2):
        torch.manual_seed(5)
        made.append(SanaWM(CONFIG).state_dict())
    assert all(torch.equal(tensor, made[1][name]) for name, tensor in made[0].items())
    constant = [name for name, tensor in TENSORS.items() if tensor.unique().numel() == 1]
    assert len(constant) > 60 and all(torch.equal(TENSORS[name], made[0][name]) for name in constant)


def base_of(network: SanaWM) -> dict[str, Tensor]:
    """What a cumulative-linear video model of the same sizes holds."""
    return {name: tensor.clone() for name, tensor in network.state_dict().items()
            if not any(fnmatchcase(name, pattern) for pattern in NEW)}


def test_a_base_model_is_taken_over_and_the_new_layers_start_beside_it():
    base = base_of(random_network(CONFIG, torch.float32, seed=1)) | {"pos_embed": torch.zeros(1, 3, 96)}
    network = random_network(CONFIG, torch.float32, seed=2)
    report = start_from_base(network, base, generator=torch.Generator().manual_seed(3))
    tensors = network.state_dict()
    assert set(report.loaded) | {"pos_embed"} == base.keys() and report.unused == ("pos_embed",)
    assert sorted(report.loaded + report.anew) == sorted(tensors)
    assert all(any(fnmatchcase(name, pattern) for pattern in NEW) for name in report.anew)
    assert all(torch.equal(tensors[name], base[name]) for name in report.loaded)
    for name in report.anew:
        if not name.endswith(("_proj_cam.weight", "_norm_cam.weight")) or "out_proj" in name:
            assert torch.equal(tensors[name], TENSORS[name]), name
    for block in network.blocks:
        main = block.attn.qkv.weight.chunk(3)
        camera = (block.attn.q_proj_cam.weight, block.attn.k_proj_cam.weight, block.attn.v_proj_cam.weight)
        assert all(torch.equal(x, y) for x, y in zip(camera, main))
        assert torch.equal(block.attn.q_norm_cam.weight, block.attn.q_norm.weight)
        assert torch.equal(block.attn.k_norm_cam.weight, block.attn.k_norm.weight)


def test_a_base_of_another_latent_space_is_refused_until_that_is_named():
    base = base_of(random_network(replace(CONFIG, latent_channels=7), torch.float32))
    network, latents = random_network(CONFIG, torch.float32), ("x_embedder.*", "final_layer.linear.*")
    with pytest.raises(ValueError) as error:
        start_from_base(network, base)
    assert "3 misshapen: final_layer.linear.bias (7,) for (5,), final_layer.linear.weight" in str(error.value)
    assert "x_embedder.proj.weight (96, 7, 1, 1, 1) for (96, 5, 1, 1, 1)" in str(error.value)
    report = start_from_base(network, base, anew=latents)
    assert {"x_embedder.proj.weight", "final_layer.linear.bias"} <= set(report.anew) & set(report.unused)
    assert_uniform(network.x_embedder.proj.weight, math.sqrt(6 / (96 + 5)))


def test_a_base_that_lacks_what_every_base_has_is_refused():
    base = base_of(random_network(CONFIG, torch.float32))
    del base["blocks.1.attn.qkv.weight"]
    network = random_network(CONFIG, torch.float32)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(ValueError, match=r"1 missing: blocks\.1\.attn\.qkv\.weight\n.*`anew`"):
        start_from_base(network, base)
    with pytest.raises(ValueError, match="base model: its tensors"):
        start_from_base(network, {"model.blocks.0.attn.qkv.weight": torch.zeros(1)})
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


def test_softmax_takes_the_place_of_scans_and_the_camera_branch_follows_what_was_learned():
    """Stage 2 of the paper on stage 1: the convolutions of blocks that scan no more have no place."""
    first = random_network(replace(CONFIG, softmax_blocks=()), torch.float32, seed=1).state_dict()
    second = random_network(CONFIG, torch.float32, seed=2)
    report = start_from_base(second, first, anew=["*_cam.*"])
    assert {name for name in report.unused if "_cam." not in name} == {"blocks.1.attn.conv_k.weight"}
    assert report.anew and all("_cam." in name for name in report.anew)
    attention = second.blocks[0].attn
    assert torch.equal(attention.conv_k_cam.weight, first["blocks.0.attn.conv_k.weight"])
    assert torch.equal(attention.v_proj_cam.weight, first["blocks.0.attn.qkv.weight"].chunk(3)[2])
    assert not attention.out_proj_cam.weight.any()
