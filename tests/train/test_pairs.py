"""Pairs for the refiner: the clip's own scene with the marks of a network, made once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from model.config import DiTConfig
from model.flow import LEVELS
from model.rollout import Guidance
from tests.model.networks import random_network
from tests.train.clips import random_batch
from tests.train.conftest import FRAMES
from train.pairs import PairsConfig, make_pairs, remake


@pytest.fixture
def config(latents: Path, tmp_path: Path) -> PairsConfig:
    from dataset.latents import latent_sets, latent_store, read_set
    from dataset.store import Store
    store = Store(latents)
    space = read_set(latent_store(store, latent_sets(store)[0]))
    sizes = DiTConfig(depth=2, width=24, heads=3, latent_channels=space.channels, softmax_blocks=(1,),
                      caption_channels=space.caption_channels, caption_length=space.caption_tokens)
    random_network(sizes, torch.float32).save_pretrained(tmp_path / "network")
    config = PairsConfig(start=str(tmp_path / "network"), out=str(tmp_path / "pairs"), steps=3)
    config.data.path, config.data.frames, config.data.workers = str(latents), [FRAMES], 0
    return config


def test_every_clip_has_its_pair_once(config: PairsConfig) -> None:
    assert make_pairs(config) == 9
    files = sorted(Path(config.out).glob("*.safetensors"))
    before = load_file(files[0])["latents"]
    assert len(files) == 9 and before.dtype == torch.float16 and bool(before.isfinite().all())
    files[0].unlink()
    assert make_pairs(config) == 1
    assert torch.equal(load_file(files[0])["latents"], before), "made again, it is the same"


@pytest.mark.parametrize("chunk", [None, 1])
def test_a_network_that_knows_the_clip_gives_it_back(chunk: int | None) -> None:
    batch = random_batch(3, torch.float32)
    batch.clip_ids, batch.latents = batch.clip_ids[:1], batch.latents[:1]

    def exact(latents, timesteps, *others, mask):
        sigma = (timesteps / LEVELS).clamp(min=1e-6)[:, None, :, None, None]
        return (latents - batch.latents[:, :, : latents.shape[2]]) / sigma

    away = Guidance(batch.caption_states[:1], batch.caption_mask[:1], 1.0)
    made = remake(exact, batch, away, PairsConfig(start="", out="", sigma=0.6, steps=4, chunk=chunk))
    torch.testing.assert_close(made, batch.latents, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("settings", "message"), [
    ({"sigma": 1.0}, r"sigma=1\.0"), ({"steps": 0}, "steps=0"), ({"device": "tpu"}, "device=tpu")])
def test_settings_that_make_no_sense_are_named(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PairsConfig(start="a", out="b", **settings).check()
