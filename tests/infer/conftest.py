"""A tiny network with random weights, on disk and as a world, and a picture to begin with."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from infer.pipeline import WorldModel
from infer.sampler import Kind, SamplerConfig
from model.config import DiTConfig
from model.dct import DCTCodec
from model.dit import SanaWM
from model.text import HashText

CONFIG = replace(DiTConfig.tiny(), latent_channels=128)
SIZE = (64, 96)


@pytest.fixture(scope="session")
def network() -> SanaWM:
    """Nothing in it is silent."""
    generator, network = torch.Generator().manual_seed(0), SanaWM(CONFIG)
    for name, tensor in network.state_dict().items():
        spread = tensor[0].numel() ** -0.5 if tensor.ndim > 1 else 0.1
        tensor.normal_(1.0 if "norm" in name else 0.0, spread, generator=generator)
    return network.eval()


@pytest.fixture(scope="session")
def make_world(network: SanaWM) -> Callable[..., WorldModel]:
    def make(kind: str, **settings: object) -> WorldModel:
        config = SamplerConfig(kind=Kind(kind), steps=2, timesteps=[1000, 727, 0])
        return WorldModel(network, DCTCodec(32), HashText(CONFIG.caption_channels, CONFIG.caption_length),
                          replace(config, **settings))  # type: ignore[arg-type]
    return make


@pytest.fixture(scope="session")
def room(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of 200 x 120 with soft shapes."""
    from PIL import Image

    y, x = np.mgrid[:120, :200] / 40.0
    pixels = np.stack([np.sin(x) + 1, np.cos(x + y) + 1, np.sin(y) + 1], -1) * 127
    path = tmp_path_factory.mktemp("pictures") / "room.png"
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="session")
def tiny(network: SanaWM, room: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Settings for the tiny network."""
    folder = tmp_path_factory.mktemp("weights") / "network"
    network.save_pretrained(folder)
    return [f"image={room}", f"model={folder}", "codec=dct32", "text=hash", f"size=[{SIZE[0]},{SIZE[1]}]",
            "sampler.steps=2", "sampler.timesteps=[1000,727,0]"]
