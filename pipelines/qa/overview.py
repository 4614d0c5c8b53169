"""The front page's numbers: what there is, from where, on which terms, what became of it, how fast."""

from __future__ import annotations

import json
from typing import Any

from dataset.funnel import COLUMNS, duration, funnel
from dataset.report.scores import explain_rule
from dataset.store import Store
from dataset.verdicts import HumanVerdict
from pipelines.qa.index import ClipIndex
from pipelines.record import RUNS


def overview(index: ClipIndex) -> dict[str, Any]:
    """All of it; a few queries, and one pass over the index for the funnel."""
    found = funnel(index.snapshot.table.select(COLUMNS))
    (said,) = index.ask(
        "select count(*) filter (where judged = 'keep'), count(*) filter (where judged = 'reject'), "
        "count(*) filter (where note is not null), "
        "count(*) filter (where judged is not null and final <> verdict), "
        "count(*) filter (where final = 'kept'), coalesce(sum(seconds) filter (where final = 'kept'), 0), "
        "count(distinct reviewer), count(*) filter (where trouble is not null) "
        "from clips where kind = 'clip'")
    steps = [{"rule": step.rule, "title": explain_rule(step.rule), "kind": str(step.kind),
              "verdict": str(step.verdict), "count": step.count, "named": step.named,
              "seconds": step.seconds} for step in found.steps]
    return {
        "data": index.store.url, "rows": found.rows, "videos": found.videos, "clips": found.clips,
        "kept": found.kept, "rejected": found.rejected, "failed": found.failed, "seconds": found.seconds,
        "kept_seconds": found.kept_seconds, "steps": steps,
        "stages": [{"stage": name, "seconds": spent, "text": duration(spent)}
                   for name, spent in found.stage_seconds.items()],
        "said": dict(zip((*map(str, HumanVerdict), "notes", "against", "final_kept", "final_seconds",
                          "reviewers", "trouble"), said)),
        "sources": _shares(index, "source"), "licences": _shares(index, "licence"),
        "motions": _shares(index, "motion"), "scales": _shares(index, "scale_status"),
        "run": last_run(index.store),
    }


def last_run(store: Store) -> dict[str, Any] | None:
    """The newest record of an annotation: its state and pace; None where there is none that can be read."""
    for path in reversed(store.list(RUNS)):
        try:
            record = json.loads(store.read(path))
            outcome = record["outcome"]
            return {"run": record["run"], "state": record["state"], "command": record["command"],
                    "videos": outcome["videos"], "begun": outcome["begun"], "rows": outcome["new_rows"],
                    "seconds": outcome["seconds"], "first_clip_s": outcome["first_clip_s"],
                    "work": record["config"].get("work")}
        except (OSError, ValueError, KeyError, TypeError):
            continue  # of another command, or half a copy: the next one may do
    return None


def _shares(index: ClipIndex, column: str) -> list[dict[str, Any]]:
    found = index.ask(
        f"select {column}, count(*), count(*) filter (where final = 'kept'), "
        "coalesce(sum(seconds) filter (where final = 'kept'), 0) from clips where kind = 'clip' "
        "group by 1 order by 2 desc, 1 limit 50")
    return [dict(zip(("name", "clips", "kept", "kept_seconds"), row)) for row in found]
