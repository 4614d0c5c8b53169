"""Settings of the learned pose engines, beside the code that reads them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class KeyframeDepth(StrEnum):
    """Metric depth that ViPE's SLAM is given for its keyframes."""

    fused = "fused"  # Pi3X and MoGe-2, fused as the paper does (App. B)
    own = "own"  # the model of ViPE's own pipeline
    none = "none"  # without: translations have no unit


@dataclass
class FeedForwardConfig:
    """Networks that take a window of frames and give its cameras and depth in one pass."""

    pixels: int = 255000  # of a frame as the network sees it; sides become multiples of its patch
    window: int = 40  # frames in one pass; halved when memory runs out
    overlap: int = 10  # frames that neighbouring windows share, by which they are joined

    def __post_init__(self) -> None:
        if not 1 <= self.overlap < self.window or self.pixels < 14 * 14:
            raise ValueError(f"pose.feed_forward: window={self.window}, overlap={self.overlap}, "
                             f"pixels={self.pixels}; allowed are an overlap of 1 or more below the window, "
                             "and 196 pixels or more")


@dataclass
class VipeConfig:
    """ViPE: dense SLAM with metric keyframe depth, in an environment of its own."""

    pipeline: str = "no_vda"  # preset of ViPE that its other settings come from
    depth: KeyframeDepth = KeyframeDepth.fused  # metric depth of the keyframes
    masks: bool = True  # leave out people, vehicles and animals, found by its segmentation
    width: int = 640  # frames are handed over shrunk to so many pixels in width
    depth_every: int = 2  # frames between those that bring fused depth; a keyframe between two goes without

    def __post_init__(self) -> None:
        self.depth = KeyframeDepth(self.depth)
        if self.width < 64 or self.depth_every < 1:
            raise ValueError(f"pose.vipe: width={self.width}, depth_every={self.depth_every}; allowed are "
                             "64 or more and 1 or more")


@dataclass
class RefineConfig:
    """Bundle adjustment that starts from a learned engine's cameras, on points followed through the clip."""

    enabled: bool = True  # one focal length, or one a frame where the images clearly fit better
    max_change: float = 0.05  # rms change of the centres, as a share of the path, beyond which the engine's
    # own cameras are kept and the clip is marked as doubtful
