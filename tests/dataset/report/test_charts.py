"""Paths are drawn as a person would see them from above; histograms show every value once."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dataset.camera import look_at
from dataset.clip import CameraTrack, FrameVerdict, Motion
from dataset.report.charts import histogram_svg, path_svg
from dataset.report.scores import Score, explain_rule, number


def track_of(c2w: np.ndarray, unit: str = "m") -> CameraTrack:
    count = len(c2w)
    return CameraTrack(
        c2w=c2w, intrinsics=np.tile([600.0, 600, 320, 180], (count, 1)), size=(360, 640),
        timestamps=np.arange(count) / 16, sigma_position=np.full(count, np.nan),
        sigma_rotation_deg=np.full(count, np.nan), motion=Motion.PARALLAX, engine="test", unit=unit,
        frame_verdict=np.full(count, FrameVerdict.ESTIMATED, np.uint8))


def walked(points: list[tuple[float, float]], ahead: tuple[float, float]) -> np.ndarray:
    """Poses at points (x, z) of the ground, all looking `ahead`; world y is down."""
    centres = np.array([(x, -1.5, z) for x, z in points])
    return look_at(centres, centres + (ahead[0], 0, ahead[1]))


def corners(svg: str, name: str = "way") -> np.ndarray:
    points = re.search(rf'<polyline class="{name}" points="([^"]+)"', svg).group(1)
    return np.array([[float(v) for v in p.split(",")] for p in points.split()])


@pytest.mark.parametrize("ahead", [(0, 1), (1, 0), (-1, -1)])
def test_forward_is_up_and_right_is_right_whatever_the_world(ahead):
    z = np.array(ahead) / np.linalg.norm(ahead)
    x = np.array([z[1], -z[0]])  # right of `ahead`, seen from above with y down
    forward_then_right = [tuple(z * s) for s in np.linspace(0, 4, 20)]
    forward_then_right += [tuple(z * 4 + x * s) for s in np.linspace(0, 2, 20)[1:]]
    drawn = corners(path_svg(track_of(walked(forward_then_right, ahead))))
    start, corner, end = drawn[0], drawn[19], drawn[-1]
    assert corner[0] == pytest.approx(start[0], abs=0.11) and corner[1] < start[1] - 100
    assert end[1] == pytest.approx(corner[1], abs=0.11)
    assert end[0] - corner[0] == pytest.approx((start[1] - corner[1]) / 2, rel=0.01)


@pytest.mark.parametrize(("length", "unit", "label"), [
    (10.0, "m", "2 m"), (0.4, "m", "0.1 m"), (1.0, "path", "0.2 of the path"), (900.0, "m", "200 m"),
])
def test_the_scale_bar_is_a_round_length_drawn_to_scale(length, unit, label):
    svg = path_svg(track_of(walked([(0, s) for s in np.linspace(0, length, 9)], (0, 1)), unit))
    assert f">{label}<" in svg
    drawn = corners(svg)
    per_unit = (drawn[0, 1] - drawn[-1, 1]) / length
    x0, x1 = map(float, re.search(r'class="scale" d="M([\d.]+) [^H]+H([\d.]+)', svg).groups())
    assert (x1 - x0) / per_unit == pytest.approx(float(label.split()[0]), rel=0.02)


def test_the_truth_is_laid_over_the_estimate_whatever_its_frame_and_unit():
    c2w = walked([(np.sin(s), s) for s in np.linspace(0, 6, 40)], (0, 1))
    other = track_of(c2w).scaled(0.1, "path")
    turn = look_at([0.0, 0, 0], [1.0, 0.2, 0.3])
    other.c2w[:] = turn @ other.c2w
    svg = path_svg(other, track_of(c2w))
    assert np.abs(corners(svg) - corners(svg, "truth")).max() <= 0.11


def test_paths_that_are_none_say_so():
    standing = np.tile(np.eye(4), (9, 1, 1))
    assert "no motion" in path_svg(track_of(standing))
    sideways = np.sin(np.arange(9.0) / 9)
    turning = look_at(np.zeros((9, 3)), np.stack([sideways, np.zeros(9), np.ones(9)], axis=1))
    assert "turns in place" in path_svg(track_of(turning))
    failed = CameraTrack.failed("too dark", np.arange(9.0), (36, 64), "test", Motion.CHAOTIC)
    assert "no poses" in path_svg(failed)


def test_a_camera_that_looks_straight_down_is_drawn_too():
    centres = np.array([(s, -5.0, 0.0) for s in np.linspace(0, 3, 12)])
    c2w = look_at(centres, centres + (0, 1, 0), down=(0, 0, -1))
    assert np.isfinite(corners(path_svg(track_of(c2w)))).all()


values = hnp.arrays(np.float64, st.integers(1, 300), elements=st.floats(-1e6, 1e6, allow_subnormal=False))


@given(values, values, st.none() | st.floats(-1e3, 1e3))
def test_every_value_is_in_one_bar_and_bars_stay_in_the_frame(kept, rejected, limit):
    svg = histogram_svg({"kept": kept, "rejected": rejected}, Score("x", "X"), (limit, None))
    counts = [int(c) for c in re.search(r'data-counts="([^"]+)"', svg).group(1).split()]
    edges = [float(e) for e in re.search(r'data-edges="([^"]+)"', svg).group(1).split()]
    assert sum(counts) == len(kept) + len(rejected) and len(edges) == len(counts) + 1
    assert (np.diff(edges) >= 0).all()
    boxes = re.findall(r'<rect class="\w+" x="(\S+)" y="(\S+)" width="(\S+)" height="(\S+)"', svg)
    for x, y, width, height in (map(float, box) for box in boxes):
        assert x >= 0 and x + width <= 280.1 and y >= 0 and y + height <= 78.2
    if limit is not None:
        assert 0 <= float(re.search(r'class="limit" x1="([-\d.]+)"', svg).group(1)) <= 280


def test_scores_over_many_orders_of_magnitude_get_a_logarithmic_axis_and_percents_are_shown_as_such():
    svg = histogram_svg({"kept": np.geomspace(1e-5, 1e-1, 50)}, Score("a", "A", percent=True), (None, 0.03))
    assert 'data-log="1"' in svg and ">0.001 %<" in svg and ">10 %<" in svg
    x = float(re.search(r'class="limit" x1="([-\d.]+)"', svg).group(1))
    assert x == pytest.approx(280 * (np.log10(0.03) + 5) / 4, abs=0.1)


def test_values_beyond_the_drawn_range_are_announced():
    spread = np.concatenate([np.linspace(0, 1, 1000), [50.0]])
    assert ">≥ " in histogram_svg({"kept": spread}, Score("a", "A"))


@pytest.mark.parametrize(("value", "text"), [
    (0.0, "0"), (0.01234, "0.0123"), (12345.6, "12,346"), (3.2e-7, "3.2e-07"), (999.4, "999"), (-0.5, "-0.5"),
])
def test_numbers_read_well(value, text):
    assert number(value) == text


def test_rules_are_explained_by_the_score_they_name():
    assert explain_rule("flow_dis<3") == "Optical flow (DIS)"
    assert explain_rule("shot too short") == explain_rule("<<") == ""
