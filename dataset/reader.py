"""Reading clips back: by the index and the offsets it holds, so only the bytes asked for are read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dataset.catalog import CLIPS, query, read_index
from dataset.clip import Member
from dataset.rows import RowType
from dataset.store import Store

_JOIN_GAP = 1 << 16  # members closer than this are fetched in one request
_BATCH_ROWS = 256


class SampleError(OSError):
    """A clip could not be read from its shard; the message names shard, clip and member."""


@dataclass
class Sample:
    """A clip of a data set: its row, and the bytes of the members asked for ("mp4", "camera.npz", ...)."""

    record: Any  # ClipRecord, or LatentRecord in a latent set
    files: dict[str, bytes]


def read_samples(
    store: Store, where: str | None = None, members: Sequence[str] | None = None, verify: bool = False,
    rows: RowType = CLIPS,
) -> Iterator[Sample]:
    """All clips of a data set that were written to shards, in order of shard and place.

    where: a condition on the fields of `ClipRecord`, such as "verdict = 'kept'".
    members: names wanted; a clip that lacks one simply does not have it. None reads all.
    verify: compare every member with its checksum. Raises SampleError, CatalogError.
    """
    table = read_index(store, rows=rows) if where is None else query(store, where, rows)
    for batch in table.sort_by([("shard", "ascending"), ("clip_id", "ascending")]).to_batches(_BATCH_ROWS):
        for row in batch.to_pylist():
            record = rows.from_row(row)
            if record.shard is not None:
                yield Sample(record, read_files(store, record, members, verify))


def read_files(
    store: Store, record: Any, members: Sequence[str] | None = None, verify: bool = False
) -> dict[str, bytes]:
    """Bytes of a clip's members by name. Arguments and errors as in `read_samples`."""
    if record.shard is None:
        return {}
    wanted = sorted((m for m in record.members if members is None or _short(record, m) in members),
                    key=lambda member: member.offset)
    files = {}
    for group in _neighbours(wanted):
        start = group[0].offset
        try:
            data = store.read(record.shard, start, group[-1].offset + group[-1].size)
        except OSError as error:
            raise SampleError(f"clip {record.clip_id}: {error}") from error
        for member in group:
            piece = data[member.offset - start : member.offset - start + member.size]
            _check(store, record, member, piece, verify)
            files[_short(record, member)] = piece
    return files


def _short(record: Any, member: Member) -> str:
    return member.name.removeprefix(f"{record.clip_id}.")


def _neighbours(members: Sequence[Member]) -> Iterator[list[Member]]:
    group: list[Member] = []
    for member in members:
        if group and member.offset - (group[-1].offset + group[-1].size) > _JOIN_GAP:
            yield group
            group = []
        group.append(member)
    if group:
        yield group


def _check(store: Store, record: Any, member: Member, piece: bytes, verify: bool) -> None:
    assert record.shard is not None
    if len(piece) != member.size:
        fault = f"{len(piece)} of {member.size} bytes are there"
    elif verify and hashlib.sha256(piece).hexdigest() != member.sha256:
        fault = "its bytes do not match their checksum"
    else:
        return
    raise SampleError(f"{store.name(record.shard)}: {member.name}: {fault}; the shard is damaged. "
                      "Remove it and run again with write.remake_broken=true")
