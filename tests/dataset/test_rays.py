"""Rays and the network's camera inputs: against the released model's fixtures, and against projection."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from dataset import camera, rays


def read_safetensors(path: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """The published layout: header length, JSON header, raw little-endian data."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    kinds = {"F32": np.float32, "I64": np.int64}
    meta = header.pop("__metadata__")
    return meta, {
        name: np.frombuffer(data[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]],
                            kinds[entry["dtype"]]).reshape(entry["shape"])
        for name, entry in header.items()
    }


@pytest.fixture(scope="module")
def golden(shared_data: Path) -> Path:
    return shared_data.parent / "reference" / "golden"


def walk(seed: int, count: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    c2w = np.tile(np.eye(4), (count, 1, 1))
    c2w[:, :3, 3] = np.cumsum(rng.normal(size=(count, 3)), axis=0) * 0.1
    c2w[:, :3, :3] = Rotation.from_rotvec(np.cumsum(rng.normal(size=(count, 3)), axis=0) * 0.05).as_matrix()
    return c2w


@pytest.mark.shared
@pytest.mark.parametrize("case", ["wide", "tall", "square_short"])
def test_image_fit_and_model_inputs_equal_the_released_preprocessing(golden: Path, case: str):
    meta, tensors = read_safetensors(golden / "camera_preprocess.safetensors")
    config = json.loads(meta["cases"])[case]
    value = {name.removeprefix(f"{case}."): t for name, t in tensors.items() if name.startswith(f"{case}.")}
    width, height = config["image_wh"]
    fit = rays.fit_image((height, width), tuple(config["target_hw"]))
    assert [fit.resized[1], fit.resized[0]] == value["out.resized_wh"].tolist()
    assert [fit.left, fit.top] == value["out.crop_left_top"].tolist()
    cropped = fit.intrinsics(rays.frame_intrinsics(value["in.intrinsics"], config["raw_frames"]))
    assert np.allclose(cropped, value["out.intrinsics_cropped"], atol=1e-3)
    inputs = rays.model_camera(value["in.c2w"], cropped, fit.target)
    assert inputs.conditions.dtype == inputs.plucker.dtype == torch.float32
    assert np.abs(inputs.conditions.numpy() - value["out.camera_conditions"]).max() < 5e-6
    assert np.abs(inputs.plucker.numpy() - value["out.chunk_plucker"]).max() < 5e-6


@pytest.mark.shared
def test_packed_plucker_equals_the_released_packing(golden: Path):
    meta, value = read_safetensors(golden / "plucker_pack_and_embed.safetensors")
    grid, frames = tuple(json.loads(meta["latent_hw"])), int(meta["raw_frames"])
    poses, k = camera.relative(value["in.c2w"]), value["in.intrinsics_latent"]
    count = rays.latent_frames(frames)
    conditions = rays.camera_conditions(poses, k, count)
    packed = rays.packed_plucker(poses, k, grid, count)
    assert np.abs(conditions.numpy() - value["out.camera_conditions"]).max() < 2e-6
    assert np.abs(packed.numpy() - value["out.packed"]).max() < 2e-6


@pytest.mark.shared
def test_the_fixtures_would_notice_pixel_centres_in_the_network_inputs(golden: Path):
    meta, value = read_safetensors(golden / "plucker_pack_and_embed.safetensors")
    centred = value["in.intrinsics_latent"].astype(np.float64) - (0, 0, 0.5, 0.5)
    grid = tuple(json.loads(meta["latent_hw"]))
    packed = rays.packed_plucker(camera.relative(value["in.c2w"]), centred, grid, 7)
    assert np.abs(packed.numpy() - value["out.packed"]).max() > 1e-2


def test_our_rays_go_through_pixel_centres():
    k, size = np.array([[60.0, 55.0, 3.2, 2.1], [30.0, 35.0, 2.0, 2.5]]), (4, 7)
    directions = rays.ray_directions(k, size).numpy()
    assert directions.shape == (2, 4, 7, 3)
    assert np.allclose(np.linalg.norm(directions, axis=-1), 1)
    for frame in range(2):
        pixels = camera.project(directions[frame], k[frame])
        assert np.allclose(pixels[2, 5], (5.5, 2.5)) and np.allclose(pixels[0, 0], (0.5, 0.5))


@given(st.integers(0, 2**31), st.floats(0.1, 50))
def test_a_plucker_line_contains_every_point_of_its_ray(seed, depth):
    c2w, k, size = walk(seed, 3), np.tile([9.0, 8.0, 3.0, 2.5], (3, 1)), (5, 6)
    lines = rays.plucker_map(c2w, k, size).numpy()
    frame, row, column = np.random.default_rng(seed).integers((3, 5, 6))
    point = camera.unproject((column + 0.5, row + 0.5), depth, k[frame])
    world = c2w[frame, :3, :3] @ point + c2w[frame, :3, 3]
    direction, moment = lines[frame, row, column, :3], lines[frame, row, column, 3:]
    assert np.allclose(np.cross(world, direction), moment, atol=1e-9 * depth)
    assert direction @ moment == pytest.approx(0, abs=1e-9)
    assert np.linalg.norm(direction) == pytest.approx(1)


@given(st.integers(0, 2**31))
def test_moving_the_world_changes_no_network_input(seed):
    c2w, world = walk(seed, 17), walk(seed + 1, 2)[1]
    k = np.tile([70.0, 66.0, 80.0, 48.0], (17, 1))
    a, b = rays.model_camera(c2w, k, (96, 160)), rays.model_camera(world @ c2w, k, (96, 160))
    assert torch.allclose(a.plucker, b.plucker, atol=1e-5)
    assert torch.allclose(a.conditions, b.conditions, atol=1e-5)
    assert a.plucker.shape == (48, 3, 3, 5) and a.conditions.shape == (3, 20)


def test_windows_hold_the_frames_they_say():
    """A camera at (f, 0, 0) looking along z has moment (0, -f, 0): the frame number can be read from it."""
    c2w = np.tile(np.eye(4), (20, 1, 1))
    c2w[:, 0, 3] = np.arange(20)
    packed = rays.packed_plucker(c2w, np.tile([1e9, 1e9, 0, 0], (20, 1)), (1, 1), 4)
    frames = -packed.reshape(8, 6, 4)[:, 4].T
    assert frames[:3].tolist() == [list(range(8)), list(range(1, 9)), list(range(9, 17))]
    assert frames[3].tolist() == [17, 18, 19, 19, 19, 19, 19, 19]
    rows = rays.camera_conditions(c2w, np.tile([1.0, 1, 0, 0], (20, 1)), 5)
    assert rows[:, 3].tolist() == [0, 8, 16, 16, 16]


@pytest.mark.parametrize(("requested", "available", "streaming", "expected"), [
    (161, 961, False, 161), (160, 961, False, 161), (5, 99, False, 9), (4, 99, False, 1),
    (158, 160, False, 153), (1, 1, False, 1), (49, 961, True, 49), (60, 961, True, 49), (61, 961, True, 73),
    (73, 72, True, 49), (9, 5, True, 1),
])
def test_frame_counts_snap_to_the_nearest_that_the_network_takes(requested, available, streaming, expected):
    assert rays.snap_frames(requested, available, streaming) == expected


@given(st.integers(1, 5000), st.integers(1, 5000), st.booleans())
def test_snapped_counts_are_valid_and_within_reach(requested, available, streaming):
    count = rays.snap_frames(requested, available, streaming)
    step = 24 if streaming else 8
    assert count % step == 1 and 1 <= count <= available
    assert abs(count - requested) <= step / 2 or count + step > available
    assert rays.latent_frames(count) == (count - 1) // 8 + 1


def test_frame_counts_of_nothing_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        rays.snap_frames(0, 5)


def test_intrinsics_are_accepted_in_four_forms_and_stretched_in_time():
    vector = np.array([10.0, 11, 5, 4])
    matrix = np.array([[10.0, 0, 5], [0, 11, 4], [0, 0, 1]])
    for form in (vector, matrix, np.tile(vector, (9, 1)), np.tile(matrix, (9, 1, 1))):
        assert np.allclose(rays.frame_intrinsics(form, 5), np.tile(vector, (5, 1)))
    zoom = np.array([[10.0, 10, 5, 4], [20.0, 20, 5, 4]])
    assert rays.frame_intrinsics(zoom, 5)[:, 0].tolist() == [10, 12.5, 15, 17.5, 20]
    assert rays.frame_intrinsics(zoom, 1)[:, 0].tolist() == [10]


@pytest.mark.parametrize(("wrong", "words"), [
    (np.ones(3), "shape"), (np.ones((2, 5)), "shape"), (np.ones((0, 4)), "shape"),
    ([0.0, 1, 0, 0], "positive"), ([np.nan, 1, 0, 0], "finite"),
    ([[10.0, 3, 5], [0, 11, 4], [0, 0, 1]], "skew"),
])
def test_intrinsics_that_cannot_be_meant_are_refused(wrong, words):
    with pytest.raises(ValueError, match=words):
        rays.frame_intrinsics(wrong, 4)


@given(st.integers(64, 4000), st.integers(64, 4000))
def test_the_fitted_image_covers_the_target_and_keeps_its_principal_point(height, width):
    fit = rays.fit_image((height, width))
    assert fit.resized[0] >= 704 and fit.resized[1] >= 1280 and min(fit.top, fit.left) >= 0
    assert fit.resized[0] == 704 or fit.resized[1] == 1280
    centre = fit.intrinsics([1000.0, 1000.0, width / 2, height / 2])[2:]
    assert np.abs(centre - (640, 352)).max() <= 0.5 + 1e-9


def test_a_video_that_does_not_fill_whole_cells_is_refused():
    with pytest.raises(ValueError, match="multiples of the latent cell"):
        rays.model_camera(walk(0, 9), np.ones((9, 4)), (720, 1280))
