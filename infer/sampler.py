"""The three ways to make latents: a whole clip at once, chunk after chunk seeing all before, and a stream
whose memory does not grow. Each yields clean latents in the order of time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise

from torch import Tensor

from infer.noise import frame_noise
from model.dit import SanaWM
from model.flow import DISTILLED_TIMESTEPS, INFERENCE_SHIFT, inference_sigmas, timestep_sigmas
from model.mask import Mask, streaming_bounds
from model.rollout import Chunk, Conditioning, Guidance, Progress, denoise_chunks, denoise_clip, stream


class Kind(Enum):
    """Which network is sampled, and how."""

    bidirectional = "bidirectional"
    chunk_causal = "chunk_causal"
    distilled = "distilled"


Told = Callable[[int, int], Conditioning]


@dataclass
class SamplerConfig:
    """How latents are made, and with which network."""

    kind: Kind = Kind.bidirectional  # all frames at once; chunks that see all before them; or a stream in
    # few steps, at constant memory
    model: str = "Efficient-Large-Model/SANA-WM_bidirectional"  # the network: a folder, a file, or a
    # repository of the hub
    codec: str = "Efficient-Large-Model/SANA-WM_bidirectional"  # its autoencoder: the same, or dct32, dct16,
    # dct8, which need no weights
    steps: int = 60  # of bidirectional and chunk_causal
    shift: float = INFERENCE_SHIFT  # of the schedule of these steps towards noise
    second_order: bool = False  # of bidirectional: two-step DPM-Solver instead of Euler
    guidance: float = 5.0  # away from the negative prompt, of bidirectional and chunk_causal; 1: off
    guidance_sigmas: list[float] = field(default_factory=lambda: [0.0, 1.0])  # noise levels that are guided
    chunk: int = 3  # latent frames of a chunk, of chunk_causal and distilled
    interval: float | None = None  # of chunk_causal: share of a schedule by which a chunk begins after the
    # one before; null: 1 over the number of chunks; 1: strictly one after another
    timesteps: list[int] = field(default_factory=lambda: list(DISTILLED_TIMESTEPS))  # of distilled
    window: int | None = 2  # of distilled: past chunks that softmax layers keep, the sink among
    # them; null: all
    sink: bool = True  # of distilled: the first chunk stays one of those

    def check(self) -> None:
        """Raises ValueError for values that make no sense."""
        for name, least in (("steps", 1), ("shift", 1), ("guidance", 0), ("chunk", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"sampler.{name}={getattr(self, name)}, allowed {least} or more")
        if self.interval is not None and not 0 < self.interval <= 1:
            raise ValueError(f"sampler.interval={self.interval}, allowed more than 0 and up to 1, or null")
        levels = self.timesteps
        if len(levels) < 2 or levels[-1] != 0 or levels[0] > 1000 or any(a <= b for a, b in pairwise(levels)):
            raise ValueError(f"sampler.timesteps={levels}, allowed numbers that fall from at most 1000 to 0")
        if len(self.guidance_sigmas) != 2:
            raise ValueError(f"sampler.guidance_sigmas={self.guidance_sigmas}, allowed [lowest,highest]")
        if self.window is not None and self.window < 1:
            raise ValueError(f"sampler.window={self.window}, allowed 1 or more, or null")

    @property
    def streams(self) -> bool:
        """Whether a chunk is made without knowing how many follow."""
        return self.kind is Kind.distilled

    @property
    def guided(self) -> bool:
        return self.kind is not Kind.distilled and self.guidance > 1


def sample(
    network: SanaWM, config: SamplerConfig, told: Told, first_frame: Tensor, seed: int,
    frames: int, negative: tuple[Tensor, Tensor] | None = None, progress: Progress | None = None,
) -> Iterator[Tensor]:
    """Clean latents (1, C, t, H, W) of `frames` latent frames, as they become final.

    told: what the network is told of frames `start` to `stop`; a stream asks for a chunk at a time.
    first_frame (1, C, 1, H, W): of the image. negative: states and mask of what guidance leads away from.
    """
    shape = (first_frame.shape[1], first_frame.shape[3], first_frame.shape[4])

    def noise(start: int, stop: int) -> Tensor:
        return frame_noise(seed, range(start, stop), shape).to(first_frame)

    if config.kind is Kind.distilled:
        bounds = streaming_bounds(frames, config.chunk)
        chunks = (Chunk(noise(start, stop), told(start, stop)) for start, stop in pairwise(bounds))
        yield from stream(network, network.new_cache(1), chunks, timestep_sigmas(config.timesteps),
                          Mask(window=config.window, sink=config.sink), first_frame=first_frame,
                          progress=progress)
        return
    sigmas = inference_sigmas(config.steps, config.shift)
    guidance = None
    if config.guided and negative is not None:
        lowest, highest = config.guidance_sigmas
        guidance = Guidance(*negative, scale=config.guidance, sigmas=(lowest, highest))
    if config.kind is Kind.bidirectional:
        yield denoise_clip(network, noise(0, frames), told(0, frames), sigmas, guidance=guidance,
                           first_frame=first_frame, second_order=config.second_order, progress=progress)
        return
    starts = Mask.chunk_causal(frames, config.chunk).chunk_starts
    yield from denoise_chunks(network, noise(0, frames), told(0, frames), sigmas, starts,
                              interval=config.interval, guidance=guidance, first_frame=first_frame,
                              progress=progress)


def evaluations(config: SamplerConfig, frames: int) -> int:
    """How often `progress` is told of a step for a video of `frames` latent frames."""
    if config.kind is Kind.bidirectional:
        return config.steps
    if config.kind is Kind.distilled:
        return (len(config.timesteps) - 1) * (len(streaming_bounds(frames, config.chunk)) - 1)
    chunks = len(Mask.chunk_causal(frames, config.chunk).chunk_starts)
    interval = 1 / chunks if config.interval is None else config.interval
    return int((chunks - 1) * interval * config.steps) + config.steps
