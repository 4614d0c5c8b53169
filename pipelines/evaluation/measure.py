"""Everything that is measured of one video."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from annotate.pose.engine import PoseEngine
from dataset.camera import resize_intrinsics
from dataset.clip import CameraTrack
from pipelines.evaluation.cases import Case
from pipelines.evaluation.frames import VideoFrames
from pipelines.evaluation.path import FPS
from pipelines.evaluation.quality import windows
from pipelines.evaluation.recovery import RecoveryConfig, control_errors, recover
from pipelines.evaluation.revisit import RevisitConfig, likeness, revisits
from pipelines.evaluation.scorer import QualityConfig, score
from pipelines.evaluation.truth import truth_psnr


@dataclass
class Metrics:
    """A row of metrics.parquet: one video of one generator. What could not be measured is null.

    *_umeyama: after Umeyama's Sim(3); *_framewise: after the released evaluator's alignment. Degrees, metres.
    pose_failure: why there are no errors; failure: why there is nothing at all.
    """

    generator: str
    case: str
    scene: str
    path: str
    split: str
    prompt: str = ""
    frames: int | None = None
    fingerprint: str = ""
    rot_err_deg_umeyama: float | None = None
    trans_err_umeyama: float | None = None
    cam_mc_umeyama: float | None = None
    rot_err_deg_framewise: float | None = None
    trans_err_framewise: float | None = None
    cam_mc_framewise: float | None = None
    posed_share: float | None = None
    pose_engine: str | None = None
    motion: str | None = None
    pose_failure: str | None = None
    truth_psnr: float | None = None  # against the true video, of rendered scenes
    revisit_pairs: int | None = None
    revisit_psnr: float | None = None
    revisit_ssim: float | None = None
    revisit_lpips: float | None = None
    quality_first: float | None = None
    quality_last: float | None = None
    quality_drop: float | None = None  # first less last
    quality_scorer: str | None = None
    path_length: float | None = None  # metres asked for
    clearance: float | None = None  # metres from what is known of the scene; null: nothing is
    seconds: float | None = None  # to make the video; null for other generators' files
    peak_gb: float | None = None  # while it was made
    peak_of: str | None = None  # cuda: of torch's allocator; process: resident, with weights and libraries
    failure: str | None = None


@dataclass(frozen=True)
class Measuring:
    """Settings of the measurements."""

    recovery: RecoveryConfig
    revisit: RevisitConfig
    quality: QualityConfig


def measure(
    video: Path, case: Case, row: Metrics, engine: PoseEngine, config: Measuring,
) -> tuple[Metrics, CameraTrack]:
    """The row with what the video shows, and the camera that was found in it.

    A camera that cannot be found is a sentence in `pose_failure`. Raises ValueError for a file that is no
    usable video, and RuntimeError when a scorer fails.
    """
    frames = VideoFrames(video, len(case.c2w))
    shown = slice(frames.first, frames.first + len(frames))
    wanted, intrinsics = case.c2w[shown], case.intrinsics[shown]
    track = recover(engine, frames, resize_intrinsics(intrinsics, case.size, frames.size), config.recovery)
    row = dataclasses.replace(
        row, frames=len(frames), pose_engine=track.engine, motion=str(track.motion),
        posed_share=float(track.posed.mean()), truth_psnr=truth_psnr(frames, case, frames.first))
    try:
        errors = control_errors(track, wanted)
    except ValueError as error:
        row.pose_failure = str(error)
    else:
        for name, strayed in errors.items():
            for field, value in dataclasses.asdict(strayed).items():
                setattr(row, f"{field}_{name}", value)
    return _appearance(row, frames, wanted, config), track


def _appearance(row: Metrics, frames: VideoFrames, wanted: np.ndarray, config: Measuring) -> Metrics:
    pairs = revisits(wanted, config.revisit)
    first, last = windows(len(frames), FPS, config.quality.window_s, config.quality.pictures)
    pictures = frames.pictures([*first, *last, *(index for pair in pairs for index in pair)])
    both = [(pictures[a], pictures[b]) for a, b in pairs]
    alike = [likeness(a, b) for a, b in both]
    scores = score([pictures[i] for i in first], [pictures[i] for i in last], both, config.quality)
    return dataclasses.replace(
        row, revisit_pairs=len(pairs), revisit_lpips=scores.lpips,
        revisit_psnr=float(np.mean([each.psnr for each in alike])) if alike else None,
        revisit_ssim=float(np.mean([each.ssim for each in alike])) if alike else None,
        quality_first=scores.first, quality_last=scores.last, quality_drop=scores.first - scores.last,
        quality_scorer=scores.scorer)
