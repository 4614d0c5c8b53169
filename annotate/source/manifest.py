"""Manifests: one row a video, as CSV, JSON lines or Parquet. Only `uri` is required.

Columns: uri, id, start, end (seconds), caption, licence, intrinsics ("fx fy cx cy" or a file),
intrinsics_size ("WxH"), poses, depth, and the settings of `Conventions`. Others are passed over. Relative
paths are relative to the manifest.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import os
from collections.abc import Iterator
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any

from annotate.source.filesystem import filesystem
from annotate.source.item import Conventions, SourceConfig, SourceItem
from dataset.table import read_table

log = logging.getLogger(__name__)

ALIASES: dict[str, str] = {"license": "licence", "start_s": "start", "end_s": "end"}
MOST_ERRORS = 20
_CONVENTIONS = [f.name for f in dataclasses.fields(Conventions)]
COLUMNS = ["uri", "id", "start", "end", "caption", "licence", "intrinsics", "intrinsics_size", "poses",
           "depth", *_CONVENTIONS]
CAMERA_FILES = (".npy", ".npz", ".json")
POSE_FILES = (".npy", ".npz", ".json", ".txt", ".tum")


def read_manifest(uri: str, config: SourceConfig) -> list[SourceItem]:
    """The videos a manifest lists, in its order; a row that repeats an earlier one is passed over.

    Raises ValueError with file, line, column, what was found and what is allowed, for up to 20 rows at
    once: no column `uri`, a value that cannot be read, a local file that is not there, an id given twice.
    """
    fs, path = filesystem(uri)
    try:
        data = fs.cat_file(path)
    except FileNotFoundError:
        raise ValueError(f"src={uri}: no such file") from None
    except Exception as error:  # each file system raises its own kinds
        raise ValueError(f"src={uri}: cannot be read: {type(error).__name__}: {error}") from error
    folder = uri.rpartition("/")[0] if "://" in uri else os.path.dirname(os.path.abspath(uri))
    items: list[SourceItem] = []
    errors: list[str] = []
    seen: dict[str, SourceItem] = {}
    repeated, ignored = 0, set[str]()
    for line, row in _rows(uri, data, PurePosixPath(path).suffix.lower()):
        ignored |= set(row) - set(COLUMNS)
        try:
            item = _Row(uri, line, row, folder, config).item()
            earlier = seen.setdefault(item.id, item)
            if earlier is item:
                items.append(item)
            elif earlier == item:
                repeated += 1
            else:
                raise ValueError(f"{uri}:{line}: column id: {item.id!r} was given to another row already")
        except ValueError as error:
            errors.append(str(error))
            if len(errors) >= MOST_ERRORS:
                break
    if errors:
        more = " (and perhaps more)" if len(errors) >= MOST_ERRORS else ""
        raise ValueError("\n".join(errors) + more)
    if not items:
        raise ValueError(f"src={uri}: the manifest has no rows")
    if ignored:
        log.info("src=%s: columns passed over: %s", uri, ", ".join(sorted(ignored)))
    if repeated:
        log.info("src=%s: %d repeated rows passed over", uri, repeated)
    return items


def _rows(uri: str, data: bytes, suffix: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, row in read_table(f"src={uri}", data, suffix):
        if "uri" not in row:
            raise ValueError(f"src={uri}:{line}: a manifest needs a column uri; found "
                             f"{', '.join(row) or 'none'}")
        yield line, {ALIASES.get(name, name): value for name, value in row.items()}


class _Row:
    """One row on its way to a SourceItem; every error says file, line, column, found and allowed."""

    def __init__(self, uri: str, line: int, row: dict[str, Any], folder: str, config: SourceConfig) -> None:
        self.manifest, self.line, self.row, self.folder, self.config = uri, line, row, folder, config

    def item(self) -> SourceItem:
        uri = self._text("uri")
        if uri is None:
            raise self._wrong("uri", "nothing", "a path or URL")
        start, end = self._seconds("start"), self._seconds("end")
        if start is not None and end is not None and end <= start:
            raise self._wrong("end", f"{end:g}", f"more than start = {start:g}")
        span = "" if start is None else f"@{start:g}"
        span += "" if end is None else f"-{end:g}"
        return SourceItem(
            uri=self._locate("uri", uri), id=self._text("id") or f"{uri}{span}", start_s=start, end_s=end,
            caption=self._text("caption"), licence=self._text("licence") or self.config.licence,
            intrinsics=self._intrinsics(), intrinsics_size=self._size(),
            poses=self._file("poses", POSE_FILES), depth=self._file("depth", (".npz", "")),
            source=self.config.name, given=self._conventions())

    def _wrong(self, column: str, found: object, allowed: str) -> ValueError:
        return ValueError(f"{self.manifest}:{self.line}: column {column}: found {found}, allowed: {allowed}")

    def _text(self, column: str) -> str | None:
        value = self.row.get(column)
        if value is None or (isinstance(value, str) and not value.strip()):
            return None
        if isinstance(value, list | dict | bool):
            raise self._wrong(column, repr(value), "text")
        return str(value).strip()

    def _number(self, column: str) -> float | None:
        text = self._text(column)
        if text is None:
            return None
        try:
            value = float(text)
        except ValueError:
            raise self._wrong(column, repr(text), "a number") from None
        if not math.isfinite(value):
            raise self._wrong(column, repr(text), "a finite number")
        return value

    def _seconds(self, column: str) -> float | None:
        value = self._number(column)
        if value is not None and value < 0:
            raise self._wrong(column, f"{value:g}", "seconds from the first frame, not negative")
        return value

    def _locate(self, column: str, text: str) -> str:
        if text.startswith("synthetic://"):
            from annotate.synthetic import SyntheticSpec

            try:
                SyntheticSpec.parse(text)
            except ValueError as error:
                raise self._wrong(column, repr(text), str(error)) from None
            return text
        if "://" in text:
            filesystem(text)
            return text
        if "://" in self.folder and not os.path.isabs(text):
            return f"{self.folder}/{text}"
        path = os.path.abspath(os.path.join(self.folder, text))
        if not os.path.exists(path):
            raise self._wrong(column, repr(text), f"a file that exists; there is no {path}")
        return path

    def _file(self, column: str, suffixes: tuple[str, ...]) -> str | None:
        text = self._text(column)
        if text is None:
            return None
        if PurePosixPath(text.rstrip("/")).suffix.lower() not in suffixes:
            kinds = ", ".join(s or "a folder" for s in suffixes)
            raise self._wrong(column, repr(text), f"one of {kinds}")
        return self._locate(column, text)

    def _intrinsics(self) -> list[float] | str | None:
        value = self.row.get("intrinsics")
        if isinstance(value, str) and PurePosixPath(value).suffix.lower() in CAMERA_FILES:
            return self._file("intrinsics", CAMERA_FILES)
        if value is None or value == "":
            return None
        parts = value.strip().strip("[]").replace(",", " ").split() if isinstance(value, str) else value
        allowed = "four numbers fx fy cx cy with fx, fy > 0, or a file .npy .npz .json"
        try:
            numbers = [float(part) for part in parts]
        except (TypeError, ValueError):
            raise self._wrong("intrinsics", repr(value), allowed) from None
        if len(numbers) != 4 or not all(map(math.isfinite, numbers)) or min(numbers[:2]) <= 0:
            raise self._wrong("intrinsics", repr(value), allowed)
        return numbers

    def _size(self) -> list[int] | None:
        text = self._text("intrinsics_size")
        if text is None:
            return None
        width, _, height = text.lower().partition("x")
        if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
            raise self._wrong("intrinsics_size", repr(text), "width x height in pixels, such as 1920x1080")
        return [int(height), int(width)]

    def _conventions(self) -> Conventions:
        given = dataclasses.replace(self.config.given)
        for name in _CONVENTIONS:
            default = getattr(given, name)
            if isinstance(default, StrEnum):
                text = self._text(name)
                kind = type(default)
                if text is not None and text not in list(kind):
                    raise self._wrong(name, repr(text), ", ".join(kind))
                setattr(given, name, kind(text) if text else default)
            elif (number := self._number(name)) is not None:
                if number <= 0:
                    raise self._wrong(name, f"{number:g}", "more than 0")
                setattr(given, name, number)
        return given
