"""How far is a focal length found in one picture's lines from the truth, beside assuming 60 degrees?

Frames of posed sequences whose cameras are known, and rendered rooms and streets with random lenses. Writes
benchmarks/results/lens.json and .md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from annotate.synthetic.paths import Path as Walk
from annotate.synthetic.render import Renderer
from annotate.synthetic.scene import build_scene
from annotate.synthetic.spec import Motion, Place, Texture
from benchmarks.measure import ROOT, machine, write
from infer.lens import ASSUMED_DEG, MOST_SPREAD
from infer.vanishing import estimate_focal

SIZE = (360, 640)
VIEWS_DEG = (40.0, 100.0)


@dataclass(frozen=True)
class Case:
    """Of a picture: the true focal length in shares of the longer side, the one found, and its 1 sigma."""

    kind: str
    true: float
    found: float
    spread: float
    seconds: float


def posed(data: Path, every: int) -> Iterator[tuple[str, np.ndarray, float]]:
    """Frames of the sequences in a folder with `<name>/video.mp4` and `<name>/intrinsics.npy`."""
    for folder in sorted(path.parent for path in data.glob("*/intrinsics.npy")):
        intrinsics = np.load(folder / "intrinsics.npy")
        with av.open(str(folder / "video.mp4")) as video:
            for number, frame in enumerate(video.decode(video=0)):
                if number % every == 0:
                    pixels = frame.to_ndarray(format="rgb24")
                    yield folder.name, pixels, float(intrinsics[number, :2].mean() / max(pixels.shape[:2]))


def rendered(scenes: int) -> Iterator[tuple[str, np.ndarray, float]]:
    """Two pictures of each of so many rooms and streets, from random places, level within some degrees."""
    rng = np.random.default_rng(1)

    def spiral(t: np.ndarray) -> np.ndarray:
        return np.sqrt(t / 60)[:, None] * 1.2 * np.stack([np.cos(6 * t), np.sin(6 * t)], -1)

    def still(value: float):  # type: ignore[no-untyped-def]
        return lambda t: np.full_like(t, value)

    free = Walk(Motion.walk, 60.0, spiral, still(0.0), still(0.0), bob=0.0)
    for seed in range(scenes):
        place, texture = list(Place)[seed % 2], [Texture.rich, Texture.low][seed // 2 % 2]
        scene = build_scene(place, free, np.random.default_rng([seed, 1]), texture, SIZE[1], moving=False)
        renderer = Renderer(scene, SIZE)
        for _ in range(2):
            when, heading, pitch = rng.uniform(0, 60), rng.uniform(0, 2 * np.pi), rng.normal(0, 0.12)
            here = spiral(np.array([when]))
            walk = Walk(Motion.walk, 1.0, lambda t, here=here: here, still(heading), still(pitch), bob=0.0)
            focal = 0.5 / np.tan(np.radians(rng.uniform(*VIEWS_DEG) / 2))
            lens = np.array([focal * SIZE[1], focal * SIZE[1], SIZE[1] / 2, SIZE[0] / 2])
            yield f"rendered {place.name}", renderer.frame(walk.c2w(np.zeros(1))[0], lens, 0.0), focal


def measure(kind: str, pixels: np.ndarray, true: float) -> Case:
    begun = time.process_time()
    found = estimate_focal(pixels)
    return Case(kind, true, found.focal, found.spread, time.process_time() - begun)


def summarise(cases: list[Case]) -> dict[str, Any]:
    """Errors are of the focal length's logarithm; those of believed pictures beside the default's on them."""
    assumed = 0.5 / np.tan(np.radians(ASSUMED_DEG / 2))
    true, found = (np.array([getattr(case, name) for case in cases]) for name in ("true", "found"))
    spread = np.array([case.spread for case in cases])
    error, default = np.abs(np.log(found / true)), np.abs(np.log(assumed / true))
    believed = spread <= MOST_SPREAD
    kept = np.where(believed, error, default)

    def middle(values: np.ndarray) -> float | None:
        return float(np.median(values)) if len(values) else None

    return {"pictures": len(cases), "believed": int(believed.sum()), "error": middle(error[believed]),
            "worst": float(error[believed].max()) if believed.any() else None,
            "default_on_them": middle(default[believed]), "all": middle(kept), "default": middle(default),
            "within_1_sigma": float((error < spread)[believed].mean()) if believed.any() else None,
            "seconds": float(np.median([case.seconds for case in cases]))}


def describe(results: dict[str, Any]) -> str:
    about = results["machine"]

    def share(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.0f} %"

    lines = [
        "# The lens of a single picture", "",
        f"{about['date']}, commit {about['commit']}, {about['cpu']}: `{about['command']}`", "",
        f"Relative error of the focal length. *Believed* are estimates whose own 1 sigma is at most "
        f"{share(MOST_SPREAD)}; where there is none, {ASSUMED_DEG:g} degrees across the longer side are "
        "assumed.", "",
        "| pictures | believed | median | worst | 60 degrees on the same | within 1 sigma | all pictures, "
        "with the estimate | always 60 degrees | CPU seconds |", "|---|---|---|---|---|---|---|---|---|"]
    for kind, row in results["kinds"].items():
        lines.append(
            f"| {kind} | {row['believed']} of {row['pictures']} | {share(row['error'])} | "
            f"{share(row['worst'])} | {share(row['default_on_them'])} | {share(row['within_1_sigma'])} | "
            f"{share(row['all'])} | {share(row['default'])} | {row['seconds']:.2f} |")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "poses")
    parser.add_argument("--every", type=int, default=5, help="frames of posed sequences")
    parser.add_argument("--scenes", type=int, default=60, help="rendered, two pictures of each")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    cases = [measure(*picture) for pictures in (posed(arguments.data, arguments.every),
                                                rendered(arguments.scenes)) for picture in pictures]
    kinds = {kind: summarise([case for case in cases if case.kind == kind])
             for kind in dict.fromkeys(case.kind for case in cases)}
    kinds["all"] = summarise(cases)
    results = {"machine": machine("lens"), "kinds": kinds, "cases": [asdict(case) for case in cases]}
    write(arguments.results, "lens", results, describe(results))


if __name__ == "__main__":
    main()
