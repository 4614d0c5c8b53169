"""Near-duplicates of a data set: the columns and the verdicts that follow from them."""

import itertools
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from annotate.duplicates.config import DuplicatesConfig
from annotate.duplicates.hashing import to_text
from annotate.filters import Bound, Missing, Thresholds, judge
from dataset.catalog import open_dataset, read_index, write_segment
from dataset.clip import ClipRecord, Kind, Verdict
from dataset.store import Store
from pipelines.duplicates import settle_duplicates

CONFIG = DuplicatesConfig()
RULES = Thresholds(sharpness=Bound(min=5), duplicate_similarity=Bound(max=0.8, missing=Missing.ignore))
JUDGE = partial(judge, thresholds=RULES)


def video(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 2**63, 40, dtype=np.uint64)


def row(name: str, hashes: np.ndarray | None, width: int = 640, sharpness: float = 9.0) -> ClipRecord:
    record = ClipRecord(
        name, f"video-{name}", Kind.CLIP, source_width=width, source_height=360, sharpness=sharpness,
        video_hash=None if hashes is None else to_text(hashes), shard="shards/kept.tar")
    record.verdict, record.reasons = JUDGE(record)
    return record


ROWS = [
    row("a", video(1)), row("b", video(1) ^ np.uint64(1), width=1280),
    row("c", video(1), sharpness=1.0, width=1920), row("d", video(2)), row("e", None),
    ClipRecord("t", "video-a", Kind.SPAN, verdict=Verdict.REJECTED, reasons=["tail"]),
]


def data_set(folder: Path, segments: list[list[ClipRecord]]) -> Store:
    store = Store(str(folder))
    open_dataset(store, "f", {}, {})
    for records in segments:
        write_segment(store, records)
    return store


def settled(store: Store) -> dict[str, tuple]:
    names = ("clip_id", "verdict", "reasons", "duplicate_of", "duplicate_similarity")
    rows = read_index(store, names).to_pylist()
    return {found["clip_id"]: tuple(found[name] for name in names[1:]) for found in rows}


def test_the_best_of_near_duplicates_stays_and_the_others_say_which(tmp_path):
    """c has the largest source, but fails another rule: b stays."""
    store = data_set(tmp_path, [ROWS])
    assert settle_duplicates(store, CONFIG, JUDGE) == 1
    found = settled(store)
    assert found["b"] == ("kept", [], None, 0.0)
    assert found["a"][:3] == ("rejected", ["duplicate_similarity>0.8"], "b") and found["a"][3] > 0.9
    assert found["c"][:3] == ("rejected", ["duplicate_similarity>0.8", "sharpness<5"], "b")
    assert found["d"] == ("kept", [], None, 0.0)
    assert found["e"] == ("kept", [], None, None)
    assert found["t"] == ("rejected", ["tail"], None, None)


def test_the_answer_is_the_same_in_any_order_and_stays(tmp_path):
    expected = None
    for number, order in enumerate(itertools.islice(itertools.permutations(ROWS), 0, 720, 180)):
        store = data_set(tmp_path / f"{number}", [list(order[:2]), list(order[2:5]), list(order[5:])])
        settle_duplicates(store, CONFIG, JUDGE)
        expected = expected or settled(store)
        assert settled(store) == expected
        segments = {path: store.read(path) for path in store.list("index")}
        assert settle_duplicates(store, CONFIG, JUDGE) == 0
        assert {path: store.read(path) for path in store.list("index")} == segments


def test_a_run_that_broke_off_half_way_is_put_right_by_the_next(tmp_path, monkeypatch):
    """The disk refuses the second segment."""
    whole = data_set(tmp_path / "whole", [ROWS[:2], ROWS[2:]])
    settle_duplicates(whole, CONFIG, JUDGE)
    store = data_set(tmp_path / "broken", [ROWS[:2], ROWS[2:]])
    write, written = Store.write, []

    def refuse(self, path, data):
        if path.startswith("index/"):
            if written:
                raise OSError(28, "No space left on device")
            written.append(path)
        write(self, path, data)

    monkeypatch.setattr(Store, "write", refuse)
    with pytest.raises(OSError, match="No space"):
        settle_duplicates(store, CONFIG, JUDGE)
    monkeypatch.undo()
    assert settled(store) != settled(whole)
    settle_duplicates(store, CONFIG, JUDGE)
    assert settled(store) == settled(whole)


def test_switched_off_nothing_changes(tmp_path):
    store = data_set(tmp_path, [ROWS])
    before = settled(store)
    assert settle_duplicates(store, DuplicatesConfig(enabled=False), JUDGE) == 0
    assert settled(store) == before
