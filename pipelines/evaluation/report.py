"""The page: tables beside the paper's figures, and for each case the videos side by side with their paths."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from html import escape
from importlib import resources
from string import Template
from urllib.parse import quote

import numpy as np

from dataset.clip import CameraTrack
from dataset.report.charts import path_svg
from dataset.store import Store
from dataset.trajectory import Alignment, camera_control_errors
from pipelines.evaluation.cases import Case, Cases
from pipelines.evaluation.config import EvaluateConfig
from pipelines.evaluation.measure import Metrics
from pipelines.evaluation.path import FPS
from pipelines.evaluation.recovery import as_track
from pipelines.evaluation.sheet import SHEET
from pipelines.evaluation.table import PAPER, Line, lines
from pipelines.evaluation.templates import Split
from pipelines.evaluation.worker import TRACKS, VIDEOS

_SHOWN = 60
"""Cases whose videos are on the page; the tables are of all."""
_COLUMNS = ("generator", "cameras", "RotErr °", "TransErr", "CamMC", "RotErr °", "TransErr", "CamMC",
            "PSNR", "PSNR", "SSIM", "LPIPS", "first", "drop", "peak GB", "videos/h")


def write_report(
    store: Store, name: str, rows: Sequence[Metrics], made: Cases, generators: Sequence[str],
    config: EvaluateConfig,
) -> None:
    """Write the page into the folder of the run; the videos stay files beside it."""
    style = (resources.files("dataset.report") / "page" / "style.css").read_text() + _asset("evaluation.css")
    page = Template(_asset("page.html")).substitute(
        title=escape(f"{', '.join(generators)} along known paths"), style=style,
        script=_asset("evaluation.js"), headline=_headline(rows, made), tables=_tables(rows, config),
        paths=_paths(), cases=_cases(store, rows, made.cases, generators), failures=_failures(rows, made),
        origin=_origin(config))
    store.write(name, page.encode())


def _headline(rows: Sequence[Metrics], made: Cases) -> str:
    scenes, paths = {case.scene for case in made.cases}, {case.path for case in made.cases}
    failed = sum(row.failure is not None for row in rows)
    found = sum(row.cam_mc_umeyama is not None for row in rows)
    tiles = [("", len(rows), "videos"), ("", len(scenes), "scenes"), ("", len(paths), "paths"),
             ("kept", found, "cameras found"), ("failed" if failed else "", failed, "not measured")]
    cells = "".join(f'<div class="tile {kind}"><b>{value:,}</b><span>{label}</span></div>'
                    for kind, value, label in tiles)
    return f'<div class="tiles">{cells}</div>'


def _tables(rows: Sequence[Metrics], config: EvaluateConfig) -> str:
    ours = lines(rows)
    scorer = next((row.quality_scorer for row in rows if row.quality_scorer), config.quality.name)
    parts = []
    for split in Split:
        here = [line for line in ours if line.split is split]
        if not here:
            continue
        paper = [line for line in PAPER if line.split is split]
        body = "".join(_row(line, "") for line in here)
        body += "".join(_row(line, "paper first" if not i else "paper") for i, line in enumerate(paper))
        groups = ('<tr><th></th><th></th><th class="group" colspan="3">after Umeyama</th><th class="group" '
                  'colspan="3">frame-wise</th><th class="group">truth</th>'
                  '<th class="group" colspan="3">revisits</th><th class="group" '
                  'colspan="2">imaging quality</th><th></th><th></th></tr>')
        head = "".join(f"<th>{escape(name)}</th>" for name in _COLUMNS)
        parts.append(f'<section><h2>{split.value.capitalize()} paths</h2><div class="scroll">'
                     f'<table class="figures"><thead>{groups}<tr>{head}</tr></thead><tbody>{body}</tbody>'
                     "</table></div></section>")
    length, whole = config.path.frames / FPS, config.path.frames >= 961
    short = "" if whole else f" These videos last {length:.1f} s; the paper's figures are of a minute."
    return "".join(parts) + (
        '<p class="hint note">Means; errors of cameras, over the videos whose camera was found by the engine '
        f"<code>{escape(config.recovery.engine)}</code>. After Umeyama's Sim(3), and by the frame-wise "
        "alignment of the released evaluator; the two do not compare. The paper's figures, in grey, are "
        "after Umeyama by its own account. Imaging quality by "
        f"<code>{escape(scorer)}</code>, first less last seconds; figures of other scorers do not compare. "
        "The paper's memory and speed are of H100s, eight of them for videos an hour; ours are of one "
        f"process of the machine at hand.{short}</p>")


def _row(line: Line, kind: str) -> str:
    found = f"{line.found}/{line.videos}" if line.found is not None else "paper"
    values = [line.rot_err_deg, line.trans_err, line.cam_mc, *line.framewise, line.truth_psnr,
              line.revisit_psnr, line.revisit_ssim, line.revisit_lpips, line.quality, line.quality_drop,
              line.peak_gb, line.videos_per_hour]
    cells = "".join(f"<td>{_number(value)}</td>" for value in values)
    return f'<tr class="{kind}"><td>{escape(line.generator)}</td><td>{found}</td>{cells}</tr>'


def _paths() -> str:
    return ('<section><h2>The paths</h2><p class="hint">From above, in a scene of the assumed depth; blue: '
            'speed, orange: turning, over time.</p>'
            f'<img class="sheet" src="{SHEET}" alt="all paths"></section>')


def _cases(store: Store, rows: Sequence[Metrics], cases: Sequence[Case], generators: Sequence[str]) -> str:
    by_name = {(row.generator, row.case): row for row in rows}
    parts = []
    for case in cases[:_SHOWN]:
        ones = "".join(_one(store, by_name[name, case.name], case) for name in generators)
        button = "<button>play together</button>" if len(generators) > 1 else ""
        metres = f"{by_name[generators[0], case.name].path_length or 0:.2f} m"
        parts.append(f'<div class="case"><h3>{escape(case.name)} {button}</h3><p class="hint">{case.split}, '
                     f'{metres}. {escape(case.prompt)}</p><div class="row">{ones}</div></div>')
    more = f" The first {_SHOWN} of {len(cases):,}." if len(cases) > _SHOWN else ""
    return ('<section id="cases"><h2>Video by video</h2><p class="hint">Paths from above: '
            '<span class="key way"></span>asked for, <span class="key truth"></span>found in the video, '
            'aligned. Over time: <span class="key turn"></span>degrees and <span class="key move"></span>'
            f"metres off, after Umeyama.{more}</p>{''.join(parts)}</section>")


def _one(store: Store, row: Metrics, case: Case) -> str:
    title = f"<p><b>{escape(row.generator)}</b></p>"
    if row.failure is not None:
        return f'<div class="one">{title}<p class="failed">{escape(row.failure)}</p></div>'
    video, poster = (quote(path) for path in (f"{VIDEOS}/{row.generator}/{row.case}.mp4", case.image))
    track = CameraTrack.from_npz(store.read(f"{TRACKS}/{row.generator}/{row.case}.npz"))
    first = len(case.c2w) - len(track.c2w) if len(track.c2w) == len(case.c2w) - 1 else 0
    shown = slice(first, first + len(track.c2w))
    figures = (f"{_number(row.rot_err_deg_umeyama)}°, {_number(row.trans_err_umeyama)} m, CamMC "
               f"{_number(row.cam_mc_umeyama)}" if row.pose_failure is None else "")
    quality = f"quality {_number(row.quality_first)} to {_number(row.quality_last)}"
    if row.revisit_psnr is not None:
        quality += f", revisits {row.revisit_psnr:.1f} dB"
    if row.truth_psnr is not None:
        quality += f", truth {row.truth_psnr:.1f} dB"
    failed = f'<p class="failed">{escape(row.pose_failure)}</p>' if row.pose_failure else ""
    under = "" if row.pose_failure else (
        f'<div class="under"><div class="paths">{_plan(track, case, shown)}</div>'
        f"{_over_time(track, case.c2w[shown])}</div>")
    return (f'<div class="one">{title}<video src="{video}" poster="{poster}" preload="none" muted loop '
            f"controls></video>{under}<p>{figures}</p>{failed}<p><small>{quality}</small></p></div>")


def _plan(track: CameraTrack, case: Case, shown: slice) -> str:
    return path_svg(as_track(case.c2w[shown], case.intrinsics[shown], case.size), track)


def _over_time(track: CameraTrack, wanted: np.ndarray) -> str:
    """Errors frame by frame, each curve on its own scale."""
    posed = np.flatnonzero(track.posed & np.isfinite(track.c2w).all((1, 2)))
    angle, distance, _ = camera_control_errors(track.c2w[posed], wanted[posed], Alignment.SIM3)
    seconds = max(len(wanted) - 1, 1) / FPS
    curves = "".join(_curve(kind, posed / max(len(wanted) - 1, 1), values)
                     for kind, values in (("turn", angle), ("move", distance)))
    return ('<svg class="over-time" viewBox="0 0 220 150" role="img" aria-label="errors over time">'
            f'<line x1="10" x2="210" y1="128" y2="128"/>{curves}<text x="10" y="14">to '
            f'{_number(angle.max())}°, {_number(distance.max())} m</text><text x="10" y="142">0</text>'
            f'<text x="210" y="142" text-anchor="end">{seconds:.3g} s</text></svg>')


def _curve(kind: str, share: np.ndarray, values: np.ndarray) -> str:
    chosen = np.unique(np.linspace(0, len(values) - 1, 120).round().astype(int))
    top = max(float(values.max()), 1e-9)
    points = " ".join(f"{10 + 200 * share[i]:.1f},{128 - 106 * values[i] / top:.1f}" for i in chosen)
    return f'<polyline class="{kind}" points="{points}"/>'


def _failures(rows: Sequence[Metrics], made: Cases) -> str:
    told = [(f"{row.generator}/{row.case}", row.failure) for row in rows if row.failure]
    told += [(f"{row.generator}/{row.case}", f"camera: {row.pose_failure}") for row in rows
             if row.pose_failure]
    told += [(name, f"left out: {why}") for name, why in made.left_out.items()]
    if not told:
        return ""
    body = "".join(f"<tr><th>{escape(name)}</th><td>{escape(str(why))}</td></tr>" for name, why in told[:200])
    return (f'<section id="failures"><h2>What could not be measured</h2><table class="plain"><tbody>{body}'
            "</tbody></table></section>")


def _origin(config: EvaluateConfig) -> str:
    settings = json.dumps(dataclasses.asdict(config), indent=2, default=str)
    return (f'<section id="origin"><h2>How it was made</h2><details><summary>all settings</summary><pre>'
            f"{escape(settings)}</pre></details></section>")


def _number(value: float | None) -> str:
    if value is None or not np.isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.2g}"


def _asset(name: str) -> str:
    return (resources.files("pipelines.evaluation") / "page" / name).read_text()
