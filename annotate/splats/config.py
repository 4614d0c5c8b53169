"""Settings of splat scenes as a source, and what names one video of one scene."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from enum import StrEnum


class Drawer(StrEnum):
    """What draws splats."""

    auto = "auto"  # gsplat where there is CUDA and the package, else cpu; said once at the start
    cpu = "cpu"
    gsplat = "gsplat"


class ZoneSource(StrEnum):
    """Where a camera may stand."""

    auto = "auto"  # near training cameras where the scene has them, else in free space
    cameras = "cameras"
    free_space = "free_space"


class World(StrEnum):
    """The world that the splats of a scene with transforms.json were trained in."""

    stored = "stored"  # that of its matrices
    colmap = "colmap"  # before applied_transform


@dataclass
class RefineConfig:
    """Repair of drawn frames by DiFix (one step of diffusion), in an environment of its own."""

    repository: str | None = None  # checkout of DiFix3D's code; null: frames stay as drawn
    python: str = "python3"  # interpreter of the environment that its requirements were installed into
    model: str = "nvidia/difix"  # weights: a folder, or a name on the Hugging Face hub
    device: str = "cuda"  # as torch names it
    time_limit_s: float = 600.0  # for eight frames; then its process is killed and the video failed


@dataclass
class SplatConfig:
    """How scenes of 3-D Gaussians (.ply) become video; read for `.ply` files and source.layout=splats."""

    frames: int = 161  # of a drawn video; by default as many as a clip has
    fps: int = 16  # of a drawn video; by default that of clips
    width: int = 1280  # of a drawn video, even; by default that of clips
    height: int = 720  # of a drawn video, even; by default that of clips
    drawer: Drawer = Drawer.auto  # cpu (exact, slow), gsplat (extra gpu), or auto: gsplat where it can run
    near_original: int = 10  # paths a scene that run smoothly along its training cameras
    free: int = 30  # paths a scene of the other families, in turn
    seed: int = 0  # of every random choice
    gpus: float = 0.25  # of a GPU, for each process that draws with gsplat or repairs on one
    zone: ZoneSource = ZoneSource.auto  # where the camera may stand: near training cameras (cameras), in
    # free space (free_space), or auto: the former where the scene comes with cameras
    zone_radius: float = 0.35  # of the zone about every camera, in units of their median distance r from
    # their centre
    up: list[float] = field(default_factory=lambda: [0.0, -1.0, 0.0])  # of scenes without cameras, as x y z
    world: World = World.stored  # world of the splats where cameras are in transforms.json: that of its
    # matrices (stored), or before applied_transform (colmap)
    metres_per_unit: float | None = None  # of every scene; null: what the .ply states, else unknown
    near: float = 0.2  # splats nearer than this, in units of the scene, are not drawn
    speed_max: float = 1.5  # metres a second, where the unit is known
    speed_max_r: float = 0.25  # r a second, where it is not
    turn_max_deg: float = 12.0  # a second
    coverage: float = 0.70  # least share of tested frames that see enough of the scene
    frustum_share: float = 0.02  # least share of the splats in view for that
    empty_tiles: float = 0.65  # most tiles of a 32 x 32 grid without a splat for that
    alpha_min: float = 0.5  # a drawn frame of lower mean opacity is blank
    contrast_min: float = 3.0  # so is one whose luma has a lower standard deviation (of 255)
    blank_share: float = 0.30  # most blank frames in a video
    black_start: float = 0.5  # most black pixels in its first frame, as a share
    refine: RefineConfig = field(default_factory=RefineConfig)

    def __post_init__(self) -> None:
        self.drawer, self.zone, self.world = Drawer(self.drawer), ZoneSource(self.zone), World(self.world)
        if isinstance(self.refine, dict):
            self.refine = RefineConfig(**self.refine)

    def check(self) -> None:
        """Raises ValueError for values no video can have."""
        limits: dict[str, tuple[float, float]] = {
            "frames": (100, 100_000), "fps": (1, 120), "width": (16, 8192), "height": (16, 8192),
            "near_original": (0, 1000), "free": (0, 1000), "seed": (0, 2**31 - 1), "zone_radius": (0.01, 10),
            "near": (1e-6, 1e6), "speed_max": (1e-3, 1e3), "speed_max_r": (1e-3, 1e3), "gpus": (0.01, 8),
            "turn_max_deg": (0.1, 360), "coverage": (0, 1), "frustum_share": (0, 1), "empty_tiles": (0, 1),
            "alpha_min": (0, 1), "contrast_min": (0, 255), "blank_share": (0, 1), "black_start": (0, 1),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and low <= value <= high):
                raise ValueError(f"source.splats.{name}={value:g}, allowed {low:g} to {high:g}")
        if not self.refine.time_limit_s > 0:
            raise ValueError(f"source.splats.refine.time_limit_s={self.refine.time_limit_s}: must be above 0")
        if self.width % 2 or self.height % 2:
            raise ValueError(f"source.splats.width={self.width}, height={self.height}: must be even")
        if len(self.up) != 3 or not 1e-6 < math.hypot(*self.up) < math.inf:
            raise ValueError(f"source.splats.up={self.up}: a direction, such as [0,-1,0]")
        if self.near_original + self.free < 1:
            raise ValueError("source.splats.near_original and free are both 0: no path would be drawn")
        if self.metres_per_unit is not None and not 0 < self.metres_per_unit < math.inf:
            raise ValueError(f"source.splats.metres_per_unit={self.metres_per_unit}: must be above 0, or "
                             "null where the unit is unknown")

    @property
    def gpu_share(self) -> float:
        """What a process that makes these videos needs of a GPU; `drawer` must be settled."""
        repairs = self.refine.repository is not None and self.refine.device.startswith("cuda")
        return self.gpus if self.drawer is Drawer.gsplat or repairs else 0.0


@dataclass(frozen=True)
class SplatVideo:
    """One video of a scene: the candidate path of this number, under these settings.

    cameras: address of the scene's training cameras, or None.
    """

    candidate: int
    cameras: str | None
    settings: SplatConfig

    def __post_init__(self) -> None:
        if isinstance(self.settings, dict):
            object.__setattr__(self, "settings", SplatConfig(**self.settings))

    @property
    def identity(self) -> str:
        """All that changes what the video shows, but for the files of the scene."""
        settings = dataclasses.asdict(self.settings)
        refine = settings.pop("refine")
        del settings["gpus"], settings["free"]  # how fast, and how many others
        refined = refine["model"] if refine["repository"] else None
        return f"{self.candidate}|{settings}|{refined}"
