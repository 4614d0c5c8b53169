"""From image, prompt and camera path to video; its parts are loaded once and serve many videos.

    world = WorldModel.from_pretrained()
    video = world("first.png", prompt="a sunlit room", camera="w-80,dw-40", seed=42)
    video.save("out.mp4")
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dataset.rays import latent_frames, model_camera
from infer.camera import CameraConfig, CameraPath, find_path
from infer.lens import Image, Lens, find_lens, read_image
from infer.noise import check_seed
from infer.refine import RefinerStage, refined
from infer.sampler import SamplerConfig, sample
from infer.video import Video, to_pixels
from model.codec import Codec, load_codec
from model.dit import SanaWM
from model.rollout import Conditioning, Progress
from model.text import RELEASED as RELEASED_TEXT
from model.text import TextEncoder, load_text

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
    offload: bool = False

    def __post_init__(self) -> None:
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
        cls, model: str | Path | None = None, *, codec: str | None = None, text: str = RELEASED_TEXT,
        sampler: SamplerConfig | None = None, refiner: str = "none",
        device: torch.device | str | None = None, dtype: torch.dtype | None = None, offload: bool = False,
    ) -> WorldModel:
        """From released weights, or ours.

        model, codec: None takes those that `sampler` names. text: "hash", or Gemma-2 of a folder or
        repository. refiner: "none" or "ltx2". dtype: None is bfloat16 on a GPU and float32 on a CPU.
        offload: the text encoders are on the device only while they read.
        """
        sampler = sampler or SamplerConfig()
        sampler.check()
        device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        dtype = dtype or (torch.float32 if device.type == "cpu" else torch.bfloat16)
        network = SanaWM.from_pretrained(model or sampler.model, device=device, dtype=dtype)
        config = network.config
        waits = "cpu" if offload else device
        words = load_text(text, waits, dtype, length=config.caption_length, width=config.caption_channels)
        stage = RefinerStage.from_pretrained(refiner, sampler.streams, device, dtype, waits)
        return cls(network, load_codec(codec or sampler.codec, device, dtype), words, sampler, stage, offload)

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
        """Frames (f, H, W, 3) uint8 as they are made, chunk by chunk.

        With a refiner the first frame, the image itself, is left out: the refiner holds it fixed.
        """
        conditioning, negative = self._conditioning(request)
        refining = None if self.refiner is None else self.refiner.read(request.prompt, self.offload)
        device = conditioning.caption.device
        pixels = torch.from_numpy(request.image.copy()).to(device)
        video = (pixels.permute(2, 0, 1)[None, :, None].float() / 127.5) - 1
        first_frame = self.codec.encode(video)
        frames = latent_frames(len(request.path))
        latents = sample(self.network, self.sampler, conditioning, first_frame, request.seed, frames,
                         negative, progress)
        if self.refiner is None or refining is None:
            yield from self._decoded(latents)
            return
        chunks = self._decoded(refined(self.refiner.refiner, latents, frames, *refining, request.seed))
        yield next(chunks)[1:]
        yield from chunks

    def _conditioning(self, request: Request) -> tuple[Conditioning, tuple[Tensor, Tensor] | None]:
        """What the network is told, and the negative prompt where it is guided."""
        like = self.network.x_embedder.proj.weight
        camera = model_camera(request.path.c2w, request.lens.intrinsics, request.size,
                              self.codec.space_stride)
        if self.offload:
            self.text.to(like.device)
        states, mask = self.text.encode([request.prompt])
        negative = self.text.encode_negative([request.negative]) if self.sampler.guided else None
        if self.offload:
            self.text.to("cpu")
        told = Conditioning(states.to(like), mask.to(like.device), camera.conditions[None].to(like.device),
                            camera.plucker[None].to(like))
        return told, None if negative is None else (negative[0].to(like), negative[1].to(like.device))

    def _decoded(self, latents: Iterator[Tensor]) -> Iterator[np.ndarray]:
        if not self.codec.is_causal:
            yield to_pixels(self.codec.decode(torch.cat(list(latents), 2)))
            return
        stream = self.codec.open_stream()
        for chunk in latents:
            for part in chunk.split(_DECODE_FRAMES, 2):
                yield to_pixels(stream.push(part))
