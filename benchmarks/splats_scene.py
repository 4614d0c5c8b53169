"""A furnished room made of splats, and cameras it could have been trained from: for benchmarks and tests."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from annotate.splats.scene import Splats, write_splats
from dataset.camera import look_at

ROOM_M = (7.0, 3.0, 6.0)
"""Width (x), height (y) and depth (z); the floor is y = 0 and y points down."""
FOV_X_DEG = 68.0
_BOXES = 9
_PICTURE = (480, 640)
Side = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Corner, u and v of a rectangle."""


def room(count: int, seed: int = 0, degree: int = 1) -> Splats:
    """About `count` flat Gaussians on walls, floor, ceiling and the sides of nine boxes; units are metres."""
    rng = np.random.default_rng(seed)
    width, height, depth = ROOM_M
    corner = np.array([-width / 2, -height, -depth / 2])
    sides = _box(corner, np.array(ROOM_M), inwards=True)
    for number in range(_BOXES):
        size = rng.uniform([0.4, 0.5, 0.4], [0.9, 1.7, 0.8])
        angle = (number + rng.uniform(0.2, 0.8)) / _BOXES * 2 * np.pi
        x, z = 0.75 * np.cos(angle) * width / 2, 0.75 * np.sin(angle) * depth / 2
        sides += _box(np.array([x - size[0] / 2, -size[1], z - size[2] / 2]), size, inwards=False)[:5]
    area = sum(np.linalg.norm(np.cross(u, v)) for _, u, v in sides)
    spacing = np.sqrt(area / count)
    parts = [_side(*side, spacing, rng, degree) for side in sides]
    return Splats(*(np.concatenate([part[k] for part in parts]) for k in range(5)), metres_per_unit=1.0)


def _box(corner: np.ndarray, size: np.ndarray, inwards: bool) -> list[Side]:
    """The six sides, the bottom last."""
    x, y, z = np.diag(size)
    sides = [(corner, z, y), (corner + x, y, z), (corner, x, y), (corner + z, y, x), (corner, x, z),
             (corner + y, z, x)]
    return [(o, v, u) for o, u, v in sides] if inwards else sides


def _side(
    corner: np.ndarray, u: np.ndarray, v: np.ndarray, spacing: float, rng: np.random.Generator, degree: int,
) -> list[np.ndarray]:
    """means, rotations, scales, opacities, sh of a painted rectangle, on a jittered grid."""
    long, high = np.linalg.norm(u), np.linalg.norm(v)
    columns, rows = max(2, round(long / spacing)), max(2, round(high / spacing))
    a, b = np.meshgrid((np.arange(columns) + 0.5) / columns, (np.arange(rows) + 0.5) / rows)
    a = (a + rng.normal(0, 0.15 / columns, a.shape)).ravel()
    b = (b + rng.normal(0, 0.15 / rows, b.shape)).ravel()
    means = corner + a[:, None] * u + b[:, None] * v
    frame = np.stack([u / long, v / high, np.cross(u / long, v / high)], 1)
    turn = Rotation.from_matrix(frame).as_quat()[[3, 0, 1, 2]]
    number = len(means)
    scales = np.tile([0.6 * spacing, 0.6 * spacing, 0.02 * spacing], (number, 1))
    coarse = rng.uniform(-0.3, 0.3, (max(2, int(high * 3)), max(2, int(long * 3)), 1))
    coarse = rng.uniform(0.35, 0.75, 3) + coarse + rng.uniform(-0.06, 0.06, (*coarse.shape[:2], 3))
    paint = cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_NEAREST).reshape(-1, 3)
    paint = paint.clip(0.03, 0.97) * rng.uniform(0.85, 1.0, (number, 1))
    sh = np.zeros((number, (degree + 1) ** 2, 3))
    sh[:, 0] = (paint - 0.5) * 2 * np.sqrt(np.pi)
    sh[:, 1:] = rng.normal(0, 0.02, sh[:, 1:].shape)
    arrays = means, np.tile(turn, (number, 1)), scales, np.full(number, 0.95), sh
    return [array.astype(np.float32) for array in arrays]


def training_cameras(count: int = 60) -> np.ndarray:
    """(count, 4, 4) c2w: two rounds through the middle of the room, looking about."""
    width, _, depth = ROOM_M
    angle = np.linspace(0, 4 * np.pi, count, endpoint=False)
    centres = np.stack([0.22 * width * np.cos(angle), -1.5 + 0.15 * np.sin(3 * angle),
                        0.22 * depth * np.sin(angle)], -1)
    heading = angle + np.linspace(0, 2 * np.pi, count)
    ahead = np.stack([np.cos(heading), np.full(count, 0.08), np.sin(heading)], -1)
    return look_at(centres, centres + ahead)


def write_scene(folder: Path, count: int, seed: int = 0, degree: int = 1) -> Path:
    """A trained model as 3DGS leaves it: `scene.ply` beside `cameras.json`. Returns the path of the first."""
    folder.mkdir(parents=True, exist_ok=True)
    height, width = _PICTURE
    focal = width / 2 / np.tan(np.radians(FOV_X_DEG) / 2)
    cameras = [{"id": k, "img_name": f"{k:05d}", "width": width, "height": height,
                "position": c2w[:3, 3].tolist(), "rotation": c2w[:3, :3].tolist(), "fx": focal, "fy": focal}
               for k, c2w in enumerate(training_cameras())]
    (folder / "cameras.json").write_text(json.dumps(cameras))
    path = folder / "scene.ply"
    path.write_bytes(write_splats(room(count, seed, degree)))
    return path
