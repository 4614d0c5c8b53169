"""What a run does when nothing goes wrong, and that it does nothing when nothing is missing."""

from __future__ import annotations

import dataclasses
import os
import shutil
import threading
from pathlib import Path

import pytest
import tiny

from annotate.config import RunConfig, WriteConfig
from dataset.catalog import CatalogError, query, read_index
from dataset.clip import Verdict
from dataset.lock import DatasetLock, LockHeld
from dataset.reader import read_samples
from dataset.store import Store
from pipelines.plan import PlanError
from pipelines.runner import run

CLIPS = 4 + 5 + 3 + 3


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file but the lock, with its time of change and its bytes."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "_lock"
    }


@pytest.fixture(scope="module")
def finished(ray_here, videos, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("finished")
    run(tiny.job(str(videos), str(out), darkest=60.0))
    return out


def test_every_clip_span_and_video_becomes_a_row_with_a_verdict(finished):
    counts = query(Store(finished), "select kind, count(*) as n, count(distinct uri) as videos from clips "
                                    "group by kind order by kind").to_pylist()
    assert counts == [{"kind": "clip", "n": CLIPS, "videos": 4}, {"kind": "span", "n": 4, "videos": 4}]
    assert query(Store(finished), "exposure is null and kind = 'clip'").num_rows == 0


def test_kept_and_rejected_clips_are_stored_with_the_files_of_all_stages(finished):
    samples = list(read_samples(Store(finished), verify=True))
    assert len(samples) == CLIPS
    assert {tuple(sorted(sample.files)) for sample in samples} == {("json", "means.bin", "mp4")}
    assert {sample.record.verdict for sample in samples} == {Verdict.KEPT, Verdict.REJECTED}


def test_clips_go_in_batches_through_a_stage_that_takes_several(ray_here, finished, videos, tmp_path):
    """With the last ones as a smaller batch, and room for no more than one batch."""
    log = tmp_path / "log"
    run(tiny.job(str(videos), str(tmp_path / "out"), darkest=60.0, batched=True, log=str(log), staged=4))
    sizes = [int(line.split()[1]) for line in log.read_text().splitlines() if line.startswith("batch")]
    assert max(sizes) == 4 and sum(sizes) <= CLIPS
    assert tiny.content_of(tmp_path / "out") == tiny.content_of(finished)


def test_a_finished_run_does_nothing_and_touches_nothing(finished, videos):
    before = snapshot(finished)
    outcome = run(tiny.job(str(videos), str(finished), darkest=60.0))
    assert (outcome.begun, outcome.new_rows, outcome.rejudged) == (0, 0, None)
    assert snapshot(finished) == before


def test_staging_is_empty_after_a_finished_run(finished):
    assert [path for path in Store(finished / "_work").list() if not path.startswith("finished/")] == []


def test_other_thresholds_judge_again_and_compute_nothing(ray_here, videos, tmp_path):
    log = tmp_path / "log"
    run(tiny.job(str(videos), str(tmp_path / "a"), darkest=60.0, log=str(log)))
    worked = log.read_text()
    outcome = run(tiny.job(str(videos), str(tmp_path / "a"), darkest=80.0, log=str(log)))
    assert outcome.rejudged and outcome.begun == 0
    assert log.read_text() == worked
    run(tiny.job(str(videos), str(tmp_path / "b"), darkest=80.0))
    assert tiny.content_of(tmp_path / "a") == tiny.content_of(tmp_path / "b")


def test_more_videos_are_added_to_what_is_there(ray_here, videos, tmp_path):
    log = tmp_path / "log"
    out = str(tmp_path / "out")
    run(tiny.job(str(videos / "street.mp4"), out, log=str(log)))
    first = snapshot(tmp_path / "out" / "shards")
    outcome = run(tiny.job(str(videos), out, log=str(log)))
    assert (outcome.videos, outcome.begun) == (4, 3)
    assert len(log.read_text().splitlines()) == 2 * CLIPS  # two stages, each once a clip
    after = snapshot(tmp_path / "out" / "shards")
    assert {name: after[name] for name in first} == first


def test_other_settings_of_a_stage_are_refused_by_name(finished, videos):
    with pytest.raises(CatalogError, match=r"brightness\.offset: found 0\.0, asked for 5\.0"):
        run(tiny.job(str(videos), str(finished), darkest=60.0, offset=5.0))


def test_a_second_run_on_the_same_data_set_is_refused(finished, videos):
    with (
        DatasetLock(Store(finished)),
        pytest.raises(LockHeld, match="is being written by another run"),
    ):
        run(tiny.job(str(videos), str(finished), darkest=60.0))


def test_stages_on_a_fraction_of_a_gpu_get_their_own_workers(ray_here, videos, undisturbed, tmp_path):
    run(tiny.job(str(videos), str(tmp_path), gpu=0.25))
    assert tiny.content_of(tmp_path) == undisturbed


def test_cutting_waits_for_annotation_and_a_clip_does_not_wait_for_its_video(
    ray_here, videos, undisturbed, tmp_path,
):
    """With room for one clip the run could not end if rows were held back until a video is through."""
    most, stop = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not stop.wait(0.01):
            folder = tmp_path / "_work" / "video"
            staged = [path.name.split(".")[0] for path in folder.rglob("*.cut.mp4")]
            done = {path.name.split(".")[0] for path in folder.rglob("*.detail-*.json")}
            most = max(most, sum(name not in done for name in staged))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        run(tiny.job(str(videos), str(tmp_path), staged=1, pause_s=0.1))
    finally:
        stop.set()
        watcher.join()
    assert 1 <= most <= 1 + 2  # each of the two cutters may have one in hand
    assert tiny.content_of(tmp_path) == undisturbed


def test_a_rejected_clip_without_files_is_not_kept_later(ray_here, videos, tmp_path):
    run(tiny.job(str(videos), str(tmp_path), darkest=500.0, rejected=False))
    assert list(read_samples(Store(tmp_path))) == []
    run(tiny.job(str(videos), str(tmp_path), darkest=0.0, rejected=False))
    table = read_index(Store(tmp_path), ["kind", "verdict", "reasons"]).to_pylist()
    assert {(row["verdict"], *row["reasons"]) for row in table if row["kind"] == "clip"} == {
        ("rejected", "not_stored")}


def test_the_clips_of_a_lost_shard_are_made_again_when_asked(ray_here, videos, undisturbed, tmp_path):
    job = tiny.job(str(videos), str(tmp_path))
    run(job)
    for shard in (tmp_path / "shards").iterdir():
        shard.unlink()
    with pytest.raises(CatalogError, match=r"missing[\s\S]*write\.remake_broken=true"):
        run(job)
    outcome = run(dataclasses.replace(job, write=WriteConfig(remake_broken=True)))
    assert outcome.withdrawn == CLIPS
    assert len(list(read_samples(Store(tmp_path), verify=True))) == CLIPS
    assert tiny.content_of(tmp_path) == undisturbed


def test_what_failed_is_tried_again_when_asked(ray_here, videos, tmp_path):
    folder, out = tmp_path / "videos", str(tmp_path / "out")
    folder.mkdir()
    shutil.copy(videos / "street.mp4", folder)
    sound = (videos / "garden.mp4").read_bytes()
    away = folder / "garden.mp4"
    away.write_bytes(bytes(len(sound)))
    then = away.stat().st_mtime_ns
    job = tiny.job(str(folder), out)
    run(job)
    away.write_bytes(sound)
    os.utime(away, ns=(then, then))  # nothing tells from outside that it can be read now
    assert run(job).begun == 0
    with pytest.raises(PlanError, match=r"run\.again=poison: .*there are unreadable"):
        run(dataclasses.replace(job, run=RunConfig(again=["poison"])))
    outcome = run(dataclasses.replace(job, run=RunConfig(again=["unreadable"])))
    assert (outcome.withdrawn, outcome.begun) == (1, 1)
    rows = read_index(Store(out), ["uri", "verdict", "kind"]).to_pylist()
    assert {row["verdict"] for row in rows if row["uri"] == str(away)} == {"kept", "rejected"}
    assert not any(row["verdict"] == "failed" for row in rows)


def test_a_video_whose_name_is_no_text_fails_alone(ray_here, videos, tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    shutil.copy(videos / "street.mp4", folder)
    shutil.copy(videos / "garden.mp4", os.fsencode(folder) + b"/caf\xe9.mp4")
    run(tiny.job(str(folder), str(tmp_path / "out")))
    rows = read_index(Store(tmp_path / "out"), ["uri", "verdict", "reasons"]).to_pylist()
    bad = [row for row in rows if not row["uri"].endswith("street.mp4")]
    assert bad and all(row["reasons"] == ["unstorable"] and "caf\\" in row["uri"] for row in bad)
    assert any(row["verdict"] == "kept" for row in rows)
