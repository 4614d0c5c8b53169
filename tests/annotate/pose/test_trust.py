"""Doubts about a track, from its own numbers."""

from __future__ import annotations

import numpy as np

from annotate.pose.trust import doubts
from dataset.clip import CameraTrack, Motion


def track(sigma: float = 0.001, **diagnostics: float) -> CameraTrack:
    c2w = np.tile(np.eye(4), (11, 1, 1))
    c2w[:, 0, 3] = np.linspace(0, 1, 11)
    sigmas, verdicts = np.full(11, sigma), np.full(11, 2, np.uint8)
    return CameraTrack(c2w, np.ones((11, 4)), (9, 16), np.arange(11.0), sigmas, np.zeros(11), verdicts,
                       Motion.PARALLAX, "classical", diagnostics=dict(diagnostics))


def test_good_numbers_raise_no_doubt() -> None:
    assert doubts(track(inlier_share=0.95, frame_reprojection_px=0.2, focal_sigma_log=0.01, k1=0.01)) is None


def test_each_doubt_names_its_number_and_what_is_allowed() -> None:
    said = doubts(track(sigma=0.2, inlier_share=0.31, k1=-0.12))
    assert said is not None and said.count(";") == 2
    assert "0.31" in said and "-0.12" in said and "0.2 of the path" in said


def test_a_number_that_could_not_be_measured_is_no_doubt() -> None:
    unknown = track()
    unknown.diagnostics["focal_sigma_log"] = None
    unknown.sigma_position[:] = np.nan
    assert doubts(unknown) is None
