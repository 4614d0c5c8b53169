"""The verdicts of the annotation benchmark: what failed is never passed over."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.annotate_report import report, targets
from benchmarks.pose_run import OURS, PLAIN
from benchmarks.pose_score import Score, score
from benchmarks.throughput import Throughput
from dataset.clip import CameraTrack, FrameVerdict, Motion

GOOD = Score("room walk", OURS[0], False, 161, 1.0, None, motion="parallax", ate=0.001, rotation_step=0.01,
             rotation_first=0.02, focal=0.001, depth=0.004, cpu_s=1.0)
FAILED = Score("room walk", OURS[0], False, 161, 0.0, "lost")


def verdict(scores: list[Score], word: str) -> bool | None:
    return next(met for target, _, met in targets(scores, None) if word in target)


def test_a_target_is_missed_when_all_or_some_failed_and_open_when_there_is_nothing() -> None:
    assert verdict([GOOD], "ATE <=") is True
    assert verdict([GOOD, replace(FAILED, sequence="room orbit")], "ATE <=") is False
    assert verdict([FAILED], "ATE <=") is False
    assert verdict([], "ATE <=") is None


def test_failing_where_plain_pycolmap_fails_too_is_no_success() -> None:
    ours, plain = replace(GOOD, sequence="fox", real=True), replace(GOOD, sequence="fox", method=PLAIN[0])
    assert verdict([ours, plain], "fox: ATE no worse") is True
    lost = replace(ours, failure="lost")
    assert verdict([lost, plain], "fox") is False
    assert verdict([lost, replace(plain, failure="lost")], "fox") is False
    assert verdict([ours, replace(plain, failure="lost")], "fox") is True


def track(motion: Motion, turn_deg: float = 0.0, step: float = 0.0) -> CameraTrack:
    count, unknown = 9, np.full(9, np.nan)
    c2w = np.tile(np.eye(4), (count, 1, 1))
    angle = np.radians(turn_deg) * np.arange(count) / (count - 1)
    c2w[:, 0, 0] = c2w[:, 2, 2] = np.cos(angle)
    c2w[:, 0, 2], c2w[:, 2, 0] = np.sin(angle), -np.sin(angle)
    c2w[:, 0, 3] = step * np.arange(count)
    return CameraTrack(c2w, np.tile([500.0, 500.0, 320.0, 180.0], (count, 1)), (360, 640),
                       np.arange(count) / 16, unknown, unknown.copy(),
                       np.full(count, FrameVerdict.ESTIMATED, np.uint8), motion, "test")


@pytest.mark.parametrize(("truth", "found", "off"), [
    (track(Motion.STATIC), track(Motion.STATIC), False),
    (track(Motion.STATIC), track(Motion.PARALLAX, step=0.1), True),
    (track(Motion.ROTATION_ONLY, 30), track(Motion.ROTATION_ONLY, 30.2), False),
    (track(Motion.ROTATION_ONLY, 30), track(Motion.ROTATION_ONLY, 33), True),
    (track(Motion.ROTATION_ONLY, 30), track(Motion.STATIC), True),
    (track(Motion.ROTATION_ONLY, 30), track(Motion.PARALLAX, 30, step=0.1), True),
])
def test_a_camera_that_stays_can_be_off_too(truth: CameraTrack, found: CameraTrack, off: bool) -> None:
    measured = {"pose": {}, "fields": {"motion": str(found.motion)}}
    result = score("still", OURS[0], False, found, truth, measured, None, {})
    assert result.stays and result.ate is None and result.is_off is off
    assert verdict([result], "says so itself") is not off


def test_the_page_tells_the_time_to_the_first_clip_and_where_the_cpu_went(tmp_path: Path) -> None:
    run = Throughput(1, 10.0, 1, 10.0, 8.0, 7.5, 12.0, 900.0, {"cutting": 4.0, "stages": 8.0}, {"pose": 5.0})
    assert dict((t, met) for t, _, met in targets([GOOD], run))["first annotated clip within 20 s"] is True
    page = report({"machine": "this"}, [GOOD], run)
    assert "first annotated clip after 7.5 s" in page and "stages 67% (8.0 s), cutting 33% (4.0 s)" in page
    run.first_clip_s = None
    assert dict((t, met) for t, _, met in targets([GOOD], run))["first annotated clip within 20 s"] is False
