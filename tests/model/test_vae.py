"""The LTX-2 codec on a tiny random autoencoder of diffusers' own class: the same numbers, exact streaming."""

from pathlib import Path

import pytest
import torch

from model.codec import load_codec
from model.vae import LTX2Codec

TINY = dict(
    latent_channels=8, block_out_channels=(8, 8, 16, 16), decoder_block_out_channels=(8, 16, 32),
    layers_per_block=(1, 1, 1, 1, 1), decoder_layers_per_block=(1, 1, 1, 1), encoder_causal=True,
    encoder_spatial_padding_mode="zeros", decoder_spatial_padding_mode="reflect",
)


@pytest.fixture(scope="module", params=[True, False], ids=["causal", "looks-ahead"])
def codec(request: pytest.FixtureRequest) -> LTX2Codec:
    return tiny_codec(request.param)


def tiny_codec(causal: bool, **changes: object) -> LTX2Codec:
    from diffusers import AutoencoderKLLTX2Video
    torch.manual_seed(3)
    vae = AutoencoderKLLTX2Video(**{**TINY, "decoder_causal": causal, **changes})
    vae.latents_mean.copy_(torch.randn(8))
    vae.latents_std.copy_(torch.rand(8) + 0.5)
    return LTX2Codec(vae)


def video(frames: int, height: int = 64, width: int = 96) -> torch.Tensor:
    return torch.rand(1, 3, frames, height, width, generator=torch.Generator().manual_seed(4)) * 2 - 1


def test_shapes_and_strides(codec: LTX2Codec) -> None:
    assert (codec.channels, codec.time_stride, codec.space_stride) == (8, 8, 32)
    assert codec.encode(video(1)).shape == (1, 8, 1, 2, 3)
    latents = codec.encode(video(17))
    assert latents.shape == (1, 8, 3, 2, 3)
    assert codec.decode(latents).shape == (1, 3, 17, 64, 96)


def test_latents_are_the_normalised_posterior_mode(codec: LTX2Codec) -> None:
    clip = video(9)
    mode = codec.vae.encode(clip).latent_dist.mode()
    wanted = (mode - codec.vae.latents_mean.view(1, -1, 1, 1, 1)) / codec.vae.latents_std.view(1, -1, 1, 1, 1)
    assert torch.allclose(codec.encode(clip), wanted, atol=1e-6)
    assert torch.allclose(codec.raw(wanted), mode, atol=1e-5)


def test_decode_is_that_of_diffusers(codec: LTX2Codec) -> None:
    latents = torch.randn(2, 8, 4, 2, 2)
    wanted = codec.vae.decode(codec.raw(latents)).sample
    assert torch.allclose(codec.decode(latents), wanted, atol=1e-5)


@pytest.mark.parametrize("lengths", [(1, 1, 1, 1, 1), (3, 2), (1, 4)])
def test_streamed_chunks_are_the_whole_decode(lengths: tuple[int, ...]) -> None:
    codec = tiny_codec(causal=True)
    latents = torch.randn(1, 8, 5, 2, 2, generator=torch.Generator().manual_seed(5))
    whole = codec.vae.decoder(codec.raw(latents), causal=True)
    stream, parts, sizes = codec.open_stream(), [], []
    for chunk in latents.split(lengths, 2):
        parts.append(stream.push(chunk))
        sizes.append(stream.nbytes())
    assert parts[0].shape[2] == 8 * lengths[0] - 7
    assert torch.allclose(torch.cat(parts, 2), whole, atol=1e-5)
    assert len(set(sizes)) == 1 and sizes[0] > 0


def test_a_decoder_that_looks_ahead_does_not_stream() -> None:
    with pytest.raises(ValueError, match=r"looks ahead.*Decode whole, or load the causal one"):
        tiny_codec(causal=False).open_stream()


def test_long_clips_are_tiled_as_released() -> None:
    """Tiles of 96 frames every 64; smaller here, by the same ratio, to stay quick."""
    codec = tiny_codec(causal=False)
    assert (codec.vae.tile_sample_min_num_frames, codec.vae.tile_sample_stride_num_frames) == (96, 64)
    codec.vae.tile_sample_min_num_frames, codec.vae.tile_sample_stride_num_frames = 24, 16
    latents = codec.encode(video(49, 32, 32))
    assert latents.shape == (1, 8, 7, 1, 1)
    first = codec.vae.encoder(video(49, 32, 32)[:, :, :25])[:, :8, :3]
    assert torch.allclose(codec.raw(latents)[:, :, :3], first, atol=1e-5)
    assert codec.decode(torch.randn(1, 8, 7, 2, 2)).shape[2] == 49


def test_the_fingerprint_is_of_the_latent_space() -> None:
    """The decoder and the stored type do not count; the encoder and the statistics do."""
    causal, other = tiny_codec(causal=True), tiny_codec(causal=False)
    assert causal.fingerprint == other.fingerprint
    assert LTX2Codec(tiny_codec(causal=True).vae.bfloat16()).fingerprint == causal.fingerprint
    other.vae.latents_std[2] += 0.5
    assert LTX2Codec(other.vae).fingerprint != causal.fingerprint


def test_saved_weights_load(tmp_path: Path) -> None:
    codec = tiny_codec(causal=True)
    codec.vae.save_pretrained(tmp_path / "vae")
    for place in (tmp_path, tmp_path / "vae"):
        loaded = load_codec(str(place))
        assert loaded.fingerprint == codec.fingerprint
        assert torch.allclose(loaded.encode(video(9)), codec.encode(video(9)), atol=1e-6)


def test_absent_weights_and_wrong_videos_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="LTX-2 VAE: there is no /nowhere/vae, and it is no hub"):
        LTX2Codec.from_pretrained("/nowhere/vae")
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
        LTX2Codec.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="10 frames, expected 8k"):
        tiny_codec(causal=True).encode(video(10))
    with pytest.raises(ValueError, match="takes timesteps, noise"):
        tiny_codec(causal=True, decoder_inject_noise=(True, False, False, False))
