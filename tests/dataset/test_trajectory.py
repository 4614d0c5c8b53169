"""Alignment and pose errors: against evo's figures, against exact recovery, and through degenerate paths."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from dataset import trajectory
from dataset.camera import invert, relative, rotation_angle_deg
from dataset.trajectory import Alignment, PathShape

seeds = st.integers(0, 2**31)
scales = st.floats(0.01, 100)


def walk(seed: int, count: int = 60) -> np.ndarray:
    """A smooth curved walk with turning, (count, 4, 4)."""
    rng = np.random.default_rng(seed)
    u = np.linspace(0, 1, count)[:, None]
    c2w = np.tile(np.eye(4), (count, 1, 1))
    c2w[:, :3, 3] = u * (3, 0.4, 5) + rng.uniform(0.5, 1.5, 3) * np.sin(u * 5 + rng.uniform(0, 6, 3))
    c2w[:, :3, :3] = Rotation.from_rotvec(u * rng.normal(size=3) + 0.2 * np.sin(u * 9)).as_matrix()
    return c2w


def similarity(seed: int) -> tuple[np.ndarray, np.ndarray]:
    return (Rotation.random(random_state=seed).as_matrix(), np.random.default_rng(seed).normal(size=3) * 5)


def moved(c2w: np.ndarray, scale: float, rotation: np.ndarray, shift: np.ndarray) -> np.ndarray:
    result = c2w.copy()
    result[:, :3, 3] = scale * c2w[:, :3, 3] @ rotation.T + shift
    result[:, :3, :3] = rotation @ c2w[:, :3, :3]
    return result


def shaken(c2w: np.ndarray, seed: int, metres: float, degrees: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    result = c2w.copy()
    result[:, :3, 3] += rng.normal(size=(len(c2w), 3)) * metres
    turns = Rotation.from_rotvec(np.radians(degrees) * rng.normal(size=(len(c2w), 3)))
    result[:, :3, :3] = c2w[:, :3, :3] @ turns.as_matrix()
    return result


@pytest.mark.shared
@pytest.mark.parametrize("pair", ["tum_fr1_xyz_rgbdslam", "tum_fr1_xyz_rgbdslam_drift", "kitti_00_orb"])
@pytest.mark.parametrize("alignment", ["none", "se3", "sim3"])
def test_errors_equal_those_of_evo(shared_data: Path, pair: str, alignment: str):
    folder = shared_data / "trajectories"
    oracle = json.loads((folder / "oracle.json").read_text())["pairs"][pair]["variants"][alignment]
    estimate, truth = np.load(folder / f"{pair}_est.npy"), np.load(folder / f"{pair}_gt.npy")
    ate = trajectory.absolute_error(estimate, truth, alignment)
    errors = {"ate": ate, "rpe1": trajectory.relative_error(estimate, truth, 1, alignment),
              "rpe10": trajectory.relative_error(estimate, truth, 10, alignment)}
    for name, error in errors.items():
        for part, found in [("translation_m", error.translation), ("rotation_deg", error.rotation_deg)]:
            for statistic, expected in oracle[f"{name}_{part}"].items():
                value = found.count if statistic == "pairs" else getattr(found, statistic)
                assert value == pytest.approx(expected, rel=1e-6, abs=1e-9), (name, part, statistic)
    if alignment == "none":
        assert ate.sim3 is None
    else:
        assert ate.sim3.scale == pytest.approx(oracle["scale_applied_to_estimate"], abs=1e-12)
        assert np.allclose(ate.sim3.rotation, oracle["rotation"], atol=1e-12)
        assert np.allclose(ate.sim3.translation, oracle["translation"], atol=1e-10)


@given(seeds, scales)
def test_a_similarity_is_recovered_exactly(seed, scale):
    source, (rotation, shift) = walk(seed), similarity(seed)
    target = moved(source, scale, rotation, shift)
    sim3 = trajectory.align_tracks(source, target)
    assert sim3.scale == pytest.approx(scale, rel=1e-9)
    assert np.allclose(sim3.rotation, rotation, atol=1e-9) and np.allclose(sim3.translation, shift, atol=1e-7)
    assert sim3.shape is PathShape.GENERAL and sim3.refusal is None and sim3.inliers.all()
    assert np.allclose(trajectory.apply_sim3(sim3, source), target, atol=1e-7)
    assert np.allclose(trajectory.apply_sim3(sim3.inverse(), target), source, atol=1e-8)


@given(seeds, scales)
def test_turning_and_scaling_the_estimate_changes_no_error_after_sim3(seed, scale):
    truth = walk(seed)
    estimate = shaken(truth, seed, 0.05, 1.0)
    elsewhere = moved(estimate, scale, *similarity(seed))
    for metric in (trajectory.absolute_error, trajectory.relative_error):
        a, b = metric(estimate, truth), metric(elsewhere, truth)
        assert b.translation.rmse == pytest.approx(a.translation.rmse, rel=1e-6)
        assert b.rotation_deg.mean == pytest.approx(a.rotation_deg.mean, rel=1e-6)
    for alignment in (Alignment.SIM3, Alignment.FRAMEWISE):
        a, b = (trajectory.camera_control_error(e, truth, alignment) for e in (estimate, elsewhere))
        assert vars(b) == pytest.approx(vars(a), rel=1e-6)


@given(seeds, scales)
def test_the_share_of_path_has_no_unit(seed, scale):
    truth = walk(seed)
    estimate = shaken(truth, seed, 0.05, 1.0)
    bigger = moved(truth, scale, np.eye(3), np.zeros(3))
    assert trajectory.absolute_error(estimate, bigger).share_of_path == pytest.approx(
        trajectory.absolute_error(estimate, truth).share_of_path, rel=1e-6)


def test_noise_on_the_source_shrinks_the_scale_as_predicted_and_noise_on_the_target_does_not():
    rng = np.random.default_rng(0)
    exact = np.zeros((400, 3))
    exact[:, 0], exact[:, 1] = np.linspace(0, 0.3, 400), 0.05 * np.sin(np.linspace(0, 6, 400))
    spread2 = np.mean(np.sum((exact - exact.mean(0)) ** 2, axis=1))
    noisy = [exact + rng.normal(size=exact.shape) * 0.05 for _ in range(40)]
    shrunk = np.mean([trajectory.align_sim3(n, exact).scale for n in noisy])
    fair = np.mean([trajectory.align_sim3(exact, n).scale for n in noisy])
    predicted = spread2 / (spread2 + 3 * 0.05**2)
    assert shrunk == pytest.approx(predicted, rel=0.05) and predicted < 0.6
    assert fair == pytest.approx(1.0, abs=0.02)


@given(seeds)
@settings(max_examples=25)
def test_trimming_finds_the_scale_behind_gross_outliers(seed):
    source = walk(seed)[:, :3, 3]
    rng = np.random.default_rng(seed)
    target = 2.5 * source + (1, 2, 3) + rng.normal(size=source.shape) * 1e-3
    bad = rng.choice(len(source), 8, replace=False)
    target[bad] += rng.normal(size=(8, 3)) * 8
    plain, trimmed = trajectory.align_sim3(source, target), trajectory.align_sim3(source, target, 80)
    assert trimmed.scale == pytest.approx(2.5, rel=2e-3)
    assert not trimmed.inliers[bad].any() or trimmed.residual < 0.05 < plain.residual
    assert 45 <= trimmed.inliers.sum() <= 49 and trimmed.refusal is None


@given(seeds, st.floats(-180, 180))
@settings(max_examples=40)
def test_on_a_straight_path_the_orientations_settle_the_turn_about_it(seed, roll):
    source = walk(seed, 40)
    source[:, :3, 3] = np.linspace(0, 4, 40)[:, None] * np.array([0.6, 0.0, 0.8]) + (1, 2, 3)
    rotation, shift = similarity(seed)
    rotation = rotation @ Rotation.from_rotvec(np.radians(roll) * np.array([0.6, 0, 0.8])).as_matrix()
    sim3 = trajectory.align_tracks(source, moved(source, 0.7, rotation, shift))
    assert sim3.shape is PathShape.STRAIGHT and sim3.refusal is None
    assert sim3.scale == pytest.approx(0.7, rel=1e-9)
    assert rotation_angle_deg(sim3.rotation.T @ rotation) == pytest.approx(0, abs=1e-6)


def test_a_straight_noisy_path_keeps_its_scale_and_stays_upright():
    source = walk(3, 200)
    source[:, :3, 3] = np.linspace(0, 10, 200)[:, None] * np.array([0.0, 0, 1.0])
    target = shaken(moved(source, 3.0, *similarity(8)), 1, 0.02, 0.5)
    sim3 = trajectory.align_tracks(source, target)
    assert sim3.shape is PathShape.STRAIGHT
    assert sim3.scale == pytest.approx(3.0, rel=1e-3)
    assert rotation_angle_deg(sim3.rotation.T @ similarity(8)[0]) < 0.2


def test_a_driven_path_that_returns_on_itself_keeps_its_direction():
    line = np.concatenate([np.linspace(0, 5, 30), np.linspace(5, 1, 20)])
    source = np.tile(np.eye(4), (50, 1, 1))
    source[:, 2, 3] = line
    sim3 = trajectory.align_tracks(source, moved(source, 2.0, *similarity(4)))
    assert sim3.scale == pytest.approx(2.0) and np.allclose(sim3.rotation, similarity(4)[0])


def test_a_stationary_path_has_no_scale_and_still_gets_its_errors():
    turning = walk(1)
    turning[:, :3, 3] = (4.0, 5.0, 6.0)
    truth = moved(turning, 1.0, *similarity(2))
    sim3 = trajectory.align_tracks(turning, truth, 80)
    assert np.isnan(sim3.scale) and sim3.shape is PathShape.STATIONARY and "stationary" in sim3.refusal
    error = trajectory.absolute_error(turning, truth)
    assert error.translation.max < 1e-9 and error.rotation_deg.max < 1e-6 and np.isnan(error.share_of_path)
    with pytest.raises(ValueError, match="no inverse"):
        sim3.inverse()
    still, moving = np.tile(np.eye(4), (60, 1, 1)), walk(7)
    assert trajectory.absolute_error(still, moving).translation.rmse > 1.0
    assert np.isfinite(trajectory.camera_control_error(still, moving).cam_mc)
    assert np.isfinite(trajectory.absolute_error(moving, still).translation.rmse)


def test_refusals_say_why_with_the_numbers():
    path = walk(0)[:, :3, 3]
    rng = np.random.default_rng(0)
    assert "9 pairs" in trajectory.align_sim3(path[:9], path[:9]).refusal
    noise = rng.normal(size=path.shape)
    assert "noise" in trajectory.align_sim3(path, path + 2 * noise).refusal
    assert "0 pairs" in trajectory.align_sim3(path * np.nan, path).refusal


def test_times_decide_how_much_of_the_span_the_inliers_cover():
    path, times = walk(0)[:, :3, 3], np.concatenate([np.linspace(0, 1, 50), np.linspace(5, 10, 10)])
    target = path.copy()
    target[50:] += 4.0
    assert "drift" in trajectory.align_sim3(path, target, 80, times=times).refusal
    assert trajectory.align_sim3(path, target, 80).refusal is None


def test_frames_without_a_pose_are_left_out_and_the_count_says_so():
    truth = walk(4)
    estimate = moved(truth, 0.3, *similarity(1))
    estimate[[3, 17, 40]] = np.nan
    error = trajectory.absolute_error(estimate, truth)
    assert error.translation.count == 57 and error.translation.max < 1e-9
    assert trajectory.relative_error(estimate, truth).translation.count == 53


def test_framewise_alignment_is_least_squares_over_world_to_camera_translations():
    """Against a generic solver on the stated objective, with orientations that disagree."""
    truth = walk(6)
    estimate = shaken(moved(truth, 0.4, *similarity(3)), 2, 0.02, 4.0)
    w2c, wanted = invert(estimate), invert(truth)
    system = np.concatenate([w2c[:, :3, :3], w2c[:, :3, 3:]], axis=2).reshape(-1, 4)
    *offset, scale = np.linalg.lstsq(system, wanted[:, :3, 3].reshape(-1), rcond=None)[0]
    sim3 = trajectory.align_framewise(estimate, truth)
    aligned = trajectory.apply_sim3(sim3, estimate)
    turned = w2c[:, :3, :3] @ sim3.rotation.T
    shifted = np.einsum("nij,j->ni", w2c[:, :3, :3], np.array(offset)) + scale * w2c[:, :3, 3]
    centres = -np.einsum("nji,nj->ni", turned, shifted)
    assert sim3.scale == pytest.approx(scale, rel=1e-9)
    assert np.allclose(aligned[:, :3, 3], centres, atol=1e-9)
    assert sim3.refusal is not None


def test_camera_control_errors_of_known_disturbances():
    truth = relative(walk(2))
    turn = Rotation.from_rotvec([0, np.radians(3.0), 0]).as_matrix()
    estimate = truth.copy()
    estimate[1:, :3, :3] = truth[1:, :3, :3] @ turn
    error = trajectory.camera_control_error(estimate, truth, Alignment.NONE)
    assert error.rot_err_deg == pytest.approx(3.0 * 59 / 60)
    assert error.trans_err == pytest.approx(0.0)
    assert error.cam_mc == pytest.approx(np.linalg.norm(turn - np.eye(3)) * 59 / 60)
    estimate = truth.copy()
    estimate[1:, :3, 3] += (0.0, 0.3, 0.4)
    error = trajectory.camera_control_error(estimate, truth, Alignment.NONE)
    assert (error.trans_err, error.cam_mc) == pytest.approx((0.5 * 59 / 60, 0.5 * 59 / 60))


def test_the_rotation_error_to_the_first_frame_is_blind_to_a_constant_turn_only():
    truth = walk(9)
    turned = truth.copy()
    turned[:, :3, :3] = Rotation.random(random_state=1).as_matrix() @ truth[:, :3, :3]
    assert trajectory.rotation_error_to_first(turned, truth).max < 1e-6
    drifting = truth.copy()
    drifting[:, :3, :3] = truth[:, :3, :3] @ Rotation.from_rotvec(
        np.radians(np.linspace(0, 5, 60))[:, None] * (0, 1, 0)).as_matrix()
    assert trajectory.rotation_error_to_first(drifting, truth).max == pytest.approx(5.0)


def test_shapes_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="expected two"):
        trajectory.align_sim3(np.zeros((5, 3)), np.zeros((6, 3)))
    with pytest.raises(ValueError, match="1 or more"):
        trajectory.relative_error(walk(0), walk(0), 0)
