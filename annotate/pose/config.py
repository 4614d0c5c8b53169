"""Settings of the pose stage's engines, beside the code that reads them."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class TrackConfig:
    """How points are followed through a clip (Shi and Tomasi 1994; Lucas and Kanade 1981)."""

    points: int = 700  # followed at a time
    cell_px: int = 28  # side of the grid cells that share the points
    window_px: int = 17  # side of the patch that is matched
    levels: int = 2  # halvings of the image in the coarse-to-fine search, from where dense flow leads
    backward_px: float = 0.7  # a point tracked forward and back may miss its start by so much
    patch_px: int = 13  # side of the patch aligned with its first view, against drift
    min_correlation: float = 0.75  # of a patch with its first view; below it, the track ends
    keyframe_parallax: float = 0.02  # rotation-compensated motion that makes a keyframe, share of the width
    keyframe_survival: float = 0.6  # share of the last keyframe's points still seen that makes a keyframe
    keyframe_s: float = 0.5  # seconds after which a keyframe is made in any case


@dataclass
class RotationConfig:
    """How a clip is solved whose camera turns and does not move."""

    width: int = 640  # frames are shrunk to the pixel count of a 16:9 image so wide
    points: int = 150  # corners followed from each keyframe
    zoom_gain: float = 0.05  # least fall of the robust cost for believing in a focal length per frame
    zoom_range: float = 0.03  # and least range of it, as a share


@dataclass
class ClassicalConfig:
    """The embedded engine: tracks, two-view start, windowed bundle adjustment, every frame posed."""

    width: int = 640  # frames are shrunk to the pixel count of a 16:9 image so wide
    huber_px: float = 0.5  # residual beyond which an observation counts linearly while the map grows
    noise_px: float = 0.4  # 1-sigma of a tracked point while the map grows; then both are measured
    fov_deg: list[float] = field(default_factory=lambda: [40.0, 55.0, 70.0, 90.0])  # started from, horizontal
    prior_fov_deg: float = 62.0  # centre of the focal prior, horizontal field of view of the longer side
    window: int = 10  # keyframes adjusted together while the map grows
    growth_points: int = 160  # leading on from a keyframe, the longest seen, on which the map grows
    min_tracks: int = 100  # fewer in most of the clip is low texture
    min_inliers: int = 25  # a keyframe needs as many to be placed
    recover: bool = True  # ask a pycolmap mapper where the own start fails
    recover_limit_s: float = 90.0  # wall time it may take
    tracks: TrackConfig = field(default_factory=TrackConfig)
    rotation: RotationConfig = field(default_factory=RotationConfig)
