from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate.pose.learned.windows import Window, join, window_ranges
from dataset.camera import look_at
from dataset.trajectory import absolute_error

FRAMES, SIZE = 41, (36, 64)
INTRINSICS = np.array([46.0, 46.0, 32.0, 18.0])


@given(st.integers(1, 400), st.integers(2, 60), st.data())
def test_windows_cover_every_frame_and_share_enough(count, size, data):
    overlap = data.draw(st.integers(1, size - 1))
    spans = window_ranges(count, size, overlap)
    assert spans[0].start == 0 and spans[-1].stop == count
    assert all(len(span) <= size for span in spans)
    for one, other in pairwise(spans):
        assert other.start > one.start and one.stop - other.start >= min(overlap, count)


def test_windows_without_overlap_are_refused():
    with pytest.raises(ValueError, match="windows of 8 frames that share 8: allowed are 1 to 7"):
        window_ranges(20, 8, 8)


def walk():
    """A path through a scene whose depth is a smooth function of the frame and the pixel."""
    t = np.linspace(0, 1, FRAMES)
    centre = np.stack([3 * t, 0.2 * np.sin(6 * t), t**2], -1)
    c2w = look_at(centre, np.array([1.0, 0.3, 9.0]))
    v, u = np.mgrid[:SIZE[0], :SIZE[1]]
    depth = 4 + 2 * np.sin(u / 9 + 3 * t[:, None, None]) + np.cos(v / 7)
    return c2w, depth


def windows(units, noise=0.0, turn=None, seed=0):
    c2w, depth = walk()
    rng = np.random.default_rng(seed)
    for span, unit in zip(window_ranges(FRAMES, 16, 5), units):
        part = slice(span.start, span.stop)
        own = np.linalg.inv(c2w[span.start]) @ c2w[part]
        own[:, :3, 3] *= unit
        seen = depth[part] * unit * np.exp(noise * rng.standard_normal(depth[part].shape))
        yield Window(span.start, own, np.tile(INTRINSICS, (len(span), 1)), seen, np.zeros_like(seen))


def test_windows_of_other_worlds_and_units_become_one_exactly():
    c2w, depth = walk()
    joined = join(windows([1.0, 1.7, 0.6, 2.0]), every=8)
    assert joined.failure is None and joined.c2w.shape == (FRAMES, 4, 4)
    assert absolute_error(joined.c2w, c2w).share_of_path < 1e-7
    assert np.abs(np.linalg.inv(c2w[0]) @ c2w - joined.c2w).max() < 1e-7
    assert joined.frames.tolist() == [0, 8, 16, 24, 32, 40]
    assert np.abs(joined.depth / depth[::8] - 1).max() < 1e-7
    assert joined.seam_share < 1e-7 and joined.seam_rotation_deg < 1e-6
    assert joined.scale_step == pytest.approx(np.log(2.0))


@pytest.mark.parametrize("noise", [0.02, 0.2])
def test_noisy_depth_moves_the_unit_and_turns_nothing(noise):
    c2w, _ = walk()
    joined = join(windows([1.0, 1.7, 0.6, 2.0], noise), every=8)
    assert joined.failure is None and joined.seam_rotation_deg < 1e-6
    assert absolute_error(joined.c2w, c2w).share_of_path < 0.1 * noise


def test_windows_that_contradict_each_other_are_seen_at_the_seam():
    spoilt = list(windows([1.0, 1.0, 1.0, 1.0]))
    spoilt[1].c2w[:, :3, 3] *= 1.5  # its cameras move farther than its depth allows
    joined = join(spoilt, every=8)
    assert joined.failure is None and joined.seam_share > 0.01


def test_windows_without_common_depth_do_not_join():
    apart = list(windows([1.0, 1.0, 1.0, 1.0]))
    apart[1].depth[:] = np.nan
    joined = join(apart, every=8)
    assert joined.failure == "frames 11 to 15 do not join two windows: their depth agrees in none of 5 frames"


def test_a_camera_that_stands_still_in_the_overlap_joins_by_depth():
    made = list(windows([1.0, 2.5, 1.0, 1.0]))
    for window in made:
        window.c2w[:, :3, 3] = 0
    joined = join(made, every=41)
    assert joined.failure is None and joined.scale_step == pytest.approx(np.log(2.5))
