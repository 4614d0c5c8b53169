"""OmniWorld-Game: pictures with cameras by split, world-to-camera, OpenCV, quaternions scalar first, and
16-bit depth on a hyperbolic scale. Poses and depth share a unit that is not declared metric.

    <scene>/split_info.json  fps.txt  camera/split_0.json  color/000000.png  depth/000000.png

Each run of consecutive pictures within a split is a source of its own: splits are optimised apart, so that
their worlds need not agree. `droidclib/` holds coarse early poses and is left alone.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from annotate.decode import VideoInfo
from annotate.source.cameras import BadCameras, GivenDepth, read_bytes
from annotate.source.item import Pictures, PoseUnit, SourceConfig, SourceItem
from annotate.source.layouts.folder import Folder
from annotate.source.layouts.given import (
    Given,
    checked_intrinsics,
    checked_poses,
    poses_of_quaternions,
    read_json,
)
from dataset.camera import invert

_MARKER = "split_info.json"
_NEAR, _FAR, _UNIT = 1.0, 1000.0, 0.004
_FIRST_VALID, _LAST_VALID = 0.0015, 65500


@dataclass(frozen=True)
class HyperbolicDepth(GivenDepth):
    """z = d / (far - (far - near) d) / 0.004 with d = value / 65535; too near and sky are invalid."""

    def load(self, frame: int) -> np.ndarray | None:
        found = self.maps.get(frame)
        if not isinstance(found, str):
            return None
        stored = cv2.imdecode(np.frombuffer(read_bytes(found), np.uint8), cv2.IMREAD_UNCHANGED)
        if stored is None or stored.ndim != 2 or stored.dtype != np.uint16:
            raise BadCameras(f"{found}: not a 16-bit picture of one channel")
        return linear_depth(stored)


def linear_depth(stored: np.ndarray) -> np.ndarray:
    """(h, w) float32 z of stored values (h, w) uint16; 0 where invalid."""
    d = stored.astype(np.float64) / 65535
    z = d / (_FAR - d * (_FAR - _NEAR)) / _UNIT
    return np.where((d >= _FIRST_VALID) & (stored <= _LAST_VALID), z, 0.0).astype(np.float32)


def items(folder: Folder, config: SourceConfig) -> list[SourceItem]:
    """Every run of every split of every scene; a scene whose notes cannot be read is one faulty source."""
    given = dataclasses.replace(config.given, pose_unit=PoseUnit.unknown)
    found: list[SourceItem] = []
    for scene in folder.below_marker(_MARKER):
        name = scene or folder.root.rpartition("/")[2]
        color = _beside(folder, scene, "color")
        depth = _beside(folder, scene, "depth")
        try:
            if color is None:
                raise ValueError("no folder color in it, nor in its twin below videos/")
            rate = _rate(folder.read(f"{scene}/fps.txt".lstrip("/")).decode())
            splits = json.loads(folder.read(f"{scene}/{_MARKER}".lstrip("/")))["split"]
            runs = [(number, *run) for number, split in enumerate(splits) for run in _runs(split)]
        except (OSError, ValueError, KeyError, TypeError) as error:
            fault = f"{folder.address(scene)}: {type(error).__name__}: {error}"
            found.append(SourceItem(folder.address(scene), name, given=given, fault=fault))
            continue
        for number, first, stop in runs:
            notes = folder.address(f"{scene}/camera/split_{number}.json".lstrip("/"))
            found.append(SourceItem(
                folder.address(color), f"{name}/{first:06d}-{stop:06d}", intrinsics=notes, poses=notes,
                depth=None if depth is None else folder.address(depth), given=given,
                pictures=Pictures(rate, first, stop)))
    return found


def picture_files(item: SourceItem) -> list[str]:
    """In order of their numbers."""
    return [f"{item.uri}/{number:06d}.png" for number in _numbers(item)]


def cameras(item: SourceItem, info: VideoInfo) -> Given:
    """One camera a picture; fx = fy, one principal point a split."""
    assert item.poses is not None and item.pictures is not None
    notes = read_json(item.poses)
    split = item.poses.rpartition("/camera/split_")
    listed = read_json(f"{split[0]}/{_MARKER}")["split"][int(split[2].removesuffix(".json"))]
    try:
        focals = np.array(notes["focals"], np.float64).reshape(-1)
        wxyz = np.array(notes["quats"], np.float64).reshape(-1, 4)
        translations = np.array(notes["trans"], np.float64).reshape(-1, 3)
        centre = float(notes["cx"]), float(notes["cy"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadCameras(f"{item.poses}: expected focals, cx, cy, quats, trans: "
                         f"{type(error).__name__}: {error}") from None
    if not len(listed) == len(focals) == len(wxyz) == len(translations):
        raise BadCameras(f"{item.poses}: {len(focals)} focals, {len(wxyz)} quats, {len(translations)} trans, "
                         f"but the split lists {len(listed)} pictures")
    at = listed.index(item.pictures.first)
    mine = slice(at, at + len(_numbers(item)))
    w2c = poses_of_quaternions(translations[mine], np.roll(wxyz[mine], -1, axis=1), item.poses)
    intrinsics = np.stack([focals[mine], focals[mine], *(np.full(len(w2c), c) for c in centre)], 1)
    depth = None
    if item.depth is not None:
        files = {frame: f"{item.depth}/{number:06d}.png" for frame, number in enumerate(_numbers(item))}
        depth = HyperbolicDepth(files, 1.0, 0)
    return Given(checked_intrinsics(intrinsics, item.poses), checked_poses(invert(w2c), item.poses), depth)


def _numbers(item: SourceItem) -> range:
    assert item.pictures is not None and item.pictures.first is not None and item.pictures.stop is not None
    return range(item.pictures.first, item.pictures.stop)


def _beside(folder: Folder, scene: str, kind: str) -> str | None:
    """Pictures and notes come in archives of their own, which may have been unpacked side by side."""
    places = [f"{scene}/{kind}".lstrip("/"), f"{scene}/{kind}".replace("annotations/", "videos/", 1)]
    return next((place for place in places if folder.names(place)), None)


def _runs(split: list[int]) -> list[tuple[int, int]]:
    """(first, stop) of every stretch of consecutive numbers. Raises ValueError unless they increase."""
    numbers = np.array(split, np.int64)
    steps = np.diff(numbers)
    if (steps <= 0).any():
        raise ValueError("the picture numbers of a split do not increase")
    edges = [0, *(np.flatnonzero(steps > 1) + 1).tolist(), len(numbers)]
    return [(int(numbers[a]), int(numbers[b - 1]) + 1) for a, b in pairwise(edges) if b > a]


def _rate(text: str) -> float:
    """Raises ValueError unless the text states one as `FPS: 24.0`."""
    stated = re.search(r"FPS:\s*([0-9.]+)", text, re.IGNORECASE)
    rate = float(stated[1]) if stated else 0.0
    if not 0 < rate <= 1000:
        raise ValueError(f"fps.txt: expected FPS: <number>, found {text[:40]!r}")
    return rate
