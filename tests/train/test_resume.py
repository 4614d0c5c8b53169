"""A run that is killed, told to stop, or given to other processes goes on as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from model.dit import SanaWM
from tests.model.ranks import run_ranks
from tests.train.conftest import losses, overrides

REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 240


def start(arguments: list[str]) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "train", *arguments], cwd=REPOSITORY, env=environment,
                            text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def wait_for_steps(out: Path, steps: int) -> None:
    begun = time.monotonic()
    while not (out / "metrics.jsonl").is_file() or len(losses_so_far(out)) < steps:
        assert time.monotonic() - begun < PATIENCE_S
        time.sleep(0.02)


def losses_so_far(out: Path) -> list[str]:
    return [line for line in (out / "metrics.jsonl").read_text().splitlines(True) if line.endswith("\n")]


def same_weights(one: Path, other: Path, part: str = "network") -> bool:
    first, second = (SanaWM.from_pretrained(out / "export" / part).state_dict() for out in (one, other))
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.slow
def test_a_killed_and_resumed_run_is_the_undisturbed_one_bit_for_bit(
    settings, train, latents, tmp_path,
) -> None:
    given = {"stage": "minute", "steps": 14, "checkpoint__every": 3, "ema__decay": 0.9, "optim__warmup": 5,
             "flow__camera_dropout": 0.3, "checkpoint__keep": 2, "parallel__recompute": 1}
    code, said = train(settings(tmp_path / "whole", **given))
    assert code == 0, said
    killed = start(overrides(latents, tmp_path / "killed", data__workers=1, **given))
    wait_for_steps(tmp_path / "killed", 8)
    killed.kill()
    assert killed.wait() == -signal.SIGKILL
    assert len(losses_so_far(tmp_path / "killed")) < given["steps"]
    code, said = train(settings(tmp_path / "killed", **given))
    assert code == 0 and "continues after step" in said
    assert losses(tmp_path / "killed") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == given["steps"]
    assert same_weights(tmp_path / "killed", tmp_path / "whole")
    assert same_weights(tmp_path / "killed", tmp_path / "whole", "ema")
    kept = sorted(path.name for path in (tmp_path / "killed" / "checkpoints").iterdir())
    assert kept == ["step-00000012", "step-00000014"]


def test_sigterm_saves_and_ends_well(settings, train, tmp_path) -> None:
    config = settings(tmp_path / "run", stage="gdn", steps=100000, checkpoint__every=100000)

    def stop() -> None:
        wait_for_steps(tmp_path / "run", 2)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    code, said = train(config)
    done = len(losses(tmp_path / "run"))
    assert code == 0 and f"stopped after step {done}" in said
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == [f"step-{done:08d}"]
    config.steps = done + 2
    assert train(config)[0] == 0
    assert len(losses(tmp_path / "run")) == done + 2


def work_of_a_rank(world, config) -> list[str]:
    """Three runs one after another: each rank's own clips; a clip cut in two; then on with the first."""
    from train.launch import meet
    from train.trainer import Trainer

    ended = []
    for out, context, steps in (("apart", 1, 4), ("together", 2, 4)):
        config.out, config.parallel.context, config.steps = f"{config.start}/{out}", context, steps
        scratch = type(config)(**{**vars(config), "start": "scratch"})
        with meet(config.parallel) as ranks:
            ended.append(str(Trainer(scratch, ranks).run()))
    return ended


@pytest.mark.slow
def test_processes_share_clips_and_parameters_and_hand_over_to_one(
    settings, train, tmp_path,
) -> None:
    """One process with a clip, two with that clip cut in time: the same losses and weights. Then a run of two
    is continued by one."""
    given = {"stage": "chunk_causal", "ema__decay": 0.9, "parallel__recompute": 1}
    config = settings(tmp_path, start=str(tmp_path), **given)
    found = run_ranks(work_of_a_rank, 2, tmp_path, config)
    assert found == [["True", "True"]] * 2
    assert train(settings(tmp_path / "alone", **given))[0] == 0
    alone, together = losses(tmp_path / "alone"), losses(tmp_path / "together")
    assert torch.allclose(torch.tensor(alone), torch.tensor(together), atol=1e-5, rtol=0)
    for part in ("network", "ema"):
        first, second = (SanaWM.from_pretrained(tmp_path / out / "export" / part).state_dict()
                         for out in ("alone", "together"))
        assert all(torch.allclose(first[name], second[name], atol=1e-5) for name in first)
    assert train(settings(tmp_path / "apart", steps=7, **given))[0] == 0
    assert len(losses(tmp_path / "apart")) == 7
    state = json.loads((tmp_path / "apart" / "checkpoints" / "step-00000007" / "state.json").read_text())
    assert state["ranks"] == 1 and state["loader"]["drawn"] >= 4 * 2 + 3
