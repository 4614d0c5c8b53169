"""What the network refuses at its door, in words that name the argument, what was found and is wanted."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor

from model.cache import ModelState
from model.config import DiTConfig
from model.dct import DCTCodec
from model.dit import SanaWM
from model.mask import Mask
from tests.model.networks import frames_of, random_inputs, random_network

TINY = DiTConfig.tiny()
B, T, H, W = 2, 5, 3, 4
GOOD = random_inputs(TINY, T, (H, W), torch.float32)
LENGTH = TINY.caption_length
CAMERA = GOOD["camera_conditions"]


def spoiled(values: Tensor, place: tuple[int, ...], value: float) -> Tensor:
    values = values.clone()
    values[place] = value
    return values


FAULTS = [
    ("latents", torch.zeros(B, 7, T, H, W), "latents: shape (2, 7, 5, 3, 4), expected (batch, 8, frames,"),
    ("latents", torch.zeros(8, T, H, W), "latents: shape (8, 5, 3, 4), expected (batch, 8,"),
    ("latents", torch.zeros(B, 8, 0, H, W), "latents: shape (2, 8, 0, 3, 4)"),
    ("timesteps", torch.zeros(B, T + 1), "timesteps: shape (2, 6), expected (2,), or (2, 5)"),
    ("timesteps", torch.tensor(500.0), "timesteps: shape (), expected (2,), or (2, 5)"),
    ("timesteps", torch.full((B,), 1000.5), "timesteps: from 1000.5 to 1000.5, expected 0 to 1000"),
    ("timesteps", torch.full((B,), torch.nan), "timesteps: from nan to nan, expected 0 to 1000"),
    ("caption", torch.zeros(B, LENGTH, 17), "caption: shape (2, 10, 17), expected (2, tokens, 16)"),
    ("caption", torch.zeros(B, 0, 16), "caption: shape (2, 0, 16), expected (2, tokens, 16)"),
    ("caption", torch.zeros(LENGTH, 16), "caption: shape (10, 16), expected (2, tokens, 16)"),
    ("caption", torch.zeros(1, LENGTH, 16), "caption: shape (1, 10, 16), expected (2, tokens, 16)"),
    ("caption_mask", torch.ones(B, LENGTH + 1), "caption_mask: shape (2, 11), expected (2, 10)"),
    ("camera_conditions", CAMERA[:, 1:], "camera_conditions: shape (2, 4, 20), expected (2, 5, 20)"),
    ("camera_conditions", CAMERA[..., 1:], "camera_conditions: shape (2, 5, 19), expected (2, 5, 20)"),
    ("camera_conditions", CAMERA[..., :16], "camera_conditions: 16 values a frame, a pose without"),
    ("camera_conditions", spoiled(CAMERA, (1, 3, 7), torch.inf), "in frame 3 of sample 1, expected finite"),
    ("camera_conditions", spoiled(CAMERA, (0, 2, 17), 0.0),
     f"fx, fy {[2.0, 0.0]} in frame 2 of sample 0, expected finite numbers and focal lengths above zero"),
    ("plucker", torch.zeros(B, 48, T, H, W + 1), "plucker: shape (2, 48, 5, 3, 5), expected (2, 48, 5, 3,"),
    ("frame_valid", torch.ones(B, T, 1), "frame_valid: shape (2, 5, 1), expected (2, 5)"),
    ("mask", Mask((0, 2, 5)), "mask: chunk_starts (0, 2, 5), expected starts below 5"),
    ("write", True, "write: True without a cache"),
    ("cache", ModelState.empty(2, (0,)), "cache: 2 blocks, softmax in [0], expected 2 and [1]"),
]


@pytest.fixture(scope="module")
def bare() -> SanaWM:
    """Without memory: whatever computes anything fails in another way."""
    with torch.device("meta"):
        return SanaWM(TINY)


@pytest.mark.parametrize("name, value, message", FAULTS)
def test_wrong_input_is_refused_before_any_compute(bare: SanaWM, name: str, value: Any, message: str):
    with pytest.raises(ValueError, match=f"^{name}: .*{re.escape(message.removeprefix(f'{name}: '))}"):
        bare(**(GOOD | {name: value}))


def test_good_input_passes_with_and_without_what_may_be_absent():
    network = random_network(TINY, torch.float32)
    for change in ({}, {"timesteps": torch.zeros(B)}, {"frame_valid": torch.ones(B, T), "mask": Mask((0, 4))},
                   dict.fromkeys(("caption_mask", "camera_conditions", "plucker"))):
        velocity = network(**(GOOD | change))
        assert velocity.shape == GOOD["latents"].shape and velocity.isfinite().all()


@pytest.mark.parametrize("change, message", [
    ({"mask": Mask((0, 1))}, "mask: chunk_starts (0, 1) with a cache, expected (0,)"),
    ({"latents": GOOD["latents"][:, :, 2:4, :2], "plucker": None},
     "cache: of 2 streams with 12 tokens a frame, expected 2 with 8"),
    ({"camera_conditions": None}, "camera_conditions: None in frame 2 of a stream that began with a camera"),
])
def test_a_stream_goes_on_as_it_began(change: dict[str, Any], message: str):
    network = random_network(TINY, torch.float32)
    cache = network.new_cache(B)
    network(**frames_of(GOOD, 0, 2), cache=cache, write=True)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}"):
        network(**(frames_of(GOOD, 2, 4) | change), cache=cache)
    assert cache.frame == 2


@pytest.mark.parametrize("shape, message", [
    ((1, 3, 16, 64, 96), "video: 16 frames, expected 8k + 1; cut to 9 or extend to 17"),
    ((1, 3, 17, 60, 96), "video: height 60, expected a multiple of 32; crop to 32"),
    ((1, 3, 17, 64, 100), "video: width 100, expected a multiple of 32; crop to 96"),
])
def test_video_that_has_no_latents_is_refused(shape: tuple[int, ...], message: str):
    with pytest.raises(ValueError, match=re.escape(message)):
        DCTCodec(32).encode(torch.zeros(shape))
