"""What a layout hands over for one video, and the checks that all of them share."""

from __future__ import annotations

import io
import json
from typing import Any, NamedTuple

import numpy as np

from annotate.source.cameras import UNREADABLE, BadCameras, GivenDepth, GivenPoses, read_bytes
from dataset.camera import check_c2w


class Given(NamedTuple):
    """Cameras and depth of one video: intrinsics (1 or frames, 4) in pixels of the displayed picture."""

    intrinsics: np.ndarray | None = None
    poses: GivenPoses | None = None
    depth: GivenDepth | None = None
    engine: str = "given"  # where the poses come from


def checked_poses(c2w: np.ndarray, where: str, times: np.ndarray | None = None) -> GivenPoses:
    """Poses (n, 4, 4) once they are seen to be rigid. Raises BadCameras."""
    try:
        return GivenPoses(check_c2w(c2w, where), times)
    except ValueError as error:
        raise BadCameras(str(error)) from None


def checked_intrinsics(intrinsics: np.ndarray, where: str) -> np.ndarray:
    """Intrinsics (n, 4) once they are seen to be finite with positive focal lengths. Raises BadCameras."""
    if not np.isfinite(intrinsics).all() or (intrinsics[:, :2] <= 0).any():
        raise BadCameras(f"{where}: intrinsics must be finite with fx, fy > 0, "
                         f"found {intrinsics[0].tolist()} first")
    return intrinsics


def poses_of_quaternions(translations: np.ndarray, xyzw: np.ndarray, where: str) -> np.ndarray:
    """Matrices (n, 4, 4) of translations (n, 3) and quaternions (n, 4), scalar last. Raises BadCameras."""
    from scipy.spatial.transform import Rotation

    lengths = np.linalg.norm(xyzw, axis=1)
    if not np.isfinite(lengths).all() or (np.abs(lengths - 1) > 1e-2).any():
        worst = int(np.argmax(np.where(np.isfinite(lengths), np.abs(lengths - 1), np.inf)))
        raise BadCameras(f"{where}: row {worst} has a quaternion of length {lengths[worst]:.3g}, expected 1")
    matrices = np.tile(np.eye(4), (len(translations), 1, 1))
    matrices[:, :3, :3] = Rotation.from_quat(xyzw).as_matrix()
    matrices[:, :3, 3] = translations
    return matrices


def read_arrays(uri: str, names: tuple[str, ...]) -> list[np.ndarray]:
    """Arrays of an .npz by name; of an .npy, which has one, whatever the name. Raises BadCameras."""
    data = io.BytesIO(read_bytes(uri))
    try:
        stored = np.load(data, allow_pickle=False)
        found = [stored] if isinstance(stored, np.ndarray) else [stored[name] for name in names]
        return [np.asarray(array, np.float64) for array in found]
    except UNREADABLE as error:
        raise BadCameras(f"{uri}: expected arrays {', '.join(names)}: "
                         f"{type(error).__name__}: {error}") from None


def read_json(uri: str) -> Any:
    """Raises BadCameras where the file cannot be read or is not JSON."""
    try:
        return json.loads(read_bytes(uri))
    except ValueError as error:
        raise BadCameras(f"{uri}: not JSON: {error}") from None
