"""Scenes: a first image, a prompt, and what is known of the space around it.

Three sources: a folder of images with prompts, a copy of the published benchmark, which brings its own
camera paths, and rendered rooms, whose videos along any path are known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dataset.camera import resize_intrinsics
from infer.lens import Image, Lens, find_lens, read_image
from infer.trajectory import Trajectory, read_trajectory
from pipelines.evaluation.path import Surroundings
from pipelines.evaluation.rendered import room_at
from pipelines.evaluation.templates import Split

SYNTHETIC = "synthetic"
_IMAGES = (".png", ".jpg", ".jpeg", ".webp")
_PROMPTS = "prompts.json"
_PUBLISHED = {Split.simple: "benchmark_v2_smooth_60s", Split.hard: "benchmark_v2_hard_60s"}
_MANIFEST = "sanawm_export_v2/run_manifest.jsonl"
ROOM_PROMPT = "a furnished room"


@dataclass(frozen=True)
class Scene:
    """A scene that videos begin in.

    image: a file, unless `room` is the seed of a rendered room. depth: a file beside it, `depth` (H, W) in
    metres and, where they are known, `intrinsics` (4,) in pixels of the image. paths: trajectory files of
    its own by split; where there are any, no template is used.
    """

    name: str
    prompt: str
    image: Path | None = None
    depth: Path | None = None
    room: int | None = None
    paths: Mapping[Split, Path] = field(default_factory=dict)

    def picture(self, size: tuple[int, int]) -> Image:
        """The image the videos begin with; a room's is drawn at `size`. Raises ValueError."""
        if self.room is not None:
            return Image(room_at(self.room, size).image())
        assert self.image is not None
        return read_image(self.image)

    def lens(self, size: tuple[int, int], frames: int, fov: float | None, trajectory: Trajectory) -> Lens:
        """Of the videos, for each frame. Raises ValueError for a view too narrow or too wide."""
        if self.room is not None:
            return Lens(np.tile(room_at(self.room, size).intrinsics, (frames, 1)), "rendered")
        held = {} if self.depth is None else _npz(self.depth)
        return _lens(self.picture(size), held, size, frames, fov, trajectory)

    def surroundings(self, size: tuple[int, int], fov: float | None, assumed_depth: float) -> Surroundings:
        """Depth about the first camera; `assumed_depth` and no points where the scene brings none."""
        if self.room is not None:
            room = room_at(self.room, size)
            return Surroundings.of_depth(room.depth(), room.intrinsics)
        if self.depth is None:
            return Surroundings(assumed_depth, None)
        held, picture = _npz(self.depth), self.picture(size)
        if "depth" not in held or held["depth"].ndim != 2:
            raise ValueError(f"{self.depth}: holds {', '.join(held) or 'nothing'}, expected depth (H, W) in "
                             "metres, and intrinsics (4,) in pixels of the image where they are known")
        depth = held["depth"]
        still = Trajectory(np.eye(4)[None])
        lens = _lens(picture, held, picture.size, 1, fov, still)
        return Surroundings.of_depth(depth, resize_intrinsics(lens.intrinsics[0], picture.size, depth.shape))

    def own_path(self, split: Split) -> Trajectory | None:
        """The published path of a split, or None. Raises ValueError for a file that is none."""
        return read_trajectory(str(self.paths[split])) if split in self.paths else None


def find_scenes(source: str, rooms: int) -> list[Scene]:
    """Of a folder, or "synthetic": as many rooms as asked for. Raises ValueError where there are none."""
    if source == SYNTHETIC:
        return [Scene(f"room-{seed}", ROOM_PROMPT, room=seed) for seed in range(rooms)]
    folder = Path(source).expanduser()
    if not folder.is_dir():
        raise ValueError(f"scenes={source}: there is no such folder; give one of images with prompts, a copy "
                         f"of the published benchmark, or {SYNTHETIC}")
    if any((folder / name / _MANIFEST).is_file() for name in _PUBLISHED.values()):
        return _published(folder)
    prompts = _prompts(folder)
    found = [_of_image(path, prompts) for path in sorted(folder.iterdir()) if path.suffix.lower() in _IMAGES]
    if not found:
        raise ValueError(f"scenes={source}: no image ({', '.join(_IMAGES)}) lies there")
    return found


def _of_image(path: Path, prompts: dict[str, str]) -> Scene:
    beside, depth = path.with_suffix(".txt"), path.with_suffix(".npz")
    prompt = beside.read_text(encoding="utf-8").strip() if beside.is_file() else prompts.get(path.stem)
    if prompt is None:
        raise ValueError(f"scene {path.name}: it has no prompt; put it into {beside.name} beside the image, "
                         f"or into {_PROMPTS} under {path.stem!r}")
    return Scene(path.stem, prompt, path, depth if depth.is_file() else None)


def _prompts(folder: Path) -> dict[str, str]:
    path = folder / _PROMPTS
    if not path.is_file():
        return {}
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not readable JSON: {error}") from None
    if not isinstance(held, dict) or not all(isinstance(value, str) for value in held.values()):
        raise ValueError(f"{path}: expected an object of prompts by name of the image without its suffix")
    return held


def _published(folder: Path) -> list[Scene]:
    """Of the published benchmark: images, prompts, and a path for each split."""
    images: dict[str, Path] = {}
    prompts: dict[str, str] = {}
    paths: dict[str, dict[Split, Path]] = {}
    for split, name in _PUBLISHED.items():
        manifest = folder / name / _MANIFEST
        if not manifest.is_file():
            continue
        for number, line in enumerate(filter(str.strip, manifest.read_text(encoding="utf-8").splitlines())):
            try:
                row = json.loads(line)
                image, camera = folder / row["image_path"], folder / row["camera_path"]
                prompts[image.stem] = str(row["prompt"])
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{manifest}: line {number + 1}: {type(error).__name__}: {error}; expected "
                                 "an object with image_path, camera_path and prompt") from None
            images[image.stem] = image
            paths.setdefault(image.stem, {})[split] = camera
    return [Scene(name, prompts[name], images[name], paths=paths[name]) for name in sorted(images)]


def _lens(
    picture: Image, held: Mapping[str, np.ndarray], size: tuple[int, int], frames: int, fov: float | None,
    trajectory: Trajectory,
) -> Lens:
    """Of a picture; `fov` counts where neither its depth file nor its path nor its camera says."""
    known = held["intrinsics"].astype(float).tolist() if "intrinsics" in held else None
    says = known is not None or trajectory.intrinsics is not None or picture.focal_35mm is not None
    return find_lens(picture, size, frames, known, None if says else fov, trajectory)


def _npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as held:
            return {name: held[name] for name in held.files}
    except Exception as error:  # zipfile, zlib and numpy each raise their own
        raise ValueError(f"{path}: not a readable .npz: {error}") from None
