"""From image, prompt and camera path to video; its parts are loaded once and serve many videos.

    world = WorldModel.from_pretrained()
    video = world("first.png", prompt="a sunlit room", camera="w-80,dw-40", seed=42)
    video.save("out.mp4")
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dataset.rays import latent_frames
from infer.camera import CameraConfig, CameraPath, find_path
from infer.camera_inputs import CameraInputs
from infer.lens import Image, Lens, find_lens, read_image
from infer.load import LoadConfig, find_sources, load_parts
from infer.noise import check_seed
from infer.offload import Offload, Placement
from infer.overlap import Line, Pieces, Stage, in_line, in_turn
from infer.precision import PrecisionConfig
from infer.refine import RefineConfig, RefinerStage, refined
from infer.sampler import SamplerConfig, Told, sample
from infer.video import Video, to_pixels
from model.codec import Codec
from model.dit import SanaWM
from model.rollout import Conditioning, Progress
from model.text import TextEncoder

SIZE = (704, 1280)
_DECODE_FRAMES = 3
"""Latent frames decoded at a time where more are there."""


@dataclass(frozen=True)
class Request:
    """A video to be made, checked as a whole: `WorldModel.prepare` makes it."""

    prompt: str
    negative: str
    seed: int
    image: np.ndarray  # (H, W, 3) uint8, of the video's size
    path: CameraPath
    lens: Lens

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)"""
        return self.image.shape[0], self.image.shape[1]


@dataclass
class WorldModel:
    """The network with what turns images and words into its inputs, and latents into pictures."""

    network: SanaWM
    codec: Codec
    text: TextEncoder
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    refiner: RefinerStage | None = None
    placement: Placement | None = None
    overlap: bool = True
    """Whether denoising, refining and decoding of one video run side by side; the frames are the same."""

    def __post_init__(self) -> None:
        if self.placement is None:
            self.placement = Placement(self.network.x_embedder.proj.weight.device)
        self.sampler.check()
        config = self.network.config
        if config.latent_channels != self.codec.channels:
            raise ValueError(f"the network has {config.latent_channels} latent channels, the codec "
                             f"{self.codec.fingerprint} {self.codec.channels}; give the codec it was trained "
                             "with")
        if config.caption_channels != self.text.width:
            raise ValueError(f"the network reads captions of width {config.caption_channels}, the text "
                             f"encoder {self.text.fingerprint} writes {self.text.width}; give the one "
                             "it was trained with")

    @classmethod
    def from_pretrained(
        cls, model: str | Path | None = None, *, codec: str | None = None, text: str | None = None,
        sampler: SamplerConfig | None = None, refiner: str = "none", refine: RefineConfig | None = None,
        device: torch.device | str | None = None, dtype: torch.dtype | None = None,
        offload: Offload | str = Offload.none, precision: PrecisionConfig | None = None,
        compile: bool = False, overlap: bool = True,
    ) -> WorldModel:
        """From released weights, or ours. What has to be fetched is said with its size first.

        model: weights, or a folder of `python -m train`; None takes those that `sampler` names. codec, text:
        None takes those the network was trained with, as far as that is known, else the released ones;
        "dct32", "dct16", "dct8" and "hash" need no weights. refiner: "none", "ltx2" or a folder. dtype: None
        is bfloat16 on a GPU and float32 on a CPU. The rest is described in docs/infer.md.
        """
        sampler = sampler or SamplerConfig()
        sampler.check()
        sources = find_sources(sampler, model, codec, text, refiner)
        how = LoadConfig(device, dtype, Offload(offload), precision or PrecisionConfig(), compile)
        parts = load_parts(sources, sampler, refine or RefineConfig(), how)
        return cls(parts.network, parts.codec, parts.text, sampler, parts.refiner, parts.placement, overlap)

    def prepare(
        self, image: str | Path | Image, prompt: str = "", camera: str | np.ndarray = "none-80", *,
        seed: int = 0, frames: int | None = None, size: tuple[int, int] = SIZE,
        intrinsics: Sequence[float] | None = None, fov: float | None = None, negative: str = "",
        path: CameraConfig | None = None,
    ) -> Request:
        """All that is asked for, read and checked before any work. Raises ValueError naming what is wrong."""
        check_seed(seed)
        stride = self.codec.space_stride
        if size[0] % stride or size[1] % stride or min(size) < stride:
            raise ValueError(f"size=[{size[0]},{size[1]}]: both must be multiples of {stride}, the stride of "
                             f"the codec {self.codec.fingerprint}")
        picture = image if isinstance(image, Image) else read_image(image)
        found = find_path(camera, path or CameraConfig(), frames, self.sampler.streams)
        lens = find_lens(picture, size, len(found), intrinsics, fov, found.trajectory)
        return Request(prompt, negative, seed, picture.fitted(size), found, lens)

    def __call__(
        self, image: str | Path | Image, prompt: str = "", camera: str | np.ndarray = "none-80",
        **options: object,
    ) -> Video:
        """The whole video. Options are those of `prepare`."""
        request = self.prepare(image, prompt, camera, **options)  # type: ignore[arg-type]
        frames = np.concatenate(list(self.generate(request)))
        first = len(request.path) - len(frames)
        return Video(frames, request.path.c2w[first:], request.lens.intrinsics[first:])

    @torch.no_grad()
    def generate(self, request: Request, progress: Progress | None = None) -> Iterator[np.ndarray]:
        """Frames (f, H, W, 3) uint8 as they are made, chunk by chunk. An error of any stage is raised here;
        closing the iterator ends them all.

        With a refiner the first frame, the image itself, is left out: the refiner holds it fixed.
        """
        placement = self.placed
        told, negative = self._conditioning(request)
        refining = None if self.refiner is None else self.refiner.read(request.prompt, placement)
        pixels = torch.from_numpy(request.image.copy()).to(placement.device)
        with placement.working(self.codec):
            first_frame = self.codec.encode((pixels.permute(2, 0, 1)[None, :, None].float() / 127.5) - 1)
        frames = latent_frames(len(request.path))
        line = Line(placement.device)

        def step_done(step: int, of: int) -> None:
            line.check()
            if progress is not None:
                progress(step, of)

        def denoised() -> Pieces:
            with placement.working(self.network):
                yield from sample(self.network, self.sampler, told, first_frame, request.seed, frames,
                                  negative, step_done)

        stages: list[Stage] = [self._decoded]
        if self.refiner is not None and refining is not None:
            stages.insert(0, partial(self._refined, frames=frames, prompt=refining, seed=request.seed))
        if placement.offload.takes_turns:
            made = in_turn(denoised(), stages)
        else:
            made = line.run(denoised(), stages) if self.overlap else in_line(denoised(), stages)
        held = int(refining is not None)
        with closing(made):
            for chunk in made:
                if len(chunk) > held:
                    yield chunk[held:]
                held = 0

    @property
    def placed(self) -> Placement:
        """Where the parts are while they work."""
        assert self.placement is not None
        return self.placement

    def _conditioning(self, request: Request) -> tuple[Told, tuple[Tensor, Tensor] | None]:
        """What the network is told of a stretch of the video, and the negative prompt where it is guided."""
        device, dtype = self.placed.device, self.network.x_embedder.proj.weight.dtype
        camera = CameraInputs(request.path.c2w, request.lens.intrinsics, request.size,
                              self.codec.space_stride)
        with self.placed.working(self.text):
            states, mask = self.text.encode([request.prompt])
            negative = self.text.encode_negative([request.negative]) if self.sampler.guided else None
        caption = Conditioning(states.to(device, dtype), mask.to(device))

        def told(start: int, stop: int) -> Conditioning:
            seen = camera.frames(start, stop)
            return replace(caption, camera_conditions=seen.conditions[None].to(device),
                           plucker=seen.plucker[None].to(device, dtype))

        return told, None if negative is None else (negative[0].to(device, dtype), negative[1].to(device))

    def _refined(
        self, latents: Iterator[Tensor], frames: int, prompt: tuple[Tensor, Tensor], seed: int,
    ) -> Pieces:
        assert self.refiner is not None
        with self.placed.working(self.refiner.refiner.network):
            yield from refined(self.refiner.refiner, latents, frames, *prompt, seed, self.refiner.mode)

    def _decoded(self, latents: Iterator[Tensor]) -> Pieces:
        with self.placed.working(self.codec):
            if not self.codec.is_causal:
                yield to_pixels(self.codec.decode(torch.cat(list(latents), 2)))
                return
            stream = self.codec.open_stream()
            for chunk in latents:
                for part in chunk.split(_DECODE_FRAMES, 2):
                    yield to_pixels(stream.push(part))
