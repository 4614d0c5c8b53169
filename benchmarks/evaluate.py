"""The evaluation's table for three small networks of this code, from nothing, in one command.

Films rooms along random paths, encodes them, trains a bidirectional network, makes it chunk-causal, distils
that to four steps, and evaluates all three from places and along paths they have not seen, beside the true
videos and those of another path. What exists in the folder is not made again. Writes
benchmarks/results/evaluate.json and .md.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow.parquet as pq

from benchmarks.evaluate_data import write_clips
from benchmarks.measure import ROOT, machine, write
from pipelines.evaluation.measure import Metrics
from pipelines.evaluation.table import Line, lines
from pipelines.evaluation.templates import TEMPLATES


@dataclass(frozen=True)
class Scale:
    """Sizes of a run; steps of the four stages in turn; the paths that are evaluated."""

    size: tuple[int, int]
    codec: str
    preset: str
    frames: int
    rooms: int
    clips: int
    batch: int
    steps: tuple[int, int, int, int]
    sampler_steps: int
    paths: tuple[str, ...] = tuple(TEMPLATES)
    width: int | None = None  # of the network; None: the preset's
    speed: float = 0.4  # metres a second at most


SCALES = {
    "quick": Scale((128, 192), "dct32", "tiny", 25, 2, 6, 2, (2, 2, 2, 5), 2, ("arc-right", "full-circle")),
    "cpu": Scale((128, 192), "dct32", "small", 49, 1, 192, 6, (3000, 400, 100, 60), 8,
                 ("truck-and-return", "arc-right", "bend-right", "full-circle", "figure-eight",
                  "weave-and-nod"), width=128, speed=0.8),
    "gpu": Scale((256, 384), "dct16", "small", 97, 4, 4096, 16, (30000, 6000, 1500, 1500), 30),
}
_STAGES = ("minute", "chunk_causal", "ode_init", "self_forcing")
_SAMPLERS = {"bidirectional": "minute", "chunk_causal": "chunk_causal", "distilled": "self_forcing"}
_RATES = {"minute": 5e-4, "chunk_causal": 2e-4, "ode_init": 1e-4, "self_forcing": 2e-5}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", choices=SCALES, default="cpu")
    parser.add_argument("--work", type=Path, required=True, help="folder of data, runs and the evaluation")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    given = parser.parse_args()
    scale, work = SCALES[given.scale], given.work.absolute()
    data = work / "data"
    if not data.exists():
        partial = work / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        write_clips(partial, scale.rooms, scale.clips, scale.frames, scale.size)
        partial.rename(data)
    _module("pipelines.latents", f"data={data}", f"codec={scale.codec}", "text=hash", "text_tokens=16",
            "text_channels=64")
    for stage, before, steps in zip(_STAGES, (None, *_STAGES), scale.steps):
        _train(scale, work, stage, before, steps)
    height, width = scale.size
    networks = [f"{sampler}={work / 'runs' / stage}" for sampler, stage in _SAMPLERS.items()]
    _module("pipelines.evaluate", "scenes=synthetic", f"rooms={scale.rooms}", f"out={work / 'evaluation'}",
            "every=true", f"templates=[{','.join(scale.paths)}]", "truth=true", "wrong=true",
            f"path.frames={scale.frames}", f"path.speed={scale.speed}", f"size=[{height},{width}]",
            f"networks.steps={scale.sampler_steps}", "networks.guidance=1", *networks, accept=(0, 1))
    table = pq.read_table(work / "evaluation" / "metrics.parquet")
    found, about = lines([Metrics(**row) for row in table.to_pylist()]), machine("evaluate")
    results = {"machine": about, "scale": asdict(scale), "lines": [asdict(line) for line in found]}
    write(given.out, "evaluate", results, _page(about, scale, found))


def _train(scale: Scale, work: Path, stage: str, before: str | None, steps: int) -> None:
    start = "scratch" if before is None else str(work / "runs" / before)
    others = [f"self_forcing.teacher={work / 'runs' / 'minute'}"] if stage == "self_forcing" else []
    if stage == "ode_init":
        others = [f"ode.steps={scale.sampler_steps}", "ode.guidance=1"]
    _module("train", f"stage={stage}", f"start={start}", f"steps={steps}", f"model.preset={scale.preset}",
            f"model.width={scale.width or 'null'}", f"data.path={work / 'data'}",
            f"data.frames=[{scale.frames}]", f"data.batch_size={scale.batch}", "data.workers=0",
            f"optim.lr={_RATES[stage]}", "parallel.context=1", "parallel.recompute=0",
            f"out={work / 'runs' / stage}", *others)


def _module(name: str, *arguments: str, accept: tuple[int, ...] = (0,)) -> None:
    """Run one of our commands, as a user would."""
    print(f"$ python -m {name} {' '.join(arguments)}", flush=True)
    code = subprocess.run([sys.executable, "-m", name, *arguments], cwd=ROOT).returncode
    if code not in accept:
        raise SystemExit(f"python -m {name} ended with code {code}")


def _page(about: dict, scale: Scale, found: list[Line]) -> str:
    body = "\n".join(
        f"| {line.generator} | {line.split} | {line.found}/{line.videos} | {_cell(line.rot_err_deg)} | "
        f"{_cell(line.trans_err)} | {_cell(line.cam_mc)} | {' / '.join(_cell(v) for v in line.framewise)} | "
        f"{_cell(line.truth_psnr)} | {_cell(line.quality_drop)} | {_cell(line.videos_per_hour)} |"
        for line in found)
    return f"""# Three small networks along known paths

`{about['command']}`, commit {about['commit']}, {about['date']}, {about.get('gpu', about['cpu'])}, \
{about['threads']} threads.

{scale.preset} networks, {scale.codec}, videos of {scale.frames} frames at {scale.size[1]}x{scale.size[0]}; \
trained for {', '.join(f'{steps:,}' for steps in scale.steps)} steps ({', '.join(_STAGES)}) on \
{scale.clips:,} clips of {_rooms(scale.rooms)}. Means; errors of cameras, in \
degrees and metres, over the videos whose camera was found.

| generator | split | cameras | RotErr | TransErr | CamMC | frame-wise R / T / C | truth, dB | drop | /h |
|---|---|---|---|---|---|---|---|---|---|
{body}

`truth`: the true videos; `wrong path`: those of another path. Truth: PSNR against the true video. \
Quality by the weight-free proxy.
"""


def _rooms(number: int) -> str:
    return "one rendered room" if number == 1 else f"{number} rendered rooms"


def _cell(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


if __name__ == "__main__":
    main()
