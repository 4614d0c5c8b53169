from __future__ import annotations

import pickle

import torch

from dataset.batch import Batch


def a_batch() -> Batch:
    return Batch(
        clip_ids=["a", "b"], sources=["s", "s"], captions=["", "x"], size=(64, 96),
        camera_conditions=torch.randn(2, 3, 20), plucker=torch.randn(2, 48, 3, 2, 3),
        frame_valid=torch.tensor([[True] * 3, [True, True, False]]),
        c2w=torch.randn(2, 17, 4, 4, dtype=torch.float64),
        intrinsics=torch.randn(2, 17, 4, dtype=torch.float64),
        latents=torch.randn(2, 8, 3, 2, 3).half(), caption_states=torch.randn(2, 5, 7).half(),
        caption_mask=torch.ones(2, 5, dtype=torch.bool))


def test_moving_a_batch_gives_the_network_one_type_and_leaves_geometry_and_masks():
    batch = a_batch()
    for dtype, expected in ((None, torch.float32), (torch.bfloat16, torch.bfloat16)):
        moved = batch.to("cpu", dtype)
        assert moved.latents is not None and moved.caption_states is not None
        for tensor in (moved.latents, moved.caption_states, moved.plucker, moved.camera_conditions):
            assert tensor.dtype == expected
        assert moved.c2w.dtype == moved.intrinsics.dtype == torch.float64
        assert moved.frame_valid.dtype == torch.bool and moved.video is None
        assert (moved.clip_ids, moved.captions, moved.size) == (batch.clip_ids, batch.captions, batch.size)
    assert torch.equal(batch.to("cpu").latents, batch.latents.float())
    assert batch.latents.dtype == torch.float16


def test_a_batch_knows_its_length_and_its_bytes_and_survives_a_journey():
    batch = a_batch()
    assert len(batch) == 2
    assert batch.nbytes() == sum(t.numel() * t.element_size() for t in batch._tensors().values())
    again = pickle.loads(pickle.dumps(batch))
    assert all(torch.equal(tensor, getattr(again, name)) for name, tensor in batch._tensors().items())
