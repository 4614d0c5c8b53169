"""Flow matching asks what the paper says, of the frames it says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from model.flow import noise_index, training_sigmas
from model.mask import Mask
from tests.train.clips import random_batch, random_member
from train.objectives import Draws, FlowConfig, FlowMatching, Losses, Member, draw_index, happens

FRAMES = 7


def draws(seed: int = 0) -> Draws:
    return Draws(torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 100))


def ask(config: FlowConfig, member: Member, batch=None, seed: int = 0) -> Losses:
    batch = random_batch(FRAMES) if batch is None else batch
    return FlowMatching(config).loss({"network": member}, batch, draws(seed), 0, "network")


def test_the_loss_is_the_mean_squared_error_of_the_velocity() -> None:
    """Built again from the equations, for a clip made whole and one that is given its first frame."""
    batch, member = random_batch(FRAMES), random_member()
    clean = batch.latents
    for given in (0.0, 1.0):
        found = ask(FlowConfig(first_frame=given, caption_dropout=0.0), member)
        own = draws().own
        index = noise_index(torch.randn(2, generator=own))
        noise = torch.randn(clean.shape, generator=own).to(clean)
        sigma = training_sigmas()[index][:, None].repeat(1, FRAMES)
        sigma[:, 0] *= 1 - given
        level = sigma[:, None, :, None, None]
        predicted = member.module((1 - level) * clean + level * noise, (1000 * sigma).floor(),
                                  batch.caption_states, batch.caption_mask, batch.camera_conditions,
                                  batch.plucker)
        counted = slice(int(given), None)
        error = (predicted - (noise - clean)).square()[:, :, counted].mean()
        torch.testing.assert_close(found.total, error, rtol=1e-6, atol=0)
        assert len(found.by_sigma[0]) == 2 * (FRAMES - given)
        torch.testing.assert_close(found.by_sigma[1].mean(), error, rtol=1e-6, atol=0)


def test_padding_is_told_and_does_not_count() -> None:
    batch, member = random_batch(FRAMES), random_member()
    batch.frame_valid[1, 4:] = False
    other = replace(batch, latents=batch.latents.clone())
    other.latents[1, :, 4:] = 100.0
    config = FlowConfig(first_frame=1.0)
    assert torch.equal(ask(config, member, batch).total, ask(config, member, other).total)
    assert len(ask(config, member, batch).by_sigma[0]) == 2 * (FRAMES - 1) - 3


def test_a_clip_that_could_not_be_read_is_in_no_mean() -> None:
    batch, member = random_batch(FRAMES), random_member()
    batch.frame_valid[1] = False
    batch.latents[1] = 0
    found = ask(FlowConfig(first_frame=1.0, caption_dropout=0.0), member, batch)
    assert bool(found.total.isfinite()) and len(found.by_sigma[0]) == FRAMES - 1
    torch.testing.assert_close(found.total, found.by_sigma[1].mean())


def test_a_dropped_caption_becomes_the_null_caption_and_keeps_its_mask() -> None:
    member = random_member()
    null = member.module.y_embedder.y_embedding
    batch = random_batch(FRAMES)
    nulled = replace(batch, caption_states=null.expand_as(batch.caption_states))
    dropped = ask(FlowConfig(caption_dropout=1.0), member, batch)
    assert torch.equal(dropped.total, ask(FlowConfig(caption_dropout=0.0), member, nulled).total)
    assert not torch.equal(dropped.total, ask(FlowConfig(caption_dropout=0.0), member, batch).total)
    remasked = replace(batch, caption_mask=torch.ones_like(batch.caption_mask))
    assert not torch.equal(dropped.total, ask(FlowConfig(caption_dropout=1.0), member, remasked).total)


def test_dropping_the_camera_skips_its_branch_and_keeps_the_rays() -> None:
    batch, member = random_batch(FRAMES), random_member()
    full, dropped, absent = (ask(config, member, batch) for config in (
        FlowConfig(), FlowConfig(camera_dropout=1.0), FlowConfig(camera=False)))
    unposed = replace(batch, camera_conditions=None)
    assert torch.equal(dropped.total, ask(FlowConfig(), member, unposed).total)
    assert len({found.total.item() for found in (full, dropped, absent)}) == 3


def test_how_often_things_happen() -> None:
    """0.9 of batches given their first frame; draws do not move when a probability does."""
    shared = draws().shared
    assert 880 <= sum(happens(0.9, shared) for _ in range(1000)) <= 920
    one, other = draws().shared, draws().shared
    happens(0.0, one), happens(1.0, other)
    assert happens(0.5, one) == happens(0.5, other)


@pytest.mark.parametrize("frames", [7, 11])
def test_frames_of_a_chunk_share_a_level(frames: int) -> None:
    mask = Mask.chunk_causal(frames, 3)
    index = draw_index(50, frames, mask, FlowConfig(chunk=3), draws().own)
    assert index.shape == (50, frames)
    for start, end in mask.bounds(frames):
        assert (index[:, start:end] == index[:, start:start + 1]).all()
    assert (index.diff(dim=1) >= 0).all() and (index.diff(dim=1) > 0).any()


def test_later_chunks_change_nothing_for_earlier_ones() -> None:
    """With chunks, what is lost on a frame of the first chunk does not depend on the last one's latents."""
    member, batch = random_member(), random_batch(FRAMES)
    other = replace(batch, latents=batch.latents.clone())
    other.latents[:, :, 4:] += 1.0
    config = FlowConfig(chunk=3, first_frame=0.0)
    one, two = ask(config, member, batch), ask(config, member, other)
    same = one.by_sigma[1].view(2, FRAMES), two.by_sigma[1].view(2, FRAMES)
    torch.testing.assert_close(same[0][:, :4], same[1][:, :4])
    assert not torch.allclose(same[0][:, 4:], same[1][:, 4:])
