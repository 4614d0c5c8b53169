"""How far estimated cameras are from the true ones, where a data set carries both.

Only rendered sources carry a `truth.npz`; no estimator reads it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dataset.clip import CameraTrack
from dataset.reader import read_samples
from dataset.store import Store
from dataset.trajectory import absolute_error, align_tracks, relative_error, rotation_error_to_first

STILL = 1e-3
"""Metres of true path below which a path error has no meaning."""


@dataclass(frozen=True)
class PoseError:
    """Errors of one clip's camera track; None where the clip does not allow the question.

    ate_share: rms distance of centres after Sim(3), as a share of the true path (0.01 is 1 %).
    rotation_step_deg: rms error of the turn between neighbouring frames; rotation_first_deg: the largest
    error of a frame's turn against frame 0. focal: median relative error of fx.
    scale: estimated over true metres, less one; only where the track claims metres.
    """

    posed_share: float
    ate_share: float | None
    rotation_step_deg: float | None
    rotation_first_deg: float | None
    focal: float | None
    scale: float | None


def pose_error(track: CameraTrack, truth: CameraTrack) -> PoseError:
    """Compare a track with the true one, frame by frame; both in metres or any other unit."""
    posed = track.posed & truth.posed
    share = float(posed.mean()) if len(posed) else 0.0
    if posed.sum() < 2:
        return PoseError(share, None, None, None, None, None)
    estimate, true = track.c2w[posed], truth.c2w[posed]
    moves = truth.path_length > STILL
    scale = None
    if moves and track.unit == "m" and truth.unit == "m":
        sim3 = align_tracks(true, estimate)  # the exact path is the source: noise must not shrink the scale
        scale = None if np.isnan(sim3.scale) else sim3.scale - 1.0
    focal = track.intrinsics[posed, 0] / track.size[1] / (truth.intrinsics[posed, 0] / truth.size[1])
    return PoseError(
        posed_share=share,
        ate_share=absolute_error(estimate, true).share_of_path if moves else None,
        rotation_step_deg=relative_error(estimate, true).rotation_deg.rmse,
        rotation_first_deg=rotation_error_to_first(estimate, true).max,
        focal=float(np.median(np.abs(focal - 1.0))), scale=scale,
    )


def pose_errors(store: Store, where: str | None = None) -> dict[str, PoseError]:
    """Errors of every clip that carries its true cameras, by clip id; empty for ordinary video.

    where: a condition as in `dataset.reader.read_samples`. Raises what that raises.
    """
    errors = {}
    for sample in read_samples(store, where, ["camera.npz", "truth.npz"]):
        if {"camera.npz", "truth.npz"} <= sample.files.keys():
            track = CameraTrack.from_npz(sample.files["camera.npz"])
            if track.failure is None:
                truth = CameraTrack.from_npz(sample.files["truth.npz"])
                errors[sample.record.clip_id] = pose_error(track, truth)
    return errors
