"""Point tracks on images whose motion is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from annotate.pose.config import TrackConfig
from annotate.pose.tracks import Tracks, follow, parallax, working_size


def texture(height: int = 300, width: int = 420, seed: int = 0) -> np.ndarray:
    """Band-limited noise: sharp enough to track, smooth enough to warp without aliasing."""
    noise = np.random.default_rng(seed).normal(0, 1, (height, width)).astype(np.float32)
    image = cv2.GaussianBlur(noise, (0, 0), 2.0) + 2 * cv2.GaussianBlur(noise, (0, 0), 5.0)
    return np.clip(128 + 40 * image / image.std(), 0, 255).astype(np.float32)


def warped(
    image: np.ndarray, matrices: list[np.ndarray], size: tuple[int, int], noise: float = 1.0
) -> np.ndarray:
    """Frames in which a point at p of the first (integer-centred) lies at matrix @ p."""
    rng = np.random.default_rng(1)
    moved = [cv2.warpPerspective(image, matrix, size[::-1], flags=cv2.INTER_CUBIC,
                                 borderMode=cv2.BORDER_REFLECT) for matrix in matrices]
    noisy = np.stack(moved) + rng.normal(0, noise, (len(moved), *size))
    return np.clip(np.rint(noisy), 0, 255).astype(np.uint8)


def errors(tracks: Tracks, matrices: list[np.ndarray], frame: int) -> np.ndarray:
    """Distances (n,) between tracked and true positions of the points seen from frame 0 to `frame`."""
    _, first, last = tracks.common(0, frame)
    true = cv2.perspectiveTransform((first - 0.5)[:, None], matrices[frame])[:, 0] + 0.5
    return np.linalg.norm(last - true, axis=1)


def zoom_and_turn(count: int) -> list[np.ndarray]:
    matrices = []
    for t in range(count):
        turn = cv2.getRotationMatrix2D((160.0, 100.0), 0.35 * t, 1 + 0.004 * t)
        turn[:, 2] += (0.83 * t, -0.4 * t)
        matrices.append(np.vstack([turn, [0, 0, 1]]) @ np.array([[1, 0, -40.0], [0, 1, -40.0], [0, 0, 1]]))
    start = np.linalg.inv(matrices[0])
    return [matrix @ start for matrix in matrices]


def test_tracks_stay_within_a_twentieth_of_a_pixel_over_thirty_frames() -> None:
    matrices = zoom_and_turn(31)
    first = np.array([[1, 0, -50.0], [0, 1, -50.0], [0, 0, 1]])
    frames = warped(texture(), [matrix @ first for matrix in matrices], (200, 320))
    tracks = follow(frames, np.arange(31) / 16, TrackConfig())
    error = errors(tracks, matrices, 30)
    assert len(error) > 100
    assert np.median(error) < 0.05
    assert np.percentile(error, 90) < 0.2


def test_a_turn_faster_than_a_patch_is_wide_is_followed() -> None:
    matrices = [np.array([[1, 0, -26.0 * t], [0, 1, 3.0 * t], [0, 0, 1]]) for t in range(5)]
    frames = warped(texture(width=640), matrices, (200, 320))
    tracks = follow(frames, np.arange(5) / 16, TrackConfig())
    assert np.median(errors(tracks, matrices, 4)) < 0.05
    assert tracks.survival[1:].min() > 0.6


def test_points_on_what_appears_and_what_vanishes_end_their_tracks() -> None:
    frames = warped(texture(), [np.eye(3)] * 9, (200, 320))
    frames[5:, 60:140, 100:220] = texture(seed=7)[:80, :120].astype(np.uint8)
    tracks = follow(frames, np.arange(9) / 16, TrackConfig())
    _, pixels, _ = tracks.common(0, 8)
    covered = (np.abs(pixels - [160, 100]) < [50, 30]).all(1)
    assert covered.mean() < 0.02
    assert len(pixels) > 100


def test_the_first_and_last_frames_are_keyframes_at_most_half_a_second_apart() -> None:
    frames = warped(texture(), [np.eye(3)] * 21, (200, 320))
    tracks = follow(frames, np.arange(21) / 16, TrackConfig())
    assert tracks.keyframes.tolist() == [0, 8, 16, 20]


def test_a_blank_image_has_no_tracks() -> None:
    frames = np.full((4, 120, 160), 90, np.uint8)
    tracks = follow(frames, np.arange(4) / 16, TrackConfig())
    assert tracks.count == 0
    assert np.diff(tracks.offsets).tolist() == [0, 0, 0, 0]


def test_equal_input_gives_equal_tracks() -> None:
    frames = warped(texture(), zoom_and_turn(6), (200, 320))
    one, two = (follow(frames, np.arange(6) / 16, TrackConfig()) for _ in range(2))
    assert np.array_equal(one.pixel, two.pixel) and np.array_equal(one.track, two.track)


@pytest.mark.parametrize("size,expected", [
    ((720, 1280), (360, 640)), ((960, 540), (640, 360)), ((90, 160), (90, 160)), ((370, 1226), (264, 874))])
def test_working_size_keeps_aspect_and_pixel_count(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert working_size(size, 640) == expected


def test_rotation_makes_no_parallax_and_translation_past_depths_does() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform([-3, -2, 3], [3, 2, 9], (300, 3))
    focal, centre = 576.0, np.array([320, 180])

    def seen(moved: np.ndarray) -> np.ndarray:
        return moved[:, :2] / moved[:, 2:] * focal + centre

    turn = cv2.Rodrigues(np.array([0.01, 0.04, 0.02]))[0]
    assert parallax(seen(points), seen(points @ turn.T), (360, 640)) < 0.6
    assert parallax(seen(points), seen(points @ turn.T + [0.3, 0, 0]), (360, 640)) > 4
