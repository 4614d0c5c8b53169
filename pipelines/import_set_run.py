"""A published set into shards: every clip once, its cameras in metres, its row whatever becomes of it."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import sys
from collections.abc import Iterator
from typing import Any

from annotate.filters import judge
from annotate.source.cameras import BadCameras
from annotate.source.layouts.folder import Folder
from annotate.source.layouts.sana_wm import ZipShard, shards
from dataset.catalog import CatalogError, committed_ids, open_dataset, query, read_index
from dataset.clip import ClipRecord, Kind, Verdict, clip_id
from dataset.funnel import COLUMNS, funnel, render_text
from dataset.lock import DatasetLock
from dataset.report import write_report
from dataset.shards import ShardWriter
from dataset.store import Store
from dataset.upkeep import recover, rejudge
from pipelines.import_set_clip import MISREAD_CAMERAS, Imported, imported_clip, self_checked
from pipelines.import_set_config import ImportSetConfig
from pipelines.import_set_latents import import_latents
from pipelines.ledger import digest
from pipelines.runner import Refused
from pipelines.sink import plain, rejudged

VERSION = "1"
_BYTES_PER_MB = 1_000_000
_MOST_ROWS = 2000  # rows without files that wait for a commit


def run(config: ImportSetConfig) -> int:
    """Bring `config.out` up to date with `config.src`; returns the exit code.

    Raises CatalogError where folders or settings are not what they must be, LockHeld, StoreError, Refused.
    """
    try:
        folder = Folder(config.src)
        paths = shards(folder)
    except ValueError as error:
        raise CatalogError(str(error)) from None
    store = Store(config.out)
    settings = plain({"import": {"layout": config.layout, "version": VERSION, "fps": config.fps,
                                  "selfcheck": config.selfcheck}})
    thresholds = plain(dataclasses.asdict(config.thresholds))
    with DatasetLock(store) as lock:
        description = open_dataset(store, digest(settings), settings, thresholds)
        recover(store, config.write.remake_broken)
        if description.thresholds != thresholds:
            rejudge(store, lambda row: rejudged(row, lambda r: judge(r, config.thresholds)), thresholds)
        importer = _Importer(config, store, lock, digest(settings))
        new = sum(importer.shard(folder, path) for path in paths)
        importer.commit()
        print(f"{new:,} new rows from {len(paths):,} zips -> {config.out}", file=sys.stderr)
        if config.latents.src is not None:
            made = import_latents(config, folder, paths, store)
            print(f"{made.new:,} new latents in {made.url}, {made.failed:,} of them failed", file=sys.stderr)
        print(render_text(funnel(read_index(store, COLUMNS))))
        if config.write.report and (new or not store.exists("report.html")):
            print(f"report:   {write_report(store)}")
    return 0


class _Importer:
    """Judges clips and commits them, a shard of each family at a time."""

    def __init__(self, config: ImportSetConfig, store: Store, lock: DatasetLock, config_hash: str) -> None:
        self._config, self._store, self._lock, self._hash = config, store, lock, config_hash
        self._committed = committed_ids(store)
        judged = query(store, "selfcheck_cheirality is not null and pose_failure is null")
        self._consistent = judged.num_rows > 0
        size = config.write.shard_mb * _BYTES_PER_MB
        self._writers = {v: ShardWriter(store, str(v), size) for v in (Verdict.KEPT, Verdict.REJECTED)}
        self._rows: list[ClipRecord] = []
        self._version = importlib.metadata.version("sana-wm-open")

    def shard(self, folder: Folder, path: str) -> int:
        """Take every clip of a zip that has no row yet; returns how many."""
        count = 0
        for made in clips_of(folder, path, self._config, self._committed):
            record = self._complete(made.record)
            self._object(record)
            if made.files and (record.verdict is Verdict.KEPT or self._config.write.rejected):
                self._writers[record.verdict].add(record, made.files)
            else:
                self._rows.append(record)
            self._committed.add(record.clip_id)
            count += 1
            if any(w.is_full for w in self._writers.values()) or len(self._rows) >= _MOST_ROWS:
                self.commit()
        print(f"{path}: {count:,} clips", file=sys.stderr)
        return count

    def _object(self, record: ClipRecord) -> None:
        """Raises Refused when the first cameras that can be judged contradict their images."""
        if record.reasons == [MISREAD_CAMERAS] and not self._consistent:
            raise Refused(f"{record.uri}: {record.pose_failure}\n{record.detail}\nThe import stops: these "
                          f"are not cameras as {self._config.layout} is documented to hold them. selfcheck=0 "
                          "imports them all the same")
        self._consistent |= not record.reasons and record.selfcheck_cheirality is not None

    def commit(self) -> None:
        """Put everything taken so far into the data set."""
        self._lock.check()
        rows, self._rows = self._rows, []
        for writer in self._writers.values():
            writer.commit(rows)
            rows = []

    def _complete(self, record: ClipRecord) -> ClipRecord:
        record = dataclasses.replace(
            record, source=self._config.name, licence=self._config.licence, config_hash=self._hash,
            code_version=self._version, engines=json.dumps({"import": f"{self._config.layout}-{VERSION}"}),
            annotated_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"))
        if record.kind is Kind.CLIP and not record.reasons:
            record.verdict, record.reasons = judge(record, self._config.thresholds)
        return record


def clips_of(
    folder: Folder, path: str, config: ImportSetConfig, done: set[str],
) -> Iterator[Imported]:
    """The clips of a zip whose ids are not in `done`; what is wrong with one becomes its failed row."""
    try:
        shard = ZipShard(folder, path)
    except BadCameras as error:
        row = _failed(clip_name(path), path, folder.address(path), Kind.VIDEO, "unreadable", str(error))
        if row.clip_id not in done:
            yield Imported(row, {})
        return
    with shard:
        for number, key in enumerate(shard.keys):
            video, uri = shard.identity(key), f"{shard.address}#{key}"
            name = clip_name(video)
            if name in done:
                continue
            try:
                made = imported_clip(shard.clip(key), name, video, uri, config.fps)
                yield self_checked(made) if number < config.selfcheck and "mp4" in made.files else made
            except BadCameras as error:
                yield Imported(_failed(name, video, uri, Kind.CLIP, "bad_sidecar", str(error)), {})


def clip_name(video: str) -> str:
    """Name of the row of a published clip: it is taken whole, whatever its length."""
    return clip_id(video, 0.0, 0, 0.0, (0, 0))


def _failed(name: str, video: str, uri: str, kind: Kind, reason: str, detail: str) -> ClipRecord:
    fields: dict[str, Any] = {"uri": uri, "verdict": Verdict.FAILED, "reasons": [reason], "detail": detail}
    return ClipRecord(name, video, kind, **fields)
