"""A case: a scene and a path, written as files that any generator can be run on."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import numpy as np

from dataset.store import Store
from infer.trajectory import Trajectory
from pipelines.evaluation.path import PathConfig, scene_path
from pipelines.evaluation.scenes import Scene
from pipelines.evaluation.templates import TEMPLATES, Split, Template

CASES = "cases"


@dataclass(frozen=True)
class Case:
    """c2w (F, 4, 4), frame 0 the identity, metres; intrinsics (F, 4) in pixels of `size` (height, width)."""

    name: str
    scene: str
    path: str  # of the template, or "published"
    split: Split
    prompt: str
    size: tuple[int, int]
    c2w: np.ndarray
    intrinsics: np.ndarray
    room: int | None  # seed of a rendered scene
    clearance: float | None
    retries: int

    @property
    def folder(self) -> str:
        return f"{CASES}/{self.name}"

    @property
    def image(self) -> str:
        """Where its image lies in the folder of the run."""
        return f"{self.folder}/image.png"


@dataclass
class Cases:
    """What was asked for: the cases, and why others were left out, by name."""

    cases: list[Case] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    digests: dict[str, str] = field(default_factory=dict)  # of all that defines a case


def pairings(
    scenes: Sequence[Scene], splits: Sequence[Split], names: Sequence[str] | None, every: bool,
) -> Iterator[tuple[Scene, Split, Template | None]]:
    """Which path each scene gets: its own of a split, or else templates of it, all of them or one in turn."""
    for number, scene in enumerate(scenes):
        for split in splits:
            if scene.paths:
                if split in scene.paths:
                    yield scene, split, None
                continue
            known = [t for t in TEMPLATES.values() if t.split is split and (names is None or t.name in names)]
            if known:
                for template in known if every else [known[number % len(known)]]:
                    yield scene, split, template


def write_cases(
    store: Store, asked: Sequence[tuple[Scene, Split, Template | None]], size: tuple[int, int],
    fov: float | None, config: PathConfig,
) -> Cases:
    """Make the cases and put their files in place: image.png, prompt.txt, camera.npz and case.json.

    A case whose path collides, or whose scene cannot be read, is left out and told.
    """
    made = Cases()
    for scene, split, template in asked:
        name = f"{scene.name}--{template.name if template else f'published-{split}'}"
        try:
            case, picture = _case(name, scene, split, template, size, fov, config)
        except ValueError as error:  # PathCollides among them
            made.left_out[name] = str(error)
            continue
        made.cases.append(case)
        made.digests[name] = _write(store, case, picture)
    return made


def _case(
    name: str, scene: Scene, split: Split, template: Template | None, size: tuple[int, int],
    fov: float | None, config: PathConfig,
) -> tuple[Case, np.ndarray]:
    if template is None:
        own = scene.own_path(split)
        assert own is not None
        if len(own.c2w) < config.frames:
            raise ValueError(f"scene {scene.name}: its path has {len(own.c2w)} poses, path.frames="
                             f"{config.frames} are asked for")
        c2w = np.linalg.inv(own.c2w[0]) @ own.c2w[: config.frames]
        c2w[0] = np.eye(4)
        clearance, retries, trajectory = None, 0, Trajectory(c2w, own.intrinsics, own.size)
    else:
        found = scene_path(template, scene.surroundings(size, fov, config.depth), config)
        c2w, clearance, retries = found.c2w, found.clearance, found.retries
        trajectory = Trajectory(c2w)
    lens = scene.lens(size, len(c2w), fov, trajectory)
    case = Case(name, scene.name, template.name if template else "published", split, scene.prompt, size, c2w,
                lens.intrinsics, scene.room, clearance, retries)
    return case, scene.picture(size).fitted(size)


def _write(store: Store, case: Case, picture: np.ndarray) -> str:
    """Put what is new of a case in place; returns its digest."""
    from PIL import Image

    camera, image = io.BytesIO(), io.BytesIO()
    np.savez(camera, c2w=case.c2w, intrinsics=case.intrinsics, size=np.array(case.size))
    Image.fromarray(picture).save(image, "png")
    about: dict[str, Any] = {
        "scene": case.scene, "path": case.path, "split": str(case.split), "room": case.room,
        "clearance": case.clearance, "retries": case.retries, "prompt": case.prompt}
    digest = sha256(b"".join([case.c2w.tobytes(), case.intrinsics.tobytes(), picture.tobytes(),
                              json.dumps(about).encode()])).hexdigest()[:16]
    about["digest"] = digest
    place = f"{case.folder}/case.json"
    if store.exists(place) and json.loads(store.read(place))["digest"] == digest:
        return digest
    store.write(case.image, image.getvalue())
    store.write(f"{case.folder}/prompt.txt", case.prompt.encode())
    store.write(f"{case.folder}/camera.npz", camera.getvalue())
    store.write(place, json.dumps(about, indent=1).encode())  # last: it says that the others are there
    return digest

