"""A tiny data set with latents, and runs of the trainer in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import conf
from tests.tiny_dataset import write_latent_set, write_video_set
from train.config import TrainConfig
from train.run import run

FRAMES = 17


@pytest.fixture(scope="session")
def latents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of nine clips of 17 frames, 3 x 2 x 3 latents, captions of 16 tokens and 24 channels."""
    folder = tmp_path_factory.mktemp("data")
    write_latent_set(write_video_set(folder, clips=9, frames=FRAMES))
    return folder


@pytest.fixture
def settings(latents: Path) -> Callable[..., TrainConfig]:
    """Settings of a short run of the tiny network, and what a test wants otherwise."""
    def make(out: Path, **others: object) -> TrainConfig:
        return conf.load(TrainConfig, "train", overrides(latents, out, **others))

    return make


def overrides(latents: Path, out: Path, **others: object) -> list[str]:
    """As one would type them; names of others have two underscores where keys have a dot."""
    given: dict[str, object] = {
        "data__path": str(latents), "data__frames": [FRAMES], "data__workers": 0, "model__preset": "tiny",
        "parallel__context": 1, "parallel__device": "cpu", "parallel__recompute": 0,
        "log__every": 1, "log__tensorboard": False, "start": "scratch", "steps": 4, "out": str(out), **others}
    return [_typed(key.replace("__", "."), value) for key, value in given.items()]


def _typed(key: str, value: object) -> str:
    if isinstance(value, str):
        return conf.quote_text(f"{key}={value}", [key])
    return f"{key}={'null' if value is None else str(value).lower() if isinstance(value, bool) else value}"


@pytest.fixture
def train(capfd: pytest.CaptureFixture[str]) -> Callable[[TrainConfig], tuple[int, str]]:
    """Run; the exit code and everything that was said."""
    def go(config: TrainConfig) -> tuple[int, str]:
        capfd.readouterr()
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            code = run(config)
        finally:
            torch.set_num_threads(threads)
        said = capfd.readouterr()
        return code, said.out + said.err

    return go


def losses(out: Path) -> list[float]:
    """The loss of every step of a run."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]
