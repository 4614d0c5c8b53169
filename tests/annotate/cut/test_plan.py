from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotate.cut.piece import Rules, Show, Span, Stand, Window
from annotate.cut.plan import Planner
from annotate.shots.detector import Boundary, OpenShot, Shot
from dataset.timeline import nearest_frames


def rules(**changes) -> Rules:
    values = {"frames": 17, "fps": 16, "overlap": 0, "min_shot_s": 0.0, "max_shot_s": None, "max_gap_s": 0.25}
    return Rules(**{**values, **changes})


def shot(first: int, stop: int, opens=Boundary.cut) -> Shot:
    return Shot(first, stop, opens, Boundary.cut)


def at_rate(count: int, fps: int = 30) -> list[Fraction]:
    return [Fraction(k, fps) for k in range(count)]


def plan(
    shots: list[Shot], times: list[Fraction], asked: Rules, late: int = 33, sight: int = 0,
) -> tuple[list[Window], list[Span], dict[Window, int]]:
    """The windows that stand, the spans, and for each window how many frames had come when it stood.

    A frame becomes certain `late` frames after it came; the end of a shot is in sight `sight` frames before.
    """
    planner, found, when = Planner(asked), [], {}
    begun: dict[Window, int] = {}

    def follow(seen: int, settled: int) -> None:
        done = [s for s in shots if s.end_frame < settled or seen > len(times)]
        opened = OpenShot(settled, settled, Boundary.start, is_over=False, ends_by=None)
        if len(done) < len(shots) and (at := shots[len(done)]).start_frame < settled:
            ends_by = at.end_frame if at.end_frame <= settled + sight else None
            opened = OpenShot(at.start_frame, min(settled, at.end_frame), at.opens_with,
                              at.end_frame <= settled, ends_by)
        for step in planner.advance(done, opened, settled):
            if isinstance(step, Show):
                begun[step.window] = begun.get(step.window, 0) + 1
                assert step.window.frames[begun[step.window] - 1] == step.frame < settled
            elif isinstance(step, Stand):
                assert begun.pop(step.window) == asked.frames
                found.append(step.window)
                when[step.window] = min(seen, len(times))
            else:
                del begun[step.window]

    for count, time_s in enumerate(times, 1):
        planner.see(time_s)
        follow(count, max(0, count - late))
    follow(len(times) + 1, len(times))
    assert not begun, "every window stands or falls"
    return found, planner.finish(), when


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 150)), min_size=1, max_size=6), st.integers(0, 8),
    st.sampled_from([10, 25, 30]),
)
def test_every_frame_is_in_a_clip_or_in_one_span_and_no_clip_leaves_its_shot(pieces, overlap, fps):
    shots, at = [], 0
    for gap, length in pieces:
        shots.append(shot(at + gap, at + gap + length))
        at += gap + length
    times = at_rate(at, fps)
    windows, spans, _ = plan(shots, times, rules(overlap=overlap))
    covered = np.zeros(at, int)
    for window in windows:
        owner = shots[window.shot]
        assert owner.start_frame <= window.frames[0] and window.frames[-1] < owner.end_frame
        assert len(window.frames) == 17 and times[window.frames[0]] - window.start_s <= Fraction(1, 2 * fps)
        covered[window.frames[0]:window.frames[-1] + 1] = 1
    for a, b in pairwise(windows):
        if a.shot == b.shot:
            covered[a.frames[-1]:b.frames[0]] = 1  # between neighbours of one shot nothing is lost for good
    in_spans = np.zeros(at, int)
    for span in spans:
        inside = [k for k, t in enumerate(times) if span.start_s <= t < span.end_s or at == 1]
        assert inside, "a span without frames says nothing"
        in_spans[inside] += 1
    assert (covered + in_spans == 1).all()


def test_spans_say_why_they_make_no_clip():
    times = at_rate(150)
    found, spans, _ = plan([shot(0, 20), shot(30, 100, Boundary.dissolve), shot(100, 150)], times, rules())
    assert [(w.shot, w.start_s) for w in found] == [(1, 1), (1, 1 + Fraction(17, 16)), (2, Fraction(100, 30))]
    assert [s.reason for s in spans] == ["short_shot", "transition", "tail", "tail"]
    assert [s.shot for s in spans] == [0, None, 1, 2]
    assert spans[1].detail == "dissolve: 10 frames"
    assert "0.667 s, a clip needs 1.000 s" in spans[0].detail
    assert spans[2].end_s == times[100] and spans[3].end_s == 5


def test_a_shot_is_divided_where_frames_are_missing():
    times = [Fraction(k, 30) for k in [*range(60), *range(70, 130)]]
    found, spans, _ = plan([shot(0, 120)], times, rules())
    assert [w.start_s for w in found] == [0, times[60]]
    assert {s.reason for s in spans} == {"tail", "gap"}
    gap = next(s for s in spans if s.reason == "gap")
    assert (gap.start_s, gap.end_s) == (times[59] + Fraction(1, 30), times[60])


def test_a_slow_but_steady_rate_has_no_gaps():
    found, spans, _ = plan([shot(0, 40)], at_rate(40, 2), rules())
    assert len(found) > 10 and all(s.reason == "tail" for s in spans)


def test_long_shots_are_divided_and_short_ones_left_out():
    times = at_rate(300)
    found, _, _ = plan([shot(0, 300)], times, rules(max_shot_s=2.0))
    assert [w.start_s for w in found] == [0, 2, 4, 6, 8]
    found, spans, _ = plan([shot(0, 300)], times, rules(min_shot_s=11.0))
    assert found == [] and spans[0].detail == "10.000 s, the shortest shot allowed is 11 s"


def test_a_video_of_transitions_only_makes_one_span():
    found, spans, _ = plan([], at_rate(30), rules())
    assert found == [] and [(s.reason, s.start_s, s.end_s) for s in spans] == [("transition", 0, 1)]
    assert plan([], [], rules())[:2] == ([], [])


@pytest.mark.parametrize("overlap", [0, 8, 14])
def test_overlapping_clips_share_frames(overlap):
    found, _, _ = plan([shot(0, 150)], at_rate(150), rules(overlap=overlap))
    stride = Fraction(17 - overlap, 16)
    assert [w.start_s for w in found] == [k * stride for k in range(len(found))]


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 90)), min_size=1, max_size=4), st.integers(33, 120),
    st.integers(0, 100), st.sampled_from([0, 9]), st.sampled_from([0.0, 2.0]), st.integers(0, 3),
)
def test_a_plan_does_not_depend_on_when_things_become_certain(pieces, late, sight, overlap, min_shot_s, seed):
    shots, at = [], 0
    for gap, length in pieces:
        shots.append(shot(at + gap, at + gap + length))
        at += gap + length
    steps = np.random.default_rng(seed).choice([900, 1500, 3003, 9009, 30030], at)
    times = [Fraction(int(t), 90000) for t in np.cumsum(steps)]
    asked = rules(overlap=overlap, min_shot_s=min_shot_s, max_shot_s=2.5)
    windows, spans, _ = plan(shots, times, asked)
    others, other_spans, _ = plan(shots, times, asked, late, sight=min(sight, late - 1))
    assert spans == other_spans
    assert [vars(w) for w in windows] == [vars(w) for w in others]
    for window in windows:
        owner = shots[window.shot]
        piece = times[owner.start_frame:owner.end_frame]
        assert window.times == [times[k] for k in window.frames]
        # nothing but the piece's ends, which no clip crosses, can make another frame the nearest one
        nearest = nearest_frames(piece, window.start_s, 17, 16) + owner.start_frame
        assert window.frames == np.clip(nearest, window.frames[0], window.frames[-1]).tolist()


def test_a_clip_stands_as_soon_as_its_frames_are_certain():
    times = at_rate(300)
    for late in (33, 90):
        found, _, when = plan([shot(0, 300)], times, rules(), late=late)
        assert len(found) == 9
        # where the last target lies behind its frame, the next frame settles that it is the nearest
        assert all(1 <= when[w] - w.frames[-1] - late <= 2 for w in found[:5])


def test_windows_that_cannot_end_in_a_shot_are_not_begun():
    planner, times = Planner(rules()), at_rate(100)
    for time_s in times:
        planner.see(time_s)
    open_shot = OpenShot(0, 5, Boundary.start, is_over=False, ends_by=25)
    assert list(planner.advance([], open_shot, 5)) == []
    open_shot = OpenShot(0, 5, Boundary.start, is_over=False, ends_by=40)
    planner = Planner(rules())
    for time_s in times:
        planner.see(time_s)
    assert len(list(planner.advance([], open_shot, 5))) == 3
