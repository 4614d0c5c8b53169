"""One look through a data set and its latent sets: shards in parallel, damage by clip, then in a table."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dataset.catalog import CLIPS, SHARDS, CatalogError, read_description, read_index
from dataset.funnel import duration
from dataset.inspect import (
    CAMERA_DIFFERS,
    ORPHAN,
    UNLISTED,
    Damage,
    IndexReport,
    ShardReport,
    compare_cameras,
    inspect_index,
    inspect_shard,
)
from dataset.inspect_members import check_text
from dataset.latents import LATENTS, NULL_TEXT, LatentSet, latent_sets, latent_store, read_set
from dataset.lock import DatasetLock
from dataset.repair import Repair, repair
from dataset.rows import RowType
from dataset.store import Store
from pipelines.progress import StatusLine
from pipelines.validate_config import ValidateConfig


@dataclass
class SetReport:
    """What was found in a data set or in one of its latent sets."""

    name: str
    index: IndexReport
    shards: list[ShardReport] = field(default_factory=list)

    @property
    def damage(self) -> list[Damage]:
        return [*self.index.damage, *(item for report in self.shards for item in report.damage)]


class ShardProgress(StatusLine):
    """How many shards are read, and how many clips have damage so far."""

    def __init__(self, name: str, shards: int) -> None:
        super().__init__()
        self._name, self._shards = name, shards
        self._done = self._bytes = 0
        self._clips: set[str] = set()

    def shard(self, report: ShardReport) -> None:
        """One more shard is through."""
        with self.lock:
            self._done += 1
            self._bytes += report.size
            self._clips.update(damage.clip_id for damage in report.damage if damage.clip_id)

    def line(self) -> str:
        elapsed, left = self.elapsed, self._shards - self._done
        parts = [f"{self._name}: shards {self._done:,}/{self._shards:,}",
                 f"clips damaged {len(self._clips):,}", f"{self._bytes / elapsed / 1e6:.0f} MB/s"]
        if self._done and left:
            parts.append(f"ETA {duration(elapsed / self._done * left)}")
        return "  |  ".join([*parts, duration(elapsed)])


def validate(config: ValidateConfig) -> int:
    """Look, tell, repair where asked. Returns 1 where damage remains, else 0.

    Raises CatalogError where there is no data set, and LockHeld when a repair would meet a run.
    """
    data = Store(config.data)
    read_description(data)
    clips, remains = _look_and_repair(config, data, CLIPS, "clips", None, None)
    for name in latent_sets(data) if config.latents else []:
        store = latent_store(data, name)
        try:
            made = read_set(store)
        except CatalogError as error:
            print(f"latents/{name}: {error}")
            remains += 1
            continue
        remains += _look_and_repair(config, store, LATENTS, f"latents/{name}", made, clips)[1]
    return 1 if remains else 0


def look(
    config: ValidateConfig, store: Store, rows: RowType, name: str, made: LatentSet | None,
    clips: pa.Table | None,
) -> SetReport:
    """Inspect one store. made, clips: of a latent set, its description and the index of its data set."""
    present = [path for path in store.list(SHARDS) if path.endswith(".tar")]  # before the index: see below
    report = SetReport(name, inspect_index(store, rows))
    table = report.index.table
    shards = sorted({*present, *(path for path in table["shard"].to_pylist() if path)})
    jobs = min(config.jobs or os.cpu_count() or 1, max(len(shards), 1))
    tasks = ((store, path, _rows_of(table, path), rows, config.decode, made) for path in shards)
    with ShardProgress(name, len(shards)) as progress:
        for found in _inspect_all(tasks, jobs):
            report.shards.append(found)
            progress.shard(found)
    report.shards.sort(key=lambda found: found.shard)
    if made is not None and clips is not None:
        report.index.damage += _null_text_damage(store, made, report.index)
        _mark_other_cameras(report, compare_cameras(table, clips))
    _forgive(store, report, rows)
    return report


def _look_and_repair(
    config: ValidateConfig, store: Store, rows: RowType, name: str, made: LatentSet | None,
    clips: pa.Table | None,
) -> tuple[pa.Table, int]:
    """The index of a store as it is in the end, and how much damage remains there."""
    with DatasetLock(store) if config.repair else contextlib.nullcontext():
        report = look(config, store, rows, name, made, clips)
        _tell(report)
        if config.repair and report.damage:
            _tell_repair(store, repair(store, report.index, report.shards, rows), made)
            quick = ValidateConfig(config.data, decode=False, jobs=config.jobs)
            report = look(quick, store, rows, f"{name}, repaired", made, clips)
            _tell(report)
        return report.index.table, len(report.damage)


def _inspect_all(tasks: Iterable[tuple[Any, ...]], jobs: int) -> Iterator[ShardReport]:
    if jobs == 1:
        yield from (_inspect(*task) for task in tasks)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting = set()
        for task in tasks:
            waiting.add(pool.submit(_inspect, *task))
            if len(waiting) >= 2 * jobs:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (item.result() for item in done)
        yield from (item.result() for item in waiting)


def _inspect(
    store: Store, shard: str, table: pa.Table, rows: RowType, decode: bool, made: LatentSet | None,
) -> ShardReport:
    return inspect_shard(store, shard, [rows.from_row(row) for row in table.to_pylist()], rows, decode, made)


def _rows_of(table: pa.Table, shard: str) -> pa.Table:
    return table.filter(pc.equal(table["shard"], pa.scalar(shard, pa.string())))


def _null_text_damage(store: Store, made: LatentSet, index: IndexReport) -> list[Damage]:
    if not store.exists(NULL_TEXT):
        return [Damage("null_text", f"{NULL_TEXT} is gone; python -m pipelines.latents makes it again")]
    damage = [Damage("null_text", sentence) for sentence in check_text(store.read(NULL_TEXT), made, None)]
    if damage:
        index.unreadable.append(NULL_TEXT)
    return damage


def _mark_other_cameras(report: SetReport, others: dict[str, str]) -> None:
    for found in report.shards:
        for record in [record for record in found.sound if record.clip_id in others]:
            found.sound.remove(record)
            found.damage.append(Damage(CAMERA_DIFFERS, others[record.clip_id], found.shard, record.clip_id))


def _forgive(store: Store, report: SetReport, rows: RowType) -> None:
    """Drop what only looks like damage: shards that a run has committed or removed meanwhile, and copies of
    clips that the index has elsewhere, which no reader ever sees."""
    known = set(report.index.table["clip_id"].to_pylist())
    orphans = {item.shard for item in report.damage if item.code == ORPHAN}
    try:
        named = set(read_index(store, ["shard"], rows)["shard"].to_pylist()) if orphans else set()
    except CatalogError:  # a segment is damaged, which is told
        named = set()
    for found in report.shards:
        if found.shard in orphans and (found.shard in named or not store.exists(found.shard)):
            found.damage, found.unlisted = [], []
        found.damage = [item for item in found.damage if item.code != UNLISTED or item.clip_id not in known]


def _tell(report: SetReport) -> None:
    damage = report.damage
    for item in sorted(damage, key=lambda item: (item.clip_id or "", item.shard or "")):
        print(item)
    size = sum(found.size for found in report.shards)
    counts = f"{len(report.index.table):,} rows, {len(report.shards):,} shards, {size / 1e9:.2f} GB"
    if not damage:
        print(f"{report.name}: whole ({counts})")
        return
    clips = {item.clip_id for item in damage if item.clip_id}
    print(f"{report.name}: damaged ({counts}): {len(clips):,} clips")
    print(f"  {'what':<16} {'times':>7} {'clips':>7}  such as")
    for code, times in Counter(item.code for item in damage).most_common():
        same = [item for item in damage if item.code == code]
        count = len({item.clip_id for item in same if item.clip_id})
        print(f"  {code:<16} {times:>7,} {count:>7,}  {same[0].detail}")


def _tell_repair(store: Store, done: Repair, made: LatentSet | None) -> None:
    again = "python -m pipelines.annotate" if made is None else "python -m pipelines.latents"
    for path, place in done.moved.items():
        print(f"moved {path} to {store.name(place)}")
    if done.restored:
        print(f"{len(done.restored):,} clips have their rows again, made from their shards")
    kept = sum(len(clips) for clips in done.rewritten.values())
    if kept:
        print(f"{kept:,} sound clips moved into {len(done.rewritten):,} new shards")
    if done.withdrawn:
        print(f"{len(done.withdrawn):,} clips are out of the index; {again} makes them again")
    if done.record:
        print(f"record: {store.name(done.record)}")
