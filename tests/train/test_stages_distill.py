"""Distillation and the refiner through the trainer: each stage from the network of the one before."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file

from dataset.latents import latent_sets, latent_store, read_null_text, read_set
from dataset.store import Store
from model.dit import SanaWM
from model.refiner import Refiner, RefinerConfig
from model.refiner_lora import FILE
from tests.train.clips import REFINER
from tests.train.conftest import losses

STEPS = 20
SHORT = {"ode__chunk": 1, "ode__steps": 2, "self_forcing__chunk": 1}  # two chunks of the clips' three frames


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def go(chain: Path, settings, train) -> Callable[..., str]:
    """Run a stage, which must end well; what was said."""
    def run(stage: str, before: str, name: str | None = None, **others: object) -> str:
        start = "scratch" if before == "scratch" else str(chain / before)
        given = {"steps": STEPS, "self_forcing__teacher": str(chain / "minute"), **SHORT, **others}
        code, said = train(settings(chain / (name or stage), stage=stage, start=start, **given))
        assert code == 0, said
        return said

    return run


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_the_networks_that_distillation_starts_from(go) -> None:
    go("minute", "scratch", steps=2)
    go("chunk_causal", "minute", steps=2)


def test_the_warm_up_stores_each_clips_path_once_and_learns_from_it(chain: Path, go) -> None:
    go("ode_init", "chunk_causal")
    assert len(losses(chain / "ode_init")) == STEPS
    assert len(list((chain / "ode_init" / "paths").glob("*.safetensors"))) == 9
    # the same noise levels, the same paths: what is left is what was learnt
    assert sum(losses(chain / "ode_init")[-5:]) < sum(losses(chain / "ode_init")[:5])
    go("ode_init", "chunk_causal", name="ode_again", steps=3, ode__paths=str(chain / "ode_init" / "paths"))
    assert losses(chain / "ode_again") == losses(chain / "ode_init")[:3]
    assert not (chain / "ode_again" / "paths").exists()


@pytest.mark.parametrize(("stage", "before"), [
    ("self_forcing", "ode_init"), ("self_forcing_long", "self_forcing")])
def test_self_forcing_trains_generator_and_critic_in_turns(stage: str, before: str, chain: Path, go) -> None:
    go(stage, before, data__frames=[17], optim__lr=1e-4)
    found = [line for line in lines(chain / stage) if "critic/loss" in line]
    assert len(found) == STEPS
    assert [line["step"] for line in found if "loss" in line and line["loss"] is not None] == [1, 6, 11, 16]
    assert {line["critic/lr"] for line in found} == {2e-6}
    made, began = (SanaWM.from_pretrained(chain / name / "export" / "network").state_dict()
                   for name in (stage, before))
    changed = [name for name in made if not torch.equal(made[name], began[name])]
    assert len(changed) > len(made) / 2


def test_a_run_of_three_networks_goes_on_as_if_it_had_never_stopped(chain: Path, go) -> None:
    go("self_forcing", "ode_init", name="whole", steps=7)
    go("self_forcing", "ode_init", name="stopped", steps=4)
    go("self_forcing", "ode_init", name="stopped", steps=7)
    kept = ("loss", "grad_norm", "critic/loss", "critic/grad_norm")
    whole, stopped = ([{key: line.get(key) for key in kept} for line in lines(chain / name)]
                      for name in ("whole", "stopped"))
    assert len(whole) == 7 and stopped == whole


@pytest.mark.parametrize(("stage", "others", "message"), [
    ("ode_init", {"start": None}, "stage ode_init continues a network of stage chunk_causal"),
    ("self_forcing", {"self_forcing__teacher": None}, "self_forcing.teacher is missing"),
    ("self_forcing", {"self_forcing__teacher": "chunk_causal"},
     "a run of stage chunk_causal, expected one of stage minute or sft"),
    ("ode_init", {"data__frames": [9, 17]}, "expected one number and crop"),
    ("refiner", {"start": None}, "stage refiner adapts the multi-step LTX-2"),
    ("refiner", {"validate__every": 1, "validate__where": "clip_id is null"}, "refiner has no validation"),
    ("refiner", {"start": "nowhere"}, "there is no"),
])
def test_what_is_missing_is_named(
    stage: str, others: dict, message: str, chain: Path, settings, train,
) -> None:
    before = {"ode_init": "chunk_causal", "self_forcing": "ode_init", "refiner": "minute"}[stage]
    given = {"start": before, "self_forcing__teacher": "minute", **others}
    for key in ("start", "self_forcing__teacher"):
        given[key] = given[key] and str(chain / given[key])
    code, said = train(settings(chain / "refused", stage=stage, steps=1, **given))
    assert code == 2 and message in said, said


@pytest.fixture(scope="module")
def transformers(chain: Path, latents: Path) -> tuple[Path, Path]:
    """Folders of a multi-step and a distilled transformer that take the data set's latents and captions."""
    from diffusers import SanaWMLTX2RefinerTransformer3DModel
    store = Store(latents)
    space = read_set(latent_store(store, latent_sets(store)[0]))
    sizes = REFINER | {"in_channels": space.channels, "out_channels": space.channels,
                       "caption_channels": space.caption_channels}
    folders = chain / "multi_step", chain / "distilled"
    for seed, folder in enumerate(folders):
        torch.manual_seed(seed)
        SanaWMLTX2RefinerTransformer3DModel(**sizes).save_pretrained(folder / "transformer")
    return folders


def test_the_refiners_adapter_is_merged_into_the_distilled_transformer(
    chain: Path, latents: Path, transformers, settings, train,
) -> None:
    multi_step, distilled = transformers
    code, said = train(settings(chain / "refiner", stage="refiner", start=str(multi_step), steps=STEPS,
                                refiner__rank=2, refiner__distilled=str(distilled), optim__lr=0.02))
    assert code == 0, said
    assert sum(losses(chain / "refiner")[-5:]) < sum(losses(chain / "refiner")[:5])
    export = chain / "refiner" / "export" / "network"
    adapter = load_file(export / FILE)
    assert len(adapter) == REFINER["num_layers"] * 10 * 2
    saved = dcp.FileSystemReader(chain / "refiner" / "checkpoints" / f"step-{STEPS:08d}")
    kept = saved.read_metadata().state_dict_metadata
    assert kept and all("lora_" in name for name in kept), "frozen weights are in no checkpoint"
    merged = load_file(export / "transformer" / "diffusion_pytorch_model.safetensors")
    before = load_file(distilled / "transformer" / "diffusion_pytorch_model.safetensors")
    name = "transformer_blocks.1.ff.net.2"
    change = adapter[f"{name}.lora_B.weight"] @ adapter[f"{name}.lora_A.weight"]
    assert float(change.abs().max()) > 1e-3
    torch.testing.assert_close(merged[f"{name}.weight"].float(), before[f"{name}.weight"].float() + change,
                               rtol=0.02, atol=2e-3)  # stored as bfloat16

    refiner = Refiner.from_pretrained(export, RefinerConfig(), dtype=torch.float32)
    store = Store(latents)
    text = read_null_text(latent_store(store, latent_sets(store)[0]))
    states, mask = torch.from_numpy(text.states)[None].float(), torch.from_numpy(text.mask)[None]
    refined = refiner.refine(torch.randn(1, refiner.network.channels, 4, 2, 3), states, mask)
    assert bool(refined.isfinite().all())
