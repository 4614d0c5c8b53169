"""The sweep on a single plane, whose depth is known in closed form."""

import numpy as np
import pytest

from annotate.depth.config import DepthConfig
from annotate.depth.sweep import sweep
from annotate.depth.views import Views, choose_neighbours, parallax, scene_depths
from annotate.synthetic.render import Renderer
from annotate.synthetic.scene import Scene, Surface
from annotate.synthetic.spec import Texture
from annotate.synthetic.texture import BORDER, paint
from dataset.camera import look_at, unproject

SIZE = (135, 240)
K = np.array([170.0, 170.0, 120.0, 67.5])
NORMAL = np.array([0.3, -0.2, 1.0])
POINT = np.array([0.0, 0.0, 3.0])


@pytest.fixture(scope="module")
def views():
    """Five cameras in a row before a slanted, textured plane."""
    rng = np.random.default_rng(0)
    right = np.cross([0, 1.0, 0], NORMAL)
    right /= np.linalg.norm(right)
    down = np.cross(NORMAL / np.linalg.norm(NORMAL), right)
    u, v = -8 * right, 8 * down
    plane = Surface(POINT - (u + v) / 2, u, v, np.full(3, 128.0))
    assert plane.normal[2] < 0  # towards the cameras
    plane.block, plane.texels = (BORDER, BORDER), (1000, 1000)
    level0 = np.zeros((1024, 1024, 3), np.uint8)
    level0[BORDER : BORDER + 1000, BORDER : BORDER + 1000] = paint(
        rng, (8.0, 8.0), (1000, 1000), plane.colour, Texture.rich)
    renderer = Renderer(Scene([plane], lambda: level0), SIZE)
    c2w = np.stack([look_at(np.array([0.12 * i - 0.24, 0.02 * i, 0.03 * i]), np.array([0.02 * i, 0, 3.0]))
                    for i in range(5)])
    images = np.stack([renderer.frame(pose, K, 0.0)[..., 1] for pose in c2w])
    return Views(images, np.tile(K, (5, 1)), c2w, np.ones(5, bool))


def exact(views, index):
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    c2w = views.c2w[index]
    rays = unproject(np.stack([x, y], -1), np.ones(SIZE), K) @ c2w[:3, :3].T
    return ((POINT - c2w[:3, 3]) @ NORMAL) / (rays @ NORMAL)


def test_a_slanted_plane_is_found_finer_than_the_spacing_of_the_hypotheses(views):
    config = DepthConfig(planes=32)
    found = sweep(views, 2, [0, 1, 3, 4], 2.0, 5.0, config)
    truth = exact(views, 2)
    inner = np.zeros(SIZE, bool)
    inner[8:-8, 8:-8] = True
    assert found.good[inner].mean() > 0.9
    error = (1 / found.depth - 1 / truth)[found.good & inner]
    spacing = (1 / 2.0 - 1 / 5.0) / 31
    assert np.median(np.abs(error)) < 0.15 * spacing
    assert abs(np.median(error)) < 0.05 * spacing
    relative = np.abs(found.depth / truth - 1)[found.good & inner]
    assert np.median(relative) < 0.006 and np.mean(relative > 0.05) < 0.01


def test_depth_outside_the_searched_range_is_not_claimed(views):
    found = sweep(views, 2, [0, 1, 3, 4], 6.0, 12.0, DepthConfig(planes=32))
    assert found.good.mean() < 0.1


def test_corners_tell_where_the_scene_lies(views):
    truth = exact(views, 2)
    for guess in (1.0, 3.0, 20.0):
        depths = scene_depths(views, 2, guess)
        assert len(depths) > 50
        assert truth.min() * 0.97 < np.percentile(depths, 3) < np.percentile(depths, 97) < truth.max() * 1.03


def test_parallax_is_that_of_the_translation_alone(views):
    turned = Views(views.images, views.intrinsics, views.c2w.copy(), views.usable)
    turned.c2w[:, :3, 3] = 0
    shift, _ = parallax(turned, 2, np.array([0, 1, 3, 4]), 3.0)
    assert np.abs(shift).max() < 1e-9
    shift, overlap = parallax(views, 2, np.array([0, 1, 3, 4]), 3.0)
    assert shift[0] == pytest.approx(2 * shift[1], rel=0.1)
    assert shift[1] == pytest.approx(0.126 * 170 / 3, rel=0.2)
    assert (overlap > 0.8).all()


def test_neighbours_lie_on_both_sides_and_not_where_nothing_shifts(views):
    chosen = choose_neighbours(views, 2, 3.0, 4)
    assert min(chosen) < 2 < max(chosen) and 2 not in chosen
    assert choose_neighbours(views, 2, 1000.0, 4) == []
