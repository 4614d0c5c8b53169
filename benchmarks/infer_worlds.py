"""Worlds with random weights for the inference benchmark: one that any CPU runs, and the released sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.model_cases import random_network
from infer.lens import Image
from infer.offload import Placement
from infer.pipeline import Request, WorldModel
from infer.precision import Precision, quantise
from infer.refine import RefinerStage
from infer.sampler import Kind, SamplerConfig
from model.codec import Codec
from model.config import DiTConfig
from model.dct import DCTCodec
from model.dit import SanaWM
from model.refiner import Refiner, RefinerConfig
from model.text import HashText

_CAPTION, _REFINER_CAPTION = 1024, 3840


@dataclass(frozen=True)
class Scale:
    """Sizes of a run. guided, streamed: latent frames of clips of the guided samplers, and of the stream;
    steps: of the guided samplers."""

    device: str
    size: tuple[int, int]
    guided: tuple[int, ...]
    streamed: tuple[int, ...]
    steps: int
    released: bool = False


SCALES = {
    "cpu": Scale("cpu", (64, 96), (4, 13, 25), (4, 13, 25, 130), 12),
    "gpu": Scale("cuda", (704, 1280), (11, 41, 121), (13, 31, 130), 3, released=True),
}
QUICK = {
    "cpu": replace(SCALES["cpu"], guided=(4, 7), streamed=(4, 40), steps=2),
    "gpu": replace(SCALES["gpu"], guided=(11,), streamed=(4, 40), steps=2),
}


@torch.no_grad()
def make_network(scale: Scale, precision: Precision = Precision.bf16) -> SanaWM:
    """Nothing in it is silent."""
    if not scale.released:
        network = random_network(replace(DiTConfig.small(), latent_channels=48))
    else:
        with torch.device(scale.device):
            network = SanaWM(DiTConfig.sana_wm_2b6()).bfloat16()
        _fill(network)
    quantise(network, precision, torch.device(scale.device))
    return network.eval().requires_grad_(False)


def make_codec(scale: Scale, causal: bool) -> Codec:
    """The cosine codec, or the released autoencoder's modules, whose decoder looks ahead unless `causal`."""
    if not scale.released:
        return DCTCodec(16, 48)
    from diffusers import AutoencoderKLLTX2Video

    from model.vae import LTX2Codec

    with torch.device(scale.device):
        vae: Any = AutoencoderKLLTX2Video(decoder_causal=causal)
    return LTX2Codec(vae.bfloat16()).to(scale.device)


@torch.no_grad()
def make_refiner(scale: Scale, precision: Precision = Precision.bf16, **sizes: Any) -> RefinerStage:
    """The released refiner without the audio half, which is never built; `sizes` make a smaller one."""
    from diffusers import SanaWMLTX2RefinerTransformer3DModel

    from model.refiner_network import RefinerNetwork
    from model.refiner_weights import drop_audio

    with torch.device("meta"):
        transformer: Any = SanaWMLTX2RefinerTransformer3DModel(**sizes)
    drop_audio(transformer)
    dtype = torch.bfloat16 if scale.released else torch.float32
    transformer = transformer.to(dtype).to_empty(device=scale.device).eval().requires_grad_(False)
    _fill(transformer)
    quantise(transformer, precision, torch.device(scale.device))
    states: Any = DrawnStates(sizes.get("caption_channels", _REFINER_CAPTION), scale.device)
    return RefinerStage(Refiner(RefinerNetwork(transformer), RefinerConfig()), states)


class DrawnStates(nn.Module):
    """States of a prompt as the refiner's text encoder gives them, without the encoder: it reads once, before
    anything that is timed here."""

    def __init__(self, width: int, device: str) -> None:
        super().__init__()
        self.width, self.device = width, device

    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(1)
        states = torch.randn(len(prompts), _CAPTION, self.width, generator=generator)
        return states.to(self.device), torch.ones(len(prompts), _CAPTION, device=self.device)


def make_world(
    scale: Scale, network: SanaWM, codec: Codec, kind: Kind, refiner: RefinerStage | None = None,
    overlap: bool = False,
) -> WorldModel:
    config = network.config
    text = HashText(config.caption_channels, config.caption_length).to(scale.device)
    return WorldModel(network, codec, text, SamplerConfig(kind=kind, steps=scale.steps), refiner,
                      Placement(torch.device(scale.device)), overlap)


def ask(world: WorldModel, size: tuple[int, int], frames: int) -> Request:
    """For a clip of `frames` latent frames along a path that walks and turns."""
    y, x = np.mgrid[: size[0], : size[1]] / max(size)
    picture = np.stack([np.sin(9 * x), np.cos(7 * y), np.sin(5 * (x + y))], -1) * 100 + 127
    length = 8 * (frames - 1) + 1
    turns = ",".join(["w-40", "dw-40"] * (length // 80 + 1))
    return world.prepare(Image(picture.astype(np.uint8)), "a room", turns, frames=length, size=size, fov=60.0)


def _fill(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        nn.init.normal_(parameter, std=0.02)
        if "norm" in name and name.endswith("weight"):
            parameter.add_(1.0)
