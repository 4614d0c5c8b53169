"""Thresholds as the page sends them, as the filter file of the annotation, and what they say of one clip."""

from __future__ import annotations

import dataclasses
import datetime
import json
import math
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from annotate.config import AnnotateConfig
from annotate.filters import Bound, Missing, Thresholds, judge
from conf import SettingsError, groups, load
from dataset.clip import ClipRecord
from dataset.report.scores import SCORES, number

GROUP = "thresholds"


def presets() -> list[str]:
    """Names of the filter files there are."""
    return groups()[GROUP]


def preset(name: str) -> Thresholds:
    """What a filter file says. Raises ValueError for one that is not there."""
    if name not in presets():
        raise ValueError(f"{GROUP}={name}, there are {', '.join(presets())}")
    try:
        return load(AnnotateConfig, "annotate", ["src=none", "out=none", f"{GROUP}={name}"]).thresholds
    except SettingsError as error:
        raise ValueError(str(error)) from error


def thresholds_from(values: Mapping[str, Any]) -> Thresholds:
    """Thresholds of plain values, nested as `dataclasses.asdict` gives them; what is left out is off.

    Raises ValueError that names the key.
    """
    made = Thresholds()
    for name, value in values.items():
        if name not in {item.name for item in dataclasses.fields(Thresholds)}:
            raise ValueError(f"{GROUP}.{name}: no such rule")
        default = getattr(made, name)
        key = f"{GROUP}.{name}"
        if isinstance(default, Bound):
            setattr(made, name, _bound(key, value))
        elif isinstance(default, StrEnum):
            setattr(made, name, _choice(key, type(default), value))
        elif type(value) is type(default) and (isinstance(value, bool) or _are_texts(value)):
            setattr(made, name, value)
        else:
            raise ValueError(f"{key}={value!r}, expected a {type(default).__name__}")
    return made


def to_yaml(thresholds: Thresholds, data: str) -> str:
    """The filter file: what is off is left out, the rest reads back as the same thresholds."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    lines = [f"# Chosen in the dashboard, {today}, on {data}.",
             f"# Put it into conf/{GROUP}/ and run the annotation again with {GROUP}=<name of this file>:",
             "# on the same data set only verdicts change, nothing is computed again."]
    for item in dataclasses.fields(thresholds):
        value = getattr(thresholds, item.name)
        if isinstance(value, Bound):
            if value.min is not None or value.max is not None:
                parts = {k: v for k, v in dataclasses.asdict(value).items() if v is not None}
                lines.append(f"{item.name}: {{{', '.join(f'{k}: {_plain(v)}' for k, v in parts.items())}}}")
        elif isinstance(value, list):
            lines.append(f"{item.name}: [{', '.join(json.dumps(v) for v in value)}]")
        else:
            lines.append(f"{item.name}: {_plain(value)}")
    return "\n".join(lines) + "\n"


def explain(record: ClipRecord, thresholds: Thresholds) -> dict[str, Any]:
    """What thresholds say of a clip: the verdict, and every score with its bounds and why it fails them."""
    verdict, reasons = judge(record, thresholds)
    lines = []
    for score in SCORES:
        value = getattr(record, score.column)
        bound = getattr(thresholds, score.column, None) or Bound()
        why = [reason for reason in reasons if _score_of(reason) == score.column]
        if value is None and bound.min is None and bound.max is None:
            continue
        lines.append({
            "score": score.column, "title": score.title, "value": value,
            "text": "not measured" if value is None else score.text(value),
            "limits": _limits(bound, 100 if score.percent else 1), "bounded": _limits(bound, 1) != "",
            "why": why[0] if why else None,
        })
    return {"verdict": str(verdict), "reasons": reasons, "scores": lines}


# parts


def _bound(key: str, value: Any) -> Bound:
    if not isinstance(value, Mapping) or set(value) - {"min", "max", "missing"}:
        raise ValueError(f"{key}={value!r}, expected min, max or missing")
    missing = value.get("missing")
    return Bound(_number(f"{key}.min", value.get("min")), _number(f"{key}.max", value.get("max")),
                 None if missing is None else _choice(f"{key}.missing", Missing, missing))


def _are_texts(values: list[Any]) -> bool:
    return all(isinstance(value, str) for value in values)


def _number(key: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{key}={value!r}, expected a number")
    return float(value)


def _choice(key: str, kind: type[StrEnum], value: Any) -> Any:
    if value not in list(kind):
        raise ValueError(f"{key}={value!r}, allowed {', '.join(kind)}")
    return kind(value)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):  # YAML takes 1e-05 for text, 1.0e-05 for a number
        text = repr(value)
        return text.replace("e", ".0e") if "e" in text and "." not in text else text
    return str(value)


def _limits(bound: Bound, factor: float) -> str:
    low = f"≥ {number(factor * bound.min)}" if bound.min is not None else ""
    high = f"≤ {number(factor * bound.max)}" if bound.max is not None else ""
    return " and ".join(part for part in (low, high) if part)


def _score_of(reason: str) -> str:
    """The score a reason such as flow_dis<3 or missing:flow_dis is about."""
    return reason.rpartition(":")[2].split("<")[0].split(">")[0]
