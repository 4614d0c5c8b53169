"""How well near-duplicates and overlays are told on real video, and what that costs.

    python -m benchmarks.copies VIDEO [VIDEO ...]

takes the first ten seconds of each video, which must all show something else and be without overlays; makes
copies of them and draws overlays onto them. Writes benchmarks/results/copies.md and .json.
"""

from __future__ import annotations

import argparse
import io
import itertools
import time
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np

from annotate.decode import read_frames
from annotate.duplicates.config import DuplicatesConfig
from annotate.duplicates.hashing import hash_frames, similarity
from annotate.overlay.find import find_overlays
from benchmarks import measure

RATE, SECONDS, WIDTH = 16, 10, 640
HASH_STEP, OVERLAY_STEP = 2, 4  # frames: 0.125 and 0.25 s
Frames = np.ndarray
"""(F, h, w, 3) BGR uint8."""


def read(path: Path) -> Frames:
    """The first seconds of a video at 16 frames a second, 640 wide."""
    frames: list[np.ndarray] = []
    for time_s, image in read_frames(path, WIDTH):
        while len(frames) < RATE * SECONDS and float(time_s) >= len(frames) / RATE - 1e-6:
            frames.append(image[:image.shape[0] // 2 * 2, :image.shape[1] // 2 * 2])
    return np.stack(frames)


def encoded(frames: Frames, crf: int = 23) -> Frames:
    """The same after H.264."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": str(crf), "preset": "ultrafast"})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), "bgr24")))
        container.mux(stream.encode(None))
    file.seek(0)
    with av.open(file, "r") as written:
        return np.stack([frame.to_ndarray(format="bgr24") for frame in written.decode(video=0)])


def resized(frames: Frames, width: int, height: int) -> Frames:
    return np.stack([cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in frames])


def mask(kind: str, size: tuple[int, int]) -> np.ndarray:
    """(h, w) in 0..1: opacity of text in a corner, a badge, or a large mark across."""
    height, width = size
    drawn, scale = np.zeros(size, np.uint8), height / 360
    if kind == "text":
        place, face, large, thick = (0.6, 0.93), cv2.FONT_HERSHEY_SIMPLEX, 0.9, 2
    else:
        place, face, large, thick = (0.2, 0.55), cv2.FONT_HERSHEY_DUPLEX, 1.8, 3
    if kind == "badge":
        cv2.circle(drawn, (int(width * 0.9), int(height * 0.14)), int(20 * scale), 255, -1, cv2.LINE_AA)
        cv2.circle(drawn, (int(width * 0.9), int(height * 0.14)), int(10 * scale), 0, 3, cv2.LINE_AA)
    else:
        corner = int(width * place[0]), int(height * place[1])
        cv2.putText(drawn, "Some Mark", corner, face, large * scale, 255, max(1, round(thick * scale)),
                    cv2.LINE_AA)
    return drawn / 255.0


def laid_over(frames: Frames, opacity: np.ndarray) -> Frames:
    return np.stack([(frame * (1 - opacity[..., None]) + 255 * opacity[..., None]).astype(np.uint8)
                     for frame in frames])


COPIES: dict[str, Callable[[Frames], Frames]] = {
    "crf 38": lambda v: encoded(v, 38),
    "half the size": lambda v: encoded(resized(v, v.shape[2] // 4 * 2, v.shape[1] // 4 * 2)),
    "aspect 4:3": lambda v: encoded(resized(v, 480, 360)),
    "contrast 0.8, brighter by 30": lambda v: encoded((v * 0.8 + 30).clip(0, 255).astype(np.uint8)),
    "cropped by 2 % a side": lambda v: encoded(resized(
        v[:, v.shape[1] // 50:-(v.shape[1] // 50), v.shape[2] // 50:-(v.shape[2] // 50)], 640, 360)),
    "text in a corner": lambda v: encoded(laid_over(v, mask("text", v.shape[1:3]))),
    "begun 1/16 s later": lambda v: encoded(v[1:]),
    "begun 1.06 s later": lambda v: encoded(v[17:]),
    "mirrored": lambda v: encoded(v[:, :, ::-1]),
}


def grey(frames: Frames) -> np.ndarray:
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in frames])


def copies_table(videos: dict[str, Frames]) -> tuple[dict[str, list[float]], list[float]]:
    """Similarity of every kind of copy to its original, and of all pairs of different videos."""
    originals = {name: hash_frames(grey(video)[::HASH_STEP]) for name, video in videos.items()}
    alike = {how: [similarity(originals[name], hash_frames(grey(copy(video))[::HASH_STEP]))
                   for name, video in videos.items()] for how, copy in COPIES.items()}
    return alike, [similarity(one, other) for one, other in itertools.combinations(originals.values(), 2)]


def overlay_hits(videos: dict[str, Frames]) -> dict[str, list[bool | None]]:
    """Of each kind and opacity: whether it was found in each video; None where nothing could be said."""
    hits: dict[str, list[bool | None]] = {}
    for kind, opacity in itertools.product(("text", "badge", "mark"), (1.0, 0.5, 0.25)):
        for video in videos.values():
            drawn = mask(kind, video.shape[1:3])
            found = find_overlays(grey(encoded(laid_over(video[::OVERLAY_STEP], opacity * drawn))))
            covered = np.zeros(drawn.shape, bool)
            for top, left, bottom, right in found.boxes:
                rows = slice(int(top * drawn.shape[0]), int(bottom * drawn.shape[0]))
                covered[rows, int(left * drawn.shape[1]):int(right * drawn.shape[1])] = True
            hit = bool(covered[drawn > 0.2].mean() > 0.5)
            hits.setdefault(f"{kind}, opacity {opacity:g}", []).append(None if found.share is None else hit)
    return hits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--out", type=Path, default=measure.ROOT / "benchmarks/results")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    videos = {str(path): read(path) for path in arguments.videos}
    alike, different = copies_table(videos)
    plain = {name: find_overlays(grey(video)[::OVERLAY_STEP]).share for name, video in videos.items()}
    hits = overlay_hits(videos)
    greys = [grey(video) for video in videos.values()]
    begun = time.process_time()
    for video in greys:
        hash_frames(video[::HASH_STEP])
    hashed = time.process_time()
    for video in greys:
        find_overlays(video[::OVERLAY_STEP])
    cost = {"hash": (hashed - begun) / len(greys), "overlay": (time.process_time() - hashed) / len(greys)}
    least = DuplicatesConfig().similarity
    about = measure.machine("copies")
    said = [share for share in plain.values() if share is not None]
    lines = [
        "# Near-duplicates and overlays on real video", "",
        f"{about['cpu']}, commit {about['commit']}, {about['date']}: `{about['command']}`", "",
        f"{len(videos)} videos of at most {SECONDS} s. Copies count as found from {least:g} on.", "",
        "| copy | least similarity | found |", "|---|---|---|",
        *(f"| {how} | {min(values):.3f} | {sum(v >= least for v in values)} of {len(values)} |"
          for how, values in alike.items()),
        f"| another video | {max(different, default=0):.3f} at most | "
        f"{sum(v >= least for v in different)} of {len(different)} |", "",
        "| overlay | found |", "|---|---|",
        *(f"| {kind} | {sum(bool(hit) for hit in found)} of {sum(hit is not None for hit in found)} |"
          for kind, found in hits.items()), "",
        f"Without any overlay: {sum(share > 0 for share in said)} of {len(said)} videos seem to have one, at "
        f"most {100 * max(said, default=0.0):.2g} % of the picture; {len(videos) - len(said)} more have a "
        "camera that stands still.", "",
        f"CPU of one clip: hash {1e3 * cost['hash']:.0f} ms, overlay {1e3 * cost['overlay']:.0f} ms.", ""]
    results = {"machine": about, "copies": alike, "different": different, "plain": plain, "overlays": hits,
               "cpu_seconds": cost}
    measure.write(arguments.out, "copies", results, "\n".join(lines))


if __name__ == "__main__":
    main()
