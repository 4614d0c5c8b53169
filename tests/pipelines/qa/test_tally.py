"""What the page counts is what the annotation's own judge would do."""

from __future__ import annotations

import numpy as np
import pytest

from annotate.filters import Bound, Missing, ScaleNeed, Thresholds, judge
from dataset.clip import Verdict, from_row
from dataset.store import Store
from dataset.verdicts import HumanVerdict, VerdictBook
from pipelines.qa.index import ClipIndex, QuestionError
from pipelines.qa.selection import Filter, draw, rows
from pipelines.qa.tally import at_limit, histograms, tally
from tests.pipelines.qa.conftest import THRESHOLDS
from tests.tiny_dataset import clip_name

TRIED = (
    THRESHOLDS, Thresholds(), Thresholds(flow_dis=Bound(1.5, 4.5)),
    Thresholds(focal_px=Bound(min=400)) if hasattr(Thresholds, "focal_px") else Thresholds(pose=True),
    Thresholds(missing=Missing.ignore, dover=Bound(min=0.5), reprojection_px=Bound(max=10)),
    Thresholds(dover=Bound(min=0.5)), Thresholds(scale=ScaleNeed.metric, exposure=Bound(max=105)),
)


@pytest.mark.parametrize("thresholds", TRIED, ids=range(len(TRIED)))
def test_counts_are_those_of_the_judge(shared_set: Store, thresholds: Thresholds):
    index = ClipIndex(shared_set)
    records = [from_row(row) for row in index.snapshot.table.to_pylist()]
    verdicts = [judge(record, thresholds)[0] for record in records]
    found = tally(index, thresholds, Filter())
    assert found["clips"] == 7
    assert found["kept"] == verdicts.count(Verdict.KEPT)
    assert found["kept_seconds"] == pytest.approx(found["kept"] * 17 / 16)
    assert found["stored"] == sum(record.verdict is Verdict.KEPT for record in records) == 4
    assert found["gained"] - found["lost"] == found["kept"] - found["stored"]
    for rule in found["rules"]:
        assert rule["alone"] <= rule["takes"] <= 7 - found["kept"]


def test_every_rule_says_what_it_takes_and_what_it_alone_takes(shared_set: Store):
    tried = Thresholds(flow_dis=Bound(min=2.5), saturation=Bound(60, 90))
    found = tally(ClipIndex(shared_set), tried, Filter())
    # flow takes clips 0 to 2; saturation 40, 50 and 100: clips 0, 1 and 6
    assert found["rules"] == [{"rule": "flow_dis", "takes": 3, "alone": 1},
                              {"rule": "saturation", "takes": 3, "alone": 1}]
    assert found["kept"] == 3


def test_people_count_before_any_rule(scored_set: Store):
    book = VerdictBook(scored_set)
    book.add(clip_name(0), HumanVerdict.KEEP, None, "Ada")
    book.add(clip_name(3), HumanVerdict.REJECT, None, "Ada")
    index = ClipIndex(scored_set)
    found = tally(index, THRESHOLDS, Filter())
    assert (found["kept"], found["stored"], found["gained"], found["lost"]) == (4, 4, 0, 0)
    against = rows(index, Filter(judged="against"))["rows"]
    assert {row["clip_id"] for row in against} == {clip_name(0), clip_name(3)}


def test_histograms_hold_every_clip_once_apart_by_whether_it_stays(shared_set: Store):
    index = ClipIndex(shared_set)
    for one in histograms(index, THRESHOLDS, Filter()):
        assert sum(one["stay"]) + sum(one["go"]) + one["missing"] == 7
        assert len(one["stay"]) == len(one["edges"]) - 1
    flow = next(one for one in histograms(index, THRESHOLDS, Filter()) if one["score"] == "flow_dis")
    edges = np.array(flow["edges"])
    assert np.histogram([2, 3, 4, 5], edges)[0].tolist() == flow["stay"]
    assert np.histogram([0, 1, 6], edges)[0].tolist() == flow["go"]
    few = histograms(index, THRESHOLDS, Filter(where="flow_dis > 4"))
    assert {sum(one["stay"]) + sum(one["go"]) + one["missing"] for one in few} == {2}


def test_the_clips_at_a_limit_are_its_nearest_on_both_sides(shared_set: Store):
    index = ClipIndex(shared_set)
    for upper, below, above in ((False, [1, 2], [3, 4]), (True, [2, 3], [4, 5])):
        found = at_limit(index, Filter(), "flow_dis", 3.0, upper, count=2)
        assert [one["value"] for one in found["below"]] == below
        assert [one["value"] for one in found["above"]] == above
    with pytest.raises(QuestionError, match="score=clip_id"):
        at_limit(index, Filter(), "clip_id", 3.0, upper=True)


@pytest.mark.parametrize("chosen, numbers", [
    (Filter(), range(7)), (Filter(final="kept"), (2, 3, 4, 5)), (Filter(rule="flow_dis<2"), (0, 1)),
    (Filter(rule="saturation>90"), (6,)), (Filter(licence="CC0", text="RED"), (0, 3)),
    (Filter(text=clip_name(5)[:7]), (5,)), (Filter(licence=""), (4, 5, 6)),
    (Filter(where="flow_dis > 3 or focal_px is null -- so"), (0, 2, 4, 5, 6)),
    (Filter(motion="static"), ()), (Filter(kind="video"), ()), (Filter(ids=[clip_name(1), "x"]), (1,)),
    (Filter(source="tiny", where="(select max(flow_dis) from clips) = flow_dis"), (6,)),
    (Filter(trouble=True), ()),
    (Filter(text="'; drop table base; --"), ()),
])
def test_filters_find_what_they_say(shared_set: Store, chosen: Filter, numbers):
    found = rows(ClipIndex(shared_set), chosen, sort="flow_dis")
    assert [row["flow_dis"] for row in found["rows"]] == sorted(numbers)
    assert found["total"] == len(list(numbers))
    assert found["seconds"] == pytest.approx(found["total"] * 17 / 16)


@pytest.mark.parametrize("chosen, said", [
    (Filter(final="perhaps"), "final=perhaps, allowed kept"),
    (Filter(judged="maybe"), "judged=maybe, allowed"),
    (Filter(where="no_column = 1"), "no_column"), (Filter(where="flow_dis >"), "syntax"),
    (Filter(where="true) or (verdict = ?"), "parameter"),
    (Filter(where="1; drop table base"), "syntax|one condition"),
])
def test_conditions_that_make_no_sense_are_refused(shared_set: Store, chosen: Filter, said: str):
    with pytest.raises(QuestionError, match=f"(?i){said}"):
        rows(ClipIndex(shared_set), chosen)


def test_rows_come_sorted_piece_by_piece_with_unknown_values_last(shared_set: Store):
    index = ClipIndex(shared_set)
    focal = [row["focal_px"] for row in rows(index, Filter(), "focal_px", down=True)["rows"]]
    assert focal == [500.0] * 3 + [None] * 4
    pieces = [rows(index, Filter(), "flow_dis", True, offset, 3)["rows"] for offset in (0, 3, 6)]
    assert [row["flow_dis"] for piece in pieces for row in piece] == [6, 5, 4, 3, 2, 1, 0]
    with pytest.raises(QuestionError, match="no such column"):
        rows(index, Filter(), sort="flow_dis; drop table base")


def test_a_sample_is_drawn_by_its_seed_from_what_the_filter_lets_through(shared_set: Store):
    index = ClipIndex(shared_set)
    drawn = draw(index, Filter(final="kept"), 3, seed=1)
    assert len(set(drawn)) == 3 and set(drawn) <= {clip_name(number) for number in (2, 3, 4, 5)}
    assert drawn == draw(index, Filter(final="kept"), 3, seed=1)
    assert len({tuple(draw(index, Filter(), 7, seed)) for seed in range(5)}) > 1
