"""Noise depends on seed and frame alone."""

import numpy as np
import pytest
import torch

from infer.noise import Use, check_seed, frame_noise

SHAPE = (5, 3, 4)


def test_a_longer_video_begins_with_the_noise_of_the_shorter_one() -> None:
    long = frame_noise(7, range(0, 11), SHAPE)
    assert torch.equal(long[:, :, :4], frame_noise(7, range(0, 4), SHAPE))


def test_chunks_put_together_are_the_whole() -> None:
    parts = [frame_noise(7, range(a, b), SHAPE) for a, b in ((0, 4), (4, 7), (7, 11))]
    assert torch.equal(torch.cat(parts, 2), frame_noise(7, range(0, 11), SHAPE))


def test_it_is_normal_and_differs_between_seeds_and_frames() -> None:
    a, b = (frame_noise(seed, range(0, 30), (8, 16, 16)) for seed in (0, 1))
    assert abs(float(a.mean())) < 0.01
    assert abs(float(a.std()) - 1) < 0.01
    frames = torch.cat([a, b], 2)[0].transpose(0, 1).flatten(1).numpy()
    assert np.abs(np.corrcoef(frames) - np.eye(60)).max() < 0.12


def test_the_refiner_draws_other_noise_for_every_frame_and_the_same_however_it_is_cut() -> None:
    whole = frame_noise(3, range(1, 7), SHAPE, Use.REFINER)
    parts = [frame_noise(3, frames, SHAPE, Use.REFINER) for frames in (range(1, 4), range(4, 7))]
    assert torch.equal(torch.cat(parts, 2), whole)
    assert (whole - frame_noise(3, range(1, 7), SHAPE)).abs().min() > 0


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_no_generator_takes_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match=f"seed={seed}, allowed 0 to"):
        check_seed(seed)
