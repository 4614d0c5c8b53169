"""Settings of the depth stage, beside the code that reads them."""

from __future__ import annotations

from dataclasses import dataclass

from annotate.scale.fusion import Smoothing

METRIC = ("moge2", "depth_pro")
"""Engines that give metres, frame by frame."""
STRUCTURE = ("pi3x", "vggt", "depth_anything3")
"""Engines that give depth consistent over a clip, in a unit of their own."""
ENGINES = ("plane_sweep", "pose", *STRUCTURE, *METRIC)


@dataclass
class DepthConfig:
    """Depth of every k-th frame: plane sweep over posed frames, kept only where several views agree, or a
    learned engine's."""

    enabled: bool = True  # false: no depth maps are made
    engine: str = "plane_sweep"  # plane_sweep; pose: as the pose engine saw it; pi3x, vggt, depth_anything3,
    # moge2, depth_pro
    metric: str | None = None  # moge2 or depth_pro: says, compared with the engine's depth, how long a metre
    # is; null: nobody, or the engine itself if it is one of them
    metric_width: int = 640  # pixels in width at which they look at frames
    smoothing: Smoothing = Smoothing.ema  # of the scale over the frames: the paper's average, or robust
    every: int = 8  # frames between depth maps
    width: int = 320  # of the depth maps in pixels; height follows the clip's aspect
    planes: int = 64  # hypotheses, evenly spaced in inverse depth; half as many are tried at half size
    neighbours: int = 4  # other frames each map is matched with
    window: int = 7  # side in pixels of the patch that is correlated
    min_correlation: float = 0.6  # zero-mean normalised correlation of a kept pixel
    min_contrast: float = 2.0  # standard deviation of the patch in grey levels; below it, nothing to match
    consistency: float = 0.03  # relative difference within which two maps agree on a point
    min_agreeing: int = 1  # other maps that must agree
    min_valid_share: float = 0.1  # a clip with less is said to have no depth

    def __post_init__(self) -> None:
        self.smoothing = Smoothing(self.smoothing)
        if self.engine not in ENGINES:
            raise ValueError(f"depth.engine={self.engine}: no such engine; known: {', '.join(ENGINES)}")
        if self.metric is not None and self.metric not in METRIC:
            raise ValueError(f"depth.metric={self.metric}: no such engine; known: {', '.join(METRIC)}, null")
        limits = {"every": (1, 1000), "width": (64, 4096), "planes": (8, 512), "neighbours": (2, 16),
                  "window": (3, 31), "metric_width": (64, 4096)}
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"depth.{name}={getattr(self, name)}, allowed {low} to {high}")
        if self.window % 2 == 0:
            raise ValueError(f"depth.window={self.window}, must be odd")

    @property
    def metric_engine(self) -> str | None:
        """The engine that knows metres, if there is one."""
        return self.metric or (self.engine if self.engine in METRIC else None)
