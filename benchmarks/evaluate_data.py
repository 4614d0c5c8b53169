"""A data set for `evaluate.py`: rooms filmed along random paths, with exact cameras."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from annotate.cut.encode import ClipWriter
from dataset.catalog import open_dataset
from dataset.clip import ClipRecord, Kind, Motion, ScaleStatus, Verdict
from dataset.shards import ShardWriter
from dataset.store import Store
from pipelines.evaluation.path import FPS, PathConfig, Surroundings, scene_path
from pipelines.evaluation.recovery import as_track
from pipelines.evaluation.rendered import FREE_M, Room
from pipelines.evaluation.scenes import ROOM_PROMPT
from pipelines.evaluation.templates import TEMPLATES

_PER_SHARD = 32


def write_clips(folder: Path, rooms: int, clips: int, frames: int, size: tuple[int, int]) -> None:
    """Films of rooms 0 to `rooms - 1`: each along a template, from a place and in a direction of its own."""
    store = Store(folder)
    open_dataset(store, "rooms", {"rooms": rooms}, {})
    rng, drawn = np.random.default_rng(0), [Room(number, size) for number in range(rooms)]
    with ShardWriter(store, "kept") as writer:
        for number in range(clips):
            room = drawn[number % rooms]
            c2w = _path(rng, frames)
            film = ClipWriter(size, int(FPS))
            for picture in room.film(c2w):
                film.add(picture[0])
            intrinsics = np.tile(room.intrinsics, (frames, 1))
            writer.add(_record(number, frames, size), {
                "mp4": film.finish(), "camera.npz": as_track(c2w, intrinsics, size).to_npz()})
            if len(writer.pending) == _PER_SHARD:
                writer.commit()
        writer.commit()


def _path(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Poses (F, 4, 4) that stay within the room's free middle."""
    config = PathConfig(frames=frames, speed=rng.uniform(0.2, 0.8))
    names = list(TEMPLATES)
    path = scene_path(TEMPLATES[names[rng.integers(len(names))]], Surroundings(4.0, None), config).c2w
    start = np.eye(4)
    start[:3, :3] = Rotation.from_euler("Y", rng.uniform(-180, 180), degrees=True).as_matrix()
    angle, radius = rng.uniform(-np.pi, np.pi), 0.5 * FREE_M * np.sqrt(rng.uniform())
    start[[0, 2], 3] = radius * np.sin(angle), radius * np.cos(angle)
    return start @ path


def _record(number: int, frames: int, size: tuple[int, int]) -> ClipRecord:
    return ClipRecord(
        hashlib.blake2b(str(number).encode(), digest_size=10).hexdigest(), f"room-{number}", Kind.CLIP,
        source="rendered", licence="CC0", caption=ROOM_PROMPT, start_s=0.0, end_s=frames / FPS, frames=frames,
        fps=FPS, height=size[0], width=size[1], verdict=Verdict.KEPT, motion=Motion.PARALLAX, posed_share=1.0,
        scale_status=ScaleStatus.METRIC_SENSOR, metric_scale=1.0, scale_sigma_log=0.01)
