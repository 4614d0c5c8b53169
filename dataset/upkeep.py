"""Upkeep of a data set's index between runs: recover after a crash, merge segments, judge anew.

Everything here wants the data set's lock to be held.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from dataset.catalog import (
    CLIPS,
    INDEX,
    SHARDS,
    CatalogError,
    read_description,
    read_index,
    read_segments,
    segment_path,
    segment_paths,
    write_description,
    write_table,
)
from dataset.clip import ClipRecord, Verdict, from_row
from dataset.rows import RowType
from dataset.store import Store

_OUR_SHARD = re.compile(rf"{SHARDS}/\w+-[0-9a-f]{{20}}\.tar")


@dataclass
class Recovery:
    """What `recover` found."""

    orphans: list[str] = field(default_factory=list)  # shards without rows and half-written files: removed
    withdrawn: list[str] = field(default_factory=list)  # clip ids whose shard is gone: rows removed


def recover(store: Store, remake_broken: bool = False, rows: RowType = CLIPS) -> Recovery:
    """Bring a data set into order after a crash: call it first thing, with the lock held.

    Removes half-written files and shards that no row names, and checks that every shard that rows name
    is there and long enough for its members. If one is not, raises CatalogError that lists them, or with
    `remake_broken` withdraws their rows, so that the next run makes those clips again.
    """
    rows.describe(store)  # nothing is ever removed from a folder that is not a data set
    recovery = Recovery()
    for folder in ("", SHARDS, INDEX):
        recovery.orphans += store.remove_temporaries(folder)
    sizes = store.sizes(SHARDS)
    needed = _shard_ends(read_index(store, ["shard", "members"], rows))
    broken = {shard for shard, end in needed.items() if sizes.get(shard, 0) < end}
    if broken:
        if not remake_broken:
            raise CatalogError(_broken(store, broken, sizes))
        gone = pa.array(sorted(broken), pa.string())
        recovery.withdrawn = withdraw(store, lambda table: pc.is_in(table["shard"], gone), rows)
    for shard in sizes:
        if _OUR_SHARD.fullmatch(shard) and (shard not in needed or shard in broken):
            store.remove(shard)
            recovery.orphans.append(shard)
    return recovery


def compact(store: Store, more_than: int = 1, rows: RowType = CLIPS) -> bool:
    """Merge all segments into one if there are more than so many; says whether it did.

    The merged segment appears before the others go; in between rows are there twice and count once.
    """
    segments = segment_paths(store)
    if len(segments) <= max(more_than, 1):
        return False
    table = read_index(store, rows=rows)
    merged = segment_path(table["clip_id"].to_pylist())
    write_table(store, merged, table.sort_by("clip_id"))
    for path in segments:
        if path != merged:
            store.remove(path)
    return True


def rejudge(
    store: Store, judge: Callable[[ClipRecord], tuple[Verdict, list[str]]], thresholds: Mapping[str, Any]
) -> int:
    """Rewrite verdicts and reasons of all rows after a change of thresholds; nothing is recomputed.

    judge: gives verdict and reasons of a record from its stored scores, and a record's own ones back
    where thresholds have no say (spans, whole videos, clips that could not be measured).
    Each segment changes by one atomic write. Interrupted, it is simply called again: until it is
    through, the description holds no thresholds. Returns how many rows changed.
    """
    description = read_description(store)
    description.thresholds = None
    write_description(store, description)
    changed = 0
    for path, table in read_segments(store).items():
        judged = [judge(from_row(row)) for row in table.to_pylist()]
        verdicts = pa.array([str(verdict) for verdict, _ in judged], pa.string())
        reasons = pa.array([list(why) for _, why in judged], pa.list_(pa.string()))
        before = list(zip(table["verdict"].to_pylist(), table["reasons"].to_pylist()))
        after = list(zip(verdicts.to_pylist(), reasons.to_pylist()))
        different = sum(old != new for old, new in zip(before, after))
        if different:
            write_table(store, path, _replaced(_replaced(table, "verdict", verdicts), "reasons", reasons))
            changed += different
    description.thresholds = dict(thresholds)
    write_description(store, description)
    return changed


def withdraw(store: Store, which: Callable[[pa.Table], Any], rows: RowType = CLIPS) -> list[str]:
    """Take rows out of the index, so that the next run makes those clips again. Returns their clip ids.

    which: gives a mask (rows,) of a segment's table. Interrupted, some of them are still there.
    """
    gone: list[str] = []
    for path, table in read_segments(store, rows=rows).items():
        lost = which(table)
        kept = table.filter(pc.invert(lost))
        if len(kept) == len(table):
            continue
        gone += table.filter(lost)["clip_id"].to_pylist()
        if len(kept):
            write_table(store, segment_path(kept["clip_id"].to_pylist()), kept)
        store.remove(path)
    return sorted(gone)


def _replaced(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(place), values)


def _shard_ends(table: pa.Table) -> dict[str, int]:
    """Byte up to which each shard is needed, from the members of its clips."""
    table = table.filter(pc.is_valid(table["shard"])).combine_chunks()
    members = table["members"].combine_chunks() if len(table) else pa.array([], table.schema.field(1).type)
    flat = members.flatten()
    shards = table["shard"].combine_chunks().take(pc.list_parent_indices(members)) if len(table) else []
    ends = pa.table({
        "shard": pa.array(shards, pa.string()),
        "end": pc.add(flat.field("offset"), flat.field("size")),
    })
    grouped = ends.group_by("shard").aggregate([("end", "max")])
    return dict(zip(grouped["shard"].to_pylist(), grouped["end_max"].to_pylist()))


def _broken(store: Store, shards: set[str], sizes: dict[str, int]) -> str:
    lines = [f"  {shard}: {'shorter than its index says' if shard in sizes else 'missing'}"
             for shard in sorted(shards)]
    return "\n".join([f"{store.url}: {len(shards)} shards named by {INDEX}/ cannot be complete:", *lines[:20],
                      "Put them back, or run with write.remake_broken=true to make their clips again."])
