"""The index in memory follows the data set, and shows what is damaged."""

from __future__ import annotations

import uuid

import fsspec
import pytest

from dataset.catalog import INDEX
from dataset.store import Store
from dataset.verdicts import VERDICTS, HumanVerdict, VerdictBook
from pipelines.qa.index import ClipIndex, QuestionError
from tests.pipelines.qa.conftest import score
from tests.tiny_dataset import clip_name, write_video_set


def test_rows_scores_and_seconds_are_those_of_the_index(scored_set: Store):
    index = ClipIndex(scored_set)
    rows = dict(index.ask("select clip_id, seconds from clips"))
    assert rows == {clip_name(number): 17 / 16 for number in range(7)}
    record = index.record(clip_name(3))
    assert record is not None and record.flow_dis == 3.0
    assert {member.name for member in record.members} >= {f"{clip_name(3)}.mp4", f"{clip_name(3)}.camera.npz"}
    assert index.record("nobody") is None
    assert index.snapshot.notices == []


def test_every_value_lies_in_its_bin_and_what_is_unmeasured_in_none(scored_set: Store):
    index = ClipIndex(scored_set)
    for score_name, (edges, logarithmic) in index.snapshot.edges.items():
        assert logarithmic == (score_name == "reprojection_px")
        for value, place in index.ask(f"select {score_name}, bin_{score_name} from clips"):
            assert place == 255 if value is None else edges[place] <= value <= edges[place + 1]
    assert index.ask("select count(*) from clips where bin_focal_px = 255") == [(4,)]


def test_new_clips_and_verdicts_of_others_appear_at_the_next_look(scored_set: Store):
    index = ClipIndex(scored_set)
    assert not index.refresh()
    write_video_set(scored_set.url, 2, first=7, change=score)
    assert index.refresh() and not index.refresh()
    assert index.ask("select count(*) from clips") == [(9,)]
    VerdictBook(scored_set).add(clip_name(8), HumanVerdict.KEEP, "good", "Bo")
    version = index.version
    assert index.refresh() and index.version > version
    assert index.ask("select clip_id, note, reviewer, final, verdict from clips where judged = 'keep'") == [
        (clip_name(8), "good", "Bo", "kept", "rejected")]


def test_damaged_segments_shards_and_verdicts_are_told_and_the_rest_is_shown(scored_set: Store):
    shards = scored_set.list("shards")
    gone = scored_set.local_path(shards[0])
    short = scored_set.local_path(shards[1])
    assert gone is not None and short is not None
    gone.unlink()
    with open(short, "r+b") as file:
        file.truncate(5000)
    scored_set.write(f"{INDEX}/ffffffffffffffffffff.parquet", b"PAR1 and no more")
    scored_set.write(f"{VERDICTS}/broken.parquet", b"nothing")
    index = ClipIndex(scored_set)
    troubles = index.ask("select trouble, count(*) from clips group by 1 order by 1 nulls last")
    assert {name for name, _ in troubles} == {"missing shard", "truncated shard", None}
    assert sum(count for _, count in troubles) == 7
    told = "\n".join(index.snapshot.notices)
    assert "ffffffffffffffffffff.parquet" in told and "verdicts/broken.parquet" in told
    assert "missing shard" in told and "truncated shard" in told
    scored_set.remove(f"{VERDICTS}/broken.parquet")
    assert index.refresh()
    assert not any("broken" in notice for notice in index.snapshot.notices)


def test_questions_neither_write_nor_read_files_nor_run_on(scored_set: Store):
    index = ClipIndex(scored_set)
    for sql in ("drop table base", "select 1; drop table base", "update base set verdict = 'kept'",
                "copy base to '/tmp/stolen'", "set enable_external_access = true",
                "select * from read_text('/etc/hostname')", "select * from '/etc/hostname'",
                "attach '/tmp/other.db'", "select * from incoming", "select nothing"):
        with pytest.raises(QuestionError):
            index.ask(sql)
    assert index.ask("select count(*) from clips") == [(7,)]


def test_a_data_set_in_an_object_store_is_shown_as_well(tmp_path):
    name = uuid.uuid4().hex
    store = write_video_set(f"memory://{name}", 3, change=score)
    try:
        assert ClipIndex(store).ask("select count(*), count(trouble) from clips") == [(3, 0)]
    finally:
        fsspec.filesystem("memory").rm(name, recursive=True)
