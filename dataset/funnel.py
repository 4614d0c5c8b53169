"""What became of everything that went in: how many pieces each rule took, and where the time went.

Computed from the index alone, so it can be asked at any time and after any change of thresholds.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from dataset.clip import Kind, Verdict

UNSTATED = "no reason given"
COLUMNS = ("clip_id", "video_id", "kind", "verdict", "reasons", "start_s", "end_s", "frames", "fps",
           "stage_seconds")
"""Columns of the index that `funnel` reads."""

_ORDER = ((Kind.VIDEO, Verdict.FAILED), (Kind.VIDEO, Verdict.REJECTED), (Kind.SPAN, Verdict.FAILED),
          (Kind.SPAN, Verdict.REJECTED), (Kind.CLIP, Verdict.FAILED), (Kind.CLIP, Verdict.REJECTED))


@dataclass(frozen=True)
class Step:
    """What one rule took out.

    count: rows that name it first, so that the counts of all steps add up; named: rows that name it at all.
    """

    rule: str
    kind: Kind
    verdict: Verdict
    count: int
    named: int
    seconds: float  # of video
    clip_ids: list[str]


@dataclass(frozen=True)
class Funnel:
    """The way from `rows` pieces (clips, spans that made none, videos that made none) to `kept` clips."""

    rows: int
    videos: int
    clips: int  # written or measured: kept + rejected + failed
    kept: int
    rejected: int
    failed: int
    seconds: float  # of video, in clips and spans; whole failed videos have no known length
    kept_seconds: float
    steps: list[Step]
    stage_seconds: dict[str, float] = field(default_factory=dict)  # wall time of workers, slowest first

    @property
    def worker_seconds(self) -> float:
        return sum(self.stage_seconds.values())


def funnel(index: pa.Table) -> Funnel:
    """Count an index, as `dataset.catalog.read_index` gives it; `COLUMNS` are enough."""
    kinds, verdicts = _strings(index, "kind"), _strings(index, "verdict")
    ids, seconds = _strings(index, "clip_id"), row_seconds(index)
    reasons = [row or [UNSTATED] for row in index["reasons"].to_pylist()]
    is_clip, is_kept = kinds == Kind.CLIP, verdicts == Verdict.KEPT
    steps: list[Step] = []
    for kind, verdict in _ORDER:
        members = np.flatnonzero((kinds == kind) & (verdicts == verdict)).tolist()
        named = Counter(rule for i in members for rule in dict.fromkeys(reasons[i]))
        taken: dict[str, list[int]] = {}
        for i in members:
            taken.setdefault(reasons[i][0], []).append(i)
        steps += [
            Step(rule, kind, verdict, len(rows), named[rule], float(seconds[rows].sum()), ids[rows].tolist())
            for rule, rows in sorted(taken.items(), key=lambda item: (-len(item[1]), item[0]))
        ]
    return Funnel(
        rows=index.num_rows, videos=len(np.unique(_strings(index, "video_id"))), clips=int(is_clip.sum()),
        kept=int((is_clip & is_kept).sum()), rejected=int((is_clip & (verdicts == Verdict.REJECTED)).sum()),
        failed=int((is_clip & (verdicts == Verdict.FAILED)).sum()), seconds=float(seconds.sum()),
        kept_seconds=float(seconds[is_clip & is_kept].sum()), steps=steps,
        stage_seconds=_stage_seconds(index),
    )


def render_text(result: Funnel, width: int = 100) -> str:
    """The funnel as lines of plain text, for a console."""
    if not result.rows:
        return "nothing was annotated: the index has no rows"
    size = max(len(f"{result.rows:,}"), 5)
    labels = [_label(step) for step in result.steps]
    column = min(max([len(label) for label in labels] + [len("kept")]), width // 2)
    bar = max(width - size - column - 20, 8)
    head = f"in, from {result.videos:,} videos; {duration(result.seconds)} of video"
    lines = [f"{result.rows:>{size},}  {head}"]
    counts = [(-step.count, label) for step, label in zip(result.steps, labels, strict=True)]
    for count, label in [*counts, (result.kept, "kept")]:
        share = abs(count) / result.rows
        line = f"{count:>{size},}  {label[:column]:<{column}}  {share:>6.1%}  {_bar(share, bar)}"
        lines.append(line.rstrip())
    lines.append(f"{'':>{size}}  {duration(result.kept_seconds)} of video kept")
    total = result.worker_seconds
    if total > 0:
        parts = [f"{name} {spent / total:.0%}" for name, spent in result.stage_seconds.items()]
        lines.append(f"{'':>{size}}  time of workers: {duration(total)} ({', '.join(parts)})")
    return "\n".join(lines)


def duration(seconds: float) -> str:
    """A length of time as people say it: "48 s", "12 min 5 s", "3 h 20 min", "12 d 4 h"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for unit, name, part, part_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            rest = whole % unit // part
            return f"{whole // unit} {name} {rest} {part_name}" if rest else f"{whole // unit} {name}"
    return f"{whole} s"


def _label(step: Step) -> str:
    what = {Kind.CLIP: "", Kind.SPAN: " (span)", Kind.VIDEO: " (video)"}[step.kind]
    return step.rule + what + (" [failed]" if step.verdict is Verdict.FAILED else "")


def _bar(share: float, width: int) -> str:
    """At least a sliver for anything that is not zero."""
    eighths = max(round(share * width * 8), 1 if share > 0 else 0)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def _strings(index: pa.Table, name: str) -> np.ndarray:
    return np.asarray(index[name].to_pylist(), dtype=object)


def _numbers(index: pa.Table, name: str) -> np.ndarray:
    return index[name].cast(pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64)


def row_seconds(index: pa.Table) -> np.ndarray:
    """Seconds of video of every row: of a clip the time it plays, else the span; 0 where unknown."""
    if not index.num_rows:
        return np.zeros(0)
    played = _numbers(index, "frames") / _numbers(index, "fps")
    span = _numbers(index, "end_s") - _numbers(index, "start_s")
    return np.nan_to_num(np.where(np.isfinite(played), played, span), nan=0.0, posinf=0.0, neginf=0.0)


def _stage_seconds(index: pa.Table) -> dict[str, float]:
    spent: Counter[str] = Counter()
    for text, count in Counter(index["stage_seconds"].to_pylist()).items():
        for stage, seconds in json.loads(text or "{}").items():
            spent[stage] += seconds * count
    return dict(sorted(spent.items(), key=lambda item: (-item[1], item[0])))
