"""What thresholds would do to the clips in view: totals, each rule's share, histograms, clips at a limit."""

from __future__ import annotations

from typing import Any

import numpy as np

from annotate.filters import Thresholds, sql_rules
from dataset.report.scores import SCORES
from pipelines.qa.index import NO_BIN, ClipIndex, QuestionError
from pipelines.qa.selection import Filter


def tally(index: ClipIndex, thresholds: Thresholds, chosen: Filter) -> dict[str, Any]:
    """Clips and seconds that stay, beside those that the stored verdicts keep; for every rule how many clips
    it would take, and how many it alone. People's verdicts count before any rule."""
    condition, values = chosen.sql()
    rules = sql_rules(thresholds)
    bits = [f"((not ({rule}))::bigint << {i})" for i, rule in enumerate(rules.values())]
    failing = " + ".join(["0::bigint", *bits])
    groups = index.ask(
        "with looked as (select seconds, final = 'kept' as was, judged, verdict, reasons, "
        f"{failing} as failing from clips where kind = 'clip' and {condition}) "
        f"select failing, {_kept('failing = 0')} as stays, was, count(*), coalesce(sum(seconds), 0) "
        "from looked group by all", values)

    return {
        "clips": sum(n for _, _, _, n, _ in groups), "seconds": sum(s for _, _, _, _, s in groups),
        "kept": sum(n for _, stays, _, n, _ in groups if stays),
        "kept_seconds": sum(s for _, stays, _, _, s in groups if stays),
        "stored": sum(n for _, _, was, n, _ in groups if was),
        "stored_seconds": sum(s for _, _, was, _, s in groups if was),
        "gained": sum(n for _, stays, was, n, _ in groups if stays and not was),
        "lost": sum(n for _, stays, was, n, _ in groups if was and not stays),
        "rules": [{"rule": rule, "takes": sum(n for failing, _, _, n, _ in groups if failing >> i & 1),
                   "alone": sum(n for failing, _, _, n, _ in groups if failing == 1 << i)}
                  for i, rule in enumerate(rules)],
    }


def histograms(index: ClipIndex, thresholds: Thresholds, chosen: Filter) -> list[dict[str, Any]]:
    """Every measured score's histogram over the clips in view, those that would stay apart from the rest."""
    condition, values = chosen.sql()
    edges = index.snapshot.edges
    if not edges:
        return []
    found = index.ask_columns(
        f"select {', '.join(f'bin_{score}' for score in edges)}, {_kept(_rules(thresholds))} as stays "
        f"from clips where kind = 'clip' and {condition}", values)
    going = np.where(found["stays"], 0, NO_BIN + 1)
    told = []
    for score in SCORES:
        if score.column not in edges:
            continue
        limits, logarithmic = edges[score.column]
        counts = np.bincount(found[f"bin_{score.column}"] + going, minlength=2 * (NO_BIN + 1))
        stay, go = counts.reshape(2, NO_BIN + 1)
        told.append({
            "score": score.column, "title": score.title, "unit": "%" if score.percent else score.unit,
            "factor": 100 if score.percent else 1, "edges": limits.tolist(), "log": bool(logarithmic),
            "stay": stay[: len(limits) - 1].tolist(), "go": go[: len(limits) - 1].tolist(),
            "missing": int(stay[NO_BIN] + go[NO_BIN]), "bounded": hasattr(thresholds, score.column),
        })
    return told


def at_limit(
    index: ClipIndex, chosen: Filter, score: str, limit: float, upper: bool, count: int = 6,
) -> dict[str, list[dict[str, Any]]]:
    """The clips with files nearest to a limit of a score, on either side of it, the nearest in the middle."""
    if score not in index.snapshot.edges:
        raise QuestionError(f"score={score}: no clip has it")
    condition, values = chosen.sql()
    sides = {"below": ("<=" if upper else "<", "desc"), "above": (">" if upper else ">=", "asc")}
    found = {}
    for side, (sign, order) in sides.items():
        nearest = index.ask(
            f"select clip_id, {score}, final from clips where kind = 'clip' and shard is not null and "
            f"{score} {sign} ? and {condition} order by {score} {order}, clip_id limit ?",
            [limit, *values, count])
        found[side] = [dict(zip(("clip_id", "value", "final"), row)) for row in nearest]
    found["below"].reverse()
    return found


def _kept(rules: str) -> str:
    """Whether a clip stays that passes `rules`: what a person said counts first, a failure cannot be kept."""
    return ("(case judged when 'keep' then true when 'reject' then false "
            f"else ({rules}) and not (verdict = 'failed' and len(reasons) > 0) end)")


def _rules(thresholds: Thresholds) -> str:
    return " and ".join(f"({rule})" for rule in ["true", *sql_rules(thresholds).values()])
