"""Thresholds of the page are those of the annotation, to the last digit."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from annotate.filters import Bound, Missing, ScaleNeed, Thresholds
from pipelines.qa.rules import explain, preset, presets, thresholds_from, to_yaml
from tests.pipelines.qa.conftest import THRESHOLDS, score
from tests.tiny_dataset import clip_record

limits = st.none() | st.floats(allow_nan=False, allow_infinity=False)
bounds = st.builds(Bound, limits, limits, st.none() | st.sampled_from(Missing))


@settings(max_examples=30)
@given(st.builds(Thresholds, flow_dis=bounds, saturation=bounds, pose=st.booleans(), trust=st.booleans(),
                 missing=st.sampled_from(Missing), scale=st.sampled_from(ScaleNeed),
                 motions=st.lists(st.sampled_from(["static", "no", "a: b", "null"]), max_size=3)))
def test_thresholds_survive_the_page_and_the_filter_file(thresholds: Thresholds):
    assert thresholds_from(json.loads(json.dumps(dataclasses.asdict(thresholds)))) == thresholds
    read = thresholds_from(OmegaConf.to_container(OmegaConf.create(to_yaml(thresholds, "data"))))
    for name in ("flow_dis", "saturation"):  # a rule without bounds is off, whatever it would do
        bound = getattr(thresholds, name)
        if bound.min is None and bound.max is None:
            setattr(thresholds, name, Bound())
    assert read == thresholds


def test_the_filter_file_is_one_of_the_annotations_thresholds():
    text = to_yaml(THRESHOLDS, "data")
    read = OmegaConf.merge(OmegaConf.structured(Thresholds), OmegaConf.create(text))
    assert OmegaConf.to_object(read) == THRESHOLDS
    assert "flow_dis: {min: 2.0}" in text or "flow_dis: {min: 2}" in text


@pytest.mark.parametrize("values, said", [
    ({"flow": {}}, "thresholds.flow: no such rule"), ({"scale": "feet"}, "thresholds.scale='feet'"),
    ({"flow_dis": {"min": "1"}}, "thresholds.flow_dis.min='1'"),
    ({"flow_dis": {"least": 1}}, "expected min, max or missing"),
    ({"pose": 1}, "thresholds.pose=1"), ({"motions": "static"}, "thresholds.motions='static'"),
    ({"flow_dis": {"max": float("nan")}}, "expected a number"), ({"motions": [1]}, "thresholds.motions"),
])
def test_values_that_are_no_thresholds_are_refused_by_name(values, said: str):
    with pytest.raises(ValueError, match=said):
        thresholds_from(values)


def test_every_filter_file_can_be_taken_as_a_start():
    assert {"default", "spatialvid", "none"} <= set(presets())
    assert preset("default").flow_dis == Bound(1, 150)
    with pytest.raises(ValueError, match="there are"):
        preset("../annotate")


def test_a_clip_is_told_which_rule_rejects_it_and_why():
    record = clip_record(1, 17, (64, 96))
    score(1, record, {})
    told = explain(record, THRESHOLDS)
    lines = {line["score"]: line for line in told["scores"]}
    assert told["verdict"] == "rejected" and told["reasons"] == ["flow_dis<2"]
    assert lines["flow_dis"]["why"] == "flow_dis<2" and lines["flow_dis"]["limits"] == "≥ 2"
    assert lines["saturation"]["why"] is None and lines["saturation"]["bounded"]
    record.saturation = None
    assert {"missing:saturation"} == {line["why"] for line in explain(record, THRESHOLDS)["scores"]
                                      if line["score"] == "saturation"}
