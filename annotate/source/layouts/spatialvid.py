"""SpatialVID-HQ: poses.npy rows `tx ty tz qx qy qz qw`, world-to-camera, OpenCV, about five a second.

    videos/<group>/<id>.mp4    annotations/<group>/<id>/{poses.npy, intrinsics.npy, indexes.txt, caption.json}

Translations are of a unit of each clip's own. The depth of the set (inverse, inconsistent from frame to
frame) is not read.
"""

from __future__ import annotations

import dataclasses
import json

import numpy as np

from annotate.decode import VideoInfo
from annotate.source.cameras import BadCameras, read_bytes
from annotate.source.item import Conventions, PoseUnit, SourceConfig, SourceItem
from annotate.source.layouts.folder import Folder
from annotate.source.layouts.given import (
    Given,
    checked_intrinsics,
    checked_poses,
    poses_of_quaternions,
    read_arrays,
)
from dataset.camera import invert


def items(folder: Folder, config: SourceConfig) -> list[SourceItem]:
    """Every video that is there; one without annotations is left to fail by itself, with the reason."""
    unit = dataclasses.replace(config.given, pose_unit=PoseUnit.unknown)
    return [
        _item(folder, group, name.removesuffix(".mp4"), unit)
        for group, is_folder in folder.names("videos") if is_folder
        for name, _ in folder.names(f"videos/{group}") if name.endswith(".mp4")
    ]


def _item(folder: Folder, group: str, name: str, unit: Conventions) -> SourceItem:
    notes = f"annotations/{group}/{name}"
    try:
        # Of the captions only this one says what is there; the others tell how the camera moves.
        caption = json.loads(folder.read(f"{notes}/caption.json")).get("SceneSummary") or None
    except (OSError, ValueError, AttributeError):
        caption = None
    address = folder.address(notes)
    return SourceItem(folder.address(f"videos/{group}/{name}.mp4"), f"{group}/{name}", caption=caption,
                      intrinsics=f"{address}/intrinsics.npy", poses=f"{address}/poses.npy", given=unit)


def cameras(item: SourceItem, info: VideoInfo) -> Given:
    """Poses at the times of the frames they belong to; a row is no frame, and the last frames have none."""
    assert item.poses is not None and isinstance(item.intrinsics, str)
    rows, given = _table(item.poses, 7), _table(item.intrinsics, 4)
    frames = _frame_numbers(item.poses.replace("poses.npy", "indexes.txt"))
    if not len(rows) == len(frames) == len(given):
        raise BadCameras(f"{item.poses}: {len(rows)} poses, {len(given)} intrinsics, but indexes.txt names "
                         f"{len(frames)} frames; they must be as many")
    if info.fps is None or info.variable_rate:
        raise BadCameras(f"{item.uri}: poses go by frame number, and the video has no constant rate")
    c2w = invert(poses_of_quaternions(rows[:, :3], rows[:, 3:], item.poses))
    # The writer divided by 2 cx and 2 cy and so put the centre in the middle.
    height, width = info.size
    pixels = given * np.array([width, height, width, height])
    at_frames = np.arange(info.header_frames or frames[-1] + 1)
    every = np.stack([np.interp(at_frames, frames, column) for column in pixels.T], 1)
    return Given(checked_intrinsics(every, item.intrinsics),
                 checked_poses(c2w, item.poses, frames / info.fps))


def _table(uri: str, columns: int) -> np.ndarray:
    (values,) = read_arrays(uri, ("rows",))
    if values.ndim != 2 or values.shape[1] != columns:
        raise BadCameras(f"{uri}: found {values.shape}, expected (rows, {columns})")
    return values


def _frame_numbers(uri: str) -> np.ndarray:
    """Second column of indexes.txt: the frame of the video that each row belongs to."""
    try:
        lines = read_bytes(uri).decode().splitlines()
        frames = [int(line.split()[1]) for line in lines if line.strip() and not line.startswith("#")]
    except (ValueError, IndexError) as error:
        raise BadCameras(f"{uri}: expected rows whose second column is a frame number: {error}") from None
    if not frames or (np.diff(frames) <= 0).any() or frames[0] < 0:
        raise BadCameras(f"{uri}: frame numbers must increase; found {len(frames)}")
    return np.array(frames)
