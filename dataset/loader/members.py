"""The bytes of one clip: its members in one read of the shard, checked, and what they mean.

What is wrong with a clip becomes a `Fault`, which names shard, clip and member.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import numpy as np

from dataset.clip import CameraTrack
from dataset.loader.select import Place
from dataset.store import Store

Parsed = TypeVar("Parsed")
_MEND = "Copy it anew or repair the data set; data.on_error=skip leaves such clips out"
_ANOTHER_READ = 1 << 16  # members farther apart than this are read one by one
NPY_HEADER = 128
"""Bytes before the numbers of a .npy file, as numpy writes it for a few dimensions."""


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

    def read(
        self, shard: str, clip_id: str, places: Mapping[str, Place],
        tails: Mapping[str, memoryview] | None = None,
    ) -> dict[str, memoryview]:
        """The members at `places`, by name. tails: where the last bytes of a member are put straight away; of
        such a member only what precedes them is returned. Raises Fault."""
        ordered = sorted(places.items(), key=lambda item: item[1].offset)
        groups = [[member] for member in ordered]
        gaps = ordered[-1][1].end - ordered[0][1].offset - sum(place.size for _, place in ordered)
        if gaps <= len(ordered) * _ANOTHER_READ:
            groups = [ordered]
        self._reserve(sum(group[-1][1].end - group[0][1].offset for group in groups))
        parts, start = {}, 0
        for group in groups:
            spans = self._spans(group, tails or {}, start)
            start += sum(len(buffer) for buffer in spans.buffers)
            came = self._fill(shard, clip_id, group[0][1].offset, spans.buffers)
            for name, place in group:
                parts[name] = spans.heads[name]
                self._check(shard, clip_id, name, place, spans, came - (place.offset - group[0][1].offset))
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

    # parts

    def _reserve(self, size: int) -> None:
        if len(self._buffer) < size:
            self._buffer = bytearray(size)

    def _spans(self, group: list[tuple[str, Place]], tails: Mapping[str, memoryview], start: int) -> _Spans:
        """Buffers in the order of the file: our own, but for the tails that belong elsewhere."""
        own, spans, at = memoryview(self._buffer), _Spans(), group[0][1].offset
        for name, place in group:
            tail = tails.get(name, memoryview(b""))
            head_end = place.end - len(tail)
            spans.buffers += [own[start : start + head_end - at], tail]
            spans.heads[name] = own[start + place.offset - at : start + head_end - at]
            spans.tails[name] = tail
            start, at = start + head_end - at, place.end
        return spans

    def _fill(self, shard: str, clip_id: str, begin: int, buffers: list[memoryview]) -> int:
        """Fill buffers from a place of a shard on; the number of bytes that came."""
        path, buffers = self._store.local_path(shard), [buffer for buffer in buffers if len(buffer)]
        try:
            if path is not None:
                return _fill_locally(path, begin, buffers)
            data = memoryview(self._store.read(shard, begin, begin + sum(len(buffer) for buffer in buffers)))
            at = 0
            for buffer in buffers:
                piece = data[at : at + len(buffer)]
                buffer[: len(piece)] = piece
                at += len(piece)
            return len(data)
        except FileNotFoundError:
            raise Fault(Trouble.MISSING, f"{self._store.name(shard)}: clip {clip_id}: there is no such "
                        f"shard. {_MEND}") from None
        except OSError as error:
            raise Fault(Trouble.UNREADABLE,
                        f"{self._store.name(shard)}: clip {clip_id}: cannot be read: {error}") from error

    def _check(
        self, shard: str, clip_id: str, name: str, place: Place, spans: _Spans, came: int,
    ) -> None:
        """came: bytes that came from the member's first on."""
        where = f"{self._store.name(shard)}: {clip_id}.{name}"
        if came < place.size:
            raise Fault(Trouble.TRUNCATED, f"{where}: {max(came, 0)} of {place.size} bytes there; "
                        f"the shard is truncated. {_MEND}")
        if not self._verify:
            return
        digest = hashlib.sha256(spans.heads[name])
        digest.update(spans.tails[name])
        if digest.hexdigest() != place.sha256:
            raise Fault(Trouble.CHECKSUM, f"{where}: its bytes do not match their checksum; "
                        f"the shard is damaged. {_MEND}")


@dataclass
class _Spans:
    """Where one read goes: buffers in order, and of each member its first bytes and its last."""

    buffers: list[memoryview] = field(default_factory=list)
    heads: dict[str, memoryview] = field(default_factory=dict)
    tails: dict[str, memoryview] = field(default_factory=dict)


def _fill_locally(path: Path, begin: int, buffers: list[memoryview]) -> int:
    """As `ClipReader._fill`, without a copy on the way."""
    came, left = 0, list(buffers)
    with open(path, "rb", buffering=0) as file:
        while left:
            count = os.preadv(file.fileno(), left, begin + came)
            if not count:
                break
            came += count
            while left and count >= len(left[0]):
                count -= len(left.pop(0))
            if left:
                left[0] = left[0][count:]
    return came


def read_npy_header(view: memoryview) -> tuple[tuple[int, ...], np.dtype, int]:
    """Shape, type, and where the numbers begin, of the bytes of a .npy file. Raises ValueError."""
    head = io.BytesIO(view[:4096])
    version = np.lib.format.read_magic(head)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"npy version {version}, expected 1.0 or 2.0")
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = header(head)
    if dtype.hasobject or fortran:
        raise ValueError(f"an array of {dtype}, expected numbers in C order")
    return shape, dtype, head.tell()


def view_npy(view: memoryview) -> np.ndarray:
    """The array in the bytes of a .npy file, not copied. Raises ValueError where they are none."""
    shape, dtype, begin = read_npy_header(view)
    count = int(np.prod(shape))
    if len(view) - begin != count * dtype.itemsize:
        raise ValueError(f"{len(view) - begin} bytes of numbers, expected {count * dtype.itemsize}")
    return np.frombuffer(view, dtype, count, begin).reshape(shape)


def read_camera(data: memoryview, metric: bool) -> CameraTrack:
    """The cameras of a clip. Raises ValueError for a track that failed, and one not in metres if `metric`."""
    track = CameraTrack.from_npz(bytes(data), poses_only=True)
    if track.failure is not None:
        raise ValueError(f"no cameras: {track.failure}")
    if metric and track.unit != "m":
        raise ValueError(f"translations in {track.unit!r}, expected metres; data.scale=any lets them in")
    return track
