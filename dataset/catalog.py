"""The index of a data set: one Parquet segment a commit, read as one table, asked questions in SQL.

A segment is the commit point: what no segment names does not exist. `dataset.json` says which settings
made the data set, and a run with others is refused rather than mixed in.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dataset.clip import PLACEMENT_COLUMNS, SCHEMA_VERSION, SETTLED_COLUMNS, from_row, index_schema, to_row
from dataset.rows import VERSION_KEY, RowType
from dataset.store import Store
from dataset.verdicts import VerdictsError, in_force, overrule, read_history

DESCRIPTION = "dataset.json"
INDEX = "index"
SHARDS = "shards"
_STATEMENTS = ("select", "with", "from", "describe", "summarize", "pivot", "unpivot", "explain")


class CatalogError(ValueError):
    """The index of a data set, its description, or a record on its way into it is not what it must be."""


class SegmentDamaged(CatalogError):
    """A part of the index cannot be read at all; the message names it."""


@dataclass
class Description:
    """The `dataset.json` of a data set.

    `thresholds` are those the stored verdicts follow, or None while verdicts are being rewritten (so
    that a rewrite that was interrupted is not mistaken for a finished one).
    """

    fingerprint: str
    settings: dict[str, Any]
    thresholds: dict[str, Any] | None
    schema_version: int = SCHEMA_VERSION
    created: str = ""

    def to_json(self) -> bytes:
        return json.dumps(dataclasses.asdict(self), sort_keys=True, indent=1).encode()


def open_dataset(
    store: Store, fingerprint: str, settings: Mapping[str, Any], thresholds: Mapping[str, Any]
) -> Description:
    """Start a data set, or check that the one in `store` was made with the same settings.

    settings: everything that changes what is computed, as plain JSON values, nested as one likes;
    fingerprint: their hash. thresholds change verdicts only: they are stored when the data set is new
    and never refused; compare `Description.thresholds` and call `dataset.upkeep.rejudge`.
    Raises CatalogError on another schema version, on other settings (naming each key, what was found
    and what was asked for), and on a folder that has an index or shards but no description.
    """
    wanted = Description(
        fingerprint, _plain(settings), _plain(thresholds),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
    if not store.exists(DESCRIPTION):
        if store.list(INDEX) or store.list(SHARDS):
            raise CatalogError(f"{store.url}: holds {INDEX}/ or {SHARDS}/ but no {DESCRIPTION}, so it is not "
                               "known what made it; choose another out=")
        store.write_new(DESCRIPTION, wanted.to_json())
    found = read_description(store)
    if found.settings != wanted.settings or found.fingerprint != fingerprint:
        raise CatalogError(_difference(store, found, wanted))
    return found


def read_description(store: Store) -> Description:
    """The description of a data set. Raises CatalogError if it is not one or is of another version."""
    try:
        return Description(**described(store, DESCRIPTION, SCHEMA_VERSION,
                                       "choose another out=, or use the code that made it"))
    except FileNotFoundError:
        raise CatalogError(f"{store.url}: not a data set, it has no {DESCRIPTION}") from None


def described(store: Store, name: str, version: int, advice: str) -> dict[str, Any]:
    """A file of ours that says what lies beside it. Raises FileNotFoundError, and CatalogError, with
    `advice`, where it is not JSON of this version."""
    try:
        values = json.loads(store.read(name))
    except ValueError as error:
        raise CatalogError(f"{store.name(name)}: not JSON: {error}") from error
    found = values.get("schema_version") if isinstance(values, dict) else None
    if found != version:
        raise CatalogError(f"{store.name(name)}: schema version {found}, this code reads and writes "
                           f"{version}; {advice}")
    return values


def write_description(store: Store, description: Description) -> None:
    """Replace the description of a data set."""
    store.write(DESCRIPTION, description.to_json())


CLIPS = RowType(
    name="clips", version=SCHEMA_VERSION, schema=index_schema(), to_row=to_row, from_row=from_row,
    placement=PLACEMENT_COLUMNS, unwritten=(*PLACEMENT_COLUMNS, *SETTLED_COLUMNS, "verdict", "reasons"),
    describe=read_description,
)
"""Rows of the index of a data set. Functions below take them unless told of other rows."""


# segments


def check_record(record: Any, rows: RowType = CLIPS) -> None:
    """Raise CatalogError, naming clip and column, unless the record can be stored exactly.

    A score that is NaN or infinite is refused: what could not be measured is None.
    """
    row = rows.to_row(record)
    for name, value in row.items():
        if isinstance(value, float | np.floating) and not math.isfinite(value):
            raise CatalogError(f"clip {record.clip_id}: {name} is {value}; "
                               "what could not be measured is None")
    if record.schema_version != rows.version:
        raise CatalogError(f"clip {record.clip_id}: schema version {record.schema_version}, "
                           f"expected {rows.version}")
    for column in rows.schema:
        value = row[column.name]
        try:
            stored = pa.array([value], column.type)[0].as_py()
        except (ValueError, TypeError, OverflowError):
            stored = _ABSENT
        if stored != value:  # Arrow silently cuts the fraction off a float in a column of integers
            raise CatalogError(f"clip {record.clip_id}: {column.name} is {value!r}, "
                               f"which is no {column.type}")


def write_segment(store: Store, records: Sequence[Any], rows: RowType = CLIPS) -> str:
    """Commit rows: all of them appear with one atomic write. Returns the path of the segment."""
    values = [rows.to_row(record) for record in sorted(records, key=lambda record: record.clip_id)]
    table = pa.Table.from_pylist(values, schema=rows.schema)
    path = segment_path(record.clip_id for record in records)
    write_table(store, path, table)
    return path


def segment_path(clip_ids: Iterable[str]) -> str:
    """Name of the segment that holds these rows: the same rows committed again replace themselves."""
    digest = hashlib.blake2b("\n".join(sorted(clip_ids)).encode(), digest_size=10).hexdigest()
    return f"{INDEX}/{digest}.parquet"


def segment_paths(store: Store) -> list[str]:
    """Paths of all segments, sorted."""
    return [path for path in store.list(INDEX) if path.endswith(".parquet")]


def write_table(store: Store, path: str, table: pa.Table) -> None:
    """Put one segment in place. Statistics are left out: they would be most of a small segment."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", write_statistics=False)
    store.write(path, buffer.getvalue())


def read_segments(
    store: Store, columns: Sequence[str] | None = None, rows: RowType = CLIPS
) -> dict[str, pa.Table]:
    """Every segment by path, in order of their names, as they all were at one moment.

    Raises CatalogError, naming the segment, on another schema version or unreadable bytes.
    """
    return {path: parse_segment(store, path, data, columns, rows)
            for path, data in segment_contents(store).items()}


def segment_contents(store: Store) -> dict[str, bytes]:
    """Bytes of every segment by path, as they all were at one moment. Raises CatalogError."""
    for _ in range(20):
        paths = segment_paths(store)
        try:
            contents = store.read_many(paths)
        except FileNotFoundError:  # merged into another one meanwhile
            continue
        if segment_paths(store) == paths:
            return dict(zip(paths, contents, strict=True))
    raise CatalogError(f"{store.name(INDEX)}: changes faster than it can be read; try again")


def parse_segment(
    store: Store, path: str, data: bytes, columns: Sequence[str] | None = None, rows: RowType = CLIPS
) -> pa.Table:
    """Rows of one segment from its bytes. Raises SegmentDamaged, or CatalogError for another schema."""
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        schema = file.schema_arrow
        version = (schema.metadata or {}).get(VERSION_KEY, b"none").decode()
        if version != str(rows.version):
            raise CatalogError(f"{store.name(path)}: schema version {version}, expected {rows.version}; "
                               "use the code that made it, or choose another out=")
        if not schema.equals(rows.schema):
            both = (schema, rows.schema)
            here, ours = ({column.name: column.type for column in columns} for columns in both)
            different = sorted(name for name in here | ours if here.get(name) != ours.get(name))
            raise CatalogError(f"{store.name(path)}: columns {different} are not those of this code, "
                               "although the schema version agrees; choose another out=")
        return file.read(columns=None if columns is None else list(columns), use_threads=False)
    except pa.ArrowException as error:
        raise SegmentDamaged(f"{store.name(path)}: damaged: {error}; "
                           "delete it and run again to make its clips anew") from error


def read_index(store: Store, columns: Sequence[str] | None = None, rows: RowType = CLIPS) -> pa.Table:
    """The rows of a data set, one per clip id; `columns` limits what is read.

    Should two segments hold the same clip, the first by name counts.
    """
    wanted = None if columns is None else ["clip_id", *(name for name in columns if name != "clip_id")]
    tables = list(read_segments(store, wanted, rows).values())
    table = pa.concat_tables(tables) if tables else _empty(wanted, rows)
    ids = table["clip_id"]
    if pc.count_distinct(ids).as_py() < len(ids):
        names = np.array(ids.to_pylist())
        first = np.unique(names, return_index=True)[1]
        table = table.take(np.sort(first))
    return table if columns is None else table.select(list(columns))


def read_judged(store: Store, columns: Sequence[str] | None = None) -> pa.Table:
    """Clips as `read_index` gives them; where a person judged one, with that verdict. Raises CatalogError."""
    try:
        said = in_force(read_history(store))
    except VerdictsError as error:
        raise CatalogError(str(error)) from error
    needed = None if columns is None else list(dict.fromkeys([*columns, "kind"]))
    table = overrule(read_index(store, needed), said.values())
    return table if columns is None else table.select(list(columns))


def committed_ids(store: Store, rows: RowType = CLIPS) -> set[str]:
    """Ids of all rows of the index: clips, spans and videos."""
    return set(read_index(store, ["clip_id"], rows)["clip_id"].to_pylist())


# questions


def query(store: Store, text: str, rows: RowType = CLIPS) -> pa.Table:
    """Rows that satisfy a condition, or the answer to a whole SQL statement over the table `clips` (of a
    latent set: `latents`).

    text: "verdict = 'kept' and flow_dis > 5", or "select source, count(*) from clips group by 1".
    Columns are the fields of `ClipRecord`; of clips that people judged, verdict and reasons are theirs.
    Raises CatalogError with the database's message.
    """
    import duckdb

    words = text.split(None, 1)
    is_statement = bool(words) and words[0].lower() in _STATEMENTS
    table = read_judged(store) if rows is CLIPS else read_index(store, rows=rows)
    connection = duckdb.connect(":memory:")
    try:
        connection.register(rows.name, table)
        if is_statement:
            return connection.sql(text).to_arrow_table()
        chosen = connection.sql(f"select clip_id from {rows.name} where {text}").fetchall()
    except duckdb.Error as error:
        raise CatalogError(f"{store.url}: cannot answer {text!r}: {error}") from error
    finally:
        connection.close()
    return table.filter(pc.is_in(table["clip_id"], pa.array([name for (name,) in chosen], pa.string())))


def content(table: pa.Table, rows: RowType = CLIPS) -> pa.Table:
    """What two runs over the same input must agree on: all but placement, sorted by clip id."""
    kept = [name for name in table.column_names if name not in rows.placement]
    return table.select(kept).sort_by("clip_id").combine_chunks()


def content_digest(table: pa.Table, rows: RowType = CLIPS) -> str:
    """Hash of `content(table)`: equal exactly when every content column of every row is."""
    digest = hashlib.blake2b(digest_size=20)
    for row in content(table, rows).to_pylist():
        digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest()


# parts


def _empty(columns: Sequence[str] | None, rows: RowType) -> pa.Table:
    table = rows.schema.empty_table()
    return table if columns is None else table.select(list(columns))


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps(values))


def _difference(store: Store, found: Description, wanted: Description) -> str:
    here, asked = _flat(found.settings), _flat(wanted.settings)
    lines = [
        f"  {key}: found {here.get(key, 'nothing')!r}, asked for {asked.get(key, 'nothing')!r}"
        for key in sorted({*here, *asked}) if here.get(key, _ABSENT) != asked.get(key, _ABSENT)
    ] or [f"  fingerprint: found {found.fingerprint}, asked for {wanted.fingerprint}"]
    return "\n".join([f"{store.url}: was made with other settings:", *lines,
                      "Choose another out=, or set these as found."])


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict) or not values:
        return {prefix: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


_ABSENT = object()
