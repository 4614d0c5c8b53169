"""The cameras a scene was trained from, as 3DGS (cameras.json) and nerfstudio (transforms.json) have them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from annotate.source.cameras import BadCameras, read_bytes
from annotate.splats.config import World
from annotate.splats.scene import SceneError
from dataset.camera import check_c2w

CAMERA_FILES = ("cameras.json", "transforms.json")
_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True)
class TrainingCameras:
    """c2w (n, 4, 4), OpenCV, in the world and unit of the splats, in the order they were taken; horizontal
    fields of view (n,) in degrees."""

    c2w: np.ndarray
    fov_x_deg: np.ndarray

    @property
    def centres(self) -> np.ndarray:
        """(n, 3)."""
        return self.c2w[:, :3, 3]


def read_training_cameras(uri: str, data: bytes, world: World) -> TrainingCameras:
    """The cameras in a file of either kind. Raises SceneError.

    transforms.json: poses turn from OpenGL to OpenCV axes; with `world=colmap`, `applied_transform` is taken
    back, so that they stand in the world before it.
    """
    try:
        notes = json.loads(data)
    except ValueError as error:
        raise SceneError("bad_cameras", f"{uri}: not JSON: {error}") from None
    try:
        read = _transforms if PurePosixPath(uri).name == "transforms.json" else _cameras
        c2w, fov = read(notes, world)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise SceneError("bad_cameras", f"{uri}: expected those of 3DGS (position, rotation, fx, width) "
                         f"or nerfstudio (frames, fl_x, w): {type(error).__name__}: {error}") from None
    if not ((fov > 0) & (fov < 179)).all():
        raise SceneError("bad_cameras", f"{uri}: a focal length or width is not a number above 0")
    try:
        return TrainingCameras(check_c2w(c2w, uri), fov)
    except ValueError as error:
        raise SceneError("bad_cameras", str(error)) from None


def read_file(uri: str) -> bytes:
    """The bytes of a file of a scene. Raises SceneError."""
    try:
        return read_bytes(uri)
    except BadCameras as error:
        raise SceneError("unreadable", str(error)) from None


def _cameras(notes: Any, world: World) -> tuple[np.ndarray, np.ndarray]:
    ordered = sorted(notes, key=lambda camera: str(camera["img_name"]))
    c2w = np.tile(np.eye(4), (len(ordered), 1, 1))
    c2w[:, :3, :3] = [camera["rotation"] for camera in ordered]
    c2w[:, :3, 3] = [camera["position"] for camera in ordered]
    widths = np.array([float(camera["width"]) for camera in ordered])
    return c2w, _fov_deg(np.array([float(camera["fx"]) for camera in ordered]), widths)


def _transforms(notes: Any, world: World) -> tuple[np.ndarray, np.ndarray]:
    frames = sorted(notes["frames"], key=lambda frame: str(frame["file_path"]))
    opengl = np.array([frame["transform_matrix"] for frame in frames], np.float64)
    if world is World.colmap:
        applied = np.eye(4)
        applied[:3] = np.array(notes.get("applied_transform", np.eye(4)[:3]), np.float64)[:3]
        opengl = np.linalg.inv(applied) @ opengl
    focal = np.array([float(frame.get("fl_x", notes.get("fl_x"))) for frame in frames])
    width = np.array([float(frame.get("w", notes.get("w"))) for frame in frames])
    return opengl @ _OPENGL, _fov_deg(focal, width)


def _fov_deg(focal: np.ndarray, width: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.degrees(2 * np.arctan(width / (2 * focal)))
