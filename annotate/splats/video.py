"""One candidate path of one scene to a video with exact cameras, or to a sentence on why there is none."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import numpy as np

from annotate.cut.encode import ClipWriter
from annotate.splats.cameras import TrainingCameras, read_file, read_training_cameras
from annotate.splats.config import Drawer, SplatConfig, SplatVideo, World, ZoneSource
from annotate.splats.coverage import coverage
from annotate.splats.fitting import Limits, fit_path
from annotate.splats.free_space import free_space_cameras
from annotate.splats.gsplat_engine import GsplatDrawing, resolve
from annotate.splats.paths import Family
from annotate.splats.refine import repaired
from annotate.splats.render import CpuDrawing, Drawing
from annotate.splats.scene import NotWanted, Splats, read_splats
from annotate.splats.statistics import SceneStatistics, measure_scene, solid_sample

_CRF = 6
"""Of the file that only the cutter reads."""
_BLACK = 10.0  # luma (of 255) up to which a pixel is black
_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)


@dataclass(frozen=True)
class Scene:
    """A scene read once: its splats, which of them count (`solid`), and a hash of its files."""

    splats: Splats
    solid: np.ndarray
    statistics: SceneStatistics
    content: str


@dataclass(frozen=True)
class PlannedVideo:
    """A path worth drawing: c2w (N, 4, 4) in units of the scene, intrinsics (4,) in pixels of
    `size` = (height, width)."""

    family: Family
    c2w: np.ndarray
    intrinsics: np.ndarray
    size: tuple[int, int]


def load_scene(uri: str, video: SplatVideo) -> Scene:
    """The scene of a video; the one read last is kept, since its candidates come one after the other.

    Raises SceneError.
    """
    c = video.settings
    cameras = None if c.zone is ZoneSource.free_space else video.cameras
    return _load(uri, cameras, c.world, c.zone_radius, c.seed, tuple(c.up), c.frustum_share, c.empty_tiles)


@lru_cache(maxsize=1)
def _load(
    uri: str, cameras: str | None, world: World, zone_radius: float, seed: int, up: tuple[float, ...],
    frustum_share: float, empty_tiles: float,
) -> Scene:
    data = read_file(uri)
    digest = hashlib.blake2b(data, digest_size=32)
    splats = read_splats(data, uri)
    rng = np.random.default_rng(seed)
    solid = solid_sample(splats, rng)
    if cameras is None:
        upwards = np.array(up) / np.linalg.norm(up)
        known = free_space_cameras(splats, solid, upwards, frustum_share, empty_tiles, rng)
    else:
        notes = read_file(cameras)
        digest.update(notes)
        known = read_training_cameras(cameras, notes, world)
    statistics = measure_scene(splats, solid, known, zone_radius)
    return Scene(splats, solid, statistics, digest.hexdigest())


def plan_video(scene: Scene, candidate: int, config: SplatConfig) -> PlannedVideo:
    """The path of a candidate once it is seen to stay in the zone and to show enough. Raises NotWanted."""
    unit, statistics = config.metres_per_unit, scene.statistics
    speed = config.speed_max / unit if unit else config.speed_max_r * statistics.radius
    path = fit_path(candidate, config.near_original, statistics, config.frames, config.fps,
                    Limits(speed, config.turn_max_deg), config.seed)
    if isinstance(path, str):
        raise NotWanted("no_path", f"candidate {candidate}: {path}")
    rng = np.random.default_rng([config.seed, candidate])
    size = config.height, config.width
    intrinsics = _intrinsics(statistics.cameras, size, rng)
    found = coverage(scene.splats.means[scene.solid], path.c2w, intrinsics, size, config.near,
                     config.frustum_share, config.empty_tiles)
    if found.covered < config.coverage:
        raise NotWanted("coverage", f"candidate {candidate} ({path.family}): {found.covered:.0%} of "
                      f"{found.tested} tested frames see enough of the scene, wanted {config.coverage:.0%}; "
                      f"medians: {found.in_view:.1%} of its splats, {found.empty:.0%} empty tiles")
    return PlannedVideo(path.family, path.c2w, intrinsics, size)


def _intrinsics(cameras: TrainingCameras, size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """(4,): square pixels, principal point at the centre, a field of view within the training cameras'."""
    height, width = size
    fov = rng.uniform(float(cameras.fov_x_deg.min()), float(cameras.fov_x_deg.max()))
    focal = width / 2 / np.tan(np.radians(fov) / 2)
    return np.array([focal, focal, width / 2, height / 2])


def open_drawing(splats: Splats, config: SplatConfig) -> Drawing:
    """The renderer that the settings name. Raises ValueError where it cannot draw here."""
    kind = GsplatDrawing if resolve(config.drawer) is Drawer.gsplat else CpuDrawing
    return kind(splats, (config.height, config.width), config.near)


def make_video(path: Path, uri: str, video: SplatVideo) -> tuple[str, PlannedVideo]:
    """Write the MP4 of one candidate; returns a hash of the scene's files, and what was drawn.

    Raises NotWanted where the candidate shows too little, else SceneError.
    """
    scene, config = load_scene(uri, video), video.settings
    planned = plan_video(scene, video.candidate, config)
    frames = drawn_frames(planned, open_drawing(scene.splats, config), config)
    if config.refine.repository is not None:
        frames = repaired(frames, config.refine)
    writer: ClipWriter | None = ClipWriter(planned.size, Fraction(config.fps), _CRF)
    assert writer is not None
    try:
        for frame in frames:
            writer.add(frame)
        path.write_bytes(writer.finish())
        writer = None
    finally:
        if writer is not None:
            writer.discard()
    return scene.content, planned


def drawn_frames(planned: PlannedVideo, drawing: Drawing, config: SplatConfig) -> Iterator[np.ndarray]:
    """Frames (H, W, 3) uint8. Raises NotWanted as soon as too many of them are blank."""
    count, blank = len(planned.c2w), 0
    for number, c2w in enumerate(planned.c2w):
        rgb, alpha = drawing.frame(c2w, planned.intrinsics)
        image = (rgb.clip(0, 1) * 255 + 0.5).astype(np.uint8)
        luma = image @ _LUMA
        if number == 0 and (black := float((luma <= _BLACK).mean())) > config.black_start:
            raise NotWanted("black_start", f"{black:.0%} of the first frame are black, allowed "
                            f"{config.black_start:.0%}")
        blank += bool(alpha.mean() < config.alpha_min or luma.std() < config.contrast_min)
        if blank > config.blank_share * count:
            raise NotWanted("blank", f"more than {config.blank_share:.0%} of {count} frames are blank (mean "
                            f"opacity below {config.alpha_min:g}, or contrast below {config.contrast_min:g})")
        yield image
