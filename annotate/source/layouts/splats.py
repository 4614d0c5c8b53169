"""Scenes of 3-D Gaussians: every .ply, with the cameras it was trained from beside it or above it.

    <model>/cameras.json    <model>/point_cloud/iteration_30000/point_cloud.ply    as 3DGS leaves them
    <scene>/transforms.json    <scene>/<anything>.ply    beside nerfstudio's cameras

A scene gives one video for each candidate path, drawn when its turn comes.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from pathlib import Path, PurePosixPath

from annotate.source.filesystem import filesystem
from annotate.source.item import PoseUnit, SourceConfig, SourceItem
from annotate.source.layouts.folder import Folder
from annotate.source.layouts.given import Given, checked_intrinsics, checked_poses
from annotate.splats.cameras import CAMERA_FILES
from annotate.splats.config import Drawer, SplatVideo, ZoneSource

log = logging.getLogger(__name__)

RENDERED = "splats"
"""Engine of the cameras: they drew the pictures."""
_NOT_SCENES = ("input.ply", "points3D.ply")  # point clouds that a model was started from
_ABOVE = 3  # folders, from that of the .ply upwards, in which its cameras may lie
_HEADER = 1 << 16


def items(folder: Folder, config: SourceConfig) -> list[SourceItem]:
    """Every candidate of every scene; of a model saved several times the last one is taken.

    Raises ValueError where the splats cannot be drawn here as the settings say.
    """
    from annotate.splats.gsplat_engine import resolve, why_not
    from annotate.splats.refine import check_refine

    config.splats.check()
    check_refine(config.splats.refine)
    drawer, asked = resolve(config.splats.drawer), config.splats.drawer
    found: list[SourceItem] = []
    guessed: list[str] = []
    for path in _scenes(folder):
        uri = folder.address(path)
        cameras = None if config.splats.zone is ZoneSource.free_space else _cameras_of(uri)
        settings, fault = dataclasses.replace(config.splats, drawer=drawer), None
        try:
            unit = settings.metres_per_unit or _stated_unit(folder, path)
            settings = dataclasses.replace(settings, metres_per_unit=unit)
        except ValueError as error:
            fault = str(error)
        if cameras is None and settings.zone is ZoneSource.cameras:
            fault = (f"{uri}: no {' or '.join(CAMERA_FILES)} beside it or above it; source.splats.zone="
                     "free_space does without")
        elif cameras is None:
            guessed.append(uri)
        unit_known = PoseUnit.metres if settings.metres_per_unit else PoseUnit.unknown
        given = dataclasses.replace(config.given, pose_unit=unit_known)
        count = 1 if fault else settings.near_original + settings.free
        found += [SourceItem(uri, f"{path.removesuffix('.ply')}/{number:02d}", given=given, fault=fault,
                             splat=SplatVideo(number, cameras, settings)) for number in range(count)]
    if found and drawer is not asked:
        log.warning("splats are drawn by %s", "gsplat" if drawer is Drawer.gsplat else
                    f"the reference renderer, which is slow: {why_not()}")
    if guessed:
        log.warning("%s%s: no training cameras, so places to stand are guessed from free space, and up is "
                    "source.splats.up=%s", guessed[0],
                    f" and {len(guessed) - 1} more" if len(guessed) > 1 else "", config.splats.up)
    return found


def draw(path: Path, item: SourceItem) -> tuple[str, Given]:
    """Write the video of an item; returns a hash of its scene and the cameras that drew it.

    Raises SceneError (`NotWanted` where the path shows too little).
    """
    from annotate.splats.video import make_video

    assert item.splat is not None
    content, planned = make_video(path, item.uri, item.splat)
    c2w = planned.c2w.copy()
    c2w[:, :3, 3] *= item.splat.settings.metres_per_unit or 1.0
    intrinsics = checked_intrinsics(planned.intrinsics[None], item.uri)
    return content, Given(intrinsics, checked_poses(c2w, item.uri), engine=RENDERED)


def _scenes(folder: Folder) -> list[str]:
    """Paths below the folder."""
    latest: dict[str, tuple[int, str]] = {}
    for path in folder.tables or folder.files((".ply",)):
        if PurePosixPath(path).name in _NOT_SCENES:
            continue
        match = re.search(r"(?:^|/)iteration_(\d+)/", path)
        model = path.replace(match[0], "/", 1) if match else path
        number = int(match[1]) if match else 0
        latest[model] = max(latest.get(model, (-1, "")), (number, path))
    return [path for _, path in latest.values()]


def _cameras_of(uri: str) -> str | None:
    """Address of the nearest file of cameras, looking from the scene's folder upwards."""
    fs, path = filesystem(uri)
    places = list(PurePosixPath(path).parents)[:_ABOVE]
    found = (f"{place}/{name}" for place in places for name in CAMERA_FILES)
    full = next((full for full in found if fs.exists(full)), None)
    return fs.unstrip_protocol(full) if full is not None and "://" in uri else full


def _stated_unit(folder: Folder, path: str) -> float | None:
    """Raises ValueError where the file is not a scene of splats."""
    from annotate.splats.scene import read_header

    return read_header(folder.read(path, _HEADER), folder.address(path)).metres_per_unit
