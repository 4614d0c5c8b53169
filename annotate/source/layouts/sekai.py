"""Sekai-Game and Sekai-Real-Walking-HQ: .npz with `extrinsic` (T, 4, 4), camera-to-world, OpenCV, and
`intrinsic` (3, 3) or (T, 3, 3) divided by width and height; one row a frame.

A table (.csv) with the columns videoFile, cameraFile, caption; the files it names lie anywhere below.
World axes are arbitrary: a first rotation near diag(1, -1, -1) is a choice of world and no OpenGL camera.
Translations are squeezed into a cube clip by clip, so their unit is lost.
"""

from __future__ import annotations

import dataclasses
import logging
from pathlib import PurePosixPath

import numpy as np

from annotate.decode import VideoInfo
from annotate.source.cameras import BadCameras
from annotate.source.item import PoseUnit, SourceConfig, SourceItem
from annotate.source.layouts.folder import Folder
from annotate.source.layouts.given import Given, checked_intrinsics, checked_poses, read_arrays

log = logging.getLogger(__name__)

_COLUMNS = ("videoFile", "cameraFile")


def items(folder: Folder, config: SourceConfig) -> list[SourceItem]:
    """The rows whose video is there; a row without its camera file is left to fail, with the reason."""
    files = folder.by_name((".mp4", ".npz"))
    unit = dataclasses.replace(config.given, pose_unit=PoseUnit.unknown)
    found: dict[str, SourceItem] = {}
    rows = folder.rows(_COLUMNS)
    if not rows:
        raise ValueError(f"src={folder.src}: no table (.csv) with the columns {', '.join(_COLUMNS)} there")
    for row in rows:
        video, camera = (PurePosixPath(row[column]).name for column in _COLUMNS)
        if video not in files or video in found:  # rows occur twice
            continue
        poses = folder.address(files.get(camera, row["cameraFile"]))
        found[video] = SourceItem(
            folder.address(files[video]), PurePosixPath(video).stem, caption=row.get("caption") or None,
            intrinsics=poses, poses=poses, given=unit)
    names = {PurePosixPath(row["videoFile"]).name for row in rows}
    if len(names) > len(found):
        log.info("src=%s: %d of %d videos of the table are here; the others are passed over", folder.src,
                 len(found), len(names))
    return list(found.values())


def cameras(item: SourceItem, info: VideoInfo) -> Given:
    """One camera a frame; intrinsics in pixels of the video at hand, whatever its size."""
    assert item.poses is not None
    extrinsic, intrinsic = read_arrays(item.poses, ("extrinsic", "intrinsic"))
    matrices = intrinsic[None] if intrinsic.ndim == 2 else intrinsic
    if matrices.ndim != 3 or matrices.shape[1:] != (3, 3) or len(matrices) not in (1, len(extrinsic)):
        raise BadCameras(f"{item.poses}: intrinsic of shape {intrinsic.shape} for {len(extrinsic)} poses; "
                         "expected (3, 3), or one such matrix a frame")
    shares = np.stack([matrices[:, 0, 0], matrices[:, 1, 1], matrices[:, 0, 2], matrices[:, 1, 2]], 1)
    if (np.abs(shares) > 10).any():
        raise BadCameras(f"{item.poses}: intrinsic {shares[0].tolist()} is not divided by width and height")
    height, width = info.size
    pixels = shares * np.array([width, height, width, height])
    return Given(checked_intrinsics(pixels, item.poses), checked_poses(extrinsic, item.poses))
