"""A small annotation job that does real work on real video: the runner's own tests drive it.

The cutter cuts every `frames` frames of a source, re-encoded; the stages measure brightness and detail.
A source whose name says so kills the process, a stage or the whole cutting. Also a command:

    python tiny.py SRC OUT [key=value ...]
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from annotate.config import RayConfig, RunConfig, WriteConfig
from annotate.cut.encode import ClipWriter
from annotate.source.expand import expand
from annotate.source.item import SourceConfig, SourceItem
from annotate.stage import Clip, Resources, StageOutput
from dataset.catalog import content_digest, read_index
from dataset.clip import ClipRecord, Kind, Verdict, clip_id
from dataset.reader import read_samples
from dataset.store import Store
from pipelines.runner import Job, Outcome, run

SIZE = (48, 64)
CPU = Resources()


@dataclass
class TinyClip:
    record: ClipRecord
    files: dict[str, bytes]


@dataclass
class TinyCutter:
    """Clips of `frames` frames each; the rest is a span."""

    frames: int = 9
    pause_s: float = 0.0  # for each clip, so that there is time to kill something
    name: str = "cut"
    version: str = "1"
    resources: Resources = CPU

    def settings(self) -> dict[str, Any]:
        return {"frames": self.frames}

    def setup(self) -> None:
        """Nothing to load."""

    def cut(self, item: SourceItem, done: Collection[str]) -> Iterator[TinyClip]:
        from annotate.decode import UnreadableVideo, VideoReader

        try:
            video_id = hashlib.sha256(Path(item.uri).read_bytes()).hexdigest()[:20]
            reader = VideoReader(item.uri)
        except (OSError, UnreadableVideo) as error:
            name = hashlib.sha256(item.uri.encode()).hexdigest()[:20]
            yield TinyClip(ClipRecord(name, name, Kind.VIDEO, uri=item.uri, reasons=["unreadable"],
                                      detail=str(error)), {})
            return
        held: list[Any] = []
        with reader:
            for frame in reader:
                held.append(frame.picture.to_ndarray(format="rgb24"))
                if "poison" in item.id and frame.index == 2 * self.frames:
                    os.kill(os.getpid(), signal.SIGKILL)
                if len(held) == self.frames:
                    yield from self._clip(item, video_id, frame.index + 1 - self.frames, held, done)
                    held = []
        start = frame.index + 1 - len(held)
        span = clip_id(video_id, start / 16, len(held), 16, SIZE)
        yield TinyClip(ClipRecord(span, video_id, Kind.SPAN, uri=item.uri, verdict=Verdict.REJECTED,
                                  reasons=["tail"], start_s=start / 16), {})

    def _clip(self, item: SourceItem, video_id: str, start: int, frames: list[Any],
              done: Collection[str]) -> Iterator[TinyClip]:
        name = clip_id(video_id, start / 16, self.frames, 16, SIZE)
        if name in done:
            return
        time.sleep(self.pause_s)
        writer = ClipWriter(SIZE)
        for frame in frames:
            writer.add(cv2.resize(frame, SIZE[::-1], interpolation=cv2.INTER_AREA))
        record = ClipRecord(name, video_id, Kind.CLIP, uri=item.uri, start_s=start / 16, frames=self.frames,
                            fps=16.0, width=SIZE[1], height=SIZE[0])
        yield TinyClip(record, {"mp4": writer.finish()})


@dataclass
class Brightness:
    """Mean luma; leaves a file for the next stage."""

    offset: float = 0.0
    log: str | None = None  # file that gets a line for every clip worked on
    name: str = "brightness"
    version: str = "1"
    resources: Resources = CPU

    def settings(self) -> dict[str, Any]:
        return {"offset": self.offset}

    def setup(self) -> None:
        """Nothing to load."""

    def gray_widths(self, size: tuple[int, int]) -> list[int]:
        return [32]

    def process(self, clip: Clip) -> StageOutput:
        if self.log:
            with open(self.log, "a") as file:
                file.write(f"{self.name} {clip.record.clip_id}\n")
        gray = clip.frames.gray(32)
        if "cursed" in clip.record.uri and clip.record.start_s == 0.0:
            os.kill(os.getpid(), signal.SIGKILL)
        if "awkward" in clip.record.uri and clip.record.start_s == 0.0:
            raise ArithmeticError("this clip does not add up")
        means = gray.reshape(len(gray), -1).mean(axis=1)
        return StageOutput({"exposure": float(means.mean()) + self.offset}, {"means.bin": means.tobytes()})


@dataclass
class Detail:
    """Variance of the Laplacian, and a check that the stage before was here."""

    pause_s: float = 0.0
    log: str | None = None
    name: str = "detail"
    version: str = "1"
    resources: Resources = CPU

    def settings(self) -> dict[str, Any]:
        return {}

    def setup(self) -> None:
        """Nothing to load."""

    def gray_widths(self, size: tuple[int, int]) -> list[int]:
        return [64]

    def process(self, clip: Clip) -> StageOutput:
        if self.log:
            with open(self.log, "a") as file:
                file.write(f"{self.name} {clip.record.clip_id}\n")
        time.sleep(self.pause_s)
        means = np.frombuffer(clip.files["means.bin"])
        gray = clip.frames.gray(64)
        if len(means) != len(gray) or clip.record.exposure is None:
            raise RuntimeError("the stage before left nothing")
        sharp = np.median([cv2.Laplacian(frame, cv2.CV_64F).var() for frame in gray])
        return StageOutput({"sharpness": float(sharp)})


@dataclass
class Together(Brightness):
    """The same for several clips at once; leaves a line with their number."""

    resources: Resources = Resources(batch_size=4)  # noqa: RUF009

    def process_batch(self, clips: Sequence[Clip]) -> list[StageOutput]:
        if self.log:
            with open(self.log, "a") as file:
                file.write(f"batch {len(clips)}\n")
        return [self.process(clip) for clip in clips]


@dataclass(frozen=True)
class Judge:
    """Rejects what is dark."""

    darkest: float = 0.0

    def __call__(self, record: ClipRecord) -> tuple[Verdict, list[str]]:
        if record.exposure is None or record.exposure < self.darkest:
            return Verdict.REJECTED, [f"exposure<{self.darkest:g}"]
        return Verdict.KEPT, []


def write_video(path: Path, frames: int, seed: int) -> Path:
    """A short video of drifting blobs, different for each seed."""
    rng = np.random.default_rng(seed)
    picture = cv2.GaussianBlur(rng.integers(0, min(90 + 50 * seed, 255), (160, 240, 3), np.uint8), (0, 0), 3)
    writer = ClipWriter((96, 128))
    for index in range(frames):
        writer.add(picture[index % 60:][:96, index % 100:][:, :128])
    path.write_bytes(writer.finish())
    return path


def content_of(out: str | Path) -> str:
    """Digest of the content columns of a data set, after a check that every stored file is whole."""
    store = Store(out)
    for _ in read_samples(store, verify=True):
        pass
    return content_digest(read_index(store))


def job(src: str, out: str, *, darkest: float = 0.0, offset: float = 0.0, cut_pause_s: float = 0.0,
        pause_s: float = 0.0, log: str | None = None, gpu: float = 0.0, shard_mb: float = 0.02,
        staged: int | None = None, rejected: bool = True, work: str | None = None,
        verbose: bool = False, batched: bool = False) -> Job:
    """The job over all videos of `src`."""
    items = expand(src, SourceConfig(suffixes=[".mp4"]))
    first = Together(offset, log) if batched else Brightness(offset, log, resources=Resources(num_gpus=gpu))
    stages = [first, Detail(pause_s, log)]
    write = WriteConfig(rejected=rejected)
    write.shard_mb = shard_mb  # type: ignore[assignment]
    return Job(items=items, cutter=TinyCutter(pause_s=cut_pause_s), stages=stages, judge=Judge(darkest),
               thresholds={"darkest": darkest}, out=out, work=work, write=write,
               run=RunConfig(staged_clips=staged), ray=RayConfig(num_cpus=2, verbose=verbose))


def main(arguments: list[str]) -> Outcome:
    src, out, *pairs = arguments
    options: dict[str, Any] = {}
    for pair in pairs:
        key, value = pair.split("=", 1)
        options[key] = value if key in ("log", "work") else float(value)
    return run(job(src, out, **options))


if __name__ == "__main__":
    print(asdict(main(sys.argv[1:])))
