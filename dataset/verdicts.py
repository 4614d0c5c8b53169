"""What people said of clips: verdicts and notes, as Parquet beside the data. They win over the machine's.

Every judgement is a row of its own in `verdicts/` and none is ever changed: of a clip the latest counts. A
judgement is there once its file is, which takes one atomic write; many files become one now and then.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import io
import threading
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dataset.clip import Kind, Verdict
from dataset.rows import VERSION_KEY, arrow_schema
from dataset.store import Store

VERDICTS = "verdicts"
VERDICTS_VERSION = 1
REVIEWED = "review"
"""The one reason of a clip that a person rejected."""
_MANY_FILES = 64


class HumanVerdict(StrEnum):
    """What a person wants done with a clip."""

    KEEP = "keep"
    REJECT = "reject"


class VerdictsError(ValueError):
    """A file of verdicts cannot be read, or a judgement cannot be stored; the message names it."""


@dataclass
class Judgement:
    """What a person said of a clip at some moment; it takes the place of what was said of it before."""

    clip_id: str
    verdict: str | None  # HumanVerdict; None: the machine's stands
    note: str | None
    reviewer: str
    time: str  # ISO, UTC, with microseconds, so that text sorts as time does
    judgement_id: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)


_SCHEMA = arrow_schema(Judgement, VERDICTS_VERSION)


class VerdictBook:
    """The verdicts of one data set, to read and to add to. Several may write at once, on any machine."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = threading.Lock()
        self._last = ""

    def add(self, clip_id: str, verdict: HumanVerdict | None, note: str | None, reviewer: str) -> Judgement:
        """Store a judgement; when this returns it is on disk. Raises VerdictsError, StoreFull, StoreError."""
        if not reviewer.strip():
            raise VerdictsError(f"clip {clip_id}: a verdict needs the name of its reviewer")
        with self._lock:
            said = Judgement(clip_id, None if verdict is None else str(verdict), (note or "").strip() or None,
                             reviewer.strip(), self._now())
            self.store.write(f"{VERDICTS}/{said.time.replace(':', '')}-{said.judgement_id}.parquet",
                             _to_parquet(pa.Table.from_pylist([dataclasses.asdict(said)], schema=_SCHEMA)))
        return said

    def fold(self, more_than: int = _MANY_FILES) -> bool:
        """Make one file of them if there are more than so many; says whether it did.

        The new file appears before the others go; in between judgements are there twice and count once.
        """
        with self._lock:
            paths = _paths(self.store)
            if len(paths) <= max(more_than, 1):
                return False
            try:
                table = _read(self.store, paths)
            except FileNotFoundError:  # another process folds just now
                return False
            names = "\n".join(table["judgement_id"].to_pylist())
            whole = f"{VERDICTS}/{hashlib.blake2b(names.encode(), digest_size=10).hexdigest()}.parquet"
            self.store.write(whole, _to_parquet(table))
            for path in paths:
                if path != whole:
                    self.store.remove(path)
            return True

    def _now(self) -> str:
        """The time, and later than the last judgement's even where the clock was set back."""
        now = datetime.datetime.now(datetime.UTC)
        if self._last and now.isoformat(timespec="microseconds") <= self._last:
            now = datetime.datetime.fromisoformat(self._last) + datetime.timedelta(microseconds=1)
        self._last = now.isoformat(timespec="microseconds")
        return self._last


def read_history(store: Store) -> pa.Table:
    """Every judgement ever made, the oldest first. Raises VerdictsError, naming the file."""
    for _ in range(20):
        paths = _paths(store)
        try:
            return _read(store, paths)
        except FileNotFoundError:  # folded into another one meanwhile
            continue
    raise VerdictsError(f"{store.name(VERDICTS)}: changes faster than it can be read; try again")


def in_force(history: pa.Table) -> dict[str, Judgement]:
    """The latest judgement of every clip."""
    return {row["clip_id"]: Judgement(**row) for row in history.to_pylist()}


def overrule(table: pa.Table, said: Iterable[Judgement]) -> pa.Table:
    """Rows of the index with people's verdicts in the place of the machine's.

    table: with clip_id and kind, and any of verdict and reasons. What made no clip stays as it is, for there
    is nothing to keep. A rejected clip has the one reason `REVIEWED`, a kept one none.
    """
    by_id = {one.clip_id: one.verdict for one in said if one.verdict is not None}
    if not by_id:
        return table
    judged = pc.is_in(table["clip_id"], pa.array(list(by_id), pa.string()))
    places = np.flatnonzero(pc.and_(judged, pc.equal(table["kind"], Kind.CLIP)).to_numpy())
    for column, of in (
        ("verdict", {HumanVerdict.KEEP: str(Verdict.KEPT), HumanVerdict.REJECT: str(Verdict.REJECTED)}),
        ("reasons", {HumanVerdict.KEEP: [], HumanVerdict.REJECT: [REVIEWED]}),
    ):
        if column in table.column_names:
            values = table[column].to_pylist()
            for place, name in zip(places, table["clip_id"].take(pa.array(places)).to_pylist()):
                values[place] = of[HumanVerdict(by_id[name])]
            field = table.schema.field(column)
            table = table.set_column(table.column_names.index(column), field, pa.array(values, field.type))
    return table


# parts


def _paths(store: Store) -> list[str]:
    return [path for path in store.list(VERDICTS) if path.endswith(".parquet")]


def _read(store: Store, paths: list[str]) -> pa.Table:
    tables = [_SCHEMA.empty_table()]
    for path, data in zip(paths, store.read_many(paths), strict=True):
        try:
            table = pq.read_table(pa.BufferReader(data), use_threads=False)
        except pa.ArrowException as error:
            raise VerdictsError(f"{store.name(path)}: damaged: {error}; the verdicts in it are not known. "
                                "Bring it back from a copy, or move it away to go on without them") from error
        version = (table.schema.metadata or {}).get(VERSION_KEY, b"none").decode()
        if version != str(VERDICTS_VERSION):
            raise VerdictsError(f"{store.name(path)}: schema version {version}, expected {VERDICTS_VERSION}; "
                                "use the code that made it")
        tables.append(table)
    table = pa.concat_tables(tables)
    _, first = np.unique(np.asarray(table["judgement_id"].to_pylist(), str), return_index=True)
    by_time = [("time", "ascending"), ("judgement_id", "ascending")]
    return table.take(pa.array(np.sort(first))).sort_by(by_time)


def _to_parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()

