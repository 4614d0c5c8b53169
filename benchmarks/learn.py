"""Does a network trained by this code go where the camera path says? A small one learns a rendered room.

Walks through it are filmed and annotated by `pipelines.annotate`, which is told only that somebody walked;
the clips are encoded by the cosine codec and learnt with the trainer's objective and optimiser. Clips are
then generated from first frames and along paths it has never seen, once as they are and once with the paths
exchanged between clips; the cameras of generated pictures are found by comparing them with the room. Writes
benchmarks/results/learn.json and .md, docs/images/learn.svg and .png.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from benchmarks.learn_data import (
    FILM_FRAMES,
    FILM_SIZE,
    Clips,
    Collector,
    annotate,
    annotated_clips,
    check_cameras,
    film_walks,
    true_clips,
)
from benchmarks.learn_plot import plot
from benchmarks.learn_world import FPS, CameraError, Locator, Room, camera_error
from benchmarks.measure import ROOT, machine, write
from model.config import DiTConfig
from model.dct import DCTCodec
from model.dit import SanaWM
from model.flow import inference_sigmas, pose_denoising, velocity_loss
from model.initialise import initialise
from model.rollout import Conditioning, denoise_clip
from train.config import OptimConfig
from train.objectives import Draws, FlowConfig, FlowMatching, Member
from train.optim import Ema, Optimiser

PROCESSES = 2
SHIFT = 3.0
"""Of noise levels: a clip has few tokens, so less noise hides it."""
BASE = 1000 * torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9], dtype=torch.float64)
"""Noise indices of the held-out loss."""


@dataclass
class Scale:
    """Sizes of a run."""

    size: tuple[int, int] = (64, 96)
    frames: int = 25
    films: int = 64
    every: int = 2
    held_out: int = 24
    stride: int = 16
    channels: int = 48
    depth: int = 4
    width: int = 128
    heads: int = 4
    batch: int = 8
    steps: int = 8000
    minutes: float = 17.0
    rate: float = 1.0e-3
    sampler_steps: int = 6


SCALES = {
    "cpu": Scale(),
    "gpu": Scale((128, 192), 65, 512, 4, 64, 16, 64, 12, 384, 6, 32, 20000, 60.0, 6e-4, 24),
    "quick": Scale((32, 48), 17, 2, 8, 4, 16, 24, 2, 64, 2, 4, 30, 1.0, 1e-3, 4),
}


def make_network(scale: Scale) -> SanaWM:
    """From nothing; every third block is softmax attention."""
    network = SanaWM(DiTConfig(
        depth=scale.depth, width=scale.width, heads=scale.heads, latent_channels=scale.channels,
        caption_channels=8, caption_length=1, softmax_blocks=tuple(range(2, scale.depth, 3)) or (1,)))
    initialise(network, torch.Generator().manual_seed(0))
    return network


@dataclass
class Course:
    """What was learnt: (step, mean training loss, held-out loss, that told another clip's path) by step."""

    points: list[tuple[int, float, float, float]] = field(default_factory=list)
    steps: int = 0
    seconds: float = 0.0


def learn(network: SanaWM, clips: Clips, held_out: Clips, scale: Scale, device: str) -> Course:
    """Train until the steps or the minutes are over; the network is left with the mean of its weights."""
    member = Member(network.to(device))
    objective = FlowMatching(FlowConfig(shift=SHIFT, first_frame=1.0, caption_dropout=0.0))
    optimiser = Optimiser(network, OptimConfig(lr=scale.rate, warmup=100, eps=1e-8, clip=1.0))
    ema = Ema(optimiser.parameters, 0.998, start=scale.steps // 20)
    draws = Draws(torch.Generator().manual_seed(1), torch.Generator().manual_seed(2))
    course, begun, seen = Course(), time.monotonic(), []
    every = max(1, scale.steps // 40)
    course.points.append((0, float("nan"), *held_out_losses(network, held_out, device)))
    while True:
        chosen = torch.randint(len(clips.latents), (scale.batch,), generator=draws.own)
        loss = objective.loss({"network": member}, clips.take(chosen).to(device), draws, course.steps,
                              "network").total
        loss.backward()
        course.seconds = time.monotonic() - begun
        done = max((course.steps + 1) / scale.steps, course.seconds / (60 * scale.minutes))
        optimiser.lr = scale.rate * min(1.0, 2.5 * (1 - min(done, 1.0)) + 0.02)
        optimiser.update(optimiser.norm(), course.steps)
        optimiser.clear()
        ema.update(course.steps)
        seen.append(float(loss.detach()))
        course.steps += 1
        if course.steps % every == 0 or done >= 1:
            ema.exchange()
            held, shuffled = held_out_losses(network, held_out, device)
            course.points.append((course.steps, float(np.mean(seen)), held, shuffled))
            print(f"step {course.steps:,}  loss {np.mean(seen):.4f}  held out {held:.4f}, cameras shuffled "
                  f"{shuffled:.4f}  {course.seconds:.0f} s", flush=True)
            seen = []
            if done >= 1:
                return course
            ema.exchange()


@torch.no_grad()
def held_out_losses(network: SanaWM, clips: Clips, device: str) -> tuple[float, float]:
    """Mean loss at fixed levels and noise on clips never trained on, along their own and others' paths."""
    own = torch.arange(len(clips.latents))
    return tuple(_held_out_loss(network, clips, told, device) for told in (own, own.roll(1)))  # type: ignore


def _held_out_loss(network: SanaWM, clips: Clips, told: Tensor, device: str) -> float:
    batch, paths = clips.take(torch.arange(len(clips.latents))).to(device), clips.take(told).to(device)
    assert batch.latents is not None and batch.caption_states is not None
    noise = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(3)).to(device)
    losses = []
    for index in BASE.long().tolist():
        posed = pose_denoising(batch.latents, noise, torch.full((len(noise),), index, device=device), True)
        said = network(posed.latents, posed.timesteps, batch.caption_states, batch.caption_mask,
                       paths.camera_conditions, paths.plucker)
        losses.append(velocity_loss(said, posed.target, posed.counts).mean())
    return float(torch.stack(losses).mean())


@torch.no_grad()
def generate(
    network: SanaWM, clips: Clips, told: Tensor, codec: DCTCodec, scale: Scale, device: str,
) -> np.ndarray:
    """Films (n, F, H, W, 3) from each clip's own first frame along the paths of the clips `told`."""
    batch, paths = clips.take(torch.arange(len(clips.latents))).to(device), clips.take(told).to(device)
    assert batch.latents is not None and batch.caption_states is not None
    noise = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(4)).to(device)
    conditioning = Conditioning(batch.caption_states, batch.caption_mask, paths.camera_conditions,
                                paths.plucker)
    made = denoise_clip(network, noise, conditioning, inference_sigmas(scale.sampler_steps, SHIFT),
                        first_frame=batch.latents[:, :, :1])
    return to_films(codec, made.cpu())


def to_films(codec: DCTCodec, latents: Tensor) -> np.ndarray:
    """Latents as bytes (n, F, H, W, 3)."""
    video = ((codec.decode(latents).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return video.permute(0, 2, 3, 4, 1).numpy()


def measure(films: np.ndarray, clips: Clips) -> CameraError:
    """Between the cameras found in the last pictures of latent frames and those of the clips' own paths.

    Every clip begins with its true first picture, from which the others are followed.
    """
    assert clips.places is not None
    frames = np.arange(8, films.shape[1], 8)
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(_follow, clips.places[:, 0], films[:, frames]))
    return camera_error(np.concatenate(found), clips.places[:, frames].reshape(-1, 4))


def _follow(first: np.ndarray, pictures: np.ndarray) -> np.ndarray:
    return Locator(_room()).follow(first, list(pictures), 8 / FPS)


@cache
def _room() -> Room:
    return Room(0, FILM_SIZE)


def prepare(scale: Scale, folder: Path) -> tuple[Clips, Clips, dict[str, Any]]:
    """Clips to learn from and clips held out, and how good the found cameras are."""
    codec, begun = DCTCodec(scale.stride, scale.channels), time.monotonic()
    videos, out = folder / "videos", folder / "dataset"
    film_walks(videos, scale.films, 1, PROCESSES)
    annotate(videos, out)
    clips = annotated_clips(out, Collector(codec, scale.size, scale.frames), scale.every)
    seen = Collector(codec, scale.size, scale.frames)
    held_out = true_clips(_room(), seen, scale.held_out, scale.frames, seed=2)
    found = asdict(check_cameras(out, videos, _room()))
    found |= {"windows": len(clips.latents), "seconds": round(time.monotonic() - begun)}
    print(f"{found['metric']} of {found['films']} films in metres, {found['windows']} windows of "
          f"{scale.frames / FPS:.1f} s", flush=True)
    return clips, held_out, found


def train(scale: Scale, device: str, folder: Path) -> dict[str, Any]:
    """Leaves the network in `folder`; what is to be told of it."""
    clips, held_out, found = prepare(scale, folder)
    network = make_network(scale)
    course = learn(network, clips, held_out, scale, device)
    torch.save(network.state_dict(), folder / "network.pt")
    told = {"parameters": sum(p.numel() for p in network.parameters()), "steps": course.steps,
            "annotation": found, "train_seconds": round(course.seconds), "loss": course.points}
    (folder / "course.json").write_text(json.dumps(told))
    return told


def run(scale: Scale, device: str, folder: Path, again: bool) -> tuple[dict[str, Any], np.ndarray]:
    """Results, and a sheet of pictures. again: of the network that an earlier run left in `folder`."""
    told = json.loads((folder / "course.json").read_text()) if again else train(scale, device, folder)
    network, codec = make_network(scale).to(device), DCTCodec(scale.stride, scale.channels)
    network.load_state_dict(torch.load(folder / "network.pt", map_location=device))
    begun = time.monotonic()
    # Other clips than those whose loss was watched: nothing was chosen by them.
    seen = Collector(codec, scale.size, scale.frames)
    unseen = true_clips(_room(), seen, scale.held_out, scale.frames, seed=3)
    own = torch.arange(scale.held_out)
    films = {"through the codec": to_films(codec, unseen.latents),
             "generated": generate(network, unseen, own, codec, scale, device),
             "cameras shuffled": generate(network, unseen, own.roll(1), codec, scale, device)}
    errors = {name: measure(film, unseen) for name, film in films.items()}
    summary = {name: summarise(error) for name, error in errors.items()}
    ratio = {what: summary["cameras shuffled"][what] / summary["generated"][what]
             for what in ("rotation_deg", "translation_m")}
    results = {**told, "measure_seconds": round(time.monotonic() - begun), "errors": summary,
               "shuffled_over_generated": ratio,
               "each": {name: {key: np.round(value, 3).tolist() for key, value in asdict(error).items()}
                        for name, error in errors.items()}}
    return results, sheet(films, scale)


def summarise(error: CameraError) -> dict[str, float]:
    """Means over all pictures, and medians."""
    return {"rotation_deg": float(error.rotation_deg.mean()),
            "translation_m": float(error.translation_m.mean()),
            "rotation_deg_median": float(np.median(error.rotation_deg)),
            "translation_m_median": float(np.median(error.translation_m))}


def sheet(films: dict[str, np.ndarray], scale: Scale, clips: int = 3) -> np.ndarray:
    """Rows of pictures: of some clips the true film, the generated one, and that along another path."""
    times = range(0, scale.frames, 8)
    rows = [np.concatenate([film[clip, frame] for frame in times], 1)
            for clip in range(min(clips, scale.held_out)) for film in films.values()]
    return cv2.resize(np.concatenate(rows), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)


def describe(results: dict[str, Any]) -> str:
    """The page of results."""
    about, errors, ratio = results["machine"], results["errors"], results["shuffled_over_generated"]
    first, last = results["loss"][0], results["loss"][-1]
    found = results["annotation"]
    minutes = (found["seconds"] + results["train_seconds"] + results["measure_seconds"]) / 60
    lines = [
        "# Does it follow the camera?", "",
        f"{about['date']}, commit {about['commit']}, {about.get('gpu', about['cpu'])}, {about['threads']} "
        f"threads, torch {about['torch']}: `{about['command']}`, {minutes:.0f} minutes in all", "",
        f"{found['films']} films of {FILM_FRAMES / FPS:.0f} s of one rendered room, {found['metric']} given "
        f"in metres by `pipelines.annotate`, in {found['seconds'] / 60:.1f} minutes with filming. Cameras, "
        f"medians: {found['ate_share']:.2%} of the path after Sim(3), {found['scale']:.1%} in scale, "
        f"{found['focal']:.2%} in focal length. A network of {results['parameters'] / 1e6:.1f} M parameters, "
        f"{results['steps']:,} steps in {results['train_seconds'] / 60:.0f} minutes on {found['windows']:,} "
        f"windows of {results['scale']['frames'] / FPS:.1f} s. Held-out loss: {first[2]:.3f} before, "
        f"{last[2]:.3f} after; told another clip's path, {last[3]:.3f}.", "",
        f"Cameras found in {len(results['each']['generated']['rotation_deg'])} pictures of "
        f"{results['scale']['held_out']} clips along unseen paths, against those paths, means (medians):", "",
        "| clips | rotation | translation |", "|---|---|---|",
        *(f"| {name} | {e['rotation_deg']:.1f}° ({e['rotation_deg_median']:.1f}°) | "
          f"{e['translation_m']:.2f} m ({e['translation_m_median']:.2f} m) |" for name, e in errors.items()),
        "", f"Told another clip's path, the error is {ratio['rotation_deg']:.1f} times larger in rotation "
        f"and {ratio['translation_m']:.1f} times in translation. *Through the codec* are the true clips, "
        "encoded and decoded: what the measure itself adds.", "",
        "![losses and errors](../../docs/images/learn.svg)", "",
        "![true, generated, generated along another path](../../docs/images/learn.png)", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", choices=sorted(SCALES), default="cpu")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, help="of training; the rest takes half as long again")
    parser.add_argument("--work", type=Path, help="new folder that keeps films, data set and network")
    parser.add_argument("--again", action="store_true", help="measure the network in --work once more")
    parser.add_argument("--results", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--images", type=Path, default=ROOT / "docs" / "images")
    arguments = parser.parse_args()
    scale = SCALES[arguments.scale]
    scale.minutes = arguments.minutes or scale.minutes
    if arguments.again and arguments.work is None:
        parser.error("--again needs the --work folder of an earlier run")
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.work or Path(scratch)
        results, pictures = run(scale, arguments.device, folder, arguments.again)
    results |= {"machine": machine("learn"), "scale": asdict(scale)}
    arguments.images.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(arguments.images / "learn.png"), pictures[..., ::-1])
    (arguments.images / "learn.svg").write_text(plot(results))
    write(arguments.results, "learn", results, describe(results))


if __name__ == "__main__":
    main()
