"""The camera path of a video, from whatever describes it: keys held, a file, a clip, or a named path."""

from __future__ import annotations

import os.path
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dataset.camera import check_c2w, relative
from dataset.rays import snap_frames
from infer.actions import action_poses, find_scheme, held_keys, parse_actions
from infer.paths import NAMED, named_path
from infer.trajectory import Trajectory, read_trajectory

DEFAULT_FRAMES = 241
"""Of a named path whose length is not said: 15 s."""
SHORTEST = 9
"""Frames of the shortest video: two latent frames."""


@dataclass
class CameraConfig:
    """How the camera path is read."""

    scheme: str = "sana-wm-2"  # what keys of action strings do: sana-wm-2, or sana-wm-1 for strings of the
    # first release
    opengl: bool = False  # cameras of the file look along -z with y up, as Blender's and OpenGL's do
    scale: float = 1.0  # metres in the unit of the file; COLMAP's is arbitrary

    def check(self) -> None:
        """Raises ValueError for values that make no sense."""
        find_scheme(self.scheme)
        if not 0 < self.scale < float("inf"):
            raise ValueError(f"path.scale={self.scale:g}, allowed more than 0")


@dataclass(frozen=True)
class CameraPath:
    """trajectory: one pose a frame, frame 0 the identity    source: what it was read from, with its scheme
    held: keys held on the way to each pose, empty where no keys led to them
    """

    trajectory: Trajectory
    source: str
    held: tuple[frozenset[str], ...] = ()

    @property
    def c2w(self) -> np.ndarray:
        return self.trajectory.c2w

    def __len__(self) -> int:
        return len(self.c2w)


def find_path(
    camera: str | np.ndarray, config: CameraConfig, frames: int | None, streaming: bool,
) -> CameraPath:
    """The path for a video of about `frames` frames, all of it where None: 8k + 1 of them, or 24k + 1 for
    streams. Poses (F, 4, 4), an action string, a named path with its numbers, or a file.

    Raises ValueError, for action strings with the place of the fault.
    """
    config.check()
    held: tuple[frozenset[str], ...] = ()
    if not isinstance(camera, str):
        found, source = Trajectory(check_c2w(camera, "camera")), "poses"
    elif camera.partition(":")[0] in NAMED:
        wanted = snap_frames(frames or DEFAULT_FRAMES, 1 << 30, streaming)
        found, source = Trajectory(named_path(camera, wanted)), camera
    elif _is_file(camera):
        found, source = read_trajectory(camera, config.opengl, config.scale), camera
    else:
        scheme = find_scheme(config.scheme)
        segments = parse_actions(camera, scheme)
        found, held = Trajectory(action_poses(segments, scheme)), held_keys(segments)
        source = f"{camera} ({scheme.name})"
    count = snap_frames(frames or len(found.c2w), len(found.c2w), streaming)
    if count < SHORTEST:
        raise ValueError(f"camera={source}: {len(found.c2w)} poses give {count} frames, expected at least "
                         f"{25 if streaming else SHORTEST}")
    c2w = relative(found.c2w[:count])
    return CameraPath(Trajectory(c2w, found.intrinsics, found.size), source, held[:count])


def locate(camera: str, folder: Path) -> str:
    """The same camera with its file by its full name, where `folder` holds one of that name."""
    name, mark, clip = camera.partition("#")
    place = folder / Path(name).expanduser()
    if camera.partition(":")[0] in NAMED or not name or not os.path.exists(place):
        return camera
    return f"{place.resolve()}{mark}{clip}"


def _is_file(camera: str) -> bool:
    """Action strings have neither dots nor slashes nor #, and files of trajectories do. An action string may
    be longer than any name of a file, of which `Path.exists` raises."""
    return any(mark in camera for mark in "./\\#~") or os.path.exists(camera)

