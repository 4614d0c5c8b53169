"""Which clips are trained on: asked of the index alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from dataset.catalog import CatalogError, open_dataset
from dataset.clip import ClipRecord, ScaleStatus, Verdict
from dataset.latents import latent_store, read_set
from dataset.loader.config import DataConfig, LatentSpace, Lengths, Scale, SourceConfig
from dataset.loader.select import Bucket, Selection, select
from dataset.shards import ShardWriter
from dataset.store import Store
from dataset.upkeep import compact
from tests.tiny_dataset import clip_name, clip_record

LATENTS = "dct32-96x64"


def index_of(folder: Path, records: list[ClipRecord]) -> Store:
    """A data set whose files are a byte each: selection must not open them."""
    store = Store(folder)
    open_dataset(store, "tiny", {}, {})
    with ShardWriter(store, "kept") as writer:
        for record in records:
            writer.add(record, {"mp4": b"x", "camera.npz": b"y"})
            if len(writer.pending) == 4:
                writer.commit()
        writer.commit()
    return store


def chosen(store: Store, where: str = "", **settings) -> Selection:
    settings.setdefault("frames", [17])
    return select(SourceConfig(store.url, where=where), DataConfig(path=store.url, **settings))


def numbers(selection: Selection) -> list[int]:
    names = {clip_name(number): number for number in range(100)}
    return sorted(names[clip_id] for clip_id in selection.ids)


def clips(count: int, frames: int = 17, **changes) -> list[ClipRecord]:
    records = [clip_record(number, frames, (64, 96)) for number in range(count)]
    for record in records:
        for name, value in changes.items():
            setattr(record, name, value)
    return records


def test_any_condition_on_the_index_selects(tmp_path: Path):
    store = index_of(tmp_path / "a", clips(10))
    assert numbers(chosen(store)) == list(range(10))
    assert numbers(chosen(store, "flow_dis > 3 and flow_dis < 6 or video_id = 'video0'")) == [0, 1, 2, 4, 5]
    assert numbers(chosen(store, "caption like '%red%' and flow_dis < 7")) == [0, 3, 6]
    assert numbers(chosen(store, "flow_dis = (select max(flow_dis) from clips)")) == [9]


@pytest.mark.parametrize(("where", "words"), [
    ("dovr >= 0.4", '"dovr" not found.*\n.*"dover"'), ("flow_dis >", "syntax error"),
    ("caption > 3", "data.where"), ("select 1", "whole statement"),
])
def test_a_condition_that_cannot_be_answered_is_named(tmp_path: Path, where: str, words: str):
    store = index_of(tmp_path / "a", clips(2))
    with pytest.raises(CatalogError, match=f"(?s)data.where.*{words}|{words}"):
        chosen(store, where)


def test_what_no_clip_may_lack_is_left_out_and_counted(tmp_path: Path):
    records = clips(9)
    records[0].verdict, records[0].reasons = Verdict.REJECTED, ["flow_dis<1"]
    records[1].pose_failure = "static"
    records[2].posed_share = 0.9
    records[3].scale_status = ScaleStatus.RELATIVE
    records[4].scale_status = None
    records[5].frames = 9
    store = index_of(tmp_path / "a", records)
    found = chosen(store)
    assert numbers(found) == [6, 7, 8]
    assert found.left_out == {"not kept by annotation": 1, "without cameras": 1, "without metric scale": 2,
                              "with frames that have no camera": 1, "shorter than 17 frames": 1}
    assert "3 clips (3 of 17x64x96); left out: 1 not kept" in found.summary
    assert numbers(chosen(store, scale=Scale.any)) == [3, 4, 6, 7, 8]
    assert numbers(chosen(store, lengths=Lengths.pad)) == [5, 6, 7, 8]


def test_a_clip_without_cameras_or_video_is_left_out(tmp_path: Path):
    store = index_of(tmp_path / "a", clips(3))
    with ShardWriter(store, "kept") as writer:
        writer.add(clip_record(7, 17, (64, 96)), {"mp4": b"x"})
        writer.commit()
    found = chosen(store)
    assert numbers(found) == [0, 1, 2] and found.left_out == {"lacking one of mp4, camera.npz": 1}


@pytest.mark.parametrize(("lengths", "expected"), [
    (Lengths.crop, [None, 81, 81, 81, 161, 161, 961, 961]),
    (Lengths.pad, [81, 81, 161, 161, 161, 961, 961, 961]),
])
def test_clips_go_to_the_length_they_fill_or_the_one_that_holds_them(tmp_path: Path, lengths, expected):
    records = clips(8)
    for record, frames in zip(records, [73, 81, 89, 153, 161, 953, 961, 1441]):
        record.frames = frames
    found = chosen(index_of(tmp_path / "a", records), frames=[81, 161, 961], lengths=lengths)
    lengths_of = {clip_id: found.buckets[bucket].frames for clip_id, bucket in zip(found.ids, found.bucket)}
    assert [lengths_of.get(clip_name(number)) for number in range(8)] == expected


def test_sizes_are_buckets_unless_one_is_asked_for(tmp_path: Path):
    records = clips(4)
    for record, size in zip(records, [(64, 96), (70, 100), (720, 1280), (96, 64)]):
        record.height, record.width = size
    store = index_of(tmp_path / "a", records)
    assert chosen(store).buckets == [Bucket(17, (64, 96)), Bucket(17, (96, 64)), Bucket(17, (704, 1280))]
    assert chosen(store, size=[64, 128]).buckets == [Bucket(17, (64, 128))]
    assert Bucket(17, (68, 100)) in chosen(store, cell=4).buckets


def test_the_order_does_not_depend_on_how_the_index_is_stored(tmp_path: Path):
    store = index_of(tmp_path / "a", clips(11))
    before = chosen(store)
    compact(store, more_than=1)
    after = chosen(store)
    assert before.ids == after.ids and before.shards == after.shards
    assert before.shard.tolist() == after.shard.tolist()
    places = [after.places(clip)["mp4"].offset for clip in range(11)]
    assert all(a < b for a, b, same in zip(places, places[1:], after.shard[1:] == after.shard[:-1]) if same)


def test_latents_are_joined_to_the_index_of_the_clips(pristine: Store):
    source = SourceConfig(pristine.url, LATENTS, where="flow_dis >= 9")
    found = select(source, DataConfig(sources=[source], frames=[17, 33]))
    assert numbers(found) == [9, 10, 11] and found.buckets == [Bucket(33, (64, 96))]
    assert found.latents is not None and found.latents.codec == "dct32"
    assert set(found.places(0)) == {"latents.npy", "camera.npz", "text.npz"}


def test_latents_of_another_codec_size_or_text_are_refused_by_both_names(pristine: Store):
    source = SourceConfig(pristine.url, LATENTS)
    config = DataConfig(sources=[source], frames=[17])
    described = read_set(latent_store(pristine, LATENTS))
    good = LatentSpace(described.codec_fingerprint, (64, 96), described.text_fingerprint)
    assert len(select(source, config, good)) == 12
    for wrong, words in (
        (LatentSpace("ltx2-abc"), f"codec: found {described.codec_fingerprint} .*expected ltx2-abc"),
        (LatentSpace(size=(704, 1280)), "size: found 96x64, expected 1280x704"),
        (LatentSpace(text_fingerprint="gemma"), f"text: found {described.text_fingerprint}.*expected gemma"),
    ):
        with pytest.raises(CatalogError, match=f"(?s){words}.*pipelines.latents"):
            select(source, config, wrong)
    with pytest.raises(CatalogError, match=f"needed, and data.latents names none; there are .*{LATENTS}"):
        select(SourceConfig(pristine.url), DataConfig(path=pristine.url, frames=[17]), good)
    with pytest.raises(CatalogError, match=f"(?s)data.latents=dct8.*holds .*{LATENTS}"):
        select(SourceConfig(pristine.url, "dct8"), config)


def test_a_clip_that_was_not_encoded_is_left_out(data: Store):
    store = Store(data.url)
    with ShardWriter(store, "kept") as writer:
        writer.add(clip_record(50, 17, (64, 96)), {"mp4": b"x", "camera.npz": b"y"})
        writer.commit()
    found = select(SourceConfig(data.url, LATENTS), DataConfig(path=data.url, latents=LATENTS, frames=[17]))
    assert found.left_out == {"without latents": 1} and len(found) == 12


def test_nothing_left_says_what_took_the_clips(tmp_path: Path):
    store = index_of(tmp_path / "a", clips(5, scale_status=ScaleStatus.RELATIVE))
    with pytest.raises(CatalogError, match=r"(?s)0 clips.*5 without metric scale.*loosen data.where"):
        chosen(store)
    with pytest.raises(CatalogError, match="not a data set"):
        chosen(Store(tmp_path / "nothing"))
