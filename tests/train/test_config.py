"""Every setting is read by the code, shown by --help, and kept in the run folder."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml

import conf
from conf.help import field_comments
from train.config import TrainConfig

REPOSITORY = Path(__file__).parents[2]
STAGES = sorted(path.stem for path in (REPOSITORY / "conf" / "stage").glob("*.yaml"))


def code() -> str:
    """Of the trainer and the loader, without the declarations of settings and their checks."""
    files = [*(REPOSITORY / "train").glob("*.py"), *(REPOSITORY / "dataset" / "loader").glob("*.py")]
    return "\n".join(path.read_text() for path in files if path.name != "config.py")


def test_each_setting_is_read() -> None:
    text = code()
    unread = [key for key, item in conf.flatten(TrainConfig)
              if not re.search(rf"\.{item.name}\b|\"{item.name}\"", text)]
    inside = {"data.sources", "data.path", "data.latents", "data.where"}  # handed out by all_sources()
    assert set(unread) <= inside


def test_each_setting_has_its_meaning() -> None:
    parts = [getattr(TrainConfig(), item.name) for item in dataclasses.fields(TrainConfig)]
    schemas = [TrainConfig, *(type(part) for part in parts if dataclasses.is_dataclass(part))]
    silent = [f"{schema.__name__}.{item.name}" for schema in schemas for item in dataclasses.fields(schema)
              if not dataclasses.is_dataclass(getattr(schema(), item.name))
              and item.name not in field_comments(schema)]
    assert not silent


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_file_bears_its_name_and_leaves_nothing_wrong(stage: str) -> None:
    config = conf.load(TrainConfig, "train", [f"stage={stage}", "out=run", "self_forcing.teacher=there"])
    assert stage.startswith(config.stage.name)
    config.check()
    named = [name for name in config.stage.after if name not in STAGES]
    assert not named


def test_the_run_folder_tells_what_was_run(settings, train, tmp_path) -> None:
    config = settings(tmp_path / "run", stage="gdn", steps=1, log__tensorboard=True)
    assert train(config)[0] == 0
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} == {
        "_lock", "about.json", "checkpoints", "command.txt", "config.yaml", "environment.json", "export",
        "metrics.jsonl", "tensorboard"}
    written = yaml.safe_load((folder / "config.yaml").read_text())
    assert written["stage"]["name"] == "gdn" and written["optim"] == dataclasses.asdict(config.optim)
    assert json.loads((folder / "environment.json").read_text())["torch"]
    assert (folder / "command.txt").read_text() == shlex.join(sys.orig_argv) + "\n"
