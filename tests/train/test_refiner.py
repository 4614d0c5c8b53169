"""The refiner's objective: the line it learns, its reference, its pairs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from model.flow import REFINER_SIGMAS, euler_step
from model.refiner import pose_refining
from tests.train.clips import draws, random_batch, random_refiner
from train.objectives import Member
from train.refiner import RefinerLora, RefinerTrainConfig

FRAMES, START = 5, REFINER_SIGMAS[0]


def objective(**settings) -> RefinerLora:
    return RefinerLora(RefinerTrainConfig(**{"rank": 3, **settings}))


def batch():
    return random_batch(FRAMES, torch.float32)


def test_one_step_with_the_exact_velocity_from_where_refining_starts_lands_on_the_target():
    low, high, noise = torch.randn(3, 2, 4, 3, 2, 2, dtype=torch.float64).unbind(0)
    sigma = torch.tensor(START, dtype=torch.float64)
    x, velocity = pose_refining(low, high, noise, sigma)
    torch.testing.assert_close(x, (1 - START) * low + START * noise)
    torch.testing.assert_close(euler_step(x, velocity, sigma, torch.zeros((), dtype=torch.float64)), high)


def test_every_frame_of_a_clip_is_at_one_level_between_clean_and_the_start():
    given, low = objective(), torch.randn(64, 4, FRAMES, 2, 2)
    high = torch.randn(low.shape)
    posed = given.pose(low, high, torch.ones(64, FRAMES, dtype=torch.bool), torch.Generator().manual_seed(0))
    assert posed.latents.shape == (64, 4, FRAMES - 1, 2, 2), "the reference is no part of the question"
    assert bool((posed.sigma == posed.sigma[:, :1]).all())
    assert float(posed.sigma.min()) > 0 and float(posed.sigma.max()) <= START
    # where the network is at σ, the step σ·v* lands on the target
    landed = posed.latents - posed.sigma[:, None, :, None, None] * posed.target
    torch.testing.assert_close(landed, high[:, :, 1:].double().to(landed), rtol=1e-3, atol=1e-4)


def test_the_reference_is_seen_and_sees_only_itself():
    given, network, clips = objective(), random_refiner(), batch()
    own = torch.Generator().manual_seed(0)
    posed = given.pose(clips.latents, clips.latents, clips.frame_valid, own)

    def predict(sink, latents=posed.latents):
        with torch.no_grad():
            return given.predict(network, replace(posed, latents=latents), sink, clips)

    sink = clips.latents[:, :, :1]
    assert float((predict(sink) - predict(sink + 1)).abs().max()) > 1e-3
    kept: list[torch.Tensor] = []
    hook = network.blocks[1].register_forward_hook(lambda *call: kept.append(call[2][1].key))
    predict(sink)
    predict(sink, posed.latents + 1)
    hook.remove()
    assert torch.equal(kept[0], kept[2]), "the reference's own keys do not depend on the noisy frames"
    assert not torch.equal(kept[1], kept[3])


def test_only_the_adapter_learns_and_the_loss_counts_frames_after_the_reference():
    given, network, clips = objective(), random_refiner(), batch()
    losses = given.loss({"network": Member(network)}, clips, draws(), 0, "network")
    losses.total.backward()
    learnt = [name for name, p in network.named_parameters() if p.grad is not None]
    assert learnt and all("lora_" in name for name in learnt)
    assert len(learnt) == sum("lora_" in name for name, _ in network.named_parameters())
    assert losses.by_sigma is not None and losses.by_sigma[0].shape == (2 * (FRAMES - 1),)
    clips.frame_valid[:, -1] = False
    fewer = given.loss({"network": Member(network)}, clips, draws(), 0, "network")
    assert fewer.by_sigma is not None and fewer.by_sigma[0].shape == (2 * (FRAMES - 2),)


def test_blurred_latents_keep_the_mean_and_lose_detail():
    high = torch.randn(2, 4, FRAMES, 8, 12)
    low = objective(blur=4.0)._blurred(high, torch.Generator().manual_seed(0))
    assert low.shape == high.shape and float(low.std()) < 0.7 * float(high.std())
    flat = torch.ones(1, 2, 3, 8, 12)
    torch.testing.assert_close(objective(blur=4.0)._blurred(flat, torch.Generator()), flat)


def test_stored_latents_of_stage_1_are_found_by_clip_and_checked(tmp_path: Path):
    clips, given = batch(), objective(low=str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"refiner\.low: no .*one\.safetensors"):
        given.loss({"network": Member(random_refiner())}, clips, draws(), 0, "network")
    longer = torch.cat([clips.latents, clips.latents], 2)
    for i, clip in enumerate(clips.clip_ids):
        save_file({"latents": longer[i].half()}, tmp_path / f"{clip}.safetensors")
    torch.testing.assert_close(given._stored(clips.clip_ids, clips.latents), clips.latents.half().float())
    save_file({"latents": longer[0, :, :2].contiguous()}, tmp_path / "one.safetensors")
    with pytest.raises(ValueError, match=r"one\.safetensors: latents of shape .* expected .* or more frames"):
        given._stored(clips.clip_ids, clips.latents)


@pytest.mark.parametrize(("settings", "message"), [
    ({"rank": 0}, r"refiner\.rank=0"), ({"sigma": 1.5}, r"refiner\.sigma=1\.5"), ({"fps": 0.0}, r"fps=0\.0"),
])
def test_settings_that_make_no_sense_are_named(settings: dict, message: str):
    with pytest.raises(ValueError, match=message):
        RefinerTrainConfig(**settings).check()


def test_clips_without_a_frame_after_the_reference_are_refused():
    with pytest.raises(ValueError, match=r"5 latent frames, expected more than refiner\.sink=5"):
        objective(sink=5).loss({"network": Member(random_refiner())}, batch(), draws(), 0, "network")
