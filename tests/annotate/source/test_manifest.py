import csv
import io
import json
import os

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from annotate.source.expand import expand
from annotate.source.item import Axes, CameraGrid, Conventions, Direction, PixelCentres, SourceConfig
from annotate.source.manifest import read_manifest

text = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=20).map(str.strip)
seconds = st.floats(0, 1e4).map(lambda x: round(x, 3))
rows = st.lists(
    st.fixed_dictionaries(
        {"uri": st.from_regex(r"[a-z]{1,8}\.mp4", fullmatch=True)},
        optional={"caption": text, "licence": text, "start": seconds, "depth_unit": st.floats(1e-4, 1),
                  "intrinsics": st.lists(st.floats(1, 4000), min_size=4, max_size=4),
                  "axes": st.sampled_from(list(Axes))},
    ), min_size=1, max_size=6, unique_by=lambda row: (row["uri"], row.get("start")))


@pytest.fixture
def folder(tmp_path):
    for name in ("a.mp4", "b.mp4", "poses.npy", "k.json"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "depth").mkdir()
    return tmp_path


def manifest(folder, content: str, name="list.csv") -> str:
    (folder / name).write_text(content)
    return str(folder / name)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(rows)
def test_csv_json_lines_and_parquet_say_the_same(tmp_path, listed):
    for row in listed:
        (tmp_path / row["uri"]).touch()
    names = list(dict.fromkeys(name for row in listed for name in row))
    table = io.StringIO(newline="")
    writer = csv.DictWriter(table, names)
    writer.writeheader()
    for row in listed:
        writer.writerow({name: " ".join(map(repr, value)) if isinstance(value, list) else value
                         for name, value in row.items()})
    (tmp_path / "m.csv").write_bytes(table.getvalue().encode())
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in listed))
    columns = {name: [row.get(name) for row in listed] for name in names}
    pq.write_table(pa.table(columns), tmp_path / "m.parquet")
    items = [expand(str(tmp_path / f"m.{kind}"), SourceConfig()) for kind in ("csv", "jsonl", "parquet")]
    assert items[0] == items[1] == items[2]
    for row, item in zip(listed, items[0]):
        assert item.uri == str(tmp_path / row["uri"])
        assert item.caption == (row.get("caption") or None) and item.start_s == row.get("start")
        assert item.intrinsics == row.get("intrinsics")
        assert item.given.depth_unit == row.get("depth_unit", 0.001)
        assert item.given.axes == row.get("axes", Axes.opencv)


def test_every_column_reaches_the_item(folder):
    path = manifest(folder, (
        "uri,id,start,end,caption,license,intrinsics,intrinsics_size,poses,depth,"
        "axes,direction,pose_unit,pixel_centres,camera_grid,depth_unit,views\n"
        'a.mp4,first,1.5,11.5,"a street, wet",CC-BY,"500 510 320 240",640x480,poses.npy,depth,'
        "opengl,w2c,unknown,integer,stored,0.0002,17\n"))
    (item,) = read_manifest(path, SourceConfig(name="mine", licence="CC0"))
    assert item.uri == str(folder / "a.mp4") and item.id == "first" and item.source == "mine"
    assert (item.start_s, item.end_s) == (1.5, 11.5)
    assert item.caption == "a street, wet" and item.licence == "CC-BY"
    assert item.intrinsics == [500, 510, 320, 240] and item.intrinsics_size == [480, 640]
    assert item.poses == str(folder / "poses.npy") and item.depth == str(folder / "depth")
    assert item.given == Conventions(Axes.opengl, Direction.w2c, "unknown", PixelCentres.integer,
                                     CameraGrid.stored, 0.0002)


def test_what_a_row_leaves_out_comes_from_the_settings(folder):
    given = Conventions(axes=Axes.opengl)
    (item,) = read_manifest(manifest(folder, "uri\na.mp4\n"), SourceConfig(licence="CC0", given=given))
    assert item.licence == "CC0" and item.given == given and item.id == "a.mp4"
    assert item.poses is item.depth is item.intrinsics is item.start_s is None


def test_paths_are_relative_to_the_manifest_wherever_one_stands(folder, monkeypatch):
    path = manifest(folder, "uri\na.mp4\nsub/../b.mp4\n")
    (folder / "sub").mkdir()
    monkeypatch.chdir(folder.parent)
    items = read_manifest(os.path.relpath(path), SourceConfig())
    assert [item.uri for item in items] == [str(folder / "a.mp4"), str(folder / "b.mp4")]


def test_a_manifest_may_lie_at_a_url_and_name_others():
    fs = fsspec.filesystem("memory")
    fs.pipe("/set/list.jsonl", b'{"uri": "a.mp4", "poses": "a.npy"}\n\n{"uri": "memory://else/b.mp4"}\n')
    try:
        items = expand("memory://set/list.jsonl", SourceConfig())
    finally:
        fs.store.clear()
    assert [item.uri for item in items] == ["memory://set/a.mp4", "memory://else/b.mp4"]
    assert items[0].poses == "memory://set/a.npy"


def test_parts_of_one_video_are_different_items_and_repeated_rows_are_one(folder, caplog):
    caplog.set_level("INFO")
    path = manifest(folder, "uri,start,end\na.mp4,0,10\na.mp4,10,20\na.mp4,0,10\n")
    items = read_manifest(path, SourceConfig())
    assert [item.id for item in items] == ["a.mp4@0-10", "a.mp4@10-20"]
    assert "1 repeated rows passed over" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("path\na.mp4\n", "needs a column uri; found path"),
        ("uri\n", "has no rows"),
        ("", "has no rows"),
        ("uri\nc.mp4\n", r"list\.csv:2: column uri: found 'c\.mp4', allowed: a file that exists"),
        ("uri,start\na.mp4,ten\n", r":2: column start: found 'ten', allowed: a number"),
        ("uri,start\na.mp4,nan\n", r":2: column start: found 'nan', allowed: a finite number"),
        ("uri,start\na.mp4,-1\n", r":2: column start: found -1, allowed: seconds .* not negative"),
        ("uri,start,end\na.mp4,5,5\n", r":2: column end: found 5, allowed: more than start = 5"),
        ("uri,intrinsics\na.mp4,500 500\n", r":2: column intrinsics: found '500 500', allowed: four numbers"),
        ("uri,intrinsics\na.mp4,500 -1 3 4\n", r":2: column intrinsics: .*fx, fy > 0"),
        ("uri,intrinsics\na.mp4,k.yaml\n", r":2: column intrinsics: found 'k\.yaml'"),
        ("uri,intrinsics\na.mp4,none.json\n", r":2: column intrinsics: found 'none\.json', allowed: a file"),
        ("uri,intrinsics_size\na.mp4,640*480\n", r":2: column intrinsics_size: .*1920x1080"),
        ("uri,poses\na.mp4,poses.mat\n", r":2: column poses: found 'poses\.mat', allowed: one of \.npy"),
        ("uri,poses\na.mp4,none.npy\n", r":2: column poses: found 'none\.npy', allowed: a file that exists"),
        ("uri,axes\na.mp4,blender\n", r":2: column axes: found 'blender', allowed: opencv, opengl"),
        ("uri,depth_unit\na.mp4,0\n", r":2: column depth_unit: found 0, allowed: more than 0"),
        ("uri,caption\na.mp4,a, b\n", r":2: 3 values, the header names 2; a comma .* needs quotes"),
        ("uri,id\na.mp4,x\nb.mp4,x\n", r":3: column id: 'x' was given to another row already"),
        ("uri\nsynthetic://room-fly\n", r":2: column uri: found 'synthetic://room-fly'"),
        ("uri,uri2\n,b\n", r":2: column uri: found nothing"),
    ],
)
def test_a_wrong_value_is_told_with_file_line_column_found_and_allowed(folder, content, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_manifest(manifest(folder, content), SourceConfig())
    assert "list.csv" in str(caught.value)


def test_all_errors_are_told_at_once(folder):
    path = manifest(folder, "uri,start\nc.mp4,0\na.mp4,0\nb.mp4,x\n")
    with pytest.raises(ValueError, match=r"(?s)list\.csv:2: column uri.*list\.csv:4: column start"):
        read_manifest(path, SourceConfig())


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("m.jsonl", b"{'uri': 1}\n", r"m\.jsonl:1: not JSON"),
        ("m.jsonl", b'["a.mp4"]\n', r"m\.jsonl:1: found list, expected one JSON object a line"),
        ("m.jsonl", b'{"uri": "a.mp4"}\n{"path": "b.mp4"}\n', r"m\.jsonl:2: a manifest needs a column uri"),
        ("m.jsonl", b'{"uri": ["a.mp4"]}\n', r"m\.jsonl:1: column uri: found \['a\.mp4'\], allowed: text"),
        ("m.parquet", b"not parquet", "not a Parquet file"),
        ("m.csv", "uri,caption\na.mp4,café\n".encode("latin-1"), "byte 21 is not UTF-8"),
    ],
)
def test_files_that_are_no_manifest_are_refused(folder, name, data, message):
    (folder / name).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        expand(str(folder / name), SourceConfig())


def test_a_manifest_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"none\.csv: no such file"):
        expand(str(tmp_path / "none.csv"), SourceConfig())
