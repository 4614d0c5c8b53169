"""The line that says how a run is doing."""

from __future__ import annotations

import io

from dataset.clip import ClipRecord, Kind, Verdict
from dataset.latents import LatentRecord, Status
from pipelines.latents_progress import EncodeProgress
from pipelines.progress import Progress


def clip(name: str, verdict: Verdict = Verdict.KEPT, uri: str = "a") -> ClipRecord:
    return ClipRecord(name, "v", Kind.CLIP, uri=uri, verdict=verdict, frames=161, fps=16.0)


def test_the_line_counts_videos_clips_and_failures_and_names_the_slowest_stage():
    progress = Progress(videos=4, videos_done=1, workers={"cut": 1, "pose": 4}, stream=io.StringIO())
    progress.row(clip("1"), {"cut": 2.0, "pose": 7.0})
    progress.row(clip("2", Verdict.REJECTED), {"cut": 2.0, "pose": 7.0})
    progress.row(ClipRecord("3", "w", Kind.VIDEO, verdict=Verdict.FAILED), {})
    progress.videos(1)
    line = progress.line()
    assert line.startswith("videos 2/4  |  1 failed  |  clips kept 1 rejected 1 failed 0  |  ")
    assert "s of video per s" in line
    assert "slowest cut" in line  # 4 s of one worker are more than 14 s of four


def test_time_left_is_told_within_the_first_video():
    progress = Progress(videos=1, videos_done=0, workers={}, stream=io.StringIO())
    assert "ETA" not in progress.line()
    progress.row(clip("1"), {}, share=0.25)
    progress.row(clip("0"), {}, share=0.1)  # clips arrive in no order
    left, elapsed = progress._left_s(10.0), 10.0
    assert left == elapsed / 0.25 * 0.75


def test_no_time_is_left_to_tell_at_the_end():
    progress = Progress(videos=1, videos_done=0, workers={}, stream=io.StringIO())
    progress.row(clip("1"), {}, share=1.0)
    progress.videos(1)
    assert "ETA" not in progress.line()


def test_without_a_terminal_every_report_is_a_line_of_its_own():
    stream = io.StringIO()
    with Progress(videos=1, videos_done=0, workers={}, stream=stream):
        pass
    assert stream.getvalue().startswith("videos 0/1") and stream.getvalue().endswith("\n")
    assert "\r" not in stream.getvalue()


def test_the_line_of_encoding_counts_clips_and_failures_and_tells_the_time_left():
    progress = EncodeProgress(clips=8, before=3, stream=io.StringIO())
    assert progress.line().startswith("clips 3/8  |  0.00 s of video per s") and "ETA" not in progress.line()
    progress.clip(LatentRecord("a", Status.OK, frames=161, fps=16.0))
    progress.clip(LatentRecord("b", Status.FAILED, reason="undecodable"))
    assert progress.line().startswith("clips 5/8  |  1 failed  |  ") and "ETA" in progress.line()
