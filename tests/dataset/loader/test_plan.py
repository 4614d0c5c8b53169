"""The order of samples, without a single file."""

from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dataset.loader.plan import Draw, Plan, Position, draw_start
from dataset.loader.select import Bucket, Selection
from dataset.store import Store

BUCKETS = [Bucket(81, (64, 96)), Bucket(161, (64, 96)), Bucket(161, (96, 64))]


def selection(clips: int, per_shard: int = 3, buckets: int = 3, name: str = "a") -> Selection:
    """Clips that differ in shape, several to a shard."""
    numbers = np.arange(clips)
    return Selection(
        url=name, store=Store("memory://nowhere"), latents=None, ids=[f"{name}{n}" for n in numbers],
        captions=[""] * clips, shards=[f"shards/{n}.tar" for n in range((clips - 1) // per_shard + 1)],
        shard=numbers // per_shard, buckets=BUCKETS[:buckets], bucket=(numbers * 7 // 5) % buckets,
        members={})


def draws(plan: Plan, at: Position | None = None) -> list[Draw]:
    return [draw for step in plan.steps(at or Position()) for draw in step.draws]


sizes = st.lists(st.integers(1, 23), min_size=1, max_size=3)


def plan_of(
    sizes: list[int], samples: int, epochs: int | None = 2, repeats: int = 1,
    weights: list[float] | None = None, **settings,
) -> Plan:
    sources = [selection(count, name=chr(97 + number)) for number, count in enumerate(sizes)]
    return Plan(sources, [repeats] * len(sources), weights, samples, epochs=epochs, **settings)


@given(sizes, st.integers(1, 9), st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_every_epoch_draws_every_clip_as_often_as_it_repeats(sizes, samples, epochs, repeats, shuffle):
    plan = plan_of(sizes, samples, epochs, repeats, shuffle=shuffle, window=2)
    found = draws(plan)
    assert sorted(draw.number for draw in found) == list(range(epochs * plan.draws_per_epoch))
    for epoch in range(epochs):
        within = [(draw.source, draw.clip) for draw in found if draw.number // plan.draws_per_epoch == epoch]
        assert Counter(within) == {(s, c): repeats for s, count in enumerate(sizes) for c in range(count)}


@given(sizes, st.integers(1, 9), st.data())
def test_the_stream_goes_on_from_any_step_as_if_it_had_not_stopped(sizes, samples, data):
    plan = plan_of(sizes, samples, 3)
    steps = list(plan.steps(Position()))
    stop = data.draw(st.integers(0, len(steps) - 1))
    assert list(plan_of(sizes, samples, 3).steps(steps[stop].after)) == steps[stop + 1 :]


@given(sizes, st.integers(1, 9), st.integers(1, 9), st.data())
def test_steps_of_another_size_lose_and_repeat_nothing(sizes, samples, others, data):
    plan = plan_of(sizes, samples, 2)
    steps = list(plan.steps(Position()))
    stop = data.draw(st.integers(0, len(steps) - 1))
    before = [draw.number for step in steps[: stop + 1] for draw in step.draws]
    after = [draw.number for draw in draws(plan_of(sizes, others, 2), steps[stop].after)]
    assert sorted(before + after) == list(range(2 * plan.draws_per_epoch))


@given(sizes, st.integers(1, 9))
def test_a_step_holds_one_shape_and_is_full_until_the_end(sizes, samples):
    plan = plan_of(sizes, samples, 2)
    steps = list(plan.steps(Position()))
    for step in steps:
        assert {BUCKETS[(draw.clip * 7 // 5) % 3] for draw in step.draws} == {step.bucket}
    short = [step for step in steps if len(step.draws) < samples]
    assert len(short) <= len(BUCKETS) and steps[len(steps) - len(short) :] == short


def test_epochs_differ_seeds_differ_and_the_same_seed_does_not():
    orders = [[draw.clip for draw in draws(plan_of([20], 1, 2, seed=seed))] for seed in (4, 4, 5)]
    assert orders[0] == orders[1] != orders[2]
    assert orders[0][:20] != orders[0][20:]


def test_the_order_of_a_seed_never_changes():
    """A stream saved by one version goes on in the next: raw random words are what numpy promises to keep."""
    assert [draw.clip for draw in draws(plan_of([9], 1, 1, seed=3))] == [1, 8, 2, 0, 6, 7, 5, 4, 3]
    assert [draw_start(3, Draw(n, 0, 0), 99) for n in range(4)] == [20, 8, 49, 85]


def test_without_shuffle_clips_come_in_the_order_of_the_index():
    assert [draw.clip for draw in draws(plan_of([11], 1, 1, shuffle=False))] == list(range(11))


@pytest.mark.parametrize("window", [1, 2, 5])
def test_only_the_shards_of_a_window_are_open_at_a_time(window):
    one = selection(60, per_shard=4, buckets=1)
    plan = Plan([one], [1], None, 1, window=window, epochs=1)
    shards = [int(one.shard[draw.clip]) for draw in draws(plan)]
    for first in range(0, 60, 4 * window):
        within = shards[first : first + 4 * window]
        assert len(set(within)) == len(within) // 4
    assert window == 1 or shards != sorted(shards, key=shards.index)


def test_weights_are_shares_of_the_samples_and_starve_no_clip():
    plan = plan_of([10, 30], 1, 40, weights=[3.0, 1.0])
    found = draws(plan)
    assert plan.draws_per_epoch == 40
    assert Counter(draw.source for draw in found) == {0: 30 * 40, 1: 10 * 40}
    for source, clips in ((0, 10), (1, 30)):
        counts = Counter(draw.clip for draw in found if draw.source == source)
        assert len(counts) == clips and max(counts.values()) - min(counts.values()) <= 1


def test_the_smallest_share_is_drawn_all_the_same():
    assert Counter(draw.source for draw in draws(plan_of([50, 3], 1, 1, weights=[1.0, 1e-6])))[1] == 1


def test_an_endless_stream_has_no_seam_where_an_epoch_ends():
    """Eleven clips in steps of four: a step goes over the seam rather than be short."""
    endless = Plan([selection(11, buckets=1)], [1], None, 4)
    numbers = [draw.number for step in islice(endless.steps(Position()), 50) for draw in step.draws]
    assert numbers == list(range(200))


def test_a_place_after_many_epochs_is_found_at_once():
    plan = plan_of([7, 12], 5, None)
    far = Position(19 * 10**9 + 3, {BUCKETS[0]: 2, BUCKETS[1]: 4})
    first = next(iter(plan.steps(far)))
    assert len(first.draws) == 5 and first.draws[0].number < far.drawn <= first.after.drawn


def test_starts_are_spread_over_the_clip():
    found = [draw_start(1, Draw(number, 0, 0), 7) for number in range(800)]
    assert set(found) == set(range(8)) and min(Counter(found).values()) > 60


def test_the_fingerprint_tells_streams_apart():
    plain = plan_of([5, 6], 2)
    assert plain.fingerprint == plan_of([5, 6], 7, None).fingerprint
    others = [plan_of([5, 7], 2), plan_of([5, 6], 2, seed=1), plan_of([5, 6], 2, repeats=2),
              plan_of([6, 5], 2), plan_of([5, 6], 2, window=3), plan_of([5, 6], 2, weights=[1.0, 1.0])]
    assert plain.fingerprint not in {other.fingerprint for other in others}
