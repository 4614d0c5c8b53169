"""What is wrong is said in a sentence that tells what to do, before any training."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

import conf
from dataset.lock import DatasetLock
from dataset.store import Store
from tests.tiny_dataset import write_latent_set, write_video_set
from tests.train.conftest import overrides
from train import folder
from train.config import TrainConfig


@pytest.fixture(scope="module")
def other_codec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As the common data set, in another latent space."""
    place = tmp_path_factory.mktemp("other")
    write_latent_set(write_video_set(place, clips=2), codec="dct16")
    return place


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, latents: Path) -> Path:
    """Finished runs of two stages."""
    from train.run import run

    place = tmp_path_factory.mktemp("runs")
    for stage in ("vae_adapt", "gdn"):
        given = overrides(latents, place / stage, stage=stage, steps=1)
        assert run(conf.load(TrainConfig, "train", given)) == 0
    return place


def test_a_stage_that_needs_a_predecessor_says_which(settings, train, tmp_path) -> None:
    code, said = train(settings(tmp_path / "run", stage="minute", start=None))
    assert code == 2
    assert "stage minute continues a network of stage hybrid: give start=" in said
    assert not (tmp_path / "run").exists()


def test_a_run_of_another_stage_is_no_predecessor(settings, train, tmp_path, runs) -> None:
    code, said = train(settings(tmp_path / "run", stage="minute", start=str(runs / "gdn")))
    assert code == 2 and "a run of stage gdn, expected one of stage hybrid" in said


def test_no_data_set_and_no_latents(settings, train, tmp_path) -> None:
    code, said = train(settings(tmp_path / "run", stage="gdn", data__path=str(tmp_path / "nothing")))
    assert code == 2 and str(tmp_path / "nothing") in said
    write_video_set(tmp_path / "video", clips=1)
    code, said = train(settings(tmp_path / "run", stage="gdn", data__path=str(tmp_path / "video")))
    assert code == 2 and "python -m pipelines.latents" in said


def test_no_clip_of_the_wanted_length(settings, train, tmp_path) -> None:
    code, said = train(settings(tmp_path / "run", stage="gdn", data__frames=[961]))
    assert code == 2 and "shorter than 961 frames" in said


def test_another_codec_names_both(settings, train, tmp_path, runs, other_codec, latents) -> None:
    code, said = train(settings(tmp_path / "run", stage="hybrid", start=str(runs / "gdn"),
                                data__path=str(other_codec)))
    about = json.loads((runs / "gdn" / "about.json").read_text())
    assert code == 2 and about["space"]["codec_fingerprint"] in said and "dct16" in said
    assert "stage=vae_adapt" in said


def test_weights_of_another_shape(settings, train, tmp_path, runs, latents) -> None:
    write_latent_set(write_video_set(tmp_path / "data", clips=2), text=(16, 32))
    code, said = train(settings(tmp_path / "run", stage="hybrid", data__path=str(tmp_path / "data"),
                                start=str(runs / "gdn" / "export" / "network")))
    assert code == 2 and "a network of 24 channels of captions, data holds 32" in said


def test_a_checkpoint_with_other_tensors_is_not_continued(settings, train, tmp_path, runs) -> None:
    code, said = train(settings(runs / "gdn", stage="gdn", steps=2, ema__decay=0.9))
    assert code == 2 and "missing: network/ema/" in said and "choose another out" in said


def test_a_run_is_continued_as_what_it_was(settings, train, runs) -> None:
    code, said = train(settings(runs / "gdn", stage="hybrid"))
    assert code == 2 and "holds a run with stage=gdn, asked for stage=hybrid" in said
    code, said = train(settings(runs / "gdn", stage="gdn", seed=3))
    assert code == 2 and "seed=0, asked for seed=3" in said


def test_two_runs_do_not_share_a_folder(settings, train, runs, monkeypatch) -> None:
    monkeypatch.setattr(folder, "PATIENCE_S", 0.5)
    with DatasetLock(Store(runs / "gdn")):
        code, said = train(settings(runs / "gdn", stage="gdn", steps=2))
    assert code == 2 and "is being written by another run" in said


def test_more_processes_a_clip_than_there_are(settings, train, tmp_path) -> None:
    code, said = train(settings(tmp_path / "run", stage="gdn", parallel__context=2))
    assert code == 2 and "parallel.context=2 with 1 processes" in said


def test_a_logger_that_is_not_installed_is_named(settings, train, tmp_path) -> None:
    if importlib.util.find_spec("wandb"):
        pytest.skip("wandb is installed")
    code, said = train(settings(tmp_path / "run", stage="gdn", log__wandb="project"))
    assert code == 2 and "pip install wandb" in said


@pytest.mark.parametrize(("setting", "value"), [
    ("optim__clip", 0), ("flow__first_frame", 1.5), ("flow__chunk", 0), ("parallel__compute", "half"),
    ("checkpoint__keep", 0), ("plan__mfu", 0), ("model__preset", "huge"), ("accumulate", 0),
    ("flow__chunk_mix", [0.5, 0.5, 0.5, 0]), ("validate__every", 5), ("launcher", "slurm"),
    ("stage__softmax", "some"),
])
def test_a_wrong_value_is_refused_by_its_key(setting: str, value: object, settings, train, tmp_path) -> None:
    code, said = train(settings(tmp_path / "run", stage="gdn", **{setting: value}))
    assert code == 2
    assert setting.replace("__", ".").split("validate")[0] in said or "validate.where" in said
