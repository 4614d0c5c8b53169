"""The cosine codec: its contract, its exactness but for what it cuts off, and its pictures of real video."""

import math
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from model.codec import load_codec
from model.dct import STRIDES, DCTCodec, allocate, cosine_basis

SHAPES = [(32, 128), (16, 48), (8, 20)]


def random_video(frames: int, height: int, width: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(2, 3, frames, height, width, dtype=dtype, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("stride", "channels"), SHAPES)
@pytest.mark.parametrize("frames", [1, 9, 25])
def test_shapes_follow_the_contract(stride: int, channels: int, frames: int) -> None:
    codec = DCTCodec(stride, channels)
    video = random_video(frames, 2 * stride, 3 * stride)
    latents = codec.encode(video)
    assert latents.shape == (2, channels, (frames - 1) // 8 + 1, 2, 3)
    assert codec.decode(latents).shape == video.shape
    assert codec.latent_mean.shape == codec.latent_std.shape == (channels, 2)


@pytest.mark.parametrize("stride", STRIDES)
def test_the_basis_is_orthonormal(stride: int) -> None:
    for basis in (cosine_basis(stride), cosine_basis(8), DCTCodec(stride).first.mix.double()):
        assert torch.allclose(basis @ basis.T, torch.eye(len(basis), dtype=torch.float64), atol=1e-7)


@pytest.mark.parametrize(("stride", "channels"), SHAPES)
def test_the_error_is_exactly_the_energy_cut_off(stride: int, channels: int) -> None:
    """Decoding is the adjoint of encoding: what is decoded encodes to the same latents, and the error is
    orthogonal to the picture."""
    codec = DCTCodec(stride, channels)
    video = random_video(17, stride, 2 * stride, torch.float64)
    latents = codec.encode(video)
    decoded = codec.decode(latents)
    assert torch.allclose(codec.encode(decoded), latents, atol=1e-5)
    raw = torch.cat([latents[:, :, :1] * codec.latent_std[:, 0, None, None, None],
                     latents[:, :, 1:] * codec.latent_std[:, 1, None, None, None]], 2)
    lost = video.square().sum() - raw.square().sum()
    assert torch.allclose((decoded - video).square().sum(), lost, rtol=1e-6)


def test_with_every_coefficient_the_first_frame_is_exact() -> None:
    codec = DCTCodec(8, 192)
    video = random_video(1, 16, 8)
    assert torch.allclose(codec.decode(codec.encode(video)), video, atol=1e-5)


def test_chunks_decode_to_the_frames_of_the_whole() -> None:
    codec = DCTCodec(16)
    latents = torch.randn(1, 128, 8, 2, 3, generator=torch.Generator().manual_seed(2))
    whole, stream = codec.decode(latents), codec.open_stream()
    parts = [stream.push(chunk) for chunk in latents.split([1, 4, 3], 2)]
    assert [part.shape[2] for part in parts] == [1, 32, 24]
    assert torch.equal(torch.cat(parts, 2), whole)
    assert stream.nbytes() == 0


def test_latent_frames_are_independent_of_each_other() -> None:
    codec = DCTCodec(32, 24)
    latents = torch.randn(1, 24, 4, 1, 2, generator=torch.Generator().manual_seed(3))
    changed = latents.clone()
    changed[:, :, 2] += 1
    differs = (codec.decode(latents) != codec.decode(changed)).flatten(3).any(-1).any(1)[0]
    assert differs.nonzero().flatten().tolist() == list(range(9, 17))


def test_a_still_scene_has_the_same_latents_in_every_frame() -> None:
    """The channels that a first frame shares with a group of 8 mean the same picture in both."""
    group, first = allocate(32, 128)
    shared = [channel for channel, (g, f) in enumerate(zip(group, first)) if g == f]
    assert len(shared) == sum(t == 0 for _, t, _, _ in group)
    assert len(set(group)) == len(set(first)) == 128
    codec = DCTCodec(32)
    picture = random_video(1, 32, 32).expand(-1, -1, 9, -1, -1)
    latents = codec.encode(picture) * codec.latent_std.T[:, :, None, None].unsqueeze(0).transpose(1, 2)
    ratio = latents[:, shared, 1] / latents[:, shared, 0]
    assert torch.allclose(ratio, torch.full_like(ratio, math.sqrt(8)), rtol=1e-3)
    moving = [channel for channel, frequency in enumerate(group) if frequency[1]]
    assert latents[:, moving, 1].abs().max() < 1e-4


@pytest.mark.parametrize("stride", STRIDES)
def test_luma_has_most_channels(stride: int) -> None:
    group, first = allocate(stride, 128)
    assert sum(frequency[0] == 0 for frequency in group) > 100
    assert sum(frequency[0] == 0 for frequency in first) >= 64
    assert {frequency[0] for frequency in group} == {0, 1, 2}


def test_gradients_pass_both_ways() -> None:
    codec = DCTCodec(8, 5)
    video = random_video(1, 8, 8, torch.float64)[:1].requires_grad_()
    assert torch.autograd.gradcheck(codec.encode, video)
    latents = torch.randn(1, 5, 2, 1, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(codec.decode, latents)


def test_fingerprints_tell_latent_spaces_apart() -> None:
    codecs = [DCTCodec(32), DCTCodec(16), DCTCodec(8), DCTCodec(8, 20)]
    assert len({codec.fingerprint for codec in codecs}) == 4
    assert load_codec("dct16").fingerprint == codecs[1].fingerprint
    codecs[0].check_fingerprint(DCTCodec(32).fingerprint, "shard 0")
    with pytest.raises(ValueError, match=r"shard 7: latents of the codec dct-s16.*this one is dct-s32"):
        codecs[0].check_fingerprint(codecs[1].fingerprint, "shard 7")


@pytest.mark.parametrize(("shape", "words"), [
    ((1, 3, 8, 32, 32), "8 frames, expected 8k \\+ 1; cut to 1 or extend to 9"),
    ((1, 3, 9, 40, 32), "height 40, expected a multiple of 32; crop to 32"),
    ((1, 3, 9, 64, 31), "width 31"),
    ((1, 1, 9, 32, 32), "expected \\(batch, 3, frames"),
    ((3, 9, 32, 32), "expected \\(batch, 3, frames"),
])
def test_a_video_that_cannot_be_encoded_is_refused(shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DCTCodec(32).encode(torch.zeros(shape))


def test_other_mistakes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"torch\.uint8, expected floating point"):
        DCTCodec(32).encode(torch.zeros(1, 3, 1, 32, 32, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"shape \(1, 16, 2, 1, 1\), expected \(batch, 128"):
        DCTCodec(32).decode(torch.zeros(1, 16, 2, 1, 1))
    with pytest.raises(ValueError, match="space_stride: 24"):
        DCTCodec(24)
    with pytest.raises(ValueError, match="channels: 200, expected 1 to 192"):
        DCTCodec(8, 200)


def read_video(path: Path, frames: int, multiple: int) -> torch.Tensor:
    """The first frames at their own size, cropped to whole blocks, in [-1, 1]."""
    with av.open(str(path)) as container:
        decoded = zip(container.decode(video=0), range(frames))
        pictures = [frame.to_ndarray(format="rgb24") for frame, _ in decoded]
    height, width = (size // multiple * multiple for size in pictures[0].shape[:2])
    video = torch.from_numpy(np.stack(pictures)[:, :height, :width])
    return video.permute(3, 0, 1, 2)[None] / 127.5 - 1


def psnr(codec: DCTCodec, video: torch.Tensor) -> float:
    error = (codec.decode(codec.encode(video)).clamp(-1, 1) - video).square().mean()
    return 10 * math.log10(4 / error)


@pytest.mark.shared
@pytest.mark.parametrize("clip", ["videos/corridor_walk.mp4", "videos/highway_drive.mp4", "cuts/bikes.mp4",
                                  "poses/kitti06/video.mp4", "poses/tote/video.mp4", "poses/fox/video.mp4"])
def test_real_video_is_recognisable_and_its_latents_of_unit_size(shared_data: Path, clip: str) -> None:
    video, codec = read_video(shared_data / clip, 17, 32), DCTCodec(32)
    assert psnr(codec, video) > 22
    latents = codec.encode(video)
    assert 0.5 < latents.std() < 2
    assert latents.mean().abs() < 0.3


@pytest.mark.shared
def test_smaller_strides_show_more(shared_data: Path) -> None:
    """On the hardest clip: a car drives at 40 km/h, filmed ten times a second."""
    video = read_video(shared_data / "poses/kitti06/video.mp4", 17, 32)
    assert psnr(DCTCodec(16), video) > 25
    assert psnr(DCTCodec(8), video) > 30
