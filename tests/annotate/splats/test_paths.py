"""Paths of all families, through scenes of all kinds: inside the zone, level, no faster than allowed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from annotate.splats.cameras import TrainingCameras
from annotate.splats.curves import blend, ease, spline, squad, upright
from annotate.splats.fitting import FittedPath, Limits, fit_path, slowed
from annotate.splats.paths import FREE, Family, Frame, draw, family_of
from annotate.splats.scene import SceneError, Splats
from annotate.splats.statistics import SceneStatistics, measure_scene
from dataset.camera import check_c2w, look_at, rotation_angle_deg

FRAMES, FPS = 121, 16
KINDS = ("circle", "walk", "cloud", "forward")


def cameras_of(kind: str, seed: int, count: int = 40) -> TrainingCameras:
    """Around a thing, along a street, all over a room, or side by side, in a world of any size and turn."""
    rng = np.random.default_rng(seed)
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    if kind == "circle":
        centres = np.stack([3 * np.cos(angle), -1 + 0.3 * rng.random(count), 3 * np.sin(angle)], -1)
        targets = np.zeros((count, 3))
    elif kind == "walk":
        centres = np.stack([np.sin(angle), np.full(count, -1.6), np.linspace(0, 12, count)], -1)
        targets = centres + [0.1, 0.1, 1.0]
    elif kind == "cloud":
        centres = rng.uniform([-3, -2, -3], [3, -1, 3], (count, 3))
        targets = centres + np.stack([np.cos(angle), np.full(count, 0.1), np.sin(angle)], -1)
    else:
        centres = rng.uniform([-1, -1, 0], [1, 0, 0.2], (count, 3))
        targets = centres + [0.0, 0.0, 5.0]
    c2w = look_at(centres, targets)
    world = np.eye(4)
    world[:3, :3] = Rotation.random(random_state=seed).as_matrix()
    c2w = world @ c2w
    c2w[:, :3, 3] = c2w[:, :3, 3] * np.exp(rng.uniform(-2, 2)) + rng.normal(0, 5, 3)
    return TrainingCameras(c2w, np.full(count, 65.0))


def scene_of(kind: str, seed: int) -> SceneStatistics:
    cameras = cameras_of(kind, seed)
    reach = np.ptp(cameras.centres, axis=0).max()
    means = np.random.default_rng(seed).normal(cameras.centres.mean(0), reach, (200, 3))
    ones = np.ones((200, 1))
    splats = Splats(means, np.tile([1.0, 0, 0, 0], (200, 1)), ones.repeat(3, 1), ones[:, 0], ones[:, None])
    return measure_scene(splats, np.arange(200), cameras, 0.35)


@settings(max_examples=25)
@given(st.sampled_from(KINDS), st.integers(0, 10**6))
def test_every_path_stays_in_the_zone_and_within_its_speeds(kind: str, seed: int) -> None:
    scene = scene_of(kind, seed)
    limits = Limits(0.25 * scene.radius, 12.0)
    for candidate in (seed % 10, *range(10, 18)):
        path = fit_path(candidate, 10, scene, FRAMES, FPS, limits, seed)
        if isinstance(path, str):
            continue
        c2w = check_c2w(path.c2w, "path")
        assert c2w.shape == (FRAMES, 4, 4)
        distance = np.linalg.norm(c2w[:, None, :3, 3] - scene.cameras.centres, axis=2).min(1)
        assert distance.max() <= 0.35 * scene.radius * (1 + 1e-9)
        steps = np.linalg.norm(np.diff(c2w[:, :3, 3], axis=0), axis=1)
        turns = rotation_angle_deg(c2w[:-1, :3, :3].swapaxes(1, 2) @ c2w[1:, :3, :3])
        assert steps.max() * FPS <= limits.speed * (1 + 1e-6)
        assert turns.max() * FPS <= limits.turn_deg * (1 + 1e-6)
        assert steps.sum() >= 0.02 * scene.radius * (1 - 1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_most_candidates_find_a_path_and_all_families_do(kind: str) -> None:
    scene = scene_of(kind, 3)
    limits = Limits(0.25 * scene.radius, 12.0)
    found = [fit_path(k, 10, scene, FRAMES, FPS, limits, 0) for k in range(40)]
    paths = [path for path in found if isinstance(path, FittedPath)]
    assert len(paths) >= 36
    assert {path.family for path in paths} == set(Family)


def test_forty_candidates_are_ten_along_the_cameras_and_thirty_of_eight_families_in_turn() -> None:
    families = [family_of(k, 10) for k in range(40)]
    assert families.count(Family.near_original) == 10 and set(families[10:]) == set(FREE)
    assert {families[10:].count(family) for family in FREE} == {3, 4}


@pytest.mark.parametrize("candidate", [0, 12, 17])
def test_a_candidate_is_the_same_whenever_it_is_drawn(candidate: int) -> None:
    scene, limits = scene_of("walk", 1), Limits(1.0, 12.0)
    first, again = (fit_path(candidate, 10, scene, FRAMES, FPS, limits, 5) for _ in range(2))
    assert isinstance(first, FittedPath) and isinstance(again, FittedPath)
    assert (first.c2w == again.c2w).all()
    other = fit_path(candidate, 10, scene, FRAMES, FPS, limits, 6)
    assert isinstance(other, FittedPath) and not (first.c2w == other.c2w).all()


@pytest.mark.parametrize("family", [f for f in Family if f is not Family.near_original])
def test_in_a_forward_facing_scene_every_free_family_looks_at_its_middle(family: Family) -> None:
    scene = scene_of("forward", 2)
    assert scene.forward_facing and not scene_of("circle", 2).forward_facing
    draft = draw(family, Frame(scene, FRAMES, FPS, 1.0, np.random.default_rng(1)))
    ahead = draft.view(draft.positions)[:, :, 2]
    towards = scene.target - draft.positions
    rise = np.abs(towards @ scene.up) / np.linalg.norm(towards, axis=1)
    aligned = (ahead * towards).sum(1) / np.linalg.norm(towards, axis=1)
    assert (aligned[rise < 0.96] > 1 - 1e-9).all()


def test_an_orbit_keeps_its_distance_and_looks_at_the_middle() -> None:
    scene = scene_of("circle", 4)
    draft = draw(Family.orbit, Frame(scene, FRAMES, FPS, 1.0, np.random.default_rng(0)))
    spread = draft.positions - draft.positions.mean(0)
    assert np.abs(spread @ scene.up).max() < 1e-9 * scene.radius
    ahead = draft.view(draft.positions)
    towards = scene.target - draft.positions
    assert ((ahead[:, :, 2] * towards).sum(1) / np.linalg.norm(towards, axis=1)).min() > 1 - 1e-9
    assert np.abs(ahead[:, :, 0] @ scene.up).max() < 1e-9  # level


def test_a_compound_path_has_no_jump_where_its_parts_meet() -> None:
    scene = scene_of("circle", 6)
    for seed in range(8):
        draft = draw(Family.compound, Frame(scene, 600, FPS, 1.0, np.random.default_rng(seed)))
        speed = np.linalg.norm(np.diff(draft.positions, axis=0), axis=1)
        assert np.abs(np.diff(speed)).max() < 0.2 * speed.max() + 1e-4 * scene.radius


def test_statistics_do_not_depend_on_the_world_they_are_measured_in() -> None:
    cameras = cameras_of("circle", 8)
    means = np.random.default_rng(0).normal(cameras.centres.mean(0), 2, (300, 3))
    move = np.eye(4)
    move[:3, :3], move[:3, 3] = Rotation.random(random_state=9).as_matrix(), [4, -2, 7]
    first, second = (
        measure_scene(Splats(m, np.zeros((300, 4)), np.ones((300, 3)), np.ones(300), np.ones((300, 1, 3))),
                      np.arange(300), TrainingCameras(c, cameras.fov_x_deg), 0.35)
        for m, c in ((means, cameras.c2w), (means @ move[:3, :3].T + move[:3, 3], move @ cameras.c2w)))
    assert second.radius == pytest.approx(first.radius)
    np.testing.assert_allclose(second.up, move[:3, :3] @ first.up, atol=1e-9)
    np.testing.assert_allclose(second.centroid, move[:3, :3] @ first.centroid + move[:3, 3], atol=1e-9)
    np.testing.assert_allclose(second.heights, first.heights, atol=1e-9)


@pytest.mark.parametrize(("change", "code"), [
    (lambda c2w, means: (c2w[:9], means), "few_cameras"),
    (lambda c2w, means: (np.tile(c2w[:1], (20, 1, 1)), means), "one_place"),
    (lambda c2w, means: (c2w, means * [1, 0, 1]), "flat_scene"),
    (lambda c2w, means: (np.concatenate([c2w, c2w @ np.diag([-1.0, -1, 1, 1])]), means), "no_up"),
])
def test_scenes_without_paths_are_refused_with_a_reason(change, code: str) -> None:
    means = np.random.default_rng(0).normal(0, 2, (300, 3))
    c2w, means = change(cameras_of("circle", 1).c2w, means)
    splats = Splats(means, np.zeros((300, 4)), np.ones((300, 3)), np.ones(300), np.ones((300, 1, 3)))
    with pytest.raises(SceneError) as found:
        measure_scene(splats, np.arange(300), TrainingCameras(c2w, np.full(len(c2w), 60.0)), 0.35)
    assert found.value.code == code


def test_a_spline_runs_through_its_waypoints_at_even_speed() -> None:
    rng = np.random.default_rng(2)
    waypoints = np.cumsum(rng.normal(0, 1, (7, 3)), axis=0)
    rotations = Rotation.random(7, random_state=3).as_matrix()
    positions, parameter = spline(waypoints, 4000)
    for k in range(7):
        assert np.linalg.norm(positions - waypoints[k], axis=1).min() < 0.01
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    assert steps.max() < 1.02 * steps.mean()
    np.testing.assert_allclose(squad(rotations, np.arange(7.0)), rotations, atol=1e-9)
    turns = squad(rotations, np.linspace(0, 6, 4001))
    rates = rotation_angle_deg(turns[:-1].swapaxes(1, 2) @ turns[1:])
    assert np.abs(np.diff(rates)).max() < 0.02 * rates.max()  # no kink at a waypoint
    assert parameter[0] == 0 and parameter[-1] == pytest.approx(6)


def test_rotations_that_drift_apart_are_blended_without_a_flip() -> None:
    angle = np.linspace(0, 300, 200)  # passes the half turn, behind which the other way is shorter
    first = Rotation.from_rotvec(np.radians(angle)[:, None] * [0.0, 1.0, 0.0]).as_matrix()
    second = np.tile(Rotation.from_rotvec([0.35, 0.0, 0.0]).as_matrix(), (200, 1, 1))
    mixed = blend(first, second, ease(np.linspace(0, 1, 200)))
    np.testing.assert_allclose(mixed[[0, -1]], [first[0], second[-1]], atol=1e-9)
    assert rotation_angle_deg(mixed[:-1].swapaxes(1, 2) @ mixed[1:]).max() < 6


def test_a_slow_path_keeps_its_time_and_a_fast_one_its_shape() -> None:
    c2w = np.tile(np.eye(4), (100, 1, 1))
    c2w[:, 0, 3] = 10 * ease(np.linspace(0, 1, 100))
    assert (slowed(c2w, 10, Limits(100.0, 90.0)) == c2w).all()
    slow = slowed(c2w, 10, Limits(0.5, 90.0))
    steps = np.diff(slow[:, 0, 3])
    assert steps.max() <= 0.05 * (1 + 1e-6) and (slow[:, 1:3, 3] == 0).all() and slow[-1, 0, 3] < 5


def test_level_views_bear_any_direction() -> None:
    up = np.array([0.0, -1, 0])
    forward = np.array([[0, 0, 1], [0, 1, 0], [0, -1, 1e-9], [0, 0, 0], [1, 1, 1]], np.float64)
    rotations = upright(forward, up)
    gram = rotations @ rotations.swapaxes(1, 2)
    np.testing.assert_allclose(gram, np.tile(np.eye(3), (5, 1, 1)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotations), 1)
    assert np.abs(rotations[:, :, 0] @ up).max() < 1e-12
    assert (rotations[:, :, 1] @ up < 0).all()  # the image's y points down
    np.testing.assert_allclose(rotations[4, :, 2], np.ones(3) / np.sqrt(3))
