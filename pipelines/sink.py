"""The end of the stream: every row gets its verdict and goes into the data set, exactly once."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
from collections.abc import Callable, Mapping
from typing import Any

from dataset.catalog import CatalogError, check_record
from dataset.clip import ClipRecord, Kind, Verdict, from_row
from dataset.lock import DatasetLock
from dataset.shards import ShardWriter
from dataset.store import Store
from pipelines.ledger import Finished, Ledger, StagingDamaged
from pipelines.rows import ClipRow

Judge = Callable[[ClipRecord], tuple[Verdict, list[str]]]

SCAFFOLD = frozenset({"given.npz", "given_depth.npz", "pose.npz", "structure.npz", "estimate.npz"})
"""Files that stages make for each other and that no data set needs: camera and depth hold all of it."""

NOT_STORED = "not_stored"
"""Why a clip that new thresholds would keep is not kept: its files were thrown away when it was rejected."""

UNSTORABLE = "unstorable"
"""Why a row failed whose values no column of the index can hold; `detail` names the value."""

_MOST_ROWS = 2000  # rows without files that wait for a commit


@dataclasses.dataclass(frozen=True)
class Provenance:
    """What every row of a run says about how it was made."""

    config_hash: str
    code_version: str
    engines: Mapping[str, str]  # stage -> version


class Sink:
    """Judges rows, collects them into shards, and forgets staging that is no longer needed.

    Raises what `ShardWriter.commit` and `DatasetLock.check` raise;
    all that was not committed is still staged then.
    """

    def __init__(
        self, store: Store, lock: DatasetLock, ledger: Ledger, committed: set[str], judge: Judge,
        provenance: Provenance, shard_bytes: int, keep_rejected: bool,
    ) -> None:
        self._lock = lock
        self._ledger = ledger
        self._committed = committed
        self._judge = judge
        self._provenance = provenance
        self._keep_rejected = keep_rejected
        families = (Verdict.KEPT, Verdict.REJECTED)
        self._writers = {family: ShardWriter(store, str(family), shard_bytes) for family in families}
        self._rows: dict[str, ClipRecord] = {}  # waiting rows without files, by clip id
        self._waiting: dict[str, set[str]] = {}  # video -> clips taken and not committed
        self._taken: set[str] = set()  # the same clips, of all videos
        self._ended: dict[str, list[str]] = {}  # video -> all its rows
        self.lost: dict[str, str] = {}  # clip -> why it has to be made again
        self._videos_finished = 0

    def take(self, row: ClipRow) -> ClipRecord | None:
        """Take the next row of the stream; commits a shard when one is full.

        Returns the row with its verdict if it is a new row of the index, else None.
        """
        record = None
        if row.ended is not None:
            self._ended[row.video] = row.ended
        elif row.clip not in self._committed and row.clip not in self._taken:
            try:
                record = self._add(row)
            except StagingDamaged as error:
                self.lost[row.clip] = str(error)
        if any(writer.is_full for writer in self._writers.values()) or len(self._rows) >= _MOST_ROWS:
            self.commit()
        elif row.ended is not None and not self._missing(row.video):
            self._finish()
        return record

    @property
    def videos_judged(self) -> int:
        """Videos of which every row has arrived, committed or not."""
        here = self._committed, self._taken
        whole = sum(all(any(clip in ids for ids in here) for clip in rows) for rows in self._ended.values())
        return self._videos_finished + whole

    def commit(self) -> None:
        """Put everything taken so far into the data set."""
        self._lock.check()
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        rows = [dataclasses.replace(record, annotated_at=now) for record in self._rows.values()]
        for writer in self._writers.values():
            self._committed.update(record.clip_id for record in writer.commit(rows))
            rows = []
        self._rows.clear()
        self._ledger.drop(self._waiting)
        self._waiting.clear()
        self._taken.clear()
        self._finish()

    def close(self) -> None:
        """Give up what is not committed; it stays staged for the next run."""
        for writer in self._writers.values():
            with contextlib.suppress(OSError):  # a full disk reports itself once more
                writer.discard()

    # parts

    def _add(self, row: ClipRow) -> ClipRecord:
        if row.lost is not None:
            raise StagingDamaged(row.lost)
        record = self._record(row)
        files: dict[str, bytes] = {}
        if record.verdict is Verdict.KEPT or (record.verdict is Verdict.REJECTED and self._keep_rejected):
            wanted = row.files.items()
            files = {name: self._ledger.read_file(file) for name, file in wanted if name not in SCAFFOLD}
        if files:
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            self._writers[record.verdict].add(dataclasses.replace(record, annotated_at=now), files)
        else:
            self._rows[record.clip_id] = record
        self._waiting.setdefault(row.video, set()).add(row.clip)
        self._taken.add(row.clip)
        return record

    def _record(self, row: ClipRow) -> ClipRecord:
        record = from_row(row.fields)
        record.stage_seconds = json.dumps({name: round(spent, 3) for name, spent in row.seconds.items()})
        record.engines = json.dumps(dict(self._provenance.engines), sort_keys=True)
        record.config_hash = self._provenance.config_hash
        record.code_version = self._provenance.code_version
        if row.failure is not None:
            record.verdict, record.detail = Verdict.FAILED, row.failure
            record.reasons = [row.reason or "failed"]
        elif record.kind is Kind.CLIP:
            record.verdict, record.reasons = self._judge(_unsettled(record))
        try:
            check_record(record)
        except CatalogError as error:
            return _unstorable(record, error)
        return record

    def _missing(self, video: str) -> bool:
        return any(clip not in self._committed for clip in self._ended[video])

    def _finish(self) -> None:
        done = [Finished(video, ids) for video, ids in self._ended.items() if not self._missing(video)]
        self._ledger.finish(done)
        for item in done:
            del self._ended[item.video]
        self._videos_finished += len(done)


def _unsettled(record: ClipRecord) -> ClipRecord:
    """A clip whose near-duplicates will be looked for after the run counts as having none until then: a rule
    that rejects unknown ones would throw its files away."""
    return dataclasses.replace(record, duplicate_similarity=0.0) if record.video_hash else record


def _unstorable(record: ClipRecord, error: CatalogError) -> ClipRecord:
    """What can be said of a row that the index cannot hold, such as one from a file whose name is no text."""
    return ClipRecord(
        clip_id=record.clip_id, video_id=record.video_id, kind=record.kind, uri=_as_text(record.uri),
        source=_as_text(record.source), verdict=Verdict.FAILED, reasons=[UNSTORABLE],
        detail=_as_text(str(error)), stage_seconds=record.stage_seconds, engines=record.engines,
        config_hash=record.config_hash, code_version=record.code_version,
    )


def _as_text(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def rejudged(record: ClipRecord, judge: Judge) -> tuple[Verdict, list[str]]:
    """Verdict and reasons under new thresholds: only measured clips are judged anew."""
    if record.kind is not Kind.CLIP or record.verdict is Verdict.FAILED:
        return record.verdict, record.reasons
    verdict, reasons = judge(record)
    if verdict is Verdict.KEPT and record.shard is None:
        return Verdict.REJECTED, [NOT_STORED]  # it was made with write.rejected=false
    return verdict, reasons


def plain(values: Any) -> Any:
    """Settings as JSON holds them."""
    return json.loads(json.dumps(values, default=str))
