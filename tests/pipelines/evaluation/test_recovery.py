"""Errors of cameras: those of evo on recorded trajectories, and defined on straight and still paths."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from dataset.clip import CameraTrack, FrameVerdict
from pipelines.evaluation.path import PathConfig, Surroundings, scene_path
from pipelines.evaluation.recovery import ALIGNMENTS, RecoveryConfig, as_track, control_errors
from pipelines.evaluation.templates import TEMPLATES

NAMES = ("rot_err_deg", "trans_err", "cam_mc")


def track_of(c2w: np.ndarray) -> CameraTrack:
    return as_track(c2w, np.ones((len(c2w), 4)), (48, 64))


@pytest.mark.parametrize("pair", ["tum_fr1_xyz_rgbdslam", "tum_fr1_xyz_rgbdslam_drift", "kitti_00_orb"])
def test_after_umeyama_the_errors_are_evos(shared_data: Path, pair: str) -> None:
    folder = shared_data / "trajectories"
    oracle = json.loads((folder / "oracle.json").read_text())["pairs"][pair]["variants"]["sim3"]
    found = control_errors(track_of(np.load(folder / f"{pair}_est.npy")), np.load(folder / f"{pair}_gt.npy"))
    assert found["umeyama"].trans_err == pytest.approx(oracle["ate_translation_m"]["mean"], rel=1e-5)
    assert found["umeyama"].rot_err_deg == pytest.approx(oracle["ate_rotation_deg"]["mean"], rel=1e-5)
    assert found["framewise"].rot_err_deg <= found["umeyama"].rot_err_deg  # it aligns the orientations


@pytest.mark.parametrize("name", ["dolly-in", "forward-and-back", "look-left-and-right", "full-circle"])
def test_a_camera_found_exactly_has_no_error_straight_and_still_paths_included(name: str) -> None:
    wanted = scene_path(TEMPLATES[name], Surroundings(4.0, None), PathConfig(frames=241)).c2w
    moved = np.eye(4)
    moved[:3, :3], moved[:3, 3] = wanted[80, :3, :3], (1, 2, 3)
    estimate = moved @ wanted
    estimate[:, :3, 3] *= 7.0  # an engine has a unit and a world of its own
    for found in control_errors(track_of(estimate), wanted).values():
        assert max(getattr(found, field) for field in NAMES) < 1e-5


@pytest.mark.parametrize("moves", [False, True])
def test_a_camera_that_stands_still_has_finite_errors(moves: bool) -> None:
    wanted = np.tile(np.eye(4), (50, 1, 1))
    if moves:
        wanted[:, 2, 3] = np.linspace(0, 2, 50)
    for found in control_errors(track_of(np.tile(np.eye(4), (50, 1, 1))), wanted).values():
        assert found.rot_err_deg == pytest.approx(0, abs=1e-9)
        assert found.trans_err == pytest.approx(0.51 if moves else 0.0, abs=0.01)  # from the middle


def test_a_straight_path_that_bends_in_the_video_is_told() -> None:
    wanted = np.tile(np.eye(4), (50, 1, 1))
    wanted[:, 2, 3] = np.linspace(0, 2, 50)
    bent = wanted.copy()
    bent[:, 0, 3] = np.linspace(0, 1, 50) ** 2
    for found in control_errors(track_of(bent), wanted).values():
        assert 0.02 < found.trans_err < 1.0


def test_frames_without_a_pose_do_not_count_and_too_few_are_refused() -> None:
    wanted = scene_path(TEMPLATES["full-circle"], Surroundings(4.0, None), PathConfig(frames=49)).c2w
    track = track_of(wanted.copy())
    track.c2w[30:], track.frame_verdict[30:] = np.nan, FrameVerdict.UNPOSED
    assert control_errors(track, wanted)["umeyama"].cam_mc < 1e-6
    track.c2w[20:], track.frame_verdict[20:] = np.nan, FrameVerdict.UNPOSED
    with pytest.raises(ValueError, match="found in 41% of the frames, 50% are needed: tracking broke"):
        control_errors(dataclasses.replace(track, failure="tracking broke"), wanted)


def test_both_alignments_in_use_have_their_names() -> None:
    assert list(ALIGNMENTS) == ["umeyama", "framewise"]


@pytest.mark.parametrize(("name", "value"), [("engine", "colmapp"), ("intrinsics", "none")])
def test_settings_that_make_no_sense_are_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"recovery.{name}={value}"):
        RecoveryConfig(**{name: value}).check()
