"""The annotation benchmark as Markdown: tables, and each target beside what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.pose_run import OURS, PLAIN, TIME_LIMIT_S
from benchmarks.pose_score import SILENT_LIMIT, Score
from benchmarks.throughput import Throughput

_FIRST_CLIP_S = 20.0
_TELLING = 0.1
"""Share of the error against a reference, below which the difference of two methods says nothing of it."""
_EASY = ("repeated texture", "rotation only", "static")


def report(about: dict[str, Any], scores: Sequence[Score], pipeline: Throughput | None) -> str:
    """The whole page."""
    lines = ["# Annotation", "", *(f"- {key}: {value}" for key, value in about.items()), "",
             "CPU seconds are those of all processes; wall time depends on what else the machine did. ATE is "
             "the RMS distance after Sim(3) over the length of the path; rotations are compared from one "
             "posed frame to the next and to the first one (RMS, degrees), so that no alignment enters. "
             "Plain pycolmap (SIFT, sequential matching, its defaults, one thread, at most "
             f"{TIME_LIMIT_S:g} s) sees every frame of the real sequences, but every fourth rendered one "
             "at 640 px, and poses only those; `classical` sees 720p and poses every frame.", ""]
    lines += ["## Targets", "", "| target | measured | met |", "|---|---|---|"]
    lines += [f"| {target} | {found} | {'–' if met is None else 'yes' if met else '**no**'} |"
              for target, found, met in targets(scores, pipeline)]
    for title, real in (("Rendered sequences", False), ("Real sequences", True)):
        group = [s for s in scores if s.real is real]
        if group:
            lines += ["", f"## {title}", "", *_table(group)]
    lines += ["", "## What the records say about themselves", "", *_warnings(scores)]
    lines += ["", "## Depth and scale", "", *_depth_and_scale(scores)]
    if pipeline is not None:
        lines += ["", "## Throughput of the whole pipeline, 720p", "", *_pipeline(pipeline)]
    return "\n".join(lines) + "\n"


def targets(scores: Sequence[Score], pipeline: Throughput | None) -> list[tuple[str, str, bool | None]]:
    """(target, measured, met); met is None where this run cannot tell."""
    ours = [s for s in scores if s.method == OURS[0]]
    rendered = [s for s in ours if not s.real]
    moving = [s for s in rendered if not any(word in s.sequence for word in _EASY)]
    zooms = [s for s in ours if "zoom" in s.sequence]
    found = [
        _worst("rendered, moving, texture not repeated: ATE <= 0.5 % of the path", moving, "ate",
               0.005, "{:.2%}"),
        _worst("rendered: rotation frame to frame <= 0.3 deg", rendered, "rotation_step", 0.3, "{:.3f}"),
        _worst("rendered: rotation to frame 0 <= 0.3 deg", rendered, "rotation_first", 0.3, "{:.3f}"),
        _worst("zoom: focal <= 1 %", zooms, "focal", 0.01, "{:.2%}"),
        _worst("rendered: median depth error <= 5 % where valid", rendered, "depth", 0.05, "{:.2%}"),
    ]
    for real in (s for s in ours if s.real):
        plain = [s for s in scores if s.sequence == real.sequence and s.method in PLAIN]
        found += _against_plain(real, plain)
    silent = [s for s in ours if (s.is_off or (s.failure is None and s.posed < 0.95)) and s.warned is None]
    off = [s for s in ours if s.is_off]
    names = ", ".join(s.sequence for s in silent)
    found.append(("every clip off by more than 3 % says so itself",
                  f"{len(off)} off, silent: {names or 'none'}", not silent))
    if pipeline is None:
        found.append(("whole pipeline >= 1 s of video a second", "not run", None))
    else:
        first = pipeline.first_clip_s
        found.append((f"first annotated clip within {_FIRST_CLIP_S:g} s", _form(first, "{:.1f} s"),
                      first is not None and first < _FIRST_CLIP_S))
        speed = pipeline.video_s / pipeline.wall_s
        found.append(("whole pipeline >= 1 s of video a second", f"{speed:.2f} (CPU: "
                      f"{pipeline.cpu_s / pipeline.video_s:.2f} s a second of video)",
                      speed >= 1 if pipeline.code == 0 else False))
    return found


def _worst(
    target: str, scores: Sequence[Score], value: str, limit: float, form: str
) -> tuple[str, str, bool | None]:
    known = [(v, s) for s in scores if (v := getattr(s, value)) is not None]
    failed = [s.sequence for s in scores if s.failure is not None]
    if not known:
        found = f"failed: {', '.join(failed)}" if failed else "nothing to measure"
        return target, found, False if failed else None
    worst, where = max(known, key=lambda pair: pair[0])
    text = (f"median {form.format(np.median([v for v, _ in known]))}, "
            f"worst {form.format(worst)} ({where.sequence})")
    return target, text + (f"; failed: {', '.join(failed)}" if failed else ""), worst <= limit and not failed


def _against_plain(ours: Score, plain: Sequence[Score]) -> list[tuple[str, str, bool | None]]:
    """Accuracy against the better of both mappers that posed most, time against the faster that finished."""
    usable = [s for s in plain if s.failure is None and s.ate is not None and s.posed >= 0.9]
    target = f"{ours.sequence}: no worse than plain pycolmap"
    if ours.failure is not None or ours.ate is None:
        return [(target, f"failed: {ours.failure or 'nothing posed'}", False)]
    if not usable:
        return [(target, "plain pycolmap posed nothing", True)]
    best = min(usable, key=lambda s: s.ate or 0.0)
    fastest = min(usable, key=lambda s: s.cpu_s)
    assert best.ate is not None
    found: list[tuple[str, str, bool | None]] = [
        (f"{ours.sequence}: ATE no worse than the better plain mapper",
         f"{ours.ate:.3%} against {best.ate:.3%} ({best.method})", ours.ate <= best.ate),
        (f"{ours.sequence}: >= 5x faster (CPU)",
         f"{fastest.cpu_s / ours.cpu_s:.1f}x ({ours.cpu_s:.1f} s against {fastest.cpu_s:.1f} s, "
         f"{fastest.method})",
         fastest.cpu_s >= 5 * ours.cpu_s),
    ]
    if ours.rotation_first is not None and best.rotation_first is not None:
        found.insert(1, (f"{ours.sequence}: rotation to frame 0 no worse", *_rotation(ours, best)))
    return found


def _rotation(ours: Score, plain: Score) -> tuple[str, bool | None]:
    """Where both methods agree far better with each other than with the reference, it cannot tell which is
    nearer to the truth: what both have is its own error."""
    assert ours.rotation_first is not None and plain.rotation_first is not None
    text = f"{ours.rotation_first:.3f} against {plain.rotation_first:.3f} deg"
    apart = plain.rotation_apart.get(ours.method)
    if ours.rotation_first <= plain.rotation_first:
        return text, True
    if apart is None or apart > _TELLING * plain.rotation_first:
        return text, False
    return f"{text}, {apart:.3f} from each other: the reference cannot tell", None


def _table(scores: Sequence[Score]) -> list[str]:
    lines = ["| sequence | method | posed | ATE | rot. step | rot. to 0 | focal | focal, worst | CPU s "
             "| wall s | peak MB | failure |", "|---|---|---|---|---|---|---|---|---|---|---|---|"]
    for s in scores:
        lines.append(
            f"| {s.sequence} | {s.method} | {s.posed:.0%} of {s.frames} | {_form(s.ate, '{:.3%}')} "
            f"| {_form(s.rotation_step, '{:.3f}')} | {_form(s.rotation_first, '{:.3f}')} "
            f"| {_form(s.focal, '{:.2%}')} | {_form(s.focal_worst, '{:.2%}')} | {s.cpu_s:.1f} "
            f"| {s.wall_s:.1f} | {s.peak_mb:.0f} | {s.failure or ''} |")
    return lines


def _warnings(scores: Sequence[Score]) -> list[str]:
    lines = [f"Off means more than {SILENT_LIMIT:.0%} of the path from the truth. The second engine runs on "
             "a sample of the clips by default; here it was asked every time.", "",
             "| sequence | method | off | motion | says by itself | with the second engine | its CPU s |",
             "|---|---|---|---|---|---|---|"]
    for s in scores:
        if s.method in OURS:
            lines.append(f"| {s.sequence} | {s.method} | {'yes' if s.is_off else 'no'} | {s.motion or '–'} "
                         f"| {s.warned_alone or '–'} | {s.warned or '–'} "
                         f"| {_form(s.second_cpu_s, '{:.1f}')} |")
    return lines


def _depth_and_scale(scores: Sequence[Score]) -> list[str]:
    lines = ["| sequence | method | depth error, median | valid | depth CPU s | scale error | scale status |",
             "|---|---|---|---|---|---|---|"]
    for s in scores:
        if s.method in OURS and (s.depth_valid is not None or s.scale_status):
            lines.append(f"| {s.sequence} | {s.method} | {_form(s.depth, '{:.2%}')} "
                         f"| {_form(s.depth_valid, '{:.0%}')} | {_form(s.depth_cpu_s, '{:.1f}')} "
                         f"| {_form(s.scale, '{:+.1%}')} | {s.scale_status or '–'} |")
    return lines


def _pipeline(run: Throughput) -> list[str]:
    if run.code:
        return [f"`python -m pipelines.annotate` ended with code {run.code}:", "", "```", run.output, "```"]
    verdicts = ", ".join(f"{count} {name}" for name, count in sorted(run.verdicts.items()))
    return [f"- {run.videos} videos, {run.video_s:.0f} s at 1280x720 and 24 frames a second; "
            f"{run.clips} clips, {run.clip_s:.0f} s ({verdicts})",
            f"- {run.wall_s:.1f} s in all, start-up included: **{run.video_s / run.wall_s:.2f} s of video a "
            f"second**; CPU {run.cpu_s:.0f} s, {run.cpu_s / run.video_s:.2f} s a second of video",
            f"- CPU by process: {_shares(run.cpu_of)}",
            f"- first annotated clip after {_form(run.first_clip_s, '{:.1f} s')}",
            f"- peak memory of all processes {run.peak_mb:.0f} MB (shared pages counted once)",
            f"- wall time in the workers: {_shares(run.stage_s)}"]


def _shares(seconds: Mapping[str, float]) -> str:
    total = sum(seconds.values()) or 1.0
    return ", ".join(f"{name} {spent / total:.0%} ({spent:.1f} s)" for name, spent in
                     sorted(seconds.items(), key=lambda item: -item[1]))


def _form(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)
