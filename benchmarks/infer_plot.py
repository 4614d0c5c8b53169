"""The plot of `infer.py`: cost of a second of video, time to the first frame, memory, over length, as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

VIEW = (780, 300)
COLOURS = ("#2c6fbb", "#e08e0b", "#1a7f5a", "#8e44ad", "#c0392b", "#555555", "#17a2b8")
PANELS = (("seconds for a second of video", lambda row: row["seconds"] / row["video_s"]),
          ("first frame after, s", lambda row: row["first_s"]),
          ("peak memory, MB", lambda row: row["peak_mb"]))
_LEFT, _GAP, _TOP, _BOTTOM = 46, 54, 34, 240


def plot(rows: Sequence[dict[str, Any]]) -> str:
    """Three panels, both axes logarithmic; a line for each sampler."""
    width, height = VIEW
    names = list(dict.fromkeys(row["world"] for row in rows))
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}
    wide = (width - _LEFT - 12 - 2 * _GAP) / 3
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-size="11" '
             f'font-family="sans-serif"><rect width="{width}" height="{height}" fill="#fff"/>']
    for number, (title, value) in enumerate(PANELS):
        left = _LEFT + number * (wide + _GAP)
        points = {name: [(row["video_s"], value(row)) for row in rows if row["world"] == name]
                  for name in names}
        parts += _panel(title, points, colours, left, left + wide)
    for number, name in enumerate(names):
        x, y = _LEFT + (number % 3) * 250, height - 26 + 14 * (number // 3)
        parts.append(f'<rect x="{x}" y="{y - 8}" width="10" height="10" fill="{colours[name]}"/>'
                     f'<text x="{x + 15}" y="{y + 1}">{name}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _panel(
    title: str, points: dict[str, list[tuple[float, float]]], colours: dict[str, str], left: float,
    right: float,
) -> list[str]:
    every = [point for line in points.values() for point in line]
    across = _axis([x for x, _ in every], left, right)
    down = _axis([y for _, y in every], _BOTTOM, _TOP + 8)
    parts = [f'<text x="{left:.1f}" y="18" font-size="12">{title}</text>']
    for value in _ticks([y for _, y in every]):
        parts.append(f'<path d="M{left:.1f} {down(value):.1f}H{right:.1f}" stroke="#ddd"/>'
                     f'<text x="{left - 5:.1f}" y="{down(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    for value in _ticks([x for x, _ in every]):
        parts.append(f'<text x="{across(value):.1f}" y="{_BOTTOM + 16}" text-anchor="middle">'
                     f'{value:g} s</text>')
    for name, line in points.items():
        places = [f"{across(x):.1f},{down(y):.1f}" for x, y in sorted(line)]
        parts.append(f'<polyline points="{" ".join(places)}" fill="none" stroke="{colours[name]}" '
                     'stroke-width="2"/>')
        for place in places:
            x, y = place.split(",")
            parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{colours[name]}"/>')
    return parts


def _axis(values: list[float], low: float, high: float) -> Any:
    """Values to places, by their logarithm."""
    first, last = math.log(min(values)), math.log(max(values))
    span = max(last - first, 1e-9)
    return lambda value: low + (math.log(value) - first) / span * (high - low)


def _ticks(values: list[float]) -> list[float]:
    """1, 2, 5 times powers of ten within the values; the ends where there is none."""
    low, high = min(values), max(values)
    found = [step * 10.0 ** power for power in range(-4, 7) for step in (1, 2, 5)
             if low <= step * 10.0 ** power <= high]
    return found if len(found) <= 6 else found[:: math.ceil(len(found) / 6)] if found else [low, high]
