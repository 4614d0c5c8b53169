from __future__ import annotations

import dataclasses
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset.catalog import (
    DESCRIPTION,
    CatalogError,
    check_record,
    committed_ids,
    content_digest,
    open_dataset,
    query,
    read_index,
    segment_paths,
    write_segment,
)
from dataset.clip import SCHEMA_VERSION, ClipRecord, Kind, Member, Verdict, from_row, index_schema, to_row
from dataset.store import Store

SETTINGS = {"clip": {"frames": 161, "size": [720, 1280]}, "pose": {"engine": "classical"}}


def record(name: str, **fields: object) -> ClipRecord:
    return ClipRecord(**{"clip_id": name, "video_id": "v", "kind": Kind.CLIP, **fields})  # type: ignore[arg-type]


def test_opening_again_with_the_same_settings_changes_nothing(store: Store) -> None:
    first = open_dataset(store, "f1", SETTINGS, {"flow_dis": 3.0})
    before = store.read(DESCRIPTION)
    again = open_dataset(store, "f1", json.loads(json.dumps(SETTINGS)), {"flow_dis": 9.0})
    assert again == first and again.thresholds == {"flow_dis": 3.0}
    assert store.read(DESCRIPTION) == before


def test_other_settings_are_refused_by_name(store: Store) -> None:
    open_dataset(store, "f1", SETTINGS, {})
    other = {"clip": {"frames": 961, "size": [720, 1280]}, "pose": {"engine": "classical"}, "depth": None}
    with pytest.raises(CatalogError) as caught:
        open_dataset(store, "f2", other, {})
    lines = str(caught.value).splitlines()
    assert store.url in lines[0]
    assert "  clip.frames: found 161, asked for 961" in lines
    assert "  depth: found 'nothing', asked for None" in lines
    assert len(lines) == 4 and "out=" in lines[-1]


def test_another_version_of_the_code_with_equal_settings_is_refused(store: Store) -> None:
    open_dataset(store, "f1", SETTINGS, {})
    with pytest.raises(CatalogError, match="fingerprint: found f1, asked for f2"):
        open_dataset(store, "f2", SETTINGS, {})


def test_another_schema_version_is_refused_naming_both(store: Store) -> None:
    open_dataset(store, "f1", SETTINGS, {})
    values = json.loads(store.read(DESCRIPTION))
    store.write(DESCRIPTION, json.dumps({**values, "schema_version": 99, "new_key": 1}).encode())
    with pytest.raises(CatalogError, match=rf"version 99, this code reads and writes {SCHEMA_VERSION}"):
        open_dataset(store, "f1", SETTINGS, {})


def test_a_folder_with_an_index_of_unknown_origin_is_refused(store: Store) -> None:
    store.write("index/a.parquet", b"something")
    with pytest.raises(CatalogError, match=f"no {DESCRIPTION}"):
        open_dataset(store, "f1", SETTINGS, {})
    assert store.list() == ["index/a.parquet"]


def test_a_segment_of_another_schema_version_is_refused_naming_both(store: Store) -> None:
    write_segment(store, [record("a")])
    schema = index_schema().with_metadata({"sana_wm.schema_version": "99"})
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([to_row(record("b"))], schema=schema), sink)
    store.write("index/zz.parquet", sink.getvalue().to_pybytes())
    with pytest.raises(CatalogError, match=rf"zz.parquet: schema version 99, expected {SCHEMA_VERSION}"):
        read_index(store)
    with pytest.raises(CatalogError, match="schema version 99"):
        committed_ids(store)


def test_a_segment_with_other_columns_is_refused_naming_them(store: Store) -> None:
    table = pa.Table.from_pylist([to_row(record("a"))], schema=index_schema()).drop(["sharpness"])
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    store.write("index/a.parquet", sink.getvalue().to_pybytes())
    with pytest.raises(CatalogError, match=r"columns \['sharpness'\]"):
        read_index(store)


def test_a_damaged_segment_is_named(store: Store) -> None:
    path = write_segment(store, [record("a")])
    data = store.read(path)
    store.write(path, data[: len(data) // 2])
    with pytest.raises(CatalogError, match=f"{path}: damaged"):
        read_index(store)


def test_records_come_back_as_they_went_in(store: Store) -> None:
    full = record("a", verdict=Verdict.REJECTED, reasons=["flow_dis<3", "static"], sharpness=0.1 + 0.2,
                  frames=161, caption="über 街 \n\"quoted\"", licence=None,
                  members=[Member("a.mp4", 512, 7, "00" * 32)], shard="shards/x.tar")
    write_segment(store, [full, record("b")])
    write_segment(store, [record("c", kind=Kind.VIDEO, detail="unreadable")])
    rows = {row["clip_id"]: from_row(row) for row in read_index(store).to_pylist()}
    assert rows == {"a": full, "b": record("b"), "c": record("c", kind=Kind.VIDEO, detail="unreadable")}
    assert committed_ids(store) == {"a", "b", "c"}


def test_an_empty_data_set_has_an_empty_index(store: Store) -> None:
    assert read_index(store).num_rows == 0
    assert read_index(store).schema.equals(index_schema())
    assert committed_ids(store) == set()
    assert query(store, "verdict = 'kept'").num_rows == 0


def test_the_same_rows_committed_twice_are_one_segment(store: Store) -> None:
    write_segment(store, [record("a", sharpness=1.0), record("b")])
    write_segment(store, [record("b"), record("a", sharpness=2.0)])
    assert len(segment_paths(store)) == 1
    assert read_index(store, ["clip_id", "sharpness"]).to_pylist()[0] == {"clip_id": "a", "sharpness": 2.0}


def test_a_clip_in_two_segments_counts_once_the_first_by_name(store: Store) -> None:
    write_segment(store, [record("a", sharpness=1.0), record("b")])
    write_segment(store, [record("a", sharpness=2.0), record("c")])
    first = pq.read_table(pa.BufferReader(store.read(segment_paths(store)[0]))).to_pylist()
    expected = next(row["sharpness"] for row in first if row["clip_id"] == "a")
    table = read_index(store)
    assert sorted(table["clip_id"].to_pylist()) == ["a", "b", "c"]
    assert table.filter(pa.compute.equal(table["clip_id"], "a"))["sharpness"].to_pylist() == [expected]
    assert read_index(store, ["sharpness"]).num_rows == 3


def test_questions_are_conditions_or_statements(store: Store) -> None:
    write_segment(store, [record(name, flow_dis=value, verdict=verdict) for name, value, verdict in (
        ("a", 1.0, Verdict.REJECTED), ("b", 5.0, Verdict.KEPT), ("c", None, Verdict.FAILED),
        ("d", 7.0, Verdict.KEPT))])
    chosen = query(store, "verdict = 'kept' and flow_dis > 6")
    assert chosen["clip_id"].to_pylist() == ["d"] and chosen.schema.equals(index_schema())
    counts = query(store, "SELECT verdict, count(*) AS n FROM clips GROUP BY 1 ORDER BY 1").to_pylist()
    assert {row["verdict"]: row["n"] for row in counts} == {"failed": 1, "kept": 2, "rejected": 1}
    assert query(store, "flow_dis is null")["clip_id"].to_pylist() == ["c"]
    with pytest.raises(CatalogError, match=r"(?s)cannot answer 'flow_di > 1'.*flow_dis"):
        query(store, "flow_di > 1")


def test_content_is_everything_but_placement_in_any_order(store: Store) -> None:
    rows = [record("a", sharpness=1.5, shard="x", stage_seconds="1"), record("b", reasons=["r"])]
    table = pa.Table.from_pylist([to_row(r) for r in rows], schema=index_schema())
    moved = [rows[1], dataclasses.replace(rows[0], shard="y", stage_seconds="2", annotated_at="now")]
    other_place = pa.Table.from_pylist([to_row(r) for r in moved], schema=index_schema())
    assert content_digest(table) == content_digest(other_place)
    for change in ({"sharpness": 1.5000000000000002}, {"sharpness": None}, {"reasons": ["x"]}, {"uri": "u"}):
        changed = [dataclasses.replace(rows[0], **change), rows[1]]  # type: ignore[arg-type]
        assert content_digest(pa.Table.from_pylist([to_row(r) for r in changed], schema=index_schema())
                              ) != content_digest(table)


@pytest.mark.parametrize(("fields", "message"), [
    ({"sharpness": float("nan")}, "sharpness is nan; what could not be measured is None"),
    ({"path_length": float("inf")}, "path_length is inf"),
    ({"frames": "many"}, "frames is 'many', which is no int64"),
    ({"frames": 160.5}, "frames is 160.5, which is no int64"),
    ({"uri": "caf\udce9.mp4"}, "uri is .* no string"),
    ({"frames": 2**70}, "frames is .* no int64"),
    ({"reasons": [3]}, "reasons is"),
    ({"schema_version": 7}, "schema version 7, expected"),
])
def test_a_record_that_cannot_be_stored_is_refused_by_clip_and_column(
    fields: dict[str, object], message: str
) -> None:
    with pytest.raises(CatalogError, match=f"clip a: {message}"):
        check_record(record("a", **fields))
    check_record(record("a"))
