import numpy as np
import pytest

from annotate.scale.ground import camera_height
from annotate.synthetic import SyntheticSpec, SyntheticTruth
from dataset.camera import resize_intrinsics
from dataset.clip import DepthMaps

SIZE = (90, 160)


def true_depth(uri, noise=0.02, count=9):
    """A track and its depth maps from the truth, with multiplicative noise."""
    truth = SyntheticTruth(SyntheticSpec.parse(uri))
    times = np.linspace(0, 10, count)
    track = truth.at(times)
    rng = np.random.default_rng(0)
    depth = np.stack([truth.depth_at(float(t), SIZE) for t in times])
    valid = np.isfinite(depth)
    depth = np.where(valid, depth * (1 + noise * rng.standard_normal(depth.shape)), 0).astype(np.float16)
    intrinsics = resize_intrinsics(track.intrinsics, truth.size, SIZE)
    return track, DepthMaps(depth, valid, np.arange(count), intrinsics, "test")


@pytest.mark.parametrize("uri", [
    "synthetic://street-walk?seed=1", "synthetic://street-forward?seed=2", "synthetic://room-forward?seed=3",
    "synthetic://street-turn?seed=4",
])
def test_the_camera_stands_as_high_as_it_does(uri):
    track, maps = true_depth(uri)
    found, why = camera_height(track, maps)
    assert why is None
    assert found.height == pytest.approx(1.55, rel=0.04)
    assert found.deviation < 0.06
    assert found.windows >= 0.3 * 9


def test_height_follows_the_unit_of_the_depth():
    track, maps = true_depth("synthetic://street-walk?seed=1")
    metres, _ = camera_height(track, maps)
    other, _ = camera_height(track.scaled(0.2, "engine"), maps.scaled(0.2))
    assert other.height / metres.height == pytest.approx(0.2, rel=0.01)


def test_walls_alone_are_no_ground():
    track, maps = true_depth("synthetic://street-walk?seed=1")
    maps.valid[:, 30:] = False  # only what lies above the horizon
    found, why = camera_height(track, maps)
    assert found is None
    assert "0 of 9 depth maps, 30% and at least 3 are needed" in why


def test_a_table_above_the_floor_is_not_the_ground():
    """Half of what is seen below is a table top; the floor beneath it is seen too."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    intrinsics = np.array([115.0, 115, 80, 45])
    down = (y - 45) / 115
    with np.errstate(divide="ignore"):
        floor, table = 1.55 / down, 0.8 / down
    depth = np.where((table < 3) & (x < 120), table, floor)
    valid = (down > 0) & (depth < 8)
    depth = np.where(valid, depth, 0).astype(np.float16)
    maps = DepthMaps(np.stack([depth] * 3), np.stack([valid] * 3), np.arange(3), np.stack([intrinsics] * 3),
                     "test")
    track, _ = true_depth("synthetic://room-static", count=3)
    track.c2w[:, :3, :3] = np.eye(3)
    found, _ = camera_height(track, maps)
    assert found.height == pytest.approx(1.55, rel=0.02)
