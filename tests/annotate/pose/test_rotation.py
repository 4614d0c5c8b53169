import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from annotate.frames import ArrayFrames
from annotate.pose.rotation import estimate_rotations
from dataset.camera import rotation_angle_deg
from dataset.clip import Motion

SIZE = (270, 480)


def turning_camera(
    focal: float = 400.0, zoom: float = 1.0, count: int = 40, yaw_deg: float = 25.0
) -> tuple[ArrayFrames, np.ndarray, np.ndarray]:
    """Frames of a far textured wall, rotations relative to frame 0, focal lengths."""
    height, width = SIZE
    noise = np.random.default_rng(0)
    coarse = (noise.random((200, 333)) * 255).astype(np.uint8)
    wall = cv2.resize(coarse, (2000, 1200), interpolation=cv2.INTER_CUBIC)
    wall_from_ray = np.array([[800.0, 0, 1000], [0, 800, 600], [0, 0, 1]])
    centre = np.array([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # warps count from the pixel's centre
    images, rotations, focals = [], [], []
    for t in np.linspace(0, 1, count):
        angles = [yaw_deg * np.sin(3 * t), 8 * np.sin(5 * t), 3 * np.sin(4 * t)]
        rotation = Rotation.from_euler("yxz", angles, degrees=True).as_matrix()
        f = focal * zoom**t
        ray_from_pixel = np.linalg.inv(np.array([[f, 0, width / 2], [0, f, height / 2], [0, 0, 1]]))
        warp = np.linalg.inv(centre) @ wall_from_ray @ rotation @ ray_from_pixel @ centre
        image = cv2.warpPerspective(wall, warp, (width, height), flags=cv2.WARP_INVERSE_MAP)
        images.append(np.clip(image + noise.normal(0, 2, image.shape), 0, 255).astype(np.uint8))
        rotations.append(rotation)
        focals.append(f)
    turned = np.array(rotations)
    return ArrayFrames(np.array(images)), turned[0].T @ turned, np.array(focals)


def angles_to_truth(track, rotations):
    return rotation_angle_deg(rotations.transpose(0, 2, 1) @ track.c2w[:, :3, :3])


@pytest.mark.parametrize("focal", [300.0, 700.0])
def test_a_turning_camera_gives_its_rotations_and_its_focal_length(focal):
    frames, rotations, _ = turning_camera(focal)
    track = estimate_rotations(frames, np.arange(40) / 16)
    assert track.failure is None and track.motion == Motion.ROTATION_ONLY and track.posed.all()
    assert (track.c2w[:, :3, 3] == 0).all()
    assert angles_to_truth(track, rotations).max() < 0.2
    assert np.abs(track.intrinsics[:, 0] / focal - 1).max() < 0.006
    assert track.diagnostics["focal_per_frame"] is False and 0 < track.diagnostics["focal_sigma_log"] < 0.02
    assert (track.intrinsics[:, 2:] == (240, 135)).all()


def test_a_zoom_while_turning_is_recovered_frame_by_frame():
    frames, rotations, focals = turning_camera(zoom=1.25)
    track = estimate_rotations(frames, np.arange(40) / 16)
    assert track.diagnostics["focal_per_frame"] is True
    assert np.abs(track.intrinsics[:, 0] / focals - 1).max() < 0.01
    assert angles_to_truth(track, rotations).max() < 0.1


def test_known_intrinsics_are_kept_bit_for_bit():
    frames, rotations, _ = turning_camera()
    known = np.tile([400.0, 400.0, 240.0, 135.0], (40, 1))
    track = estimate_rotations(frames, np.arange(40) / 16, known)
    assert np.array_equal(track.intrinsics, known)
    assert angles_to_truth(track, rotations).max() < 0.1


def test_a_turn_too_small_to_show_the_focal_length_says_so():
    frames, _, _ = turning_camera(yaw_deg=25.0)
    barely = ArrayFrames(np.stack([frames.rgb(0)] * 12))
    track = estimate_rotations(barely, np.arange(12) / 16)
    assert track.failure is None
    assert track.diagnostics["focal_sigma_log"] > 0.2


def test_images_without_texture_give_a_reason():
    blank = ArrayFrames(np.full((8, *SIZE), 128, np.uint8))
    track = estimate_rotations(blank, np.arange(8) / 16)
    assert "too few points" in track.failure and not track.posed.any()


def test_the_same_clip_gives_the_same_bytes():
    frames, _, _ = turning_camera(count=12)
    first, second = (estimate_rotations(frames, np.arange(12) / 16).to_npz() for _ in range(2))
    assert first == second
