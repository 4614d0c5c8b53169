"""The focal length of drawings of a room with known cameras, and of pictures that do not say it."""

import cv2
import numpy as np
import pytest

from infer.lens import ASSUMED_DEG, MOST_SPREAD, Image, find_lens
from infer.trajectory import Trajectory
from infer.vanishing import estimate_focal, find_segments

SIZE = (360, 640)


def drawing(fov: float, yaw: float, pitch: float, seed: int = 0) -> np.ndarray:
    """Boxes on a floor, their edges drawn by a camera that looks down on them."""
    focal = SIZE[1] / 2 / np.tan(np.radians(fov / 2))
    c, s = np.cos(np.radians([yaw, pitch])), np.sin(np.radians([yaw, pitch]))
    turn = np.array([[1, 0, 0], [0, c[1], -s[1]], [0, s[1], c[1]]]) @ np.array(
        [[c[0], 0, s[0]], [0, 1, 0], [-s[0], 0, c[0]]])
    rng, page = np.random.default_rng(seed), np.full((*SIZE, 3), 235, np.uint8)
    for _ in range(14):
        middle = turn.T @ np.array([rng.uniform(-1.2, 1.2) / focal * 260, rng.uniform(-0.5, 0.5), 1]) * 6
        half = rng.uniform(0.3, 0.9, 3)
        corners = middle + half * np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).T.reshape(-1, 3)
        seen = corners @ turn.T
        if (seen[:, 2] < 0.5).any():
            continue
        points = seen[:, :2] / seen[:, 2:] * focal + [SIZE[1] / 2, SIZE[0] / 2]
        for a in range(8):
            for b in range(a):
                if np.count_nonzero(np.abs(corners[a] - corners[b]) > 1e-9) == 1:
                    ends = np.round(points[[a, b]] * 16).astype(int)
                    cv2.line(page, ends[0].tolist(), ends[1].tolist(), (20, 20, 20), 2, cv2.LINE_AA, 4)
    return page


@pytest.mark.parametrize(("fov", "yaw", "pitch"), [(45, 35, 25), (60, -30, 20), (100, 30, 20)])
def test_where_lines_meet_tells_the_focal_length(fov: float, yaw: float, pitch: float) -> None:
    found = estimate_focal(drawing(fov, yaw, pitch))
    true = 0.5 / np.tan(np.radians(fov / 2))
    assert found.spread < MOST_SPREAD
    assert abs(np.log(found.focal / true)) < 0.12


def test_it_is_the_same_again_and_whatever_the_size_of_the_picture() -> None:
    page = drawing(70, 35, 25)
    one, again = estimate_focal(page), estimate_focal(page)
    large = estimate_focal(cv2.resize(page, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC))
    assert one == again
    assert abs(np.log(large.focal / one.focal)) < 0.1


def test_pictures_that_do_not_say_it_are_not_believed() -> None:
    """Nothing, noise, and a wall straight ahead, whose lines look the same through every lens."""
    wall = np.full((*SIZE, 3), 235, np.uint8)
    for x in range(40, 640, 80):
        cv2.line(wall, (x, 20), (x, 340), (20, 20, 20), 2, cv2.LINE_AA)
    for y in range(40, 360, 60):
        cv2.line(wall, (20, y), (620, y), (20, 20, 20), 2, cv2.LINE_AA)
    noise = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)
    assert len(find_segments(np.zeros((*SIZE, 3), np.uint8))) == 0
    for page in (np.zeros((*SIZE, 3), np.uint8), noise, wall):
        assert estimate_focal(page).spread > MOST_SPREAD


def test_the_lens_says_where_it_is_from() -> None:
    path = Trajectory(np.tile(np.eye(4), (9, 1, 1)))
    image = Image(drawing(80, 40, -25))
    lens = find_lens(image, SIZE, 9, None, None, path)
    assert lens.origin.startswith("estimated from its lines: ") and "give or take" in lens.origin
    np.testing.assert_allclose(lens.intrinsics[0, :2], image.focal_of_lines.focal * SIZE[1])
    assumed = find_lens(Image(np.zeros((*SIZE, 3), np.uint8)), SIZE, 9, None, None, path)
    assert assumed.origin == f"assumed: {ASSUMED_DEG:g} degrees across the longer side"
