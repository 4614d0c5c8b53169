"""Views that show enough and views that do not."""

import numpy as np
import pytest

from annotate.splats.coverage import coverage
from annotate.splats.free_space import free_space_cameras
from annotate.splats.scene import SceneError, Splats
from benchmarks.splats_scene import ROOM_M, room

SIZE = (32, 32)
INTRINSICS = np.array([16.0, 16.0, 16.0, 16.0])  # 90 degrees: a tile is a pixel
AT_ORIGIN = np.eye(4)[None]


def grid(columns: int, rows: int, depth: float = 2.0) -> np.ndarray:
    """One point in the middle of each of the first tiles."""
    x, y = np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5)
    return np.stack([(x - 16) / 16, (y - 16) / 16, np.ones_like(x)], -1).reshape(-1, 3) * depth


def look(means: np.ndarray, c2w: np.ndarray = AT_ORIGIN, share: float = 0.02, empty: float = 0.65):
    return coverage(means, c2w, INTRINSICS, SIZE, 0.2, share, empty)


def test_tiles_are_counted_in_a_grid_of_32_by_32() -> None:
    assert look(grid(32, 32)).empty == 0
    assert look(grid(16, 32)).empty == 0.5
    assert look(np.concatenate([grid(16, 32)] * 3)).empty == 0.5


@pytest.mark.parametrize(("rows", "covered"), [(12, 1.0), (11, 0.0)])  # 62.5 % and 65.6 % empty
def test_more_than_65_percent_of_empty_tiles_fail_a_view(rows: int, covered: float) -> None:
    assert look(grid(32, rows)).covered == covered


@pytest.mark.parametrize(("behind", "covered"), [(49, 1.0), (50, 0.0)])
def test_fewer_than_2_percent_of_the_splats_in_view_fail_it(behind: int, covered: float) -> None:
    seen = grid(32, 32)
    rest = np.tile([[0.0, 0.0, -1.0]], (len(seen) * behind, 1))
    found = look(np.concatenate([seen, rest]))
    assert found.in_view == pytest.approx(1 / (behind + 1)) and found.covered == covered


def test_every_tenth_frame_and_the_last_are_tested() -> None:
    away = np.diag([-1.0, 1, -1, 1])
    path = np.tile(np.eye(4), (25, 1, 1))
    path[[0, 10, 24]] = away
    found = look(grid(32, 32), path)
    assert found.tested == 4 and found.covered == 0.25  # of 0, 10, 20 and 24


def test_free_places_of_a_room_are_in_it_and_away_from_its_furniture() -> None:
    splats = room(8000)
    solid = np.arange(len(splats))
    up = np.array([0.0, -1, 0])
    cameras = free_space_cameras(splats, solid, up, 0.02, 0.65, np.random.default_rng(0))
    assert len(cameras.c2w) >= 10
    width, height, depth = ROOM_M
    assert (np.abs(cameras.centres - [0, -height / 2, 0]) < [width / 2, height / 2, depth / 2]).all()
    gaps = np.linalg.norm(cameras.centres[:, None] - splats.means[None, ::4], axis=2).min(1)
    assert gaps.min() > 0.15
    assert np.abs(cameras.c2w[:, :3, 0] @ up).max() < 1e-9  # level


def test_a_scene_without_free_places_is_refused() -> None:
    means = np.random.default_rng(0).uniform(-1, 1, (900, 3)).astype(np.float32)
    splats = Splats(means, np.zeros((900, 4)), np.ones((900, 3)), np.ones(900), np.ones((900, 1, 3)))
    with pytest.raises(SceneError, match="give the scene its cameras"):
        free_space_cameras(splats, np.arange(900), np.array([0.0, -1, 0]), 0.9, 0.0, np.random.default_rng(0))
