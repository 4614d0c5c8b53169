"""Recordings read back by a reader of their own format, and by Rerun where it is installed."""

from __future__ import annotations

import io
import struct
import subprocess
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from annotate.cut.encode import ClipWriter
from dataset.clip import ClipRecord, Kind
from dataset.export.frames import annexb_packets
from dataset.export.mcap import MAGIC, McapWriter
from dataset.export.rerun import write_recording
from dataset.reader import SampleError

CLIP = ClipRecord("c" * 20, "v", Kind.CLIP, caption="a quiet street")


def video(frames: int = 9, size: tuple[int, int] = (60, 80)) -> bytes:
    writer = ClipWriter(size, 16)
    rng = np.random.default_rng(2)
    for _ in range(frames):
        writer.add(rng.integers(0, 255, (*size, 3), np.uint8))
    return writer.finish()


def records(data: bytes, start: int = 0) -> list[tuple[int, int, bytes]]:
    """(opcode, place, content) of every record."""
    found, at = [], start
    while at < len(data):
        opcode, length = struct.unpack_from("<BQ", data, at)
        found.append((opcode, at, data[at + 9:at + 9 + length]))
        at += 9 + length
    return found


def messages(data: bytes) -> dict[str, list[tuple[int, bytes]]]:
    """(time, content) of every message by topic; checks magic, checksums and every index on the way."""
    assert data.startswith(MAGIC) and data.endswith(MAGIC)
    outer = records(data[:-len(MAGIC)], len(MAGIC))
    topics: dict[int, str] = {}
    found: dict[str, list[tuple[int, bytes]]] = {}
    places = {}
    for opcode, at, content in outer:
        if opcode != 6:
            continue
        *_, size, crc = struct.unpack_from("<QQQI", content)
        body = content[28 + 4 + 8:]
        assert (len(body), zlib.crc32(body)) == (size, crc)
        places[at] = body
        for kind, _, inner in records(body):
            if kind == 4:
                number, _, length = struct.unpack_from("<HHI", inner)
                topics[number] = inner[8:8 + length].decode()
            elif kind == 5:
                channel, _, time, _ = struct.unpack_from("<HIQQ", inner)
                found.setdefault(topics[channel], []).append((time, inner[22:]))
    indexes = [content for opcode, _, content in outer if opcode == 8]
    assert len(indexes) == len(places)
    for content in indexes:
        first, last, at, _, length = struct.unpack_from("<QQQQI", content)
        for channel, place in struct.iter_unpack("<HQ", content[36:36 + length]):
            opcode, _, index = next(record for record in outer if record[1] == place)
            assert opcode == 7 and struct.unpack_from("<H", index)[0] == channel
            for time, offset in struct.iter_unpack("<QQ", index[6:]):
                message = struct.unpack_from("<BQHIQ", places[at], offset)
                assert (message[0], message[2], message[4]) == (5, channel, time) and first <= time <= last
    (footer,) = (content for opcode, _, content in outer if opcode == 2)
    summary, offsets, _ = struct.unpack("<QQI", footer)
    assert {summary, offsets} <= {at for _, at, _ in outer}
    counts = Counter({topic: len(rows) for topic, rows in found.items()})
    (statistics,) = (content for opcode, _, content in outer if opcode == 11)
    assert struct.unpack_from("<Q", statistics)[0] == counts.total()
    return found


def numbers(message: bytes, count: int) -> np.ndarray:
    """The last float64 values of a message."""
    return np.frombuffer(message[-8 * count:])


def test_a_recording_holds_every_pose_and_camera_of_the_clip(track, depth):
    file = io.BytesIO()
    write_recording(file, CLIP, track, depth, video())
    found = messages(file.getvalue())
    posed = np.flatnonzero(track.posed)
    times = [round(frame / 16 * 1e9) for frame in posed]
    assert [time for time, _ in found["/tf"]] == times == [time for time, _ in found["/camera/camera_info"]]
    for frame, (_, message) in zip(posed, found["/tf"]):
        values = numbers(message, 7)
        np.testing.assert_array_equal(values[:3], track.c2w[frame, :3, 3])
        np.testing.assert_allclose(Rotation.from_quat(values[3:]).as_matrix(), track.c2w[frame, :3, :3],
                                   atol=1e-12)
        assert b"world\0" in message and b"camera\0" in message
    body = found["/camera/camera_info"][0][1][4:]
    first = np.frombuffer(body[:len(body) // 8 * 8])
    fx, fy, cx, cy = track.intrinsics[0]  # ROS: the centre of the first pixel is (0, 0)
    assert [fx, 0, cx - 0.5, 0, fy, cy - 0.5, 0, 0, 1] in [first[k:k + 9].tolist() for k in range(len(first))]
    assert b"a quiet street\0" in found["/caption"][0][1]
    assert [time for time, _ in found["/points"]] == [0, 500_000_000]  # frame 4 has depth and no pose


def test_video_goes_in_as_it_is_coded():
    mp4 = video()
    packets = list(annexb_packets(mp4, "clip"))
    assert len(packets) == 9
    import av

    decoder = av.CodecContext.create("h264", "r")
    pictures = [frame for packet in packets for frame in decoder.decode(av.Packet(packet))]
    pictures += decoder.decode(None)
    with av.open(io.BytesIO(mp4)) as container:
        for mine, theirs in zip(pictures, container.decode(video=0), strict=True):
            assert mine.to_ndarray().tobytes() == theirs.to_ndarray().tobytes()
    with pytest.raises(SampleError, match="not a video"):
        list(annexb_packets(b"no video", "clip"))


def test_messages_are_spread_over_chunks_of_bounded_size():
    file = io.BytesIO()
    writer = McapWriter(file)
    channel = writer.add_channel("/a", "std_msgs/msg/String", "string data")
    for number in range(12):
        writer.write(channel, number, bytes([number]) * 1_000_000)
    writer.close()
    chunks = [content for opcode, _, content in records(file.getvalue()[:-8], 8) if opcode == 6]
    assert len(chunks) == 3 and max(map(len, chunks)) < 6_000_000
    assert [message[0] for _, message in messages(file.getvalue())["/a"]] == list(range(12))


def test_rerun_takes_every_topic_for_what_it_is(track, depth, tmp_path, tool):
    rerun, path = tool("rerun", "rerun"), tmp_path / "clip.mcap"
    with path.open("wb") as file:
        write_recording(file, CLIP, track, depth, video())

    def call(*arguments: str | Path) -> str:
        return subprocess.run([rerun, *map(str, arguments)], check=True, capture_output=True, text=True,
                              env={"HOME": str(tmp_path)}, timeout=120).stdout

    assert call("mcap", "check", path).count("\nok ") == 5
    call("mcap", "convert", path, "-o", tmp_path / "clip.rrd")
    shown = call("rrd", "print", tmp_path / "clip.rrd")
    for part in ("Transform3D:quaternion", "Pinhole:image_from_camera", "VideoStream:sample",
                 "Points3D:positions", "TextDocument:text"):
        assert part in shown
