"""The bytes of one clip: its members in one read of the shard, checked, and what they mean.

What is wrong with a clip becomes a `Fault`, which names shard, clip and member.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TypeVar

import numpy as np

from dataset.clip import CameraTrack
from dataset.loader.select import Place
from dataset.store import Store

Parsed = TypeVar("Parsed")
_MEND = "Copy it anew or repair the data set; data.on_error=skip leaves such clips out"
_ANOTHER_READ = 1 << 16  # members farther apart than this are read one by one


class Trouble(StrEnum):
    """What can be wrong with a clip."""

    MISSING = "missing shard"
    TRUNCATED = "truncated shard"
    CHECKSUM = "wrong checksum"
    UNREADABLE = "unreadable shard"  # the disk or the network says no
    CONTENT = "bad content"  # arrays or video that are not what they must be
    CAMERA = "bad camera"


class Fault(Exception):
    """A clip cannot be used; the message names shard, clip and member."""

    def __init__(self, trouble: Trouble, message: str) -> None:
        super().__init__(trouble, message)
        self.trouble, self.message = trouble, message

    def __str__(self) -> str:
        return self.message


class ClipReader:
    """Reads members of clips of one store. Views it returns are valid until the next read."""

    def __init__(self, store: Store, verify: bool) -> None:
        self._store, self._verify = store, verify
        self._buffer = bytearray()

    def read(self, shard: str, clip_id: str, places: Mapping[str, Place]) -> dict[str, memoryview]:
        """The members at `places`, by name. Raises Fault."""
        ordered = sorted(places.items(), key=lambda item: item[1].offset)
        begin, end = ordered[0][1].offset, max(place.offset + place.size for place in places.values())
        if end - begin > sum(place.size for place in places.values()) + len(ordered) * _ANOTHER_READ:
            parts = {name: memoryview(bytes(self._range(shard, clip_id, place.offset, place.size)))
                     for name, place in ordered}
        else:
            view = self._range(shard, clip_id, begin, end - begin)
            parts = {name: view[place.offset - begin : place.offset - begin + place.size]
                     for name, place in ordered}
        for name, place in ordered:
            where = f"{self._store.name(shard)}: {clip_id}.{name}"
            if len(parts[name]) != place.size:
                raise Fault(Trouble.TRUNCATED, f"{where}: {len(parts[name])} of {place.size} bytes there; "
                            f"the shard is truncated. {_MEND}")
            if self._verify and hashlib.sha256(parts[name]).hexdigest() != place.sha256:
                raise Fault(Trouble.CHECKSUM, f"{where}: its bytes do not match their checksum; "
                            f"the shard is damaged. {_MEND}")
        return parts

    def parse(
        self, shard: str, clip_id: str, name: str, view: memoryview, read: Callable[[memoryview], Parsed],
    ) -> Parsed:
        """What `read` makes of a member. Raises Fault for whatever it cannot make sense of."""
        try:
            return read(view)
        except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
            trouble = Trouble.CAMERA if name.startswith("camera") else Trouble.CONTENT
            raise Fault(trouble, f"{self._store.name(shard)}: {clip_id}.{name}: {error}") from error

    def _range(self, shard: str, clip_id: str, begin: int, size: int) -> memoryview:
        path = self._store.local_path(shard)
        if len(self._buffer) < size:
            self._buffer = bytearray(size)
        buffer = memoryview(self._buffer)[:size]
        try:
            if path is None:
                data = self._store.read(shard, begin, begin + size)
                buffer[: len(data)] = data
                return buffer[: len(data)]
            with open(path, "rb", buffering=0) as file:
                file.seek(begin)
                return buffer[: _fill(file, buffer)]
        except FileNotFoundError:
            raise Fault(Trouble.MISSING, f"{self._store.name(shard)}: clip {clip_id}: there is no such "
                        f"shard. {_MEND}") from None
        except OSError as error:
            raise Fault(Trouble.UNREADABLE,
                        f"{self._store.name(shard)}: clip {clip_id}: cannot be read: {error}") from error


def _fill(file: io.FileIO, buffer: memoryview) -> int:
    """Fill a buffer as far as the file goes; the number of bytes that came."""
    filled = 0
    while filled < len(buffer):
        count = file.readinto(buffer[filled:])
        if not count:
            break
        filled += count
    return filled


def view_npy(view: memoryview) -> np.ndarray:
    """The array in the bytes of a .npy file, not copied. Raises ValueError where they are none."""
    head = io.BytesIO(view[:4096])
    version = np.lib.format.read_magic(head)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"npy version {version}, expected 1.0 or 2.0")
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = header(head)
    if dtype.hasobject or fortran:
        raise ValueError(f"an array of {dtype}, expected numbers in C order")
    count = int(np.prod(shape))
    if len(view) - head.tell() != count * dtype.itemsize:
        raise ValueError(f"{len(view) - head.tell()} bytes of numbers, expected {count * dtype.itemsize}")
    return np.frombuffer(view, dtype, count, head.tell()).reshape(shape)


def read_camera(data: memoryview, metric: bool) -> CameraTrack:
    """The cameras of a clip. Raises ValueError for a track that failed, and one not in metres if `metric`."""
    track = CameraTrack.from_npz(bytes(data))
    if track.failure is not None:
        raise ValueError(f"no cameras: {track.failure}")
    if metric and track.unit != "m":
        raise ValueError(f"translations in {track.unit!r}, expected metres; data.scale=any lets them in")
    return track
