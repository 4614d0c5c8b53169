"""Which clips of a large data set are worth a look: a fair draw, and those at the edge of a limit."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from dataset.clip import Kind, Verdict
from dataset.report.charts import Bounds


@dataclass(frozen=True)
class Edge:
    """The clips nearest to a limit, as rows of the index, in rising order of the score."""

    limit: float
    below: list[int]
    above: list[int]


def sample(index: pa.Table, limit: int, wanted: Collection[Kind] = tuple(Kind)) -> list[int]:
    """At most `limit` rows of the kinds wanted: half of them kept, the others spread evenly over the rules
    that took the rest. Ids are hashes, so the first of a group by id are a fair draw, the same each time."""
    groups: dict[str, list[int]] = {}
    ids, kinds = index["clip_id"].to_pylist(), index["kind"].to_pylist()
    verdicts, reasons = index["verdict"].to_pylist(), index["reasons"].to_pylist()
    for i in sorted((i for i, kind in enumerate(kinds) if kind in wanted), key=lambda i: ids[i]):
        rule = "" if verdicts[i] == Verdict.KEPT else (reasons[i] or ["?"])[0]
        groups.setdefault(rule, []).append(i)
    total = sum(len(group) for group in groups.values())
    if total <= limit:
        return [i for _, group in sorted(groups.items()) for i in group]
    kept = groups.pop("", [])
    rules = [group for _, group in sorted(groups.items(), key=lambda item: (len(item[1]), item[0]))]
    share = limit if not rules else max(limit // 2, limit - sum(len(group) for group in rules))
    chosen = kept[:share]
    for place, group in enumerate(rules):  # the smallest first: what they leave goes to the larger ones
        chosen += group[: max((limit - len(chosen)) // (len(rules) - place), 0)]
    return chosen


def edges(index: pa.Table, bounds: Mapping[str, Bounds], count: int = 3) -> dict[str, list[Edge]]:
    """For every limit that has clips on both sides, the `count` nearest on each, by column."""
    stored = np.asarray(index["shard"].is_valid())
    ids = np.asarray(index["clip_id"].to_pylist(), dtype=object)
    found: dict[str, list[Edge]] = {}
    for column, limits in bounds.items():
        values = index[column].to_numpy().astype(np.float64)
        rows = np.flatnonzero(stored & np.isfinite(values))
        rows = rows[np.lexsort((ids[rows].astype(str), values[rows]))]
        for is_upper, limit in enumerate(limits):
            if limit is None:  # limits pass themselves: the lower one belongs above, the upper one below
                continue
            place = int(np.searchsorted(values[rows], limit, side="right" if is_upper else "left"))
            below, above = rows[max(place - count, 0) : place], rows[place : place + count]
            if len(below) and len(above):
                found.setdefault(column, []).append(Edge(limit, below.tolist(), above.tolist()))
    return found
