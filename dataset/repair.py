"""Bringing a damaged data set or latent set into order: the index is made whole from the shards, and what is
broken goes to `quarantine/`. Nothing is deleted, and a record there says what was moved and why.

Wants the lock of the store to be held. Interrupted, it is simply called again after another inspection.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dataset.catalog import CLIPS, write_segment
from dataset.inspect import (
    DUPLICATE,
    NO_FILES,
    ORPHAN,
    OUR_SHARD,
    UNLISTED,
    Damage,
    IndexReport,
    ShardReport,
)
from dataset.reader import read_files
from dataset.rows import RowType
from dataset.shards import ShardWriter
from dataset.store import Store
from dataset.upkeep import compact, withdraw

QUARANTINE = "quarantine"
_FEW_SEGMENTS = 16  # a commit must not merge segments while clips are there twice: it would choose by name


@dataclass
class Repair:
    """What was done."""

    moved: dict[str, str] = field(default_factory=dict)  # file -> where it lies in quarantine/
    restored: list[str] = field(default_factory=list)  # clips whose rows were made again from their shards
    withdrawn: dict[str, str] = field(default_factory=dict)  # clips taken out of the index -> why
    rewritten: dict[str, list[str]] = field(default_factory=dict)  # new shard -> sound clips moved into it
    record: str | None = None  # the file that says all this


def repair(store: Store, index: IndexReport, shards: Sequence[ShardReport], rows: RowType = CLIPS) -> Repair:
    """Act on what `dataset.inspect` found.

    Unreadable segments go to quarantine and their clips' rows are made again from the shards; clips with
    damage lose their rows, so that the next run makes them again; the sound clips of a damaged shard move
    to a new one, and the old one goes to quarantine.
    """
    done = Repair()
    for path in index.unreadable:
        _quarantine(store, path, done)
    compact(store, _FEW_SEGMENTS, rows)
    known = set(index.table["clip_id"].to_pylist())
    why = {damage.clip_id: str(damage) for damage in index.damage if damage.code == NO_FILES}
    if why:
        names = pa.array([clip for clip in why if clip], pa.string())
        gone = withdraw(store, lambda table: pc.is_in(table["clip_id"], names), rows)
        done.withdrawn |= {clip: why[clip] for clip in gone}
    for report in shards:
        # One that has just been written is that of a repair which was killed before its rows were there.
        if report.damage and report.shard not in done.rewritten:
            _repair_shard(store, report, known, done, rows)
    if any(damage.code == DUPLICATE for damage in index.damage):
        compact(store, rows=rows)
    if done != Repair():
        damage = [*index.damage, *(item for report in shards for item in report.damage)]
        done.record = _write_record(store, done, damage)
    return done


def _repair_shard(store: Store, report: ShardReport, known: set[str], done: Repair, rows: RowType) -> None:
    shard, is_there = report.shard, store.exists(report.shard)
    fresh = [record for record in report.unlisted if record.clip_id not in known]
    if fresh and all(damage.code in (ORPHAN, UNLISTED) for damage in report.damage):
        write_segment(store, fresh, rows)  # the tar is whole: its clips only need their rows
        done.restored += [record.clip_id for record in fresh]
        known.update(record.clip_id for record in fresh)
        return
    if is_there:
        place = _free_place(store, shard)
        store.copy(shard, place)
        done.moved[shard] = place
    kept = [*report.sound, *fresh]
    new = _rewrite(store, shard, kept, rows) if kept else []
    # The rows of the old shard go last, since they alone know its checksums. Killed in between, clips are
    # there twice, or with a row of a shard that is gone, and the next repair comes to the same end.
    gone: list[str] = []
    if all(record.shard != shard for record in new):
        store.remove(shard)
        here = pa.array([shard], pa.string())
        gone = withdraw(store, lambda table: pc.is_in(table["shard"], here), rows)
    why = {damage.clip_id: str(damage) for damage in report.damage if damage.clip_id}
    sound = {record.clip_id for record in kept}
    done.withdrawn |= {clip: why.get(clip, f"{shard}: damaged") for clip in gone if clip not in sound}
    if new:
        done.rewritten[new[0].shard] = [record.clip_id for record in new]
        done.restored += [record.clip_id for record in fresh]
        known.update(record.clip_id for record in fresh)
    compact(store, _FEW_SEGMENTS, rows)


def _rewrite(store: Store, shard: str, records: Sequence[Any], rows: RowType) -> list[Any]:
    """A new shard of the sound clips of an old one. Members keep their bytes; `json` follows the index."""
    family = OUR_SHARD.fullmatch(shard)
    with ShardWriter(store, family[1] if family else "restored", rows=rows) as writer:
        for record in records:
            files = read_files(store, record, verify=True)
            files.pop("json", None)
            writer.add(record, files)
        return writer.commit()


def _quarantine(store: Store, path: str, done: Repair) -> None:
    place = _free_place(store, path)
    store.copy(path, place)
    store.remove(path)
    done.moved[path] = place


def _free_place(store: Store, path: str) -> str:
    """Where a file goes in quarantine; never where one of the same name lies."""
    place = f"{QUARANTINE}/{path}"
    return place if not store.exists(place) else f"{place}.{uuid.uuid4().hex[:6]}"


def _write_record(store: Store, done: Repair, damage: Sequence[Damage]) -> str:
    now = datetime.datetime.now(datetime.UTC)
    path = f"{QUARANTINE}/{now.strftime('%Y%m%dT%H%M%S')}-{uuid.uuid4().hex[:6]}.json"
    text = {"time": now.isoformat(timespec="seconds"),
            **dataclasses.asdict(done), "damage": [dataclasses.asdict(item) for item in damage]}
    store.write(path, json.dumps(text, indent=1, sort_keys=True).encode())
    return path
