"""Which clips the page is looking at: its filter as SQL, and the rows of its table."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import Any

from dataset.clip import Kind, Verdict
from dataset.report.scores import SCORES
from pipelines.qa.index import ClipIndex, QuestionError

SHOWN = ("clip_id", "kind", "final", "verdict", "reasons", "judged", "note", "reviewer", "judged_at",
         "trouble", "source", "licence", "uri", "caption", "motion", "scale_status", "start_s", "seconds",
         "width", "height", "annotated_at", "detail")
"""Columns that every row comes with; scores follow."""
_JUDGED = {"none": "judged is null", "keep": "judged = 'keep'", "reject": "judged = 'reject'",
           "noted": "note is not null", "any": "judged is not null or note is not null",
           "against": "judged is not null and final <> verdict"}
_LONGEST = 500


@dataclass
class Filter:
    """What rows must be; an empty field asks for nothing."""

    kind: str = ""  # clip, span, video
    final: str = ""  # the verdict that counts
    judged: str = ""  # what people said: a key of `_JUDGED`
    source: str | None = None
    licence: str | None = None  # "" is a licence: none stated
    motion: str = ""
    rule: str = ""  # one of the reasons
    trouble: bool = False  # only clips whose shard is not whole
    text: str = ""  # part of caption or address, or the beginning of an id
    where: str = ""  # any condition on the columns, in SQL
    ids: list[str] | None = None  # only these

    def sql(self) -> tuple[str, list[Any]]:
        """A condition with its parameters. Raises QuestionError for values that are no choices."""
        terms: list[str] = ["true"]
        values: list[Any] = []
        for column, value, choices in (("kind", self.kind, Kind), ("final", self.final, Verdict)):
            if value:
                if value not in list(choices):
                    raise QuestionError(f"{column}={value}, allowed {', '.join(choices)}")
                terms.append(f"{column} = ?")
                values.append(value)
        for column, given in (("source", self.source), ("licence", self.licence)):
            if given is not None:
                terms.append(f"coalesce({column}, '') = ?")
                values.append(given)
        if self.motion:
            terms.append("motion = ?")
            values.append(self.motion)
        if self.rule:
            terms.append("list_contains(reasons, ?)")
            values.append(self.rule)
        if self.judged:
            if self.judged not in _JUDGED:
                raise QuestionError(f"judged={self.judged}, allowed {', '.join(_JUDGED)}")
            terms.append(_JUDGED[self.judged])
        if self.trouble:
            terms.append("trouble is not null")
        if self.text.strip():
            word = self.text.strip().lower()
            terms.append("contains(lower(caption), ?) or contains(lower(uri), ?) or starts_with(clip_id, ?)")
            values += [word] * 3
        if self.ids is not None:
            terms.append("list_contains(?, clip_id)")
            values.append(self.ids)
        if self.where.strip():
            terms.append(self.where)
        return " and ".join(f"({term}\n)" for term in terms), values


def rows(
    index: ClipIndex, chosen: Filter, sort: str = "", down: bool = False, offset: int = 0, limit: int = 100,
) -> dict[str, Any]:
    """A piece of the table: how many rows and seconds there are in all, and some of them as dicts.

    sort: a column; unknown values come last. Ties and no column: by id. Raises QuestionError.
    """
    condition, values = chosen.sql()
    columns = [*SHOWN, *index.snapshot.edges]
    if sort and sort not in columns:
        raise QuestionError(f"sort={sort}: no such column")
    order = f"{sort} {'desc' if down else 'asc'} nulls last, clip_id" if sort else "clip_id"
    (total, seconds), = index.ask(
        f"select count(*), coalesce(sum(seconds), 0) from clips where {condition}", values)
    found = index.ask(
        f"select {', '.join(columns)} from clips where {condition} order by {order} limit ? offset ?",
        [*values, max(0, min(limit, _LONGEST)), max(0, offset)])
    return {"total": total, "seconds": seconds, "rows": [dict(zip(columns, row)) for row in found]}


def draw(index: ClipIndex, chosen: Filter, count: int, seed: int) -> list[str]:
    """Ids of `count` clips with files, drawn by chance; the same for the same seed."""
    condition, values = chosen.sql()
    found = index.ask(
        f"select clip_id from clips where kind = 'clip' and shard is not null and {condition} "
        "order by md5(clip_id || ?), clip_id limit ?", [*values, str(seed), max(0, count)])
    return [name for (name,) in found]


def to_csv(index: ClipIndex, ids: list[str]) -> str:
    """Some clips in their order as a table for people: who, where from, verdicts, scores."""
    columns = [*SHOWN, *(score.column for score in SCORES)]
    found = {row[0]: row for row in index.ask(
        f"select {', '.join(columns)} from clips where list_contains(?, clip_id)", [ids])}
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(columns)
    for name in ids:
        if name in found:
            writer.writerow([" ".join(v) if isinstance(v, list) else v for v in found[name]])
    return text.getvalue()
