"""How good the annotation is and what it costs, beside plain pycolmap on the same frames, in one run.

    python -m benchmarks.annotate [--quick] [--shared ../shared/data] [--out benchmarks/results]

Errors of poses, focal length, metric scale and depth on rendered sequences (and, with --shared, on real ones
with reference cameras); CPU and wall time and memory of each; then the throughput of the whole pipeline on
rendered 720p video. Writes annotate.md and annotate.json. Processes run one after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.annotate_report import report
from benchmarks.pose_run import OURS, PLAIN, TIME_LIMIT_S
from benchmarks.pose_score import Score, rotation_apart, score
from benchmarks.sequences import BESIDE_PYCOLMAP, Sequence, sequences
from benchmarks.throughput import Throughput, run_pipeline
from dataset.clip import CameraTrack, DepthMaps

ROOT = Path(__file__).resolve().parents[1]
_PATIENCE_S = 5 * TIME_LIMIT_S


def machine() -> dict[str, Any]:
    """What a figure needs to be quoted."""
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.processor())
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, text=True,
                            capture_output=True).stdout.strip()
    import cv2
    import pycolmap

    return {
        "cpu": model, "cores": os.cpu_count(), "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "load_before": [round(x, 1) for x in os.getloadavg()], "python": platform.python_version(),
        "opencv": cv2.__version__, "pycolmap": pycolmap.__version__, "commit": commit,
        "date": time.strftime("%Y-%m-%d"),
        "command": " ".join(["python -m benchmarks.annotate", *sys.argv[1:]]),
    }


def measure(sequence: Sequence, method: str) -> tuple[Score, CameraTrack | None]:
    """One method on one sequence, in a process of its own; None where it did not end well."""
    folder = Path(sequence.folder)
    result = folder / "result.npz"
    result.unlink(missing_ok=True)
    command = [sys.executable, "-m", "benchmarks.pose_run", str(folder / "sequence.json"), method,
               str(result)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    truth = sequence.truth()
    failed = partial(Score, sequence.name, method, sequence.real, len(truth.c2w), 0.0)
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True,
                              timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:
        return failed(f"no answer within {_PATIENCE_S:g} s"), None
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"code {done.returncode}"
        return failed(f"crashed: {last}"), None
    with np.load(result) as arrays:
        track = CameraTrack.from_npz(arrays["track"].tobytes())
        measured = json.loads(arrays["measured"].tobytes())
        maps = DepthMaps.from_npz(arrays["depth.npz"].tobytes()) if "depth.npz" in arrays else None
    found = score(sequence.name, method, sequence.real, track, truth, measured, maps, sequence.depth())
    return found, track


def methods_for(sequence: Sequence) -> list[str]:
    """Known intrinsics are tried where the lens is a real one; pycolmap there and on some rendered ones."""
    beside = sequence.real or sequence.name in BESIDE_PYCOLMAP
    return [*(OURS if sequence.real else OURS[:1]), *(PLAIN if beside else ())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three short sequences and one short video")
    parser.add_argument("--shared", type=Path, help="folder whose poses/ holds kitti06, tote and fox")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results", help="of the report")
    parser.add_argument("--no-pipeline", action="store_true", help="leave out the pipeline's throughput")
    arguments = parser.parse_args()
    about, scores = machine(), []
    with tempfile.TemporaryDirectory(prefix="annotate-benchmark-") as scratch:
        for sequence in sequences(Path(scratch), arguments.shared, arguments.quick):
            sequence.save()
            tracks: dict[str, CameraTrack] = {}
            for method in methods_for(sequence):
                found, track = measure(sequence, method)
                if track is not None:
                    found.rotation_apart = {name: apart for name, other in tracks.items()
                                            if (apart := rotation_apart(track, other)) is not None}
                    tracks[method] = track
                scores.append(found)
                print(_line(found), flush=True)
            shutil.rmtree(sequence.folder)
        pipeline: Throughput | None = None
        if not arguments.no_pipeline:
            pipeline = run_pipeline(Path(scratch) / "pipeline", arguments.quick)
    arguments.out.mkdir(parents=True, exist_ok=True)
    name = "annotate_quick" if arguments.quick else "annotate"
    results = {"machine": about, "scores": [s.as_json() for s in scores],
               "pipeline": asdict(pipeline) if pipeline else None}
    (arguments.out / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n")
    text = report(about, scores, pipeline)
    (arguments.out / f"{name}.md").write_text(text)
    print(text)


def _line(result: Score) -> str:
    ate = "-" if result.ate is None else f"{result.ate:.3%}"
    return (f"{result.sequence:28} {result.method:28} posed {result.posed:4.0%}  ATE {ate:>8}  "
            f"cpu {result.cpu_s:6.1f} s  wall {result.wall_s:6.1f} s  {result.failure or ''}")


if __name__ == "__main__":
    main()
