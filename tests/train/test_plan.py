"""What a run would take, held against the published sizes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from model.config import DiTConfig
from model.dit import SanaWM
from model.mask import Mask
from model.refiner_lora import add_lora
from model.refiner_network import RefinerNetwork
from tests.model.networks import random_inputs
from tests.train.clips import REFINER, random_refiner
from train.flops import forward_flops, peak_flops, training_flops
from train.plan import BLOCK_TENSORS, REFINER_TENSORS


@pytest.mark.parametrize(("frames", "parts"), [  # products, softmax, scans, text in TFLOP
    (11, (46.6, 8.4, 0.55, 0.52)), (121, (512.9, 1015.9, 6.02, 5.72))])
def test_work_of_the_released_network(frames: int, parts: tuple[float, ...]) -> None:
    flops = forward_flops(DiTConfig(), (frames, 22, 40), 300, Mask.bidirectional())
    assert flops / 1e12 == pytest.approx(sum(parts), rel=1e-3)
    assert training_flops(flops) == 3 * flops


def test_chunks_see_about_half() -> None:
    config = DiTConfig()
    whole, chunks = (forward_flops(config, (121, 22, 40), 300, mask)
                     for mask in (Mask.bidirectional(), Mask.chunk_causal(121)))
    pairs = sum((end - start) * end for start, end in Mask.chunk_causal(121).bounds(121))
    assert whole - chunks == pytest.approx(1015.9e12 * (1 - pairs / 121**2), rel=1e-3)


def test_peaks_go_by_the_name_a_driver_gives() -> None:
    assert peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert peak_flops("NVIDIA GeForce RTX 4090") == 165e12
    assert peak_flops("unheard of") is None


def test_a_dry_run_prints_everything_and_makes_nothing(settings, train, tmp_path) -> None:
    config = settings(tmp_path / "run", stage="minute", dry_run=True, model__preset="2b6", data__path="",
                      data__frames=[961], parallel__context=2, parallel__device="auto", steps=31000)
    code, said = train(config)
    assert code == 0 and not (tmp_path / "run").exists()
    assert "31,000 updates of 32 clips of 961 frames" in said
    assert "2,661.80 M" in said and "camera branch              401.81 M" in said
    assert train(settings(tmp_path / "run", stage="minute", dry_run=True, data__path="", plan__gpus=1,
                          parallel__context=2))[0] == 2
    assert "GB" in said and "1,540.5 TFLOP a forward" in said and "2.8 days in all on 64 H100" in said


@pytest.mark.parametrize(("stage", "networks", "evaluations"), [
    ("ode_init", ["network", "teacher"], 3.0),
    # rollout 3.5, critic 3; every fifth step rollout 3.5, gradient 2, teacher twice and critic once
    ("self_forcing", ["network", "critic", "teacher"], 3.5 + 3 + (3.5 + 2 + 3) / 5)])
def test_stages_of_several_networks_are_planned(
    stage: str, networks: list[str], evaluations: float, settings, train, tmp_path,
) -> None:
    """In a clip of one chunk all evaluations cost the same."""
    config = settings(tmp_path / "run", stage=stage, dry_run=True, model__preset="2b6", data__path="",
                      parallel__context=1, plan__frames=17, plan__gpus=1, self_forcing__teacher="anywhere",
                      start=None)
    code, said = train(config)
    assert code == 0, said
    assert [line.split()[-1] for line in said.splitlines() if line.startswith("parameters of")] == networks
    assert said.count("2,661.80 M") == len(networks)
    forward, update = (float(said.split(unit)[0].split()[-1]) for unit in (" TFLOP a", " PFLOP an"))
    assert update * 1000 / forward == pytest.approx(evaluations, rel=0.05)
    assert ("when it is first met" in said) == (stage == "ode_init")


def test_the_refiner_is_planned_by_the_sizes_of_ltx2_or_of_what_it_starts_from(
    settings, train, tmp_path,
) -> None:
    config = settings(tmp_path / "run", stage="refiner", dry_run=True, data__path="", plan__gpus=1,
                      plan__frames=81, parallel__context=1, start=None, refiner__rank=384)
    code, said = train(config)
    assert code == 0 and not (tmp_path / "run").exists()
    assert "adapter                  1,962.93 M" in said and "all                     15,004.46 M" in said
    tokens, pairs, d = 11 * 880, (1 + 10 * 11) * 880**2, 4096
    products = 2 * tokens * (48 * 14 * d**2 + 1962.93e6)
    forward = float(said.split(" TFLOP a")[0].split()[-1])
    assert forward == pytest.approx((products + 48 * 4 * pairs * d) / 1e12, rel=0.02)  # and some for text
    random_refiner().transformer.save_pretrained(tmp_path / "small" / "transformer")
    code, said = train(settings(tmp_path / "run", stage="refiner", dry_run=True, data__path="", plan__gpus=1,
                                start=str(tmp_path / "small"), refiner__rank=3, parallel__context=1))
    assert code == 0 and "all                          0.0" in said


def test_maps_kept_for_the_gradient_of_a_block_are_as_many_as_the_plan_says() -> None:
    """Counted by what autograd saves of networks that differ by a block."""
    def kept(depth: int) -> float:
        config = DiTConfig(depth=depth, width=224, heads=2, latent_channels=16, caption_channels=16,
                           caption_length=10, softmax_blocks=())
        network = SanaWM(config)
        given = random_inputs(config, 3, (16, 20), torch.float32)
        return kept_maps(network, lambda: network(**given), given["latents"][:, 0].numel() * config.width)

    assert (kept(2) - kept(1)) == pytest.approx(BLOCK_TENSORS, rel=0.05)


def test_maps_kept_for_the_gradient_of_a_block_of_the_refiner_are_as_many() -> None:
    from diffusers import SanaWMLTX2RefinerTransformer3DModel

    def kept(depth: int) -> float:
        network = RefinerNetwork(SanaWMLTX2RefinerTransformer3DModel(**{
            **REFINER, "num_layers": depth, "num_attention_heads": 4, "attention_head_dim": 56,
            "cross_attention_dim": 224}))
        add_lora(network, 21)  # to the width as 384 to that of LTX-2
        text = network.read_text(torch.randn(1, 10, REFINER["caption_channels"]), torch.ones(1, 10))
        latents = torch.randn(1, network.channels, 3, 16, 20)
        rotary = network.rotary(range(3), (16, 20), 16.0)
        return kept_maps(network, lambda: network(latents, torch.tensor(0.5), rotary, text),
                         latents[:, 0].numel() * 224)

    assert (kept(3) - kept(2)) == pytest.approx(REFINER_TENSORS, rel=0.05)


def kept_maps(network: nn.Module, forward: Callable[[], object], size: int) -> float:
    """What autograd saves of a forward pass in float32 beside parameters, in maps of `size` numbers."""
    own = {tensor.untyped_storage().data_ptr() for tensor in network.state_dict().values()}
    sizes: dict[int, tuple[int, Tensor]] = {}

    def save(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in own:
            sizes[storage.data_ptr()] = storage.nbytes(), x  # held, so that no address comes twice
        return x

    with torch.autograd.graph.saved_tensors_hooks(save, lambda x: x):
        forward()
    return sum(bytes_of for bytes_of, _ in sizes.values()) / size / 4
