"""Which clips are kept: a pure predicate over stored scores, in Python and as a WHERE clause.

Nothing here measures anything, so a change of thresholds is a query. A score that a rule asks for and
that was never measured rejects the clip, with the reason "missing:<score>", as the published loader does;
`missing: ignore`, for all rules or for one, passes such clips over instead.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from enum import StrEnum

from dataset.clip import ClipRecord, Kind, ScaleStatus, Verdict


class Missing(StrEnum):
    """What a rule does with a clip that lacks its score."""

    reject = "reject"
    ignore = "ignore"


class ScaleNeed(StrEnum):
    """What the unit of the translations must be."""

    any = "any"  # no translation at all is fine, too
    consistent = "consistent"  # metres, or a unit of the clip's own
    metric = "metric"


@dataclass
class Bound:
    """Inclusive bounds of one score; a rule with neither bound is off."""

    min: float | None = None  # least value kept
    max: float | None = None  # largest value kept
    missing: Missing | None = None  # null: as `thresholds.missing` says


@dataclass
class Thresholds:
    """What a clip must satisfy to be kept. Every `Bound` bears the name of the score it bounds."""

    missing: Missing = Missing.reject  # a score that a rule asks for and that was never measured
    pose: bool = False  # the cameras must have been found
    trust: bool = False  # no second engine may contradict the cameras; where their own engine doubts them,
    # a second one must agree
    motions: list[str] = field(default_factory=list)  # camera motions that are rejected: static,
    # rotation_only, planar, low_texture, chaotic
    scale: ScaleNeed = ScaleNeed.any  # what the unit of the translations must be
    caption: bool = False  # there must be a caption, and it must not speak of the camera's motion
    posed_share: Bound = field(default_factory=Bound)  # frames with a pose
    pose_inlier_share: Bound = field(default_factory=Bound)
    reprojection_px: Bound = field(default_factory=Bound)  # certifies nothing when small
    agreement_position: Bound = field(default_factory=Bound)  # of a second engine, share of the path
    agreement_rotation_deg: Bound = field(default_factory=Bound)
    agreement_focal: Bound = field(default_factory=Bound)
    selfcheck_sampson_px: Bound = field(default_factory=Bound)
    selfcheck_cheirality: Bound = field(default_factory=Bound)
    fov_x_deg: Bound = field(default_factory=Bound)
    fov_y_deg: Bound = field(default_factory=Bound)
    fov_outside_share: Bound = field(default_factory=Bound)  # frames outside [25, 120] degrees
    focal_divergence: Bound = field(default_factory=Bound)  # |fx - fy| over their mean
    scale_cov: Bound = field(default_factory=Bound)  # without per-frame scales it does not apply, which
    # counts as missing, never as passed: reason "not_applicable:scale_cov"
    scale_sigma_log: Bound = field(default_factory=Bound)
    speed_max: Bound = field(default_factory=Bound)  # m/s, or path lengths/s where the scale is relative
    acceleration_max: Bound = field(default_factory=Bound)
    angular_speed_max_deg: Bound = field(default_factory=Bound)  # degrees/s
    angular_jump_deg: Bound = field(default_factory=Bound)
    jerk_ratio: Bound = field(default_factory=Bound)
    depth_valid_share: Bound = field(default_factory=Bound)
    vmaf_motion: Bound = field(default_factory=Bound)
    flow_unimatch: Bound = field(default_factory=Bound)  # pixels per 0.5 s, needs the UniMatch engine
    flow_dis: Bound = field(default_factory=Bound)  # the same by OpenCV's DIS
    flow_raft: Bound = field(default_factory=Bound)  # the same, needs the RAFT engine
    dover: Bound = field(default_factory=Bound)  # needs the DOVER engine
    dover_technical: Bound = field(default_factory=Bound)  # needs the DOVER engine
    dover_aesthetic: Bound = field(default_factory=Bound)  # needs the DOVER engine
    aesthetic: Bound = field(default_factory=Bound)  # needs the aesthetic engine
    text_share: Bound = field(default_factory=Bound)  # needs the text engine
    overlay_share: Bound = field(default_factory=Bound)  # picture under a logo or text that stands still
    duplicate_similarity: Bound = field(default_factory=Bound)  # to the clip kept in its place
    saturation: Bound = field(default_factory=Bound)
    cuts: Bound = field(default_factory=Bound)
    people: Bound = field(default_factory=Bound)  # needs a vision-language engine
    vehicles: Bound = field(default_factory=Bound)  # needs a vision-language engine
    animals: Bound = field(default_factory=Bound)  # needs a vision-language engine
    entities: Bound = field(default_factory=Bound)  # their sum; needs a vision-language engine
    vlm_quality: Bound = field(default_factory=Bound)  # needs a vision-language engine
    sharpness: Bound = field(default_factory=Bound)
    exposure: Bound = field(default_factory=Bound)
    dark_share: Bound = field(default_factory=Bound)
    bright_share: Bound = field(default_factory=Bound)


def judge(record: ClipRecord, thresholds: Thresholds) -> tuple[Verdict, list[str]]:
    """Verdict of a row, and the names of all rules that reject it, in the order of `Thresholds`.

    Rows that failed, and rows that never became a clip, keep the verdict and the reasons they have.
    """
    if record.kind != Kind.CLIP or (record.verdict == Verdict.FAILED and record.reasons):
        return record.verdict, list(record.reasons)
    reasons = _switch_reasons(record, thresholds)
    for score, bound in _bounds(thresholds):
        value = getattr(record, score)
        if value is None or math.isnan(value):
            if _missing_rejects(bound, thresholds):
                reasons.append(f"{'not_applicable' if score == 'scale_cov' else 'missing'}:{score}")
        elif bound.min is not None and value < bound.min:
            reasons.append(f"{score}<{bound.min:g}")
        elif bound.max is not None and value > bound.max:
            reasons.append(f"{score}>{bound.max:g}")
    return (Verdict.REJECTED if reasons else Verdict.KEPT), reasons


def _switch_reasons(record: ClipRecord, thresholds: Thresholds) -> list[str]:
    reasons = []
    if thresholds.motions:
        if record.motion in thresholds.motions:
            reasons.append(f"motion={record.motion}")
        elif record.motion is None and thresholds.missing == Missing.reject:
            reasons.append("missing:motion")
    if thresholds.pose:
        if record.pose_failure is not None:
            reasons.append("pose_failure")
        elif record.pose_engine is None:
            reasons.append("missing:pose")
    if thresholds.trust:
        if record.pose_confirmed is False:
            reasons.append("pose_contradicted")
        elif record.pose_doubts is not None and not record.pose_confirmed:
            reasons.append("pose_doubted")
    status = record.scale_status
    if thresholds.scale != ScaleNeed.any and status not in _scales(thresholds.scale):
        reasons.append(f"scale_status={status}" if status else "missing:scale_status")
    if thresholds.caption:
        if record.caption is None:
            reasons.append("missing:caption")
        elif record.caption_failure is not None:
            reasons.append("caption_failure")
    return reasons


def to_sql(thresholds: Thresholds) -> str:
    """The predicate "this row is kept" as a DuckDB expression over the columns of the index."""
    terms = ["kind = 'clip'", "NOT (verdict = 'failed' AND len(reasons) > 0)",
             *sql_rules(thresholds).values()]
    return "\n  AND ".join(f"({term})" for term in terms)


def sql_rules(thresholds: Thresholds) -> dict[str, str]:
    """What every rule that is on lets pass: DuckDB expressions by the rule's field, in order of judgement."""
    rules = {}
    if thresholds.motions:
        motions = ", ".join(_quoted(motion) for motion in thresholds.motions)
        unknown = str(thresholds.missing == Missing.ignore).lower()
        rules["motions"] = f"coalesce(motion NOT IN ({motions}), {unknown})"
    if thresholds.pose:
        rules["pose"] = "pose_failure IS NULL AND pose_engine IS NOT NULL"
    if thresholds.trust:
        rules["trust"] = "coalesce(pose_confirmed, pose_doubts IS NULL)"
    if thresholds.scale != ScaleNeed.any:
        allowed = ", ".join(_quoted(status) for status in _scales(thresholds.scale))
        rules["scale"] = f"coalesce(scale_status IN ({allowed}), false)"
    if thresholds.caption:
        rules["caption"] = "caption IS NOT NULL AND caption_failure IS NULL"
    for score, bound in _bounds(thresholds):
        value = f"{score}::DOUBLE"
        inside = []
        if bound.min is not None:
            inside.append(f"{value} >= {bound.min!r}::DOUBLE")
        if bound.max is not None:
            inside.append(f"{value} <= {bound.max!r}::DOUBLE")
        unmeasured = f"{score} IS NULL OR isnan({value})"
        passes = str(not _missing_rejects(bound, thresholds)).lower()
        rules[score] = f"CASE WHEN {unmeasured} THEN {passes} ELSE {' AND '.join(inside)} END"
    return rules


def _bounds(thresholds: Thresholds) -> list[tuple[str, Bound]]:
    """(score, bound) of every rule that is on."""
    named = ((f.name, getattr(thresholds, f.name)) for f in dataclasses.fields(thresholds))
    return [(name, value) for name, value in named
            if isinstance(value, Bound) and (value.min is not None or value.max is not None)]


def _missing_rejects(bound: Bound, thresholds: Thresholds) -> bool:
    return (bound.missing or thresholds.missing) == Missing.reject


def _scales(need: ScaleNeed) -> list[str]:
    return [str(status) for status in ScaleStatus
            if status.is_metric or (need == ScaleNeed.consistent and status == ScaleStatus.RELATIVE)]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
