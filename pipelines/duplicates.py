"""Near-duplicates of a whole data set: found anew from the stored hashes after every run.

Nothing of it is remembered but its answer, which the same clips give in whatever order they came; so a run
that was interrupted here is put right by the next one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from annotate.duplicates.config import DuplicatesConfig
from annotate.duplicates.hashing import from_text
from annotate.duplicates.search import Candidate, Found, find_duplicates
from annotate.scores.aesthetic import decode
from dataset.catalog import read_index, read_segments, write_table
from dataset.clip import SETTLED_COLUMNS, Kind, Verdict, from_row
from dataset.lock import DatasetLock
from dataset.store import Store
from pipelines.sink import Judge, rejudged


def settle_duplicates(store: Store, config: DuplicatesConfig, judge: Judge) -> int:
    """Bring the columns on near-duplicates, and the verdicts that follow from them, up to date.

    Among near-duplicates a clip that passes all other rules stays rather than one that does not; then the
    one with the larger source, then the one with fewer damaged frames, then the first by name. Each segment
    of the index changes by one atomic write. Returns how many verdicts changed.
    """
    with DatasetLock(store) as lock:
        if not config.enabled:
            return 0
        rows = [row for row in read_index(store).to_pylist()
                if row["kind"] == Kind.CLIP and row["verdict"] != Verdict.FAILED]
        found = find_duplicates([_candidate(row, judge) for row in rows], config)
        changed = 0
        for path, table in read_segments(store).items():
            settled, verdicts = _settled(table, found, judge)
            if settled is not None:
                lock.check()
                write_table(store, path, settled)
                changed += verdicts
        return changed


def _candidate(row: Mapping[str, Any], judge: Judge) -> Candidate:
    alone = from_row({**row, **dict.fromkeys(SETTLED_COLUMNS)})
    alone.duplicate_similarity = 0.0  # near to none: whatever a rule on duplicates says of unknown ones
    is_kept = rejudged(alone, judge)[0] is Verdict.KEPT
    rank = (float(not is_kept), -float((row["source_width"] or 0) * (row["source_height"] or 0)),
            float(row["corrupt_frames"] or 0), row["clip_id"])
    embedding = decode(row["embedding"]) if row["embedding"] else None
    return Candidate(row["clip_id"], row["video_id"], rank, from_text(row["video_hash"] or ""), embedding,
                     row["uri"] or None)


def _settled(table: pa.Table, found: Mapping[str, Found], judge: Judge) -> tuple[pa.Table | None, int]:
    """A segment as it should be, or None if it is so already; and how many verdicts differ."""
    before = table.to_pylist()
    after = []
    for row in before:
        known = found.get(row["clip_id"])
        is_hashed = known is not None and (row["video_hash"] or row["embedding"])
        row = {**row, "duplicate_similarity": known.similarity if known and is_hashed else None,
               "duplicate_of": known.of if known and is_hashed else None}
        if known is not None:
            verdict, reasons = rejudged(from_row(row), judge)
            row |= {"verdict": str(verdict), "reasons": list(reasons)}
        after.append(row)
    if before == after:
        return None, 0
    verdicts = sum(old["verdict"] != new["verdict"] for old, new in zip(before, after))
    return pa.Table.from_pylist(after, schema=table.schema), verdicts
