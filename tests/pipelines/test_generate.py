"""A table of videos on Ray: the same videos as in one process, and a worker that dies costs one row a try."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from conf import load
from infer.config import InferConfig
from infer.run import run as run_here
from model.config import DiTConfig
from model.dit import SanaWM
from pipelines.generate_config import GenerateConfig
from pipelines.generate_run import Shares, divide, run
from pipelines.plan import PlanError


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random network, and a picture."""
    import numpy as np
    from PIL import Image

    torch.manual_seed(0)
    network = SanaWM(DiTConfig(depth=2, width=32, heads=2, latent_channels=128, caption_channels=16,
                               caption_length=10, softmax_blocks=(1,)))
    for name, tensor in network.state_dict().items():
        tensor.normal_(1.0 if "norm" in name else 0.0, 0.1)
    folder = tmp_path_factory.mktemp("weights")
    network.save_pretrained(folder / "network")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)).save(folder / "a.png")
    return folder


def overrides(weights: Path, out: Path, rows: dict[str, str]) -> list[str]:
    manifest = out.with_suffix(".jsonl")
    manifest.write_text("".join(json.dumps({"name": name, "image": str(weights / "a.png"), "action": action})
                                + "\n" for name, action in rows.items()))
    return [f"manifest={manifest}", f"model={weights / 'network'}", "codec=dct32", "text=hash",
            "size=[64,96]", "sampler=distilled", "sampler.timesteps=[1000,0]", f"out={out}"]


def told(out: Path) -> dict[str, tuple[str, str]]:
    rows = map(json.loads, (out / "batch.jsonl").read_text().splitlines())
    return {row["name"]: (row["status"], row["reason"] or "") for row in rows}


def kill_workers(when: Path, killed: list[int]) -> None:
    """Those this process started, once `when` is there."""
    from pipelines.processes import descendants

    while not when.exists():
        time.sleep(0.02)
    for pid in [process.pid for process in descendants()]:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except FileNotFoundError:
            continue
        if command.startswith(b"ray::Maker.make"):
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)


@pytest.mark.slow
def test_workers_make_what_one_process_makes_though_one_of_them_is_killed(
    ray_here: None, weights: Path, tmp_path: Path,
) -> None:
    typed = overrides(weights, tmp_path / "many", {"a": "w-24", "b": "w-24,x-1", "c": "d-24", "d": "w-400"})
    growing, killed = tmp_path / "many" / "d" / "video.partial.mp4", list[int]()
    killer = threading.Thread(target=kill_workers, args=[growing, killed], daemon=True)
    killer.start()
    config = load(GenerateConfig, "generate", [*typed, "workers=2", "gpus=0"])
    assert run(config) == 1
    killer.join()
    assert killed
    found = told(tmp_path / "many")
    assert {name: status for name, (status, _) in found.items()} == {
        "a": "made", "b": "failed", "c": "made", "d": "made"}
    assert "unknown key 'x'" in found["b"][1]
    typed = overrides(weights, tmp_path / "here", {"a": "w-24", "c": "d-24"})
    assert run_here(load(InferConfig, "infer", typed)) == 0
    for name in "ac":
        one, other = (tmp_path / place / name / "camera.npz" for place in ("many", "here"))
        assert one.read_bytes() == other.read_bytes()
        assert one.with_name("video.mp4").stat().st_size > 1000


def test_weights_that_are_not_there_end_the_run_before_any_row(
    ray_here: None, weights: Path, tmp_path: Path,
) -> None:
    typed = overrides(weights, tmp_path / "many", {"a": "w-24"})
    config = load(GenerateConfig, "generate", [*typed, "model=gone", "gpus=0"])
    with pytest.raises(PlanError, match="there is no gone"):
        run(config)
    assert not (tmp_path / "many").exists()


def test_workers_share_the_machine(tmp_path: Path) -> None:
    config = GenerateConfig()
    assert divide(config, cpus=16, gpus=4, rows=100) == Shares(4, 1.0, 1.0, 4)
    assert divide(config, cpus=16, gpus=4, rows=3) == Shares(3, 1.0, 1.0, 5)
    assert divide(config, cpus=2, gpus=0, rows=9) == Shares(1, 0.0, 1.0, 2)
    assert divide(GenerateConfig(workers=8, gpus=0.5), cpus=4, gpus=4, rows=9) == Shares(8, 0.5, 0.5, 1)
    with pytest.raises(PlanError, match="gpus=2: there are 1 GPUs"):
        divide(GenerateConfig(gpus=2), cpus=4, gpus=1, rows=9)


@pytest.mark.parametrize(("changes", "says"), [
    ({"manifest": None}, "missing: manifest="), ({"workers": 0}, "workers=0"), ({"gpus": -1.0}, "gpus=-1"),
    ({"repeat": "out"}, "only python -m infer")])
def test_settings_are_checked(changes: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        GenerateConfig(**{"manifest": "a.csv", **changes}).check()  # type: ignore[arg-type]
