"""The index of a data set in memory, as a table for DuckDB; it follows a running annotation.

What cannot be read (a segment, a shard, a file of verdicts) becomes a sentence in `notices` or a mark in the
column `trouble`, and breaks nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dataset.catalog import (
    CLIPS,
    DESCRIPTION,
    INDEX,
    SHARDS,
    Description,
    SegmentDamaged,
    parse_segment,
    read_description,
)
from dataset.clip import ClipRecord, Kind, from_row
from dataset.funnel import row_seconds
from dataset.report.charts import bin_edges
from dataset.report.scores import SCORES
from dataset.store import Store
from dataset.verdicts import VERDICTS, Judgement, VerdictsError, in_force, read_history

BINS = 48
NO_BIN = 255
"""Of a clip whose score was not measured."""
MISSING_SHARD, SHORT_SHARD = "missing shard", "truncated shard"
_UNREAD = ("embedding",)  # most of the index's bytes, where there is one
_NO_QUESTIONS = ("members", "stage_seconds", "engines", "engine_licences")
"""Large, and never asked for in SQL."""
_COLUMNS = [name for name in CLIPS.schema.names if name not in _UNREAD]
_LIMIT_S = 20.0

_VIEW = """
create or replace view clips as select *,
  case judged when 'keep' then 'kept' when 'reject' then 'rejected' else verdict end as final
from base"""


class QuestionError(ValueError):
    """A question that cannot be answered; the message is the database's."""


@dataclass
class Snapshot:
    """The index as it was at one moment. edges: of every measured score's histogram, and whether it is
    logarithmic."""

    table: pa.Table
    description: Description
    rows: dict[str, int]
    edges: dict[str, tuple[np.ndarray, bool]]
    notices: list[str] = field(default_factory=list)


class ClipIndex:
    """Tables `base` (as stored) and `clips` (with people's verdicts) of one data set.

    Columns besides those of `ClipRecord`: row, seconds, trouble, bin_<score>, judged, note, reviewer,
    judged_at, and final: the verdict that counts. Safe to use from several threads.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._connection = duckdb.connect(":memory:")
        self._lock = threading.RLock()
        self._segments: dict[str, tuple[int, pa.Table | str]] = {}
        self._seen: Any = None
        self._seen_verdicts: Any = None
        self.version = 0
        read_description(store)  # raises CatalogError where there is no data set
        self.snapshot = self._read()
        # Questions come from the page: they may neither read files nor change these settings.
        self._connection.execute("set enable_external_access = false")
        self._connection.execute("set lock_configuration = true")

    # following the data set

    def refresh(self) -> bool:
        """Read what is new; says whether anything was. Raises CatalogError, StoreError."""
        with self._lock:
            if self._look() == self._seen:
                if self._look_at_verdicts() == self._seen_verdicts:
                    return False
                self.snapshot.notices = self._with_verdicts(self.snapshot.notices)
                self.version += 1
                return True
            self.snapshot = self._read()
            return True

    def note(self, said: Judgement) -> None:
        """Take a judgement in that was stored just now."""
        with self._lock:
            self._connection.execute(
                "update base set judged = ?, note = ?, reviewer = ?, judged_at = ? where row = ?",
                [said.verdict, said.note, said.reviewer, said.time, self.snapshot.rows[said.clip_id]])
            self.version += 1

    # questions

    def ask(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The answer to one SELECT. Raises QuestionError for anything else, and after twenty seconds."""
        return self._answer(sql, parameters, lambda cursor: cursor.fetchall())

    def ask_columns(self, sql: str, parameters: Sequence[Any] = ()) -> dict[str, np.ndarray]:
        """As `ask`, by column; for columns without nulls."""
        return self._answer(sql, parameters, lambda cursor: cursor.fetchnumpy())

    def _answer(self, sql: str, parameters: Sequence[Any], fetch: Callable[[Any], Any]) -> Any:
        cursor = self._connection.cursor()
        timer = threading.Timer(_LIMIT_S, cursor.interrupt)
        try:
            statements = duckdb.extract_statements(sql)
            if len(statements) != 1 or statements[0].type is not duckdb.StatementType.SELECT:
                raise QuestionError("one condition is expected, such as flow_dis > 5 and caption is not null")
            timer.start()
            return fetch(cursor.execute(sql, list(parameters)))
        except duckdb.InterruptException as error:
            raise QuestionError(f"no answer within {_LIMIT_S:g} s; ask for less") from error
        except duckdb.Error as error:
            raise QuestionError(str(error).split("\n\n")[0]) from error
        finally:
            timer.cancel()
            cursor.close()

    def record(self, clip_id: str) -> ClipRecord | None:
        """The row of a clip as stored, with its members; None where there is none of that name."""
        snapshot = self.snapshot
        row = snapshot.rows.get(clip_id)
        return None if row is None else from_row(snapshot.table.slice(row, 1).to_pylist()[0])

    # parts

    def _look(self) -> Any:
        """What changes whenever the index does: sizes of its files and of the shards, and the description,
        for new thresholds rewrite verdicts in place."""
        return self.store.sizes(INDEX), self.store.sizes(SHARDS), self.store.read(DESCRIPTION)

    def _look_at_verdicts(self) -> Any:
        return self.store.sizes(VERDICTS)

    def _read(self) -> Snapshot:
        seen = self._look()
        description = read_description(self.store)
        if self._seen is None or seen[2] != self._seen[2]:
            self._segments.clear()
        table, notices = self._segment_rows(seen[0])
        edges = _edges(table, description)
        troubles = _troubles(table, seen[1])
        gone = {name: int(np.count_nonzero(troubles == name)) for name in (MISSING_SHARD, SHORT_SHARD)}
        notices += [f"{count:,} clips lie in a {name}: look for trouble in the table, and run "
                    "python -m pipelines.validate" for name, count in gone.items() if count]
        with self._lock:
            self._put(table, edges, troubles)
            self._seen = seen
            notices = self._with_verdicts(notices)
            self.version += 1
        ids = table["clip_id"].to_pylist()
        return Snapshot(table, description, dict(zip(ids, range(len(ids)))), edges, notices)

    def _segment_rows(self, sizes: dict[str, int]) -> tuple[pa.Table, list[str]]:
        """Rows of all segments, one a clip, the first by name counting; what was read before is not read
        again."""
        found: dict[str, tuple[int, pa.Table | str]] = {}
        for path, size in sizes.items():
            known = self._segments.get(path)
            if known is not None and known[0] == size:
                found[path] = known
            elif path.endswith(".parquet"):
                try:
                    found[path] = size, parse_segment(self.store, path, self.store.read(path), _COLUMNS)
                except FileNotFoundError:
                    continue  # merged into another one meanwhile, which the next look finds
                except (SegmentDamaged, OSError) as error:
                    found[path] = size, str(error)
        self._segments = found
        tables = [table for _, table in found.values() if isinstance(table, pa.Table)]
        table = pa.concat_tables([CLIPS.schema.empty_table().select(_COLUMNS), *tables])
        if pc.count_distinct(table["clip_id"]).as_py() < len(table):
            first = np.unique(np.asarray(table["clip_id"].to_pylist(), str), return_index=True)[1]
            table = table.take(pa.array(np.sort(first)))
        return table.combine_chunks(), [text for _, text in found.values() if isinstance(text, str)]

    def _put(self, table: pa.Table, edges: dict[str, tuple[np.ndarray, bool]], troubles: np.ndarray) -> None:
        flat = table.drop_columns([name for name in _NO_QUESTIONS if name in table.column_names])
        flat = flat.append_column("row", pa.array(np.arange(len(table))))
        flat = flat.append_column("seconds", pa.array(row_seconds(table)))
        flat = flat.append_column("trouble", pa.array(troubles, pa.string()))
        for score, (limits, _) in edges.items():
            flat = flat.append_column(f"bin_{score}", pa.array(_binned(table[score], limits)))
        empty = pa.nulls(len(table), pa.string())
        for name in ("judged", "note", "reviewer", "judged_at"):
            flat = flat.append_column(name, empty)
        self._connection.register("incoming", flat)
        self._connection.execute("create or replace table base as select * from incoming")
        self._connection.unregister("incoming")
        self._connection.execute(_VIEW)

    def _with_verdicts(self, notices: list[str]) -> list[str]:
        """Put people's verdicts into `base`; the notices, with what is wrong with them."""
        seen = self._look_at_verdicts()
        kept = [notice for notice in notices if f"/{VERDICTS}/" not in notice]
        try:
            said = list(in_force(read_history(self.store)).values())
        except (VerdictsError, OSError) as error:
            return [*kept, str(error)]
        rows = pa.table({
            "clip_id": pa.array([one.clip_id for one in said], pa.string()),
            **{name: pa.array([getattr(one, of) for one in said], pa.string()) for name, of in
               (("judged", "verdict"), ("note", "note"), ("reviewer", "reviewer"), ("judged_at", "time"))},
        })
        self._connection.register("incoming", rows)
        self._connection.execute(
            "update base set judged = s.judged, note = s.note, reviewer = s.reviewer, "
            "judged_at = s.judged_at from incoming s where base.clip_id = s.clip_id")
        self._connection.unregister("incoming")
        self._seen_verdicts = seen
        return kept


def _edges(table: pa.Table, description: Description) -> dict[str, tuple[np.ndarray, bool]]:
    """Bins of every score that any clip has, wide enough for the limits in force."""
    clips = pc.equal(table["kind"], Kind.CLIP)
    edges = {}
    for score in SCORES:
        values = pc.filter(table[score.column], clips).to_numpy().astype(np.float64)
        values = values[np.isfinite(values)]
        if len(values):
            bound = (description.thresholds or {}).get(score.column) or {}
            limits = [bound[side] for side in ("min", "max") if bound.get(side) is not None]
            edges[score.column] = bin_edges(values, limits, BINS)
    return edges


def _binned(column: pa.ChunkedArray, edges: np.ndarray) -> np.ndarray:
    """(n,) uint8: the bin of every value, the outermost also of what lies beyond; `NO_BIN` if none."""
    values = column.to_numpy().astype(np.float64)
    bins = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2).astype(np.uint8)
    bins[~np.isfinite(values)] = NO_BIN
    return bins


def _troubles(table: pa.Table, sizes: dict[str, int]) -> np.ndarray:
    """(n,) what is wrong with the shard of every clip, as far as its size tells; None where nothing is."""
    ends = np.zeros(len(table), np.int64)
    members = table["members"].combine_chunks()
    if len(members):
        flat = pc.list_flatten(members)
        reach = pc.add(pc.struct_field(flat, "offset"), pc.struct_field(flat, "size")).to_numpy()
        np.maximum.at(ends, pc.list_parent_indices(members).to_numpy(), reach)
    shards = table["shard"].combine_chunks().dictionary_encode()
    names = shards.dictionary.to_pylist()
    there = np.array([sizes.get(name, -1) for name in names] + [np.iinfo(np.int64).max], np.int64)
    of = pc.fill_null(shards.indices, len(names)).to_numpy(zero_copy_only=False)
    troubles = np.full(len(table), None, object)
    troubles[there[of] < ends] = SHORT_SHARD
    troubles[there[of] < 0] = MISSING_SHARD
    return troubles
