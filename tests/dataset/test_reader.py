from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from dataset.catalog import read_index
from dataset.clip import ClipRecord, Kind
from dataset.reader import SampleError, read_files, read_samples
from dataset.shards import ShardWriter
from dataset.store import Store

MakeClip = Callable[..., tuple[ClipRecord, dict[str, bytes]]]


@pytest.fixture
def filled(store: Store, make_clip: MakeClip) -> Store:
    for first in (0, 5):
        writer = ShardWriter(store, "kept")
        for number in range(first, first + 5):
            writer.add(*make_clip(number, size=70_000))
        writer.commit([ClipRecord(f"span{first}", "v", Kind.SPAN)])
    return store


def test_every_clip_comes_once_with_its_files_and_rows_without_files_do_not(
    filled: Store, make_clip: MakeClip
) -> None:
    samples = list(read_samples(filled, verify=True))
    assert len(samples) == 10
    by_id = {sample.record.clip_id: sample for sample in samples}
    for number in range(10):
        record, files = make_clip(number, size=70_000)
        assert {name: by_id[record.clip_id].files[name] for name in files} == files
        assert set(by_id[record.clip_id].files) == {*files, "json"}


def test_clips_come_shard_by_shard_in_the_order_they_lie(filled: Store) -> None:
    places = [(s.record.shard, s.record.members[0].offset) for s in read_samples(filled, members=["json"])]
    assert all(a < b for a, b in pairwise(places))


def test_a_condition_and_the_members_wanted_limit_what_is_read(filled: Store, make_clip: MakeClip) -> None:
    samples = list(read_samples(filled, "flow_dis > 2 and flow_dis < 3", members=["depth.npz", "truth.npz"]))
    assert sorted(sample.record.flow_dis for sample in samples) == [7 / 3, 8 / 3]
    for sample in samples:
        assert set(sample.files) == {"depth.npz"}
    apart = next(read_samples(filled, members=["camera.npz", "mp4"], verify=True))
    assert set(apart.files) == {"camera.npz", "mp4"}


def damaged(store: Store, change: Callable[[bytes, int], bytes]) -> ClipRecord:
    """Damage the shard of the first clip at its video; its record."""
    record = next(read_samples(store)).record
    member = next(m for m in record.members if m.name.endswith(".mp4"))
    assert record.shard is not None
    store.write(record.shard, change(store.read(record.shard), member.offset + 10))
    return record


def test_a_flipped_bit_is_found_by_its_checksum(filled: Store) -> None:
    record = damaged(filled, lambda data, at: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    assert len(read_files(filled, record)) == 4
    with pytest.raises(SampleError, match=rf"{record.shard}: {record.clip_id}.mp4: its bytes do not match"):
        list(read_samples(filled, verify=True))
    assert set(read_files(filled, record, ["camera.npz"], verify=True)) == {"camera.npz"}


def test_a_truncated_shard_is_found_without_checksums(filled: Store) -> None:
    record = damaged(filled, lambda data, at: data[:at])
    with pytest.raises(SampleError, match=rf"{record.shard}: {record.clip_id}.mp4: 10 of 70\d\d\d bytes"):
        list(read_samples(filled))


def test_a_missing_shard_is_named_with_its_clip(filled: Store) -> None:
    record = next(read_samples(filled)).record
    assert record.shard is not None
    filled.remove(record.shard)
    with pytest.raises(SampleError, match=rf"clip {record.clip_id}: .*{record.shard}"):
        next(read_samples(filled))
    assert read_index(filled).num_rows == 12
