"""The end of the stream of latents: encoded clips go into shards of the latent set, exactly once."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime

from dataset.latents import FAMILY, LATENTS, LatentRecord, Status, from_row
from dataset.lock import DatasetLock
from dataset.shards import ShardWriter
from dataset.store import Store
from pipelines.ledger import Ledger, StagingDamaged
from pipelines.rows import ClipRow

_MOST_ROWS = 2000  # failed clips that wait for a commit


class LatentSink:
    """Collects rows and forgets their staging once they are committed.

    Raises what `ShardWriter.commit` and `DatasetLock.check` raise; all that was not committed is still
    staged then.
    """

    def __init__(
        self, store: Store, lock: DatasetLock, ledger: Ledger, committed: set[str], shard_bytes: int
    ) -> None:
        self._lock, self._ledger, self._committed = lock, ledger, committed
        self._writer = ShardWriter(store, FAMILY, shard_bytes, LATENTS)
        self._failed: dict[str, LatentRecord] = {}  # waiting rows without files, by clip id
        self._taken: set[str] = set()
        self.lost: dict[str, str] = {}  # clip -> why it has to be encoded again

    def take(self, row: ClipRow) -> LatentRecord | None:
        """Take the next row of the stream; commits a full shard. Returns the record if it is new."""
        if row.clip in self._committed or row.clip in self._taken:
            return None
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        record = dataclasses.replace(from_row(row.fields), encoded_at=now)
        if record.status is Status.FAILED:
            self._failed[record.clip_id] = record
        else:
            try:
                files = {name: self._ledger.read_file(file) for name, file in row.files.items()}
            except StagingDamaged as error:
                self.lost[row.clip] = str(error)
                return None
            self._writer.add(record, files)
        self._taken.add(row.clip)
        if self._writer.is_full or len(self._failed) >= _MOST_ROWS:
            self.commit()
        return record

    def commit(self) -> None:
        """Put everything taken so far into the latent set."""
        self._lock.check()
        self._committed.update(record.clip_id for record in self._writer.commit([*self._failed.values()]))
        self._failed.clear()
        self._ledger.forget(self._taken)
        self._taken.clear()

    def close(self) -> None:
        """Give up what is not committed; it stays staged for the next run."""
        with contextlib.suppress(OSError):  # a full disk reports itself once more
            self._writer.discard()
