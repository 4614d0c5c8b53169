import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

import annotate
from annotate.pose.mapper import MapperConfig, MapperMethod, PointTracks, Reconstruction, map_frames
from annotate.synthetic import SyntheticSpec, render_sequence
from dataset.camera import invert, project
from dataset.trajectory import absolute_error

SIZE = (240, 320)
FOCAL = 280.0


def tracked_points(frames: int = 14, noise_px: float = 0.1) -> tuple[PointTracks, np.ndarray, np.ndarray]:
    """Points of a room seen from a curved walk: tracks, true c2w, intrinsics."""
    random = np.random.default_rng(3)
    points = random.uniform([-4, -2, 3], [4, 2, 9], (260, 3))
    time = np.linspace(0, 1, frames)
    c2w = np.tile(np.eye(4), (frames, 1, 1))
    c2w[:, :3, 3] = np.stack([2.5 * time, 0.3 * np.sin(4 * time), 0.8 * time], 1)
    c2w[:, :3, :3] = Rotation.from_euler("yx", np.stack([-20 * time, 4 * time], 1), degrees=True).as_matrix()
    intrinsics = np.tile([FOCAL, FOCAL, 160.0, 120.0], (frames, 1))
    pixels, ids = [], []
    for pose, k in zip(c2w, intrinsics):
        seen = project(points @ invert(pose)[:3, :3].T + invert(pose)[:3, 3], k)
        inside = np.isfinite(seen).all(1) & (seen > 0).all(1) & (seen < SIZE[::-1]).all(1)
        pixels.append(seen[inside] + random.normal(0, noise_px, (int(inside.sum()), 2)))
        ids.append(1000 + np.flatnonzero(inside))
    return PointTracks(pixels, ids), c2w, intrinsics


def assert_explains_its_observations(result: Reconstruction) -> None:
    """Every point lies where its frames saw it, by our own camera model."""
    w2c = invert(result.c2w[result.frame_index])
    point = result.points[result.point_index]
    camera = np.einsum("nij,nj->ni", w2c[:, :3, :3], point) + w2c[:, :3, 3]
    seen = project(camera, result.intrinsics[result.frame_index])
    assert np.median(np.linalg.norm(seen - result.pixel, axis=1)) < 0.3


@pytest.mark.parametrize("method", list(MapperMethod))
def test_given_tracks_are_mapped_with_known_intrinsics_held(method):
    tracks, c2w, intrinsics = tracked_points()
    result = map_frames(SIZE, MapperConfig(method=method), tracks=tracks, intrinsics=intrinsics)
    assert result.failure is None and result.posed.all()
    error = absolute_error(result.c2w, c2w)
    assert error.share_of_path < 0.002 and error.rotation_deg.rmse < 0.1
    assert np.array_equal(result.intrinsics, intrinsics)
    assert set(result.track_id) <= set(range(1000, 1260)) and len(set(result.track_id)) > 150
    assert_explains_its_observations(result)
    assert result.diagnostics["seed"] == 0 and result.diagnostics["threads"] == 1


def test_an_unknown_focal_length_is_found_from_a_poor_start():
    tracks, c2w, _ = tracked_points()
    result = map_frames(SIZE, MapperConfig(), tracks=tracks, focal_px=1.3 * FOCAL)
    assert result.failure is None and result.posed.all()
    assert np.abs(result.intrinsics[:, :2] / FOCAL - 1).max() < 0.03
    assert np.ptp(result.intrinsics, axis=0).max() == 0  # one camera
    assert absolute_error(result.c2w, c2w).share_of_path < 0.01


def test_intrinsics_of_each_frame_are_honoured():
    tracks, c2w, intrinsics = tracked_points()
    factor = np.linspace(1.0, 1.4, len(c2w))[:, None]
    zoomed = [(p - (160, 120)) * f + (160, 120) for p, f in zip(tracks.pixels, factor)]
    intrinsics[:, :2] *= factor
    result = map_frames(SIZE, MapperConfig(), tracks=PointTracks(zoomed, tracks.ids), intrinsics=intrinsics)
    assert result.failure is None
    assert np.array_equal(result.intrinsics[result.posed], intrinsics[result.posed])
    assert absolute_error(result.c2w, c2w).share_of_path < 0.003


def test_images_alone_are_enough():
    spec = SyntheticSpec.parse("synthetic://room-walk?width=320&height=240&noise=1.0")
    images, truth, _ = render_sequence(spec, frames=12, fps=4.0)
    gray = images.mean(-1).astype(np.uint8)
    config = MapperConfig(max_features=800, overlap=4)
    result = map_frames(SIZE, config, gray=gray)
    assert result.failure is None and result.posed.sum() >= 10
    error = absolute_error(result.c2w, truth.c2w)
    assert error.share_of_path < 0.01 and error.rotation_deg.rmse < 1.0
    assert (result.track_id == -1).all()
    assert_explains_its_observations(result)


def test_equal_input_gives_equal_output():
    tracks, _, intrinsics = tracked_points(8)
    first, second = (map_frames(SIZE, MapperConfig(), tracks=tracks, intrinsics=intrinsics) for _ in range(2))
    assert np.array_equal(first.c2w, second.c2w) and np.array_equal(first.points, second.points)


def test_a_mapper_out_of_time_is_killed_and_says_so():
    tracks, _, _ = tracked_points()
    result = map_frames(SIZE, MapperConfig(time_limit_s=0.05), tracks=tracks)
    assert "did not finish within 0.05 s" in result.failure and not result.posed.any()
    assert result.c2w.shape == (14, 4, 4)


def test_points_that_make_no_scene_give_a_reason():
    random = np.random.default_rng(0)
    pixels = [random.uniform(0, 240, (40, 2)) for _ in range(3)]
    result = map_frames(SIZE, MapperConfig(), tracks=PointTracks(pixels, [np.arange(40)] * 3))
    assert result.failure == "mapper found no reconstruction" and not result.posed.any()


def test_a_native_crash_comes_back_as_a_reason():
    tracks, _, intrinsics = tracked_points(4)
    result = map_frames(SIZE, MapperConfig(), tracks=tracks, intrinsics=np.full_like(intrinsics, np.nan))
    assert result.failure is not None and not result.posed.any()


def test_the_child_dies_on_its_own_when_nobody_is_left_to_kill_it(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (60, 480, 640), np.uint8)
    settings = {**asdict(MapperConfig(time_limit_s=1, max_features=8192)), "size": [480, 640], "frames": 60,
                "focal_px": None}
    encoded = np.frombuffer(json.dumps(settings).encode(), np.uint8)
    np.savez(tmp_path / "request.npz", gray=noise, settings=encoded)
    command = [sys.executable, "-m", "annotate.pose.mapper_child", "request.npz", "answer.npz"]
    environment = {**os.environ, "PYTHONPATH": str(Path(annotate.__file__).parents[1])}
    child = subprocess.run(command, cwd=tmp_path, env=environment, timeout=60, capture_output=True)
    assert child.returncode == -signal.SIGALRM and not (tmp_path / "answer.npz").exists()


def test_arguments_that_do_not_fit_are_refused():
    tracks, _, intrinsics = tracked_points(4)
    with pytest.raises(ValueError, match="neither"):
        map_frames(SIZE, MapperConfig())
    with pytest.raises(ValueError, match=r"expected grey frames \(F, 240, 320\)"):
        map_frames(SIZE, MapperConfig(), gray=np.zeros((3, 100, 320), np.uint8))
    with pytest.raises(ValueError, match=r"expected intrinsics \(4, 4\), found \(3, 4\)"):
        map_frames(SIZE, MapperConfig(), tracks=tracks, intrinsics=intrinsics[:3])
