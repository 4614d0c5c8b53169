"""One method on one sequence in a process of its own, so that its time and memory are its own.

    python -m benchmarks.pose_run sequence.json METHOD result.npz
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from annotate.pose.mapper import MapperConfig, MapperMethod, map_frames
from annotate.pose.second import SecondConfig
from annotate.pose.stage import PoseStage, PoseStageConfig
from annotate.source.item import Rig
from annotate.stage import Clip
from benchmarks.sequences import Sequence
from dataset.camera import resize_intrinsics
from dataset.clip import CameraTrack, ClipRecord, FrameVerdict, Kind, Motion

OURS = ("classical", "classical, intrinsics known")
PLAIN = ("pycolmap incremental", "pycolmap global")
TIME_LIMIT_S = 600.0


class Meter:
    """CPU time of this process and its children, wall time, and their greatest memory."""

    def __init__(self) -> None:
        self._cpu, self._wall = self._spent(), time.perf_counter()

    @staticmethod
    def _spent() -> float:
        usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(u.ru_utime + u.ru_stime for u in usage)

    def read(self) -> dict[str, float]:
        peak = max(resource.getrusage(who).ru_maxrss
                   for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return {"cpu_s": self._spent() - self._cpu, "wall_s": time.perf_counter() - self._wall,
                "peak_mb": peak / 1024}


def run(sequence: Sequence, method: str) -> tuple[CameraTrack, dict[str, Any], dict[str, bytes]]:
    """The track, what was measured on the way, and further files."""
    if method in PLAIN:
        return _plain(sequence, MapperMethod(f"{method.split()[1]}_mapping"))
    return _ours(sequence, method)


def _ours(sequence: Sequence, method: str) -> tuple[CameraTrack, dict[str, Any], dict[str, bytes]]:
    from annotate.depth import DepthStage
    from annotate.scale.stage import ScaleStage

    frames, truth = sequence.frames(), sequence.truth()
    known = {}
    if method.endswith("known"):
        given = CameraTrack.failed("", truth.timestamps, truth.size, "given", Motion.PARALLAX)
        given.failure, given.intrinsics = None, truth.intrinsics
        known["given.npz"] = given.to_npz()
    record = ClipRecord(clip_id="0" * 20, video_id="0", kind=Kind.CLIP, fps=sequence.fps)
    clip = Clip(record, known, frames)
    meter = Meter()
    output = PoseStage(PoseStageConfig(second=SecondConfig(share=0.0, doubtful=False))).process(clip)
    measured: dict[str, Any] = {"pose": meter.read()}
    fields, files = dict(output.fields), dict(known) | output.files
    track = CameraTrack.from_npz(files["pose.npz"])
    meter = Meter()
    depth = DepthStage().process(Clip(record, files, frames))
    measured["depth"] = meter.read()
    files |= depth.files
    rig = Rig.walking if "walk" in sequence.name or "forward" in sequence.name else Rig.unknown
    scale = ScaleStage(rig=Rig.driving if sequence.name == "kitti06" else rig)
    fields |= scale.process(Clip(record, files, frames)).fields | depth.fields
    meter = Meter()
    asked = PoseStage(PoseStageConfig(second=SecondConfig(share=1.0)))
    if track.failure is None:
        fields |= asked.ask_again(clip, track, truth.intrinsics if known else None)
    measured["second"] = meter.read()
    measured["fields"] = {key: value for key, value in fields.items() if value is not None}
    return track, measured, {"depth.npz": files["depth.npz"]} if "depth.npz" in files else {}


def _plain(sequence: Sequence, mapper: MapperMethod) -> tuple[CameraTrack, dict[str, Any], dict[str, bytes]]:
    gray, truth = sequence.gray(), sequence.truth()
    meter = Meter()
    chosen = np.arange(0, len(gray), sequence.pycolmap_step)
    images = np.stack([_shrunk(np.asarray(gray[i]), sequence.pycolmap_width) for i in chosen])
    size = (images.shape[1], images.shape[2])
    config = MapperConfig(method=mapper, time_limit_s=TIME_LIMIT_S, max_features=8192, overlap=10)
    result = map_frames(size, config, gray=images)
    track = CameraTrack.failed(result.failure or "", truth.timestamps, truth.size, f"pycolmap_{mapper}",
                               Motion.PARALLAX)
    if result.failure is None:
        posed = chosen[result.posed]
        track.failure = None
        track.c2w[posed] = result.c2w[result.posed]
        track.intrinsics[posed] = resize_intrinsics(result.intrinsics[result.posed], size, truth.size)
        track.frame_verdict[posed] = FrameVerdict.ESTIMATED
    return track, {"pose": meter.read(), "frames_given": len(chosen)}, {}


def _shrunk(image: np.ndarray, width: int) -> np.ndarray:
    if image.shape[1] <= width:
        return image
    height = round(image.shape[0] * width / image.shape[1])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sequence", type=Path)
    parser.add_argument("method", choices=[*OURS, *PLAIN])
    parser.add_argument("result", type=Path)
    arguments = parser.parse_args()
    track, measured, files = run(Sequence.load(arguments.sequence), arguments.method)
    np.savez(arguments.result, track=np.frombuffer(track.to_npz(), np.uint8),
             measured=np.frombuffer(json.dumps(measured, default=float).encode(), np.uint8),
             **{name: np.frombuffer(data, np.uint8) for name, data in files.items()})  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
