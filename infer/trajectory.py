"""Camera trajectories from files: .npy, .npz, JSON, TUM, COLMAP, and the clips of our data sets.

What leaves here is camera-to-world, OpenCV axes, metres, one pose for every frame of the video to be made.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dataset.camera import check_c2w, interpolate, invert

FPS = 16.0
_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
_POSES, _INTRINSICS = ("c2w", "poses", "extrinsics"), ("intrinsics", "K")


@dataclass(frozen=True)
class Trajectory:
    """c2w (F, 4, 4), checked; intrinsics (4,), (3, 3) or a sequence of either, in pixels of `size`."""

    c2w: np.ndarray
    intrinsics: np.ndarray | None = None
    size: tuple[int, int] | None = None  # (height, width); None: that of the image


def read_trajectory(source: str, opengl: bool = False, scale: float = 1.0) -> Trajectory:
    """The trajectory of a file, of a COLMAP folder, or of `<data set>#<clip>`.

    opengl: the file's cameras look along -z, y up. scale: metres in the file's unit.
    Raises ValueError naming the file, for what cannot be read, is no rigid motion, or has NaN.
    """
    folder, _, clip = source.partition("#")
    path = Path(folder).expanduser()
    if clip:
        found = _clip(str(path) if path.exists() else folder, clip)
    elif not path.exists():
        raise ValueError(f"camera={source}: there is no such file, and it is no named path")
    elif path.is_dir():
        found = _colmap(path)
    else:
        readers = {".npy": _npy, ".npz": _npz, ".json": _json, ".txt": _tum, ".tum": _tum}
        if path.suffix.lower() not in readers:
            raise ValueError(f"camera={source}: {path.suffix or 'no'} suffix, allowed are "
                             f"{', '.join(readers)}, a folder of COLMAP's, and <data set>#<clip>")
        found = readers[path.suffix.lower()](path)
    c2w = check_c2w(_four_rows(found.c2w) @ (_OPENGL if opengl else np.eye(4)), f"camera={source}").copy()
    c2w[:, :3, 3] *= scale
    return replace(found, c2w=c2w)


def _four_rows(poses: np.ndarray) -> np.ndarray:
    """(F, 3, 4) with the last row of a rigid motion; other shapes as they are."""
    poses = np.asarray(poses, np.float64)
    if poses.ndim != 3 or poses.shape[1:] != (3, 4):
        return poses if poses.ndim == 3 and poses.shape[-1] == 4 else np.zeros((0, 4, 4))
    return np.concatenate([poses, np.broadcast_to([[[0.0, 0, 0, 1]]], (len(poses), 1, 4))], 1)


def _npy(path: Path) -> Trajectory:
    try:
        return Trajectory(np.load(path, allow_pickle=False).astype(np.float64))
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"camera={path}: not an array of numbers: {error}") from None


def _npz(path: Path) -> Trajectory:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            held = {name: arrays[name] for name in arrays.files}
    except Exception as error:  # zipfile, zlib and numpy each raise their own
        raise ValueError(f"camera={path}: not a readable .npz: {error}") from None
    if "meta" in held:
        return _track(path.read_bytes(), str(path))
    return _from_fields(held, str(path))


def _json(path: Path) -> Trajectory:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise ValueError(f"camera={path}: not readable JSON: {error}") from None
    if isinstance(held, dict) and "frames" in held:
        return _transforms(held, str(path))
    return _from_fields(held if isinstance(held, dict) else {"c2w": held}, str(path))


def _from_fields(held: dict[str, Any], name: str) -> Trajectory:
    poses = next((held[key] for key in _POSES if key in held), None)
    if poses is None:
        raise ValueError(f"camera={name}: holds {', '.join(held) or 'nothing'}; expected poses under "
                         f"{' or '.join(_POSES)}")
    intrinsics = next((held[key] for key in _INTRINSICS if key in held), None)
    size = held.get("size")
    try:
        return Trajectory(np.asarray(poses, np.float64),
                          None if intrinsics is None else np.asarray(intrinsics, np.float64),
                          None if size is None else (int(size[0]), int(size[1])))
    except (ValueError, TypeError, IndexError) as error:
        raise ValueError(f"camera={name}: poses, intrinsics and size (height, width) must be arrays of "
                         f"numbers: {error}") from None


def _transforms(held: dict[str, Any], name: str) -> Trajectory:
    """A NeRF's transforms.json, whose cameras are OpenGL's by definition."""
    try:
        poses = np.array([frame["transform_matrix"] for frame in held["frames"]], np.float64) @ _OPENGL
        width, height = int(held["w"]), int(held["h"])
        focal = float(held.get("fl_x") or width / 2 / np.tan(held["camera_angle_x"] / 2))
        intrinsics = np.array([focal, held.get("fl_y", focal), held.get("cx", width / 2),
                               held.get("cy", height / 2)], np.float64)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"camera={name}: as transforms.json it lacks {error}") from None
    return Trajectory(poses, intrinsics, (height, width))


def _tum(path: Path) -> Trajectory:
    """Lines of `time x y z qx qy qz qw`, camera-to-world; taken at the times of the frames."""
    from scipy.spatial.transform import Rotation

    try:
        table = np.loadtxt(path, ndmin=2)
    except ValueError as error:
        raise ValueError(f"camera={path}: not a table of numbers: {error}") from None
    if table.shape[1] != 8 or not np.isfinite(table).all():
        raise ValueError(f"camera={path}: {table.shape[1]} columns, expected 8 finite numbers a line: "
                         "time x y z qx qy qz qw")
    if not np.linalg.norm(table[:, 4:], axis=1).all():
        raise ValueError(f"camera={path}: a quaternion is zero")
    poses = np.tile(np.eye(4), (len(table), 1, 1))
    poses[:, :3, 3], poses[:, :3, :3] = table[:, 1:4], Rotation.from_quat(table[:, 4:]).as_matrix()
    times = table[:, 0] - table[0, 0]
    frames = int(np.floor(times[-1] * FPS + 1e-6)) + 1
    return Trajectory(interpolate(times, poses, np.minimum(np.arange(frames) / FPS, times[-1])))


def _colmap(path: Path) -> Trajectory:
    """A sparse model, its images in the order of their names; its unit is its own, see `scale`."""
    import pycolmap

    places = [path, path / "sparse" / "0", path / "sparse", path / "0"]
    place = next((p for p in places if any((p / f"images.{end}").is_file() for end in ("bin", "txt"))), None)
    if place is None:
        raise ValueError(f"camera={path}: a folder without a COLMAP model, which has images.bin or "
                         "images.txt")
    model = pycolmap.Reconstruction(str(place))
    images = sorted((image for image in model.images.values() if image.has_pose), key=lambda i: i.name)
    if not images:
        raise ValueError(f"camera={path}: the COLMAP model has no image with a pose")
    w2c = np.stack([np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]]) for image in images])
    camera = images[0].camera
    matrix = camera.calibration_matrix()
    return Trajectory(invert(w2c), np.array([matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]]),
                      (camera.height, camera.width))


def _clip(store: str, clip: str) -> Trajectory:
    from dataset.catalog import CatalogError
    from dataset.reader import read_samples
    from dataset.store import Store

    if "'" in clip:
        raise ValueError(f"camera={store}#{clip}: no clip has a quote in its name")
    try:
        found = list(read_samples(Store(store), f"clip_id = '{clip}'", ["camera.npz"]))
    except (CatalogError, OSError) as error:
        raise ValueError(f"camera={store}#{clip}: {error}") from None
    if not found or "camera.npz" not in found[0].files:
        raise ValueError(f"camera={store}#{clip}: the data set has no clip of that name with a camera")
    return _track(found[0].files["camera.npz"], f"{store}#{clip}")


def _track(data: bytes, name: str) -> Trajectory:
    from dataset.clip import CameraTrack

    track = CameraTrack.from_npz(data)
    if track.failure is not None:
        raise ValueError(f"camera={name}: its cameras could not be used: {track.failure}")
    if track.unit != "m":
        raise ValueError(f"camera={name}: its unit is {track.unit!r}, expected metres (m); only a clip of "
                         "known scale leads a video")
    return Trajectory(track.c2w, track.intrinsics, track.size)
