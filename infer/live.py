"""A video whose camera path is made while it is watched: a chunk's poses are asked for when it is due."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from dataset.rays import STRIDE, ModelCamera, camera_conditions, latent_intrinsics, packed_plucker
from infer.noise import frame_noise
from infer.offload import Offload
from infer.pipeline import Request, WorldModel
from infer.refine import RefineMode, refined
from infer.sampler import SamplerConfig
from infer.video import to_pixels
from model.flow import timestep_sigmas
from model.mask import Mask
from model.rollout import Chunk, Conditioning, stream

Steer = Callable[[int], np.ndarray]
"""Told how many video frames are due, answers with their poses (f, 4, 4), the first of all the identity."""

NO_PATH = "none-24"
"""The shortest path of a request, for requests that are driven."""
_ENDLESS = 1 << 60


class LiveCamera:
    """The network's camera inputs of one chunk after another, those that `model_camera` makes of the whole
    path. A latent frame sees eight video frames that end with its own, all of its chunk; only the first is
    shown frames after it, which its chunk must hold.
    """

    def __init__(self, intrinsics: np.ndarray, size: tuple[int, int], cell: int) -> None:
        """intrinsics (4,) in pixels of the video    size: (height, width)    cell: pixels of a latent cell"""
        self.grid = (size[0] // cell, size[1] // cell)
        self._intrinsics = latent_intrinsics(intrinsics, size, self.grid)
        self._last: np.ndarray | None = None

    def inputs(self, c2w: np.ndarray) -> ModelCamera:
        """Of the next poses (f, 4, 4), relative to the first of all: f = 8t, at first 8t + 1 with t > 0."""
        # The frame before the chunk stands where a clip's first frame does, and is then left out.
        begun = self._last is not None
        poses = c2w if self._last is None else np.concatenate([self._last, c2w])
        count = (len(poses) - 1) // STRIDE + 1
        if count < 2 or len(poses) % STRIDE != 1:
            raise ValueError(f"{len(c2w)} poses of a chunk, expected {STRIDE} for each latent frame"
                             f"{'' if begun else ' and one before them'}")
        self._last = poses[-1:]
        k = np.tile(self._intrinsics, (len(poses), 1))
        conditions = camera_conditions(poses, k, count).to(torch.float32)
        plucker = torch.empty(6 * STRIDE, count, *self.grid)
        packed_plucker(poses, k, self.grid, count, plucker)
        return ModelCamera(conditions[begun:], plucker[:, begun:])


@torch.no_grad()
def drive(world: WorldModel, request: Request, steer: Steer) -> Iterator[np.ndarray]:
    """Frames (f, H, W, 3) uint8, endlessly, a chunk at a time and at constant memory.

    They are those of `world.generate` along the same path. Of the request image, prompt, seed and lens are
    used; its path is not.
    """
    check_drivable(world)
    caption, mask = _words(world, request.prompt)
    refining = None if world.refiner is None else world.refiner.read(request.prompt, world.placed)
    pixels = torch.from_numpy(request.image.copy()).to(caption.device)
    first_frame = world.codec.encode(pixels.permute(2, 0, 1)[None, :, None].float() / 127.5 - 1)
    config = world.sampler
    told = Conditioning(caption, mask)
    chunks = _chunks(world, request, told, first_frame, steer)
    latents = stream(world.network, world.network.new_cache(1), chunks, timestep_sigmas(config.timesteps),
                     Mask(window=config.window, sink=config.sink), first_frame=first_frame)
    if world.refiner is not None and refining is not None:
        latents = refined(world.refiner.refiner, latents, _ENDLESS, *refining, request.seed)
    decoder, held = world.codec.open_stream(), int(refining is not None)
    for chunk in latents:
        parts = [to_pixels(decoder.push(part)) for part in chunk.split(config.chunk, 2)]
        frames, held = np.concatenate(parts)[held:], 0
        if len(frames):
            yield frames


def check_drivable(world: WorldModel) -> None:
    """Raises ValueError where a chunk cannot be made and shown before the next is known."""
    mode = RefineMode.blocks if world.refiner is None else world.refiner.mode
    check_settings(world.sampler, world.placed.offload, mode)
    if not world.codec.is_causal:
        raise ValueError(f"codec {world.codec.fingerprint}: it looks ahead and decodes whole clips alone; "
                         "use a causal one, such as that of sampler=distilled")


def check_settings(sampler: SamplerConfig, offload: Offload, mode: RefineMode) -> None:
    """What of `check_drivable` is known before weights are."""
    if not sampler.streams:
        raise ValueError(f"sampler.kind={sampler.kind.value}: only distilled makes a video whose end is not "
                         "known; use sampler=distilled")
    if offload.takes_turns:
        raise ValueError(f"offload={offload.value}: parts take turns on the device, one finished video after "
                         "another; use offload=none or text")
    if mode is not RefineMode.blocks:
        raise ValueError(f"refine.mode={mode.value}: refines finished videos; use blocks")


def _chunks(
    world: WorldModel, request: Request, told: Conditioning, first_frame: Tensor, steer: Steer,
) -> Iterator[Chunk]:
    """Noise and camera of each chunk as it is asked for; the first has one latent frame more."""
    like = world.network.x_embedder.proj.weight
    camera = LiveCamera(request.lens.intrinsics[0], request.size, world.codec.space_stride)
    shape = (first_frame.shape[1], first_frame.shape[3], first_frame.shape[4])
    start, size = 0, world.sampler.chunk
    while True:
        stop = start + size + (start == 0)
        inputs = camera.inputs(steer(STRIDE * size + (start == 0)))
        conditioning = Conditioning(told.caption, told.caption_mask, inputs.conditions[None].to(like.device),
                                    inputs.plucker[None].to(like))
        yield Chunk(frame_noise(request.seed, range(start, stop), shape).to(first_frame), conditioning)
        start = stop


def _words(world: WorldModel, prompt: str) -> tuple[Tensor, Tensor]:
    """States and mask of a prompt."""
    like = world.network.x_embedder.proj.weight
    with world.placed.working(world.text):
        states, mask = world.text.encode([prompt])
    return states.to(like), mask.to(like.device)
