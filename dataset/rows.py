"""What the rows of one kind of index are. Clips and their latents are stored, indexed and recovered by the
same code, which asks a `RowType` for whatever differs between them."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from dataset.store import Store

VERSION_KEY = b"sana_wm.schema_version"

_ARROW = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


@dataclass(frozen=True)
class RowType:
    """One kind of index row: a flat dataclass with `clip_id`, `schema_version`, `shard` and `members`.

    name: of the table in SQL. version: of the schema. placement: columns that may differ between two runs
    over the same input. unwritten: columns that the `json` member of a clip leaves out.
    describe: reads the description of a store that holds such rows; raises CatalogError for any other.
    """

    name: str
    version: int
    schema: pa.Schema
    to_row: Callable[[Any], dict[str, Any]]
    from_row: Callable[[dict[str, Any]], Any]
    placement: tuple[str, ...]
    unwritten: tuple[str, ...]
    describe: Callable[[Store], object]


def arrow_schema(record: type[Any], version: int) -> pa.Schema:
    """Arrow schema of a dataclass; carries the schema version as metadata."""
    return pa.schema(_columns(record), metadata={VERSION_KEY: str(version)})


def _columns(record: type[Any]) -> list[pa.Field]:
    hints = typing.get_type_hints(record)
    return [pa.field(item.name, _arrow_type(hints[item.name])) for item in dataclasses.fields(record)]


def _arrow_type(hint: Any) -> pa.DataType:
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _arrow_type(next(a for a in typing.get_args(hint) if a is not type(None)))
    if origin is list:
        return pa.list_(_arrow_type(typing.get_args(hint)[0]))
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return pa.struct(_columns(hint))
    if isinstance(hint, type) and issubclass(hint, str):
        return pa.string()
    return _ARROW[hint]
