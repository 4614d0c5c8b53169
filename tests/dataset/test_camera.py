"""Camera geometry: conventions against independent constructions, and properties over random cameras."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from dataset import camera

SIZE = (48, 80)
K = np.array([60.0, 55.0, 37.0, 26.0])


def random_c2w(seed: int, count: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    c2w = np.tile(np.eye(4), (count, 1, 1))
    c2w[:, :3, :3] = Rotation.random(count, random_state=seed).as_matrix()
    c2w[:, :3, 3] = rng.normal(size=(count, 3)) * 3
    return c2w


seeds = st.integers(0, 2**31)


@given(seeds)
def test_the_inverse_undoes_a_pose(seed):
    c2w = random_c2w(seed, 3)
    assert np.allclose(camera.invert(c2w) @ c2w, np.eye(4), atol=1e-12)


@given(seeds)
def test_moving_the_world_changes_no_relative_pose(seed):
    c2w, world = random_c2w(seed, 4), random_c2w(seed + 1)[0]
    related = camera.relative(c2w)
    assert np.allclose(camera.relative(world @ c2w), related, atol=1e-10)
    assert (related[0] == np.eye(4)).all()
    assert np.allclose(c2w[0] @ related, c2w, atol=1e-10)


@given(seeds, st.floats(0, 180), st.floats(0, 1))
def test_slerp_turns_at_constant_rate_and_centres_move_straight(seed, angle, share):
    first = random_c2w(seed)[0]
    axis = np.random.default_rng(seed).normal(size=3)
    axis /= np.linalg.norm(axis)
    last = first.copy()
    last[:3, :3] = first[:3, :3] @ Rotation.from_rotvec(np.radians(angle) * axis).as_matrix()
    last[:3, 3] += (1.0, -2.0, 0.5)
    between = camera.interpolate([3.0, 5.0], [first, last], [3.0 + 2.0 * share])[0]
    turned = camera.rotation_angle_deg(first[:3, :3].T @ between[:3, :3])
    assert turned == pytest.approx(share * angle, abs=1e-6)
    assert np.allclose(between[:3, 3], first[:3, 3] + share * np.array([1.0, -2.0, 0.5]))


def test_interpolation_at_the_knots_returns_the_knots():
    c2w, times = random_c2w(5, 6), np.array([0.0, 0.1, 0.25, 0.3, 1.0, 1.7])
    assert np.allclose(camera.interpolate(times, c2w, times), c2w, atol=1e-12)


def test_interpolation_holds_the_last_pose_within_the_tolerance_and_refuses_beyond():
    c2w, times = random_c2w(1, 3), [0.0, 0.5, 1.0]
    held = camera.interpolate(times, c2w, [1.04], max_extrapolation_s=0.05)
    assert np.allclose(held[0], c2w[-1])
    with pytest.raises(ValueError, match=r"1\.060000 s.*0\.000000 to 1\.000000"):
        camera.interpolate(times, c2w, [1.06], max_extrapolation_s=0.05)
    with pytest.raises(ValueError, match="poses exist from"):
        camera.interpolate(times, c2w, [-0.01])
    with pytest.raises(ValueError, match="poses exist from"):
        camera.interpolate(times, c2w, [np.nan])


@pytest.mark.parametrize("times", [[0.0, 0.0, 1.0], [0.0, 2.0, 1.0], [0.0, 1.0], [0.0, np.nan, 1.0]])
def test_times_that_do_not_increase_are_refused(times):
    with pytest.raises(ValueError, match="increase strictly"):
        camera.interpolate(times, random_c2w(0, 3), [0.5])


def broken(kind: str) -> np.ndarray:
    c2w = random_c2w(2, 9)
    if kind == "mirror":
        c2w[4, :3, 0] *= -1
    elif kind == "scale":
        c2w[4, :3, :3] *= 1.01
    elif kind == "nan":
        c2w[4, 1, 3] = np.nan
    elif kind == "transposed":
        c2w[4] = c2w[4].T
    return c2w


@pytest.mark.parametrize(("kind", "words"), [
    ("mirror", "det = -1.000"), ("scale", "is not a rotation"), ("nan", "NaN"), ("transposed", "row"),
])
def test_a_broken_pose_is_named_with_its_frame(kind, words):
    with pytest.raises(ValueError, match=r"path\.npy: frame 4") as error:
        camera.check_c2w(broken(kind), "path.npy")
    assert words in str(error.value)


def test_sound_poses_and_poses_printed_with_four_decimals_pass():
    c2w = random_c2w(3, 7)
    assert camera.check_c2w(c2w.tolist(), "p").dtype == np.float64
    camera.check_c2w(np.round(c2w, 4), "p")
    for shape in [(4, 4), (0, 4, 4), (3, 3, 4)]:
        with pytest.raises(ValueError, match="shape"):
            camera.check_c2w(np.ones(shape), "p")


@given(st.floats(0, 180), seeds)
def test_the_rotation_angle_is_exact_at_both_ends(angle, seed):
    axis = np.random.default_rng(seed).normal(size=3)
    rotation = Rotation.from_rotvec(np.radians(angle) * axis / np.linalg.norm(axis)).as_matrix()
    assert camera.rotation_angle_deg(rotation) == pytest.approx(angle, abs=1e-9)


def test_resize_maps_pixel_corners_to_pixel_corners():
    corners = np.array([[0.0, 0.0], [80.0, 48.0], [80.0, 0.0]])
    directions = camera.unproject(corners, np.ones(3), K)
    resized = camera.resize_intrinsics(K, SIZE, (30, 200))
    assert np.allclose(camera.project(directions, resized), corners * [200 / 80, 30 / 48])
    assert np.allclose(camera.resize_intrinsics(resized, (30, 200), SIZE), K)


def test_crop_moves_the_principal_point_only():
    assert camera.crop_intrinsics(K, top=3, left=10).tolist() == [60.0, 55.0, 27.0, 23.0]
    assert camera.crop_intrinsics(np.stack([K, K]), 1, 2).shape == (2, 4)


@given(seeds, st.integers(-5, 5))
@settings(max_examples=40)
def test_turning_image_and_pose_together_moves_each_projection_with_its_pixel(seed, turns):
    """A marked pixel of a real raster, turned by numpy, lands where the turned camera projects its point."""
    rng = np.random.default_rng(seed)
    row, column = int(rng.integers(SIZE[0])), int(rng.integers(SIZE[1]))
    raster = np.zeros(SIZE)
    raster[row, column] = 1
    c2w = random_c2w(seed)[0]
    point = camera.unproject((column + 0.5, row + 0.5), 2.0, K) @ c2w[:3, :3].T + c2w[:3, 3]
    turned_row, turned_column = np.argwhere(np.rot90(raster, -turns))[0]
    pose = camera.rotate_in_plane(c2w, turns)
    seen = camera.project((point - pose[:3, 3]) @ pose[:3, :3], camera.rotate_intrinsics(K, SIZE, turns))
    assert np.allclose(seen, (turned_column + 0.5, turned_row + 0.5), atol=1e-9)
    camera.check_c2w(pose[None], "turned")


def test_field_of_view_follows_the_definition_and_broadcasts_over_frames():
    fov_x, fov_y = camera.fov_deg(np.array([[640.0, 352.0, 0, 0], [1280.0, 704.0, 0, 0]]), (704, 1280))
    assert fov_x == pytest.approx([90.0, 53.13010], abs=1e-4)
    assert fov_y == pytest.approx([90.0, 53.13010], abs=1e-4)


@given(seeds)
def test_projection_undoes_unprojection(seed):
    rng = np.random.default_rng(seed)
    pixels, depth = rng.uniform(-50, 150, (5, 2)), rng.uniform(0.01, 100, 5)
    points = camera.unproject(pixels, depth, K)
    assert np.allclose(points[:, 2], depth)
    assert np.allclose(camera.project(points, K), pixels, atol=1e-9)


def test_points_behind_the_camera_have_no_pixel():
    assert np.isnan(camera.project([[0.0, 0, -1], [0, 0, 0]], K)).all()


def test_look_at_puts_the_target_on_the_axis_and_keeps_the_horizon_level():
    c2w = camera.look_at([1.0, -2.0, 0.5], [4.0, -1.0, 7.0])
    camera.check_c2w(c2w[None], "look_at")
    target = camera.invert(c2w) @ np.array([4.0, -1.0, 7.0, 1.0])
    assert np.allclose(target[:2], 0) and target[2] > 0
    assert c2w[1, 0] == pytest.approx(0.0)  # x axis is horizontal
    assert c2w[1, 1] > 0  # image y points down
    with pytest.raises(ValueError, match="look_at"):
        camera.look_at([0.0, 0, 0], [0.0, 5, 0])
