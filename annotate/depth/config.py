"""Settings of the depth stage, beside the code that reads them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class DepthConfig:
    """Plane sweep over posed frames; depth is kept only where several views agree."""

    enabled: bool = True  # false: no depth maps are made
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
        limits = {"every": (1, 1000), "width": (64, 4096), "planes": (8, 512), "neighbours": (2, 16),
                  "window": (3, 31)}
        for name, (low, high) in limits.items():
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"depth.{name}={getattr(self, name)}, allowed {low} to {high}")
        if self.window % 2 == 0:
            raise ValueError(f"depth.window={self.window}, must be odd")
