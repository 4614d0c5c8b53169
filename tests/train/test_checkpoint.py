"""A checkpoint is whole or not there, holds what was when it was asked for, and is refused by others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from train.checkpoint import CheckpointError, Checkpoints, load, newest
from train.config import CheckpointConfig


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_what_changes_while_it_is_written_is_not_in_it(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, CheckpointConfig())
    weights = torch.zeros(4_000_000)
    checkpoints.save(1, {"weights": weights}, {"about": "it"})
    weights.add_(1)
    checkpoints.finish()
    read = torch.full_like(weights, 7)
    saved = checkpoints.latest()
    assert saved is not None and saved.state == {"about": "it", "step": 1}
    load(saved, {"weights": read})
    assert not read.any()


def test_the_newest_and_the_marked_ones_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, CheckpointConfig(keep=2, keep_every=4))
    for step in range(1, 8):
        checkpoints.save(step, {"x": torch.tensor([float(step)])}, {})
    checkpoints.finish()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step-00000004", "step-00000006", "step-00000007"]


def test_half_a_checkpoint_is_not_found_and_goes(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, CheckpointConfig())
    checkpoints.save(3, {"x": torch.ones(2)}, {})
    checkpoints.finish()
    (tmp_path / ".step-00000009.partial").mkdir()
    (tmp_path / "step-00000008").mkdir()  # of somebody else: there is no state in it
    found = newest(tmp_path)
    assert found is not None and found.step == 3
    Checkpoints(tmp_path, CheckpointConfig()).sweep()
    assert not (tmp_path / ".step-00000009.partial").exists()


def test_tensors_of_another_shape_are_listed(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, CheckpointConfig())
    checkpoints.save(1, {"a": torch.ones(2, 3), "b": torch.ones(2)}, {})
    checkpoints.finish()
    saved = newest(tmp_path)
    assert saved is not None
    with pytest.raises(CheckpointError, match=r"1 missing: c\n.*1 misshapen: a \(2, 3\) for \(3, 2\)"):
        load(saved, {"a": torch.ones(3, 2), "c": torch.ones(1)})


@pytest.mark.parametrize("file", [".metadata", "__0_0.distcp"])
def test_a_truncated_checkpoint_is_named(file: str, tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, CheckpointConfig())
    checkpoints.save(1, {"a": torch.ones(2, 3)}, {})
    checkpoints.finish()
    saved = newest(tmp_path)
    assert saved is not None
    (saved.path / file).write_bytes((saved.path / file).read_bytes()[:50])
    with pytest.raises(CheckpointError, match="not a complete checkpoint"):
        load(saved, {"a": torch.ones(2, 3)})
