"""Which weights are meant: those given, those of a run of the trainer, those of the sampler."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from infer.load import LoadConfig, find_network, find_sources
from infer.pipeline import WorldModel
from infer.precision import Precision, PrecisionConfig
from infer.sampler import Kind, SamplerConfig
from model.dit import SanaWM
from tests.infer.conftest import SIZE


@pytest.fixture
def run(network: SanaWM, tmp_path: Path) -> Path:
    """A folder of `python -m train` whose run has ended."""
    about = {"stage": "self_forcing", "seed": 0, "space": {"codec": "dct32", "text": "hash"}}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "about.json").write_text(json.dumps(about))
    network.save_pretrained(tmp_path / "run" / "export" / "network")
    return tmp_path / "run"


def test_a_run_is_its_export_with_its_codec_and_text_encoder(run: Path, network: SanaWM, room: Path) -> None:
    sampler = SamplerConfig(kind=Kind.distilled, timesteps=[1000, 727, 0])
    for source in (run, run / "export" / "network"):
        found = find_sources(sampler, source)
        assert found.network == str(run / "export" / "network")
        assert (found.codec, found.text) == ("dct32", "hash")
    world = WorldModel.from_pretrained(run, sampler=sampler, device="cpu")
    assert torch.equal(world.network.x_embedder.proj.weight, network.x_embedder.proj.weight)
    assert world(room, "a room", "w-24", size=SIZE).frames.shape == (25, *SIZE, 3)


def test_the_mean_of_the_weights_comes_first_and_what_is_said_comes_before(run: Path) -> None:
    (run / "export" / "network").rename(run / "export" / "ema")
    found = find_sources(SamplerConfig(), run, codec="dct16", text="a/gemma")
    assert found.network == str(run / "export" / "ema")
    assert (found.codec, found.text) == ("dct16", "a/gemma")


def test_a_run_that_has_not_ended_is_refused(run: Path) -> None:
    (run / "export" / "network").rename(run / "elsewhere")
    with pytest.raises(ValueError, match="this run has not ended, it has no export/"):
        find_network(str(run))


def test_released_sources_are_those_of_the_sampler(tmp_path: Path) -> None:
    sampler = SamplerConfig(kind=Kind.distilled, model="a/net", codec="a/vae")
    assert find_sources(sampler).network == "a/net" and find_sources(sampler).codec == "a/vae"
    assert find_sources(sampler, tmp_path).network == str(tmp_path)
    streams = find_sources(sampler, refiner="ltx2")
    whole = find_sources(SamplerConfig(), refiner="ltx2")
    assert streams.refiner != whole.refiner and whole.refiner_text is None
    own = find_sources(sampler, refiner=str(tmp_path))
    assert own.refiner == own.connectors == str(tmp_path)


def test_a_trained_refiner_reads_prompts_as_the_released_one(run: Path) -> None:
    found = find_sources(SamplerConfig(), refiner=str(run))
    assert found.refiner == str(run / "export" / "network")
    assert found.connectors == find_sources(SamplerConfig(), refiner="ltx2").connectors


def test_rounded_weights_lead_to_nearly_the_same_video(
    run: Path, room: Path, make_world: Callable[..., WorldModel],
) -> None:
    sampler = SamplerConfig(kind=Kind.distilled, timesteps=[1000, 0])
    precision = PrecisionConfig(network=Precision.int8)
    exact, near = (WorldModel.from_pretrained(run, sampler=sampler, device="cpu", precision=how)
                   for how in (PrecisionConfig(), precision))
    request = exact.prepare(room, "a room", "w-24", size=SIZE)
    frames = [np.concatenate(list(world.generate(request))).astype(int) for world in (exact, near)]
    assert 0 < np.abs(frames[0] - frames[1]).mean() < 4


def test_types_and_devices_are_chosen_to_suit_each_other() -> None:
    assert LoadConfig(device="cpu").resolved() == (torch.device("cpu"), torch.float32)
    with pytest.raises(ValueError, match=r"precision\.network=fp8: needs a GPU"):
        LoadConfig(device="cpu", precision=PrecisionConfig(network=Precision.fp8)).resolved()
