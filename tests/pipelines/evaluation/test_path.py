"""Templates become smooth paths within the bounds of the benchmark; collisions slow them down."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dataset.camera import rotation_angle_deg
from pipelines.evaluation.path import (
    FRAMES,
    PathCollides,
    PathConfig,
    Surroundings,
    scene_path,
    speeds,
    turn_rates,
    unit_path,
)
from pipelines.evaluation.templates import TEMPLATES, Split, Template

ALL = pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
WIDE = Surroundings(20.0, None)  # so deep that the bound on speed decides
NEAR = Surroundings(4.0, None)


def test_there_are_ten_templates_of_either_split() -> None:
    assert [t.split for t in TEMPLATES.values()] == [Split.simple] * 10 + [Split.hard] * 10


@ALL
def test_a_template_has_11_to_15_waypoints_over_a_minute_and_begins_level_at_the_origin(
    template: Template,
) -> None:
    assert 11 <= len(template.waypoints) <= 15 and all(len(point) == 6 for point in template.waypoints)
    assert template.times[0] == 0 and template.times[-1] == 60 and (np.diff(template.times) > 0).all()
    assert not template.places[0].any() and not template.yaw_pitch_deg[0].any()
    assert np.linalg.norm(template.places, axis=1).max() < 1.005


@ALL
@pytest.mark.parametrize("around", [NEAR, WIDE], ids=["near", "wide"])
def test_a_path_keeps_its_bounds_and_is_smooth(template: Template, around: Surroundings) -> None:
    config = PathConfig()
    c2w = scene_path(template, around, config).c2w
    assert c2w.shape == (FRAMES, 4, 4) and np.array_equal(c2w[0], np.eye(4))
    assert speeds(c2w).max() <= config.speed * (1 + 1e-9)
    assert turn_rates(c2w).max() <= config.turn * (1 + 1e-9)
    assert np.linalg.norm(c2w[:, :3, 3], axis=1).max() <= config.reach * around.depth * 1.005
    faster = np.linalg.norm(np.diff(c2w[:, :3, 3], 2, axis=0), axis=1) * 16**2
    assert faster.max() < 1.0  # m/s²
    steps = Rotation.from_matrix(c2w[:-1, :3, :3].swapaxes(1, 2) @ c2w[1:, :3, :3]).as_rotvec(degrees=True)
    assert np.linalg.norm(np.diff(steps, axis=0), axis=1).max() * 16**2 < 6.0  # degrees/s²


@ALL
def test_a_path_meets_its_waypoints(template: Template) -> None:
    c2w = unit_path(template)
    met = np.round(template.times * 16).astype(int)
    assert np.linalg.norm(c2w[met, :3, 3] - template.places, axis=1).max() < 0.02
    wanted = Rotation.from_euler("YX", template.yaw_pitch_deg, degrees=True).as_matrix()
    assert rotation_angle_deg(wanted.swapaxes(1, 2) @ c2w[met, :3, :3]).max() < 1.0


def test_yaw_is_to_the_right_and_pitch_up() -> None:
    waypoints = tuple((0, 0, 0, 3.0 * i, 2.0 * i, 6.0 * i) for i in range(11))
    looks = unit_path(Template("turn", Split.simple, waypoints))[-1, :3, 2]
    assert looks[0] > 0.3 and looks[1] < -0.3  # OpenCV: x right, y down


def test_what_turns_too_quickly_is_held_back_and_still_arrives() -> None:
    turns = [0, 0, 0, 0, 0, 90, 90, 90, 90, 90, 90]  # 90 degrees in 6 s
    template = Template("whirl", Split.hard, tuple((0, 0, 0, yaw, 0, 6.0 * i) for i, yaw in enumerate(turns)))
    c2w = unit_path(template)
    assert turn_rates(c2w).max() == pytest.approx(12.0, abs=0.05)
    assert rotation_angle_deg(c2w[-1, :3, :3]) == pytest.approx(90, abs=0.01)


@pytest.mark.parametrize("frames", [25, 97, 481])
def test_a_shorter_path_has_the_same_shape_and_the_same_bounds(frames: int) -> None:
    template, config = TEMPLATES["full-circle"], PathConfig(frames=frames)
    c2w, whole = scene_path(template, NEAR, config).c2w, unit_path(template)
    assert len(c2w) == frames and speeds(c2w).max() <= 0.4 * (1 + 1e-9) and turn_rates(c2w).max() <= 12
    middle = c2w[frames // 2, :3, 3] / np.linalg.norm(c2w[frames // 2, :3, 3])
    assert np.allclose(middle, whole[480, :3, 3] / np.linalg.norm(whole[480, :3, 3]), atol=0.02)


def wall(distance: float) -> Surroundings:
    """Across the way ahead, in a scene whose median depth it is not."""
    x, y = np.meshgrid(np.linspace(-3, 3, 61), np.linspace(-2, 2, 41))
    return Surroundings(4.0, np.stack([x.ravel(), y.ravel(), np.full(x.size, distance)], -1))


@pytest.mark.parametrize(("distance", "retries"), [(5.0, 0), (2.65, 1), (1.7, 2), (1.2, 3)])
def test_a_path_is_slowed_until_it_keeps_its_distance(distance: float, retries: int) -> None:
    found = scene_path(TEMPLATES["dolly-in"], wall(distance), PathConfig())
    assert found.retries == retries
    assert found.clearance is not None and found.clearance >= 0.3
    assert found.c2w[-1, 2, 3] == pytest.approx(2.4 * 0.7**retries, rel=1e-3)


def test_a_path_that_cannot_keep_its_distance_is_refused() -> None:
    with pytest.raises(PathCollides, match=r"dolly-in: 0.[0-2][0-9] m from a surface .* 3 slower tries"):
        scene_path(TEMPLATES["dolly-in"], wall(1.0), PathConfig())


def test_of_a_depth_map_the_median_and_points_in_camera_axes() -> None:
    depth = np.full((4, 6), 2.0)
    depth[0] = np.inf
    around = Surroundings.of_depth(depth, np.array([3.0, 3.0, 3.0, 2.0]))
    assert around.depth == 2.0 and around.points is not None and around.points.shape == (18, 3)
    assert np.allclose(around.points[0], [2 * (0.5 - 3) / 3, 2 * (1.5 - 2) / 3, 2.0])
    with pytest.raises(ValueError, match="without a single finite"):
        Surroundings.of_depth(np.full((2, 2), np.nan), np.ones(4))


@pytest.mark.parametrize(("name", "value"), [
    ("frames", 960), ("frames", 1), ("reach", 0), ("speed", -1), ("turn", 0), ("depth", 0), ("margin", -0.1),
    ("retries", -1), ("slower", 1.0)])
def test_settings_that_make_no_sense_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"path.{name}="):
        PathConfig(**{name: value}).check()  # type: ignore[arg-type]
