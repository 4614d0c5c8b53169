"""The funnel adds up, whatever the index holds."""

import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataset.clip import ClipRecord, Kind, Verdict, index_schema, to_row
from dataset.funnel import COLUMNS, UNSTATED, duration, funnel, render_text


def table(records: list[ClipRecord]) -> pa.Table:
    return pa.Table.from_pylist([to_row(r) for r in records], schema=index_schema())


def record(number: int, kind=Kind.CLIP, verdict=Verdict.KEPT, reasons=(), video=0, **fields) -> ClipRecord:
    return ClipRecord(clip_id=f"c{number}", video_id=f"v{video}", kind=kind, verdict=verdict,
                      reasons=list(reasons), **fields)


RULES = st.sampled_from(["flow_dis<3", "static", "too short", "fov>120"])


@st.composite
def indexes(draw):
    rows = []
    for number in range(draw(st.integers(0, 25))):
        kind = draw(st.sampled_from(list(Kind)))
        lost = [Verdict.REJECTED, Verdict.FAILED]
        verdict = draw(st.sampled_from([*lost, Verdict.KEPT] if kind is Kind.CLIP else lost))
        reasons = [] if verdict is Verdict.KEPT else draw(st.lists(RULES, max_size=3))
        rows.append(record(number, kind, verdict, reasons, draw(st.integers(0, 3)),
                           frames=draw(st.none() | st.integers(1, 961)), fps=16.0))
    return rows


@given(indexes())
@settings(max_examples=60)
def test_what_goes_in_is_kept_or_taken_by_exactly_one_rule(rows):
    result = funnel(table(rows))
    assert sum(step.count for step in result.steps) + result.kept == result.rows == len(rows)
    assert result.kept + result.rejected + result.failed == result.clips
    taken = [clip for step in result.steps for clip in step.clip_ids]
    assert sorted(taken) == sorted(r.clip_id for r in rows if r.verdict is not Verdict.KEPT)
    assert all(step.named >= step.count == len(step.clip_ids) for step in result.steps)
    assert sum(step.seconds for step in result.steps) + result.kept_seconds == pytest.approx(result.seconds)


def test_a_row_counts_once_at_its_first_reason_and_everywhere_it_is_named():
    rows = [record(0, verdict=Verdict.REJECTED, reasons=["static", "flow_dis<3"]),
            record(1, verdict=Verdict.REJECTED, reasons=["flow_dis<3"]),
            record(2, verdict=Verdict.REJECTED, reasons=["flow_dis<3", "flow_dis<3"]), record(3),
            record(4, Kind.SPAN, Verdict.REJECTED, ["too short"], start_s=3.0, end_s=5.5),
            record(5, Kind.VIDEO, Verdict.FAILED, [], video=1)]
    result = funnel(table(rows).select(list(COLUMNS)))
    assert [(s.rule, s.kind, s.count, s.named) for s in result.steps] == [
        (UNSTATED, "video", 1, 1), ("too short", "span", 1, 1), ("flow_dis<3", "clip", 2, 3),
        ("static", "clip", 1, 1)]
    assert (result.rows, result.videos, result.clips, result.kept, result.rejected) == (6, 2, 4, 1, 3)
    assert result.steps[1].seconds == 2.5


def test_stage_times_add_up_over_clips_slowest_first():
    rows = [record(n, stage_seconds=json.dumps({"pose": 2.0, "cut": 0.5})) for n in range(3)]
    rows.append(record(9, stage_seconds=json.dumps({"quality": 10.0})))
    result = funnel(table(rows))
    assert list(result.stage_seconds.items()) == [("quality", 10.0), ("pose", 6.0), ("cut", 1.5)]
    assert "quality 57%, pose 34%, cut 9%" in render_text(result)


def test_the_text_states_every_number_and_fits_the_width():
    rows = [record(n, frames=161, fps=16.0, video=n % 7) for n in range(611)]
    rows += [record(1000 + n, verdict=Verdict.REJECTED, reasons=["flow_dis<3"], frames=161, fps=16.0)
             for n in range(1064)]
    rows += [record(5000, Kind.VIDEO, Verdict.FAILED, ["unreadable"])]
    text = render_text(funnel(table(rows)), width=80)
    assert [line.split()[0] for line in text.splitlines()[:4]] == ["1,676", "-1", "-1,064", "611"]
    assert "unreadable (video) [failed]" in text and "1 h 42 min of video kept" in text
    assert max(len(line) for line in text.splitlines()) <= 80


def test_an_empty_index_is_said_in_a_sentence():
    result = funnel(table([]))
    assert result.rows == result.kept == 0 and result.steps == []
    assert "no rows" in render_text(result)


@pytest.mark.parametrize(("seconds", "words"), [
    (0, "0.0 s"), (9.94, "9.9 s"), (48.2, "48 s"), (59.6, "1 min"), (725, "12 min 5 s"),
    (12000, "3 h 20 min"), (1051200, "12 d 4 h"), (86400, "1 d"),
])
def test_durations_read_like_speech(seconds, words):
    assert duration(seconds) == words
