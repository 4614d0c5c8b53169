"""Learned depth engines by name, and bringing their depth into the unit of a clip's poses."""

from __future__ import annotations

import numpy as np

from annotate.depth.depth_pro import DepthProEngine
from annotate.depth.engine import MetricDepthEngine
from annotate.depth.moge2 import Moge2Engine
from annotate.learned import LearnedConfig
from annotate.pose.learned.config import FeedForwardConfig
from annotate.pose.learned.feed_forward import FeedForwardEngine, Structure
from annotate.scale.fused import multiplied
from dataset.clip import CameraTrack, DepthMaps, Motion
from dataset.trajectory import align_tracks


def metric_engine(name: str, learned: LearnedConfig, width: int) -> MetricDepthEngine:
    """The engine `name` of `annotate.depth.config.METRIC`, looking at frames `width` pixels wide."""
    return (Moge2Engine if name == "moge2" else DepthProEngine)(learned, width)


def structure_engine(name: str, learned: LearnedConfig) -> FeedForwardEngine:
    """The engine `name` of `annotate.depth.config.STRUCTURE`."""
    return FeedForwardEngine(name, FeedForwardConfig(), learned)


def in_unit_of(track: CameraTrack, found: Structure) -> tuple[DepthMaps | None, str | None]:
    """An engine's depth in the unit of the clip's poses: by the Sim(3) of its own cameras to them."""
    if found.maps is None:
        return None, f"{found.track.engine}: {found.track.failure}"
    if Motion.PARALLAX not in (track.motion, found.track.motion):
        return None, f"the camera does not move enough to compare the unit of {found.track.engine}"
    both = track.posed
    sim3 = align_tracks(found.track.c2w[both], track.c2w[both], times=track.timestamps[both])
    if sim3.refusal is not None:
        return None, f"the cameras of {found.track.engine} do not fit those of {track.engine}: {sim3.refusal}"
    factors = np.full(len(found.maps.frames), sim3.scale)
    return multiplied(found.maps, factors, found.maps.engine), None
