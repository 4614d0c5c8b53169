"""Depth maps consistent with a clip's poses, by plane sweep on the CPU."""

from annotate.depth.config import DepthConfig
from annotate.depth.stage import DepthStage

__all__ = ["DepthConfig", "DepthStage"]
