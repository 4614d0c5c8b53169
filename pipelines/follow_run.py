"""Find the camera of one video and say how far it strays from its path."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from conf import USAGE_ERROR
from dataset.camera import check_c2w
from pipelines.command import complain
from pipelines.evaluation.frames import VideoFrames
from pipelines.evaluation.recovery import control_errors, recover
from pipelines.follow_config import FollowConfig


def follow(config: FollowConfig) -> int:
    """Print what was found; the exit code."""
    try:
        c2w, intrinsics = read_camera(Path(config.camera))
        frames = VideoFrames(Path(config.video), len(c2w))
    except ValueError as error:
        return complain(str(error), USAGE_ERROR)
    shown = slice(frames.first, frames.first + len(frames))
    print(json.dumps(compare(frames, c2w[shown], intrinsics[shown], config)))
    return 0


def compare(
    frames: VideoFrames, c2w: np.ndarray, intrinsics: np.ndarray, config: FollowConfig,
) -> dict[str, Any]:
    """Errors of the camera found in `frames` (F); the path (F, 4, 4) and its intrinsics (F, 4)."""
    track = recover(config.recovery.open(), frames, intrinsics, config.recovery)
    said: dict[str, Any] = {
        "rot_err_deg": None, "trans_err": None, "cam_mc": None,
        "path": float(np.linalg.norm(np.diff(c2w[:, :3, 3], axis=0), axis=1).sum()),
        "found": float(track.posed.mean()), "failure": track.failure}
    try:
        said |= dataclasses.asdict(control_errors(track, c2w)["umeyama"])
    except ValueError as error:
        said["failure"] = str(error)
    return said


def read_camera(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Poses (F, 4, 4) and intrinsics (F, 4) of an .npz. Raises ValueError that says what is wrong with it."""
    try:
        with np.load(path) as file:
            c2w, intrinsics = file["c2w"], file["intrinsics"]
    except Exception as error:  # zipfile, zlib and numpy each raise their own
        raise ValueError(f"camera={path}: expected an .npz with c2w (F, 4, 4) and intrinsics (F, 4) "
                         f"({error})") from None
    c2w = check_c2w(c2w, f"camera={path}")
    if intrinsics.shape != (len(c2w), 4):
        raise ValueError(f"camera={path}: intrinsics {intrinsics.shape}, expected ({len(c2w)}, 4)")
    return c2w, intrinsics
