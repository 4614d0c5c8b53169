"""The reference renderer against what can be worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from annotate.splats.harmonics import colours, harmonics
from annotate.splats.render import BLUR_PX2, LEAST_ALPHA, CpuDrawing, rotation_matrices
from annotate.splats.scene import Splats
from dataset.camera import look_at

SIZE = (50, 70)
INTRINSICS = np.array([90.0, 80.0, 33.0, 27.5])
NEAR = 0.2


def splats(means: Any, scales: Any, opacities: Any, rgb: Any, rotations: Any = None) -> Splats:
    """Gaussians of one colour each, float64."""
    means = np.array(means, np.float64)
    sh = (np.array(rgb, np.float64)[:, None, :] - 0.5) * 2 * np.sqrt(np.pi)
    turns = np.tile([1.0, 0, 0, 0], (len(means), 1)) if rotations is None else np.array(rotations)
    return Splats(means, turns, np.broadcast_to(np.array(scales, np.float64), (len(means), 3)).copy(),
                  np.array(opacities, np.float64), sh)


def draw(scene: Splats, c2w: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    return CpuDrawing(scene, SIZE, NEAR).frame(np.eye(4) if c2w is None else c2w, INTRINSICS)


def profile(centre: Any, covariance: Any) -> np.ndarray:
    """(H, W) exp(-d' C^-1 d / 2) at pixel centres."""
    y, x = np.mgrid[:SIZE[0], :SIZE[1]] + 0.5
    d = np.stack([x - centre[0], y - centre[1]], -1)
    return np.exp(-0.5 * np.einsum("hwi,ij,hwj->hw", d, np.linalg.inv(covariance), d))


def seen(opacity: float, shape: np.ndarray) -> np.ndarray:
    alpha = opacity * shape
    return np.where(alpha < LEAST_ALPHA, 0, alpha)


def test_an_isotropic_gaussian_has_its_exact_profile() -> None:
    depth, sigma, opacity = 4.0, 0.3, 0.8
    rgb, alpha = draw(splats([[0, 0, depth]], sigma, [opacity], [[0.9, 0.5, 0.2]]))
    spread = np.diag((INTRINSICS[:2] * sigma / depth) ** 2 + BLUR_PX2)
    expected = seen(opacity, profile(INTRINSICS[2:], spread))
    np.testing.assert_allclose(alpha, expected, atol=1e-12)
    np.testing.assert_allclose(rgb, expected[..., None] * [0.9, 0.5, 0.2], atol=1e-12)
    assert alpha.max() > 0.79 and (alpha == 0).any()


def test_an_anisotropic_gaussian_turns_with_its_quaternion() -> None:
    """Off the axis of view, where the slope of the projection has all its terms."""
    centre, scale = np.array([0.4, -0.3, 3.0]), np.array([0.5, 0.1, 0.2])
    turn = Rotation.from_euler("xyz", [0.4, 0.7, -0.5])
    _, alpha = draw(splats([centre], scale, [0.9], [[1, 1, 1]], turn.as_quat()[None, [3, 0, 1, 2]]))
    world = turn.as_matrix() @ np.diag(scale**2) @ turn.as_matrix().T
    (x, y, z), (fx, fy, cx, cy) = centre, INTRINSICS
    slope = np.array([[fx / z, 0, -fx * x / z**2], [0, fy / z, -fy * y / z**2]])
    spread = slope @ world @ slope.T + BLUR_PX2 * np.eye(2)
    expected = seen(0.9, profile([fx * x / z + cx, fy * y / z + cy], spread))
    np.testing.assert_allclose(alpha, expected, atol=1e-12)


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_two_gaussians_blend_in_order_of_depth_whatever_their_order_in_the_file(order: list[int]) -> None:
    means = np.array([[0.1, 0.0, 3.0], [0.0, 0.05, 5.0]])[order]
    opacities, paint = np.array([0.6, 0.9])[order], np.array([[1.0, 0, 0], [0, 0, 1.0]])[order]
    rgb, alpha = draw(splats(means, 0.3, opacities, paint))
    near, far = (
        seen(o, profile(INTRINSICS[:2] * m[:2] / m[2] + INTRINSICS[2:], _spread(m, 0.3)))
        for m, o in (([0.1, 0.0, 3.0], 0.6), ([0.0, 0.05, 5.0], 0.9)))
    np.testing.assert_allclose(rgb[..., 0], near, atol=1e-12)
    np.testing.assert_allclose(rgb[..., 2], far * (1 - near), atol=1e-12)
    np.testing.assert_allclose(alpha, 1 - (1 - near) * (1 - far), atol=1e-12)


def _spread(mean: Any, sigma: float) -> np.ndarray:
    (x, y, z), (fx, fy) = mean, INTRINSICS[:2]
    slope = np.array([[fx / z, 0, -fx * x / z**2], [0, fy / z, -fy * y / z**2]])
    return sigma**2 * slope @ slope.T + BLUR_PX2 * np.eye(2)


def test_what_is_behind_the_camera_or_too_near_is_not_drawn() -> None:
    rgb, alpha = draw(splats([[0, 0, -3], [0, 0, NEAR], [0, 0, 0.5 * NEAR]], 0.3, [0.9] * 3, [[1, 1, 1]] * 3))
    assert not rgb.any() and not alpha.any()


def test_behind_an_opaque_wall_nothing_shows() -> None:
    wall = [[0.0, 0.0, 2.0 + 0.01 * k] for k in range(8)]
    rgb, alpha = draw(splats([*wall, [0, 0, 5]], [[5, 5, 0.01]] * 8 + [[1, 1, 1]], [0.9] * 8 + [0.99],
                             [[0, 1, 0]] * 8 + [[1, 0, 0]]))
    assert rgb[..., 0].max() < 1e-12 and alpha.min() > 0.999


def test_the_image_is_the_blend_of_all_gaussians_pixel_by_pixel() -> None:
    """Without tiles, batches or early ends but those of the definition."""
    scene = _cloud(150, 3)
    c2w = look_at([0.3, -0.4, -5.0], [0.2, 0.0, 0.0])
    rgb, alpha = draw(scene, c2w)
    drawing = CpuDrawing(scene, SIZE, NEAR)
    found = drawing.project(c2w, INTRINSICS)
    colour, through, open_ = np.zeros((*SIZE, 3)), np.ones(SIZE), np.ones(SIZE, bool)
    for centre, (xx, xy, yy), opacity, paint in zip(found.centres, found.conics, found.opacities, found.rgb):
        shape = profile(centre, np.linalg.inv([[xx, xy], [xy, yy]]))
        a = np.minimum(0.999, seen(opacity, shape))
        open_ &= through * (1 - a) > 1e-4
        colour += np.where(open_, a * through, 0)[..., None] * paint
        through = np.where(open_, through * (1 - a), through)
    np.testing.assert_allclose(rgb, colour, atol=1e-11)
    np.testing.assert_allclose(alpha, 1 - through, atol=1e-11)


def test_a_scene_and_its_camera_turned_together_give_the_same_picture() -> None:
    """Colours turn too: harmonics of one degree, turned, are harmonics of that degree."""
    scene, c2w = _cloud(60, 3), look_at([0.3, -0.4, -5.0], [0.2, 0.0, 0.0])
    turn = Rotation.from_euler("xyz", [0.5, -1.1, 2.0])
    move = np.eye(4)
    move[:3, :3], move[:3, 3] = turn.as_matrix(), [3.0, -1.0, 2.0]
    xyzw = (turn * Rotation.from_quat(scene.rotations[:, [1, 2, 3, 0]])).as_quat()
    turned = Splats(scene.means @ move[:3, :3].T + move[:3, 3], xyzw[:, [3, 0, 1, 2]], scene.scales,
                    scene.opacities, _turned_sh(scene.sh, move[:3, :3]))
    for a, b in zip(draw(scene, c2w), draw(turned, move @ c2w)):
        np.testing.assert_allclose(a, b, atol=1e-10)


def _turned_sh(sh: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Coefficients of the turned colours; fails unless they lie in the span of each degree."""
    directions = np.random.default_rng(0).normal(size=(300, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    basis, before = harmonics(directions, 16), harmonics(directions @ rotation, 16)
    turned = np.empty_like(sh)
    for low, high in ((0, 1), (1, 4), (4, 9), (9, 16)):
        matrix, residual = np.linalg.lstsq(basis[:, low:high], before[:, low:high], rcond=None)[:2]
        assert residual.max() < 1e-20
        turned[:, low:high] = np.einsum("ij,njc->nic", matrix, sh[:, low:high])
    return turned


def test_the_harmonics_are_orthonormal() -> None:
    nodes, weights = np.polynomial.legendre.leggauss(8)
    angle = np.arange(16) / 16 * 2 * np.pi
    z, phi = (a.ravel() for a in np.meshgrid(nodes, angle, indexing="ij"))
    side = np.sqrt(1 - z**2)
    basis = harmonics(np.stack([side * np.cos(phi), side * np.sin(phi), z], -1), 16)
    gram = (basis * (np.repeat(weights, 16) * 2 * np.pi / 16)[:, None]).T @ basis
    np.testing.assert_allclose(gram, np.eye(16), atol=1e-12)


def test_colours_are_half_grey_without_coefficients_and_never_negative() -> None:
    ahead = np.array([[0.0, 0, 1]])
    assert colours(np.zeros((1, 9, 3)), ahead).tolist() == [[0.5, 0.5, 0.5]]
    assert (colours(np.full((1, 1, 3), -9.0), ahead) == 0).all()


def test_float32_scenes_are_drawn_as_float64_ones() -> None:
    scene, c2w = _cloud(200, 2), look_at([0.3, -0.4, -5.0], [0.2, 0.0, 0.0])
    single = Splats(*(getattr(scene, name).astype(np.float32) for name in
                      ("means", "rotations", "scales", "opacities", "sh")))
    rgb, alpha = draw(single, c2w)
    assert rgb.dtype == alpha.dtype == np.float32
    np.testing.assert_allclose(rgb, draw(scene, c2w)[0], atol=2e-3)


def test_projection_and_colours_are_those_of_gsplat() -> None:
    """Against the functions in plain torch that gsplat keeps beside its kernels."""
    twins = pytest.importorskip("gsplat.cuda._torch_impl", reason="gsplat is not installed")
    import torch

    scene, c2w = _cloud(300, 3), look_at([0.3, -0.4, -5.0], [0.2, 0.0, 0.0])
    fx, fy, cx, cy = INTRINSICS
    arrays = scene.means, scene.rotations, scene.scales, scene.sh
    means, turns, scales, sh = (torch.from_numpy(a) for a in arrays)
    spreads, _ = twins._quat_scale_to_covar_preci(turns, scales, True, False)
    matrix = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]], dtype=torch.float64)
    _, centres, depths, conics, _ = twins._fully_fused_projection(
        means, spreads, torch.from_numpy(np.linalg.inv(c2w))[None], matrix[None], SIZE[1], SIZE[0],
        eps2d=BLUR_PX2, near_plane=NEAR)
    paint = twins._spherical_harmonics(3, means - torch.from_numpy(c2w[:3, 3]), sh).numpy().clip(-0.5) + 0.5
    found = CpuDrawing(scene, SIZE, NEAR).project(c2w, INTRINSICS)
    apart = np.linalg.norm(found.centres[:, None] - centres[0].numpy(), axis=-1)
    same = apart.argmin(1)
    assert len(set(same)) == len(same) > 100 and apart.min(1).max() < 1e-10
    assert (np.diff(depths[0].numpy()[same]) >= 0).all()
    np.testing.assert_allclose(found.conics, conics[0].numpy()[same], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.rgb, paint[same], atol=1e-12)


def test_rotation_matrices_are_those_of_the_quaternions() -> None:
    xyzw = Rotation.random(20, random_state=0).as_quat()
    np.testing.assert_allclose(rotation_matrices(xyzw[:, [3, 0, 1, 2]]), Rotation.from_quat(xyzw).as_matrix(),
                               atol=1e-12)


def _cloud(count: int, degree: int) -> Splats:
    rng = np.random.default_rng(5)
    turns = Rotation.random(count, random_state=1).as_quat()[:, [3, 0, 1, 2]]
    return Splats(rng.normal(0, 1.2, (count, 3)), turns, np.exp(rng.normal(-1.5, 0.7, (count, 3))),
                  rng.uniform(0.05, 0.99, count), rng.normal(0, 0.3, (count, (degree + 1) ** 2, 3)))
