"""Puts the page together and writes it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

from dataset.pose_error import PoseError
from dataset.report import clips, sections
from dataset.report.charts import Bounds
from dataset.report.choose import sample
from dataset.report.gather import gather
from dataset.store import Store

MAX_CARDS = 96
MAX_ROWS = 2000


def write_report(
    dataset: Store | str | os.PathLike[str], out: str | os.PathLike[str] | None = None, *,
    bounds: Mapping[str, Bounds] | None = None, errors: Mapping[str, PoseError] | None = None,
    wall_seconds: float | None = None, title: str | None = None, max_cards: int = MAX_CARDS,
    max_rows: int = MAX_ROWS,
) -> str:
    """Write the report of a data set and return where it lies.

    dataset: a store, or its folder or address. out: an HTML file; without it `report.html` in the data set.
    bounds: for score columns of `ClipRecord`, the lowest and highest value that passes; drawn in histograms,
    with the clips just inside and just outside.
    errors: true pose errors by clip id, if they are known already; otherwise those of the pictured clips
    are measured from their `truth.npz`. wall_seconds: how long the run took, for its speed.
    Of large data sets `max_cards` clips (and those at limits) are pictured and `max_rows` listed, drawn
    fairly over the rules; counts and histograms are always of all. Equal data gives an equal page.
    Raises CatalogError and StoreError.
    """
    store = dataset if isinstance(dataset, Store) else Store(dataset)
    data = gather(store, max_cards, bounds or {}, errors or {})
    listed = clips.table_rows(data.index, sample(data.index, max_rows), data.errors)
    overview = sections.funnel_section(data) + sections.stages_section(data)
    page = Template(_asset("page.html")).substitute(
        title=escape(title or store.url), style=_asset("style.css"), script=_asset("page.js"),
        headline=sections.headline(data, wall_seconds), overview=f'<div class="overview">{overview}</div>',
        clips=clips.cards_section(data.cards, data.funnel.clips), paths=clips.paths_section(data.cards),
        scores=clips.histograms_section(data.index, bounds or {}, data.edges),
        failures=sections.failures_section(data.index), origin=sections.origin_section(data),
        data=json.dumps(listed, separators=(",", ":")).replace("<", "\\u003c"),
    )
    target, name = (store, "report.html") if out is None else _place(Path(out))
    target.write(name, page.encode())
    return target.name(name)


def _place(path: Path) -> tuple[Store, str]:
    return Store(path.parent), path.name


def _asset(name: str) -> str:
    return (resources.files("dataset.report") / "page" / name).read_text()
