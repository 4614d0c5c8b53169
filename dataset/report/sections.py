"""The page's account of the whole run: headline, funnel, time, failures, origin. Each is a piece of HTML."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from html import escape

import numpy as np
import pyarrow as pa

from dataset.clip import Kind, Verdict
from dataset.funnel import UNSTATED, Step, duration
from dataset.pose_error import PoseError
from dataset.report.gather import ReportData
from dataset.report.scores import explain_rule

_MAX_FAILURES = 60


def headline(data: ReportData, wall_seconds: float | None) -> str:
    """One sentence, and the numbers a person asks for first."""
    f = data.funnel
    if not f.rows:
        return '<p class="lead">Nothing has been annotated into this data set yet.</p>'
    videos = f"{f.videos:,} video{'s' if f.videos != 1 else ''}"
    lead = (f"<strong>{f.kept:,}</strong> of {f.clips:,} clips kept, "
            f"<strong>{duration(f.kept_seconds)}</strong> of posed video from {videos}.")
    lost = sum(step.count for step in f.steps if step.verdict is Verdict.FAILED)
    tiles = [("kept", f"{f.kept:,}", "clips kept"), ("rejected", f"{f.rejected:,}", "clips rejected"),
             ("failed" if lost else "", f"{lost:,}", "failed"),
             ("", duration(f.seconds), "of video looked at")]
    if wall_seconds:
        tiles.append(("", f"{f.seconds / wall_seconds:.2g}×", "real time, all workers together"))
    elif f.worker_seconds > 0:
        tiles.append(("", f"{f.seconds / f.worker_seconds:.2g}×", "real time per worker"))
    tiles += _error_tiles(list(data.errors.values()))
    cells = "".join(f'<div class="tile {kind}"><b>{escape(value)}</b><span>{escape(label)}</span></div>'
                    for kind, value, label in tiles)
    return f'<p class="lead">{lead}</p><div class="tiles">{cells}</div>'


def _error_tiles(errors: list[PoseError]) -> list[tuple[str, str, str]]:
    tiles = []
    shares = [error.ate_share for error in errors if error.ate_share is not None]
    if shares:
        middle = 100 * float(np.median(shares))
        tiles.append(("", f"{middle:.2g} %", "of the path: true position error, median clip"))
    turns = [error.rotation_first_deg for error in errors if error.rotation_first_deg is not None]
    if turns:
        tiles.append(("", f"{float(np.median(turns)):.2g}°", "true rotation error at worst, median clip"))
    return tiles


def funnel_section(data: ReportData) -> str:
    """What was taken out, rule by rule; every line leads to its clips."""
    f = data.funnel
    if not f.rows:
        return ""
    rows, left = [_funnel_row("in", "", f.rows, f.rows, 0, f.rows)], f.rows
    for step in f.steps:
        left -= step.count
        link = f'data-verdict="{escape(step.verdict)}" data-kind="{escape(step.kind)}" ' \
               f'data-rule="{escape(step.rule)}"'
        rows.append(_funnel_row(_step_label(step), link, step.count, left, step.count, f.rows, step.verdict))
    link = f'data-verdict="{Verdict.KEPT}" data-kind="{Kind.CLIP}"'
    rows.append(_funnel_row("<b>kept</b>", link, f.kept, f.kept, 0, f.rows))
    return ('<section id="funnel"><h2>What became of it</h2>'
            f'<div class="funnel">{"".join(rows)}</div></section>')


def _step_label(step: Step) -> str:
    tags = "" if step.kind is Kind.CLIP else f" <i>{escape(step.kind)}</i>"
    if step.verdict is Verdict.FAILED:
        tags += ' <i class="failed">failed</i>'
    hint = explain_rule(step.rule) or step.rule
    if step.named > step.count:
        hint += f"; named for {step.named:,} in all"
    return f'<span title="{escape(hint)}">{escape(step.rule)}{tags}</span>'


def _funnel_row(
    label: str, link: str, count: int, left: int, taken: int, total: int, verdict: Verdict = Verdict.REJECTED,
) -> str:
    """`label` is HTML. The bar shows what is left and, at its end, what this step took."""
    bar = f'<span class="left" style="width:{100 * left / total:.3f}%"></span>'
    if taken:
        bar += f'<span class="{verdict}" style="width:{100 * taken / total:.3f}%"></span>'
    inner = (f'<span class="rule">{label}</span><span class="bar">{bar}</span>'
             f'<span class="count">{"−" if taken else ""}{count:,}</span>'
             f'<span class="share">{100 * count / total:.1f} %</span>')
    return f'<a href="#clips" {link}>{inner}</a>' if link else f"<div>{inner}</div>"


def stages_section(data: ReportData) -> str:
    """Where the time of the workers went."""
    spent, total = data.funnel.stage_seconds, data.funnel.worker_seconds
    if total <= 0:
        return ""
    clips = max(data.funnel.clips, 1)
    bar, rows = "", ""
    for i, (name, seconds) in enumerate(spent.items()):
        share = 100 * seconds / total
        bar += f'<span class="s{i % 6}" style="width:{share:.3f}%" title="{escape(name)}"></span>'
        rows += (f'<tr><td><span class="dot s{i % 6}"></span>{escape(name)}</td><td>{duration(seconds)}</td>'
                 f"<td>{share:.0f} %</td><td>{seconds / clips:.2f} s</td></tr>")
    return ('<section id="stages"><h2>Where the time went</h2>'
            f'<div class="stack">{bar}</div><table class="plain"><thead><tr><th>stage</th>'
            "<th>worker time</th><th>share</th><th>per clip</th></tr></thead>"
            f"<tbody>{rows}</tbody></table></section>")


def failures_section(index: pa.Table) -> str:
    """What could not be read or measured, in the words of whoever failed, commonest first."""
    columns = ["kind", "uri", "verdict", "reasons", "detail", "pose_failure", "depth_failure"]
    said: dict[tuple[str, str], list[str]] = {}
    for row in index.select(columns).to_pylist():
        failed = row["verdict"] == Verdict.FAILED
        sentence = (row["detail"] if failed else None) or row["pose_failure"] or row["depth_failure"]
        if failed or sentence:
            sentence = sentence or ", ".join(row["reasons"] or []) or UNSTATED
            said.setdefault((row["kind"], sentence), []).append(row["uri"])
    if not said:
        return ""
    ranked = sorted(said.items(), key=lambda item: (-len(item[1]), item[0]))
    rows = "".join(
        f"<tr><td>{len(where):,}</td><td>{escape(kind)}</td><td>{escape(sentence)}<br>"
        f"<small>{escape(_places(where))}</small></td></tr>"
        for (kind, sentence), where in ranked[:_MAX_FAILURES]
    )
    rest = len(ranked) - _MAX_FAILURES
    more = f'<p class="hint">and {rest:,} more kinds of failure</p>' if rest > 0 else ""
    return ('<section id="failures"><h2>What failed, and why</h2>'
            f'<table class="plain"><tbody>{rows}</tbody></table>{more}</section>')


def _places(uris: Iterable[str]) -> str:
    names = list(Counter(uris))
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} others" if len(names) > 3 else "")


def origin_section(data: ReportData) -> str:
    """What made this data set."""
    index, described = data.index, data.description
    engines: dict[str, set[str]] = {}
    for text in index["engines"].unique().to_pylist():
        for stage, name in json.loads(text or "{}").items():
            engines.setdefault(stage, set()).add(str(name))
    facts = {name: ", ".join(sorted({value for value in index[column].unique().to_pylist() if value}))
             for name, column in (("sources", "source"), ("licences", "licence"), ("code", "code_version"))}
    made_by = [f"{stage}: {', '.join(sorted(names))}" for stage, names in sorted(engines.items())]
    facts |= {"engines": "; ".join(made_by), "settings": described.fingerprint, "begun": described.created}
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value or 'not stated')}</td></tr>"
                   for name, value in facts.items())
    settings = {"settings": described.settings, "thresholds": described.thresholds}
    warning = ""
    if data.unread:
        items = "".join(f"<li>{escape(text)}</li>" for text in data.unread[:10])
        warning = f"<p>{len(data.unread):,} clips could not be read back:</p><ul>{items}</ul>"
    return (f'<section id="origin"><h2>How it was made</h2>{warning}'
            f'<table class="plain"><tbody>{rows}</tbody></table><details><summary>all settings</summary>'
            f"<pre>{escape(json.dumps(settings, indent=2))}</pre></details></section>")
