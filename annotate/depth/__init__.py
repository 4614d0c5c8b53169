"""Depth maps in the unit of a clip's poses, by plane sweep on the CPU or by learned engines."""

from annotate.depth.config import DepthConfig
from annotate.depth.stage import DepthStage

__all__ = ["DepthConfig", "DepthStage"]
