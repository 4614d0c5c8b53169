"""Thresholds over stored scores: the verdicts, the SQL that says the same, and Table 6 as it is printed."""

import dataclasses
import math
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

import conf
from annotate.filters import Bound, Missing, ScaleNeed, Thresholds, judge, to_sql
from dataset.clip import ClipRecord, Kind, Motion, ScaleStatus, Verdict, index_schema, to_row

FOLDER = Path(conf.__file__).parent / "thresholds"
SCORES = [f.name for f in dataclasses.fields(Thresholds) if f.default_factory is Bound]


def load(name: str) -> Thresholds:
    merged = OmegaConf.merge(OmegaConf.structured(Thresholds), OmegaConf.load(FOLDER / f"{name}.yaml"))
    thresholds = OmegaConf.to_object(merged)
    assert isinstance(thresholds, Thresholds)
    return thresholds


def measured(**scores: object) -> ClipRecord:
    """A clip that every stage has answered for, all scores in the middle of what is sensible."""
    good = {
        "pose_engine": "classical", "motion": "parallax", "posed_share": 1.0, "fov_x_deg": 60.0,
        "fov_y_deg": 36.0, "fov_outside_share": 0.0, "focal_divergence": 0.0, "scale_status": "relative",
        "angular_speed_max_deg": 20.0, "angular_jump_deg": 0.5, "vmaf_motion": 8.0, "flow_dis": 12.0,
        "flow_unimatch": 12.0, "dover": 0.6, "saturation": 90.0, "cuts": 0.0, "entities": 2.0,
        "vlm_quality": 1.0, "sharpness": 200.0, "exposure": 110.0, "dark_share": 0.02, "bright_share": 0.01,
        "scale_cov": 0.3,
    }
    return ClipRecord(clip_id="a", video_id="b", kind=Kind.CLIP, **{**good, **scores})


def test_every_rule_bounds_a_score_that_the_index_stores() -> None:
    stored = {f.name for f in dataclasses.fields(ClipRecord)}
    assert set(SCORES) <= stored
    assert len(SCORES) > 30


TABLE_6 = {
    "omniworld": {"vmaf_motion": (.5, 100), "flow_unimatch": (3, 100), "dover": (.35, 1), "entities": (0, 10),
                  "vlm_quality": (.5, 1.5)},
    "sekai_game": {"vmaf_motion": (.5, 50), "flow_unimatch": (3, 80), "dover": (.25, 1), "entities": (0, 10),
                   "vlm_quality": (.5, 1.5)},
    "sekai_walking": {"vmaf_motion": (.5, 50), "flow_unimatch": (3, 50), "dover": (.35, 1),
                      "saturation": (0, 180), "entities": (0, 25), "vlm_quality": (.5, 1.5)},
    "miradata": {"vmaf_motion": (.5, 50), "flow_unimatch": (3, 80), "dover": (.4, 1), "saturation": (0, 180),
                 "cuts": (None, 1)},
    "dl3dv_gs": {"vmaf_motion": (6, 50), "flow_unimatch": (3, 80), "dover": (.4, 1), "saturation": (0, 180),
                 "cuts": (None, 1)},
    "spatialvid": {"vmaf_motion": (.5, 50), "flow_unimatch": (3, 80), "dover": (.35, 1),
                   "saturation": (0, 180), "entities": (0, 10), "vlm_quality": (.5, 1.5)},
}
CAMERA = {"fov_x_deg": (25, 120), "fov_y_deg": (25, 120), "fov_outside_share": (None, .05),
          "focal_divergence": (None, .2), "scale_cov": (None, 2)}


@pytest.mark.parametrize("name", TABLE_6)
def test_a_row_of_table_6_is_printed_exactly(name: str) -> None:
    thresholds = load(name)
    bounds = {s: (getattr(thresholds, s).min, getattr(thresholds, s).max) for s in SCORES}
    assert {s: b for s, b in bounds.items() if b != (None, None)} == {**TABLE_6[name], **CAMERA}
    assert thresholds.missing == Missing.reject
    assert (FOLDER / f"{name}.yaml").read_text().startswith("# ")
    assert "Table 6" in (FOLDER / f"{name}.yaml").read_text().splitlines()[0]


@pytest.mark.parametrize("name", TABLE_6)
def test_table_6_keeps_a_good_clip_and_says_which_learned_score_is_missing(name: str) -> None:
    thresholds = load(name)
    assert judge(measured(), thresholds) == (Verdict.KEPT, [])
    verdict, reasons = judge(measured(flow_unimatch=None, dover=None), thresholds)
    assert verdict == Verdict.REJECTED
    assert reasons == ["missing:flow_unimatch", "missing:dover"]
    lenient = dataclasses.replace(thresholds, missing=Missing.ignore)
    assert judge(measured(flow_unimatch=None, dover=None), lenient) == (Verdict.KEPT, [])


def test_bounds_are_inclusive_and_reasons_name_the_bound() -> None:
    thresholds = Thresholds(flow_dis=Bound(3, 80))
    assert judge(measured(flow_dis=3.0), thresholds)[0] == Verdict.KEPT
    assert judge(measured(flow_dis=80.0), thresholds)[0] == Verdict.KEPT
    assert judge(measured(flow_dis=math.nextafter(3, 0)), thresholds)[1] == ["flow_dis<3"]
    assert judge(measured(flow_dis=math.nextafter(80, 99)), thresholds)[1] == ["flow_dis>80"]
    assert judge(measured(flow_dis=math.nan), thresholds)[1] == ["missing:flow_dis"]


def test_a_scale_spread_that_does_not_apply_never_passes_unless_told_so() -> None:
    clip = measured(scale_cov=None, scale_status="metric_prior")
    assert judge(clip, Thresholds(scale_cov=Bound(max=2)))[1] == ["not_applicable:scale_cov"]
    assert judge(clip, Thresholds(scale_cov=Bound(max=2, missing=Missing.ignore)))[0] == Verdict.KEPT


def test_embedded_scores_are_enough_for_the_default_thresholds() -> None:
    default = load("default")
    embedded = measured(scale_cov=None, flow_unimatch=None, dover=None, entities=None, vlm_quality=None)
    assert judge(embedded, default) == (Verdict.KEPT, [])
    assert judge(measured(motion="static"), default)[1] == ["motion=static"]
    assert judge(measured(motion="rotation_only", scale_status="none"), default)[0] == Verdict.KEPT
    assert judge(measured(pose_failure="too few tracks"), default)[1] == ["pose_failure"]
    assert judge(measured(pose_engine=None), default)[1] == ["missing:pose"]
    assert judge(measured(pose_confirmed=False), default)[1] == ["pose_contradicted"]
    assert judge(measured(pose_doubts="few points"), default)[1] == ["pose_doubted"]
    assert judge(measured(pose_doubts="few points", pose_confirmed=True), default)[0] == Verdict.KEPT
    assert judge(measured(fov_x_deg=39.6, fov_y_deg=22.9), default)[1] == ["fov_y_deg<25"]


def test_no_thresholds_keep_a_clip_that_was_never_measured() -> None:
    assert judge(ClipRecord("a", "b", Kind.CLIP), load("none")) == (Verdict.KEPT, [])


@pytest.mark.parametrize("need, kept", [
    (ScaleNeed.any, set(ScaleStatus)),
    (ScaleNeed.consistent, set(ScaleStatus) - {ScaleStatus.NONE}),
    (ScaleNeed.metric, {s for s in ScaleStatus if s.value.startswith("metric")}),
])
def test_the_unit_asked_for_is_the_unit_kept(need: ScaleNeed, kept: set[ScaleStatus]) -> None:
    thresholds = Thresholds(scale=need)
    assert {s for s in ScaleStatus
            if judge(measured(scale_status=str(s)), thresholds)[0] == Verdict.KEPT} == kept


@pytest.mark.parametrize("kind", [Kind.SPAN, Kind.VIDEO, Kind.CLIP])
def test_rows_that_failed_keep_their_own_reasons(kind: Kind) -> None:
    row = ClipRecord("a", "b", kind, verdict=Verdict.FAILED, reasons=["truncated"])
    assert judge(row, load("default")) == (Verdict.FAILED, ["truncated"])
    assert judge(row, load("none")) == (Verdict.FAILED, ["truncated"])


NUMBERS = st.one_of(st.none(), st.just(math.nan), st.sampled_from([0.0, 0.1, 0.35, 1.0, 2.0, 25.0, 120.0]),
                    st.floats(-10, 200))
BOUNDS = st.builds(Bound, min=st.one_of(st.none(), st.sampled_from([0.0, 0.1, 0.35, 25.0])),
                   max=st.one_of(st.none(), st.sampled_from([0.35, 1.0, 2.0, 120.0])),
                   missing=st.sampled_from([None, Missing.reject, Missing.ignore]))
RULED = ["flow_dis", "scale_cov", "fov_x_deg", "cuts"]
RECORDS = st.builds(
    ClipRecord, clip_id=st.just("a"), video_id=st.just("b"), kind=st.sampled_from(Kind),
    verdict=st.sampled_from(Verdict), reasons=st.sampled_from([[], ["truncated"]]),
    motion=st.sampled_from([None, *map(str, Motion)]), pose_engine=st.sampled_from([None, "classical"]),
    pose_failure=st.sampled_from([None, "it's lost"]), pose_doubts=st.sampled_from([None, "few points"]),
    pose_confirmed=st.sampled_from([None, False, True]),
    scale_status=st.sampled_from([None, *map(str, ScaleStatus)]), **dict.fromkeys(RULED, NUMBERS))
RULES = st.builds(
    Thresholds, missing=st.sampled_from(Missing), pose=st.booleans(), trust=st.booleans(),
    scale=st.sampled_from(ScaleNeed),
    motions=st.lists(st.sampled_from([*map(str, Motion), "o'clock"]), max_size=3, unique=True),
    **dict.fromkeys(RULED, BOUNDS))


@settings(max_examples=40, deadline=None)
@given(records=st.lists(RECORDS, min_size=1, max_size=30), thresholds=RULES)
def test_the_sql_keeps_exactly_the_clips_that_the_judge_keeps(
    records: list[ClipRecord], thresholds: Thresholds,
) -> None:
    for number, record in enumerate(records):
        record.clip_id = f"{number:03}"
    index = pa.Table.from_pylist([to_row(r) for r in records], schema=index_schema())
    kept = {r.clip_id for r in records
            if r.kind == Kind.CLIP and judge(r, thresholds)[0] == Verdict.KEPT}
    with duckdb.connect() as connection:
        connection.register("rows", index)
        found = connection.execute(f"SELECT clip_id FROM rows WHERE {to_sql(thresholds)}").fetchall()
    assert {row[0] for row in found} == kept


@pytest.mark.parametrize("name", [*TABLE_6, "default", "none"])
def test_every_threshold_file_is_a_valid_query(name: str) -> None:
    index = pa.Table.from_pylist([to_row(measured())], schema=index_schema())
    with duckdb.connect() as connection:
        connection.register("rows", index)
        where = to_sql(load(name))
        assert connection.execute(f"SELECT count(*) FROM rows WHERE {where}").fetchall() == [(1,)]
