"""The second engine: SIFT points and pycolmap's mapper on some frames of a clip.

It shares nothing with the first engine but the pixels, so the two fail on different clips.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field

import numpy as np

from annotate.frames import Frames
from annotate.pose.agreement import Agreement, AgreementLimits, compare
from annotate.pose.mapper import MapperConfig, MapperMethod, map_frames
from annotate.pose.tracks import working_size
from dataset.camera import resize_intrinsics
from dataset.clip import CameraTrack, FrameVerdict, Motion

ZOOM_RANGE = 0.03
"""Range of the focal length, as a share, beyond which a track claims a zoom."""


@dataclass
class SecondConfig:
    """Which clips a second engine solves as well, and how it does."""

    share: float = 0.05  # of the clips, chosen by their names; 1 asks for every clip, 0 for none
    doubtful: bool = True  # and of every clip whose own engine doubts its track
    frames: int = 32  # of a clip that it sees, evenly spaced
    width: int = 640  # they are shrunk to the pixel count of a 16:9 image so wide
    methods: list[MapperMethod] = field(default_factory=lambda: [
        MapperMethod.incremental_mapping, MapperMethod.global_mapping])  # asked in turn until one agrees
    mapper: MapperConfig = field(default_factory=lambda: MapperConfig(max_features=1000, overlap=5))
    limits: AgreementLimits = field(default_factory=AgreementLimits)

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or self.frames < 6 or not self.methods:
            raise ValueError(f"pose.second: share={self.share}, frames={self.frames}, "
                             f"methods={self.methods}; allowed are 0 to 1, 6 or more, and at least one")


def is_chosen(clip_id: str, share: float) -> bool:
    """Whether a clip belongs to the sample: always the same answer, whoever asks and in whatever order."""
    digest = hashlib.blake2b(clip_id.encode(), digest_size=8, person=b"second-pose").digest()
    return int.from_bytes(digest, "big") < share * 2**64


def second_opinion(
    frames: Frames, track: CameraTrack, intrinsics: np.ndarray | None, config: SecondConfig
) -> Agreement:
    """The first agreement found, or else the nearest to one. Known intrinsics (F, 4) are held fixed.

    The mappers know no zoom. Where the track claims one, they are also asked with its focal lengths, but
    their agreement counts only if the images fit these better than a single one: else a wrong zoom would
    confirm itself.
    """
    found = []
    zooms = intrinsics is None and _range(track.intrinsics[:, 0]) > ZOOM_RANGE
    for method in config.methods:
        other = estimate_again(frames, track.timestamps, intrinsics, method, config)
        found.append(compare(track, other, config.limits))
        if zooms and not found[-1].agrees:
            zoomed = estimate_again(frames, track.timestamps, track.intrinsics, method, config)
            if _fits_better(zoomed, other):
                found.append(dataclasses.replace(compare(track, zoomed, config.limits), focal=None))
        if found[-1].agrees:
            break
    return min(found, key=lambda a: (not a.agrees, a.position if a.position is not None else np.inf))


def _fits_better(track: CameraTrack, other: CameraTrack) -> bool:
    """Whether a mapper explained as many observations, or nearly, with clearly smaller errors."""
    if track.failure is not None or other.failure is not None:
        return track.failure is None
    seen, others = (float(t.diagnostics["observations"] or 0.0) for t in (track, other))
    error, other_error = (float(t.diagnostics["reprojection_px"] or 0.0) for t in (track, other))
    return seen > 0.9 * others and error < 0.9 * other_error


def _range(focal: np.ndarray) -> float:
    known = focal[np.isfinite(focal)]
    return float(np.ptp(known) / np.median(known)) if len(known) else 0.0


def estimate_again(
    frames: Frames, timestamps: np.ndarray, intrinsics: np.ndarray | None, method: MapperMethod,
    config: SecondConfig,
) -> CameraTrack:
    """Poses of some frames of the clip, NaN for the others. Known intrinsics (F, 4) are held fixed."""
    count = len(frames)
    chosen = np.unique(np.linspace(0, count - 1, min(config.frames, count)).round().astype(int))
    gray = frames.gray(working_size(frames.size, config.width)[1])
    size = (gray.shape[1], gray.shape[2])
    known = None if intrinsics is None else resize_intrinsics(intrinsics[chosen], frames.size, size)
    mapper = dataclasses.replace(config.mapper, method=method)
    result = map_frames(size, mapper, gray=gray[chosen], intrinsics=known)
    track = CameraTrack.failed(result.failure or "", timestamps, frames.size, f"pycolmap_{method}",
                               Motion.PARALLAX, result.diagnostics)
    if result.failure is None:
        posed = chosen[result.posed]
        track.failure = None
        track.c2w[posed] = result.c2w[result.posed]
        track.intrinsics[posed] = resize_intrinsics(result.intrinsics[result.posed], size, frames.size)
        track.frame_verdict[posed] = FrameVerdict.ESTIMATED
    return track
