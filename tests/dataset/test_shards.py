from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import subprocess
import tarfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset.catalog import CatalogError, committed_ids, open_dataset, read_index, segment_paths
from dataset.clip import ClipRecord, Kind, Verdict, from_row
from dataset.reader import read_samples
from dataset.shards import ShardWriter
from dataset.store import Store, StoreFull
from dataset.upkeep import Recovery, recover

MakeClip = Callable[..., tuple[ClipRecord, dict[str, bytes]]]


def contents(store: Store) -> dict[str, bytes]:
    return {path: store.read(path) for path in store.list()}


def test_a_commit_holds_clips_and_rows_and_says_where_they_lie(store: Store, make_clip: MakeClip) -> None:
    span = ClipRecord("span", "v", Kind.SPAN, verdict=Verdict.REJECTED, reasons=["short"])
    writer = ShardWriter(store, "kept")
    for number in (2, 0, 1):
        writer.add(*make_clip(number))
    writer.add(ClipRecord("failed", "v", Kind.CLIP, detail="no video"), {})
    assert store.list("index") == store.list("shards") == []
    records = writer.commit([span])
    assert writer.pending == [] and writer.pending_bytes == 0
    (shard,) = store.list("shards")
    assert shard.startswith("shards/kept-")
    assert {r.clip_id: r for r in records} == {
        row["clip_id"]: from_row(row) for row in read_index(store).to_pylist()}
    by_id = {record.clip_id: record for record in records}
    assert by_id["span"] == span and by_id["failed"].shard is None
    clip, files = make_clip(1)
    assert by_id[clip.clip_id].shard == shard
    tar = store.read(shard)
    for member in by_id[clip.clip_id].members:
        data = tar[member.offset : member.offset + member.size]
        assert hashlib.sha256(data).hexdigest() == member.sha256
        if not member.name.endswith(".json"):
            assert data == files[member.name.removeprefix(f"{clip.clip_id}.")]


def test_equal_clips_in_any_order_give_equal_bytes(tmp_path: Path, make_clip: MakeClip) -> None:
    stores = [Store(tmp_path / name) for name in "ab"]
    for store, order in zip(stores, ((0, 1, 2), (2, 0, 1))):
        writer = ShardWriter(store, "kept")
        for number in order:
            writer.add(*make_clip(number))
        writer.commit()
    assert contents(stores[0]) == contents(stores[1])


def test_the_tar_has_fixed_owner_and_time_and_is_ordered_by_clip(
    local_store: Store, make_clip: MakeClip
) -> None:
    writer = ShardWriter(local_store, "rejected")
    for number in range(5):
        writer.add(*make_clip(number))
    shard = writer.commit()[0].shard
    assert shard is not None
    with tarfile.open(fileobj=io.BytesIO(local_store.read(shard))) as tar:
        infos = tar.getmembers()
    assert {(i.mtime, i.uid, i.gid, i.uname, i.gname) for i in infos} == {(0, 0, 0, "", "")}
    clips = [info.name.split(".")[0] for info in infos]
    assert clips == sorted(clips)


def test_the_webdataset_loader_reads_our_shards(local_store: Store, make_clip: MakeClip) -> None:
    import webdataset

    writer = ShardWriter(local_store, "kept")
    for number in range(4):
        writer.add(*make_clip(number))
    shard = writer.commit()[0].shard
    samples = {s["__key__"]: s for s in webdataset.WebDataset([str(local_store.local_path(shard or ""))],
                                                              shardshuffle=False)}
    assert len(samples) == 4
    for number in range(4):
        record, files = make_clip(number)
        sample = samples[record.clip_id]
        assert {name: sample[name] for name in files} == files
        row = json.loads(sample["json"])
        assert row["flow_dis"] == record.flow_dis and row["clip_id"] == record.clip_id
        assert not {"verdict", "reasons", "shard", "members", "annotated_at"} & set(row)


def test_a_shard_is_full_at_its_target_size(local_store: Store, make_clip: MakeClip) -> None:
    writer = ShardWriter(local_store, "kept", target_bytes=10_000)
    sizes = []
    for number in range(6):
        writer.add(*make_clip(number, size=2000))
        sizes.append(writer.pending_bytes)
        assert writer.is_full == (sizes[-1] >= 10_000)
    assert writer.is_full


def test_what_was_not_committed_leaves_no_trace(store: Store, make_clip: MakeClip) -> None:
    with ShardWriter(store, "kept") as writer:
        writer.add(*make_clip(0))
        assert writer.pending == [make_clip(0)[0].clip_id]
    assert store.list() == [] and writer.pending == []
    assert ShardWriter(store, "kept").commit() == [] and store.list() == []


def test_a_clip_that_cannot_be_stored_leaves_the_others_pending(store: Store, make_clip: MakeClip) -> None:
    class Lost(dict[str, bytes]):
        def __getitem__(self, name: str) -> bytes:
            if name == "mp4":
                raise FileNotFoundError("staged file is gone")
            return super().__getitem__(name)

    good, files = make_clip(0)
    other, other_files = make_clip(1)
    writer = ShardWriter(store, "kept")
    writer.add(good, files)
    size = writer.pending_bytes
    with pytest.raises(FileNotFoundError, match="staged"):
        writer.add(other, Lost(other_files))
    with pytest.raises(CatalogError, match="sharpness is nan"):
        writer.add(dataclasses.replace(other, sharpness=float("nan")), other_files)
    with pytest.raises(ValueError, match="added twice"):
        writer.add(good, files)
    for name in ("json", "../escape", "MP4", "a b"):
        with pytest.raises(ValueError, match="cannot be the name of a member"):
            writer.add(other, {name: b""})
    with pytest.raises(ValueError, match="clip id"):
        writer.add(dataclasses.replace(other, clip_id="a.b"), other_files)
    with pytest.raises(ValueError, match="committed twice at once"):
        writer.commit([good])
    assert writer.pending == [good.clip_id] and writer.pending_bytes == size
    writer.commit()
    (sample,) = read_samples(store, verify=True)
    assert {name: sample.files[name] for name in files} == files


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of four megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)],
                             capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("not permitted to mount a small file system here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill_up(folder: Path, leave: int) -> Path:
    """Occupy a disk but for `leave` bytes."""
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    filler = folder / "filler"
    filler.write_bytes(bytes(free - leave))
    return filler


@pytest.mark.parametrize("failing", ["add", "tar", "rows"])
def test_a_full_disk_loses_and_half_commits_nothing(
    small_disk: Path, tmp_path: Path, make_clip: MakeClip, failing: str
) -> None:
    clips = [make_clip(number, size=120_000) for number in range(6)]
    elsewhere = ShardWriter(Store(tmp_path / "elsewhere"), "kept")
    for clip in clips:
        elsewhere.add(*clip)
    tar_bytes = Store(tmp_path / "elsewhere").size(elsewhere.commit()[0].shard or "")
    store = Store(small_disk / "out")
    open_dataset(store, "f", {}, {})
    writer = ShardWriter(store, "kept")
    writer.add(*make_clip(100))
    writer.commit()
    before = contents(store)
    if failing == "add":
        filler = fill_up(small_disk, leave=400_000)
        with pytest.raises(StoreFull, match=r"shards/kept.*: no space left"):
            for clip in clips:
                writer.add(*clip)
        added = 3
    else:
        for clip in clips:
            writer.add(*clip)
        added = 6
        filler = fill_up(small_disk, leave=tar_bytes - 50_000 if failing == "tar" else tar_bytes + 8_192)
        with pytest.raises(StoreFull, match=r"shards/kept-.*tar" if failing == "tar" else r"index/.*parquet"):
            writer.commit()
    assert writer.pending == [record.clip_id for record, _ in clips[:added]]
    assert contents(store) == before
    assert recover(store) == Recovery()
    filler.unlink()
    for clip in clips[added:]:
        writer.add(*clip)
    writer.commit()
    samples = {sample.record.clip_id: sample for sample in read_samples(store, verify=True)}
    assert len(samples) == 7
    for record, files in clips:
        assert {name: samples[record.clip_id].files[name] for name in files} == files


def test_a_row_that_cannot_be_stored_leaves_everything_pending(store: Store, make_clip: MakeClip) -> None:
    writer = ShardWriter(store, "kept")
    writer.add(*make_clip(0))
    broken = ClipRecord("broken", "v", Kind.SPAN, frames="many")  # type: ignore[arg-type]
    with pytest.raises(CatalogError, match="clip broken: frames"):
        writer.commit([broken])
    assert store.list() == [] and len(writer.pending) == 1
    writer.commit()
    assert committed_ids(store) == {make_clip(0)[0].clip_id}


numbers = st.floats(allow_nan=False, allow_infinity=False) | st.none()
records = st.builds(
    ClipRecord,
    clip_id=st.text("abcdefghij0123456789", min_size=20, max_size=20),
    video_id=st.text(max_size=9), kind=st.sampled_from(Kind), uri=st.text(max_size=20),
    caption=st.none() | st.text(max_size=40), verdict=st.sampled_from(Verdict),
    reasons=st.lists(st.text(max_size=5), max_size=3), flow_dis=numbers, path_length=numbers,
    frames=st.none() | st.integers(-(2**63), 2**63 - 1),
)
names = st.sampled_from(["mp4", "camera.npz", "depth.npz", "truth.npz"])
batches = st.lists(
    st.lists(st.tuples(records, st.dictionaries(names, st.binary(max_size=1500))), max_size=4,
             unique_by=lambda clip: clip[0].clip_id),
    max_size=3,
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(batches)
def test_whatever_is_committed_is_read_back(batches: list[list[tuple[ClipRecord, dict[str, bytes]]]]) -> None:
    store = Store(f"memory://{uuid.uuid4().hex}")
    expected = {}
    for batch in batches:
        writer = ShardWriter(store, "kept")
        for record, files in batch:
            if record.clip_id not in expected:
                writer.add(record, files)
                expected[record.clip_id] = (record, files)
        writer.commit()
    rows = {row["clip_id"]: from_row(row) for row in read_index(store).to_pylist()}
    assert {name: dataclasses.replace(row, shard=None, members=[]) for name, row in rows.items()} == {
        name: record for name, (record, _) in expected.items()}
    with_files = {name: files for name, (_, files) in expected.items() if files}
    samples = list(read_samples(store, verify=True))
    assert len(samples) == len(with_files)
    for sample in samples:
        assert json.loads(sample.files.pop("json"))["clip_id"] == sample.record.clip_id
        assert sample.files == with_files[sample.record.clip_id]
    assert len(segment_paths(store)) <= len(batches)
