"""Captions from a table: by clip, or by video for all clips of it."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from annotate.source.filesystem import filesystem

_KEYS = ("clip_id", "uri")


@dataclass
class CaptionTable:
    """Captions by clip id and by address of the video; a clip's own one wins."""

    digest: str  # of the file
    by_clip: dict[str, str] = field(default_factory=dict)
    by_uri: dict[str, str] = field(default_factory=dict)

    def find(self, clip_id: str, uri: str) -> str | None:
        """The caption of a clip; None where the table has none."""
        return self.by_clip.get(clip_id, self.by_uri.get(uri))

    @classmethod
    def read(cls, path: str) -> CaptionTable:
        """Raises ValueError with file, row and column for a file that cannot be read, a column that lacks,
        and two captions for one clip or video."""
        try:
            fs, name = filesystem(path)
            data = fs.cat_file(name)
        except ValueError:
            raise
        except Exception as error:  # each file system raises its own kinds
            raise ValueError(f"caption.path={path}: cannot be read: {type(error).__name__}: {error}"
                             ) from None
        table = cls(hashlib.blake2b(data, digest_size=10).hexdigest())
        for number, row in enumerate(_rows(path, data), 1):
            table._add(f"{path}: row {number}", row)
        return table

    def _add(self, where: str, row: dict[str, Any]) -> None:
        if "caption" not in row or not any(key in row for key in _KEYS):
            raise ValueError(f"{where}: columns {', '.join(map(str, row)) or 'none'}; expected caption, and "
                             f"{' or '.join(_KEYS)}")
        caption = " ".join(str(row["caption"] or "").split())
        key = next((key for key in _KEYS if row.get(key)), None)
        if not caption or key is None:
            return
        known = self.by_clip if key == "clip_id" else self.by_uri
        if known.setdefault(str(row[key]), caption) != caption:
            raise ValueError(f"{where}: {key} {row[key]} has another caption already")


def _rows(path: str, data: bytes) -> list[dict[str, Any]]:
    suffix = PurePosixPath(path).suffix.lower()
    try:
        if suffix == ".parquet":
            import pyarrow.parquet as pq

            return pq.read_table(io.BytesIO(data)).to_pylist()
        text = data.decode("utf-8-sig")
        if suffix == ".csv":
            return list(csv.DictReader(io.StringIO(text, newline="")))
        rows = [json.loads(line) for line in text.split("\n") if line.strip()]
        if not all(isinstance(row, dict) for row in rows):
            raise ValueError("expected one JSON object a line")
        return rows
    except Exception as error:  # of three libraries
        raise ValueError(f"caption.path={path}: not a {suffix[1:]} table: {error}") from None
