"""Many videos from one table: CSV, JSON lines or Parquet, one row a video.

Columns are settings of `python -m infer` and `name`, the folder of the row's video; what a row leaves empty
is taken from the command line. Pictures and trajectories are looked for beside the table first.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dataset.table import TABLES, read_table
from infer.camera import locate
from infer.config import InferConfig

COLUMNS = ("name", "image", "prompt", "negative", "action", "camera", "frames", "intrinsics", "fov", "seed")
_WHOLE, _REAL = ("frames", "seed"), ("fov",)
_NAME = re.compile(r"[\w][\w.-]*")


@dataclass(frozen=True)
class Row:
    """A video to be made; where its values cannot be used, `fault` says why."""

    number: int  # line of the file, or row of the table, from 1
    name: str
    config: InferConfig
    fault: str | None = None


def read_manifest(config: InferConfig) -> list[Row]:
    """The rows of `config.manifest`, each with settings of its own in a folder of its own below `config.out`.

    Raises ValueError for a table that cannot be read, has no rows, or has columns that mean nothing here.
    What is wrong with one row is in its `fault`.
    """
    path = Path(config.manifest or "").expanduser()
    suffix = path.suffix.lower()
    if suffix not in TABLES:
        raise ValueError(f"manifest={path}: {suffix or 'no'} suffix, allowed {', '.join(TABLES)}")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"manifest={path}: cannot be read: {error.strerror}") from None
    rows, taken = [], dict[str, int]()
    for count, (line, values) in enumerate(read_table(f"manifest={path}", data, suffix), 1):
        unknown = [name for name in values if name not in COLUMNS]
        if unknown:
            raise ValueError(f"manifest={path}:{line}: column {unknown[0]!r} means nothing here; columns are "
                             f"{', '.join(COLUMNS)}")
        row = _row(config, path.parent, count, line, values)
        if row.fault is None and row.name in taken:
            row = dataclasses.replace(row, name=f"{row.name}.row{line}",
                                      fault=f"column name: {row.name!r} is that of row {taken[row.name]} too")
        taken[row.name] = line
        rows.append(row)
    if not rows:
        raise ValueError(f"manifest={path}: no rows")
    return rows


def _row(config: InferConfig, folder: Path, count: int, line: int, values: dict[str, Any]) -> Row:
    given = {name: value for name, value in values.items() if value is not None and value != ""}
    name = str(given.pop("name", f"{count:05d}")).strip()
    if not _NAME.fullmatch(name):
        fault = f"column name: {name!r}, allowed are letters, digits and . _ - with no dot or dash in front"
        return Row(line, f"{count:05d}", config, fault)
    try:
        changes = {column: _typed(column, value) for column, value in given.items()}
    except ValueError as error:
        return Row(line, name, config, str(error))
    if "action" in changes or "camera" in changes:  # the row's path counts, not the command's
        changes = {"action": None, "camera": None, **changes}
    if changes.get("image") and (folder / changes["image"]).exists():
        changes["image"] = str(folder / changes["image"])
    if changes.get("camera"):
        changes["camera"] = locate(changes["camera"], folder)
    own = dataclasses.replace(config, manifest=None, out=str(Path(config.out) / name), **changes)
    try:
        own.check()
    except ValueError as error:
        return Row(line, name, own, str(error))
    return Row(line, name, own)


def _typed(column: str, value: Any) -> Any:
    if column == "intrinsics":
        parts = value.strip().strip("[]").replace(",", " ").split() if isinstance(value, str) else value
        try:
            return [float(part) for part in parts]
        except (TypeError, ValueError):
            raise ValueError(f"column intrinsics: {value!r}, allowed fx fy cx cy") from None
    if column not in (*_WHOLE, *_REAL):
        return str(value)
    try:
        number = float(value)
        if column in _WHOLE and number != int(number):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        kind = "a whole number" if column in _WHOLE else "a number"
        raise ValueError(f"column {column}: {value!r}, allowed {kind}") from None
    return int(value if isinstance(value, str) and value.strip().isdigit() else number) \
        if column in _WHOLE else number
