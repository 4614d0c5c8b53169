"""One video from its settings: inputs checked before weights are loaded, then the folder that holds it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from infer.camera import CameraPath, find_path
from infer.config import InferConfig
from infer.lens import Image, find_lens, read_image
from infer.overlay import write_overlay
from infer.record import check_same, describe_making, write_record
from infer.video import save_camera, write_video

if TYPE_CHECKING:
    from infer.pipeline import WorldModel
    from model.rollout import Progress

VIDEO, OVERLAY, CAMERA = "video.mp4", "overlay.mp4", "camera.npz"


@dataclass(frozen=True)
class Inputs:
    """What a video begins with and follows."""

    image: Image
    path: CameraPath


def read_inputs(config: InferConfig) -> Inputs:
    """Picture, path and lens, so that a slip costs a second and not the loading of weights.

    Raises ValueError naming what is wrong.
    """
    image = read_image(config.image or "")
    path = find_path(config.camera or config.action or "", config.path, config.frames, config.sampler.streams)
    find_lens(image, frame_size(config), len(path), config.intrinsics, config.fov, path.trajectory)
    return Inputs(image, path)


def make_folder(
    world: WorldModel, config: InferConfig, inputs: Inputs, progress: Progress | None = None,
) -> str:
    """Make the video of `config` in its folder; gives the sentence that says so.

    The video takes its name last: where it is, all beside it is whole. Raises ValueError, with nothing
    written, for what only the weights can tell to be wrong.
    """
    folder, size = Path(config.out).expanduser(), frame_size(config)
    request = world.prepare(
        inputs.image, config.prompt, config.camera or config.action or "", seed=config.seed,
        frames=config.frames, size=size, intrinsics=config.intrinsics, fov=config.fov,
        negative=config.negative, path=config.path)
    about = describe_making(world, request, inputs.image)
    if config.repeat is not None:
        for difference in check_same(about, Path(config.repeat).expanduser()):
            print(f"{difference}: the bytes may differ")
    print(f"{len(request.path)} frames along {request.path.source}; intrinsics {request.lens.origin}",
          flush=True)
    for name in (VIDEO, OVERLAY, CAMERA):
        (folder / name).unlink(missing_ok=True)
    write_record(folder, config, about)
    first, made, begun = int(world.refiner is not None), 0, time.monotonic()

    def frames() -> Iterator[np.ndarray]:
        chunks = world.generate(request, progress)
        if config.overlay:
            chunks = write_overlay(folder / OVERLAY, chunks, request.path, first, config.crf)
        yield from chunks
        save_camera(folder / CAMERA, request.path.c2w[first:], request.lens.intrinsics[first:], size)

    for part in write_video(folder / VIDEO, frames(), config.crf):
        made += len(part)
    return f"{folder / VIDEO}: {made} frames in {time.monotonic() - begun:.1f} s"


def frame_size(config: InferConfig) -> tuple[int, int]:
    """(height, width) of the video"""
    return config.size[0], config.size[1]
