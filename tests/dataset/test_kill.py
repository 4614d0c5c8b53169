"""SIGKILL before every single change to the file system that a run makes."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from dataset.catalog import (
    committed_ids,
    content_digest,
    read_description,
    read_index,
    read_segments,
    segment_paths,
)
from dataset.reader import read_samples
from dataset.store import Store

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("commit_until_killed.py")
CLIPS = 3
KILLS = 50  # more than there are changes


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("commit_until_killed", PROGRAM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def files_on_disk(folder: Path) -> set[str]:
    return {os.path.relpath(os.path.join(parent, name), folder)
            for parent, _, names in os.walk(folder) for name in names}


@pytest.mark.slow
def test_killed_anywhere_nothing_committed_is_lost_and_the_next_run_completes_it(
    tmp_path: Path, program: ModuleType
) -> None:
    program.fill(tmp_path / "undisturbed", CLIPS)
    whole = content_digest(read_index(Store(tmp_path / "undisturbed")))
    output = subprocess.run(
        [sys.executable, PROGRAM, str(tmp_path), str(CLIPS), "1", str(KILLS)], check=True,
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    ).stdout.split("\n")[:-1]
    killed = [int(line.split()[0]) for line in output if line.endswith("killed")]
    assert len(killed) > 30 and f"{KILLS} finished 0" in output
    for number in killed:
        store = Store(tmp_path / str(number))
        reported = set((tmp_path / f"{number}.log").read_text().split())
        assert reported <= committed_ids(store)
        for table in read_segments(store).values():
            assert {*table["kind"].to_pylist()} == {"clip", "span"}
        with_files = {row["clip_id"] for row in read_index(store).to_pylist() if row["shard"]}
        readable = [sample.record.clip_id for sample in read_samples(store, verify=True)]
        assert len(readable) == len(with_files) and set(readable) == with_files

        program.fill(tmp_path / str(number), CLIPS)
        index = read_index(store)
        assert content_digest(index) == whole
        assert read_description(store).thresholds == program.THRESHOLDS
        expected = {"_lock", "dataset.json", *segment_paths(store), *index["shard"].drop_null().to_pylist()}
        assert files_on_disk(tmp_path / str(number)) == expected
        for sample in read_samples(store, verify=True):
            assert {**sample.files} == {**sample.files, **program.clip(int(sample.record.flow_dis or 0))[1]}
