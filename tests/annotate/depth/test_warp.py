"""Warps against the projection they stand for."""

import numpy as np
import pytest

from annotate.depth.views import Views, halved
from annotate.depth.warp import Warp
from dataset.camera import look_at, project, unproject

SIZE = (45, 80)


@pytest.fixture(scope="module")
def views() -> Views:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (2, *SIZE), dtype=np.uint8)
    intrinsics = np.array([[60.0, 61.0, 39.0, 23.0], [66.0, 65.0, 41.0, 22.0]])
    c2w = np.stack([look_at(np.zeros(3), np.array([0, 0, 3.0])),
                    look_at(np.array([0.3, 0.1, -0.2]), np.array([0.1, 0, 3.0]))])
    return Views(images, intrinsics, c2w, np.ones(2, bool))


def test_places_are_projections_of_the_points(views: Views) -> None:
    depth = np.random.default_rng(1).uniform(1, 6, SIZE)
    y, x = np.mgrid[:SIZE[0], :SIZE[1]] + 0.5
    points = unproject(np.stack([x, y], -1), depth, views.intrinsics[0])
    motion = views.between(0, 1)
    pixels = project(points @ motion[:3, :3].T + motion[:3, 3], views.intrinsics[1])
    warp = Warp(views, 0, 1)
    column, row = warp.places((1 / depth).astype(np.float32))
    assert np.abs(np.stack([column, row], -1) + 0.5 - pixels).max() < 1e-3
    inside = ((pixels >= 0.5) & (pixels <= np.array(SIZE[::-1]) - 0.5)).all(-1)
    assert (warp.shows((1 / depth).astype(np.float32)) == inside).mean() > 0.999


def test_one_depth_for_all_pixels_is_a_plane(views: Views) -> None:
    warp = Warp(views, 0, 1)
    plane, pixels = (np.empty(SIZE, np.float32) for _ in range(2))
    warp.by_plane(0.4, plane)
    warp.by_pixel(np.full(SIZE, 0.4, np.float32), pixels)
    inner = warp.shows(np.full(SIZE, 0.4, np.float32))
    assert inner.mean() > 0.5
    assert np.median(np.abs(plane - pixels)[inner]) < 2.5  # places are rounded to 1/32 of a pixel, twice


def test_a_frame_warped_into_itself_is_itself(views: Views) -> None:
    same = np.empty(SIZE, np.float32)
    Warp(views, 0, 0).by_plane(0.7, same)
    assert np.abs(same[1:-1, 1:-1] - views.images[0][1:-1, 1:-1]).max() < 1e-2


def test_half_the_size_sees_the_same_rays(views: Views) -> None:
    small = halved(views, [1, 0])
    assert small.size == (23, 40) and np.array_equal(small.c2w[1], views.c2w[0])
    whole = views.intrinsics[1] / np.tile(SIZE[::-1], 2)
    assert small.intrinsics[0] / np.tile(small.size[::-1], 2) == pytest.approx(whole)
