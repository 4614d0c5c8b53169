"""How well shot boundaries are found: precision and recall of hard cuts, dissolves kept out of shots, speed.

    python -m benchmarks.shots ../shared/data

compares the detector with PySceneDetect's own on videos with known cuts, and on transitions of known place
between real shots. Writes benchmarks/results/shots.md and .json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np

from annotate.shots.detector import Boundary, Shot, ShotConfig, ShotDetector, find_shots
from annotate.synthetic import SyntheticSpec, SyntheticTruth, render_frames
from annotate.synthetic.spec import Motion, Place, Transition
from benchmarks.transitions import Joined, cut, dissolve, fade, fit, flash, pan

TOLERANCE = 2
RESULTS = Path(__file__).parent / "results"
MOVING = ("corridor_walk", "highway_drive", "dog_handheld", "bedroom_children", "static_tripod")
Detector = Callable[[np.ndarray, float], list[int]]


@dataclass
class Count:
    """Hard cuts of one video or one group of videos."""

    true: int = 0
    found: int = 0  # of the true ones
    false: int = 0

    def add(self, detected: list[int], expected: list[int]) -> None:
        self.true += len(expected)
        self.found += sum(any(abs(d - e) <= TOLERANCE for d in detected) for e in expected)
        self.false += sum(not any(abs(d - e) <= TOLERANCE for e in expected) for d in detected)

    @property
    def precision(self) -> float | None:
        return self.found / (self.found + self.false) if self.found + self.false else None

    @property
    def recall(self) -> float | None:
        return self.found / self.true if self.true else None


@dataclass
class Result:
    """One detector over everything."""

    files: dict[str, Count] = field(default_factory=dict)
    synthetic: dict[str, Count] = field(default_factory=dict)
    frames: int = 0
    cpu_s: float = 0.0


def read_small(path: Path, long_side: int = 160) -> tuple[np.ndarray, float]:
    """All frames of the first video stream shrunk to `long_side` (F, h, w, 3) BGR, and the frame rate."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        shrink = min(1.0, long_side / max(stream.width, stream.height))
        size = (round(stream.width * shrink), round(stream.height * shrink))
        frames = [cv2.resize(f.to_ndarray(format="bgr24"), size, interpolation=cv2.INTER_AREA)
                  for f in container.decode(stream)]
        return np.stack(frames), float(stream.average_rate or 25)


def shots_of(frames: np.ndarray, fps: float) -> list[Shot]:
    return find_shots(((index / fps, frame) for index, frame in enumerate(frames)), ShotConfig())


def lateness(frames: np.ndarray, fps: float) -> list[int]:
    """For every frame but those near the end: how many frames came before it was certain where it belongs."""
    detector, late, settled = ShotDetector(ShotConfig()), [], 0
    for index, frame in enumerate(frames):
        detector.push(index / fps, frame)
        late += [index - k for k in range(settled, detector.settled)]
        settled = detector.settled
    return late


def hard_cuts(shots: list[Shot]) -> list[int]:
    """First frames behind a hard cut."""
    return sorted({s.start_frame for s in shots if s.opens_with == Boundary.cut}
                  | {s.end_frame for s in shots if s.closes_with == Boundary.cut})


def ours(frames: np.ndarray, fps: float) -> list[int]:
    return hard_cuts(shots_of(frames, fps))


def library(name: str) -> Detector:
    """One of PySceneDetect's detectors with its default settings."""
    import scenedetect
    from scenedetect import detectors

    def detect(frames: np.ndarray, fps: float) -> list[int]:
        detector = getattr(detectors, name)()
        found: list[int] = []
        for index, frame in enumerate(frames):
            found += [t.frame_num for t in
                      detector.process_frame(scenedetect.FrameTimecode(index, fps=fps), frame)]
        return found

    return detect


def known_videos(data: Path) -> dict[str, tuple[Path, list[int], list[tuple[int, int]]]]:
    """Name -> file, hard cuts, gradual transitions [start, end]."""
    videos = {}
    for name, truth in json.loads((data / "cuts" / "cuts.json").read_text()).items():
        gradual = [(start, end) for start, end, _ in truth.get("gradual", [])]
        videos[Path(name).stem] = ((data / "cuts" / name).resolve(), truth["hard_cuts"], gradual)
    for name in MOVING:
        videos[name] = (data / "videos" / f"{name}.mp4", [], [])
    return videos


def sources(data: Path) -> dict[str, np.ndarray]:
    """Real shots without a transition, all of one size."""
    shots = {name: fit(read_small(data / "videos" / f"{name}.mp4")[0]) for name in MOVING}
    shots["kitti06"] = fit(read_small(data / "poses" / "kitti06" / "video.mp4")[0])
    bikes = fit(read_small(data / "cuts" / "bikes.mp4")[0])
    shots |= {"bikes_1": bikes[30:76], "bikes_2": bikes[76:137], "bikes_3": bikes[137:187]}
    shots["nasa"] = fit(read_small(data / "hard" / "nasa_13013.mp4")[0][202:])
    return shots


def synthetic(shots: dict[str, np.ndarray], pairs: int) -> dict[str, list[Joined]]:
    """Groups of videos with transitions of known place; every group is drawn with its own fixed seed."""
    names = sorted(shots)
    groups: dict[str, list[Joined]] = {}

    def draw(group: str, make: Callable[[np.ndarray, np.ndarray], Joined]) -> None:
        rng = np.random.default_rng(len(groups))
        made = groups.setdefault(group, [])
        for _ in range(20 * pairs):
            before, after = (shots[names[k]] for k in rng.choice(len(names), 2, replace=False))
            try:
                made.append(make(before, after))
            except ValueError:
                continue
            if len(made) == pairs:
                break

    draw("hard cuts", lambda a, b: cut([a[-25:], b[:30], a[:20]]))
    for length in (8, 16, 24, 40):
        draw(f"dissolves of {length}", lambda a, b, n=length: dissolve(a, b, n))
    for colour, shade in ((0, "black"), (255, "white")):
        draw(f"fades through {shade}", lambda a, b, c=colour: fade(a, b, 12, 5, c))
    groups["flashes"] = [flash(shots[name], length) for name in names for length in (1, 2, 3)]
    groups["fast pans"] = [pan(shots[name][10], speed, 5) for name in names for speed in (.06, .15, .3)]
    return groups


def rendered() -> dict[str, list[Joined]]:
    """Walks through rooms and streets from the project's own renderer, six shots a video."""
    groups: dict[str, list[Joined]] = {}
    for kind in Transition:
        for place in Place:
            truth = SyntheticTruth(SyntheticSpec(
                place, Motion.walk, seed=11, width=160, height=90, fps=24.0, seconds=2.5, shots=6,
                transition=kind, noise=1.0))
            frames = np.stack([frame[..., ::-1] for frame in render_frames(truth)])
            groups.setdefault(f"rendered, {kind}", []).append(Joined(frames, truth.cuts, truth.transitions))
    return groups


def crossed(shots: list[Shot], start: int, end: int) -> bool:
    """Whether one shot runs across the middle of a transition."""
    return any(shot.start_frame < (start + end) // 2 < shot.end_frame for shot in shots)


def overlap(shots: list[Shot], start: int, end: int) -> int:
    """Most frames of a transition in one shot."""
    return max([min(s.end_frame, end) - max(s.start_frame, start) for s in shots] + [0])


def measure(detect: Detector, known: dict, groups: dict[str, list[Joined]]) -> Result:
    result = Result()
    for name, (frames, fps, cuts, _) in known.items():
        began = time.process_time()
        detected = detect(frames, fps)
        result.cpu_s += time.process_time() - began
        result.frames += len(frames)
        result.files.setdefault(name, Count()).add(detected, cuts)
    for group, videos in groups.items():
        count = result.synthetic.setdefault(group, Count())
        for video in videos:
            count.add(detect(video.frames, 25.0), video.cuts)
    return result


def total(counts: dict[str, Count]) -> Count:
    return Count(*(sum(getattr(c, f) for c in counts.values()) for f in ("true", "found", "false")))


def transitions(known: dict, groups: dict[str, list[Joined]]) -> dict[str, dict[str, int]]:
    """Per group: transitions, those that a shot runs across, most of their frames left in one shot, and
    dissolves or fades reported where there is none."""
    rows: dict[str, dict[str, int]] = {}
    videos = [(f"real: {name}", frames, fps, [(a, b + 1) for a, b in gradual])
              for name, (frames, fps, _, gradual) in known.items()]
    videos += [(group, video.frames, 25.0, video.gradual) for group, made in groups.items() for video in made]
    for name, frames, fps, gradual in videos:
        found = shots_of(frames, fps)
        row = rows.setdefault(name, {"transitions": 0, "crossed": 0, "frames_left": 0, "false": 0})
        row["transitions"] += len(gradual)
        row["crossed"] += sum(crossed(found, a, b) for a, b in gradual)
        row["frames_left"] = max([row["frames_left"]] + [overlap(found, a, b) for a, b in gradual])
        gaps = [(x.end_frame, y.start_frame) for x, y in pairwise(found) if x.end_frame < y.start_frame]
        row["false"] += sum(all(end <= a or start >= b for a, b in gradual) for start, end in gaps)
    return rows


def machine() -> dict[str, str | int | None]:
    model = next((line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.processor())
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=RESULTS.parent, text=True,
                            capture_output=True).stdout.strip()
    return {"cpu": model, "cores": os.cpu_count(), "python": platform.python_version(),
            "opencv": cv2.__version__, "commit": commit, "date": time.strftime("%Y-%m-%d"),
            "command": " ".join(["python -m benchmarks.shots", *sys.argv[1:]])}


def share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def report(
    results: dict[str, Result], gradual: dict[str, dict[str, int]], late: list[int], about: dict,
) -> str:
    lines = ["# Shot boundaries", "", *(f"- {key}: {value}" for key, value in about.items()), "",
             f"A cut counts as found within {TOLERANCE} frames. Frames are 160 pixels on the longer side. "
             "The rate is on one core, detectors only, without decoding. The synthetic transitions join the "
             "same real shots in pairs drawn at random; the detector's thresholds were set on other draws of "
             "the same shots. The rendered videos were not looked at when they were set. On the real videos "
             f"it is certain {statistics.median(late):.0f} frames later (median; at most {max(late)}) which "
             "shot a frame belongs to, if any.", "",
             "| detector | precision | recall | cuts | found | false | precision, synthetic "
             "| recall, synthetic | frames/s |", "|---|---|---|---|---|---|---|---|---|"]
    for name, result in results.items():
        real, made = total(result.files), total(result.synthetic)
        lines.append(f"| {name} | {share(real.precision)} | {share(real.recall)} | {real.true} "
                     f"| {real.found} | {real.false} | {share(made.precision)} | {share(made.recall)} "
                     f"| {result.frames / result.cpu_s:.0f} |")
    for title, attribute in (("Real videos", "files"), ("Synthetic transitions", "synthetic")):
        lines += ["", f"## {title}: found / false, of all hard cuts", "",
                  "| | cuts | " + " | ".join(results) + " |", "|---|---|" + "---|" * len(results)]
        for name in getattr(results["ours"], attribute):
            counts = [getattr(result, attribute)[name] for result in results.values()]
            lines.append(f"| {name} | {counts[0].true} | "
                         + " | ".join(f"{c.found} / {c.false}" for c in counts) + " |")
    lines += ["", "## Gradual transitions", "",
              "| | transitions | crossed by a shot | most transition frames left in a shot | false |",
              "|---|---|---|---|---|"]
    lines += [f"| {name} | {row['transitions']} | {row['crossed']} | {row['frames_left']} "
              f"| {row['false']} |"
              for name, row in gradual.items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with cuts/, videos/, poses/ and hard/")
    parser.add_argument("--pairs", type=int, default=12, help="synthetic transitions of each kind")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    known = {name: (*read_small(path), cuts, gradual)
             for name, (path, cuts, gradual) in known_videos(arguments.data).items()}
    groups = synthetic(sources(arguments.data), arguments.pairs) | rendered()
    detectors: dict[str, Detector] = {
        "ours": ours, "content": library("ContentDetector"), "adaptive": library("AdaptiveDetector"),
        "hash": library("HashDetector")}
    results = {name: measure(detect, known, groups) for name, detect in detectors.items()}
    gradual, about = transitions(known, groups), machine()
    late = [count for frames, fps, _, _ in known.values() for count in lateness(frames, fps)]
    RESULTS.mkdir(exist_ok=True)
    text = report(results, gradual, late, about)
    (RESULTS / "shots.md").write_text(text)
    numbers = {"machine": about, "gradual": gradual, "results": {n: asdict(r) for n, r in results.items()}}
    (RESULTS / "shots.json").write_text(json.dumps(numbers, indent=1))
    print(text)


if __name__ == "__main__":
    main()
