"""Drawings of the report as SVG: camera paths from above, score histograms. Colours come from the page."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np

from dataset.clip import CameraTrack
from dataset.report.scores import Score, number
from dataset.trajectory import align_tracks, apply_sim3

Bounds = tuple[float | None, float | None]
"""Lowest and highest value a rule lets pass; None where it does not look."""

_VIEW, _MARGIN, _FOOT = 160, 14, 22
_POINTS = 72
_STILL = 1e-6


def path_svg(track: CameraTrack, truth: CameraTrack | None = None) -> str:
    """The camera's path from above: up is where the first frame looks, a ring the start, a dot the end.

    Short strokes show where the camera looks. `truth` is laid over it, aligned. The bar at the bottom is a
    round length in the track's unit.
    """
    posed = track.posed & (truth.posed if truth is not None else True)
    if track.failure is not None or posed.sum() < 2:
        return _note("no poses")
    c2w = track.c2w[posed]
    if np.ptp(c2w[:, :3, 3], axis=0).max() < _STILL:
        return _note("no motion" if np.ptp(c2w[:, :3, :3], axis=0).max() < 1e-3 else "turns in place")
    axes = _ground_axes(c2w)
    plans = [c2w[:, :3, 3] @ axes]
    if truth is not None:
        reference = truth.c2w[posed]
        plans.append(apply_sim3(align_tracks(reference, c2w), reference)[:, :3, 3] @ axes)
    corner = np.min([plan.min(0) for plan in plans], axis=0)
    extent = np.max([plan.max(0) for plan in plans], axis=0) - corner
    scale = (_VIEW - 2 * _MARGIN) / max(extent.max(), _STILL)
    origin = corner + extent / 2
    drawn = [(plan - origin) * scale * (1, -1) + _VIEW / 2 for plan in plans]
    looks = c2w[:, :3, 2] @ axes * (1, -1)
    parts = [f'<svg class="path" viewBox="0 0 {_VIEW} {_VIEW + _FOOT}" role="img" '
             'aria-label="camera path from above">']
    if truth is not None:
        parts.append(f'<polyline class="truth" points="{_points(drawn[1])}"/>')
    parts.append(f'<polyline class="way" points="{_points(drawn[0])}"/>')
    for i in np.linspace(0, len(looks) - 1, 7).astype(int):
        parts.append(_wedge(drawn[0][i], looks[i]))
    (x0, y0), (x1, y1) = drawn[0][0], drawn[0][-1]
    parts.append(f'<circle class="start" cx="{x0:.1f}" cy="{y0:.1f}" r="3.2"/>'
                 f'<circle class="end" cx="{x1:.1f}" cy="{y1:.1f}" r="3.2"/>')
    parts.append(_scale_bar(scale, track.unit))
    return "".join(parts) + "</svg>"


def histogram_svg(values: Mapping[str, np.ndarray], score: Score, bounds: Bounds = (None, None)) -> str:
    """Stacked histogram of finite values per verdict ("kept", "rejected", "failed"), with limits drawn.

    The axis is logarithmic where values spread over more than a factor of a hundred. Bin edges and counts
    travel as data attributes so that the page can say what any other limit would keep.
    """
    everything = np.concatenate(list(values.values()))
    edges, logarithmic = bin_edges(everything, [b for b in bounds if b is not None])
    counts = {name: np.histogram(np.clip(v, edges[0], edges[-1]), edges)[0] for name, v in values.items()}
    total = np.sum(list(counts.values()), axis=0)
    top = max(int(total.max()), 1)
    width, height, base = 280, 96, 78
    step = width / (len(edges) - 1)
    bars = []
    below = np.zeros(len(edges) - 1)
    for verdict, count in counts.items():
        for i in np.flatnonzero(count):
            tall = count[i] / top * (base - 6)
            bars.append(f'<rect class="{verdict}" x="{i * step + 0.5:.1f}" y="{base - below[i] - tall:.1f}" '
                        f'width="{step - 1:.1f}" height="{tall:.1f}"/>')
        below += count / top * (base - 6)
    lines = [_limit(bound, edges, logarithmic, width, base, score) for bound in bounds if bound is not None]
    # What lies beyond the drawn range is counted in the outermost bars, and the label says so.
    first = ("≤ " if everything.min() < edges[0] else "") + score.text(float(edges[0]))
    last = ("≥ " if everything.max() > edges[-1] else "") + score.text(float(edges[-1]))
    labels = (f'<text x="0" y="{height - 4}">{escape(first)}</text>'
              f'<text x="{width}" y="{height - 4}" text-anchor="end">{escape(last)}</text>')
    shown = 100.0 if score.percent else 1.0
    data = (f'data-edges="{" ".join(f"{edge * shown:.6g}" for edge in edges)}" '
            f'data-counts="{" ".join(str(int(c)) for c in total)}" '
            f'data-unit="{escape("%" if score.percent else score.unit)}" data-log="{int(logarithmic)}"')
    return (f'<svg class="histogram" viewBox="0 0 {width} {height}" role="img" '
            f'aria-label="{escape(score.title)}" {data}>{"".join(bars)}'
            f'<line class="axis" x1="0" x2="{width}" y1="{base}" y2="{base}"/>{"".join(lines)}{labels}'
            f'<line class="cursor" y1="4" y2="{base}" visibility="hidden"/></svg>')


def _ground_axes(c2w: np.ndarray) -> np.ndarray:
    """(3, 2): the directions that are right and up on the page, seen along the cameras' mean down axis."""
    down = c2w[:, :3, 1].mean(0)
    if np.linalg.norm(down) < 1e-6:
        down = c2w[0, :3, 1]
    down = down / np.linalg.norm(down)
    for forward in (c2w[0, :3, 2], c2w[0, :3, 1], c2w[0, :3, 0]):  # the first may look straight down
        ahead = forward - (forward @ down) * down
        if np.linalg.norm(ahead) > 0.1:
            break
    ahead = ahead / np.linalg.norm(ahead)
    return np.stack([np.cross(down, ahead), ahead], axis=1)


def _points(plan: np.ndarray) -> str:
    chosen = np.unique(np.linspace(0, len(plan) - 1, _POINTS).round().astype(int))
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in plan[chosen])


def _wedge(at: np.ndarray, look: np.ndarray) -> str:
    length = np.hypot(*look)
    if length < 0.1:  # looks up or down
        return ""
    ahead = look / length * 9
    side = np.array([-ahead[1], ahead[0]]) * 0.5
    (x, y), (ax, ay), (bx, by) = at, at + ahead + side, at + ahead - side
    return f'<path class="look" d="M{ax:.1f} {ay:.1f}L{x:.1f} {y:.1f}L{bx:.1f} {by:.1f}"/>'


def _scale_bar(scale: float, unit: str) -> str:
    longest = 0.4 * _VIEW / scale
    power = 10.0 ** np.floor(np.log10(longest))
    length = max(m for m in (1, 2, 5) if m * power <= longest) * power
    name = {"m": f"{length:g} m", "path": f"{length:g} of the path"}.get(unit, f"{length:g} {unit}")
    y, end = _VIEW + _FOOT - 10, 10 + length * scale
    return (f'<path class="scale" d="M10 {y - 4}V{y}H{end:.1f}V{y - 4}"/>'
            f'<text class="unit" x="{end + 5:.1f}" y="{y + 2}">{escape(name)}</text>')


def _note(text: str) -> str:
    return (f'<svg class="path" viewBox="0 0 {_VIEW} {_VIEW + _FOOT}" role="img" aria-label="{escape(text)}">'
            f'<text class="note" x="{_VIEW / 2:g}" y="{_VIEW / 2 + 4:g}" text-anchor="middle">{escape(text)}'
            "</text></svg>")


def bin_edges(values: np.ndarray, limits: list[float], bins: int = 28) -> tuple[np.ndarray, bool]:
    """Bin edges that hold the bulk of the values and every limit, and whether they are logarithmic."""
    low, high = np.percentile(values, [0.5, 99.5]) if len(values) > 200 else (values.min(), values.max())
    low, high = min([low, *limits]), max([high, *limits])
    if high - low < 1e-12 * max(abs(high), 1e-12):
        pad = max(abs(high) * 0.5, 0.5)
        low, high = low - pad, high + pad
    positive = values[values > 0]
    if low > 0 and len(positive) == len(values) and high / low > 100:
        return np.geomspace(low, high, bins + 1), True
    return np.linspace(low, high, bins + 1), False


def _limit(bound: float, edges: np.ndarray, logarithmic: bool, width: int, base: int, score: Score) -> str:
    ends = np.log(edges[[0, -1]]) if logarithmic else edges[[0, -1]]
    place = np.log(bound) if logarithmic else bound
    x = float((place - ends[0]) / (ends[1] - ends[0]) * width)
    anchor, shift = ("start", 3) if x < width / 2 else ("end", -3)
    return (f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="2" y2="{base}"/>'
            f'<text class="limit" x="{x + shift:.1f}" y="10" text-anchor="{anchor}">'
            f"{escape(number(bound * (100 if score.percent else 1)))}</text>")
