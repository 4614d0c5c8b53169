"""python -m benchmarks.splats_picture draws docs/images/splats.png: the candidate paths of a scene from
above, and frames along some of them."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from annotate.splats.config import Drawer, SplatConfig, SplatVideo
from annotate.splats.paths import Family
from annotate.splats.scene import NotWanted
from annotate.splats.video import PlannedVideo, Scene, load_scene, open_drawing, plan_video
from benchmarks.measure import ROOT
from benchmarks.splats_scene import write_scene

SPLATS = 120_000
FRAME = (180, 320)
SHOWN = (Family.near_original, Family.orbit, Family.fly_through, Family.crane, Family.compound)
_GREY, _INK = (232, 232, 232), (70, 70, 70)
_HUES = {family: 180 * k // len(Family) for k, family in enumerate(Family)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "splats.png")
    out = parser.parse_args().out
    config = SplatConfig(drawer=Drawer.cpu, width=FRAME[1], height=FRAME[0])
    with tempfile.TemporaryDirectory() as folder:
        path = write_scene(Path(folder), SPLATS)
        videos = [SplatVideo(k, str(path.with_name("cameras.json")), config) for k in range(40)]
        scene = load_scene(str(path), videos[0])
        planned = []
        for video in videos:
            try:
                planned.append(plan_video(scene, video.candidate, config))
            except NotWanted as error:
                print(error)
    frames = sheet(scene, planned, config)
    plan = from_above(scene, planned, frames.shape[0])
    picture = np.concatenate([plan, frames], 1)
    few = Image.fromarray(picture[..., ::-1]).quantize(96, dither=Image.Dither.NONE)
    few.save(out, optimize=True)
    print(f"{out}: {picture.shape[1]}x{picture.shape[0]}, {out.stat().st_size / 1000:.0f} kB")


def colour_of(family: Family) -> tuple[int, int, int]:
    """BGR."""
    pixel = cv2.cvtColor(np.array([[[_HUES[family], 210, 190]]], np.uint8), cv2.COLOR_HSV2BGR)[0, 0]
    return int(pixel[0]), int(pixel[1]), int(pixel[2])


def from_above(scene: Scene, planned: list[PlannedVideo], side: int) -> np.ndarray:
    """(side, side, 3) BGR: splats in grey, the zone, training cameras as crosses, paths by family."""
    statistics = scene.statistics
    axes = np.stack([statistics.e1, statistics.e2])
    means = (scene.splats.means[scene.solid] - statistics.centroid) @ axes.T
    reach = np.abs(np.percentile(means, (1, 99), axis=0)).max() * 1.06

    def place(points: np.ndarray) -> np.ndarray:
        flat = (points - statistics.centroid) @ axes.T
        return np.round((flat / reach * 0.5 + 0.5) * side * 16).astype(np.int32)

    image = np.full((side, side, 3), 255, np.uint8)
    centres = place(statistics.cameras.centres)
    for x, y in centres.tolist():
        radius = round(statistics.zone_radius / reach * side / 2)
        cv2.circle(image, (x // 16, y // 16), radius, (245, 238, 226), -1)
    dots = np.round((means / reach * 0.5 + 0.5) * (side - 1)).astype(np.int64).clip(0, side - 1)
    count = np.zeros((side, side), np.float32)
    np.add.at(count, (dots[:, 1], dots[:, 0]), 1)
    shade = np.minimum(count / np.percentile(count[count > 0], 97), 1)[..., None]
    image = (image * (1 - 0.55 * shade)).astype(np.uint8)
    for one in planned:
        line = place(one.c2w[:, :3, 3])
        cv2.polylines(image, [line], False, colour_of(one.family), 2, cv2.LINE_AA, 4)
    for x, y in centres.tolist():
        cv2.drawMarker(image, (x // 16, y // 16), _INK, cv2.MARKER_TILTED_CROSS, 5)
    for row, family in enumerate(Family):
        text = f"{family.replace('_', ' ')}: {sum(one.family is family for one in planned)}"
        cv2.putText(image, text, (8, 16 + 15 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour_of(family), 1,
                    cv2.LINE_AA)
    return image


def sheet(scene: Scene, planned: list[PlannedVideo], config: SplatConfig) -> np.ndarray:
    """A row for each family shown: its first path at its start, middle and end."""
    drawing = open_drawing(scene.splats, config)
    rows = []
    for family in SHOWN:
        one = next((p for p in planned if p.family is family), None)
        if one is None:
            continue
        row = []
        for k in (0, len(one.c2w) // 2, len(one.c2w) - 1):
            rgb = drawing.frame(one.c2w[k], one.intrinsics)[0]
            frame = cv2.resize(rgb.clip(0, 1)[..., ::-1] * 255, (FRAME[1] * 3 // 5, FRAME[0] * 3 // 5),
                               interpolation=cv2.INTER_AREA).round().astype(np.uint8)
            row.append(cv2.copyMakeBorder(frame, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=_GREY))
        strip = np.concatenate(row, 1)
        strip[:, :4] = colour_of(family)
        rows.append(strip)
    return np.concatenate(rows, 0)


if __name__ == "__main__":
    main()
