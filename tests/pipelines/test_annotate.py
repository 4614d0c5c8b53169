"""The command, as a stranger runs it: on small rendered and broken videos, with all real stages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from dataset.catalog import query
from dataset.clip import CameraTrack
from dataset.reader import read_samples
from dataset.store import Store

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = ["cut.frames=17", "cut.width=192", "cut.height=108", "ray.num_cpus=2", "pose.classical.recover=false"]
SCENE = "synthetic://room-walk?seed=5&width=192&height=108&fps=16&seconds=1.1"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "pipelines.annotate", *arguments]


def call(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(command(*arguments), cwd=REPOSITORY, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_the_command_annotates_a_manifest_and_then_has_nothing_to_do(tmp_path):
    manifest, out = tmp_path / "list.csv", tmp_path / "out"
    (tmp_path / "empty.mp4").write_bytes(b"")
    manifest.write_text(f"uri\n{SCENE}\n{tmp_path}/empty.mp4\nmemory://nowhere/nobody.mp4\n")
    first = call(f"src={manifest}", f"out={out}", *SMALL)
    assert first.returncode == 0, first.stderr
    assert query(Store(out), "kind = 'clip' and motion is not null and saturation is not null").num_rows == 1
    assert f"data set: {out}" in first.stdout
    assert "Traceback" not in first.stderr and "(raylet)" not in first.stdout
    rows = query(Store(out), "kind != 'span'").to_pylist()
    assert sorted((row["kind"], row["verdict"] == "failed") for row in rows) == [
        ("clip", False), ("video", True), ("video", True)]
    sample = next(read_samples(Store(out), verify=True))
    assert {"mp4", "camera.npz", "truth.npz", "json"} <= sample.files.keys()
    assert len(CameraTrack.from_npz(sample.files["camera.npz"]).c2w) == 17
    assert (out / "report.html").stat().st_size > 1000
    record = json.loads(next((out / "runs").glob("*.json")).read_text())
    assert (record["state"], record["config"]["cut"]["frames"]) == ("finished", 17)

    files = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.name != "_lock"}
    second = call(f"src={manifest}", f"out={out}", *SMALL)
    assert second.returncode == 0
    assert "3 videos, all finished before: nothing to annotate" in second.stdout
    assert {path: path.stat().st_mtime_ns for path in files} == files


@pytest.mark.slow
def test_ctrl_c_ends_quietly_and_says_that_the_command_continues(tmp_path):
    log = tmp_path / "stderr"
    with log.open("w") as stderr:
        process = subprocess.Popen(command(f"src={SCENE}", f"out={tmp_path / 'out'}", *SMALL), cwd=REPOSITORY,
                                   stdout=subprocess.DEVNULL, stderr=stderr, env={**os.environ})
        deadline = time.monotonic() + 60
        while not (tmp_path / "out" / "_work").exists() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        children = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 130
    assert log.read_text().splitlines()[-1] == "interrupted. Running the same command again continues."
    assert psutil.wait_procs(children, timeout=30)[1] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["src=nowhere"], "src=nowhere: no such file or folder"),
        (["src=synthetic", "cut.frames=16"], "cut.frames=16"),
        (["src=synthetic", "pose.engine=magic"], "pose.engine=magic"),
        (["src=synthetic", "run.attempts=0"], "run.attempts=0"),
        (["src=synthetic", "cut.framez=17"], "did you mean cut.frames"),
    ],
)
def test_a_wrong_setting_ends_before_any_work_and_names_the_key(tmp_path, arguments, message):
    result = call(*arguments, f"out={tmp_path / 'out'}")
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()
