"""The plot of `learn.py`: how the held-out loss fell, along the clips' own paths and along others', and how
far cameras are from the paths, as SVG."""

from __future__ import annotations

import math
from typing import Any

VIEW = (760, 300)
COLOURS = {"through the codec": "#999999", "generated": "#1a7f5a", "cameras shuffled": "#c0392b"}
UNITS = {"rotation_deg": ("rotation error", "°"), "translation_m": ("translation error", " m")}


def plot(results: dict[str, Any]) -> str:
    """Held-out loss over steps on the left; mean errors of rotation and translation on the right."""
    width, height = VIEW
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-size="12" '
        f'font-family="sans-serif"><rect width="{width}" height="{height}" fill="#fff"/>',
        *_losses(results["loss"], 50, 330), *_errors(results["errors"], "rotation_deg", 380, 550),
        *_errors(results["errors"], "translation_m", 580, 750), "</svg>\n"])


def _losses(points: list[tuple[int, float, float, float]], left: int, right: int) -> list[str]:
    top, bottom = 30, VIEW[1] - 40
    highest = max(max(held, shuffled) for _, _, held, shuffled in points)
    last = points[-1][0]
    parts = [f'<text x="{left}" y="18">held-out loss</text>']
    for i in range(5):
        value, y = highest * i / 4, bottom - i / 4 * (bottom - top)
        parts.append(f'<path d="M{left} {y:.1f}H{right}" stroke="#ddd"/>'
                     f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.2f}</text>')
    across, down = (right - left) / last, (bottom - top) / highest
    for name, place in (("cameras shuffled", 3), ("generated", 2)):
        line = " ".join(f"{left + point[0] * across:.1f},{bottom - point[place] * down:.1f}"
                        for point in points if math.isfinite(point[place]))
        parts.append(f'<polyline points="{line}" fill="none" stroke="{COLOURS[name]}" stroke-width="2"/>')
    parts.append(f'<text x="{(left + right) / 2}" y="{VIEW[1] - 12}" text-anchor="middle">'
                 f'{last:,} steps</text>')
    return parts


def _errors(errors: dict[str, dict[str, float]], what: str, left: int, right: int) -> list[str]:
    top, bottom = 50, VIEW[1] - 40
    title, unit = UNITS[what]
    highest = max(error[what] for error in errors.values())
    step = (right - left) / len(errors)
    parts = [f'<text x="{left}" y="18">{title}</text><path d="M{left} {bottom}H{right}" stroke="#999"/>']
    for i, (name, error) in enumerate(errors.items()):
        x, high = left + i * step, error[what] / highest * (bottom - top)
        parts.append(
            f'<rect x="{x + 6:.1f}" y="{bottom - high:.1f}" width="{step - 12:.1f}" height="{high:.1f}" '
            f'fill="{COLOURS[name]}"/><text x="{x + step / 2:.1f}" y="{bottom - high - 6:.1f}" '
            f'text-anchor="middle">{error[what]:.2g}{unit}</text>')
        first, _, rest = name.partition(" ")
        parts.append(f'<text x="{x + step / 2:.1f}" y="{bottom + 15}" text-anchor="middle" font-size="10">'
                     f'{first}<tspan x="{x + step / 2:.1f}" dy="11">{rest}</tspan></text>')
    return parts
