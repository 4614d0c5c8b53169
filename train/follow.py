"""How well sampled videos follow their camera paths, as a command beside training measures it.

Finding the camera of a video is the annotation's work, of which training knows but the command's name.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass

import numpy as np

from dataset.scratch import Scratch
from train.film import write_film

_TIME_LIMIT_S = 900.0


@dataclass(frozen=True)
class Following:
    """Of one video: mean angle in degrees, mean distance as a share of the path; None where not found."""

    rotation_deg: float | None
    translation: float | None
    failure: str | None = None


def measure(
    module: str, video: np.ndarray, c2w: np.ndarray, intrinsics: np.ndarray, fps: float,
) -> Following:
    """Compare the camera of a video (F, H, W, 3), bytes, with c2w (F, 4, 4) and intrinsics (F, 4).

    module: run as `python -m MODULE video=... camera=...`; the last line it prints is JSON with rot_err_deg,
    trans_err, path and failure. That it fails is an answer: training goes on.
    """
    with Scratch("follow") as folder:
        film, camera = folder / "video.mp4", folder / "camera.npz"
        write_film(film, video, fps, crf=12)
        np.savez(camera, c2w=c2w, intrinsics=intrinsics)
        command = [sys.executable, "-m", module, f"video={film}", f"camera={camera}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIME_LIMIT_S)
        except subprocess.TimeoutExpired:
            return Following(None, None, f"{module} was not ready after {_TIME_LIMIT_S:.0f} s")
    lines = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines() or ["it said nothing"]
    if done.returncode:
        return Following(None, None, f"{module} ended with {done.returncode}: {lines[-1]}")
    try:
        said = json.loads(lines[-1])
        if said["rot_err_deg"] is None:
            return Following(None, None, said["failure"] or "no reason given")
        share = said["trans_err"] / said["path"] if said["path"] else None
        return Following(said["rot_err_deg"], share)
    except (ValueError, KeyError, TypeError):
        return Following(None, None, f"{module} printed {lines[-1]!r}, expected JSON with its errors")
