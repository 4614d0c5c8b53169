"""LoRA on the refiner: where it sits, that merging keeps the function, that a saved one comes back."""

from pathlib import Path
from typing import Any

import pytest
import torch

from model.refiner_lora import add_lora, load_lora, merge_lora, save_lora
from model.refiner_network import RefinerNetwork

LAYERS = 2


def make_network() -> RefinerNetwork:
    """With its audio half, to see that the adapter leaves it alone."""
    from diffusers import SanaWMLTX2RefinerTransformer3DModel
    torch.manual_seed(0)
    return RefinerNetwork(SanaWMLTX2RefinerTransformer3DModel(
        in_channels=6, out_channels=6, num_attention_heads=2, attention_head_dim=12, cross_attention_dim=24,
        audio_in_channels=4, audio_out_channels=4, audio_num_attention_heads=2, audio_attention_head_dim=6,
        audio_cross_attention_dim=12, num_layers=LAYERS, caption_channels=14))


def velocity(network: RefinerNetwork) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    text = network.read_text(torch.randn(1, 5, 14, generator=generator), torch.ones(1, 5))
    latents = torch.randn(1, 6, 3, 2, 2, generator=generator)
    return network(latents, torch.tensor(0.7), network.rotary(range(3), (2, 2), 16.0), text)[0]


def train(parameters: list[torch.nn.Parameter]) -> None:
    with torch.no_grad():
        for parameter in parameters:
            parameter += 0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2))


def test_it_sits_on_the_video_attention_and_feed_forward_alone() -> None:
    network = make_network()
    before = velocity(network)
    parameters = add_lora(network, rank=4)
    names = [name for name, _ in network.transformer.named_parameters() if "lora" in name]
    assert len(parameters) == len(names) == LAYERS * 10 * 2
    assert not [name for name in names if "audio" in name]
    assert torch.equal(velocity(network), before), "a new adapter has no effect"
    velocity(network).square().mean().backward()
    learning = [name for name, p in network.transformer.named_parameters() if p.requires_grad]
    assert learning == names and all(parameter.grad is not None for parameter in parameters)


def test_the_released_rank_is_two_billion_parameters() -> None:
    """In 48 layers, of which one is built here."""
    from diffusers import SanaWMLTX2RefinerTransformer3DModel
    with torch.device("meta"):
        network = RefinerNetwork(SanaWMLTX2RefinerTransformer3DModel(num_layers=1))
        parameters = add_lora(network)
    assert 48 * sum(parameter.numel() for parameter in parameters) == pytest.approx(1.96e9, rel=0.01)


@torch.no_grad()
def test_merged_weights_are_the_same_function() -> None:
    network = make_network()
    before, names = velocity(network), list(network.transformer.state_dict())
    train(add_lora(network, rank=4))
    adapted = velocity(network)
    assert (adapted - before).abs().max() > 1e-3
    merge_lora(network)
    assert list(network.transformer.state_dict()) == names
    assert torch.allclose(velocity(network), adapted, atol=1e-5)


@torch.no_grad()
def test_an_adapter_moves_to_another_network(tmp_path: Path) -> None:
    source, target = make_network(), make_network()
    train(add_lora(source, rank=4))
    save_lora(source, tmp_path)
    load_lora(target, tmp_path)
    assert torch.allclose(velocity(target), velocity(source), atol=1e-6)
    merge_lora(target)
    assert torch.allclose(velocity(target), velocity(source), atol=1e-5)


def test_mistakes_are_refused(tmp_path: Path) -> None:
    network = make_network()
    with pytest.raises(ValueError, match="no adapter to merge"):
        merge_lora(network)
    with pytest.raises(FileNotFoundError, match="holds no pytorch_lora_weights"):
        load_lora(network, tmp_path)
    add_lora(network, rank=2)
    with pytest.raises(ValueError, match="already has an adapter"):
        add_lora(network, rank=2)


def test_an_adapter_with_tensors_of_no_place_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file
    network = make_network()
    add_lora(network, rank=2)
    save_lora(network, tmp_path)
    path: Any = tmp_path / "pytorch_lora_weights.safetensors"
    tensors = load_file(path)
    tensors["transformer_blocks.7.attn1.to_q.lora_A.weight"] = torch.zeros(2, 24)
    tensors["transformer_blocks.7.attn1.to_q.lora_B.weight"] = torch.zeros(24, 2)
    save_file(tensors, path)
    with pytest.raises(ValueError, match=r"transformer_blocks\.7"):
        load_lora(make_network(), tmp_path)
