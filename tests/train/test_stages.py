"""Every stage trains from the network of the one before, and says what it initialised anew."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model.dit import SanaWM
from tests.train.conftest import losses

CHAIN = ("vae_adapt", "gdn", "hybrid", "minute", "sft", "chunk_causal")
STEPS = 20


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.mark.parametrize("stage", CHAIN)
def test_a_stage_trains_from_the_one_before(stage: str, chain: Path, settings, train) -> None:
    before = CHAIN[CHAIN.index(stage) - 1] if stage != CHAIN[0] else None
    code, said = train(settings(chain / stage, stage=stage, steps=STEPS,
                                start=str(chain / before) if before else "scratch"))
    assert code == 0, said
    assert len(losses(chain / stage)) == STEPS
    network = SanaWM.from_pretrained(chain / stage / "export" / "network")
    softmax = (1,) if stage in ("hybrid", "minute", "sft", "chunk_causal") else ()
    assert network.config.softmax_blocks == softmax
    assert all(bool(tensor.isfinite().all()) for tensor in network.state_dict().values())


def test_hybrid_keeps_projections_and_leaves_the_convolution_behind(chain: Path, settings, train) -> None:
    code, said = train(settings(chain / "hybrid_0", stage="hybrid", steps=1, start=str(chain / "gdn"),
                                optim__lr=0.0))
    assert code == 0, said
    earlier = SanaWM.from_pretrained(chain / "gdn" / "export" / "network").state_dict()
    now = SanaWM.from_pretrained(chain / "hybrid_0" / "export" / "network").state_dict()
    assert set(earlier) - set(now) == {"blocks.1.attn.conv_k.weight", "blocks.1.attn.conv_k_cam.weight"}
    assert all(torch.equal(earlier[name], tensor) for name, tensor in now.items())
    assert "left behind: blocks.1.attn.conv_k.weight, blocks.1.attn.conv_k_cam.weight" in said


def test_minute_begins_its_camera_branch_as_a_copy_behind_a_silent_output(
    chain: Path, settings, train,
) -> None:
    code, said = train(settings(chain / "minute_0", stage="minute", steps=1, start=str(chain / "hybrid"),
                                optim__lr=0.0))
    assert code == 0, said
    network = SanaWM.from_pretrained(chain / "minute_0" / "export" / "network")
    attention = network.blocks[0].attn
    assert torch.equal(attention.q_proj_cam.weight, attention.qkv.weight[: network.config.width])
    assert not attention.out_proj_cam.weight.any()
    assert not network.plucker_embedder.proj.weight.any()
    assert "initialised anew" in said and "blocks.*.attn.q_proj_cam.weight (2)" in said


def test_another_latent_space_gives_new_outer_layers_alone(chain: Path, settings, train) -> None:
    code, said = train(settings(chain / "adapt_again", stage="vae_adapt", steps=1, start=str(chain / "gdn"),
                                optim__lr=0.0, seed=1))
    assert code == 0, said
    earlier = SanaWM.from_pretrained(chain / "gdn" / "export" / "network").state_dict()
    now = SanaWM.from_pretrained(chain / "adapt_again" / "export" / "network").state_dict()
    changed = {name for name in now if not torch.equal(earlier[name], now[name])}
    anew = {f"{layer}.{part}" for layer in ("x_embedder.proj", "final_layer.linear")
            for part in ("weight", "bias")}
    assert changed == anew
    assert all(name in said for name in anew)


def test_a_base_video_model_lends_what_it_has(settings, train, tmp_path) -> None:
    """A file of weights without the new layers, of another latent space, and without a configuration."""
    code, said = train(settings(tmp_path / "other", stage="gdn", steps=1))
    assert code == 0, said
    own = SanaWM.from_pretrained(tmp_path / "other" / "export" / "network").state_dict()
    new = ("_cam.", "conv_k", "A_log", "dt_bias", "beta_proj", "gate_proj", "output_gate", "plucker",
           "raymap", "recall_gate")
    base = {name: tensor for name, tensor in own.items() if not any(part in name for part in new)}
    base["x_embedder.proj.weight"] = torch.zeros(24, 16, *own["x_embedder.proj.weight"].shape[2:])
    save_file(base, tmp_path / "base.safetensors")
    code, said = train(settings(tmp_path / "run", stage="vae_adapt", steps=1, optim__lr=0.0, seed=4,
                                start=str(tmp_path / "base.safetensors")))
    assert code == 0, said
    now = SanaWM.from_pretrained(tmp_path / "run" / "export" / "network").state_dict()
    changed = {name for name in base if not torch.equal(now[name], own[name])}
    assert changed == {"x_embedder.proj.weight", "x_embedder.proj.bias", "final_layer.linear.weight",
                       "final_layer.linear.bias"}
    assert "blocks.*.attn.qkv.weight" not in said.split("initialised anew")[1].split("left behind")[0]


@pytest.mark.parametrize("stage", CHAIN)
def test_everything_a_stage_trains_gets_a_gradient(stage: str, settings, latents, tmp_path) -> None:
    """And what gets none is not in the optimiser, which would keep means for it."""
    from dataset.loader.loader import Loader
    from train.data import resolve
    from train.objectives import Draws
    from train.stages import build_stage

    config = settings(tmp_path, stage=stage)
    data, space = resolve(config.data)
    built = build_stage(config, space)
    network = built.networks["network"].module
    with torch.no_grad():
        for name, p in network.named_parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(len(name))))
    draws = Draws(torch.Generator().manual_seed(1), torch.Generator().manual_seed(2))
    batch = next(iter(Loader(data)))
    built.objective.loss(built.networks, batch, draws, 0, "network").total.backward()
    idle = {name for name, p in network.named_parameters() if p.requires_grad and p.grad is None}
    assert not idle
    trained = sum(p.requires_grad for p in network.parameters())
    assert trained < len(list(network.parameters()))
