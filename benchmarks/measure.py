"""Time and memory of pieces of torch, contenders in turn; and what machine this is."""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
Run = Callable[[], object]


@dataclass(frozen=True)
class Measured:
    """`seconds`: median; `spread`: (slowest - fastest) / median; `peak_mb`: see `allocation_peak`."""

    seconds: float
    spread: float
    peak_mb: float


def compare(runs: Sequence[Run], repetitions: int, device: str) -> list[Measured]:
    """Each run once to warm up while its memory is watched, then all in turn, so that what else the machine
    does falls on all alike. Seconds are of this process's CPU, or of the GPU's stream."""
    peaks = [allocation_peak(run, device) for run in runs]
    timer = _cuda_seconds if device == "cuda" else _cpu_seconds
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(repetitions):
        for run, taken in zip(runs, times, strict=True):
            taken.append(timer(run))
    return [Measured(statistics.median(t), (max(t) - min(t)) / statistics.median(t), peak)
            for t, peak in zip(times, peaks, strict=True)]


def allocation_peak(run: Run, device: str) -> float:
    """Megabytes that torch's allocator held at most during `run` beyond what it held before.

    On a CPU from the profiler's record of every allocation, so that inputs, weights and the interpreter do
    not count, and nothing depends on when the system takes pages back.
    """
    if device == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        torch.cuda.synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    held = peak = 0
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak / 1e6


def _cpu_seconds(run: Run) -> float:
    begun = time.process_time()
    run()
    return time.process_time() - begun


def _cuda_seconds(run: Run) -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def machine(name: str) -> dict[str, Any]:
    """Hardware, versions, commit, and the command `python -m benchmarks.<name>`."""
    import diffusers

    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, text=True,
                            capture_output=True).stdout.strip()
    information = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in information.read_text().splitlines()
             if line.startswith("model name")] if information.exists() else []
    about: dict[str, Any] = {
        "cpu": names[0] if names else platform.processor(), "threads": torch.get_num_threads(),
        "python": platform.python_version(), "torch": torch.__version__,
        "diffusers": diffusers.__version__, "commit": commit, "date": time.strftime("%Y-%m-%d"),
        "command": " ".join([f"python -m benchmarks.{name}", *sys.argv[1:]])}
    if torch.cuda.is_available():
        about["gpu"] = torch.cuda.get_device_name()
    return about


def write(folder: Path, name: str, results: dict[str, Any], text: str) -> None:
    """One JSON, one page, and the page on the screen."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / f"{name}.md").write_text(text)
    print(text)
