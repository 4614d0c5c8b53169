"""A running annotation by its traces: who writes, what is staged and committed, how fast. Only looks."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from dataset.lock import current_holder
from dataset.store import Store
from pipelines.qa.index import ClipIndex
from pipelines.qa.overview import last_run

_STAGE_RECORD = re.compile(r"[^.]+\.([a-z_0-9]+)-[0-9a-f]+\.json")
_ROW = re.compile(r"row-\d+\.json")
_BUCKETS = 60


def live(index: ClipIndex) -> dict[str, Any]:
    """State of the newest run and of the work folder, and the pace of the clips in the index."""
    run, holder = last_run(index.store), current_holder(index.store)
    work = (run or {}).get("work")
    return {
        "holder": None if holder is None else str(holder), "run": run,
        "work": staged(Store(work) if work else index.store.below("_work")),
        "pace": pace(index), "notices": index.snapshot.notices,
        "rows": index.snapshot.table.num_rows, "version": index.version,
    }


def staged(work: Store) -> dict[str, Any]:
    """What the ledger in a work folder holds: videos begun and finished, rows cut, clips through each stage.

    Only names are looked at, but for the few notes of finished videos, whose layout `pipelines.ledger` tells.
    """
    videos, rows, stages = set(), 0, Counter[str]()
    for path in work.list("video"):
        _, video, name = path.split("/", 2)
        videos.add(video)
        rows += bool(_ROW.fullmatch(name))
        if found := _STAGE_RECORD.fullmatch(name):
            stages[found.group(1)] += 1
    finished: set[str] = set()
    try:
        for text in work.read_many(work.list("finished")):
            finished.update(item["video"] for item in json.loads(text))
    except FileNotFoundError:  # merged meanwhile: the next look counts them
        pass
    return {"videos": len(videos), "finished": len(finished), "rows": rows, "stages": dict(stages)}


def pace(index: ClipIndex) -> list[dict[str, Any]]:
    """Clips and seconds of video by the time they were annotated, in sixty equal spans of time."""
    found = index.ask(
        "with noted as (select epoch(annotated_at::timestamptz) as t, seconds, verdict from clips "
        "where kind = 'clip' and annotated_at is not null), "
        "span as (select min(t) as first, greatest(max(t) - min(t), 1) as length from noted) "
        f"select least(floor((t - first) / length * {_BUCKETS}), {_BUCKETS - 1})::int as bucket, "
        f"any_value(first + length * (least(floor((t - first) / length * {_BUCKETS}), {_BUCKETS - 1})) "
        f"/ {_BUCKETS}), any_value(length / {_BUCKETS}), count(*), sum(seconds), "
        "count(*) filter (where verdict = 'kept') from noted, span group by 1 order by 1")
    return [dict(zip(("bucket", "from", "length", "clips", "seconds", "kept"), row)) for row in found]
