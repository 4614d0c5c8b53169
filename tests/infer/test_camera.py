"""Paths from actions, names and arrays."""

from pathlib import Path

import numpy as np
import pytest

from dataset.camera import check_c2w
from infer.actions import FIRST, ActionError, action_poses, parse_actions
from infer.camera import CameraConfig, find_path, locate
from infer.paths import NAMED, named_path


@pytest.mark.parametrize("name", sorted(NAMED))
def test_named_paths_are_rigid_and_start_at_the_identity(name: str) -> None:
    poses = named_path(name, 49)
    assert check_c2w(poses, name).shape == (49, 4, 4)
    np.testing.assert_array_equal(poses[0], np.eye(4))
    assert np.abs(poses[-1] - np.eye(4)).max() > 0.1


def test_an_action_string_may_be_longer_than_the_name_of_a_file() -> None:
    text = ",".join(["w-1", "d-1"] * 250)
    assert len(find_path(text, CameraConfig(), None, streaming=False)) == 497
    assert locate(text, Path()) == text


def test_an_orbit_keeps_its_distance_and_looks_at_its_middle() -> None:
    poses = named_path("orbit:radius=3,degrees=120", 33)
    to_middle = np.array([0, 0, 3.0]) - poses[:, :3, 3]
    np.testing.assert_allclose(np.linalg.norm(to_middle, axis=1), 3, atol=1e-9)
    np.testing.assert_allclose(poses[:, :3, 2], to_middle / 3, atol=1e-9)
    assert poses[5, 0, 3] > 0.1  # positive degrees go to the right


def test_distances_are_metres_and_every_frame_takes_an_equal_step() -> None:
    poses = named_path("dolly:distance=-2.5", 11)
    np.testing.assert_allclose(poses[-1, :3, 3], [0, 0, -2.5])
    np.testing.assert_allclose(np.diff(poses[:, 2, 3]), -0.25)
    assert named_path("crane:height=2", 9)[-1, 1, 3] == -2
    turned = named_path("pan:degrees=90", 9)[-1]
    np.testing.assert_allclose(turned[:3, 2], [1, 0, 0], atol=1e-12)


@pytest.mark.parametrize(("text", "says"), [
    ("orbit:speed=2", "orbit has no 'speed'; it has radius, degrees, height"),
    ("orbit:radius=wide", "radius=wide, expected a finite number"),
    ("dolly:distance=nan", "distance=nan, expected a finite number"),
    ("spiral:distance=4", "reaches focus=4"),
])
def test_a_named_path_says_what_is_wrong_with_its_numbers(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        find_path(text, CameraConfig(), None, False)


def test_actions_give_their_poses_and_record_their_scheme() -> None:
    path = find_path("w-10,dw-6", CameraConfig(), None, False)
    np.testing.assert_allclose(path.c2w, action_poses(parse_actions("w-10,dw-6"))[:17], atol=1e-6)
    assert path.source == "w-10,dw-6 (sana-wm-2)"
    old = find_path("w-10,dw-6", CameraConfig(scheme="sana-wm-1"), None, False)
    np.testing.assert_allclose(old.c2w, action_poses(parse_actions("w-10,dw-6", FIRST), FIRST), atol=1e-6)


def test_a_fault_in_an_action_is_pointed_at() -> None:
    with pytest.raises(ActionError, match="character 6: unknown key 'x'"):
        find_path("w-10,x-3", CameraConfig(), None, False)


@pytest.mark.parametrize(("wanted", "streaming", "frames"), [
    (None, False, 97), (None, True, 97), (60, False, 57), (61, False, 65), (60, True, 49), (500, False, 97)])
def test_frames_are_those_of_whole_latent_frames(wanted: int | None, streaming: bool, frames: int) -> None:
    assert len(find_path("w-100", CameraConfig(), wanted, streaming)) == frames


def test_a_path_too_short_for_a_video_is_refused() -> None:
    with pytest.raises(ValueError, match="11 poses give 1 frames, expected at least 25"):
        find_path("w-10", CameraConfig(), None, True)


def test_an_array_of_poses_is_taken_relative_to_its_first() -> None:
    poses = named_path("s-curve", 17)
    start = named_path("orbit", 5)[-1]
    np.testing.assert_allclose(find_path(start @ poses, CameraConfig(), None, False).c2w, poses, atol=1e-9)


@pytest.mark.parametrize(("config", "says"), [
    (CameraConfig(scheme="wasd"), "'wasd' is unknown; use one of sana-wm-2, sana-wm-1"),
    (CameraConfig(scale=0), "path.scale=0, allowed more than 0")])
def test_settings_of_the_path_are_checked(config: CameraConfig, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        find_path("w-20", config, None, False)


def test_a_file_is_found_beside_a_table_and_a_name_stays_a_name(tmp_path: Path) -> None:
    for name in ("orbit", "set", "w-8"):
        (tmp_path / name).mkdir()
    assert locate("set#clip", tmp_path) == f"{tmp_path / 'set'}#clip"
    assert locate("set", tmp_path) == str(tmp_path / "set")
    for camera in ("orbit", "orbit:radius=2", "gone.npy", "s3://bucket/set#clip", "#clip"):
        assert locate(camera, tmp_path) == camera
