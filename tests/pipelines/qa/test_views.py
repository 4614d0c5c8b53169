"""Cameras over time, points, the map of scores, and a running annotation as it is seen from outside."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys

import numpy as np
import pytest

from annotate.quality.cameras import camera_scores
from dataset.camera import project
from dataset.clip import FrameVerdict
from dataset.lock import DatasetLock, current_holder
from dataset.store import Store
from pipelines.ledger import Finished, Ledger
from pipelines.qa.clip import cloud, motion, path
from pipelines.qa.index import ClipIndex
from pipelines.qa.live import live, pace, staged
from pipelines.qa.media import Pictures
from pipelines.qa.scatter import Scatter, picture_hash
from tests.pipelines.qa.conftest import score
from tests.tiny_dataset import camera_track, clip_name, clip_record, clip_video, depth_maps, write_video_set


def test_the_plots_peak_where_the_stored_scores_say():
    track = camera_track(2, 33, (64, 96))
    track.c2w[20:, 0, 3] += 0.4
    track.frame_verdict[5] = FrameVerdict.UNPOSED
    scores, (speed, turn) = camera_scores(track), motion(track)
    assert np.nanmax(speed) == pytest.approx(scores["speed_max"]) and np.nanargmax(speed) == 20
    assert np.nanmax(turn) == pytest.approx(scores["angular_speed_max_deg"])
    assert np.flatnonzero(np.isnan(speed)).tolist() == [0, 5, 6]


def test_a_frame_without_a_pose_is_null_and_a_true_path_is_laid_over_the_estimate():
    track, truth = camera_track(1, 17, (64, 96)), camera_track(1, 17, (64, 96))
    track.c2w[3], track.frame_verdict[3] = np.nan, FrameVerdict.UNPOSED
    told = path(track, truth.scaled(3.0, "m"), clip_record(1, 17, (64, 96)))
    assert told["c2w"][3] is None and told["speed"][3] is None and told["verdicts"][3] == "unposed"
    assert np.allclose(told["truth"], np.delete(truth.c2w[:, :3, 3], 3, axis=0), atol=1e-4)


def test_points_of_the_depth_fall_back_on_their_pixels():
    track, maps = camera_track(0, 17, (64, 96)), depth_maps(0, 17, (64, 96))
    told = cloud(track, maps)
    frames, points = np.array(told["frames"]), np.array(told["points"])
    assert set(frames) == {0, 16} and len(points) == maps.valid.sum()
    for place, frame in enumerate((0, 16)):
        seen = points[frames == frame]
        local = (seen - track.c2w[frame, :3, 3]) @ track.c2w[frame, :3, :3]
        pixels = project(local, maps.intrinsics[place])
        rows, columns = np.floor(pixels[:, 1]).astype(int), np.floor(pixels[:, 0]).astype(int)
        assert np.allclose(local[:, 2], maps.depth[place][rows, columns], atol=1e-4)
        assert maps.valid[place][rows, columns].all()


def test_the_map_puts_what_is_unlike_the_others_far_out_and_says_why(tmp_path):
    def change(number, record, files):
        score(number % 7, record, files)
        record.saturation = 200.0 if number == 9 else 60.0 + number % 7
        record.exposure = 100.0 + number % 5

    store = write_video_set(tmp_path, 12, change=change)
    found = Scatter(ClipIndex(store).snapshot)
    points, axes = found.plane
    assert points.shape == (12, 2) and np.isfinite(points).all() and all(axes)
    assert "focal_px" not in [s.column for s in found.scores]  # fewer than half of the clips have one
    farthest = found.outliers(3)[0]
    assert farthest["clip_id"] == clip_name(9)
    assert farthest["why"][0].startswith("Saturation 200 of 255")


def test_clips_that_look_alike_are_found_and_their_pictures_compared(tmp_path):
    def change(number, record, files):
        score(number, record, files)
        if number == 5:
            record.saturation, record.exposure, record.flow_dis = 41.0, 100.0, 0.01
            files["mp4"] = clip_video(0, 17, (64, 96))

    store = write_video_set(tmp_path, 6, change=change)
    index = ClipIndex(store)
    pairs = Scatter(index.snapshot).look_alikes(10, Pictures(store), index.record)
    assert {pairs[0]["a"], pairs[0]["b"]} == {clip_name(0), clip_name(5)}
    assert pairs[0]["bits"] == 0 and not pairs[0]["same_video"]
    assert all(pair["bits"] > 5 for pair in pairs[1:])


def test_what_the_annotation_marked_as_duplicates_comes_first(tmp_path):
    def change(number, record, files):
        score(number, record, files)
        if number == 6:
            record.duplicate_of, record.duplicate_similarity = clip_name(1), 0.97

    store = write_video_set(tmp_path, 7, change=change)
    index = ClipIndex(store)
    first = Scatter(index.snapshot).look_alikes(10, Pictures(store), index.record)[0]
    assert first["declared"] and {first["a"], first["b"]} == {clip_name(1), clip_name(6)}
    assert first["distance"] == pytest.approx(0.03)


def test_a_picture_hash_forgives_size_and_compression(shared_set: Store):
    index, pictures = ClipIndex(shared_set), Pictures(shared_set)
    one, other = (picture_hash(pictures.strip(index.record(clip_name(n)), 1)) for n in (0, 1))
    assert np.count_nonzero(one != other) > 5 and one.shape == (64,)


def test_an_empty_data_set_has_an_empty_page(tmp_path, open_page):
    page = open_page(write_video_set(tmp_path, 0))
    assert page.get("/api/overview").json()["rows"] == 0
    for name in ("live", "map", "outliers", "pairs", "map/points", "map/states"):
        assert page.get(f"/api/{name}").status_code == 200
    for name in ("tally", "histograms"):
        assert page.post(f"/api/{name}", json={"thresholds": {"flow_dis": {"min": 1}}}).status_code == 200


def test_who_writes_is_seen_without_touching_the_lock(tmp_path):
    store = Store(tmp_path)
    assert current_holder(store) is None
    with DatasetLock(store):
        holder = current_holder(store)
        assert holder is not None and holder.pid == os.getpid()
    assert current_holder(store) is None
    code = ("import os, signal; from dataset.store import Store; from dataset.lock import DatasetLock\n"
            f"DatasetLock(Store({str(tmp_path)!r})).acquire(); os.kill(os.getpid(), signal.SIGKILL)")
    process = subprocess.Popen([sys.executable, "-c", code], env={"PYTHONPATH": os.getcwd(), "PATH": ""})
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert b'"pid"' in store.read("_lock") and current_holder(store) is None  # it died without a word
    process.wait()
    assert current_holder(store) is None


def test_a_lease_in_an_object_store_names_its_holder(store_in_memory):
    assert current_holder(store_in_memory) is None
    with DatasetLock(store_in_memory):
        assert current_holder(store_in_memory) is not None
    assert current_holder(store_in_memory) is None


@pytest.fixture
def store_in_memory():
    import uuid

    import fsspec

    name = uuid.uuid4().hex
    yield Store(f"memory://{name}")
    if fsspec.filesystem("memory").exists(name):
        fsspec.filesystem("memory").rm(name, recursive=True)


def test_the_run_page_counts_what_the_ledger_holds(scored_set: Store):
    ledger = Ledger(scored_set.below("_work"))
    for number in range(3):
        ledger.add_row("aa11", number, {"clip_id": f"c{number}"}, {"mp4": b"x"}, 1.0)
    ledger.put("aa11", "c0", "quality", "0f", {}, {}, 1.0)
    ledger.put("aa11", "c0", "camera_scores", "0f", {}, {"npz": b"y"}, 1.0)
    ledger.put_failure("aa11", "c1", "quality", "0f", "odd", "it was odd", 1.0)
    ledger.finish([Finished("bb22", ["c8"]), Finished("cc33", ["c9"])])
    found = staged(scored_set.below("_work"))
    assert found == {"videos": 1, "finished": 2, "rows": 3, "stages": {"quality": 2, "camera_scores": 1}}
    told = live(ClipIndex(scored_set))
    assert told["holder"] is None and told["run"] is None and told["rows"] == 7 and told["work"] == found


def test_the_pace_counts_every_clip_once(shared_set: Store):
    found = pace(ClipIndex(shared_set))
    assert sum(one["clips"] for one in found) == 7 and sum(one["kept"] for one in found) == 4
    assert found[0]["bucket"] == 0 and found[-1]["bucket"] == 59
    assert all(0 < one["length"] <= 1 for one in found)


def test_track_without_poses_has_a_page_too():
    track = dataclasses.replace(camera_track(1, 17, (64, 96)), failure="nothing matched", unit="engine")
    track.c2w[:], track.frame_verdict[:] = np.nan, FrameVerdict.UNPOSED
    told = path(track, None, clip_record(1, 17, (64, 96)))
    assert told["failure"] == "nothing matched" and told["c2w"] == [None] * 17
    assert cloud(track, depth_maps(1, 17, (64, 96))) == {"points": [], "frames": []}
