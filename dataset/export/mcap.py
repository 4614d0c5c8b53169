"""The MCAP container (mcap.dev): chunked, indexed, uncompressed. Rerun, Foxglove and ROS tools open it.

Only what a writer of recordings needs; record layouts follow the published specification.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import BinaryIO

MAGIC = b"\x89MCAP0\r\n"
_HEADER, _FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK = 1, 2, 3, 4, 5, 6
_MESSAGE_INDEX, _CHUNK_INDEX, _STATISTICS, _SUMMARY_OFFSET, _DATA_END = 7, 8, 11, 14, 15
_CHUNK_BYTES = 4 << 20


@dataclass
class _OpenChunk:
    """Messages waiting to be written together."""

    records: bytearray = field(default_factory=bytearray)
    index: dict[int, list[tuple[int, int]]] = field(default_factory=dict)  # channel -> (time, offset)


class McapWriter:
    """Writes messages to a file; `close` completes it. Times are nanoseconds and need not be in order."""

    def __init__(self, file: BinaryIO, profile: str = "", library: str = "sana-wm-open") -> None:
        self._file = file
        self._at = 0
        self._schemas: dict[str, bytes] = {}  # name -> record
        self._channels: dict[str, bytes] = {}  # topic -> record
        self._counts: dict[int, int] = {}
        self._chunk = _OpenChunk()
        self._chunk_indexes: list[bytes] = []
        self._times: list[int] = []
        self._write(MAGIC)
        self._write(_record(_HEADER, _string(profile) + _string(library)))

    def add_channel(self, topic: str, schema: str, definition: str) -> int:
        """A topic of ROS 2 messages; returns its number."""
        if schema not in self._schemas:
            number = len(self._schemas) + 1
            body = struct.pack("<H", number) + _string(schema) + _string("ros2msg") + _string(definition)
            self._schemas[schema] = _record(_SCHEMA, body)
        channel = len(self._channels)
        schema_number = list(self._schemas).index(schema) + 1
        body = struct.pack("<HH", channel, schema_number) + _string(topic) + _string("cdr") + _map(())
        self._channels[topic] = _record(_CHANNEL, body)
        self._counts[channel] = 0
        self._chunk.records += self._schemas[schema] + self._channels[topic]
        return channel

    def write(self, channel: int, time_ns: int, data: bytes) -> None:
        """Append one message."""
        chunk = self._chunk
        chunk.index.setdefault(channel, []).append((time_ns, len(chunk.records)))
        head = struct.pack("<HIQQ", channel, self._counts[channel], time_ns, time_ns)
        chunk.records += _record(_MESSAGE, head + data)
        self._counts[channel] += 1
        self._times.append(time_ns)
        if len(chunk.records) >= _CHUNK_BYTES:
            self._end_chunk()

    def close(self) -> None:
        """Write what is pending, the index and the end."""
        self._end_chunk()
        self._write(_record(_DATA_END, struct.pack("<I", 0)))
        start = self._at
        groups = [(_SCHEMA, self._schemas.values()), (_CHANNEL, self._channels.values()),
                  (_STATISTICS, [self._statistics()]), (_CHUNK_INDEX, self._chunk_indexes)]
        offsets = []
        for opcode, records in groups:
            begin = self._at
            self._write(b"".join(records))
            if self._at > begin:
                body = struct.pack("<BQQ", opcode, begin, self._at - begin)
                offsets.append(_record(_SUMMARY_OFFSET, body))
        offset_start = self._at
        self._write(b"".join(offsets))
        self._write(_record(_FOOTER, struct.pack("<QQI", start, offset_start, 0)))
        self._write(MAGIC)

    # parts

    def _end_chunk(self) -> None:
        chunk, self._chunk = self._chunk, _OpenChunk()
        if not chunk.index:
            return
        times = [time for entries in chunk.index.values() for time, _ in entries]
        records = bytes(chunk.records)
        body = struct.pack("<QQQI", min(times), max(times), len(records), zlib.crc32(records))
        start = self._at
        self._write(_record(_CHUNK, body + _string("") + struct.pack("<Q", len(records)) + records))
        length, places = self._at - start, {}
        for channel, entries in sorted(chunk.index.items()):
            places[channel] = self._at
            rows = b"".join(struct.pack("<QQ", time, offset) for time, offset in sorted(entries))
            self._write(_record(_MESSAGE_INDEX, struct.pack("<HI", channel, len(rows)) + rows))
        index = _map(struct.pack("<HQ", channel, place) for channel, place in places.items())
        self._chunk_indexes.append(_record(_CHUNK_INDEX, b"".join([
            struct.pack("<QQQQ", min(times), max(times), start, length), index,
            struct.pack("<Q", self._at - start - length), _string(""),
            struct.pack("<QQ", len(records), len(records))])))

    def _statistics(self) -> bytes:
        counts = _map(struct.pack("<HQ", channel, count) for channel, count in self._counts.items())
        return _record(_STATISTICS, struct.pack(
            "<QHIIIIQQ", len(self._times), len(self._schemas), len(self._channels), 0, 0,
            len(self._chunk_indexes), min(self._times, default=0), max(self._times, default=0)) + counts)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._at += len(data)


def _record(opcode: int, body: bytes) -> bytes:
    return struct.pack("<BQ", opcode, len(body)) + body


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<I", len(data)) + data


def _map(entries: Iterable[bytes]) -> bytes:
    data = b"".join(entries)
    return struct.pack("<I", len(data)) + data
