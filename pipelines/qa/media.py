"""The bytes of clips, straight out of their shards: byte ranges of members, pictures, depth in colours."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator
from threading import Lock
from typing import Any

import cv2
import numpy as np

from dataset.clip import CameraTrack, ClipRecord, DepthMaps, Member
from dataset.reader import SampleError, read_files
from dataset.report.gather import key_pictures
from dataset.store import Store

_PIECE = 1 << 20
_PICTURES_KEPT = 3000
_QUALITY = 80
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class Unplayable(Exception):
    """A file of a clip is missing or damaged; the message names it and says what to do."""


class RangeError(ValueError):
    """A byte range that the member does not have."""


def member_of(record: ClipRecord, name: str) -> Member:
    """The member "mp4", "camera.npz", ... of a clip. Raises Unplayable."""
    for member in record.members:
        if member.name == f"{record.clip_id}.{name}":
            return member
    raise Unplayable(f"clip {record.clip_id} has no {name}")


def byte_range(header: str | None, size: int) -> tuple[int, int] | None:
    """The bytes [start, end) that a Range header asks for; None for all of them. Raises RangeError.

    A header that asks for several ranges or in another unit may be answered with everything.
    """
    found = _RANGE.fullmatch(header.strip()) if header else None
    if found is None or found.group(1) == found.group(2) == "":
        return None
    first, last = found.groups()
    if first == "":
        start, end = max(size - int(last), 0), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
    if start >= size or start >= end:
        raise RangeError(f"bytes {header} of {size}")
    return start, end


def stream(store: Store, shard: str, member: Member, start: int, end: int) -> Iterator[bytes]:
    """Bytes [start, end) of a member, in pieces. Raises Unplayable at once where the first is not there."""
    first = _piece(store, shard, member, start, min(start + _PIECE, end))

    def rest() -> Iterator[bytes]:
        yield first
        at = start + len(first)
        while at < end:
            piece = _piece(store, shard, member, at, min(at + _PIECE, end))
            yield piece
            at += len(piece)

    return rest()


def _piece(store: Store, shard: str, member: Member, start: int, end: int) -> bytes:
    try:
        data = store.read(shard, member.offset + start, member.offset + end)
    except FileNotFoundError:
        raise Unplayable(f"{store.name(shard)}: there is no such shard. Copy it anew, or run "
                         "python -m pipelines.validate with repair=true") from None
    except (OSError, ValueError) as error:
        raise Unplayable(f"{store.name(shard)}: cannot be read: {error}") from error
    if len(data) < end - start:
        raise Unplayable(f"{store.name(shard)}: {member.name}: the shard is truncated. Copy it anew, or run "
                         "python -m pipelines.validate with repair=true")
    return data


def files_of(store: Store, record: ClipRecord, *names: str) -> dict[str, bytes]:
    """Members of a clip by name, checked against their checksums. Raises Unplayable."""
    if record.shard is None:
        raise Unplayable(f"clip {record.clip_id} was not written to a shard")
    try:
        return read_files(store, record, names, verify=True)
    except (SampleError, ValueError) as error:
        raise Unplayable(str(error)) from error


def health(store: Store, record: ClipRecord) -> list[dict[str, Any]]:
    """Every member of a clip with its size and what is wrong with it, after its checksum."""
    report = []
    for member in record.members:
        name, fault = member.name.removeprefix(f"{record.clip_id}."), None
        try:
            files_of(store, record, name)
        except Unplayable as error:
            fault = str(error)
        report.append({"member": name, "size": member.size, "offset": member.offset, "fault": fault})
    return report


class Pictures:
    """Small JPEGs of clips, the latest few thousand remembered. Safe to use from several threads."""

    def __init__(self, store: Store) -> None:
        self._store, self._lock = store, Lock()
        self._known: OrderedDict[tuple[str, int], bytes] = OrderedDict()

    def strip(self, record: ClipRecord, count: int) -> bytes:
        """`count` key frames of a clip side by side. Raises Unplayable."""
        key = (member_of(record, "mp4").sha256, count)
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        try:
            shots = key_pictures(files_of(self._store, record, "mp4")["mp4"], count)
        except ValueError as error:
            raise Unplayable(f"clip {record.clip_id}: {error}") from error
        if not shots:
            raise Unplayable(f"clip {record.clip_id}: its video has no key frame")
        shots = [shots[min(i, len(shots) - 1)] for i in range(count)]  # short clips have fewer
        wide = cv2.cvtColor(np.concatenate(shots, axis=1), cv2.COLOR_RGB2BGR)
        jpeg = cv2.imencode(".jpg", wide, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
        with self._lock:
            self._known[key] = jpeg
            while len(self._known) > _PICTURES_KEPT:
                self._known.popitem(last=False)
        return jpeg


def track_of(store: Store, record: ClipRecord, name: str = "camera.npz") -> CameraTrack:
    """Cameras of a clip. Raises Unplayable."""
    member_of(record, name)
    return _parsed(CameraTrack.from_npz, files_of(store, record, name)[name], record, name)


def depth_of(store: Store, record: ClipRecord) -> DepthMaps:
    """Depth of a clip. Raises Unplayable."""
    member_of(record, "depth.npz")
    return _parsed(DepthMaps.from_npz, files_of(store, record, "depth.npz")["depth.npz"], record, "depth.npz")


def _parsed(parse: Any, data: bytes, record: ClipRecord, name: str) -> Any:
    try:
        return parse(data)
    except Exception as error:  # whatever numpy and json make of damaged bytes
        raise Unplayable(f"clip {record.clip_id}: {name} cannot be read: {error}") from error


def depth_range(maps: DepthMaps) -> tuple[float, float] | None:
    """Nearest and farthest depth that colours show, the same for all frames; None without any valid one."""
    known = maps.depth[maps.valid].astype(np.float64)
    known = known[known > 0]
    if not len(known):
        return None
    near, far = np.percentile(known, [2, 98])
    return float(near), float(max(far, near * (1 + 1e-6)))


def depth_png(maps: DepthMaps, place: int) -> bytes:
    """One depth map as a PNG: inverse depth in colours, near warm, far cool; clear where it is not known."""
    depth, valid = maps.depth[place].astype(np.float64), maps.valid[place] & (maps.depth[place] > 0)
    reach = depth_range(maps)
    level = np.zeros(depth.shape, np.uint8)
    if reach is not None:
        near, far = 1 / reach[0], 1 / reach[1]
        inverse = 1 / np.where(valid, depth, reach[1])
        level = (np.clip((inverse - far) / (near - far), 0, 1) * 255).astype(np.uint8)
    bgr = cv2.applyColorMap(level, cv2.COLORMAP_TURBO)
    bgra = np.dstack([bgr, np.where(valid, 255, 0).astype(np.uint8)])
    return cv2.imencode(".png", bgra)[1].tobytes()
