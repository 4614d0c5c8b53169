"""ROS 2 messages as bytes (CDR, little endian) and the definitions that go with them: poses, cameras, video,
points. Field by field as the common interface packages define them."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

_TIME = "int32 sec\nuint32 nanosec"
_HEADER = "builtin_interfaces/Time stamp\nstring frame_id"
_VECTOR = "float64 x\nfloat64 y\nfloat64 z"
_QUATERNION = f"{_VECTOR}\nfloat64 w"
_STAMPED = "std_msgs/Header header\nstring child_frame_id\nTransform transform"


def _definition(text: str, **parts: str) -> str:
    """A message's own fields, then those of every type it names, as ros2msg schemas have them."""
    named = ["MSG: " + name.replace("__", "/") + "\n" + fields for name, fields in parts.items()]
    return f"\n{'=' * 80}\n".join([text, *named])


_STAMPS = {"std_msgs__Header": _HEADER, "builtin_interfaces__Time": _TIME}

TRANSFORMS = "tf2_msgs/msg/TFMessage", _definition(
    "geometry_msgs/TransformStamped[] transforms", geometry_msgs__TransformStamped=_STAMPED,
    geometry_msgs__Transform="Vector3 translation\nQuaternion rotation", geometry_msgs__Vector3=_VECTOR,
    geometry_msgs__Quaternion=_QUATERNION, **_STAMPS)
CAMERA_INFO = "sensor_msgs/msg/CameraInfo", _definition(
    "std_msgs/Header header\nuint32 height\nuint32 width\nstring distortion_model\nfloat64[] d\n"
    "float64[9] k\nfloat64[9] r\nfloat64[12] p\nuint32 binning_x\nuint32 binning_y\nRegionOfInterest roi",
    sensor_msgs__RegionOfInterest=(
        "uint32 x_offset\nuint32 y_offset\nuint32 height\nuint32 width\nbool do_rectify"), **_STAMPS)
VIDEO = "sensor_msgs/msg/CompressedImage", _definition(
    "std_msgs/Header header\nstring format\nuint8[] data", **_STAMPS)
POINTS = "sensor_msgs/msg/PointCloud2", _definition(
    "std_msgs/Header header\nuint32 height\nuint32 width\nPointField[] fields\nbool is_bigendian\n"
    "uint32 point_step\nuint32 row_step\nuint8[] data\nbool is_dense",
    sensor_msgs__PointField="string name\nuint32 offset\nuint8 datatype\nuint32 count", **_STAMPS)
TEXT = "std_msgs/msg/String", "string data"

_FLOAT32 = 7


class _Cdr:
    """Bytes of one message; numbers are aligned to their own size behind the four bytes that open it."""

    def __init__(self) -> None:
        self._data = bytearray()

    def put(self, kind: str, *values: float) -> _Cdr:
        for value in values:
            size = struct.calcsize(f"<{kind}")
            self._data += b"\0" * (-len(self._data) % size)
            self._data += struct.pack(f"<{kind}", value)
        return self

    def string(self, text: str) -> _Cdr:
        data = text.encode() + b"\0"
        self.put("I", len(data))._data.extend(data)
        return self

    def octets(self, data: bytes) -> _Cdr:
        self.put("I", len(data))._data.extend(data)
        return self

    def header(self, stamp: Stamp) -> _Cdr:
        return self.put("i", stamp.time_ns // 10**9).put("I", stamp.time_ns % 10**9).string(stamp.frame)

    def done(self) -> bytes:
        return b"\0\1\0\0" + bytes(self._data)


@dataclass(frozen=True)
class Stamp:
    """When, and in which coordinate frame."""

    time_ns: int
    frame: str


def transform(stamp: Stamp, child: str, c2w: np.ndarray) -> bytes:
    """A pose (4, 4): `child` in the frame of the stamp."""
    from scipy.spatial.transform import Rotation

    quaternion = Rotation.from_matrix(c2w[:3, :3]).as_quat(canonical=True)
    message = _Cdr().put("I", 1).header(stamp).string(child)
    return message.put("d", *c2w[:3, 3].tolist(), *quaternion.tolist()).done()


def camera_info(stamp: Stamp, intrinsics: np.ndarray, size: tuple[int, int]) -> bytes:
    """A pinhole camera. ROS puts the centre of the first pixel at (0, 0): half a pixel less than ours."""
    fx, fy, cx, cy = (float(value) for value in intrinsics)
    cx, cy = cx - 0.5, cy - 0.5
    message = _Cdr().header(stamp).put("I", size[0], size[1]).string("plumb_bob").put("I", 0)
    message.put("d", fx, 0, cx, 0, fy, cy, 0, 0, 1).put("d", 1, 0, 0, 0, 1, 0, 0, 0, 1)
    message.put("d", fx, 0, cx, 0, 0, fy, cy, 0, 0, 0, 1, 0)
    return message.put("I", 0, 0, 0, 0, 0, 0).put("?", False).done()


def video(stamp: Stamp, packet: bytes) -> bytes:
    """One coded frame of an H.264 stream."""
    return _Cdr().header(stamp).string("h264").octets(packet).done()


def points(stamp: Stamp, positions: np.ndarray, colours: np.ndarray) -> bytes:
    """Points (n, 3) with colours (n, 3) uint8."""
    count = len(positions)
    table = np.zeros(count, np.dtype([("xyz", "<f4", 3), ("rgb", "<u4")]))
    table["xyz"] = positions
    shades = colours.astype(np.uint32)
    table["rgb"] = shades[:, 0] << 16 | shades[:, 1] << 8 | shades[:, 2]
    message = _Cdr().header(stamp).put("I", 1, count, 4)
    for offset, name in enumerate(("x", "y", "z", "rgb")):  # three bytes of colour in the bits of a float
        message.string(name).put("I", 4 * offset).put("B", _FLOAT32).put("I", 1)
    message.put("?", False).put("I", 16, 16 * count).octets(table.tobytes())
    return message.put("?", True).done()


def text(value: str) -> bytes:
    return _Cdr().string(value).done()
