"""What a second of video costs, how soon its first frame is there, and how much memory it takes, by length.

Three samplers with random weights, in one run. `--scale cpu`: a small network and the cosine codec, seconds
of CPU. `--scale gpu`: the released sizes at 720p, beside published figures; there the refiner joins in, and
stages side by side are compared with stages one after another. Writes benchmarks/results/infer.json and .md,
docs/images/infer.svg, or infer_gpu of each.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from benchmarks.infer_plot import plot
from benchmarks.infer_worlds import (
    QUICK,
    SCALES,
    Scale,
    ask,
    make_codec,
    make_network,
    make_refiner,
    make_world,
)
from benchmarks.measure import ROOT, allocation_peak, machine, write
from infer.pipeline import Request, WorldModel
from infer.precision import Precision, check_precision
from infer.sampler import Kind
from infer.trajectory import FPS

SAME_MEMORY = 1.05
"""What ten times the stream may need of memory, over what the stream needs."""
REFINED = (
    ("distilled + refiner, one after another", Precision.bf16, False),
    ("distilled + refiner", Precision.bf16, True),
    ("distilled + refiner, fp8", Precision.fp8, True),
    ("distilled + refiner, nvfp4", Precision.nvfp4, True),
)
"""The stream with its second stage: stages side by side or not, and in which precision."""
PUBLISHED = (
    ("a guided step of a minute, stage 1 (976 s over 60 steps, H100)", "step", 16.3),
    ("a minute, distilled, window and sink, stage 1 alone, seconds (H100)", "distilled", 29.0),
    ("x real time, distilled with refiner, 241 frames, window 2 (H100)", "realtime", 1.26),
    ("peak GB, the same, bf16", "memory", 37.4),
    ("peak GB, a minute, bidirectional, stage 1", "bidirectional memory", 49.2),
)


@dataclass(frozen=True)
class Row:
    """A clip of `frames` latent frames, medians over the repetitions. seconds: of the whole; first_s: until
    the first frame; chunk_s: from one piece of the video to the next, the median and the 95th percentile;
    step_s: of one step of the sampler; peak_mb: beyond the weights on a CPU, with them on a GPU."""

    world: str
    frames: int
    video_s: float
    seconds: float
    spread: float
    first_s: float
    chunk_s: float
    chunk_p95_s: float
    step_s: float
    peak_mb: float

    @property
    def cost(self) -> float:
        """Seconds a second of video takes."""
        return self.seconds / self.video_s


@dataclass(frozen=True)
class Timed:
    seconds: float
    first_s: float
    gaps: list[float]
    step_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--scale", choices=tuple(SCALES), default="cpu")
    parser.add_argument("--quick", action="store_true", help="short clips, one repetition: does it run?")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of the CPU; with 1, CPU time is the time")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="of the report")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images", help="of the plot")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    scale = (QUICK if arguments.quick else SCALES)[arguments.scale]
    rows = []
    for row in measure(scale, 1 if arguments.quick else arguments.repetitions):
        rows.append(row)
        print(_line(row), flush=True)
    name = "infer" if arguments.scale == "cpu" else "infer_gpu"
    about = {**machine("infer"), "size": list(scale.size), "steps": scale.steps,
             "repetitions": 1 if arguments.quick else arguments.repetitions}
    write(arguments.out, name, {"machine": about, "rows": [asdict(row) for row in rows]},
          report(about, rows, scale))
    arguments.images.mkdir(parents=True, exist_ok=True)
    (arguments.images / f"{name}.svg").write_text(plot([asdict(row) for row in rows]))


def measure(scale: Scale, repetitions: int) -> Iterator[Row]:
    """All samplers and lengths in turn, so that what else the machine does falls on all alike."""
    network = make_network(scale)
    codecs = {causal: make_codec(scale, causal) for causal in (True, False)}
    cases: list[tuple[str, WorldModel, Request]] = []
    for kind in Kind:
        world = make_world(scale, network, codecs[kind is not Kind.bidirectional], kind)
        for frames in scale.streamed if kind is Kind.distilled else scale.guided:
            cases.append((kind.value, world, ask(world, scale.size, frames)))
    yield from _in_turn(cases, repetitions, scale)
    del cases, world, network, codecs
    if scale.released:
        for name, precision, overlap in REFINED:
            _empty()
            yield from _with_refiner(scale, name, precision, overlap, repetitions)


def _with_refiner(
    scale: Scale, name: str, precision: Precision, overlap: bool, repetitions: int,
) -> Iterator[Row]:
    """The stream with the second stage; nothing else is on the device meanwhile."""
    try:
        check_precision(precision, torch.device(scale.device), torch.bfloat16, "precision")
    except ValueError as error:
        print(f"{name}: not measured: {error}", flush=True)
        return
    network, refiner = make_network(scale, precision), make_refiner(scale, precision)
    world = make_world(scale, network, make_codec(scale, True), Kind.distilled, refiner, overlap)
    yield from _in_turn([(name, world, ask(world, scale.size, frames)) for frames in scale.streamed[:2]],
                        repetitions, scale)


def _in_turn(cases: list[tuple[str, WorldModel, Request]], repetitions: int, scale: Scale) -> Iterator[Row]:
    """The first pass of each warms up while its memory is watched."""
    peaks = [_peak_mb(world, request, scale) for _, world, request in cases]
    times: list[list[Timed]] = [[] for _ in cases]
    for _ in range(repetitions):
        for (_, world, request), taken in zip(cases, times, strict=True):
            taken.append(_timed(world, request, scale))
    for (name, _, request), taken, peak in zip(cases, times, peaks, strict=True):
        whole = [t.seconds for t in taken]
        gaps = sorted(gap for t in taken for gap in t.gaps) or [0.0]
        yield Row(name, (len(request.path) - 1) // 8 + 1, len(request.path) / FPS, statistics.median(whole),
                  (max(whole) - min(whole)) / statistics.median(whole),
                  statistics.median(t.first_s for t in taken), statistics.median(gaps),
                  gaps[int(0.95 * (len(gaps) - 1))], statistics.median(t.step_s for t in taken), peak)


def _timed(world: WorldModel, request: Request, scale: Scale) -> Timed:
    """Frames reach the CPU before they are handed out, so a GPU has done what is timed."""
    clock: Callable[[], float] = time.process_time if scale.device == "cpu" else time.perf_counter
    steps: list[float] = []

    def step_done(step: int, of: int) -> None:
        if scale.device != "cpu":
            torch.cuda.current_stream().synchronize()
        steps.append(clock())

    begun, arrived = clock(), []
    for _ in world.generate(request, step_done):
        arrived.append(clock())
    gaps = [b - a for a, b in pairwise(arrived)]
    step_s = statistics.median(b - a for a, b in pairwise(steps)) if len(steps) > 1 else 0.0
    return Timed(arrived[-1] - begun, arrived[0] - begun, gaps, step_s)


def _peak_mb(world: WorldModel, request: Request, scale: Scale) -> float:
    """Of two steps where there are more: the others need the same."""
    short = replace(world, sampler=replace(world.sampler, steps=2))

    def run() -> None:
        for _ in short.generate(request):
            pass

    if scale.device == "cpu":
        return allocation_peak(run, "cpu")
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    run()
    return torch.cuda.max_memory_allocated() / 1e6


def _empty() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def constant_memory(rows: list[Row]) -> tuple[float, float] | None:
    """Of the stream: how much longer the longest clip is than one of a tenth or less, and its memory over
    that one's."""
    found = sorted((row for row in rows if row.world == "distilled"), key=lambda row: row.frames)
    shorter = [row for row in found if row.frames * 10 <= found[-1].frames] if found else []
    if not shorter:
        return None
    return found[-1].frames / shorter[-1].frames, found[-1].peak_mb / shorter[-1].peak_mb


def report(about: dict[str, Any], rows: list[Row], scale: Scale) -> str:
    on_gpu = scale.released
    lines = ["# What a video costs", "", *(f"- {key}: {value}" for key, value in about.items()), "",
             f"Random weights, {'released sizes' if on_gpu else 'the small preset and the cosine codec'}, "
             f"{scale.size[1]} x {scale.size[0]}, 16 frames a second. The guided samplers take "
             f"{scale.steps} steps here; sixty cost {60 / scale.steps:g} times that, decoding apart. "
             f"Seconds are {'of the clock' if on_gpu else 'CPU seconds of the process'}, the median; "
             "spread is (slowest - fastest) / median. Cost is seconds for a second of video; first frame "
             "is what passes until it is there, from loaded weights; a piece is what is decoded at a time. "
             "Peak memory is what torch's allocator held at most"
             f"{', weights and all' if on_gpu else ' beyond the weights'}.", "",
             "| what | latent frames | video s | seconds | spread | cost | x real time | first frame s "
             "| piece s | p95 | step s | peak MB |", "|---|---|---|---|---|---|---|---|---|---|---|---|"]
    lines += [f"| {row.world} | {row.frames} | {row.video_s:.1f} | {row.seconds:.2f} | {row.spread:.0%} "
              f"| {row.cost:.3f} | {1 / row.cost:.2f} | {row.first_s:.2f} | {row.chunk_s:.3f} "
              f"| {row.chunk_p95_s:.3f} | {row.step_s:.3f} | {row.peak_mb:.1f} |" for row in rows]
    lines += ["", "| target | measured | met |", "|---|---|---|"]
    lines += [f"| {target} | {found} | {'yes' if met else '**no**'} |"
              for target, found, met in targets(rows)]
    if on_gpu:
        lines += ["", "| published | theirs | here |", "|---|---|---|"]
        lines += [f"| {what} | {theirs:g} | {_beside(rows, key)} |" for what, key, theirs in PUBLISHED]
    return "\n".join(lines) + "\n"


def targets(rows: list[Row]) -> list[tuple[str, str, bool]]:
    """(target, measured, met)."""
    found = []
    if (grown := constant_memory(rows)) is not None:
        found.append((f"distilled, {grown[0]:.0f} times the length: memory <= {SAME_MEMORY:g} of it",
                      f"{grown[1]:.3f}", grown[1] <= SAME_MEMORY))
    streams = sorted((row for row in rows if row.world == "distilled"), key=lambda row: row.frames)
    if len(streams) > 1:
        ratio = streams[-1].first_s / streams[0].first_s
        found.append((f"distilled: the first frame of {streams[-1].frames} latent frames is there as soon as "
                      f"that of {streams[0].frames} (<= 1.5)", f"{ratio:.2f}", ratio <= 1.5))
        ratio = streams[-1].cost / streams[-2].cost
        found.append((f"distilled: a second of {streams[-1].frames} costs what one of {streams[-2].frames} "
                      "does (<= 1.1)", f"{ratio:.2f}", ratio <= 1.1))
    return found


def _beside(rows: list[Row], key: str) -> str:
    by = {(row.world, row.frames): row for row in rows}
    longest = {row.world: row for row in sorted(rows, key=lambda row: row.frames)}
    refined = by.get(("distilled + refiner", 31))
    found = {
        "step": by.get(("bidirectional", 121)) and f"{by['bidirectional', 121].step_s:.2f} s",
        "distilled": longest.get("distilled") and f"{60 * longest['distilled'].cost:.1f} s with decoding",
        "realtime": refined and f"{1 / refined.cost:.2f}",
        "memory": refined and f"{refined.peak_mb / 1e3:.1f}, text encoders apart",
        "bidirectional memory": by.get(("bidirectional", 121))
        and f"{by['bidirectional', 121].peak_mb / 1e3:.1f}, decoding included",
    }[key]
    return found or "not measured"


def _line(row: Row) -> str:
    return (f"{row.world:40} T {row.frames:4}  {row.seconds:8.2f} s = {row.cost:7.3f} a second   first "
            f"{row.first_s:7.2f} s   peak {row.peak_mb:9.1f} MB")


if __name__ == "__main__":
    main()
