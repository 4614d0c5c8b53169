"""The refiner's LoRA: velocity on the stretch of noise levels that refining passes through (paper, App. C).

The line runs from a clip's own latents at level 0 to where sampling starts at level σ_s: latents as stage 1
makes them, with noise. The clean first frames stand before it as a reference that sees only itself, as the
sink does when refining, and are in no loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from safetensors.torch import load as from_bytes
from torch import Tensor

from dataset.store import Store
from model.flow import REFINER_SIGMAS, Denoising
from model.refiner import draw_sigmas, pose_refining
from model.refiner_lora import RANK
from model.refiner_network import KeyValue, RefinerNetwork
from train.objectives import Draws, Losses, Networks, frame_losses

if TYPE_CHECKING:
    from dataset.batch import Batch

SHIFT = math.exp(2.05)
"""The paper names none; that of LTX-2's own schedule for clips of 4096 tokens or more."""


@dataclass
class RefinerTrainConfig:
    """A low-rank adapter of the multi-step LTX-2 transformer that `start` names."""

    rank: int = RANK  # of the adapter, on q, k, v, o and both feed-forward layers of every block
    distilled: str | None = None  # folder or hub repository of the distilled transformer that the adapter is
    # merged into at the end; null: the adapter alone is exported
    low: str | None = None  # folder or URL of latents to refine, <clip id>.safetensors as train.pairs makes
    # them; null: the clip's own, blurred
    blur: float = 2.0  # with low=null: most latent cells over which a clip is averaged, drawn from 1 up
    sink: int = 1  # latent frames of the clean reference at the beginning
    sigma: float = REFINER_SIGMAS[0]  # level at which refining starts
    shift: float = SHIFT  # of the levels drawn, towards noise
    fps: float = 16.0  # of the videos, for positions in time

    def check(self) -> None:
        """Raises ValueError for values that make no sense."""
        for name in ("rank", "sink", "blur"):
            if getattr(self, name) < 1:
                raise ValueError(f"refiner.{name}={getattr(self, name)}, allowed 1 or more")
        if not 0 < self.sigma <= 1:
            raise ValueError(f"refiner.sigma={self.sigma}, allowed above 0 to 1")
        if self.shift <= 0 or self.fps <= 0:
            raise ValueError(f"refiner: shift={self.shift}, fps={self.fps}, allowed more than 0")


class RefinerLora:
    """`networks["network"].module` is a `RefinerNetwork` with an adapter."""

    def __init__(self, config: RefinerTrainConfig) -> None:
        self.config = config
        self.low = None if config.low is None else Store(config.low)

    def turns(self, step: int) -> Sequence[str]:
        return ("network",)

    def loss(self, networks: Networks, batch: Batch, draws: Draws, step: int, turn: str) -> Losses:
        high, config = batch.latents, self.config
        assert high is not None
        if high.shape[2] <= config.sink:
            raise ValueError(f"clips {', '.join(batch.clip_ids[:3])}: {high.shape[2]} latent frames, "
                             f"expected more than refiner.sink={config.sink}")
        low = self._blurred(high, draws.own) if self.low is None else self._stored(batch.clip_ids, high)
        posed = self.pose(low, high, batch.frame_valid, draws.own)
        network = networks["network"].module
        assert isinstance(network, RefinerNetwork)
        predicted = self.predict(network, posed, high[:, :, :config.sink], batch)
        return frame_losses(predicted, posed)

    def pose(self, low: Tensor, high: Tensor, frame_valid: Tensor, draws: torch.Generator) -> Denoising:
        """The frames after the reference, each clip at a level of its own."""
        rest = slice(self.config.sink, None)
        sigma = draw_sigmas(len(high), draws, self.config.shift, self.config.sigma)
        noise = torch.randn(high.shape, generator=draws).to(high)
        sigma = sigma.to(high.device)[:, None].expand(-1, high.shape[2])[:, rest]
        x, target = pose_refining(low[:, :, rest], high[:, :, rest], noise[:, :, rest], sigma,
                                  self.config.sigma)
        return Denoising(x, sigma, 1000 * sigma, target, frame_valid[:, rest].to(high))

    def predict(self, network: RefinerNetwork, posed: Denoising, sink: Tensor, batch: Batch) -> Tensor:
        """Velocity of the posed frames, which see each other and the reference."""
        frames, size = sink.shape[2] + posed.latents.shape[2], (sink.shape[3], sink.shape[4])
        places = range(frames)
        assert batch.caption_states is not None and batch.caption_mask is not None
        text = network.read_text(batch.caption_states, batch.caption_mask)
        before = network.rotary(places[: sink.shape[2]], size, self.config.fps)
        _, kept = network(sink, torch.zeros(()), before, text, keep=True)

        def reference(layer: int) -> list[KeyValue]:
            return [KeyValue(network.rotate(kept[layer].key, before), kept[layer].value)]

        behind = network.rotary(places[sink.shape[2] :], size, self.config.fps)
        predicted, _ = network(posed.latents, posed.sigma[:, 0], behind, replace(text, earlier=reference))
        return predicted

    def _blurred(self, high: Tensor, draws: torch.Generator) -> Tensor:
        """Latents without what is finer than a few cells: what stage 1 leaves to be added."""
        cells = 1 + (self.config.blur - 1) * float(torch.rand((), generator=draws))
        grid = (max(1, round(high.shape[3] / cells)), max(1, round(high.shape[4] / cells)))
        flat = high.transpose(1, 2).flatten(0, 1)                                       # (B T, C, h, w)
        coarse = F.interpolate(F.adaptive_avg_pool2d(flat, grid), high.shape[3:], mode="bilinear")
        return coarse.unflatten(0, (len(high), -1)).transpose(1, 2)

    def _stored(self, clips: Sequence[str], high: Tensor) -> Tensor:
        """Latents of stage 1, cut to the frames of the clips."""
        found = []
        assert self.low is not None
        for clip, own in zip(clips, high):
            name = f"{clip}.safetensors"
            try:
                latents = from_bytes(self.low.read(name))["latents"]
            except FileNotFoundError:
                raise FileNotFoundError(f"refiner.low: no {self.low.name(name)}, expected latents of "
                                        "every clip; python -m train.pairs makes them") from None
            if latents.shape[0] != own.shape[0] or latents.shape[1] < own.shape[1] \
                    or latents.shape[2:] != own.shape[2:]:
                raise ValueError(f"{self.low.name(name)}: latents of shape {tuple(latents.shape)}, expected "
                                 f"{tuple(own.shape)} as the clip's own, or more frames")
            found.append(latents[:, : own.shape[1]])
        return torch.stack(found).to(high)
