"""Rows of a table to settings; what is wrong with one row is its own fault."""

import json
from pathlib import Path

import pytest

from infer.config import InferConfig
from infer.manifest import Row, read_manifest


def rows(tmp_path: Path, name: str, text: str, **settings: object) -> list[Row]:
    (tmp_path / name).write_text(text)
    return read_manifest(InferConfig(manifest=str(tmp_path / name), out="videos", **settings))  # type: ignore


TABLE = [{"name": "hall", "image": "a.png", "prompt": "a hall, empty", "action": "w-8,d-8", "seed": 3},
         {"name": "yard", "image": "a.png", "camera": "orbit:radius=2,degrees=40", "frames": 33,
          "intrinsics": [200, 200, 100, 60]}]


@pytest.fixture
def picture(tmp_path: Path, room: Path) -> Path:
    (tmp_path / "a.png").write_bytes(room.read_bytes())
    return tmp_path / "a.png"


def check(found: list[Row], picture: Path) -> None:
    hall, yard = (row.config for row in found)
    assert [row.fault for row in found] == [None, None]
    assert [row.name for row in found] == ["hall", "yard"]
    assert (hall.prompt, hall.action, hall.seed, hall.camera) == ("a hall, empty", "w-8,d-8", 3, None)
    assert (yard.camera, yard.frames, yard.seed) == ("orbit:radius=2,degrees=40", 33, 7)
    assert yard.intrinsics == [200, 200, 100, 60] and hall.intrinsics is None
    assert hall.image == str(picture) and hall.out == "videos/hall" and hall.manifest is None


def test_a_table_reads_the_same_in_each_format(tmp_path: Path, picture: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    check(rows(tmp_path, "a.jsonl", "".join(json.dumps(row) + "\n" for row in TABLE), seed=7), picture)
    check(rows(tmp_path, "a.csv", "name,image,prompt,action,camera,frames,intrinsics,seed\n"
               'hall,a.png,"a hall, empty","w-8,d-8",,,,3\n\n'
               'yard,a.png,,,"orbit:radius=2,degrees=40",33,200 200 100 60,\n', seed=7), picture)
    pq.write_table(pa.Table.from_pylist([{**dict.fromkeys(TABLE[0] | TABLE[1]), **row} for row in TABLE]),
                   tmp_path / "a.parquet")
    check(read_manifest(InferConfig(manifest=str(tmp_path / "a.parquet"), out="videos", seed=7)), picture)


def test_what_a_row_lacks_comes_from_the_command_and_its_own_path_counts(tmp_path: Path, picture: Path):
    found = rows(tmp_path, "a.jsonl", '{"image": "a.png"}\n{"image": "a.png", "camera": "dolly"}\n',
                 action="w-8", prompt="a room")
    assert [(row.name, row.config.action, row.config.camera) for row in found] == [
        ("00001", "w-8", None), ("00002", None, "dolly")]
    assert {row.config.prompt for row in found} == {"a room"}


@pytest.mark.parametrize(("row", "says"), [
    ({"seed": "many"}, "column seed: 'many', allowed a whole number"), ({"seed": -1}, "seed=-1"),
    ({"seed": 1.5}, "allowed a whole number"), ({"fov": "wide"}, "column fov"),
    ({"intrinsics": "1 2 x 4"}, "column intrinsics"), ({"name": "../etc"}, "column name"),
    ({"action": None}, "missing: action="), ({"camera": "orbit"}, "both given"),
    ({"image": ""}, "missing: image=")])
def test_a_bad_row_says_why_and_leaves_the_others(tmp_path: Path, picture: Path, row: dict, says: str):
    good = {"image": "a.png", "action": "w-8"}
    text = "".join(json.dumps(each) + "\n" for each in (good, {**good, **row}, good))
    found = rows(tmp_path, "a.jsonl", text)
    assert [each.fault is None for each in found] == [True, False, True]
    assert says in (found[1].fault or "")


def test_two_rows_of_one_name_do_not_share_a_folder(tmp_path: Path, picture: Path) -> None:
    first, second = rows(tmp_path, "a.csv", "name,image,action\nx,a.png,w-8\nx,a.png,d-8\n")
    assert first.fault is None and "'x' is that of row 2 too" in (second.fault or "")
    assert first.name != second.name


@pytest.mark.parametrize(("name", "text", "says"), [
    ("a.csv", "name,imagine\nx,y\n", "column 'imagine' means nothing here"),
    ("a.csv", "image,action\na.png,w-8,d-8\n", "3 values, the header names 2; a comma inside a value"),
    ("a.csv", "image\n", "no rows"), ("a.csv", "", "no rows"), ("a.jsonl", "{\n", "not JSON"),
    ("a.jsonl", "[1]\n", "list, expected one JSON object"), ("a.parquet", "PAR1", "not a Parquet file"),
    ("a.txt", "", "suffix, allowed .csv"), ("a.xlsx", "", "suffix, allowed .csv")])
def test_tables_that_cannot_be_read_are_refused(tmp_path: Path, name: str, text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        rows(tmp_path, name, text)
    with pytest.raises(ValueError, match="cannot be read: No such file"):
        read_manifest(InferConfig(manifest=str(tmp_path / "gone.csv")))
