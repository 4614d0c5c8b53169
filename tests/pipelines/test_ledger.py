"""The ledger: what counts as done, and what is made again."""

from __future__ import annotations

import pytest

from dataset.store import Store
from pipelines.ledger import Entry, Finished, Ledger, StagingDamaged, digest


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger(Store(tmp_path / "work"))


def test_rows_come_back_in_order_up_to_the_first_gap(ledger):
    for index in (0, 1, 2, 4):
        ledger.add_row("v", index, {"clip_id": f"c{index}"}, {"mp4": bytes([index])}, 0.5)
    assert [entry.fields["clip_id"] for entry in ledger.rows("v")] == ["c0", "c1", "c2"]
    assert ledger.rows("another") == []


def test_a_record_counts_only_while_its_files_are_whole(ledger):
    entry = ledger.put("v", "c", "pose", "k", {"focal_px": 0.1 + 0.2}, {"pose.npz": b"abc"}, 1.5)
    found = ledger.find("v", "c", "pose", "k")
    assert found == entry and found.fields["focal_px"] == 0.1 + 0.2
    ledger.store.write(entry.files["pose.npz"].path, b"ab")
    assert ledger.find("v", "c", "pose", "k") is None


def test_another_key_finds_nothing(ledger):
    ledger.put("v", "c", "pose", digest("settings", 1), {}, {}, 0.0)
    assert ledger.find("v", "c", "pose", digest("settings", 2)) is None


def test_a_failure_is_remembered_like_an_answer(ledger):
    ledger.put_failure("v", "c", "pose", "k", "poison", "pose: killed its worker 3 times", 0.0)
    entry = ledger.find("v", "c", "pose", "k")
    assert entry is not None
    assert (entry.reason, entry.failure) == ("poison", "pose: killed its worker 3 times")


def test_a_file_of_equal_length_and_other_bytes_is_refused_and_then_made_again(ledger):
    entry = ledger.put("v", "c", "pose", "k", {}, {"pose.npz": b"abc"}, 0.0)
    ledger.store.write(entry.files["pose.npz"].path, b"abd")
    with pytest.raises(StagingDamaged, match="differs from what was staged"):
        ledger.read_file(entry.files["pose.npz"])
    assert ledger.find("v", "c", "pose", "k") is None


def test_dropping_clips_keeps_their_rows_and_the_files_of_others(ledger):
    for index in (0, 1):
        ledger.add_row("v", index, {"clip_id": f"c{index}"}, {"mp4": b"x"}, 0.0)
        ledger.put("v", f"c{index}", "pose", "k", {}, {"pose.npz": b"y"}, 0.0)
    ledger.drop({"v": {"c0"}})
    assert ledger.committed("v") == {"c0"}
    assert Ledger(ledger.store).committed("v") == set()  # the index tells the next run, if it still can
    assert [ledger.has_files(entry) for entry in ledger.rows("v")] == [False, True]
    assert ledger.find("v", "c0", "pose", "k") is None
    assert ledger.find("v", "c1", "pose", "k") is not None


def test_finishing_a_video_leaves_only_the_note_that_it_is_finished(ledger):
    ledger.add_row("v", 0, {"clip_id": "c"}, {"mp4": b"x"}, 0.0)
    ledger.mark_cut("v", 1)
    ledger.finish([Finished("v", ["c"])])
    assert ledger.finished() == [Finished("v", ["c"])]
    assert [path.split("/")[0] for path in ledger.store.list()] == ["finished"]
    assert not (ledger.store.local_path("video/v") or ledger.store.local_path()).exists()


def test_many_notes_of_finished_videos_become_one(ledger):
    videos = [Finished(f"v{i:02d}", [f"c{i}"]) for i in range(40)]
    for video in videos:
        ledger.finish([video])
    assert len(ledger.store.list("finished")) == 40
    for _ in range(2):
        assert sorted(ledger.finished(), key=lambda item: item.video) == videos
        assert len(ledger.store.list("finished")) == 1


def test_entries_survive_json(ledger):
    entry = ledger.put("v", "c", "s", "k", {"reasons": ["a"], "path_length": None}, {"a.npz": b"1"}, 0.25)
    assert Entry.from_json(entry.to_json()) == entry


def test_what_is_forgotten_is_gone_and_nothing_else(tmp_path):
    ledger = Ledger(Store(tmp_path))
    for video in ("a", "b"):
        ledger.put(video, video, "encode", "key", {}, {"npy": b"1"}, 0.1)
    assert ledger.begun() == {"a", "b"}
    ledger.forget(["a", "unknown"])
    assert ledger.begun() == {"b"} and not (tmp_path / "video" / "a").exists()
    assert ledger.find("b", "b", "encode", "key") is not None
