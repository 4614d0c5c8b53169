"""Curves and rotations through waypoints."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from pipelines.evaluation.spline import limit_turns, places_at, smooth, turns_at

SEEDS = st.integers(0, 2**16)


def walk(seed: int, count: int = 7) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).normal(size=(count, 3)), 0)


@given(SEEDS)
def test_the_path_meets_its_waypoints_when_they_are_due_and_turns_with_the_world(seed: int) -> None:
    points, times = walk(seed), np.cumsum(np.random.default_rng(seed).uniform(1, 3, 7))
    assert np.allclose(places_at(points, times, times), points, atol=2e-3)
    at = np.linspace(times[0], times[-1], 50)
    turn = Rotation.random(rng=np.random.default_rng(seed)).as_matrix()
    assert np.allclose(places_at(points @ turn.T, times, at), places_at(points, times, at) @ turn.T)


def test_through_points_on_a_line_the_path_is_the_line() -> None:
    points = np.outer([0, 1, 2.5, 3, 7], [1.0, 2.0, 2.0])
    found = places_at(points, np.arange(5.0), np.linspace(0, 4, 30))
    assert np.allclose(np.cross(found, [1, 2, 2]), 0) and (np.diff(found[:, 0]) > 0).all()


def test_waypoints_that_repeat_are_a_pause_and_a_path_of_one_point_stays_there() -> None:
    points, times = np.array([[0, 0, 0], [1, 0, 0], [1, 0, 0], [2, 0, 0.0]]), np.array([0.0, 1, 2, 3])
    assert np.allclose(places_at(points, times, np.linspace(1, 2, 9)), [1, 0, 0], atol=1e-5)
    assert np.allclose(places_at(np.ones((4, 3)), times, np.linspace(0, 3, 5)), 1)


def test_the_curve_is_run_through_by_its_length() -> None:
    angle = np.linspace(0, np.pi, 9)
    points = np.stack([np.cos(angle), np.sin(angle), 0 * angle], -1)
    steps = np.linalg.norm(np.diff(places_at(points, angle, np.linspace(0, np.pi, 200)), axis=0), axis=1)
    assert np.ptp(steps) / steps.mean() < 0.02


@given(SEEDS)
def test_squad_meets_its_rotations_whatever_their_signs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    turns = Rotation.from_rotvec(np.cumsum(rng.normal(scale=0.7, size=(6, 3)), 0))
    times = np.cumsum(rng.uniform(0.5, 2, 6))
    assert ((turns_at(turns, times, times).inv() * turns).magnitude() < 1e-6).all()
    flipped = Rotation.from_quat(turns.as_quat() * rng.choice([-1, 1], (6, 1)))
    at = np.linspace(times[0], times[-1], 40)
    assert ((turns_at(turns, times, at).inv() * turns_at(flipped, times, at)).magnitude() < 1e-6).all()


def test_about_one_axis_at_an_even_rate_squad_is_even() -> None:
    turns = Rotation.from_euler("Y", np.arange(6)[:, None] * 30, degrees=True)
    found = turns_at(turns, np.arange(6.0), np.linspace(0, 5, 51))
    assert np.allclose((found[:-1].inv() * found[1:]).magnitude(), np.radians(3))


@given(SEEDS, st.floats(0.01, 0.5))
def test_no_step_exceeds_the_bound_and_slow_turns_are_left_alone(seed: int, bound: float) -> None:
    steps = np.random.default_rng(seed).normal(scale=0.1, size=(40, 3))
    turns = Rotation.from_rotvec(np.cumsum(steps, 0))
    held = limit_turns(turns, bound)
    assert (held[:-1].inv() * held[1:]).magnitude().max() <= bound + 1e-9
    assert limit_turns(turns, np.pi) is turns


def test_smoothing_keeps_ends_and_lines_and_rounds_corners() -> None:
    line = np.linspace([0, 0], [3, 6], 30)
    assert np.allclose(smooth(line, 50), line)
    corner = np.concatenate([line, line[::-1][1:]])
    rounded = smooth(corner, 8)
    assert np.allclose(rounded[[0, -1]], corner[[0, -1]])
    before, after = (np.abs(np.diff(c, 2, axis=0)).max() for c in (corner, rounded))
    assert after < 0.4 * before


def test_variance_of_smoothing_is_half_a_frame_squared_a_round() -> None:
    impulse = np.zeros((401, 1))
    impulse[200] = 1
    spread = smooth(impulse, 64)[:, 0]
    frames = np.arange(401) - 200
    assert (spread * frames**2).sum() == pytest.approx(32, rel=1e-6)
