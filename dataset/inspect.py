"""Looking for damage in a data set or latent set: the index in itself, and each shard against the index."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataset.catalog import CLIPS, SHARDS, SegmentDamaged, parse_segment, segment_contents
from dataset.clip import Kind, Member, Verdict
from dataset.inspect_members import Check, clip_checks, latent_checks
from dataset.latents import CAMERA_MEMBER, LatentSet, Status
from dataset.rows import RowType
from dataset.shards import json_member
from dataset.store import Store

OUR_SHARD = re.compile(rf"{SHARDS}/(\w+)-[0-9a-f]{{20}}\.tar")
MISSING, ORPHAN, UNLISTED, TAR = "missing_shard", "orphan_shard", "unlisted_clip", "tar"
ROW, MEMBER, DUPLICATE, NO_FILES = "row", "member", "duplicate_id", "no_files"
CAMERA_DIFFERS = "camera_differs"
HARMLESS = frozenset({ROW, MEMBER})
"""What does not touch the bytes of a clip that its row names."""
RESTORED = "restored"
"""The one reason of a clip whose row was made again from its shard: why it was rejected is not in there."""
_BLOCK = 512


@dataclass(frozen=True)
class Damage:
    """One thing that is wrong. `code` is short enough to count."""

    code: str
    detail: str
    shard: str | None = None
    clip_id: str | None = None

    def __str__(self) -> str:
        place = " ".join(part for part in (self.shard, self.clip_id and f"clip {self.clip_id}") if part)
        return f"{place or 'data set'}: {self.code}: {self.detail}"


@dataclass
class IndexReport:
    """The index in itself: rows (one for each clip id), damaged segments, and what is wrong."""

    table: pa.Table
    damage: list[Damage] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)  # files beside the shards


@dataclass
class ShardReport:
    """One shard: what is wrong, the clips of the index that are sound, and sound ones the index lacks."""

    shard: str
    size: int = 0
    damage: list[Damage] = field(default_factory=list)
    sound: list[Any] = field(default_factory=list)
    unlisted: list[Any] = field(default_factory=list)


def inspect_index(store: Store, rows: RowType = CLIPS) -> IndexReport:
    """Read every segment; find unreadable ones, clips that are there twice, kept clips without files.

    Raises CatalogError for an index of another schema, which is no damage.
    """
    tables, report = [], IndexReport(rows.schema.empty_table())
    for path, data in segment_contents(store).items():
        try:
            tables.append(parse_segment(store, path, data, None, rows))
        except SegmentDamaged as error:
            report.unreadable.append(path)
            report.damage.append(Damage("segment", str(error)))
    table = pa.concat_tables([report.table, *tables])
    names = np.array(table["clip_id"].to_pylist(), dtype=str)
    _, first, counts = np.unique(names, return_index=True, return_counts=True)
    for name in names[first[counts > 1]]:
        different = {json.dumps(row, sort_keys=True) for row
                     in table.filter(pc.equal(table["clip_id"], pa.scalar(str(name)))).to_pylist()}
        if len(different) > 1:  # equal ones are left by a merge that was interrupted, and count once
            sentence = f"{len(different)} different rows"
            report.damage.append(Damage(DUPLICATE, sentence, clip_id=str(name)))
    report.table = table.take(np.sort(first))
    report.damage += _rows_without_files(report.table, rows)
    return report


def inspect_shard(
    store: Store, shard: str, listed: Sequence[Any], rows: RowType = CLIPS, decode: bool = True,
    made: LatentSet | None = None,
) -> ShardReport:
    """Compare a shard with the records of the index that name it, and look into its files.

    made: description of the latent set, if it is one. A clip with any damage is not sound.
    """
    report = ShardReport(shard)
    try:
        report.size = store.size(shard)
        file = _opened(store, shard)
    except FileNotFoundError:
        report.damage += [Damage(MISSING, "its shard is gone", shard, record.clip_id) for record in listed]
        return report
    with file:
        entries, fault = walk_tar(file, report.size)
        if fault is not None:
            report.damage.append(Damage(TAR, fault, shard))
        for record in listed:
            places = entries if fault is None else None
            found = [*_clip_damage(file, shard, record, places, rows, decode, made)]
            report.damage += found
            if all(damage.code in HARMLESS for damage in found):
                report.sound.append(record)
        if not listed:
            report.damage.append(Damage(ORPHAN, "no row of the index names it", shard))
        _look_at_unlisted(file, report, {record.clip_id for record in listed}, entries, rows, decode, made)
    return report


def walk_tar(file: BinaryIO, size: int) -> tuple[dict[str, tuple[int, int]], str | None]:
    """Offset and size of every member of a tar of `size` bytes, and what is wrong with it, if anything.

    Python's tarfile takes a damaged header in the middle for the end: what follows the last member must be
    zeros.
    """
    entries: dict[str, tuple[int, int]] = {}
    end, twice = 0, None
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for info in tar:
                end = info.offset_data + -(-info.size // _BLOCK) * _BLOCK
                if end > size:
                    return entries, f"ends inside {info.name}, after {size} bytes"
                twice = info.name if info.name in entries else twice
                entries[info.name] = (info.offset_data, info.size)
    except (tarfile.TarError, EOFError) as error:
        return entries, f"damaged after {len(entries)} members: {error}"
    if size - end < 2 * _BLOCK:
        return entries, f"has no end mark after {len(entries)} members"
    file.seek(end)
    if file.read(2 * _BLOCK).strip(b"\0"):
        return entries, f"a damaged header after {len(entries)} members hides the rest"
    return entries, None if twice is None else f"holds {twice} twice"


def compare_cameras(latents: pa.Table, clips: pa.Table) -> dict[str, str]:
    """Clips whose latents lie beside other cameras than those of the data set now -> the sentence."""
    here, there = _camera_checksums(latents), _camera_checksums(clips)
    return {clip: "its cameras are not those of the data set any more" for clip in here
            if clip in there and here[clip] != there[clip]}


# parts


def _camera_checksums(table: pa.Table) -> dict[str, str]:
    rows = table.filter(pc.is_valid(table["shard"])).select(["clip_id", "members"]).to_pylist()
    return {row["clip_id"]: member["sha256"] for row in rows for member in row["members"]
            if member["name"] == f"{row['clip_id']}.{CAMERA_MEMBER}"}


def _opened(store: Store, shard: str) -> BinaryIO:
    path: Path | None = store.local_path(shard)
    return open(path, "rb") if path is not None else io.BytesIO(store.read(shard))


def _rows_without_files(table: pa.Table, rows: RowType) -> Iterator[Damage]:
    """Rows that promise a clip and name no shard."""
    if rows.name == CLIPS.name:
        promised = pc.and_(pc.equal(table["kind"], str(Kind.CLIP)),
                           pc.equal(table["verdict"], str(Verdict.KEPT)))
    else:
        promised = pc.equal(table["status"], str(Status.OK))
    lacking = table.filter(pc.and_(promised, pc.is_null(table["shard"])))
    for name in lacking["clip_id"].to_pylist():
        yield Damage(NO_FILES, "its row names no shard", clip_id=name)


def _clip_damage(
    file: BinaryIO, shard: str, record: Any, entries: dict[str, tuple[int, int]] | None, rows: RowType,
    decode: bool, made: LatentSet | None,
) -> Iterator[Damage]:
    """entries: of the tar, or None where it is too damaged to say where its members are."""
    here = {"shard": shard, "clip_id": record.clip_id}
    checks = _checks(record, decode, made)
    for member in record.members:
        short = member.name.removeprefix(f"{record.clip_id}.")
        file.seek(member.offset)
        data = file.read(member.size)
        if len(data) != member.size or hashlib.sha256(data).hexdigest() != member.sha256:
            sentence = f"{short}: its {len(data)} of {member.size} bytes are not those of its checksum"
            yield Damage("checksum", sentence, **here)
            continue
        if entries is not None and entries.get(member.name) != (member.offset, member.size):
            yield Damage(MEMBER, f"{short} is not where the index says", **here)
        if short == "json":
            if json.loads(data) != json.loads(json_member(record, rows)):
                yield Damage(ROW, "its json differs from its row in the index", **here)
        elif short in checks:
            yield from (Damage(short, sentence, **here) for sentence in checks[short](data))
    extra = sorted({name for name in entries or () if name.split(".", 1)[0] == record.clip_id}
                   - {member.name for member in record.members})
    if extra:
        yield Damage(MEMBER, f"{', '.join(extra)} in the shard and not in the index", **here)


def _look_at_unlisted(
    file: BinaryIO, report: ShardReport, listed: set[str], entries: dict[str, tuple[int, int]], rows: RowType,
    decode: bool, made: LatentSet | None,
) -> None:
    """Clips of a tar that no row of the index says are there."""
    clips: dict[str, list[str]] = {}
    for name in entries:
        clips.setdefault(name.split(".", 1)[0], []).append(name)
    for clip in sorted(clips.keys() - listed):
        if listed:
            report.damage.append(Damage(UNLISTED, "no row of the index says it is here", report.shard, clip))
        try:
            record = _restored(file, report.shard, clip, clips[clip], entries, rows)
        except (ValueError, KeyError, TypeError) as error:
            sentence = f"no row can be made of its json: {error}"
            report.damage.append(Damage(ROW, sentence, report.shard, clip))
            continue
        found = [*_clip_damage(file, report.shard, record, entries, rows, decode, made)]
        report.damage += found
        if not found:
            report.unlisted.append(record)


def _restored(
    file: BinaryIO, shard: str, clip: str, names: Sequence[str], entries: dict[str, tuple[int, int]],
    rows: RowType,
) -> Any:
    """The record of a clip from its json; the family of its shard says its verdict."""
    def read(name: str) -> bytes:
        file.seek(entries[name][0])
        return file.read(entries[name][1])

    members = [Member(name, *entries[name], hashlib.sha256(read(name)).hexdigest()) for name in names]
    row = json.loads(read(f"{clip}.json"))
    if row.get("clip_id") != clip:
        raise ValueError(f"it is that of clip {row.get('clip_id')}")
    if rows.name == CLIPS.name:
        family = OUR_SHARD.fullmatch(shard)
        verdict = Verdict(family[1] if family else "")
        row |= {"verdict": verdict, "reasons": [] if verdict is Verdict.KEPT else [RESTORED]}
    row |= {"shard": shard, "members": [vars(member) for member in members]}
    return rows.from_row(row)


def _checks(record: Any, decode: bool, made: LatentSet | None) -> dict[str, Check]:
    return clip_checks(record, decode) if made is None else latent_checks(record, made)
