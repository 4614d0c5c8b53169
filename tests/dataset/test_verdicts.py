"""What people say of clips is never lost, and wins over the machine."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dataset.catalog import CatalogError, open_dataset, query, read_index, read_judged
from dataset.clip import ClipRecord, Kind, Verdict
from dataset.loader.config import DataConfig, SourceConfig
from dataset.loader.select import select
from dataset.reader import read_samples
from dataset.shards import ShardWriter
from dataset.store import Store
from dataset.verdicts import VERDICTS, HumanVerdict, VerdictBook, VerdictsError, in_force, read_history
from tests.tiny_dataset import clip_name, clip_record

KEEP, REJECT = HumanVerdict.KEEP, HumanVerdict.REJECT


def write_set(folder: Path) -> Store:
    """Clips 0 to 3, of which the machine rejects 2 and 3, and a piece of video that made no clip."""
    store = Store(folder)
    open_dataset(store, "tiny", {}, {})
    with ShardWriter(store, "kept") as writer:
        for number in range(4):
            record = clip_record(number, 17, (64, 96))
            if number > 1:
                record.verdict, record.reasons = Verdict.REJECTED, ["flow_dis<9"]
            writer.add(record, {"mp4": b"x", "camera.npz": b"y"})
        writer.commit([ClipRecord("tail", "video0", Kind.SPAN, verdict=Verdict.REJECTED, reasons=["tail"])])
    return store


def selected(store: Store, where: str = "") -> tuple[set[str], dict[str, int]]:
    found = select(SourceConfig(store.url, where=where), DataConfig(path=store.url, frames=[17]))
    return set(found.ids), found.left_out


def test_the_latest_judgement_of_a_clip_counts_and_the_ones_before_stay_in_the_history(store: Store):
    book = VerdictBook(store)
    book.add("a", KEEP, None, "Ada")
    book.add("b", REJECT, "  blurred ", "Ada")
    book.add("a", REJECT, None, "Bo")
    book.add("b", None, "blurred, but fine", "Bo")
    history = read_history(store)
    assert history["clip_id"].to_pylist() == ["a", "b", "a", "b"]
    assert history["time"].to_pylist() == sorted(set(history["time"].to_pylist()))
    said = in_force(history)
    assert (said["a"].verdict, said["a"].reviewer) == ("reject", "Bo")
    assert (said["b"].verdict, said["b"].note) == (None, "blurred, but fine")
    assert history["note"].to_pylist()[1] == "blurred"


def test_folding_makes_one_file_and_changes_nothing(store: Store):
    book = VerdictBook(store)
    for number in range(9):
        book.add(f"clip{number}", KEEP, None, "Ada")
    before = read_history(store)
    assert not book.fold(more_than=9)
    assert book.fold(more_than=8)
    assert len(store.list(VERDICTS)) == 1
    assert read_history(store).equals(before)
    book.add("clip0", REJECT, None, "Bo")
    assert in_force(read_history(store))["clip0"].verdict == "reject"


def test_a_fold_that_was_interrupted_counts_every_judgement_once(local_store: Store):
    book = VerdictBook(local_store)
    for number in range(4):
        book.add(f"clip{number}", KEEP, None, "Ada")
    single = {path: local_store.read(path) for path in local_store.list(VERDICTS)}
    book.fold(more_than=1)
    for path, data in single.items():
        local_store.write(path, data)
    assert len(read_history(local_store)) == 4


def test_reviewers_who_judge_and_fold_at_once_lose_nothing(local_store: Store):
    def review(name: str) -> None:
        book = VerdictBook(local_store)
        for number in range(20):
            book.add(f"{name}{number}", KEEP, None, name)
            if number % 4 == 3:
                book.fold(more_than=2)

    threads = [threading.Thread(target=review, args=(name,)) for name in ("Ada", "Bo")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(in_force(read_history(local_store))) == {f"{n}{i}" for n in ("Ada", "Bo") for i in range(20)}


def test_what_was_said_to_be_stored_is_there_after_kill_9(tmp_path: Path):
    root = Path(__file__).parents[2]
    for after in (5, 23):
        process = subprocess.Popen([sys.executable, str(Path(__file__).parent / "judge_until_killed.py"),
                                    str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=root,
                                   env={"PYTHONPATH": str(root), "PATH": ""})
        assert process.stdout is not None
        told = [process.stdout.readline().strip() for _ in range(after)]
        process.send_signal(signal.SIGKILL)
        told += process.stdout.read().split()
        process.wait()
        there = read_history(Store(tmp_path))["judgement_id"].to_pylist()
        assert set(told) <= set(there) and len(set(there)) == len(there)


def test_people_win_over_the_machine_in_the_loader(tmp_path: Path):
    store = write_set(tmp_path)
    assert selected(store)[0] == {clip_name(0), clip_name(1)}
    book = VerdictBook(store)
    book.add(clip_name(0), REJECT, "a hand before the lens", "Ada")
    book.add(clip_name(3), KEEP, None, "Ada")
    for where in ("", "flow_dis >= 0"):
        ids, left_out = selected(store, where)
        assert ids == {clip_name(1), clip_name(3)}
        assert left_out == {"rejected by a reviewer": 1, "not kept by annotation": 1}
    book.add(clip_name(0), None, None, "Bo")
    assert selected(store)[0] == {clip_name(0), clip_name(1), clip_name(3)}


def test_queries_and_readers_see_peoples_verdicts_and_the_index_keeps_the_machines(tmp_path: Path):
    store = write_set(tmp_path)
    before = read_index(store)
    book = VerdictBook(store)
    book.add(clip_name(0), REJECT, None, "Ada")
    book.add(clip_name(2), KEEP, None, "Ada")
    book.add("tail", KEEP, None, "Ada")  # made no clip: there is nothing to keep
    kept = [sample.record.clip_id for sample in read_samples(store, "verdict = 'kept'")]
    assert set(kept) == {clip_name(1), clip_name(2)}
    rows = {row["clip_id"]: row for row in query(store, "true").to_pylist()}
    assert rows[clip_name(0)]["reasons"] == ["review"] and rows[clip_name(2)]["reasons"] == []
    assert rows["tail"]["verdict"] == "rejected"
    assert read_index(store).equals(before)
    assert read_judged(store, ["clip_id", "verdict"]).column_names == ["clip_id", "verdict"]


def test_a_damaged_file_of_verdicts_is_told_and_never_passed_over(tmp_path: Path):
    store = write_set(tmp_path)
    VerdictBook(store).add(clip_name(0), REJECT, None, "Ada")
    (path,) = store.list(VERDICTS)
    data = store.read(path)
    store.write(path, data[: len(data) // 2])
    with pytest.raises(VerdictsError, match=r"verdicts/.*damaged"):
        read_history(store)
    with pytest.raises(CatalogError, match=r"verdicts/.*damaged"):
        selected(store)


def test_a_verdict_needs_a_name(local_store: Store):
    with pytest.raises(VerdictsError, match="name of its reviewer"):
        VerdictBook(local_store).add("a", KEEP, None, "  ")
    assert local_store.list(VERDICTS) == []
