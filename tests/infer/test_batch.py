"""A table of videos: each made once, a bad one told and passed by, a killed run continued."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conf import load
from infer.config import InferConfig
from infer.run import run


def table(folder: Path, room: Path, names: str, **changes: dict[str, object]) -> Path:
    """One short row for each letter."""
    lines = [{"name": name, "image": str(room), "action": "w-8", "seed": ord(name), **changes.get(name, {})}
             for name in names]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def told(out: Path) -> dict[str, dict[str, object]]:
    lines = [json.loads(line) for line in (out / "batch.jsonl").read_text().splitlines()]
    return {line["name"]: line for line in lines}


def start(tiny: list[str], manifest: Path, out: Path, *others: str) -> int:
    return run(load(InferConfig, "infer", [*tiny, f"manifest={manifest}", f"out={out}", *others]))


def test_good_rows_become_videos_and_bad_ones_reasons(tiny: list[str], room: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifest = table(tmp_path, room, "abcd", b={"action": "w-8,x-4"}, c={"image": "gone.png"})
    assert start(tiny, manifest, out) == 1
    found = told(out)
    assert [found[name]["status"] for name in "abcd"] == ["made", "failed", "failed", "made"]
    assert "unknown key 'x'" in str(found["b"]["reason"]) and "no such file" in str(found["c"]["reason"])
    assert sorted(path.name for path in out.iterdir()) == ["a", "batch.jsonl", "d"]
    files = {"camera.npz", "config.yaml", "environment.json", "overlay.mp4", "video.mp4"}
    assert {path.name for path in (out / "a").iterdir()} == files
    before = (out / "a" / "video.mp4").stat().st_mtime_ns

    manifest = table(tmp_path, room, "abcd", b={"action": "w-8,s-4"}, c={"seed": 1}, d={"seed": 1})
    assert start(tiny, manifest, out) == 1
    found = told(out)
    assert [found[name]["status"] for name in "abcd"] == ["there", "made", "made", "failed"]
    assert "other settings; overwrite=true replaces it" in str(found["d"]["reason"])
    assert (out / "a" / "video.mp4").stat().st_mtime_ns == before

    alone = tmp_path / "alone"
    assert start([*tiny, f"image={room}"], manifest, alone, "overwrite=true") == 0
    assert told(alone)["d"]["status"] == "made"
    assert (alone / "a" / "video.mp4").read_bytes() == (out / "a" / "video.mp4").read_bytes()


def test_no_weights_are_loaded_where_no_row_can_be_made(
    tiny: list[str], room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
) -> None:
    manifest = table(tmp_path, room, "a", a={"fov": 200})
    assert start([*tiny, "model=gone"], manifest, tmp_path / "out") == 1
    assert "1 failed" in capsys.readouterr().out
    manifest = table(tmp_path, room, "ab", b={"fov": 200})
    assert start([*tiny, "model=gone"], manifest, tmp_path / "other") == 2
    assert "there is no gone" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()


def test_a_killed_run_goes_on_where_it_was_and_makes_the_same(
    tiny: list[str], room: Path, tmp_path: Path,
) -> None:
    short, out = {"action": "w-24"}, tmp_path / "out"
    manifest = table(tmp_path, room, "ab", a=short, b={"action": "w-2000"})
    command = [sys.executable, "-m", "infer", *tiny, f"manifest={manifest}", f"out={out}",
               "sampler=distilled"]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True)
    try:
        while not (out / "b" / "video.partial.mp4").exists():
            assert running.poll() is None
            time.sleep(0.05)
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
    assert (out / "a" / "video.mp4").exists() and not (out / "b" / "video.mp4").exists()
    table(tmp_path, room, "ab", a=short, b=short)
    assert start(tiny, manifest, out, "sampler=distilled") == 0
    assert [told(out)[name]["status"] for name in "ab"] == ["there", "made"]
    assert {path.name for path in (out / "b").iterdir()} == {path.name for path in (out / "a").iterdir()}
