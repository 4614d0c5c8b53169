"""Samples a second of the loader, with everything on, beside plain webdataset and beside the raw tars.

python -m benchmarks.loader writes shards of latents (5 s and 60 s at 1280x704) and of video, reads them with
1, 2 and 4 workers, contenders in turn, and writes benchmarks/results/loader.json and .md.
"""

from __future__ import annotations

import argparse
import gc
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from benchmarks.loader_data import Shards, write_latents, write_video
from benchmarks.measure import ROOT, machine, write
from dataset.loader.config import DataConfig
from dataset.loader.loader import Loader

TARGET = 0.9
BLOCK = 1 << 20
Contender = Callable[[Shards, int], Iterator[Any]]


ABOUT = """\
The loader selects by SQL, shuffles, buckets, cuts, checks every member's SHA-256, and makes relative \
poses, intrinsics, camera conditions and Plücker maps; webdataset decodes the same members with its own \
decoders into torch's loader. Raw tar is the bytes alone, in one process. The page cache is warm and the \
start of the workers counts. All contenders run in turn in every round; beside webdataset: the median over \
rounds of the ratio of neighbouring runs. Other figures are medians; spread is (slowest - fastest) / median \
of the wall time; CPU milliseconds are of all processes, per sample."""


@dataclass(frozen=True)
class Rate:
    """One contender: medians over the rounds; wall_s of each. cpu_ms: of all its processes, per sample."""

    data: str
    contender: str
    workers: int
    samples_per_s: float
    mb_per_s: float
    cpu_ms: float
    spread: float
    wall_s: list[float]


def plain_webdataset(shards: Shards, workers: int) -> Iterator[Any]:
    """The same members through webdataset's own decoders into torch's loader, in the order of the tars."""
    import webdataset

    names = ("latents.npy", "camera.npz", "text.npz") if shards.latents else ("mp4", "camera.npz")
    pipeline = webdataset.WebDataset(shards.tars, shardshuffle=False, empty_check=False)
    decoded = pipeline.repeat(shards.passes).decode(webdataset.handle_extension("mp4", _frames))
    samples = decoded.to_tuple(*names).map(_arrays)
    return iter(DataLoader(samples, batch_size=shards.batch, num_workers=workers))


def our_loader(shards: Shards, workers: int) -> Iterator[Any]:
    """Selected by SQL, shuffled, bucketed, cut, checked, with cameras, Plücker maps and captions."""
    config = DataConfig(path=shards.path, latents=shards.latents, frames=[81, 161, 961], workers=workers,
                        batch_size=shards.batch, where="flow_dis >= 0 and caption is not null")
    return iter(Loader(config, epochs=shards.passes))


def raw_tar(shards: Shards, workers: int) -> Iterator[None]:
    """The bytes of the shards one after the other, into one buffer, by this process alone."""
    buffer = memoryview(bytearray(BLOCK))
    for tar in shards.tars * shards.passes:
        with open(tar, "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    yield None


def _arrays(sample: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(dict(member) if isinstance(member, np.lib.npyio.NpzFile) else member for member in sample)


def _frames(data: bytes) -> torch.Tensor:
    """(F, H, W, 3) uint8: webdataset's own video decoder needs torchvision."""
    import io

    import av

    with av.open(io.BytesIO(data)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        return torch.from_numpy(np.stack([frame.to_ndarray(format="rgb24")
                                          for frame in container.decode(video=0)]))


def measure(shards: Shards, run: Contender, workers: int) -> tuple[float, float]:
    """Wall and CPU seconds of some passes over the shards, workers' start and end included."""
    gc.collect()
    cpu, wall = _cpu_seconds(), time.perf_counter()
    for batch in run(shards, workers):
        del batch
    gc.collect()  # joins the workers, whose time counts from then on
    return time.perf_counter() - wall, _cpu_seconds() - cpu


def _cpu_seconds() -> float:
    spent = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in spent)


def compare(shards: Shards, workers: list[int], rounds: int) -> list[Rate]:
    contenders: list[tuple[str, Contender, int]] = [("raw tar", raw_tar, 0)]
    for count in workers:
        contenders += [("webdataset", plain_webdataset, count), ("loader", our_loader, count)]
    times: list[list[tuple[float, float]]] = [[] for _ in contenders]
    measure(shards, raw_tar, 0)  # warms the page cache
    for _ in range(rounds):
        for (_, run, count), taken in zip(contenders, times):
            taken.append(measure(shards, run, count))
    rates = []
    for (name, _, count), taken in zip(contenders, times):
        walls = [wall for wall, _ in taken]
        wall, samples = statistics.median(walls), shards.samples * shards.passes
        rates.append(Rate(
            shards.name, name, count, samples / wall, shards.nbytes * shards.passes / 1e6 / wall,
            statistics.median(cpu for _, cpu in taken) * 1e3 / samples, (max(walls) - min(walls)) / wall,
            walls))
    return rates


def render(about: dict[str, Any], rates: list[Rate], sets: list[Shards]) -> str:
    lines = ["# The loader beside plain webdataset", "",
             *(f"- {key}: {value}" for key, value in about.items()), "",
             *(f"- {one.name}: {one.about}" for one in sets), "",
             ABOUT, "", "| target | measured | its CPU time | met |", "|---|---|---|---|"]
    for one in sets:
        for count in sorted({rate.workers for rate in rates} - {0}):
            theirs, ours = (_find(rates, one.name, name, count) for name in ("webdataset", "loader"))
            ratio = statistics.median(w / o for w, o in zip(theirs.wall_s, ours.wall_s))
            target = f" >= {TARGET}" if one.latents else ""
            told = ("yes" if ratio >= TARGET else "**no**") if one.latents else "-"
            lines.append(f"| {one.name}, workers {count}: samples/s beside webdataset's{target} | "
                         f"{ratio:.2f} | {ours.cpu_ms / theirs.cpu_ms:.2f} | {told} |")
    lines += ["", "| data | contender | workers | samples/s | MB/s | CPU ms | spread |",
              "|---|---|---|---|---|---|---|"]
    lines += [f"| {r.data} | {r.contender} | {r.workers or '-'} | {r.samples_per_s:.1f} | {r.mb_per_s:.0f} | "
              f"{r.cpu_ms:.1f} | {r.spread:.0%} |" for r in rates]
    return "\n".join(lines) + "\n"


def _find(rates: list[Rate], data: str, contender: str, workers: int) -> Rate:
    return next(r for r in rates if (r.data, r.contender, r.workers) == (data, contender, workers))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=3)
    kinds = ["minute", "5s", "video"]
    parser.add_argument("--data", nargs="+", default=kinds, choices=kinds)
    parser.add_argument("--folder", type=Path, help="where a temporary folder for the shards is made")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rates, sets = [], []
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for name in arguments.data:
            if name == "video":
                shards = write_video(Path(folder) / name, clips=8, batch=2)
            elif name == "minute":
                shards = write_latents(Path(folder) / name, name, frames=961, clips=8, batch=1, passes=5)
            else:
                shards = write_latents(Path(folder) / name, name, frames=81, clips=64, batch=4, passes=5)
            sets.append(shards)
            rates += compare(shards, arguments.workers, arguments.rounds)
    about = machine("loader")
    results = {**about, "rates": [asdict(rate) for rate in rates]}
    write(arguments.out, "loader", results, render(about, rates, sets))


if __name__ == "__main__":
    main()
