"""The page's view of the clips: pictures, paths from above, score histograms, and the rows of the table."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
import pyarrow as pa

from dataset.clip import Kind, ScaleStatus, Verdict
from dataset.pose_error import PoseError
from dataset.report.charts import Bounds, histogram_svg
from dataset.report.choose import Edge
from dataset.report.gather import Card
from dataset.report.scores import ERRORS, SCORES, Score


def cards_section(cards: list[Card], clips: int) -> str:
    """Pictures of clips, kept and rejected, with the reason on them."""
    if not cards:
        return ""
    sample = "" if len(cards) == clips else f" A sample of {len(cards):,} of {clips:,}."
    return (f'<section id="clips"><h2>Clips</h2><p class="hint">Move over a picture to play it, click for '
            f'everything known of the clip.{sample}</p><div class="chips" id="filter"></div>'
            f'<div class="cards">{"".join(_card(card) for card in cards)}</div>'
            '<p class="hint" id="none" hidden>None of these is among the pictures.</p></section>')


def _card(card: Card) -> str:
    record, picture = card.record, ""
    if card.strip:
        picture = (f'<div class="strip" data-n="{card.pictures}" style="aspect-ratio:{card.aspect:.4f};'
                   f"background-size:{100 * card.pictures}% 100%;"
                   f'background-image:url(data:image/jpeg;base64,{card.strip})"></div>')
    facts = [record.motion.replace("_", " ") if record.motion else "",
             f"{record.path_length:.3g} m" if record.path_length else "",
             f"{record.fov_x_deg:.0f}°" if record.fov_x_deg else "",
             "no metric scale" if record.scale_status == ScaleStatus.RELATIVE else ""]
    line = " · ".join(fact for fact in facts if fact)
    marks = "".join(f"<em>{escape(reason)}</em>" for reason in record.reasons)
    return (f'<article class="card {escape(record.verdict)}" id="c-{escape(record.clip_id)}" tabindex="0" '
            f'data-id="{escape(record.clip_id)}" data-verdict="{escape(record.verdict)}" '
            f'data-rules="{escape("|".join(record.reasons))}">{picture}'
            f'<div class="about"><p>{escape(line)}</p><p class="why">{marks}</p></div></article>')


def paths_section(cards: list[Card]) -> str:
    """Camera paths from above, small, side by side."""
    drawn = [card for card in cards if "<polyline" in card.path]
    if not drawn:
        return ""
    legend = '<span class="key way"></span>estimated'
    if any('class="truth"' in card.path for card in drawn):
        legend += '<span class="key truth"></span>true'
    figures = "".join(
        f'<a class="small {escape(card.record.verdict)}" href="#c-{escape(card.record.clip_id)}" '
        f'data-id="{escape(card.record.clip_id)}">{card.path}</a>' for card in drawn
    )
    return ('<section id="paths"><h2>Camera paths from above</h2><p class="hint">Up is where the first frame '
            "looks. Ring: start; dot: end; wedges: where it looks. Each is drawn to its own scale, in metres "
            f'where they are known. {legend}</p><div class="paths">{figures}</div></section>')


def histograms_section(index: pa.Table, bounds: Mapping[str, Bounds], edges: Mapping[str, list[Edge]]) -> str:
    """Every score that was measured, by verdict, with the limits its rules draw and the clips at them."""
    ids = index["clip_id"]
    verdicts = np.asarray(index["verdict"].to_pylist(), object)
    is_clip = np.asarray(index["kind"].to_pylist(), object) == Kind.CLIP
    figures = []
    for score in SCORES:
        values = index[score.column].to_numpy().astype(np.float64)
        known = is_clip & np.isfinite(values)
        if not known.any():
            continue
        missing = int((is_clip & ~known).sum())
        note = f"<span>not measured: {missing:,}</span>" if missing else ""
        groups = {str(verdict): values[known & (verdicts == verdict)]
                  for verdict in (Verdict.KEPT, Verdict.REJECTED, Verdict.FAILED)}
        if np.ptp(values[known]) > 1e-12 * np.abs(values[known]).max():
            chart = histogram_svg(groups, score, bounds.get(score.column, (None, None)))
        else:
            same = score.text(float(values[known][0]))
            chart = f'<p class="same">{escape(same)}<span> for all {int(known.sum()):,}</span></p>'
        strips = "".join(_edge(edge, ids, score) for edge in edges.get(score.column, []))
        figures.append(f"<figure><figcaption>{escape(score.title)} <code>{escape(score.column)}</code>"
                       f'</figcaption>{chart}<p class="read"><output></output>{note}</p>{strips}</figure>')
    if not figures:
        return ""
    present = [verdict for verdict in (Verdict.KEPT, Verdict.REJECTED, Verdict.FAILED)
               if (verdicts[is_clip] == verdict).any()]
    legend = "".join(f'<span class="key {verdict}"></span>{verdict}' for verdict in present)
    return ('<section id="scores"><h2>Scores</h2><p class="hint">All clips, whatever became of them. Dashed: '
            f"the limits in force, and under the chart the clips nearest to them on either side. Move over a "
            f"chart to see what another limit would leave. {legend}</p>"
            f'<div class="histograms">{"".join(figures)}</div></section>')


def _edge(edge: Edge, ids: pa.ChunkedArray, score: Score) -> str:
    """Places for the pictures of the clips at a limit; the page's script takes them from the cards."""
    below, above = (" ".join(ids[i].as_py() for i in rows) for rows in (edge.below, edge.above))
    return (f'<div class="edge" data-below="{escape(below)}" data-above="{escape(above)}" '
            f'title="the clips nearest to {escape(score.text(edge.limit))}, below and above"></div>')


def table_rows(index: pa.Table, rows: list[int], errors: Mapping[str, PoseError]) -> dict[str, Any]:
    """The table for the page's script: the columns that hold anything, and the rows as text and numbers.

    The last value of a row is the sentence behind its failure, for which there is no column.
    """
    chosen = index.take(pa.array(rows, pa.int64())).to_pylist()
    known = [errors.get(row["clip_id"]) for row in chosen]
    scores = [score for score in SCORES if any(row[score.column] is not None for row in chosen)]
    true = [score for score in ERRORS if any(getattr(e, score.column, None) is not None for e in known)]
    texts = ("clip", "verdict", "reasons", "from", "motion", "scale")
    columns: list[dict[str, Any]] = [{"title": title, "text": True} for title in texts]
    columns += [{"title": "start", "unit": "s"}, {"title": "length", "unit": "s"}]
    columns += [{"title": score.title, "unit": "%" if score.percent else score.unit, "name": score.column}
                for score in [*true, *scores]]
    values = []
    for row, error in zip(chosen, known, strict=True):
        name = row["clip_id"][:8] if row["kind"] == Kind.CLIP else row["kind"]
        ends = None if row["end_s"] is None or row["start_s"] is None else row["end_s"] - row["start_s"]
        line: list[Any] = [name, row["verdict"], row["reasons"] or [], row["uri"], row["motion"],
                           row["scale_status"], _short(row["start_s"]), _short(ends)]
        line += [_shown(score, getattr(error, score.column, None)) for score in true]
        line += [_shown(score, row[score.column]) for score in scores]
        values.append([row["clip_id"], *line, _why(row)])
    return {"columns": columns, "rows": values, "of": index.num_rows}


def _why(row: Mapping[str, Any]) -> str | None:
    return row["detail"] or row["pose_failure"] or row["depth_failure"]


def _shown(score: Score, value: float | None) -> float | None:
    return _short(None if value is None else value * (100 if score.percent else 1))


def _short(value: float | None) -> float | None:
    if value is None or not np.isfinite(value):
        return None
    return 0.0 if abs(value) < 1e-9 else float(f"{value:.4g}")
