"""Learned engines: how well windows join and metres come back at stated errors; and how good real ones are.

Without arguments: our own part, on drawn depth and cameras with known errors, on a CPU. With `--engines` also
the engines named, with their released weights, on rendered clips with exact cameras: seconds a clip, errors.
Writes benchmarks/results/engines.json and .md.

    python -m benchmarks.engines --engines pi3x,moge2 --python pi3x=a/bin/python --python moge2=b/bin/python
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from annotate.depth.config import METRIC
from annotate.depth.learned import metric_engine
from annotate.frames import ArrayFrames
from annotate.learned import EngineConfig, LearnedConfig
from annotate.pose.learned.config import FeedForwardConfig
from annotate.pose.learned.feed_forward import NAMES
from annotate.pose.learned.windows import Window, join, window_ranges
from annotate.pose.stage import ENGINES, PoseStageConfig
from annotate.scale.fused import compare
from annotate.synthetic import SyntheticSpec, render_sequence
from benchmarks.measure import ROOT, machine, write
from dataset.clip import DepthMaps
from dataset.trajectory import absolute_error

SCENES = ("street-walk?seed=3", "room-walk?seed=5", "room-forward?seed=3", "room-orbit?seed=1")
SIZE = (360, 640)
EVERY = 8
SCALE = 0.23  # true metres a unit


@dataclass
class Recovered:
    """Relative error of the scale over trials: median, largest; seconds of CPU a clip."""

    noise: float
    outliers: float
    missing: float
    median: float
    largest: float
    seconds: float


@dataclass
class Seam:
    """Path error after joining windows whose depth errs, as a share of the path, and the largest seam."""

    noise: float
    path: float
    seam: float
    seconds: float


@dataclass
class Real:
    """One engine on one rendered clip."""

    engine: str
    scene: str
    seconds: float
    path: float | None = None  # ATE after Sim(3), share of the path
    rotation_deg: float | None = None
    focal: float | None = None
    scale: float | None = None  # metres stated over true metres
    failure: str | None = None


def smooth(rng: np.random.Generator, shape: tuple[int, int, int]) -> np.ndarray:
    """Noise (n, h, w) of unit size whose neighbours err alike, as those of networks do."""
    import cv2

    coarse = rng.standard_normal((shape[0], max(2, shape[1] // 40), max(2, shape[2] // 40)))
    return np.stack([cv2.resize(c, shape[:0:-1], interpolation=cv2.INTER_CUBIC) for c in coarse])


def recover(noise: float, outliers: float, missing: float, trials: int) -> Recovered:
    """Scale of maps against themselves times `SCALE`, spoilt, over random scenes."""
    errors, begun = [], time.process_time()
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        shape = (21, 180, 320)
        depth = 6.0 * np.exp(0.5 * smooth(rng, shape))
        metric = SCALE * depth * np.exp(noise * smooth(rng, shape))
        drawn = rng.random((shape[0], 30, 54)).repeat(6, 1).repeat(6, 2)[:, :180, :320]
        metric = np.where(drawn < outliers, 7 * metric, metric)
        metric = np.where(drawn > 1 - missing, np.nan, metric)
        scales = compare(_maps(depth), _maps(metric))
        known = np.array([each.scale for each in scales.each])
        errors.append(abs(float(np.nanmedian(known)) / SCALE - 1))
    seconds = (time.process_time() - begun) / trials
    return Recovered(noise, outliers, missing, float(np.median(errors)), float(np.max(errors)), seconds)


def _maps(depth: np.ndarray) -> DepthMaps:
    frames = np.arange(len(depth), dtype=np.int32) * EVERY
    return DepthMaps(depth.astype(np.float16), np.isfinite(depth), frames, np.ones((len(depth), 4)), "drawn")


def seams(noise: float, frames: int) -> Seam:
    """Windows of a rendered clip's true cameras and spoilt depth, each in a unit of its own, joined."""
    _, track, exact = render_sequence(SyntheticSpec.parse(f"synthetic://{SCENES[1]}"), frames, 160, 90)
    depth = np.stack([exact(k) for k in range(frames)])
    depth = np.where(np.isfinite(depth), depth, np.nan)
    rng = np.random.default_rng(0)

    def windows() -> Iterator[Window]:
        for number, span in enumerate(window_ranges(frames, 40, 10)):
            part, unit = slice(span.start, span.stop), 1.7 ** (number % 3)
            c2w = np.linalg.inv(track.c2w[span.start]) @ track.c2w[part]
            c2w[:, :3, 3] *= unit
            seen = depth[part] * unit * np.exp(noise * smooth(rng, depth[part].shape))
            yield Window(span.start, c2w, track.intrinsics[part], seen, np.zeros_like(seen))

    begun = time.process_time()
    joined = join(windows(), EVERY)
    seconds = time.process_time() - begun
    if joined.failure is not None:
        raise RuntimeError(f"windows at noise {noise}: {joined.failure}")
    return Seam(noise, absolute_error(joined.c2w, track.c2w).share_of_path, joined.seam_share, seconds)


def measure(name: str, learned: LearnedConfig, frames: int) -> list[Real]:
    """A real engine on every scene; the first clip, which loads it, is gone through twice."""
    found = []
    engine: Any = (metric_engine(name, learned, SIZE[1]) if name in METRIC
                   else ENGINES[name](PoseStageConfig(feed_forward=FeedForwardConfig()), learned))
    for scene in (SCENES[0], *SCENES):
        spec = SyntheticSpec.parse(f"synthetic://{scene}")
        images, track, exact = render_sequence(spec, frames, SIZE[1], SIZE[0])
        clip = ArrayFrames(images)
        begun = time.perf_counter()
        try:
            if name in METRIC:
                chosen = list(range(0, frames, EVERY))
                maps = engine.estimate(clip, chosen, track.intrinsics)
                row = Real(name, scene, time.perf_counter() - begun)
                truth = np.stack([exact(k) for k in chosen])
                good = maps.valid & np.isfinite(truth)
                row.scale = float(np.median(maps.depth[good] / truth[good]))
            else:
                guess = engine.estimate(clip, track.timestamps)
                row = Real(name, scene, time.perf_counter() - begun, failure=guess.failure)
                if guess.failure is None:
                    error = absolute_error(guess.c2w, track.c2w)
                    row.path, row.rotation_deg = error.share_of_path, error.rotation_deg.rmse
                    row.focal = float(np.median(np.abs(guess.intrinsics[:, 0] / track.intrinsics[:, 0] - 1)))
                    row.scale = guess.path_length / track.path_length
        except RuntimeError as error:
            row = Real(name, scene, time.perf_counter() - begun, failure=str(error))
        found.append(row)
    return found[1:]


def page(about: dict[str, object], recovered: Sequence[Recovered], joined: Sequence[Seam],
         real: Sequence[Real], frames: int) -> str:
    """The tables as Markdown."""
    lines = ["# Learned engines", "", *(f"- {key}: {value}" for key, value in about.items()), "",
             "## Metres from spoilt depth", "",
             "21 maps of 180x320 a clip; noise is smooth and multiplicative, outliers are patches seven "
             "times too far, missing patches are NaN. Relative error of the clip's scale.", "",
             "| noise | outliers | missing | median | largest | CPU s a clip |", "|---|---|---|---|---|---|"]
    lines += [f"| {r.noise:.0%} | {r.outliers:.0%} | {r.missing:.0%} | {r.median:.2%} | {r.largest:.2%} | "
              f"{r.seconds:.2f} |" for r in recovered]
    lines += ["", "## Joined windows", "",
              f"{frames} frames in windows of 40 that share 10, true cameras, each window in its own unit.",
              "", "| noise of depth | path error | largest seam | CPU s |", "|---|---|---|---|"]
    lines += [f"| {s.noise:.0%} | {s.path:.4%} of the path | {s.seam:.4%} | {s.seconds:.2f} |"
              for s in joined]
    if real:
        lines += ["", "## Engines", "", f"Rendered clips of {frames} frames at {SIZE[1]}x{SIZE[0]}.", "",
                  "| engine | scene | s a clip | path | rotation, deg | focal | scale, of 1 | failure |",
                  "|---|---|---|---|---|---|---|---|"]
        for r in real:
            shown = [_shown(r.path, ".3%"), _shown(r.rotation_deg, ".3f"), _shown(r.focal, ".2%"),
                     _shown(r.scale, ".3f"), r.failure or ""]
            lines.append(f"| {r.engine} | {r.scene} | {r.seconds:.2f} | " + " | ".join(shown) + " |")
    return "\n".join([*lines, ""])


def _shown(value: float | None, how: str) -> str:
    return "" if value is None else format(value, how)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--engines", default="", help=f"to measure: {', '.join((*NAMES, 'vipe', *METRIC))}")
    parser.add_argument("--device", default="cuda", help="they run on")
    parser.add_argument("--python", action="append", default=[], help="engine=interpreter")
    parser.add_argument("--weights", action="append", default=[], help="engine=path or hub repository")
    parser.add_argument("--frames", type=int, default=161)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="of the report")
    arguments = parser.parse_args()
    pythons, weights = (dict(pair.split("=", 1) for pair in pairs) for pairs in
                        (arguments.python, arguments.weights))
    learned = LearnedConfig(device=arguments.device)
    for name in {*pythons, *weights}:
        where = learned.engine(name)
        changed = EngineConfig(pythons.get(name, where.python), weights.get(name, where.weights))
        setattr(learned, name, changed)
    cases = [(0.0, 0.0, 0.0), (0.02, 0.0, 0.0), (0.1, 0.0, 0.0), (0.05, 0.05, 0.1), (0.1, 0.1, 0.2)]
    recovered = [recover(*case, arguments.trials) for case in cases]
    joined = [seams(noise, arguments.frames) for noise in (0.0, 0.02, 0.1)]
    real = [row for name in filter(None, arguments.engines.split(","))
            for row in measure(name, learned.absolute(), arguments.frames)]
    about = machine("engines")
    results = {"about": about, "recovered": [asdict(r) for r in recovered],
               "joined": [asdict(s) for s in joined], "engines": [asdict(r) for r in real]}
    write(arguments.out, "engines", results, page(about, recovered, joined, real, arguments.frames))


if __name__ == "__main__":
    main()
