"""What thresholds would do to the clips in view: totals, each rule's share, histograms, clips at a limit."""

from __future__ import annotations

from typing import Any

from annotate.filters import Thresholds, sql_rules, to_sql
from dataset.report.scores import SCORES
from pipelines.qa.index import NO_BIN, ClipIndex, QuestionError
from pipelines.qa.selection import Filter


def tally(index: ClipIndex, thresholds: Thresholds, chosen: Filter) -> dict[str, Any]:
    """Clips and seconds that stay, beside those that the stored verdicts keep; for every rule how many clips
    it would take, and how many it alone. People's verdicts count before any rule."""
    condition, values = chosen.sql()
    rules = sql_rules(thresholds)
    each = "".join(f", ({rule}) as rule{i}" for i, rule in enumerate(rules.values()))
    fails = " + ".join(["0", *(f"(not rule{i})::int" for i in range(len(rules)))])
    counts = "".join(f", count(*) filter (where not rule{i})"
                     f", count(*) filter (where not rule{i} and fails = 1)" for i in range(len(rules)))
    (row,) = index.ask(
        f"with looked as (select seconds, final = 'kept' as was, {_kept(thresholds)} as stays{each} "
        f"from clips where kind = 'clip' and {condition}), "
        f"counted as (select *, {fails} as fails from looked) "
        "select count(*), coalesce(sum(seconds), 0), "
        "count(*) filter (where stays), coalesce(sum(seconds) filter (where stays), 0), "
        "count(*) filter (where was), coalesce(sum(seconds) filter (where was), 0), "
        "count(*) filter (where stays and not was), count(*) filter (where was and not stays)"
        f"{counts} from counted", values)
    names = ("clips", "seconds", "kept", "kept_seconds", "stored", "stored_seconds", "gained", "lost")
    taken = row[len(names):]
    return dict(zip(names, row)) | {"rules": [
        {"rule": rule, "takes": taken[2 * i], "alone": taken[2 * i + 1]} for i, rule in enumerate(rules)]}


def histograms(index: ClipIndex, thresholds: Thresholds, chosen: Filter) -> list[dict[str, Any]]:
    """Every measured score's histogram over the clips in view, those that would stay apart from the rest."""
    condition, values = chosen.sql()
    edges = index.snapshot.edges
    if not edges:
        return []
    bins = [f"bin_{score}" for score in edges]
    sets = ", ".join(f"({name}, stays)" for name in bins)
    found = index.ask(
        f"with looked as materialized (select {', '.join(bins)}, {_kept(thresholds)} as stays from clips "
        f"where kind = 'clip' and {condition}) "
        f"select {', '.join(bins)}, stays, count(*), grouping_id({', '.join(bins)}) from looked "
        f"group by grouping sets ({sets})", values)
    counts = {score: {True: [0] * (len(edges[score][0]) - 1), False: [0] * (len(edges[score][0]) - 1)}
              for score in edges}
    missing = dict.fromkeys(edges, 0)
    order = list(edges)
    for row in found:
        # grouping_id has a one for every column that is not grouped by: the zero says whose bin this is
        place = next(i for i in range(len(order)) if not row[-1] >> (len(order) - 1 - i) & 1)
        score, bin_, stays, count = order[place], row[place], row[-3], row[-2]
        if bin_ == NO_BIN:
            missing[score] += count
        else:
            counts[score][stays][bin_] = count
    return [{
        "score": score.column, "title": score.title, "unit": "%" if score.percent else score.unit,
        "factor": 100 if score.percent else 1, "edges": edges[score.column][0].tolist(),
        "log": bool(edges[score.column][1]), "stay": counts[score.column][True],
        "go": counts[score.column][False], "missing": missing[score.column],
        "bounded": hasattr(thresholds, score.column),
    } for score in SCORES if score.column in edges]


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


def _kept(thresholds: Thresholds) -> str:
    return f"(case judged when 'keep' then true when 'reject' then false else ({to_sql(thresholds)}) end)"
