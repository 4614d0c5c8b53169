"""The table: means over the videos of each generator and split, beside what the paper reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipelines.evaluation.measure import Metrics
from pipelines.evaluation.templates import Split


@dataclass(frozen=True)
class Line:
    """A generator on a split. Means: of camera errors over the `found` videos that have any, of all
    else over all `videos`."""

    generator: str
    split: Split
    videos: int
    found: int | None
    rot_err_deg: float | None
    trans_err: float | None
    cam_mc: float | None
    framewise: tuple[float | None, float | None, float | None] = (None, None, None)
    truth_psnr: float | None = None
    revisit_psnr: float | None = None
    revisit_ssim: float | None = None
    revisit_lpips: float | None = None
    quality: float | None = None
    quality_drop: float | None = None
    peak_gb: float | None = None
    videos_per_hour: float | None = None


PAPER = (
    Line("SANA-WM, bidirectional", Split.simple, 80, None, 3.11, 1.08, 1.09, peak_gb=49.2,
         videos_per_hour=29.5),
    Line("SANA-WM, chunk-causal", Split.simple, 80, None, 7.59, 1.59, 1.63, peak_gb=51.1,
         videos_per_hour=24.1),
    Line("SANA-WM, chunk-causal + refiner", Split.simple, 80, None, 4.50, 1.39, 1.41, peak_gb=74.7,
         videos_per_hour=22.0, quality_drop=1.17),
    Line("Matrix-Game 3.0", Split.simple, 80, None, 12.96, 1.83, 1.92, peak_gb=106, videos_per_hour=3.1),
    Line("HY-WorldPlay", Split.simple, 80, None, 17.89, 2.36, 2.45, peak_gb=216, videos_per_hour=1.1),
    Line("LingBot-World", Split.simple, 80, None, 10.47, 2.01, 2.05, peak_gb=454, videos_per_hour=0.6),
    Line("SANA-WM, bidirectional", Split.hard, 80, None, 3.17, 1.08, 1.09),
    Line("SANA-WM, chunk-causal", Split.hard, 80, None, 10.02, 1.66, 1.72),
    Line("SANA-WM, chunk-causal + refiner", Split.hard, 80, None, 8.34, 1.39, 1.44, quality_drop=0.31),
)
"""arXiv 2605.15178, a minute at 720p on H100: memory in gigabytes, videos an hour of eight GPUs together,
quality by VBench's scorer. Its revisits reach a PSNR of 13.7 to 14.8."""


def lines(rows: Sequence[Metrics]) -> list[Line]:
    """Of every generator and split there are rows of, in their order."""
    groups: dict[tuple[str, str], list[Metrics]] = {}
    for split in Split:
        for row in rows:
            if row.split == split:
                groups.setdefault((row.generator, row.split), []).append(row)
    return [_line(name, Split(split), found) for (name, split), found in groups.items()]


def _line(name: str, split: Split, rows: Sequence[Metrics]) -> Line:
    def mean(field: str) -> float | None:
        known = [value for row in rows if (value := getattr(row, field)) is not None]
        return float(np.mean(known)) if known else None

    seconds = [row.seconds for row in rows if row.seconds]
    peaks = [row.peak_gb for row in rows if row.peak_gb]
    return Line(
        name, split, len(rows), sum(row.cam_mc_umeyama is not None for row in rows),
        mean("rot_err_deg_umeyama"), mean("trans_err_umeyama"), mean("cam_mc_umeyama"),
        (mean("rot_err_deg_framewise"), mean("trans_err_framewise"), mean("cam_mc_framewise")),
        mean("truth_psnr"), mean("revisit_psnr"), mean("revisit_ssim"), mean("revisit_lpips"),
        mean("quality_first"), mean("quality_drop"), max(peaks, default=None),
        3600 / float(np.median(seconds)) if seconds else None)


def as_text(rows: Sequence[Metrics]) -> str:
    """For the screen."""
    head = ("generator", "split", "cameras", "RotErr", "TransErr", "CamMC", "frame-wise R / T / C",
            "truth PSNR", "revisit PSNR", "SSIM", "drop")
    body = [(line.generator, str(line.split), f"{line.found}/{line.videos}", _shown(line.rot_err_deg),
             _shown(line.trans_err), _shown(line.cam_mc), " / ".join(_shown(v) for v in line.framewise),
             _shown(line.truth_psnr), _shown(line.revisit_psnr), _shown(line.revisit_ssim),
             _shown(line.quality_drop))
            for line in lines(rows)]
    widths = [max(len(row[i]) for row in [head, *body]) for i in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) if i < 2 else cell.rjust(width)
                               for i, (cell, width) in enumerate(zip(row, widths, strict=True))).rstrip()
                     for row in [head, *body])


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"
