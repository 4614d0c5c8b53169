"""A clip as a COLMAP text model: cameras, images, and points where the clip has depth.

COLMAP's world-to-camera poses have OpenCV axes and its pixel centres lie at +0.5, as ours do.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dataset.camera import invert, unproject
from dataset.clip import CameraTrack, DepthMaps

IMAGE_NAME = "frame_{:06d}.jpg"
_POINTS = 20_000  # at most, over all frames
_SAME = 1e-9  # relative difference of intrinsics that are one camera


def colmap_model(
    track: CameraTrack, depth: DepthMaps | None = None, colours: dict[int, np.ndarray] | None = None,
) -> dict[str, bytes]:
    """`cameras.txt`, `images.txt` and `points3D.txt`; frames without a pose are left out.

    colours: frames (H, W, 3) RGB by number, for the points. Image i + 1 is frame i. A point is seen by the
    one frame whose depth it comes from. Translations keep the unit of the track.
    """
    frames = np.flatnonzero(track.posed)
    cameras = _camera_numbers(track.intrinsics[frames])
    points = list(_points(track, depth, colours or {})) if depth is not None else []
    seen: dict[int, list[tuple[int, _Point]]] = {}
    for number, point in enumerate(points, 1):
        seen.setdefault(point.frame, []).append((number, point))
    return {"cameras.txt": _cameras(track, frames, cameras),
            "images.txt": _images(track, frames, cameras, seen), "points3D.txt": _points_text(seen)}


class _Point:
    """One pixel with depth: where it is in the world, in which frame it is seen, and its colour."""

    __slots__ = ("colour", "frame", "pixel", "position")

    def __init__(self, frame: int, pixel: np.ndarray, position: np.ndarray, colour: np.ndarray) -> None:
        self.frame, self.pixel, self.position, self.colour = frame, pixel, position, colour


def _camera_numbers(intrinsics: np.ndarray) -> np.ndarray:
    """1 for every frame where all share one camera, else a number of its own for each."""
    spread = np.abs(intrinsics - intrinsics[:1]).max(initial=0.0)
    one = spread <= _SAME * np.abs(intrinsics).max(initial=1.0)
    return np.ones(len(intrinsics), np.int64) if one else np.arange(1, len(intrinsics) + 1)


def _cameras(track: CameraTrack, frames: np.ndarray, cameras: np.ndarray) -> bytes:
    height, width = track.size
    first = {int(camera): int(frame) for camera, frame in zip(cameras[::-1], frames[::-1])}
    lines = [f"{camera} PINHOLE {width} {height} {_numbers(track.intrinsics[frame])}"
             for camera, frame in sorted(first.items())]
    return _text("Camera list: CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]", lines)


def _images(
    track: CameraTrack, frames: np.ndarray, cameras: np.ndarray, seen: dict[int, list[tuple[int, _Point]]],
) -> bytes:
    from scipy.spatial.transform import Rotation

    w2c = invert(track.c2w[frames])
    wxyz = np.roll(Rotation.from_matrix(w2c[:, :3, :3]).as_quat(canonical=True), 1, axis=1)
    lines = []
    for frame, camera, pose, quaternion in zip(frames.tolist(), cameras.tolist(), w2c, wxyz):
        lines.append(f"{frame + 1} {_numbers(quaternion)} {_numbers(pose[:3, 3])} {camera} "
                     f"{IMAGE_NAME.format(frame)}")
        lines.append(" ".join(f"{_numbers(point.pixel)} {number}" for number, point in seen.get(frame, [])))
    return _text("Image list with two lines each: IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME; "
                 "POINTS2D[] as (X, Y, POINT3D_ID)", lines)


def _points_text(seen: dict[int, list[tuple[int, _Point]]]) -> bytes:
    lines = [f"{number} {_numbers(point.position)} {' '.join(map(str, point.colour.tolist()))} 0 "
             f"{frame + 1} {index}"
             for frame, points in seen.items() for index, (number, point) in enumerate(points)]
    return _text("3D point list: POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] as (IMAGE_ID, POINT2D_IDX)",
                 lines)


def _points(
    track: CameraTrack, depth: DepthMaps, colours: dict[int, np.ndarray],
) -> Iterator[_Point]:
    """Valid depth on a grid so wide that all frames together give no more than enough points."""
    posed = [k for k, frame in enumerate(depth.frames) if track.posed[frame]]
    per_frame = max(1, _POINTS // max(len(posed), 1))
    for k in posed:
        frame = int(depth.frames[k])
        rows, columns = np.nonzero(depth.valid[k])
        step = -(-len(rows) // per_frame)
        if not step:
            continue
        rows, columns = rows[::step], columns[::step]
        pixels = np.stack([columns, rows], 1) + 0.5
        camera = unproject(pixels, depth.depth[k][rows, columns].astype(np.float64), depth.intrinsics[k])
        world = camera @ track.c2w[frame, :3, :3].T + track.c2w[frame, :3, 3]
        ratio = np.array(track.size[::-1]) / np.array(depth.depth.shape[:0:-1])
        full = pixels * ratio
        picture = colours.get(frame)
        for pixel, position in zip(full, world):
            colour = np.full(3, 128) if picture is None else picture[int(pixel[1]), int(pixel[0])]
            yield _Point(frame, pixel, position, colour)


def _numbers(values: np.ndarray) -> str:
    return " ".join(repr(float(value)) for value in values)


def _text(header: str, lines: list[str]) -> bytes:
    return "\n".join([f"# {header}", *lines, ""]).encode()
