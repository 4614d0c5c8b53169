"""Frames a second of the splat renderers, and whether they draw the same.

python -m benchmarks.splats draws a furnished room of splats with the reference renderer, in seconds of one
core; with --device cuda also with gsplat, and compares their pictures. It further says how many of the forty
candidate paths of the room are fit to be drawn. Writes benchmarks/results/splats.json and .md, or
splats_cuda.json and .md.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from annotate.splats.config import SplatConfig, SplatVideo
from annotate.splats.gsplat_engine import GsplatDrawing, why_not
from annotate.splats.render import CpuDrawing
from annotate.splats.scene import NotWanted
from annotate.splats.video import load_scene, plan_video
from benchmarks.measure import ROOT, compare, machine, write
from benchmarks.splats_scene import FOV_X_DEG, room, training_cameras, write_scene

NEAR = 0.2
SIZES = {"cpu": ((360, 640), (720, 1280)), "cuda": ((720, 1280),)}
SPLATS = {"cpu": (20_000, 100_000), "cuda": (100_000, 1_000_000, 3_000_000)}
ABOUT = """\
A room of flat Gaussians with colours of degree 1, seen by cameras that walk through it. Seconds are of one \
core's CPU (cpu) or of the GPU's stream (gsplat; "to memory" includes bringing each frame to the host); \
frames a second come from the median over rounds, spread is (slowest - fastest) / median. Agreement: the \
largest difference of a colour (of 255) and the PSNR between the pictures of both renderers."""


@dataclass(frozen=True)
class Speed:
    """Of one renderer at one size of scene and picture."""

    drawer: str
    splats: int
    width: int
    height: int
    frames_per_s: float
    spread: float


@dataclass(frozen=True)
class Agreement:
    """Of gsplat with the reference, at one size of scene."""

    splats: int
    worst_grey: float
    psnr_db: float


def intrinsics_of(size: tuple[int, int]) -> np.ndarray:
    """(4,) of the scene's field of view."""
    height, width = size
    focal = width / 2 / np.tan(np.radians(FOV_X_DEG) / 2)
    return np.array([focal, focal, width / 2, height / 2])


def repeated(
    draw: Callable[[np.ndarray, np.ndarray], Any], size: tuple[int, int], frames: int,
) -> Callable[[], None]:
    """Draws the next `frames` of the walk at every call."""
    cameras, intrinsics = cycle(training_cameras()), intrinsics_of(size)

    def run() -> None:
        for _ in range(frames):
            draw(next(cameras), intrinsics)

    return run


def speeds(
    counts: list[int], sizes: list[tuple[int, int]], frames: int, rounds: int, device: str,
) -> Iterator[Speed]:
    """Every renderer that runs on the device, at every size of scene and picture."""
    for count in counts:
        splats = room(count)
        for size in sizes:
            runs = {"cpu": CpuDrawing(splats, size, NEAR).frame}
            if device == "cuda":
                drawing = GsplatDrawing(splats, size, NEAR)
                runs = {"gsplat": drawing.draw, "gsplat, to memory": drawing.frame}
            measured = compare([repeated(draw, size, frames) for draw in runs.values()], rounds, device)
            for name, found in zip(runs, measured, strict=True):
                yield Speed(name, len(splats), size[1], size[0], frames / found.seconds, found.spread)


def agreement(count: int, size: tuple[int, int] = (360, 640)) -> Agreement:
    """Of four pictures by both renderers."""
    splats, intrinsics = room(count), intrinsics_of(size)
    drawings = [kind(splats, size, NEAR) for kind in (CpuDrawing, GsplatDrawing)]
    cameras = training_cameras()[::15]
    first, second = ([d.frame(c2w, intrinsics)[0] for c2w in cameras] for d in drawings)
    error = np.abs(np.stack(first).clip(0, 1) - np.stack(second).clip(0, 1)) * 255
    return Agreement(len(splats), float(error.max()), float(10 * np.log10(255**2 / np.mean(error**2))))


def candidates(count: int) -> tuple[int, dict[str, int]]:
    """How many of forty paths are fit to be drawn, and why the others are not."""
    reasons: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = write_scene(Path(folder), count)
        for number in range(40):
            video = SplatVideo(number, str(path.with_name("cameras.json")), SplatConfig())
            try:
                plan_video(load_scene(str(path), video), number, video.settings)
            except NotWanted as error:
                reasons[error.code] = reasons.get(error.code, 0) + 1
    return 40 - sum(reasons.values()), reasons


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=SIZES, default="cpu")
    parser.add_argument("--splats", type=int, nargs="+")
    parser.add_argument("--width", type=int, help="of one size of picture, 16:9, instead of the usual ones")
    parser.add_argument("--frames", type=int, help="a round; default 4 on the CPU, 100 on a GPU")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    device = arguments.device
    if device == "cuda" and (missing := why_not()) is not None:
        parser.error(missing)
    torch.set_num_threads(1)
    sizes = [(arguments.width * 9 // 16, arguments.width)] if arguments.width else list(SIZES[device])
    counts = arguments.splats or list(SPLATS[device])
    frames = arguments.frames or (100 if device == "cuda" else 4)
    found = list(speeds(counts, sizes, frames, arguments.rounds, device))
    agreed = [agreement(counts[0])] if device == "cuda" else []
    fit, reasons = candidates(counts[0])
    name = "splats_cuda" if device == "cuda" else "splats"
    about = machine("splats")
    results = {"machine": about, "speeds": [asdict(s) for s in found],
               "agreement": [asdict(a) for a in agreed], "candidates": {"fit": fit, "others": reasons}}
    write(arguments.out, name, results, page(about, found, agreed, fit, reasons))


def page(
    about: dict[str, Any], found: list[Speed], agreed: list[Agreement], fit: int, reasons: dict[str, int],
) -> str:
    """The results in Markdown."""
    lines = ["# Splat renderers", "", *(f"- {key}: {value}" for key, value in about.items()), "", ABOUT, "",
             "| renderer | splats | picture | frames/s | spread |", "|---|---|---|---|---|"]
    lines += [f"| {s.drawer} | {s.splats:,} | {s.width}x{s.height} | {s.frames_per_s:.3g} | {s.spread:.0%} |"
              for s in found]
    if agreed:
        lines += ["", "| splats | largest difference of 255 | PSNR |", "|---|---|---|"]
        lines += [f"| {a.splats:,} | {a.worst_grey:.2f} | {a.psnr_db:.1f} dB |" for a in agreed]
    others = "".join(f", {number} {reason}" for reason, number in reasons.items())
    lines += ["", f"Of 40 candidate paths through the room {fit} are fit to be drawn{others}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
