"""Tables that people write: CSV with a header, JSON lines, or Parquet; one row a thing, values by column."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

TABLES = (".csv", ".jsonl", ".parquet")
_LONGEST = 1 << 24
"""Characters of a CSV value: captions can be long."""


def read_table(where: str, data: bytes, suffix: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line in the file, or row of the Parquet table, from 1; values by column name); empty lines are none.

    where: what messages call the table, such as "src=walks.csv". suffix: ".csv", ".parquet"; all else is
    JSON lines. CSV values are text, the others' are what they are.
    Raises ValueError, with the line, for what cannot be read.
    """
    if suffix == ".parquet":
        yield from enumerate(_parquet(where, data), 1)
        return
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{where}: byte {error.start} is not UTF-8; save it as UTF-8") from None
    yield from (_csv if suffix == ".csv" else _json_lines)(where, text)


def _parquet(where: str, data: bytes) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(io.BytesIO(data)).to_pylist()
    except pa.ArrowException as error:
        raise ValueError(f"{where}: not a Parquet file: {error}") from None


def _csv(where: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    csv.field_size_limit(_LONGEST)
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        header = [name.strip() for name in next(reader, [])]
        for values in reader:
            if len(values) not in (0, len(header)):
                raise ValueError(f"{where}:{reader.line_num}: {len(values)} values, the header names "
                                 f"{len(header)}; a comma inside a value needs quotes around the value")
            if values:
                yield reader.line_num, dict(zip(header, values))
    except csv.Error as error:
        raise ValueError(f"{where}:{reader.line_num}: not CSV: {error}") from None


def _json_lines(where: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}:{number}: not JSON: {error}") from None
        if not isinstance(row, dict):
            raise ValueError(f"{where}:{number}: found {type(row).__name__}, expected one JSON object a line")
        yield number, row
