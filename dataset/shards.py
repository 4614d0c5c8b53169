"""Writing clips into WebDataset shards, exactly once.

A commit writes the tar under a name made of its content, then one index segment. Until the segment is
there the tar does not exist for any reader, and `dataset.upkeep.recover` removes it after a crash.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from dataset.catalog import CLIPS, SHARDS, CatalogError, check_record, segment_path, write_segment
from dataset.clip import Member
from dataset.rows import RowType
from dataset.store import Store
from dataset.upkeep import compact

_CLIP_ID = re.compile(r"[A-Za-z0-9_-]+")
_FILE_NAME = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*")
_MANY_SEGMENTS = 32  # a small segment costs a reader about 3 ms


@dataclass
class _Piece:
    """One file waiting in the spool."""

    name: str
    offset: int
    size: int
    sha256: str


class ShardWriter:
    """Collects clips of one family ("kept", "rejected", "latents") and commits them as a shard with its rows.

    Added clips wait in a nameless file (not in memory) until `commit`; what was not committed when the
    process dies never happened. One writer per data set: hold `dataset.lock.DatasetLock` meanwhile.

        with ShardWriter(store, "kept") as writer:
            for record, files in clips:
                writer.add(record, files)
                if writer.is_full:
                    finished(writer.commit())
            finished(writer.commit())
    """

    def __init__(
        self, store: Store, family: str, target_bytes: int = 1_000_000_000, rows: RowType = CLIPS
    ) -> None:
        if not _CLIP_ID.fullmatch(family) or "-" in family:
            raise ValueError(f"family {family!r}: letters, digits and _ only")
        self.store = store
        self.family = family
        self.target_bytes = target_bytes
        self._rows = rows
        self._pending: dict[str, tuple[Any, list[_Piece]]] = {}
        self._spool: BinaryIO | None = None
        self._end = 0

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    @property
    def pending(self) -> list[str]:
        """Clip ids added and not committed, in order of arrival."""
        return list(self._pending)

    @property
    def pending_bytes(self) -> int:
        return self._end

    @property
    def is_full(self) -> bool:
        """Whether the shard has reached its target size and should be committed."""
        return self._end >= self.target_bytes

    def add(self, record: Any, files: Mapping[str, bytes]) -> None:
        """Take a clip with its files ("mp4", "camera.npz", ...), or a row without any (empty `files`).

        The `json` member (the record's content without the verdict, which is the index's to say) is
        added here. Raises CatalogError or ValueError for a record that cannot be stored and StoreFull
        when the disk is full; in either case this clip is not pending and the others still are.
        """
        if not _CLIP_ID.fullmatch(record.clip_id):
            raise ValueError(f"clip id {record.clip_id!r}: letters, digits, _ and - only")
        if record.clip_id in self._pending:
            raise ValueError(f"clip {record.clip_id}: added twice")
        check_record(record, self._rows)
        record = dataclasses.replace(record, shard=None, members=[])
        pieces: list[_Piece] = []
        end = self._end
        try:
            for name in sorted(files):
                if not _FILE_NAME.fullmatch(name) or name == "json":
                    raise ValueError(f"clip {record.clip_id}: {name!r} cannot be the name of a member")
                pieces.append(self._append(name, files[name]))
            if pieces:
                pieces.append(self._append("json", json_member(record, self._rows)))
        except BaseException:
            self._truncate(end)
            raise
        self._pending[record.clip_id] = (record, pieces)

    def commit(self, rows: Sequence[Any] = ()) -> list[Any]:
        """Make everything pending, and `rows` without files, part of the data set: all or nothing.

        Returns the records as stored, with shard and members. If it raises (StoreFull, StoreError),
        nothing was stored and everything is still pending.
        """
        for row in rows:
            check_record(row, self._rows)
        ids = [*self._pending, *(row.clip_id for row in rows)]
        if len(set(ids)) < len(ids):
            twice = sorted({name for name in ids if ids.count(name) > 1})
            raise ValueError(f"clips {twice}: committed twice at once")
        clips = sorted(self._pending.items())
        records = [record for _, (record, pieces) in clips if not pieces]
        with_files = [(record, pieces) for _, (record, pieces) in clips if pieces]
        records += [dataclasses.replace(row, shard=None, members=[]) for row in rows]
        shard = None
        if with_files:
            shard = self._shard_path(with_files)
            records += self._write_tar(shard, with_files)
        if records:
            self._write_rows(records, shard)
        self.discard()
        # The commit is done; merging is housekeeping, and `recover` reports what keeps it from succeeding.
        with contextlib.suppress(OSError, CatalogError):
            compact(self.store, more_than=_MANY_SEGMENTS, rows=self._rows)
        return records

    def discard(self) -> None:
        """Forget everything that is pending."""
        self._pending.clear()
        self._end = 0
        if self._spool is not None:
            self._spool.close()
            self._spool = None

    # parts

    def _append(self, name: str, data: bytes) -> _Piece:
        if self._spool is None:
            self._spool = self.store.spool(SHARDS)
        piece = _Piece(name, self._end, len(data), hashlib.sha256(data).hexdigest())
        try:
            self._spool.seek(self._end)
            self._spool.write(data)
            self._spool.flush()
        except OSError as error:
            raise self.store.explain("write", f"{SHARDS}/{self.family}", error) from error
        self._end += len(data)
        return piece

    def _truncate(self, end: int) -> None:
        self._end = end
        if self._spool is not None:
            self._spool.close() if end == 0 else self._spool.truncate(end)
            self._spool = None if end == 0 else self._spool

    def _shard_path(self, clips: Sequence[tuple[Any, list[_Piece]]]) -> str:
        digest = hashlib.blake2b(digest_size=10)
        for record, pieces in clips:
            for piece in pieces:
                digest.update(f"{record.clip_id}.{piece.name} {piece.size} {piece.sha256}\n".encode())
        return f"{SHARDS}/{self.family}-{digest.hexdigest()}.tar"

    def _write_tar(self, path: str, clips: Sequence[tuple[Any, list[_Piece]]]) -> list[Any]:
        assert self._spool is not None
        placed = []
        with self.store.writing(path) as file, tarfile.open(fileobj=file, mode="w") as tar:
            for record, pieces in clips:
                members = []
                for piece in pieces:
                    info = _tar_info(f"{record.clip_id}.{piece.name}", piece.size)
                    offset = tar.offset + len(info.tobuf(tar.format))
                    self._spool.seek(piece.offset)
                    tar.addfile(info, self._spool)
                    members.append(Member(info.name, offset, piece.size, piece.sha256))
                placed.append(dataclasses.replace(record, shard=path, members=members))
        return placed

    def _write_rows(self, records: Sequence[Any], shard: str | None) -> None:
        try:
            write_segment(self.store, records, self._rows)
        except BaseException:
            # A write can fail after it took effect (a lost answer): then the tar is needed.
            segment = segment_path(record.clip_id for record in records)
            if shard is not None and not self.store.exists(segment):
                self.store.remove(shard)
            raise


def _tar_info(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)  # owner, group and time stay at their fixed defaults
    info.size = size
    info.mode = 0o444
    return info


def json_member(record: Any, rows: RowType) -> bytes:
    """The `json` member of a clip: its row without what only the index says."""
    row = {key: value for key, value in rows.to_row(record).items() if key not in rows.unwritten}
    return json.dumps(row, sort_keys=True, default=lambda value: value.item()).encode()
