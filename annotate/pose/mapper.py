"""Structure from motion by pycolmap, run in a child process with a time limit.

Its mappers are native code that can abort, or run for minutes without answering to a signal handler; a
child can be killed. Used to start and to recover the classical engine, as the second opinion on its result,
and as the baseline of the benchmark. Request and answer travel as files (`annotate.pose.mapper_child` reads
one and writes the other).
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

import numpy as np

from dataset.scratch import Scratch

Diagnostics = dict[str, float | str | bool | None]


class MapperMethod(StrEnum):
    """Which of pycolmap's mappers; the names are those of its functions."""

    incremental_mapping = "incremental_mapping"
    global_mapping = "global_mapping"


@dataclass
class MapperConfig:
    """How pycolmap is asked. Seed and threads change its outcome, so they are fixed here and recorded."""

    method: MapperMethod = MapperMethod.incremental_mapping  # growing from a pair, or all frames at once
    time_limit_s: float = 120.0  # wall time after which the child is killed
    threads: int = 1  # one is reproducible; more are faster and are not
    seed: int = 0  # of every random choice in the child
    max_features: int = 2048  # SIFT points a frame, where no tracks are given
    overlap: int = 8  # each frame is matched with so many that follow, and with those 2^k ahead
    focal_factor: float = 1.2  # starting focal length over the longer side, where none is given
    min_matches: int = 15  # pairs with fewer are ignored


@dataclass(frozen=True)
class PointTracks:
    """Tracked points of F frames.

    pixels: F arrays (n_i, 2), centres at +0.5. ids: F arrays (n_i,) int64, equal for the same scene point and
    unique within a frame.
    """

    pixels: Sequence[np.ndarray]
    ids: Sequence[np.ndarray]


@dataclass
class Reconstruction:
    """What a mapper made of F frames.

    c2w (F, 4, 4), NaN where unposed; intrinsics (F, 4) pixels of the frames given, NaN likewise; points
    (P, 3); the observations: point_index (O,), frame_index (O,), pixel (O, 2); track_id (P,), -1 where the
    points were not given as tracks. `failure` is a sentence, or None when at least two frames are posed.
    """

    c2w: np.ndarray
    intrinsics: np.ndarray
    points: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    track_id: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    point_index: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    frame_index: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    pixel: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    diagnostics: Diagnostics = field(default_factory=dict)
    failure: str | None = None

    @property
    def posed(self) -> np.ndarray:
        """(F,) bool."""
        return np.isfinite(self.c2w[:, 0, 0])


def map_frames(
    size: tuple[int, int],
    config: MapperConfig,
    gray: np.ndarray | None = None,
    tracks: PointTracks | None = None,
    intrinsics: np.ndarray | None = None,
    focal_px: float | None = None,
) -> Reconstruction:
    """Reconstruct the frames of one camera, in order, from `tracks` or else from SIFT points of `gray`.

    gray: (F, h, w) uint8 with `size` = (h, w). intrinsics (F, 4) are held fixed, one camera a frame where
    they differ; without them one focal length is shared by all frames, starts at `focal_px` (or the
    configured factor) and is estimated. Principal point at the centre, no distortion. Never raises for
    difficult input: time-out, crash and an empty result come back as `failure`. Raises ValueError on
    misshapen arguments.
    """
    frames = _check(size, gray, tracks, intrinsics)
    request: dict[str, np.ndarray] = {}
    if tracks is not None:
        request["pixels"] = np.concatenate([np.asarray(p, np.float64).reshape(-1, 2) for p in tracks.pixels])
        request["ids"] = np.concatenate([np.asarray(i, np.int64).reshape(-1) for i in tracks.ids])
        request["counts"] = np.array([len(p) for p in tracks.pixels], np.int64)
    else:
        request["gray"] = np.asarray(gray)
    if intrinsics is not None:
        request["intrinsics"] = np.asarray(intrinsics, np.float64)
    settings = {**asdict(config), "size": list(size), "frames": frames, "focal_px": focal_px}
    request["settings"] = np.frombuffer(json.dumps(settings).encode(), np.uint8)
    failure, answer = _ask_child(request, config.time_limit_s)
    if failure is not None:
        return _empty(frames, failure, config)
    with np.load(io.BytesIO(answer), allow_pickle=False) as arrays:
        meta = json.loads(arrays["meta"].tobytes())
        if meta["failure"] is not None:
            return _empty(frames, meta["failure"], config, meta["diagnostics"])
        return Reconstruction(
            c2w=arrays["c2w"], intrinsics=arrays["intrinsics"], points=arrays["points"],
            track_id=arrays["track_id"], point_index=arrays["point_index"], frame_index=arrays["frame_index"],
            pixel=arrays["pixel"], diagnostics=meta["diagnostics"],
        )


def _check(
    size: tuple[int, int], gray: np.ndarray | None, tracks: PointTracks | None, intrinsics: np.ndarray | None
) -> int:
    """Number of frames, once the arguments fit each other."""
    if (gray is None) == (tracks is None):
        found = "both" if gray is not None else "neither"
        raise ValueError(f"map_frames: give either grey frames or tracks, found {found}")
    if gray is not None and (gray.ndim != 3 or gray.shape[1:] != tuple(size) or gray.dtype != np.uint8):
        raise ValueError(f"map_frames: expected grey frames (F, {size[0]}, {size[1]}) uint8, "
                         f"found {gray.shape} {gray.dtype}")
    frames = len(gray) if gray is not None else len(tracks.pixels) if tracks is not None else 0
    if tracks is not None and [len(p) for p in tracks.pixels] != [len(i) for i in tracks.ids]:
        raise ValueError("map_frames: points and track ids differ in number")
    if intrinsics is not None and np.shape(intrinsics) != (frames, 4):
        raise ValueError(f"map_frames: expected intrinsics ({frames}, 4), found {np.shape(intrinsics)}")
    return frames


def _ask_child(request: dict[str, np.ndarray], time_limit_s: float) -> tuple[str | None, bytes]:
    """Run the child on a request; (failure, bytes of its answer)."""
    with Scratch("mapper") as folder:
        question, answer, log = (folder / name for name in ("request.npz", "answer.npz", "log.txt"))
        np.savez(question, **request)  # type: ignore[arg-type]
        command = [sys.executable, "-m", "annotate.pose.mapper_child", str(question), str(answer)]
        package_root = str(Path(__file__).resolve().parents[2])
        paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
        with log.open("wb") as sink:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink,
                                     env=environment, cwd=folder, start_new_session=True)
            try:
                code = child.wait(time_limit_s)
            except subprocess.TimeoutExpired:
                return f"mapper did not finish within {time_limit_s:g} s", b""
            finally:
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGKILL)
                    child.wait()
        if code < 0:
            return f"mapper died of signal {signal.Signals(-code).name}: {_last_line(log)}", b""
        if code or not answer.exists():
            return f"mapper ended with code {code}: {_last_line(log)}", b""
        return None, answer.read_bytes()


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else "no output"


def _empty(
    frames: int, failure: str, config: MapperConfig, diagnostics: Diagnostics | None = None
) -> Reconstruction:
    found: Diagnostics = {"method": str(config.method), "seed": config.seed, "threads": config.threads}
    return Reconstruction(np.full((frames, 4, 4), np.nan), np.full((frames, 4), np.nan),
                          diagnostics={**found, **(diagnostics or {})}, failure=failure)
