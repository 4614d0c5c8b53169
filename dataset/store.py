"""Where a data set lies: one folder, on a local disk or behind any fsspec address.

Every file appears complete or not at all: on a local disk by a temporary name, fsync and rename, on an
object store by one upload. Nothing here knows of clips or shards.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from fsspec.registry import known_implementations

_TEMPORARY = ".tmp"
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
Paths = list[str]
_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)


class StoreError(OSError):
    """A file of a data set could not be read or written; the message names it."""


class StoreFull(StoreError):
    """No space left; nothing of the file that was being written remains."""

    errno = errno.ENOSPC  # also after a journey between processes, which keeps the message alone


class Store:
    """Files below one folder or address; paths are relative, with forward slashes.

    url: a local folder (made when first written to) or any fsspec address such as s3://bucket/folder;
    inside: a folder below it that is the store.
    Safe to pickle and to use from several threads and processes. A missing file raises
    FileNotFoundError, a full disk StoreFull, anything else StoreError; each names the file.
    """

    def __init__(self, url: str | os.PathLike[str], inside: str = "") -> None:
        self._base, self._inside = os.fspath(url).rstrip("/") or "/", inside
        self.url = f"{self._base}/{inside}" if inside else self._base
        self._fs, root = _file_system(self._base)
        self.is_local = isinstance(self._fs, LocalFileSystem)
        self._root = os.path.abspath(root) if self.is_local else root.rstrip("/")
        self._root += f"/{inside}" if inside else ""

    def __repr__(self) -> str:
        return f"Store({self.url!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {"url": self._root} if self.is_local else {"url": self._base, "inside": self._inside}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def name(self, path: str) -> str:
        """The full address of a file, for messages."""
        return f"{self.url}/{path}"

    def below(self, folder: str) -> Store:
        """A store of its own in a folder of this one. Not the same as an address with more at its end: in a
        chain such as dir::file://... the end belongs to another part."""
        if self.is_local:
            return Store(self._full(folder))
        return Store(self._base, f"{self._inside}/{folder}".lstrip("/"))

    def local_path(self, path: str = "") -> Path | None:
        """Where a file lies on the local disk, or None when the store is remote."""
        return Path(self._full(path)) if self.is_local else None

    # reading

    def read(self, path: str, start: int | None = None, end: int | None = None) -> bytes:
        """Bytes [start, end) of a file, all of it by default. A short file gives fewer bytes."""
        try:
            if not self.is_local:
                return self._fs.cat_file(self._full(path), start=start, end=end)
            with open(self._full(path), "rb") as file:
                file.seek(start or 0)
                return file.read() if end is None else file.read(end - (start or 0))
        except OSError as error:
            raise self.explain("read", path, error) from error

    def read_many(self, paths: Sequence[str]) -> Sequence[bytes]:
        """Whole files, in the order of `paths`; fetched concurrently where the store can."""
        if self.is_local:
            return [self.read(path) for path in paths]
        full = [self._full(path) for path in paths]
        try:
            found = self._fs.cat(full, on_error="return") if full else {}
        except OSError as error:
            raise self.explain("read", "", error) from error
        if isinstance(found, bytes):
            found = {full[0]: found}
        by_name = {self._fs._strip_protocol(key): value for key, value in found.items()}
        contents = []
        for path, key in zip(paths, full, strict=True):
            value = by_name[self._fs._strip_protocol(key)]
            if isinstance(value, Exception):
                raise self.explain("read", path, value) from value
            contents.append(value)
        return contents

    def exists(self, path: str) -> bool:
        if self.is_local:
            return os.path.isfile(self._full(path))
        self._fs.invalidate_cache()
        return self._fs.isfile(self._full(path))

    def size(self, path: str) -> int:
        """Size of a file in bytes."""
        try:
            if self.is_local:
                return os.stat(self._full(path)).st_size
            self._fs.invalidate_cache()
            return int(self._fs.info(self._full(path))["size"])
        except OSError as error:
            raise self.explain("read", path, error) from error

    def sizes(self, folder: str = "") -> dict[str, int]:
        """Every file in `folder` and below, sorted by path, with its size; temporaries are not files."""
        found = self._walk(folder)
        return {path: found[path] for path in sorted(found) if not _is_temporary(path.rsplit("/", 1)[-1])}

    def list(self, folder: str = "") -> Paths:
        """Paths of all files in `folder` and below, sorted."""
        return [*self.sizes(folder)]

    # writing

    def write(self, path: str, data: bytes) -> None:
        """Put a file in place, replacing one of that name. Readers see the old or the new, whole."""
        with self.writing(path) as file:
            file.write(data)

    def write_new(self, path: str, data: bytes) -> bool:
        """Put a file in place only if there is none of that name; says whether it did.

        Of several writers at once exactly one succeeds, on local disks and on stores with conditional
        writes (S3, GCS, memory). Other stores only look first.
        """
        if self.is_local:
            return self._write_new_local(path, data)
        try:
            self._fs.invalidate_cache()
            if self._fs.exists(self._full(path)):
                return False
            self._make_folder(path)
            self._fs.pipe_file(self._full(path), data, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            raise self.explain("write", path, error) from error
        return True

    @contextlib.contextmanager
    def writing(self, path: str) -> Iterator[BinaryIO]:
        """A file to fill, which appears under `path` when the block ends and not at all if it fails.

        Local: a temporary beside it, so a rename suffices. Remote: a temporary on this machine, then
        one upload.
        """
        try:
            with self._temporary(path) as (file, temporary):
                yield file
                file.flush()
                if self.is_local:
                    os.fsync(file.fileno())
                    os.replace(temporary, self._full(path))
                    _sync_folder(os.path.dirname(temporary))
                else:
                    self._upload(temporary, path, os.fstat(file.fileno()).st_size)
        except StoreError:
            raise
        except OSError as error:
            raise self.explain("write", path, error) from error

    def spool(self, folder: str) -> BinaryIO:
        """A nameless file to collect bytes in, on the store's own disk if it is local; gone when closed
        or when the process dies."""
        if not self.is_local:
            return tempfile.TemporaryFile()  # type: ignore[return-value]
        os.makedirs(self._full(folder), exist_ok=True)
        return tempfile.TemporaryFile(dir=self._full(folder))  # type: ignore[return-value]

    def copy(self, path: str, to: str) -> None:
        """Put a copy of a file in place, whole or not at all; on a local disk it shares the bytes."""
        try:
            if not self.is_local:
                self._make_folder(to)
                self._fs.cp_file(self._full(path), self._full(to))
                return
            try:
                os.makedirs(os.path.dirname(self._full(to)), exist_ok=True)
                os.link(self._full(path), self._full(to))
            except OSError as error:
                if error.errno not in (*_NO_HARD_LINKS, errno.EEXIST):
                    raise
                with open(self._full(path), "rb") as file, self.writing(to) as copy:
                    shutil.copyfileobj(file, copy)
        except StoreError:
            raise
        except OSError as error:
            raise self.explain("copy", path, error) from error

    def remove(self, path: str) -> None:
        """Delete a file; one that is already gone is no error."""
        try:
            if self.is_local:
                os.unlink(self._full(path))
            else:
                self._fs.rm_file(self._full(path))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise self.explain("remove", path, error) from error

    def remove_temporaries(self, folder: str = "") -> Paths:
        """Delete what killed writers left half-written in `folder` itself; only while nobody writes there.

        Returns their paths. Remote stores have none.
        """
        here = self.local_path(folder)
        if here is None or not here.is_dir():
            return []
        leftover = sorted(f"{folder}/{name}".lstrip("/") for name in os.listdir(here) if _is_temporary(name))
        for path in leftover:
            self.remove(path)
        return leftover

    # parts

    def _full(self, path: str) -> str:
        if path.startswith("/") or ".." in path.split("/"):
            raise ValueError(f"{self.url}: {path!r} is not a path inside the data set")
        return f"{self._root}/{path}" if path else self._root

    def _walk(self, folder: str) -> dict[str, int]:
        found = {}
        if self.is_local:
            for parent, _, names in os.walk(self._full(folder)):
                inside = os.path.relpath(parent, self._root)
                for name in names:
                    # a file can vanish between being listed and being looked at
                    with contextlib.suppress(FileNotFoundError):
                        size = os.stat(os.path.join(parent, name)).st_size
                        found[name if inside == "." else f"{inside}/{name}"] = size
            return found
        self._fs.invalidate_cache()
        try:
            entries = self._fs.find(self._full(folder), detail=True)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self.explain("list", folder, error) from error
        root = self._fs._strip_protocol(self._root).rstrip("/")
        return {full[len(root) + 1 :]: int(info["size"] or 0) for full, info in entries.items()}

    @contextlib.contextmanager
    def _temporary(self, path: str) -> Iterator[tuple[BinaryIO, str]]:
        if self.is_local:
            folder = os.path.dirname(self._full(path))
            os.makedirs(folder, exist_ok=True)
        else:
            folder = tempfile.gettempdir()
        temporary = os.path.join(folder, f".{uuid.uuid4().hex}{_TEMPORARY}")
        try:
            with open(temporary, "xb") as file:
                yield file, temporary
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)

    def _upload(self, temporary: str, path: str, size: int) -> None:
        self._make_folder(path)
        self._fs.put_file(temporary, self._full(path))
        arrived = self.size(path)
        if arrived != size:
            raise StoreError(f"{self.name(path)}: {arrived} of {size} bytes arrived; run again")

    def _make_folder(self, path: str) -> None:
        # Object stores have no folders, but for some the bucket is one and may not be ours to make.
        folder = self._full(path).rsplit("/", 1)[0]
        if not self._fs.isdir(folder):
            with contextlib.suppress(NotImplementedError, PermissionError):
                self._fs.makedirs(folder, exist_ok=True)

    def _write_new_local(self, path: str, data: bytes) -> bool:
        full = self._full(path)
        try:
            with self._temporary(path) as (file, temporary):
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                try:
                    os.link(temporary, full)
                except OSError as error:
                    if error.errno not in _NO_HARD_LINKS:
                        raise
                    with open(full, "xb") as plain:
                        plain.write(data)
                _sync_folder(os.path.dirname(full))
        except FileExistsError:
            return False
        except OSError as error:
            raise self.explain("write", path, error) from error
        return True

    def explain(self, action: str, path: str, error: Exception) -> OSError:
        name = self.name(path)
        if isinstance(error, FileNotFoundError):
            return FileNotFoundError(errno.ENOENT, "no such file", name)
        if isinstance(error, OSError) and error.errno in _FULL:
            return StoreFull(
                f"{name}: no space left to write it ({error.strerror}); nothing of it was kept. "
                "Free some space and run the same command again: it continues where it stopped"
            )
        return StoreError(f"{name}: cannot {action} it: {error}")


def _file_system(url: str) -> tuple[fsspec.AbstractFileSystem, str]:
    protocol = url.split("://")[0]
    try:
        return url_to_fs(url)
    except ImportError as error:
        package = str(known_implementations[protocol]["class"]).split(".")[0]
        raise StoreError(f"{url}: {protocol}:// needs the package {package}, which is not installed; "
                         f"pip install {package}") from error
    except ValueError as error:
        raise StoreError(f"{url}: {protocol}:// is not an address known to fsspec; "
                         f"known: {', '.join(fsspec.available_protocols())}") from error


def _is_temporary(name: str) -> bool:
    return name.startswith(".") and name.endswith(_TEMPORARY)


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
