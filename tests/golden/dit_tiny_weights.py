"""The tiny network's weights, used by other files: every name and shape is taken, none is left over."""

from dataclasses import replace
from typing import Any

import torch

from model.config import DiTConfig
from model.dit import SanaWM
from tests.golden.fixture import Comparison, Fixture


def check(fixture: Fixture) -> list[Comparison]:
    network = load_network(fixture)
    found = network.state_dict()
    return [Comparison(key, found[key], expected, 0.0) for key, expected in fixture.tensors.items()]


def config_of(fixture: Fixture) -> DiTConfig:
    """The configuration in a file's metadata, which uses its own names."""
    about = fixture.metadata["config"]
    config = DiTConfig(
        depth=about["depth"], width=about["hidden"], heads=about["heads"],
        latent_channels=about["latent_channels"], caption_channels=about["caption_channels"],
        caption_length=about["max_text"], mlp_ratio=about["mlp_ratio"],
        softmax_blocks=tuple(about["softmax_blocks"]), plucker_channels=about["plucker_channels"])
    assert config.head_width == about["head_dim"], f"head_dim {about['head_dim']}, not hidden / heads"
    return config


def load_network(fixture: Fixture, dtype: torch.dtype = torch.float32, **options: Any) -> SanaWM:
    """The network of a weights file, without gradients. `options` change its configuration."""
    network = SanaWM(replace(config_of(fixture), **options))
    network.load_state_dict(fixture.tensors, strict=True)
    return network.to(dtype).requires_grad_(False)
