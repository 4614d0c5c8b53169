"""The whole pipeline on rendered 720p video: seconds of video a second, time of each stage, peak memory."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
import sys
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from annotate.synthetic import SyntheticSpec, render_video
from dataset.catalog import read_index
from dataset.store import Store

_VIDEOS = ("room-walk?seed=21", "street-walk?seed=22", "room-s_curve?seed=23", "room-orbit?seed=24")
_PERIOD_S = 0.5


@dataclass
class Throughput:
    """One run. `first_clip_s`: from the start of the run to the first annotated clip; `stage_s`: seconds of
    workers' wall time; `cpu_s`: of all processes of the run, `cpu_of`: by what they did."""

    videos: int
    video_s: float
    clips: int
    clip_s: float
    wall_s: float
    first_clip_s: float | None
    cpu_s: float
    peak_mb: float
    cpu_of: dict[str, float] = field(default_factory=dict)
    stage_s: dict[str, float] = field(default_factory=dict)
    verdicts: dict[str, int] = field(default_factory=dict)
    code: int = 0
    output: str = ""


def run_pipeline(folder: Path, quick: bool) -> Throughput:
    """Render videos, annotate them with `python -m pipelines.annotate` as anybody would, and watch it."""
    source, out = folder / "videos", folder / "dataset"
    source.mkdir(parents=True)
    seconds = 10.5 if quick else 31.0
    videos = _VIDEOS[:1] if quick else _VIDEOS
    addresses = [f"synthetic://{name}&width=1280&height=720&fps=24.0&seconds={seconds}&noise=1.0"
                 for name in videos]
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as renderers:
        list(renderers.map(_render, [source / f"{number}.mp4" for number in range(len(videos))], addresses))
    command = [sys.executable, "-m", "pipelines.annotate", f"src={source}", f"out={out}",
               "source.rig=walking"]
    log = folder / "log.txt"
    begun = time.perf_counter()
    with log.open("wb") as sink:
        process = subprocess.Popen(command, stdout=sink, stderr=sink)
        cpu_of, peak_mb = _watch(psutil.Process(process.pid))
    wall = time.perf_counter() - begun
    text = log.read_text(errors="replace")
    result = Throughput(len(videos), seconds * len(videos), 0, 0.0, wall, None, sum(cpu_of.values()), peak_mb,
                        cpu_of, code=process.wait(), output=text[-4000:])
    if process.returncode:
        return result
    record = next((out / "runs").glob("*.json"))
    result.first_clip_s = json.loads(record.read_text())["outcome"]["first_clip_s"]
    stages: dict[str, float] = defaultdict(float)
    verdicts: dict[str, int] = defaultdict(int)
    for row in read_index(Store(str(out))).to_pylist():
        for stage, spent in json.loads(row["stage_seconds"]).items():
            stages[stage] += spent
        if row["kind"] == "clip":
            result.clips += 1
            result.clip_s += row["frames"] / row["fps"]
            verdicts[row["verdict"]] += 1
    result.stage_s, result.verdicts = dict(stages), dict(verdicts)
    return result


def _render(path: Path, address: str) -> None:
    render_video(path, SyntheticSpec.parse(address))


def _watch(process: psutil.Process) -> tuple[dict[str, float], float]:
    """CPU seconds of a process and all it started, by kind, and the greatest sum of their (shared) memory."""
    spent: dict[tuple[int, float], tuple[str, float]] = {}
    peak = 0
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        memory = 0
        for member in _tree(process):
            try:
                times = member.cpu_times()
                kind = "driver" if member == process else _kind(" ".join(member.cmdline()))
                spent[member.pid, member.create_time()] = kind, times.user + times.system
                memory += member.memory_full_info().pss
            except psutil.Error:
                continue
        peak = max(peak, memory)
        time.sleep(_PERIOD_S)
    kinds: dict[str, float] = defaultdict(float)
    for kind, seconds in spent.values():
        kinds[kind] += seconds
    return dict(kinds), peak / 2**20


def _kind(command: str) -> str:
    """What a process of the run does, from how Ray names it."""
    known = {"CutWorker": "cutting", "ClipWorker": "stages", "mapper_child": "pycolmap"}
    return next((kind for name, kind in known.items() if name in command), "Ray")


def _tree(process: psutil.Process) -> list[psutil.Process]:
    try:
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []
