"""Training clips for `learn.py`: films of walks, annotated by our own pipeline, cut into windows."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from annotate.clip_video import ClipVideo
from annotate.cut.encode import ClipWriter
from benchmarks.learn_world import Room, draw_walk, poses
from benchmarks.measure import ROOT
from dataset.batch import Batch
from dataset.clip import CameraTrack
from dataset.fit import fit_frame
from dataset.pose_error import pose_error
from dataset.rays import fit_image, model_camera
from dataset.reader import read_samples
from dataset.store import Store
from model.dct import DCTCodec

FILM_SIZE = (320, 480)
FILM_FRAMES = 161
METRIC = "verdict = 'kept' and scale_status = 'metric_prior'"
"""Clips to learn from: where the floor was seen, cameras are in metres."""


@dataclass
class Clips:
    """Clips of the room: latents (n, C, T, h, w) and the network's camera inputs; of those whose true cameras
    are known, places (n, F, 4)."""

    latents: Tensor
    conditions: Tensor
    plucker: Tensor
    size: tuple[int, int]
    places: np.ndarray | None = None

    def take(self, chosen: Tensor) -> Batch:
        """Some of them as the trainer's batch; the caption says nothing."""
        count, frames = len(chosen), self.latents.shape[2]
        video = 8 * frames - 7
        return Batch(
            clip_ids=[str(i) for i in chosen.tolist()], sources=[""] * count, captions=[""] * count,
            size=self.size, camera_conditions=self.conditions[chosen], plucker=self.plucker[chosen],
            frame_valid=torch.ones(count, frames, dtype=torch.bool),
            c2w=torch.eye(4, dtype=torch.float64).expand(count, video, 4, 4),
            intrinsics=torch.ones(count, video, 4, dtype=torch.float64), latents=self.latents[chosen],
            caption_states=torch.zeros(count, 1, 8), caption_mask=torch.ones(count, 1, dtype=torch.bool))


class Collector:
    """Gathers windows of films as clips of `frames` frames of `size`, encoded, with the network's cameras."""

    def __init__(self, codec: DCTCodec, size: tuple[int, int], frames: int) -> None:
        self._codec, self._size, self._frames = codec, size, frames
        self._fit = fit_image(FILM_SIZE, size)
        self._clips: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, film: np.ndarray, c2w: np.ndarray, intrinsics: np.ndarray, every: int = 1) -> None:
        """Windows from every `every`th frame of a film (F, H, W, 3), bytes; cameras (F, 4, 4) and (F, 4)."""
        small = np.stack([fit_frame(picture, self._fit) for picture in film])
        fitted = self._fit.intrinsics(intrinsics)
        for start in range(0, len(film) - self._frames + 1, every):
            window = slice(start, start + self._frames)
            video = torch.from_numpy(small[window]).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
            camera = model_camera(c2w[window], fitted[window], self._size, self._codec.space_stride)
            self._clips.append((self._codec.encode(video)[0], camera.conditions, camera.plucker))

    def clips(self, places: np.ndarray | None = None) -> Clips:
        """All of them."""
        latents, conditions, plucker = (torch.stack(parts) for parts in zip(*self._clips))
        return Clips(latents, conditions, plucker, self._size, places)


def true_clips(room: Room, collector: Collector, count: int, frames: int, seed: int) -> Clips:
    """Clips along walks of their own, with the renderer's cameras."""
    rng = np.random.default_rng(seed)
    walks = np.stack([draw_walk(rng, frames) for _ in range(count)])
    for walk in walks:
        c2w = poses(walk)
        collector.add(room.film(c2w), c2w, np.tile(room.intrinsics(FILM_SIZE), (frames, 1)))
    return collector.clips(walks)


def film_walks(folder: Path, count: int, seed: int, processes: int) -> None:
    """Videos of walks as anybody would have them, with the true cameras beside each for the report."""
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(_film_walk, *zip(*[(folder, seed, i) for i in range(count)])))


def _film_walk(folder: Path, seed: int, index: int) -> None:
    room = Room(0, FILM_SIZE)
    c2w = poses(draw_walk(np.random.default_rng([seed, index]), FILM_FRAMES))
    writer = ClipWriter(FILM_SIZE, crf=12)
    for picture in room.film(c2w):
        writer.add(picture)
    (folder / f"walk-{index:03d}.mp4").write_bytes(writer.finish())
    np.save(folder / f"walk-{index:03d}.npy", c2w)


def annotate(videos: Path, out: Path) -> None:
    """Cameras in metres by the pipeline's own command, which is told no more than that somebody walked."""
    height, width = FILM_SIZE
    subprocess.run(
        [sys.executable, "-m", "pipelines.annotate", f"src={videos}", f"out={out}", "source.rig=walking",
         f"cut.width={width}", f"cut.height={height}", f"cut.frames={FILM_FRAMES}", "thresholds=none"],
        cwd=ROOT, check=True)


def annotated_clips(out: Path, collector: Collector, every: int) -> Clips:
    """All windows that begin at every `every`th frame of the metric clips, with the cameras found."""
    for sample in read_samples(Store(out), METRIC, ["mp4", "camera.npz"]):
        track = CameraTrack.from_npz(sample.files["camera.npz"])
        film = np.stack(list(ClipVideo(sample.files["mp4"]).iter_rgb()))
        collector.add(film, track.c2w, track.intrinsics, every)
    return collector.clips()


@dataclass(frozen=True)
class Found:
    """What the pipeline found: clips it gave in metres, and medians of how far their cameras are off."""

    films: int
    metric: int
    ate_share: float  # of the path's length, after Sim(3)
    scale: float  # of a metre
    focal: float  # of the focal length


def check_cameras(out: Path, videos: Path, room: Room) -> Found:
    """Compare the cameras of the metric clips with those the films were made with."""
    errors = []
    for sample in read_samples(Store(out), METRIC, ["camera.npz"]):
        track = CameraTrack.from_npz(sample.files["camera.npz"])
        true = np.load(Path(sample.record.uri).with_suffix(".npy"))
        intrinsics = np.tile(room.intrinsics(FILM_SIZE), (len(true), 1))
        errors.append(pose_error(track, dataclasses.replace(
            track, c2w=true, intrinsics=intrinsics, unit="m")))
    films = len(list(videos.glob("*.mp4")))
    medians = {name: float(np.median([abs(getattr(error, name)) for error in errors]))
               for name in ("ate_share", "scale", "focal")}
    return Found(films, len(errors), **medians)
