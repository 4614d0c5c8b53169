"""DL3DV-10K: pictures with nerfstudio's transforms.json, camera-to-world, OpenGL axes, unit unknown.

    <subset>/<scene>/transforms.json    <subset>/<scene>/images_4/frame_00001.png ...

`w`, `h` and the intrinsics are of the largest pictures, whatever folder was downloaded. `applied_transform`
only takes COLMAP's world to the stored one and changes no relative pose. There are no time stamps: the rate
is `source.image_fps`, an assumption.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from annotate.decode import VideoInfo
from annotate.source.cameras import BadCameras
from annotate.source.item import Pictures, PoseUnit, SourceConfig, SourceItem
from annotate.source.layouts.folder import Folder
from annotate.source.layouts.given import Given, checked_intrinsics, checked_poses, read_json
from annotate.source.pictures import Lens, picture_size
from dataset.camera import resize_intrinsics

_MARKER = "transforms.json"
_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


def items(folder: Folder, config: SourceConfig) -> list[SourceItem]:
    """Every scene, with the largest of its folders of pictures."""
    if not config.image_fps > 0:
        raise ValueError(f"source.image_fps={config.image_fps}: pictures a second, above 0")
    given = dataclasses.replace(config.given, pose_unit=PoseUnit.unknown)
    found = []
    for scene in folder.below_marker(_MARKER):
        sizes = {int(match[1] or 1): name for name, is_folder in folder.names(scene)
                 if is_folder and (match := re.fullmatch(r"images(?:_(\d+))?", name))}
        notes = folder.address(f"{scene}/{_MARKER}".lstrip("/"))
        fault = None if sizes else f"{folder.address(scene)}: no folder images or images_2, _4, _8"
        pictures = f"{scene}/{sizes[min(sizes)]}" if sizes else scene
        found.append(SourceItem(
            folder.address(pictures.lstrip("/")), scene or PurePosixPath(folder.root).name, intrinsics=notes,
            poses=notes, given=given, pictures=Pictures(config.image_fps), fault=fault))
    return found


def picture_files(item: SourceItem) -> list[str]:
    """In order of their names."""
    return [f"{item.uri}/{name}" for name, _ in _frames(item)]


def lens(item: SourceItem, size: tuple[int, int]) -> Lens:
    """The one lens of a scene, in pixels of its pictures at hand."""
    assert item.poses is not None
    notes = read_json(item.poses)
    try:
        stated = np.array([[float(notes[key]) for key in ("fl_x", "fl_y", "cx", "cy")]])
        whole = int(notes["h"]), int(notes["w"])
        bent = np.array([float(notes.get(key, 0.0)) for key in ("k1", "k2", "p1", "p2")])
        model = str(notes.get("camera_model", "OPENCV"))
    except (KeyError, TypeError, ValueError) as error:
        raise BadCameras(f"{item.poses}: expected w, h, fl_x, fl_y, cx, cy: "
                         f"{type(error).__name__}: {error}") from None
    if model not in ("OPENCV", "PINHOLE"):
        raise BadCameras(f"{item.poses}: camera model {model}, allowed OPENCV, PINHOLE")
    if abs(whole[0] * size[1] / (whole[1] * size[0]) - 1) > 0.02:
        raise BadCameras(f"{item.poses}: cameras of {whole[1]}x{whole[0]}, pictures of {size[1]}x{size[0]}: "
                         "another aspect")
    return Lens(checked_intrinsics(resize_intrinsics(stated, whole, size), item.poses)[0], bent, size)


def cameras(item: SourceItem, info: VideoInfo) -> Given:
    """One camera a picture; intrinsics of the undistorted pictures."""
    assert item.poses is not None
    frames = _frames(item)
    size = picture_size(f"{item.uri}/{frames[0][0]}")  # the video may lack a last row and column
    opengl = np.stack([matrix for _, matrix in frames])
    return Given(lens(item, size).straight()[None], checked_poses(opengl @ _OPENGL, item.poses))


def _frames(item: SourceItem) -> list[tuple[str, np.ndarray]]:
    """(name of the picture, pose as stored) in order of the names."""
    assert item.poses is not None
    notes: Any = read_json(item.poses)
    try:
        frames = [(PurePosixPath(str(frame["file_path"])).name,
                   np.array(frame["transform_matrix"], np.float64)) for frame in notes["frames"]]
    except (KeyError, TypeError, ValueError) as error:
        raise BadCameras(f"{item.poses}: expected frames with file_path and transform_matrix: "
                         f"{type(error).__name__}: {error}") from None
    bad = [name for name, matrix in frames if matrix.shape != (4, 4)]
    if bad or not frames:
        raise BadCameras(f"{item.poses}: {len(frames)} frames, {len(bad)} without a 4x4 transform_matrix")
    return sorted(frames, key=lambda frame: frame[0])
