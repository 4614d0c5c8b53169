import cv2
import numpy as np
import pytest

from annotate.synthetic import SyntheticSpec, render_sequence
from annotate.synthetic.render import Renderer
from annotate.synthetic.scene import Scene, Surface
from annotate.synthetic.texture import BORDER
from dataset.camera import invert, look_at, project, unproject

SIZE = (90, 160)
K = np.array([110.0, 110.0, 80.0, 45.0])


def square(origin, u, v, block, texels):
    surface = Surface(np.array(origin, float), np.array(u, float), np.array(v, float), np.zeros(3))
    surface.block, surface.texels = block, texels
    return surface


def two_squares():
    """A wall 4 m ahead, 6 m wide, with a smaller square 2 m ahead; textures are plain grey 60 and 200."""
    level0 = np.zeros((128, 256, 3), np.uint8)
    level0[:, :128], level0[:, 128:] = 60, 200
    # u x v points to the camera.
    wall = square([3, -3, 4], [-6, 0, 0], [0, 6, 0], (BORDER, BORDER), (100, 100))
    panel = square([0.5, -0.4, 2], [-1, 0, 0], [0, 0.8, 0], (128 + BORDER, BORDER), (100, 100))
    return Scene([wall, panel], lambda: level0)


def inverse_depth_at(plane_point, normal, c2w, intrinsics, size):
    """1/z of a plane at every pixel centre, by intersecting rays."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    rays = unproject(np.stack([x, y], -1), np.ones(size), intrinsics) @ c2w[:3, :3].T
    return rays @ normal / ((plane_point - c2w[:3, 3]) @ normal)


@pytest.mark.parametrize("centre", [(0.0, 0, 0), (0.7, -0.3, 0.4), (-1.1, 0.5, -1.0)])
def test_depth_is_the_intersection_of_the_ray_through_the_pixel_centre(centre):
    renderer = Renderer(two_squares(), SIZE)
    c2w = look_at(np.array(centre), np.array([0.1, 0.1, 3.0]))
    depth = renderer.depth(c2w, K, 0.0)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    seen = np.isfinite(depth)
    z = np.where(seen, depth, 1e6).astype(np.float64)
    world = unproject(np.stack([x, y], -1), z, K) @ c2w[:3, :3].T + c2w[:3, 3]
    on_panel = np.abs(world[..., 2] - 2) < 1e-3
    forward = np.array([0, 0, 1.0])
    near, far = (inverse_depth_at(z * forward, forward, c2w, K, SIZE) for z in (2, 4))
    expected = np.where(on_panel, near, far)
    assert 1 / depth[seen] == pytest.approx(expected[seen], rel=1e-5)
    assert seen.mean() > 0.7 and 0.02 < on_panel.mean() < 0.5
    # The panel covers exactly the pixels whose rays meet it.
    point = unproject(np.stack([x, y], -1), 1 / near, K) @ c2w[:3, :3].T + c2w[:3, 3]
    inside = (np.abs(point[..., 0]) < 0.5) & (np.abs(point[..., 1]) < 0.4)
    assert (inside == on_panel).all()


def test_an_edge_is_antialiased_and_stands_where_it_projects():
    """Brightness across a vertical edge integrates to the edge's place, at any fraction of a pixel."""
    renderer = Renderer(two_squares(), SIZE)
    errors = []
    for shift in np.linspace(0, 0.02, 9):
        c2w = np.eye(4)
        c2w[0, 3] = shift
        row = renderer.frame(c2w, K, 0.0)[45, :, 0].astype(float)
        right = (0.5 - shift) / 2 * K[0] + K[2]
        bright = (row[80:140] - 60) / 140
        errors.append(80 + bright.sum() - right)
    assert np.abs(errors).max() < 0.3
    assert np.ptp(errors) > 0  # the image follows the edge in steps finer than a pixel
    assert np.std(errors) < 0.15


def test_a_plane_crossing_the_camera_is_clipped_and_one_behind_it_vanishes():
    floor = square([-5, 1, -5], [10, 0, 0], [0, 0, 10], (BORDER, BORDER), (100, 100))
    assert floor.normal[1] < 0
    renderer = Renderer(Scene([floor], two_squares().paint_atlas), SIZE)
    depth = renderer.depth(np.eye(4), K, 0.0)
    expected = inverse_depth_at(np.array([0, 1.0, 0]), np.array([0, 1.0, 0]), np.eye(4), K, SIZE)
    near = (1 / expected < 4.99) & (expected > 0)
    near &= np.abs((np.arange(160) + 0.5 - 80) / 110 / np.where(expected > 0, expected, 1)) < 4.99
    assert 1 / depth[near] == pytest.approx(expected[near], rel=1e-5)
    assert np.isinf(depth[:45]).all()
    turned = look_at(np.zeros(3), np.array([0, -1.0, -0.1]))
    assert np.isinf(renderer.depth(turned, K, 0.0)).all()


def residuals(images, track, depth, i, j):
    """Grey-level differences of frame i and frame j carried into it, where both see the same point."""
    height, width = track.size
    y, x = np.mgrid[:height, :width] + 0.5
    z = depth(i).astype(np.float64)
    known = np.isfinite(z)
    points = unproject(np.stack([x, y], -1), np.where(known, z, 1.0), track.intrinsics[i])
    motion = invert(track.c2w[j]) @ track.c2w[i]
    points = points @ motion[:3, :3].T + motion[:3, 3]
    pixels = project(points, track.intrinsics[j]).astype(np.float32) - 0.5
    carried = cv2.remap(images[j], pixels[..., 0], pixels[..., 1], cv2.INTER_LINEAR)
    # Inverse depth is linear within a surface, so interpolation is exact there.
    other = cv2.remap(1 / depth(j), pixels[..., 0], pixels[..., 1], cv2.INTER_LINEAR)
    inside = (pixels >= 1).all(-1) & (pixels[..., 0] < width - 2) & (pixels[..., 1] < height - 2)
    mismatch = np.abs(other * points[..., 2] - 1)
    seen = known & inside & (mismatch < 0.02)
    return np.abs(carried.astype(int) - images[i]).mean(-1)[seen], mismatch[seen], seen.mean()


@pytest.mark.parametrize("uri", [
    "synthetic://room-walk?seed=3", "synthetic://room-orbit?zoom=1.4", "synthetic://street-walk",
    "synthetic://street-s_curve", "synthetic://room-rotation_only",
])
def test_images_depth_and_cameras_agree(uri):
    images, track, depth = render_sequence(SyntheticSpec.parse(uri), 6, 320, 180)
    for i, j in ((0, 1), (4, 1)):
        difference, mismatch, share = residuals(images, track, depth, i, j)
        unmoved = np.abs(images[i].astype(int) - images[j]).mean()
        assert share > 0.5
        assert np.median(mismatch) < 2e-5
        assert np.median(difference) < 0.2 * unmoved
    late = track.c2w.copy()
    track.c2w = np.roll(late, 1, axis=0)
    assert np.median(residuals(images, track, depth, 4, 2)[0]) > np.median(difference)


def test_only_the_moving_box_moves():
    plain = SyntheticSpec.parse("synthetic://room-static?seed=2")
    moving = SyntheticSpec.parse("synthetic://room-static?seed=2&moving=true")
    still, _, _ = render_sequence(plain, 40, 160, 90)
    images, track, depth = render_sequence(moving, 40, 160, 90)
    assert (still == still[0]).all()
    changed = (images[15] != images[25]).any(-1)
    assert 0.01 < changed.mean() < 0.6
    assert (depth(15)[~changed] == depth(25)[~changed]).mean() > 0.95
    assert (track.c2w == track.c2w[0]).all()


def test_texture_kinds_are_what_they_say():
    def detail(kind):
        images, _, _ = render_sequence(
            SyntheticSpec.parse(f"synthetic://room-static?seed=5&texture={kind}"), 1, 320, 180)
        return cv2.Laplacian(cv2.cvtColor(images[0], cv2.COLOR_RGB2GRAY), cv2.CV_64F).std()

    assert detail("low") < 0.25 * detail("rich")
    assert detail("repeated") > 0.5 * detail("rich")
