"""The key scale that keeps frames of 880 cells contractive, and what happens without it."""

from __future__ import annotations

import math

import pytest

from benchmarks.stability import train


@pytest.mark.slow
def test_fifty_steps_on_frames_of_full_size_stay_finite_and_learn():
    course = train("dim_spatial", steps=50, frames=2)
    assert course.broke_at is None and len(course.loss) == 50
    assert course.eigenvalue < 1
    assert sum(course.loss[-10:]) < 0.9 * sum(course.loss[:10])


def test_without_a_key_scale_the_state_outgrows_float32():
    course = train("none", steps=1, frames=14)
    assert course.eigenvalue > 100 and course.state[-1] > 1e38
    assert math.isnan(course.loss[0])
