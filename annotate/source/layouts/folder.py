"""The folder of a published set, local or behind any fsspec address; paths below it with forward slashes."""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Iterator
from pathlib import PurePosixPath

from annotate.source.filesystem import filesystem

log = logging.getLogger(__name__)

_ENCODINGS = ("utf-8-sig", "cp1252", "latin-1")


class Folder:
    """Raises ValueError when there is no such folder. `src` may also be a file in it, such as its table."""

    def __init__(self, src: str) -> None:
        self._fs, path = filesystem(src)
        self.src = src
        if not self._fs.isdir(path):
            if not self._fs.exists(path):
                raise ValueError(f"src={src}: no such file or folder")
            self.tables = [PurePosixPath(path).name]
            path = str(PurePosixPath(path).parent)
        else:
            self.tables = []
        self.root = path.rstrip("/") or "/"

    def address(self, path: str) -> str:
        """The full path, or the URL, of a path below the folder."""
        full = f"{self.root}/{path}" if path else self.root
        return self._fs.unstrip_protocol(full) if "://" in self.src else full

    def names(self, path: str = "") -> list[tuple[str, bool]]:
        """(name, whether it is a folder) of everything directly in a folder, sorted; nothing if absent."""
        try:
            entries = self._fs.ls(f"{self.root}/{path}" if path else self.root, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted((PurePosixPath(e["name"]).name, e["type"] == "directory") for e in entries)

    def exists(self, path: str) -> bool:
        return bool(self._fs.exists(f"{self.root}/{path}"))

    def read(self, path: str, stop: int | None = None) -> bytes:
        """A file, or as many of its first bytes."""
        return self._fs.cat_file(f"{self.root}/{path}", end=stop)

    def below_marker(self, marker: str) -> Iterator[str]:
        """Every folder that holds a file `marker`, in order; their own folders are not looked into."""
        waiting = [""]
        while waiting:
            path = waiting.pop()
            names = self.names(path)
            if any(name == marker and not is_folder for name, is_folder in names):
                yield path
                continue
            waiting += [f"{path}/{name}".lstrip("/") for name, is_folder in reversed(names)
                        if is_folder and not name.startswith(".")]

    def by_name(self, suffixes: tuple[str, ...]) -> dict[str, str]:
        """Path of every file below with one of these endings, by its bare name; the first by path wins."""
        found: dict[str, str] = {}
        for path in self.files(suffixes):
            found.setdefault(PurePosixPath(path).name, path)
        return found

    def files(self, suffixes: tuple[str, ...]) -> list[str]:
        """Paths of all files below with one of these endings, sorted."""
        found = sorted(str(p) for p in self._fs.find(self.root))
        return [p.removeprefix(self.root).lstrip("/") for p in found
                if PurePosixPath(p).suffix.lower() in suffixes]

    def rows(self, required: tuple[str, ...]) -> list[dict[str, str]]:
        """Rows of every table (.csv) that has the required columns, each distinct row once.

        Tables are `src` itself or lie directly in the folder. Read as UTF-8, else CP1252, else Latin-1.
        """
        csv.field_size_limit(1 << 24)
        names = self.tables or [name for name, is_folder in self.names() if name.endswith(".csv")]
        rows: list[dict[str, str]] = []
        for name in names:
            text, encoding = _decode(self.read(name))
            if encoding != _ENCODINGS[0]:
                log.info("%s: read as %s", self.address(name), encoding)
            reader = csv.DictReader(io.StringIO(text, newline=""))
            if set(required) <= set(reader.fieldnames or ()):
                rows += [{str(k): v or "" for k, v in row.items() if isinstance(v, str | None)}
                         for row in reader]
        return list({tuple(row.items()): row for row in rows}.values())


def _decode(data: bytes) -> tuple[str, str]:
    for encoding in _ENCODINGS[:-1]:
        try:
            return data.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    return data.decode(_ENCODINGS[-1]), _ENCODINGS[-1]
