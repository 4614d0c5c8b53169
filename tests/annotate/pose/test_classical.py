"""The classical engine on rendered and on real video."""

from __future__ import annotations

import functools
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from annotate.frames import ArrayFrames
from annotate.pose.classical import ClassicalEngine
from annotate.synthetic import SyntheticSpec, render_sequence
from annotate.synthetic import spec as presets
from dataset.camera import relative, rotation_angle_deg
from dataset.clip import CameraTrack, FrameVerdict, Motion
from dataset.trajectory import align_sim3


@functools.lru_cache(maxsize=1)
def rendered(place: str, motion: str, **settings: float) -> tuple[ArrayFrames, np.ndarray, CameraTrack]:
    """A short clip at 16 frames per second, and its truth."""
    spec = SyntheticSpec(presets.Place(place), presets.Motion(motion), width=480, height=270, fps=16.0,
                         **{"seconds": 2.6, "noise": 1.5, **settings})  # type: ignore[arg-type]
    frames, truth, _ = render_sequence(spec)
    return ArrayFrames(frames), np.arange(len(frames)) / 16.0, truth


def errors(track: CameraTrack, c2w: np.ndarray) -> tuple[float, float]:
    """Position error after Sim(3) as a share of the path, and largest rotation error to frame 0, degrees."""
    sim3 = align_sim3(track.c2w[:, :3, 3], c2w[:, :3, 3])
    placed = sim3.scale * track.c2w[:, :3, 3] @ sim3.rotation.T + sim3.translation
    path = np.linalg.norm(np.diff(c2w[:, :3, 3], axis=0), axis=1).sum()
    position = np.sqrt(((placed - c2w[:, :3, 3]) ** 2).sum(1).mean()) / path
    turn = relative(track.c2w)[:, :3, :3].swapaxes(1, 2) @ relative(c2w)[:, :3, :3]
    return float(position), float(rotation_angle_deg(turn).max())


@pytest.mark.parametrize("place,motion", [("room", "walk"), ("street", "forward")])
def test_a_rendered_walk_is_posed_to_half_a_per_cent(place: str, motion: str) -> None:
    frames, times, truth = rendered(place, motion)
    track = ClassicalEngine().estimate(frames, times)
    assert track.failure is None and track.motion == Motion.PARALLAX
    assert (track.frame_verdict == FrameVerdict.ESTIMATED).all()
    assert np.array_equal(track.c2w[0], np.eye(4)) or np.allclose(track.c2w[0], np.eye(4), atol=1e-12)
    position, rotation = errors(track, truth.c2w)
    assert position < 0.005
    assert rotation < 0.3
    assert np.isfinite(track.sigma_position).all() and np.isfinite(track.sigma_rotation_deg).all()


def test_a_zoom_is_followed_frame_by_frame() -> None:
    frames, times, truth = rendered("room", "walk", zoom=1.25, seconds=4.1)
    track = ClassicalEngine().estimate(frames, times)
    ratio = track.intrinsics[:, 0] / truth.intrinsics[:, 0]
    assert np.abs(ratio - 1).mean() < 0.01
    assert track.diagnostics["focal_model"] == "each"


def test_known_intrinsics_come_back_as_they_were_given() -> None:
    frames, times, truth = rendered("room", "walk")
    track = ClassicalEngine().estimate(frames, times, truth.intrinsics)
    np.testing.assert_allclose(track.intrinsics, truth.intrinsics, rtol=1e-12)
    assert errors(track, truth.c2w)[0] < 0.005


def test_a_tripod_is_static_and_has_identity_poses() -> None:
    frames, times, _ = rendered("room", "static", seconds=1.6)
    track = ClassicalEngine().estimate(frames, times)
    assert track.motion == Motion.STATIC and track.failure is None
    assert np.array_equal(track.c2w, np.tile(np.eye(4), (len(times), 1, 1)))
    assert track.diagnostics["verdict"] == "no camera motion"


def test_a_turning_camera_has_rotations_and_no_translation() -> None:
    frames, times, truth = rendered("room", "rotation_only")
    track = ClassicalEngine().estimate(frames, times)
    assert track.motion == Motion.ROTATION_ONLY
    assert track.path_length == 0
    turn = relative(track.c2w)[:, :3, :3].swapaxes(1, 2) @ relative(truth.c2w)[:, :3, :3]
    assert rotation_angle_deg(turn).max() < 0.5


def test_nothing_to_see_is_a_reason_and_not_an_exception() -> None:
    grey = ArrayFrames(np.full((9, 90, 160), 128, np.uint8))
    track = ClassicalEngine().estimate(grey, np.arange(9) / 16)
    assert track.motion in (Motion.LOW_TEXTURE, Motion.STATIC)
    assert track.failure is not None and "texture" in track.failure
    noise = ArrayFrames(np.random.default_rng(0).integers(0, 255, (9, 90, 160), np.uint8))
    assert ClassicalEngine().estimate(noise, np.arange(9) / 16).failure is not None
    one = ClassicalEngine().estimate(ArrayFrames(np.zeros((1, 90, 160), np.uint8)), np.zeros(1))
    assert one.failure is not None


def test_equal_input_gives_an_equal_track() -> None:
    frames, times, _ = rendered("room", "walk")
    start = ArrayFrames(np.stack([frames.rgb(index) for index in range(18)]))
    one, two = (ClassicalEngine().estimate(start, times[:18]).to_npz() for _ in range(2))
    assert one == two


def real(folder: Path) -> tuple[ArrayFrames, np.ndarray]:
    with av.open(str(folder / "video.mp4")) as container:
        frames = np.stack([frame.to_ndarray(format="gray") for frame in container.decode(video=0)])
    return ArrayFrames(frames), np.load(folder / "c2w.npy")


@pytest.mark.shared
@pytest.mark.parametrize("name,position_limit", [("tote", 0.005), ("kitti06", 0.0007)])
def test_real_video_is_posed_as_well_as_by_plain_mappers(
    shared_data: Path, name: str, position_limit: float
) -> None:
    frames, c2w = real(shared_data / "poses" / name)
    track = ClassicalEngine().estimate(frames, np.arange(len(frames)) / 10.0)
    assert track.failure is None and track.posed.all()
    assert errors(track, c2w)[0] < position_limit


@pytest.mark.shared
@pytest.mark.slow
def test_photographs_taken_apart_are_joined_by_features(shared_data: Path) -> None:
    frames, c2w = real(shared_data / "poses" / "fox")
    track = ClassicalEngine().estimate(frames, np.arange(len(frames)) / 10.0)
    assert track.failure is None and track.posed.all()
    position, rotation = errors(track, c2w)
    assert position < 0.001 and rotation < 1.0


def test_the_working_resolution_does_not_change_the_pixels_of_the_answer() -> None:
    frames, times, truth = rendered("room", "walk")
    large = np.stack([cv2.resize(frames.rgb(index), (960, 540)) for index in range(26)])
    track = ClassicalEngine().estimate(ArrayFrames(large), times[:26])
    assert track.size == (540, 960)
    np.testing.assert_allclose(np.median(track.intrinsics[:, 0]), 2 * truth.intrinsics[0, 0], rtol=0.03)
    np.testing.assert_allclose(track.intrinsics[:, 2:], [[480, 270]] * 26, rtol=0.03)
