"""Cameras and depth that come with a video, read into the house conventions.

Whatever the file says, what leaves here is camera-to-world, OpenCV axes, pixel centres at +0.5, and belongs
to the picture as displayed.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import cv2
import numpy as np

from annotate.decode import VideoInfo
from annotate.source.filesystem import filesystem
from annotate.source.item import Axes, CameraGrid, Conventions, Direction, PixelCentres, SourceItem
from dataset.camera import (
    check_c2w,
    interpolate,
    invert,
    resize_intrinsics,
    rotate_in_plane,
    rotate_intrinsics,
)

UNREADABLE = (ValueError, KeyError, TypeError, EOFError, OSError, zipfile.BadZipFile, zlib.error)
"""What a damaged file of numbers makes its readers raise."""
_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


class BadCameras(Exception):
    """Given cameras or depth that cannot be used; the sentence says why."""


@dataclass(frozen=True)
class GivenPoses:
    """c2w (n, 4, 4): one a frame of the video, or at `times` (n,), seconds from its first frame."""

    c2w: np.ndarray
    times: np.ndarray | None

    def at(self, frames: np.ndarray, times_s: np.ndarray) -> np.ndarray:
        """Poses (F, 4, 4) of the source frames with these numbers and presentation times.

        Time-stamped poses are interpolated at each frame's own time. Raises ValueError where there are none.
        """
        if self.times is None:
            return self.c2w[frames]
        period = float(np.median(np.diff(self.times))) if len(self.times) > 1 else 0.0
        return interpolate(self.times, self.c2w, times_s, max_extrapolation_s=period)


@dataclass(frozen=True)
class GivenDepth:
    """Depth maps by source frame: `load(frame)` gives (h, w) float32, 0 where invalid, or None."""

    maps: dict[int, str] | dict[int, np.ndarray]
    unit: float
    quarter_turns: int

    def load(self, frame: int) -> np.ndarray | None:
        found = self.maps.get(frame)
        if found is None:
            return None
        if isinstance(found, str):
            image = cv2.imdecode(np.frombuffer(read_bytes(found), np.uint8), cv2.IMREAD_UNCHANGED)
            if image is None or image.ndim != 2:
                raise BadCameras(f"{found}: not a single-channel image")
            found = image
        depth = np.rot90(np.asarray(found, np.float32) * self.unit, -self.quarter_turns)
        return np.where(np.isfinite(depth) & (depth > 0), depth, 0.0)


def read_bytes(uri: str) -> bytes:
    """The bytes of a local or remote file. Raises BadCameras when it cannot be read."""
    try:
        fs, path = filesystem(uri)
        return fs.cat_file(path)
    except Exception as error:  # each file system raises its own kinds
        raise BadCameras(f"{uri}: cannot be read: {type(error).__name__}: {error}") from error


def load_intrinsics(item: SourceItem, info: VideoInfo) -> np.ndarray | None:
    """(1 or frames, 4) pixels of the displayed picture, or None when none are given.

    Raises BadCameras for a file of another shape, or a size of another aspect than the video's.
    """
    if item.intrinsics is None:
        return None
    given, size = item.given, item.intrinsics_size
    if isinstance(item.intrinsics, str):
        values, stated = _read_intrinsics(item.intrinsics)
        size = size or stated
    else:
        values = np.array([item.intrinsics], np.float64)
    stored = given.camera_grid is CameraGrid.stored
    turns = info.quarter_turns if stored else 0
    upright = info.size[::-1] if turns % 2 else info.size  # as displayed but for the rotation
    own = info.stored_size if stored else info.size  # pixels as coded need not be square
    from_size = (size[0], size[1]) if size else own
    if abs(from_size[0] * own[1] / (from_size[1] * own[0]) - 1) > 0.02:
        raise BadCameras(f"{item.uri}: intrinsics belong to {from_size[1]}x{from_size[0]}, the video is "
                         f"{own[1]}x{own[0]}: another aspect, so it was cropped and nobody says where")
    if given.pixel_centres is PixelCentres.integer:
        values = values + np.array([0.0, 0.0, 0.5, 0.5])
    return rotate_intrinsics(resize_intrinsics(values, from_size, upright), upright, turns)


def load_poses(item: SourceItem, info: VideoInfo) -> GivenPoses | None:
    """The poses that come with a video, or None. Raises BadCameras for a file that does not hold poses."""
    if item.poses is None:
        return None
    matrices, times = _read_poses(item.poses)
    matrices = _orient(matrices, item.given)
    try:
        c2w = check_c2w(matrices, item.poses)
    except ValueError as error:
        raise BadCameras(str(error)) from None
    if times is not None and (
        len(times) != len(c2w) or not np.isfinite(times).all() or (np.diff(times) <= 0).any()
    ):
        raise BadCameras(f"{item.poses}: {len(c2w)} poses, {len(times)} times; times must be one a pose, "
                         "finite, and increase")
    if item.given.camera_grid is CameraGrid.stored:
        c2w = rotate_in_plane(c2w, info.quarter_turns)
    return GivenPoses(c2w, times)


def load_depth(item: SourceItem, info: VideoInfo) -> GivenDepth | None:
    """The depth of a video, or None: PNGs named by frame number, or `depth` (and `frames`) in .npz."""
    if item.depth is None:
        return None
    turns = info.quarter_turns if item.given.camera_grid is CameraGrid.stored else 0
    if item.depth.endswith(".npz"):
        data = read_bytes(item.depth)
        try:
            with np.load(io.BytesIO(data)) as arrays:
                names = list(arrays)
                depth = arrays["depth"] if "depth" in arrays else np.zeros(0)
                frames = arrays["frames"] if "frames" in arrays else np.arange(len(depth))
        except UNREADABLE as error:
            raise BadCameras(f"{item.depth}: not depth: {type(error).__name__}: {error}") from None
        if depth.ndim != 3:
            raise BadCameras(f"{item.depth}: expected an array depth (K, h, w), found {names}")
        return GivenDepth({int(f): d for f, d in zip(frames, depth)}, item.given.depth_unit, turns)
    fs, folder = filesystem(item.depth)
    remote = "://" in item.depth
    files: dict[int, str] = {}
    for path in sorted(str(p) for p in fs.find(folder)):
        number = re.search(r"(\d+)\D*$", PurePosixPath(path).stem)
        if path.lower().endswith(".png") and number:
            files[int(number[1])] = fs.unstrip_protocol(path) if remote else path
    if not files:
        raise BadCameras(f"{item.depth}: no depth there; expected PNG files named by frame number")
    return GivenDepth(files, item.given.depth_unit, turns)


def _orient(matrices: np.ndarray, given: Conventions) -> np.ndarray:
    if given.direction is Direction.w2c:
        matrices = invert(matrices)
    return matrices @ _OPENGL if given.axes is Axes.opengl else matrices


def _read_intrinsics(uri: str) -> tuple[np.ndarray, list[int] | None]:
    """(n, 4) and the stated (height, width), from .npy, .npz or .json of (4,), (n, 4), (3, 3), (n, 3, 3)."""
    data, size = read_bytes(uri), None
    try:
        if uri.endswith(".json"):
            values = json.loads(data)
            if isinstance(values, dict):
                if "width" in values and "height" in values:
                    size = [int(values["height"]), int(values["width"])]
                values = values.get("intrinsics") or [values[k] for k in ("fx", "fy", "cx", "cy")]
            array = np.asarray(values, np.float64)
        else:
            array = np.asarray(_array(data, uri, ("intrinsics", "K", "data")), np.float64)
    except UNREADABLE as error:
        raise BadCameras(f"{uri}: not intrinsics: {type(error).__name__}: {error}") from None
    if array.shape[-2:] == (3, 3):
        array = np.stack([array[..., 0, 0], array[..., 1, 1], array[..., 0, 2], array[..., 1, 2]], -1)
    array = np.atleast_2d(array)
    if array.ndim != 2 or array.shape[1] != 4 or not np.isfinite(array).all() or (array[:, :2] <= 0).any():
        raise BadCameras(f"{uri}: intrinsics of shape {array.shape}; expected finite fx fy cx cy with "
                         "fx, fy > 0, or 3x3 matrices, one or one a frame")
    return array, size


def _read_poses(uri: str) -> tuple[np.ndarray, np.ndarray | None]:
    """(n, 4, 4) as stored, and times where the file has them."""
    data, times = read_bytes(uri), None
    try:
        if uri.endswith(".json"):
            values = json.loads(data)
            if isinstance(values, dict):
                times = values.get("timestamps")
                values = values["c2w"] if "c2w" in values else values["poses"]
            array = np.asarray(values, np.float64)
        elif uri.endswith((".npy", ".npz")):
            array = np.asarray(_array(data, uri, ("c2w", "poses", "extrinsic", "data")), np.float64)
            times = _array(data, uri, ("timestamps",), optional=True)
        else:
            table = np.loadtxt(io.StringIO(data.decode()), comments="#", ndmin=2)
            if table.shape[1] == 8:
                return _tum(table), table[:, 0]
            array = table
    except UNREADABLE as error:
        raise BadCameras(f"{uri}: not poses: {type(error).__name__}: {error}") from None
    if array.ndim == 2 and array.shape[1] in (12, 16):
        array = array.reshape(len(array), -1, 4)
    if array.ndim == 3 and array.shape[1:] == (3, 4):
        array = np.concatenate([array, np.tile([[[0.0, 0, 0, 1]]], (len(array), 1, 1))], 1)
    if array.ndim != 3 or array.shape[1:] != (4, 4) or not len(array):
        raise BadCameras(f"{uri}: poses of shape {array.shape}; expected (frames, 4, 4), (frames, 3, 4), or "
                         "rows of time tx ty tz qx qy qz qw")
    return array, None if times is None else np.asarray(times, np.float64)


def _array(data: bytes, uri: str, names: tuple[str, ...], optional: bool = False) -> Any:
    stored = np.load(io.BytesIO(data), allow_pickle=False)
    if isinstance(stored, np.ndarray):
        return None if optional else stored
    for name in names:
        if name in stored:
            return stored[name]
    if optional:
        return None
    raise KeyError(f"none of {', '.join(names)} among {', '.join(stored)}")


def _tum(table: np.ndarray) -> np.ndarray:
    from scipy.spatial.transform import Rotation

    c2w = np.tile(np.eye(4), (len(table), 1, 1))
    c2w[:, :3, :3] = Rotation.from_quat(table[:, 4:]).as_matrix()
    c2w[:, :3, 3] = table[:, 1:4]
    return c2w
