"""What the page sends, body by body."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dataset.verdicts import HumanVerdict
from pipelines.qa.selection import Filter


@dataclass
class Limits:
    """Thresholds alone, nested as `annotate.filters.Thresholds` is."""

    thresholds: dict[str, Any]


@dataclass
class Cut:
    """Thresholds, and the clips they are tried on."""

    thresholds: dict[str, Any]
    filter: Filter = field(default_factory=Filter)


@dataclass
class AtLimit:
    """One limit of one score."""

    score: str
    limit: float
    upper: bool
    filter: Filter = field(default_factory=Filter)


@dataclass
class Piece:
    """A piece of the table."""

    filter: Filter = field(default_factory=Filter)
    sort: str = ""
    down: bool = False
    offset: int = 0
    limit: int = 100


@dataclass
class Draw:
    """Clips drawn by chance."""

    filter: Filter = field(default_factory=Filter)
    count: int = 100
    seed: int = 0


@dataclass
class Ids:
    """Clips by name."""

    ids: list[str]


@dataclass
class Said:
    """A person's judgement."""

    clip_id: str
    reviewer: str
    verdict: HumanVerdict | None = None
    note: str | None = None
