"""A clip as a recording that Rerun's viewer opens: MCAP with ROS 2 messages, no SDK needed.

Video as it is coded, a pose and a pinhole camera a frame, the caption, and the depth as points in the world.
"""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from dataset.camera import unproject
from dataset.clip import CameraTrack, ClipRecord, DepthMaps
from dataset.export import ros
from dataset.export.frames import annexb_packets
from dataset.export.mcap import McapWriter
from dataset.export.ros import Stamp

WORLD, CAMERA = "world", "camera"
_POINTS_PER_FRAME = 4000


def write_recording(
    file: BinaryIO, record: ClipRecord, track: CameraTrack, depth: DepthMaps | None = None,
    mp4: bytes | None = None,
) -> None:
    """Raises SampleError for video that is not H.264 without B-frames."""
    writer = McapWriter(file, profile="ros2")
    times = np.round(track.timestamps * 1e9).astype(np.int64).tolist()
    poses = writer.add_channel("/tf", *ros.TRANSFORMS)
    lens = writer.add_channel("/camera/camera_info", *ros.CAMERA_INFO)
    video = writer.add_channel("/camera/image", *ros.VIDEO)
    notes = writer.add_channel("/caption", *ros.TEXT)
    cloud = writer.add_channel("/points", *ros.POINTS)
    writer.write(notes, times[0], ros.text(record.caption or "no caption"))
    for frame in np.flatnonzero(track.posed).tolist():
        writer.write(poses, times[frame], ros.transform(Stamp(times[frame], WORLD), CAMERA, track.c2w[frame]))
        stamp = Stamp(times[frame], CAMERA)
        writer.write(lens, times[frame], ros.camera_info(stamp, track.intrinsics[frame], track.size))
    if mp4 is not None:
        for frame, packet in enumerate(annexb_packets(mp4, f"clip {record.clip_id}")):
            stamp = Stamp(times[min(frame, len(times) - 1)], CAMERA)
            writer.write(video, stamp.time_ns, ros.video(stamp, packet))
    if depth is not None:
        for k, frame in enumerate(depth.frames.tolist()):
            if track.posed[frame] and depth.valid[k].any():
                made = _cloud(track, depth, k, frame)
                writer.write(cloud, times[frame], ros.points(Stamp(times[frame], WORLD), *made))
    writer.close()


def _cloud(track: CameraTrack, depth: DepthMaps, k: int, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 3) of the world and colours (n, 3), red near and blue far."""
    rows, columns = np.nonzero(depth.valid[k])
    step = max(1, -(-len(rows) // _POINTS_PER_FRAME))
    rows, columns = rows[::step], columns[::step]
    z = depth.depth[k][rows, columns].astype(np.float64)
    camera = unproject(np.stack([columns, rows], 1) + 0.5, z, depth.intrinsics[k])
    share = np.argsort(np.argsort(z)) / max(len(z) - 1, 1)
    colours = np.stack([1 - share, 0.4 + 0 * share, share], 1) * 255
    return camera @ track.c2w[frame, :3, :3].T + track.c2w[frame, :3, 3], colours.astype(np.uint8)
