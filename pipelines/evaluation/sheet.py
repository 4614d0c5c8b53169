"""All trajectories on one sheet: from above, and how fast they move and turn over time."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from dataset.report.charts import path_svg
from pipelines.evaluation.path import FPS, PathConfig, Surroundings, scene_path, speeds, turn_rates
from pipelines.evaluation.recovery import as_track
from pipelines.evaluation.revisit import RevisitConfig, revisits
from pipelines.evaluation.templates import Template

SHEET = "trajectories.svg"
_WIDE, _HIGH, _COLUMNS = 184, 268, 5
_STYLE = """
svg { font: 9px system-ui, sans-serif; } .page { fill: #faf9f7; } .panel { fill: #fff; stroke: #e5e2dc; }
.name { font-size: 11px; font-weight: 600; fill: #1d2126; } text { fill: #6a7078; }
.way, .speed, .turn { fill: none; stroke: #2f6f9f; stroke-width: 1.8; stroke-linejoin: round; }
.look { fill: none; stroke: #2f6f9f; stroke-width: .8; opacity: .75; } .scale { fill: none; stroke: #6a7078; }
.start { fill: #fff; stroke: #2f6f9f; stroke-width: 1.6; } .end { fill: #2f6f9f; }
.speed { stroke-width: 1.1; } .turn { stroke: #d58a2a; stroke-width: 1.1; } .base { stroke: #e5e2dc; }
"""


def draw_sheet(templates: Sequence[Template], config: PathConfig, revisit: RevisitConfig) -> str:
    """An SVG of all of them, in a scene whose median depth is `config.depth`."""
    panels = []
    for number, template in enumerate(templates):
        x, y = number % _COLUMNS * _WIDE + 8, number // _COLUMNS * _HIGH + 8
        panels.append(f'<g transform="translate({x} {y})">{_panel(template, config, revisit)}</g>')
    width = min(_COLUMNS, len(templates)) * _WIDE + 8
    height = -(-len(templates) // _COLUMNS) * _HIGH + 8
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
            f'height="{height}"><style>{_STYLE}</style><rect class="page" width="100%" height="100%"/>'
            f'{"".join(panels)}</svg>\n')


def _panel(template: Template, config: PathConfig, revisit: RevisitConfig) -> str:
    c2w = scene_path(template, Surroundings(config.depth, None), config).c2w
    pairs = len(revisits(c2w, revisit))
    intrinsics = np.ones((len(c2w), 4))  # where a path leads does not depend on the lens
    drawn = path_svg(as_track(c2w, intrinsics, (1, 1)))
    drawn = drawn.replace("<svg ", '<svg x="8" y="26" width="160" height="182" ', 1)
    metres = speeds(c2w).sum() / FPS
    told = f"{template.split}, {metres:.1f} m" + (f", {pairs} revisits" if pairs else "")
    fast = _curve("speed", speeds(c2w), config.speed)
    turn = _curve("turn", turn_rates(c2w), config.turn)
    return (f'<rect class="panel" width="{_WIDE - 8}" height="{_HIGH - 8}" rx="6"/>'
            f'<text class="name" x="10" y="17">{escape(template.name)}</text>'
            f'<text x="10" y="29">{escape(told)}</text>{drawn}'
            f'<line class="base" x1="10" x2="166" y1="242" y2="242"/>{fast}{turn}'
            f'<text x="10" y="254">to {speeds(c2w).max():.2f} m/s and {turn_rates(c2w).max():.1f}°/s</text>')


def _curve(name: str, values: np.ndarray, most: float) -> str:
    chosen = np.unique(np.linspace(0, len(values) - 1, 90).round().astype(int))
    x = 10 + chosen / max(len(values) - 1, 1) * 156
    y = 242 - values[chosen] / most * 32
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return f'<polyline class="{name}" points="{points}"/>'
