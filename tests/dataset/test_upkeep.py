from __future__ import annotations

import os
import uuid
from collections.abc import Callable

import pytest

from dataset.catalog import (
    CatalogError,
    committed_ids,
    content_digest,
    open_dataset,
    read_description,
    read_index,
    segment_paths,
    write_description,
    write_segment,
)
from dataset.clip import ClipRecord, Kind, Verdict
from dataset.reader import read_samples
from dataset.shards import ShardWriter
from dataset.store import Store
from dataset.upkeep import Recovery, compact, recover, rejudge

MakeClip = Callable[..., tuple[ClipRecord, dict[str, bytes]]]
THRESHOLDS = {"flow_dis": 1.0}


def fill(store: Store, make_clip: MakeClip, commits: int = 3, clips: int = 4) -> None:
    """`commits` shards of `clips` clips each, and a row of a span with each."""
    open_dataset(store, "f", {}, THRESHOLDS)
    with ShardWriter(store, "kept") as writer:
        for number in range(commits):
            for clip in range(clips):
                writer.add(*make_clip(number * clips + clip))
            writer.commit([ClipRecord(f"span{number}", "v", Kind.SPAN, verdict=Verdict.REJECTED)])


def test_a_sound_data_set_needs_no_recovery(store: Store, make_clip: MakeClip) -> None:
    fill(store, make_clip)
    before = store.sizes()
    assert recover(store) == Recovery()
    assert store.sizes() == before


def test_shards_without_rows_and_half_written_files_go(local_store: Store, make_clip: MakeClip) -> None:
    fill(local_store, make_clip)
    before = local_store.list()
    orphan = "shards/kept-0123456789abcdef0123.tar"
    local_store.write(orphan, b"written before its rows")
    for folder in ("shards", "index"):
        path = local_store.local_path(f"{folder}/.half.tmp")
        assert path is not None
        path.write_bytes(b"half")
    recovery = recover(local_store)
    assert sorted(recovery.orphans) == ["index/.half.tmp", "shards/.half.tmp", orphan]
    assert local_store.list() == before
    assert not os.path.exists(local_store.local_path("shards/.half.tmp") or "")


def test_files_that_are_not_ours_stay(store: Store, make_clip: MakeClip) -> None:
    fill(store, make_clip, commits=1)
    store.write("shards/holiday.tar", b"mine")
    recover(store)
    assert store.read("shards/holiday.tar") == b"mine"


def test_nothing_is_removed_where_there_is_no_data_set(store: Store) -> None:
    store.write("shards/kept-0123456789abcdef0123.tar", b"somebody's")
    with pytest.raises(CatalogError, match="not a data set"):
        recover(store)
    assert store.exists("shards/kept-0123456789abcdef0123.tar")


@pytest.mark.parametrize("fault", ["missing", "truncated"])
def test_a_lost_shard_stops_recovery_or_its_clips_are_withdrawn_to_be_made_again(
    store: Store, make_clip: MakeClip, fault: str
) -> None:
    fill(store, make_clip)
    whole = content_digest(read_index(store))
    shard = read_index(store, ["shard"])["shard"].to_pylist()[0]
    data = store.read(shard)
    store.remove(shard)
    if fault == "truncated":
        store.write(shard, data[:3000])
    with pytest.raises(CatalogError, match=rf"{shard}: {'missing' if fault == 'missing' else 'shorter'}"):
        recover(store)
    assert content_digest(read_index(store)) == whole
    withdrawn = recover(store, remake_broken=True).withdrawn
    assert len(withdrawn) == 4
    assert shard not in store.list()
    assert len(list(read_samples(store, verify=True))) == 8
    assert {f"span{number}" for number in range(3)} <= committed_ids(store)
    with ShardWriter(store, "kept") as writer:
        for number in range(12):
            if make_clip(number)[0].clip_id in withdrawn:
                writer.add(*make_clip(number))
        writer.commit()
    assert content_digest(read_index(store)) == whole
    assert len(list(read_samples(store, verify=True))) == 12


def test_merging_segments_changes_no_row(store: Store, make_clip: MakeClip) -> None:
    fill(store, make_clip, commits=5)
    before = read_index(store).sort_by("clip_id")
    assert len(segment_paths(store)) == 5
    assert not compact(store, more_than=5)
    assert compact(store, more_than=4)
    assert len(segment_paths(store)) == 1
    assert read_index(store).sort_by("clip_id").equals(before)
    assert not compact(store)


def test_many_commits_do_not_pile_up_segments() -> None:
    store = Store(f"memory://{uuid.uuid4().hex}")
    writer = ShardWriter(store, "kept")
    for number in range(40):
        writer.commit([ClipRecord(f"c{number}", "v", Kind.SPAN)])
    assert len(segment_paths(store)) == 8
    assert committed_ids(store) == {f"c{number}" for number in range(40)}


def judge(record: ClipRecord) -> tuple[Verdict, list[str]]:
    if record.kind is not Kind.CLIP:
        return record.verdict, record.reasons
    assert record.flow_dis is not None
    return (Verdict.REJECTED, ["flow_dis<3"]) if record.flow_dis < 3 else (Verdict.KEPT, [])


def test_other_thresholds_rewrite_verdicts_and_nothing_else(store: Store, make_clip: MakeClip) -> None:
    fill(store, make_clip)
    before = {row["clip_id"]: row for row in read_index(store).to_pylist()}
    shards = store.sizes("shards")
    assert rejudge(store, judge, {"flow_dis": 3.0}) == 9
    after = {row["clip_id"]: row for row in read_index(store).to_pylist()}
    verdicts = [after[make_clip(number)[0].clip_id]["verdict"] for number in range(12)]
    assert verdicts == ["rejected"] * 9 + ["kept"] * 3
    assert after["span0"] == before["span0"]
    for name, row in after.items():
        assert {**row, "verdict": 0, "reasons": 0} == {**before[name], "verdict": 0, "reasons": 0}
    assert store.sizes("shards") == shards
    assert read_description(store).thresholds == {"flow_dis": 3.0}
    assert rejudge(store, judge, {"flow_dis": 3.0}) == 0


def test_a_rewrite_of_verdicts_that_was_interrupted_says_so(store: Store, make_clip: MakeClip) -> None:
    fill(store, make_clip)
    calls = 0

    def breaks(record: ClipRecord) -> tuple[Verdict, list[str]]:
        nonlocal calls
        calls += 1
        if calls > 8:
            raise KeyboardInterrupt
        return judge(record)

    with pytest.raises(KeyboardInterrupt):
        rejudge(store, breaks, {"flow_dis": 3.0})
    assert open_dataset(store, "f", {}, THRESHOLDS).thresholds is None
    assert 0 < rejudge(store, judge, {"flow_dis": 3.0}) < 9


def test_a_description_can_be_rewritten(store: Store) -> None:
    description = open_dataset(store, "f", {"a": 1}, {})
    description.thresholds = {"x": 2.0}
    write_description(store, description)
    assert read_description(store) == description


def test_the_same_clip_in_two_segments_is_one_after_merging(store: Store) -> None:
    open_dataset(store, "f", {}, {})
    shared = ClipRecord("a", "v", Kind.SPAN)
    write_segment(store, [shared, ClipRecord("b", "v", Kind.SPAN)])
    write_segment(store, [shared, ClipRecord("c", "v", Kind.SPAN)])
    compact(store)
    assert sorted(read_index(store)["clip_id"].to_pylist()) == ["a", "b", "c"]
    assert len(segment_paths(store)) == 1
