"""The page tells what the index holds, from real shards, and loads nothing from anywhere."""

import dataclasses
import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from annotate.cut.encode import ClipWriter
from dataset.catalog import open_dataset, read_index, write_table
from dataset.clip import CameraTrack, ClipRecord, FrameVerdict, Kind, Motion, Verdict, index_schema, to_row
from dataset.report import write_report
from dataset.report.choose import edges, sample
from dataset.report.gather import key_pictures
from dataset.shards import ShardWriter
from dataset.store import Store

COLOURS = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40)]


def video(frames: int = 49) -> bytes:
    """Flat colours, one a second; 16 frames a second."""
    writer = ClipWriter((48, 64))
    for i in range(frames):
        writer.add(np.full((48, 64, 3), COLOURS[i // 16], np.uint8))
    return writer.finish()


def track(unit: str = "m") -> CameraTrack:
    count = 49
    c2w = np.tile(np.eye(4), (count, 1, 1))
    c2w[:, 2, 3], c2w[:, 0, 3] = np.linspace(0, 3, count), np.sin(np.linspace(0, 2, count))
    return CameraTrack(
        c2w=c2w, intrinsics=np.tile([60.0, 60, 32, 24], (count, 1)), size=(48, 64),
        timestamps=np.arange(count) / 16, sigma_position=np.full(count, np.nan),
        sigma_rotation_deg=np.full(count, np.nan), motion=Motion.PARALLAX, engine="test", unit=unit,
        frame_verdict=np.full(count, FrameVerdict.ESTIMATED, np.uint8))


def clip(number: int, **fields: object) -> ClipRecord:
    values = {"verdict": Verdict.KEPT, "frames": 49, "fps": 16.0, "flow_dis": 5.0 + number,
              "motion": "parallax", "uri": f"walk{number}.mp4",
              "stage_seconds": json.dumps({"pose": 2.0, "cut": 1.0})} | fields
    return ClipRecord(clip_id=f"{number:020x}", video_id=f"v{number}", kind=Kind.CLIP, **values)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Three kept clips with their true cameras, two rejected, one failed, a short shot, a broken file."""
    store = Store(tmp_path_factory.mktemp("data") / "set")
    open_dataset(store, "feed", {"pose": {"engine": "classical"}}, {})
    kept, rejected = ShardWriter(store, "kept"), ShardWriter(store, "rejected")
    mp4 = video()
    estimate = track()
    estimate.c2w[:, :3, 3] += np.random.default_rng(0).normal(size=(49, 3)) * 0.01
    for i in range(3):
        kept.add(clip(i), {"mp4": mp4, "camera.npz": estimate.to_npz(), "truth.npz": track().to_npz()})
    for i in (3, 4):
        rejected.add(clip(i, verdict=Verdict.REJECTED, reasons=["flow_dis<3", "static"], flow_dis=0.1 * i),
                     {"mp4": mp4, "camera.npz": track("path").to_npz()})
    failed = clip(5, verdict=Verdict.FAILED, reasons=["pose"], flow_dis=None,
                  uri="<script>alert(1)</script>.mp4", detail="the camera & the scene move as one </script>")
    lost = CameraTrack.failed("nothing to follow", np.arange(49) / 16, (48, 64), "test", Motion.CHAOTIC)
    rejected.add(failed, {"mp4": mp4, "camera.npz": lost.to_npz()})
    kept.commit()
    rejected.commit([
        ClipRecord("s" * 20, "v0", Kind.SPAN, verdict=Verdict.REJECTED, reasons=["shot too short"],
                   start_s=1.0, end_s=2.5),
        ClipRecord("b" * 20, "v9", Kind.VIDEO, reasons=["unreadable"], uri="b.mp4", detail="b.mp4: no index"),
    ])
    return store


class Page(HTMLParser):
    """Collects what a browser would load, and checks that elements close in order."""

    VOID = ("meta", "br", "link", "img", "input", "hr")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.classes: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        values = dict(attrs)
        self.loads += [v for k in ("src", "srcset", "data", "action") if (v := values.get(k))]
        self.loads += [v for v in [values.get("href")] if v and not v.startswith("#")]
        self.loads += re.findall(r"url\(([^)]{0,40})", values.get("style") or "")
        self.classes += (values.get("class") or "").split()

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag


@pytest.fixture(scope="module")
def text(made: Store, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("page") / "report.html"
    where = write_report(made, out, bounds={"flow_dis": (3.0, 100.0)}, wall_seconds=10.0)
    assert Path(where) == out
    return out.read_text()


def table(text: str) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.S).group(1))


def test_the_page_is_well_formed_and_loads_nothing_from_elsewhere(text):
    page = Page(text)
    assert page.open == []
    assert all(load.startswith("data:image/jpeg;base64,") for load in page.loads) and len(page.loads) == 6
    assert not re.search(r"@import|//[a-z]+\.[a-z]", re.sub(r"base64,[A-Za-z0-9+/=]+", "", text))


def test_headline_funnel_and_times_say_what_the_index_says(text):
    plain = html.unescape(re.sub(r"<[^>]+>", " ", text))
    assert "3 of 6 clips kept" in re.sub(r"\s+", " ", plain)
    assert re.findall(r'class="count">(−?[\d,]+)<', text) == ["8", "−1", "−1", "−1", "−2", "3"]
    assert re.findall(r'<a href="#clips"[^>]*data-rule="([^"]+)"', text) == [
        "unreadable", "shot too short", "pose", "flow_dis&lt;3"]
    assert "pose</td><td>12 s</td><td>67 %" in text
    assert f"{(6 * 49 / 16 + 1.5) / 10:.2g}×" in text


def test_every_clip_has_its_pictures_its_path_and_its_reasons(text):
    classes = Page(text).classes
    assert classes.count("strip") == 6 and classes.count("small") == 5  # the failed clip has no path
    assert classes.count("truth") == 3 + 1  # and one in the legend
    assert re.findall(r'data-rules="([^"]*)"', text).count("flow_dis&lt;3|static") == 2
    assert "nothing to follow" not in text  # the record says why, and says it in its own words
    assert "the camera &amp; the scene move as one" in text


def test_the_table_holds_every_row_with_its_true_error(text):
    rows = table(text)
    names = [column["title"] for column in rows["columns"]]
    assert rows["of"] == len(rows["rows"]) == 8
    error = names.index("True error: position") + 1
    assert sorted(row[0] for row in rows["rows"] if row[error] is not None) == [f"{i:020x}" for i in range(3)]
    assert all(0.1 < row[error] < 2 for row in rows["rows"] if row[error] is not None)
    assert [row[-1] for row in rows["rows"] if row[2] == "failed" and row[1] != "video"] == [
        "the camera & the scene move as one </script>"]


def test_nothing_from_the_data_can_become_markup(text):
    assert "<script>alert" not in text and "&lt;script&gt;alert" in text
    assert text.count("<script") == 2


def test_the_histogram_draws_the_limits_in_force(text):
    flow = re.search(r'<svg class="histogram"[^>]*label="Optical flow \(DIS\)".*?</svg>', text, re.S).group(0)
    assert flow.count('<line class="limit"') == 2
    places = re.findall(r'class="edge" data-below="([^"]+)" data-above="([^"]+)"', text)
    assert places == [(f"{3:020x} {4:020x}", f"{0:020x} {1:020x} {2:020x}")]
    counts = re.search(r'data-counts="([^"]+)"', flow).group(1).split()
    assert sum(map(int, counts)) == 5


def test_equal_data_gives_an_equal_page_inside_the_data_set_by_default(made, text):
    where = write_report(made, bounds={"flow_dis": (3.0, 100.0)}, wall_seconds=10.0)
    assert where == f"{made.url}/report.html"
    assert made.read("report.html").decode() == text


def test_an_empty_data_set_gets_a_page_that_says_so(tmp_path):
    store = Store(tmp_path / "empty")
    open_dataset(store, "feed", {}, {})
    text = Path(write_report(store, tmp_path / "r.html")).read_text()
    assert "Nothing has been annotated" in text
    assert Page(text).open == []


def test_a_damaged_shard_is_named_and_the_rest_is_shown(made, tmp_path):
    store = Store(tmp_path / "copy")
    for path in made.list():
        store.write(path, made.read(path))
    shard = next(path for path in store.list("shards") if "rejected" in path)
    store.write(shard, store.read(shard)[:1000])
    text = Path(write_report(store, tmp_path / "r.html")).read_text()
    assert Page(text).classes.count("strip") == 3
    assert "3 clips could not be read back" in text and shard in text


def test_a_large_index_is_counted_in_full_and_listed_in_part(made, tmp_path):
    store = Store(tmp_path / "large")
    open_dataset(store, "feed", {}, {})
    rows = read_index(made).to_pylist()
    many = [dict(row, clip_id=f"{n:020x}", shard=None, members=[]) for n, row in enumerate(rows * 1500)]
    write_table(store, "index/a.parquet", pa.Table.from_pylist(many, schema=index_schema()))
    text = Path(write_report(store, tmp_path / "r.html", max_rows=500)).read_text()
    assert "<strong>4,500</strong> of 9,000 clips" in text
    listed = table(text)
    assert len(listed["rows"]) == 500 and listed["of"] == 12000
    assert {tuple(row[3]) for row in listed["rows"]} == {tuple(row["reasons"]) for row in rows}
    assert len(text) < 400_000


def test_samples_are_fair_stable_and_never_too_many():
    records = [clip(n, reasons=[] if n % 10 else [f"rule{n % 3}"],
                    verdict=Verdict.KEPT if n % 10 else Verdict.REJECTED) for n in range(400)]
    records.append(dataclasses.replace(clip(999), verdict=Verdict.REJECTED, reasons=["rare"]))
    index = pa.Table.from_pylist([to_row(record) for record in records], schema=index_schema())
    chosen = sample(index, 30)
    rules = [(records[i].reasons or ["kept"])[0] for i in chosen]
    assert len(chosen) == len(set(chosen)) == 30
    assert {rule: rules.count(rule) for rule in set(rules)} == {
        "kept": 15, "rare": 1, "rule0": 5, "rule1": 4, "rule2": 5}
    assert sorted(sample(index, 1000)) == list(range(401))
    shuffled = pa.Table.from_pylist([to_row(r) for r in reversed(records)], schema=index_schema())
    assert [400 - i for i in sample(shuffled, 30)] == chosen


def test_the_clips_at_a_limit_are_the_nearest_on_either_side():
    flows = [9.0, 2.9, 3.0, 40.0, None, 3.1, 0.5, 3.0, 2.0]
    records = [clip(n, flow_dis=flow, shard="shards/a.tar") for n, flow in enumerate(flows)]
    records.append(clip(50, flow_dis=2.99))  # of no shard: there is nothing to look at
    index = pa.Table.from_pylist([to_row(record) for record in records], schema=index_schema())
    (low,) = edges(index, {"flow_dis": (3.0, 100.0)}, 2)["flow_dis"]
    assert (low.limit, low.below, low.above) == (3.0, [8, 1], [2, 7])
    (high,) = edges(index, {"flow_dis": (None, 3.0)}, 2)["flow_dis"]
    assert (high.below, high.above) == ([2, 7], [5, 0])


def test_pictures_are_spread_over_the_clip_in_order():
    pictures = key_pictures(video(), 4)
    assert len(pictures) == 4 and pictures[0].shape == (240, 320, 3)
    for picture, colour in zip(pictures, COLOURS):
        assert np.abs(picture.mean((0, 1)) - colour).max() < 12
    assert len(key_pictures(video(), 2)) == 2
    with pytest.raises(ValueError, match="cannot be decoded"):
        key_pictures(b"not a video", 3)
