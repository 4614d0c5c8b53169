"""Stage 2: refines the latents of a finished clip, or of a clip still growing, in three Euler steps.

The first latent frame is the sink: clean, seen by all, never changed. The frames after it are refined all at
once, seeing each other and the sink (which sees itself only), or block by block: a block sees the sink, the
last refined frames before it, and itself. A whole clip is one block.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from model.flow import REFINER_SIGMAS, euler_step, interpolate, shift, velocity
from model.hub import fetch
from model.refiner_network import Context, KeyValue, RefinerNetwork, Rotary, join
from model.refiner_weights import load_video_half

RELEASED = "Efficient-Large-Model/SANA-WM_bidirectional/refiner"
RELEASED_STREAMING = "Efficient-Large-Model/SANA-WM_streaming/refiner_diffusers"


@dataclass(frozen=True)
class RefinerConfig:
    """How the released refiner is run."""

    sigmas: tuple[float, ...] = REFINER_SIGMAS
    fps: float = 16.0
    sink_frames: int = 1
    block_frames: int | None = 3      # None refines everything after the sink at once
    window_frames: int = 11           # latent frames a block sees besides itself: the sink and recent ones

    def __post_init__(self) -> None:
        falling = all(a > b for a, b in pairwise(self.sigmas))
        if len(self.sigmas) < 2 or not falling or self.sigmas[0] > 1 or self.sigmas[-1] != 0:
            raise ValueError(f"sigmas: {self.sigmas}, expected falling levels from at most 1 to 0")
        if self.sink_frames < 1:
            raise ValueError(f"sink_frames: {self.sink_frames}, expected at least 1")
        if self.block_frames is not None and self.block_frames < 1:
            raise ValueError(f"block_frames: {self.block_frames}, expected at least 1, or none")
        if self.window_frames <= self.sink_frames:
            raise ValueError(f"window_frames: {self.window_frames}, expected more than the "
                             f"{self.sink_frames} of the sink, which they include")
        if self.fps <= 0:
            raise ValueError(f"fps: {self.fps}, expected more than 0")


@dataclass
class RefinerState:
    """A clip being refined. Its size is constant once the window is full.

    sink:     keys as they are before rotation, for they move along with the window; one per layer
    history:  rotated keys of the last `history_frames` refined frames
    """

    text: Context
    size: tuple[int, int]
    sink: list[KeyValue]
    history: list[KeyValue]
    history_frames: int
    next_frame: int

    def nbytes(self) -> int:
        """Memory of the keys and values of frames; the prompt's are constant beside them."""
        return sum(part.nbytes() for part in [*self.sink, *self.history])


class Refiner:
    """Runs a network over clips. Latents are those of stage 1, in the same normalised space."""

    def __init__(self, network: RefinerNetwork, config: RefinerConfig | None = None) -> None:
        self.network = network
        self.config = config or RefinerConfig()

    @classmethod
    def from_pretrained(
        cls, source: str | Path = RELEASED, config: RefinerConfig | None = None,
        device: torch.device | str = "cpu", dtype: torch.dtype = torch.bfloat16,
    ) -> Refiner:
        """From a folder or hub repository that holds the LTX-2 `transformer`; its audio half stays there."""
        from diffusers import SanaWMLTX2RefinerTransformer3DModel
        folder = fetch(source, "transformer", "refiner")
        transformer = load_video_half(SanaWMLTX2RefinerTransformer3DModel, folder, "refiner", device, dtype)
        return cls(RefinerNetwork(transformer), config)

    @torch.no_grad()
    def refine(
        self, latents: Tensor, states: Tensor, mask: Tensor, generator: torch.Generator | None = None,
    ) -> Tensor:
        """Refined latents of a whole clip (B, C, T, H, W), its sink as it was given.

        states (B, L, C), mask (B, L): of the prompt, from `RefinerText`.
        """
        sink = self.config.sink_frames
        if latents.ndim != 5 or latents.shape[2] <= sink:
            raise ValueError(f"latents: shape {tuple(latents.shape)}, expected (batch, channels, frames, "
                             f"height, width) with more than the {sink} frames of the sink")
        state = self.start(latents[:, :, :sink], states, mask)
        rest = latents[:, :, sink:]
        blocks = rest.split(self.config.block_frames or rest.shape[2], 2)
        refined = [self.refine_block(state, block, generator, last=block is blocks[-1]) for block in blocks]
        return torch.cat([latents[:, :, :sink], *refined], 2)

    @torch.no_grad()
    def start(self, sink: Tensor, states: Tensor, mask: Tensor) -> RefinerState:
        """Begin a clip with its clean first frames (B, C, sink_frames, H, W)."""
        if sink.ndim != 5 or sink.shape[1:3] != (self.network.channels, self.config.sink_frames):
            raise ValueError(f"sink: shape {tuple(sink.shape)}, expected (batch, {self.network.channels}, "
                             f"{self.config.sink_frames}, height, width)")
        if states.shape[0] != sink.shape[0] or mask.shape != states.shape[:2]:
            raise ValueError(f"states: shape {tuple(states.shape)} with mask {tuple(mask.shape)}, expected "
                             f"({sink.shape[0]}, tokens, channels) with ({sink.shape[0]}, tokens)")
        size = (sink.shape[3], sink.shape[4])
        text = self.network.read_text(states, mask)
        rotary = self.network.rotary(range(sink.shape[2]), size, self.config.fps)
        _, kept = self.network(sink, torch.tensor(0.0), rotary, text, keep=True)
        nothing = [KeyValue(own.key[:, :0], own.value[:, :0]) for own in kept]
        return RefinerState(text, size, kept, nothing, history_frames=0, next_frame=sink.shape[2])

    @torch.no_grad()
    def refine_block(
        self, state: RefinerState, latents: Tensor, generator: torch.Generator | None = None,
        last: bool = False, noise: Tensor | None = None,
    ) -> Tensor:
        """The next frames of a clip (B, C, t, H, W), refined. The `last` block is not remembered.

        noise: shaped like the latents; None draws it from `generator`.
        """
        if latents.ndim != 5 or tuple(latents.shape[3:]) != state.size or not latents.shape[2]:
            raise ValueError(f"latents: shape {tuple(latents.shape)}, expected (batch, channels, frames, "
                             f"{state.size[0]}, {state.size[1]}) as the clip began")
        frames, sigmas = latents.shape[2], torch.tensor(self.config.sigmas, dtype=torch.float64)
        rotary = self.network.rotary(range(state.next_frame, state.next_frame + frames), state.size,
                                     self.config.fps)
        context = self._context(state)
        if noise is None:
            noise = torch.randn(latents.shape, generator=generator, dtype=self.network.dtype,
                                device=latents.device if generator is None else generator.device)
        x = latents.to(self.network.device).float()
        x = interpolate(x, noise.to(x), sigmas[0])
        for sigma, target in pairwise(sigmas):
            predicted, _ = self.network(x, sigma, rotary, context)
            x = euler_step(x, predicted, sigma, target)
        if not last:
            _, kept = self.network(x, sigmas[-1], rotary, context, keep=True)
            self._remember(state, kept, rotary, frames)
        state.next_frame += frames
        return x.to(latents)

    def _context(self, state: RefinerState) -> Context:
        """The prompt, the sink moved to just before the remembered frames, and these."""
        sink = self.config.sink_frames
        first = state.next_frame - state.history_frames - sink
        rotary = self.network.rotary(range(first, first + sink), state.size, self.config.fps)

        def earlier(layer: int) -> list[KeyValue]:
            sink = KeyValue(self.network.rotate(state.sink[layer].key, rotary), state.sink[layer].value)
            return [sink, state.history[layer]]
        return replace(state.text, earlier=earlier)

    def _remember(self, state: RefinerState, block: list[KeyValue], rotary: Rotary, frames: int) -> None:
        """Add a refined block to the history, and forget what leaves the window."""
        most = self.config.window_frames - self.config.sink_frames
        state.history_frames = min(state.history_frames + frames, most)
        keep = state.history_frames * state.size[0] * state.size[1]
        for layer, own in enumerate(block):
            seen = join(state.history[layer], KeyValue(self.network.rotate(own.key, rotary), own.value))
            # in memory of their own: a slice would hold on to what is forgotten
            state.history[layer] = KeyValue(seen.key[:, -keep:].clone(), seen.value[:, -keep:].clone())


def draw_sigmas(count: int, generator: torch.Generator | None = None, amount: float = 1.0,
                start: float = REFINER_SIGMAS[0]) -> Tensor:
    """Training levels (count,), float64: a logit-normal, shifted by `amount`, restricted to (0, start]."""
    unshifted = torch.tensor(start / (amount - (amount - 1) * start), dtype=torch.float64)
    highest = torch.special.ndtr(torch.logit(unshifted))
    uniform = 1 - torch.rand(count, generator=generator, dtype=torch.float64)
    return shift(torch.special.ndtri(uniform * highest).sigmoid(), amount).clamp(max=start)


def pose_refining(
    low: Tensor, high: Tensor, noise: Tensor, sigma: Tensor, start: float = REFINER_SIGMAS[0],
) -> tuple[Tensor, Tensor]:
    """The network's input at levels `sigma`, one or (B, T), and the velocity it should predict there.

    low, high, noise (B, C, T, H, W): latents to refine, what they should become, and noise. The line runs
    from `high` at level 0 to where sampling starts, `low` with noise, at level `start`.
    """
    begin = interpolate(low, noise, torch.tensor(start))
    return interpolate(high, begin, sigma / start), velocity(high, begin) / start
