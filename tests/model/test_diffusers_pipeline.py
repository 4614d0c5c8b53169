"""Our worlds and diffusers' `SanaWMPipeline`: each opens what the other saved, and from the same noise the
two make the same video. Tiny random weights; no softmax blocks, which theirs computes in bfloat16.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from infer.camera import CameraConfig
from infer.diffusers import from_pipeline, save_pipeline, to_pipeline
from infer.noise import frame_noise
from infer.pipeline import WorldModel
from infer.sampler import Kind, SamplerConfig
from model.config import DiTConfig
from model.dct import DCTCodec
from model.dit import SanaWM
from model.text import GemmaText, HashText, read_chi_prompt
from model.vae import LTX2Codec

CONFIG = DiTConfig(depth=2, width=48, heads=3, latent_channels=8, caption_channels=24, caption_length=300,
                   mlp_ratio=2.0, softmax_blocks=(), plucker_channels=48, camera_clamp="all")
VAE = dict(latent_channels=8, block_out_channels=(8, 8, 16, 16), decoder_block_out_channels=(8, 16, 32),
           layers_per_block=(1, 1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, 1), encoder_causal=True,
           encoder_spatial_padding_mode="zeros", decoder_spatial_padding_mode="reflect",
           decoder_causal=False)
ASKED = dict(prompt="a room with a dog", size=(64, 96), intrinsics=[180.0, 175.0, 98.0, 61.0], seed=3)
STEPS = 4


@pytest.fixture(scope="module")
def world(make_tokenizer: Callable[[str], Any]) -> WorldModel:
    from diffusers import AutoencoderKLLTX2Video
    from transformers import Gemma2Config, Gemma2Model

    torch.manual_seed(0)
    network = SanaWM(CONFIG)
    for name, tensor in network.state_dict().items():
        spread = tensor[0].numel() ** -0.5 if tensor.ndim > 1 else 0.3
        tensor.normal_(1.0 if "norm" in name and name.endswith("weight") else 0.0, spread)
    vae = AutoencoderKLLTX2Video(**VAE)
    vae.latents_mean.copy_(torch.randn(8))
    vae.latents_std.copy_(torch.rand(8) + 0.5)
    gemma = Gemma2Model(Gemma2Config(vocab_size=512, hidden_size=24, intermediate_size=32, head_dim=12,
                                     num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1))
    tokenizer = make_tokenizer(read_chi_prompt() + " a room with a dog and nothing dark")
    return WorldModel(network.eval().requires_grad_(False), LTX2Codec(vae),
                      GemmaText(gemma, tokenizer, read_chi_prompt()), SamplerConfig(steps=STEPS))


@pytest.fixture(scope="module")
def saved(world: WorldModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipelines") / "ours"
    save_pipeline(world, folder)
    return folder


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of another size and shape than the video, so that both must resize and crop."""
    from PIL import Image

    y, x = np.mgrid[:120, :200] / 40.0
    pixels = np.stack([np.sin(x) + 1, np.cos(x + y) + 1, np.sin(y) + 1], -1) * 127
    path = tmp_path_factory.mktemp("pictures") / "room.png"
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def test_the_same_noise_gives_the_same_video(
    world: WorldModel, saved: Path, picture: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Through both from picture, words and keys to pixels: only their generator is made to draw our noise.
    Their keys are those of the first release."""
    from diffusers import SanaWMPipeline
    from diffusers.pipelines.sana_wm import pipeline_sana_wm
    from PIL import Image

    action, keys = "w-10,dw-8,li-14", CameraConfig(scheme="sana-wm-1")
    ours = world(picture, camera=action, path=keys, negative="nothing dark", **ASKED)
    pipeline = SanaWMPipeline.from_pretrained(saved)
    pipeline.set_progress_bar_config(disable=True)
    monkeypatch.setattr(pipeline_sana_wm, "randn_tensor",
                        lambda shape, **_: frame_noise(3, range(shape[2]), (shape[1], *shape[3:])))
    theirs = pipeline(Image.open(picture), ASKED["prompt"], action=action, intrinsics=ASKED["intrinsics"],
                      height=64, width=96, num_inference_steps=STEPS, guidance_scale=5.0,
                      negative_prompt="nothing dark")
    assert ours.frames.shape == theirs.frames.shape == (33, 64, 96, 3)
    assert ours.frames[1:].std() > 20
    np.testing.assert_allclose(ours.c2w, theirs.c2w, atol=1e-5)
    assert np.abs(ours.frames / 255 - theirs.frames).max() < 1.5 / 255


def test_what_ours_saves_opens_in_both_and_is_the_same_world(
    world: WorldModel, saved: Path, picture: Path,
) -> None:
    again = WorldModel.from_pretrained(saved, sampler=world.sampler)
    assert again.network.config == world.network.config
    for name, tensor in world.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], tensor), name
    assert (again.codec.fingerprint, again.text.fingerprint) == (world.codec.fingerprint,
                                                                 world.text.fingerprint)
    np.testing.assert_array_equal(again(picture, camera="d-8", **ASKED).frames,
                                  world(picture, camera="d-8", **ASKED).frames)


def test_their_pipeline_becomes_a_world(world: WorldModel, picture: Path) -> None:
    pipeline = to_pipeline(world)
    theirs = from_pipeline(pipeline, world.sampler)
    np.testing.assert_array_equal(theirs(picture, camera="d-8", **ASKED).frames,
                                  world(picture, camera="d-8", **ASKED).frames)
    assert from_pipeline(pipeline).sampler == SamplerConfig(shift=world.sampler.shift)


def test_a_folder_that_theirs_saved_opens_here(world: WorldModel, tmp_path: Path) -> None:
    to_pipeline(world).save_pretrained(tmp_path / "theirs")
    for source in (tmp_path / "theirs", tmp_path / "theirs" / "transformer"):
        network = SanaWM.from_pretrained(source)
        assert network.config == world.network.config
        assert torch.equal(network.x_embedder.proj.weight, world.network.x_embedder.proj.weight)


def test_parts_that_theirs_does_not_have_are_refused_by_name(world: WorldModel) -> None:
    streaming = SamplerConfig(kind=Kind.distilled)
    assert world.codec.channels == 8
    for other, says in ((replace(world, sampler=streaming), "sampler.kind=distilled"),
                        (replace(world, text=HashText(24, 300)), "with Gemma-2 only"),
                        (replace(world, codec=DCTCodec(32, 8)), "LTX-2's autoencoder only")):
        with pytest.raises(ValueError, match=says):
            to_pipeline(other)
