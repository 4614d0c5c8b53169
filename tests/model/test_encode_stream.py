"""Encoding in tiles: the latents of the whole clip, for both codecs, whatever pieces the video comes in."""

import pytest
import torch

from model.dct import DCTCodec
from model.encode_stream import encode_stream
from tests.model.test_vae import tiny_codec, video


@pytest.mark.parametrize("frames", [1, 17, 25, 41, 49])
@pytest.mark.parametrize("lengths", [1, 7, 60])
def test_cosine_latents_of_pieces_are_those_of_the_clip(frames: int, lengths: int) -> None:
    codec, clip = DCTCodec(32), video(frames)
    parts = [*encode_stream(codec, clip.split(lengths, 2), frames)]
    assert torch.allclose(torch.cat(parts, 2), codec.encode(clip), atol=1e-5)


@pytest.mark.parametrize("frames", [9, 17, 25, 33, 41, 49])
def test_tiles_of_the_autoencoder_fade_as_released(frames: int) -> None:
    """Every way the last tiles can come out short: tiles of 25 frames, 16 apart, as 97 and 64."""
    codec = tiny_codec(causal=True)
    codec.vae.tile_sample_min_num_frames, codec.vae.tile_sample_stride_num_frames = 24, 16
    clip = video(frames, 32, 32)
    parts = [*encode_stream(codec, clip.split(10, 2), frames)]
    assert torch.allclose(torch.cat(parts, 2), codec.encode(clip), atol=1e-5)


def test_another_number_of_frames_than_stated_is_refused() -> None:
    with pytest.raises(ValueError, match="17 frames came, 25 were announced"):
        list(encode_stream(DCTCodec(32), video(17).split(8, 2), 25))
    with pytest.raises(ValueError, match="10 frames, expected 8k"):
        next(encode_stream(DCTCodec(32), video(10).split(8, 2), 10))
