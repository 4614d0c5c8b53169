"""Faults injected for real: killed workers and drivers, full disks, broken inputs, a foreign data set."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import tiny

from dataset.catalog import CatalogError, query, read_index
from dataset.lock import LockHeld
from dataset.store import Store, StoreFull
from pipelines.runner import Refused, run

REPOSITORY = Path(__file__).resolve().parents[2]


def rows(out: Path, where: str) -> list[dict]:
    return query(Store(out), where).to_pylist()


def start(videos: Path, out: Path, *options: str) -> subprocess.Popen:
    """A run in a process of its own, with a Ray of its own."""
    command = [sys.executable, str(Path(tiny.__file__)), str(videos), str(out), *options]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(command, env=environment, cwd=out.parent, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def wait_for(condition, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def title(process: psutil.Process) -> str:
    """Ray writes what a worker does into its command line; empty once it is dead."""
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@contextmanager
def killing_workers(out: Path, times: int) -> Iterator[list[str]]:
    """Kills `times` busy workers with SIGKILL, one after each further finished clip; gives their names."""
    killed: list[str] = []
    stop = threading.Event()

    def kill() -> None:
        choose, seen = random.Random(7), 0
        while len(killed) < times and not stop.wait(0.05):
            finished = len([*(out / "_work" / "video").rglob("*.detail-*.json")])
            workers = psutil.Process().children(recursive=True) if finished > seen else []
            workers = [process for process in workers if "Worker(" in title(process)]
            if workers:
                victim = choose.choice(workers)
                killed.append(title(victim))
                victim.kill()
                seen = finished

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield killed
    finally:
        stop.set()
        killer.join()


def test_killed_workers_change_nothing_in_the_result(ray_here, videos, undisturbed, tmp_path):
    with killing_workers(tmp_path, times=3) as killed:
        outcome = run(tiny.job(str(videos), str(tmp_path), shard_mb=0.5, cut_pause_s=0.1, pause_s=0.1))
    assert len(killed) == 3, "the run was over before three workers could be killed"
    assert outcome.lost == {}
    assert tiny.content_of(tmp_path) == undisturbed


@pytest.mark.slow
def test_a_killed_driver_leaves_no_processes_and_the_next_runs_finish_the_same_data_set(
    ray_here, videos, undisturbed, tmp_path,
):
    out, log = tmp_path / "out", tmp_path / "log"
    moments = random.Random(11)

    def staged() -> bool:
        return any((out / "_work" / "video").rglob("*.cut.mp4"))

    def committed() -> bool:
        return any((out / "index").glob("*.parquet"))

    for moment in (staged, committed):
        process = start(videos, out, f"log={log}", "cut_pause_s=0.2")
        wait_for(moment, process)
        with pytest.raises(LockHeld):
            run(tiny.job(str(videos), str(out)))
        time.sleep(moments.uniform(0.0, 1.0))
        children = psutil.Process(process.pid).children(recursive=True)
        # Ray's two agents end by themselves within about a minute; they touch nothing of ours.
        children = [child for child in children if "Agent" not in title(child)]
        assert any("raylet" in child.name() for child in children)
        process.kill()
        process.communicate()
        _, alive = psutil.wait_procs(children, timeout=30)
        assert [child for child in alive if child.status() != psutil.STATUS_ZOMBIE] == []
    assert 0 < len(read_index(Store(out))) < 19
    outcome = run(tiny.job(str(videos), str(out), log=str(log)))
    assert 0 < outcome.new_rows < 19
    assert tiny.content_of(out) == undisturbed
    work = log.read_text().splitlines()
    assert len(work) - len(set(work)) <= 2 * 2 * 2  # only what two workers had in hand at each kill


@pytest.mark.slow
def test_an_interrupted_run_says_how_to_continue_and_continues(ray_here, videos, undisturbed, tmp_path):
    process = start(videos, tmp_path / "out", "cut_pause_s=0.3")
    wait_for(lambda: any((tmp_path / "out" / "_work" / "video").rglob("*.detail-*.json")), process)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode != 0
    run(tiny.job(str(videos), str(tmp_path / "out")))
    assert tiny.content_of(tmp_path / "out") == undisturbed


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A file system of its own of the given size; skips where mounting is not allowed."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("mounting a small file system needs rights this user does not have")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_while_writing_a_shard_ends_the_run_and_loses_nothing(
    ray_here, videos, undisturbed, tmp_path,
):
    with small_disk(tmp_path / "disk", 64) as disk:
        job = tiny.job(str(videos), str(disk / "out"), work=str(tmp_path / "work"))
        with pytest.raises(StoreFull, match=r"no space left.*run the same command again"):
            run(job)
        assert len(rows(disk / "out", "true")) < 19
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        outcome = run(job)
        assert outcome.new_rows > 0
        assert tiny.content_of(disk / "out") == undisturbed


def test_a_full_disk_while_staging_ends_the_run_and_blames_no_clip(ray_here, videos, undisturbed, tmp_path):
    with small_disk(tmp_path / "disk", 64) as disk:
        job = tiny.job(str(videos), str(tmp_path / "out"), work=str(disk / "work"), shard_mb=10)
        with pytest.raises(OSError, match="no space left"):
            run(job)
        assert rows(tmp_path / "out", "verdict = 'failed'") == []
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        run(job)
        assert tiny.content_of(tmp_path / "out") == undisturbed


@pytest.mark.slow
def test_bad_inputs_cost_only_their_own_rows(ray_here, videos, undisturbed, tmp_path):
    """A file that is no video, a video that kills its cutter, clips that kill or break their stage."""
    mixed, out = tmp_path / "videos", tmp_path / "out"
    shutil.copytree(videos, mixed)
    (mixed / "text.mp4").write_text("not a video")
    for seed, name in enumerate(["poison", "cursed", "awkward"], start=10):
        tiny.write_video(mixed / f"{name}.mp4", 30, seed)
    run(tiny.job(str(mixed), str(out)))

    def named(name: str) -> list[tuple]:
        found = rows(out, f"uri like '%/{name}.mp4' and kind != 'span'")
        return sorted((row["kind"], row["verdict"], *row["reasons"]) for row in found)

    assert named("text") == [("video", "failed", "unreadable")]
    assert named("poison") == [("clip", "kept"), ("clip", "kept"), ("video", "failed", "poison")]
    assert named("cursed") == [("clip", "failed", "poison"), ("clip", "kept"), ("clip", "kept")]
    assert named("awkward") == [("clip", "failed", "brightness_error"), ("clip", "kept"), ("clip", "kept")]
    details = {row["detail"] for row in rows(out, "verdict = 'failed' and kind = 'clip'")}
    assert details == {"brightness: killed its worker 3 times",
                       "brightness: ArithmeticError: this clip does not add up"}
    assert len(rows(out, "regexp_matches(uri, '(street|garden|harbour|station).mp4$')")) == 19
    assert run(tiny.job(str(mixed), str(out))).begun == 0


def test_a_data_set_of_another_schema_version_is_left_alone(ray_here, videos, tmp_path):
    run(tiny.job(str(videos / "street.mp4"), str(tmp_path)))
    description = json.loads((tmp_path / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(json.dumps(description | {"schema_version": 99}))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(CatalogError, match="schema version 99"):
        run(tiny.job(str(videos), str(tmp_path)))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}.keys() == before.keys()


def test_clips_of_a_data_set_that_was_deleted_are_made_again(ray_here, videos, undisturbed, tmp_path):
    job = tiny.job(str(videos), str(tmp_path / "out"), work=str(tmp_path / "work"), shard_mb=0.01)
    seen = 0

    def stop_after_some_commits(fields: dict) -> str | None:
        nonlocal seen
        seen += 1
        return "enough" if seen == 9 else None

    job.objection = stop_after_some_commits
    with pytest.raises(Refused, match="enough"):
        run(job)
    assert 0 < len(read_index(Store(tmp_path / "out"))) < 19
    shutil.rmtree(tmp_path / "out")
    run(tiny.job(str(videos), str(tmp_path / "out"), work=str(tmp_path / "work")))
    assert tiny.content_of(tmp_path / "out") == undisturbed


def test_staged_files_that_were_damaged_are_made_again(ray_here, videos, undisturbed, tmp_path):
    with pytest.raises(OSError, match=r"[Nn]o space left"), small_disk(tmp_path / "disk", 16) as disk:
        run(tiny.job(str(videos), str(disk / "out"), work=str(tmp_path / "work"), shard_mb=0.5))
    staged = sorted((tmp_path / "work").rglob("*.mp4"))
    staged[0].write_bytes(b"short")
    staged[1].write_bytes(bytes(staged[1].stat().st_size))
    staged[2].unlink()
    job = tiny.job(str(videos), str(tmp_path / "out"), work=str(tmp_path / "work"))
    outcome = run(job)
    assert len(outcome.lost) <= 1  # of equal size: only its checksum tells, when it is read
    run(job)
    assert tiny.content_of(tmp_path / "out") == undisturbed
