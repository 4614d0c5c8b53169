"""The network beside diffusers' of the same size and weights: time and peak memory against number of frames.

Without a GPU: a scanning layer, a softmax layer and the whole small network in float32, forward alone and
forward with backward, the two in turn. With one: benchmarks/model_cuda.py, the full size.
Writes benchmarks/results/model.json and .md, or model_cuda.json and .md.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.measure import ROOT, Measured, compare, machine, write
from benchmarks.model_cases import calls_of, random_inputs, random_network, with_backward
from model.config import DiTConfig
from model.diffusers import to_diffusers

FRAMES = (6, 11, 21, 41, 61, 121)
AT = 61
LIMIT = 0.7
DOUBLING_LIMIT = 2.1


@dataclass(frozen=True)
class Row:
    """A piece at a number of frames, both contenders. `difference`: of their outputs, over their spread."""

    piece: str
    frames: int
    backward: bool
    ours: Measured
    theirs: Measured
    difference: float

    @property
    def time_ratio(self) -> float:
        return self.ours.seconds / self.theirs.seconds

    @property
    def memory_ratio(self) -> float:
        return self.ours.peak_mb / self.theirs.peak_mb


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=FRAMES, help="latent frames, growing")
    parser.add_argument("--grid", type=int, nargs=2, default=(8, 12), help="cells, height and width")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of the CPU; with 1, CPU time is the time")
    parser.add_argument("--pieces", nargs="+", default=("scan", "softmax", "model"),
                        choices=("scan", "softmax", "model"))
    parser.add_argument("--device", choices=("cpu", "cuda"),
                        default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="of the report")
    arguments = parser.parse_args()
    if arguments.device == "cuda":
        from benchmarks.model_cuda import run_cuda

        return run_cuda(arguments.out, arguments.repetitions)
    torch.set_num_threads(arguments.threads)
    rows = []
    for row in measure(arguments.pieces, arguments.frames, tuple(arguments.grid), arguments.repetitions):
        rows.append(row)
        print(_line(row), flush=True)
    about = {**machine("model"), "grid": list(arguments.grid), "repetitions": arguments.repetitions}
    write(arguments.out, "model", {"machine": about, "rows": [asdict(row) for row in rows]},
          report(about, rows))


def measure(
    pieces: Sequence[str], frames: Sequence[int], grid: tuple[int, int], repetitions: int,
) -> Iterator[Row]:
    small = DiTConfig.small()
    configs = {"model": small, "scan": replace(small, depth=1, softmax_blocks=()),
               "softmax": replace(small, depth=1, softmax_blocks=(0,))}
    for piece in pieces:
        network = random_network(configs[piece])
        contenders = network, to_diffusers(network)
        for count in frames:
            inputs = random_inputs(network.config, (count, *grid))
            calls = calls_of(contenders, inputs, layer=piece != "model")
            with torch.no_grad():
                ours, theirs = (call() for call in calls)
                difference = float((ours - theirs).abs().max() / theirs.std())
                found = compare(calls, repetitions, "cpu")
            yield Row(piece, count, False, *found, difference)
            found = compare([with_backward(call, network_) for call, network_ in zip(calls, contenders)],
                            repetitions, "cpu")
            yield Row(piece, count, True, *found, difference)


def doubling(rows: Sequence[Row], piece: str, backward: bool) -> float | None:
    """How much ours costs more for twice the frames, by the power of the frames that fits best."""
    found = [row for row in rows if row.piece == piece and row.backward == backward]
    if len(found) < 2:
        return None
    power = np.polyfit(np.log([row.frames for row in found]), np.log([row.ours.seconds for row in found]), 1)
    return float(2 ** power[0])


def targets(rows: Sequence[Row]) -> list[tuple[str, str, bool]]:
    """(target, measured, met)."""
    found = []
    for row in (r for r in rows if r.piece == "model" and r.frames == AT):
        what = "forward and backward" if row.backward else "forward"
        for name, ratio in (("time", row.time_ratio), ("peak memory", row.memory_ratio)):
            found.append((f"whole network, {what}, T = {AT}: {name} <= {LIMIT:g} of diffusers'",
                          f"{ratio:.2f}", ratio <= LIMIT))
    for backward in (False, True):
        cost = doubling(rows, "scan", backward)
        if cost is not None:
            what = "forward and backward" if backward else "forward"
            found.append((f"scanning layer, {what}: twice the frames cost <= {DOUBLING_LIMIT:g}x",
                          f"{cost:.2f}", cost <= DOUBLING_LIMIT))
    return found


def report(about: dict[str, Any], rows: Sequence[Row]) -> str:
    lines = ["# The network beside diffusers'", "",
             *(f"- {key}: {value}" for key, value in about.items()), "",
             "Both have the small preset's sizes and the same weights, in float32, camera and Plücker inputs "
             "included; `scan` and `softmax` are one layer's attention, both branches, from the modulated "
             "stream to the output projection. Seconds are CPU seconds of the process, the median; spread is "
             "(slowest - fastest) / median. Peak memory is what torch's allocator held at most during the "
             "call beyond what it held before, from the profiler's record of allocations. What twice the "
             "frames cost is 2 to the power of the frames that fits all lengths best. Difference is the "
             "largest of the outputs over their spread; diffusers casts softmax attention to bfloat16.", "",
             "| target | measured | met |", "|---|---|---|"]
    lines += [f"| {target} | {found} | {'yes' if met else '**no**'} |"
              for target, found, met in targets(rows)]
    lines += ["", "| piece | frames | backward | ours s | theirs s | ratio | spread | ours MB | theirs MB "
              "| ratio | difference |", "|---|---|---|---|---|---|---|---|---|---|---|"]
    for row in rows:
        spread = max(row.ours.spread, row.theirs.spread)
        lines.append(
            f"| {row.piece} | {row.frames} | {'yes' if row.backward else 'no'} "
            f"| {row.ours.seconds:.3f} | {row.theirs.seconds:.3f} | {row.time_ratio:.2f} | {spread:.0%} "
            f"| {row.ours.peak_mb:.1f} | {row.theirs.peak_mb:.1f} | {row.memory_ratio:.2f} "
            f"| {row.difference:.1e} |")
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    return (f"{row.piece:8} T {row.frames:4} {'fwd+bwd' if row.backward else 'forward':8} time "
            f"{row.ours.seconds:8.3f} / {row.theirs.seconds:8.3f} = {row.time_ratio:.2f}   peak "
            f"{row.ours.peak_mb:8.1f} / {row.theirs.peak_mb:8.1f} = {row.memory_ratio:.2f}   "
            f"difference {row.difference:.1e}")


if __name__ == "__main__":
    main()
