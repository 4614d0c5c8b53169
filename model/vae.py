"""The LTX-2 video autoencoder of the release, on diffusers' AutoencoderKLLTX2Video: 128 channels, strides
8/32/32, latents normalised per channel. Long clips pass in overlapping tiles of time as released; where the
decoder is causal they are decoded chunk by chunk instead, exactly.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from model.codec import Codec, DecodeStream, Tiling
from model.hub import fetch

if TYPE_CHECKING:
    from diffusers.models.autoencoders.autoencoder_kl_ltx2 import AutoencoderKLLTX2Video

RELEASED = "Efficient-Large-Model/SANA-WM_bidirectional"
RELEASED_CAUSAL = "Efficient-Large-Model/SANA-WM_streaming/ltx2_causal_vae"
"""The same latent space, with a decoder that never looks ahead."""
TILE_FRAMES = 96
TILE_STRIDE = 64
_PARTS = {"mean": "latents_mean", "std": "latents_std",
          "in": "encoder.conv_in.conv.weight", "out": "encoder.conv_out.conv.weight"}
"""Tensors that tell one latent space from another; the decoder may differ."""


class LTX2Codec(Codec):
    """Latents are the mode of the posterior. The weights are frozen and keep the type they were loaded in;
    latents and video come out as float32."""

    def __init__(self, vae: AutoencoderKLLTX2Video) -> None:
        super().__init__()
        config: Any = vae.config
        if config.timestep_conditioning or _any(config.decoder_inject_noise) or config.patch_size_t != 1:
            raise ValueError("LTX-2 VAE: its decoder takes timesteps, noise or patches of time, which the "
                             "released one does not. Load the release.")
        self.channels = config.latent_channels
        self.time_stride, self.space_stride = _strides(config)
        # diffusers counts every block for both ratios, and takes its tiles from them
        vae.temporal_compression_ratio, vae.spatial_compression_ratio = self.time_stride, self.space_stride
        vae.use_framewise_encoding = vae.use_framewise_decoding = True
        vae.tile_sample_min_num_frames, vae.tile_sample_stride_num_frames = TILE_FRAMES, TILE_STRIDE
        self.vae = vae.eval().requires_grad_(False)
        mean, std = vae.latents_mean.float(), vae.latents_std.float() / config.scaling_factor
        self.register_buffer("latent_mean", mean[:, None].repeat(1, 2), persistent=False)
        self.register_buffer("latent_std", std[:, None].repeat(1, 2), persistent=False)
        self.fingerprint = f"ltx2-s{self.space_stride}-c{self.channels}-{_digest(vae)}"

    @classmethod
    def from_pretrained(
        cls, source: str | Path = RELEASED, device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.bfloat16,
    ) -> LTX2Codec:
        """From a folder or hub repository that is, or holds as `vae`, what diffusers stored."""
        folder = fetch(source, "vae", "LTX-2 VAE")
        if not (folder / "config.json").is_file():
            raise FileNotFoundError(f"LTX-2 VAE: {folder} holds no config.json, expected the folder that "
                                    "diffusers stored the VAE in, or the one above with it as `vae`")
        from diffusers import AutoencoderKLLTX2Video
        return cls(AutoencoderKLLTX2Video.from_pretrained(folder, torch_dtype=dtype)).to(device)

    @property
    def is_causal(self) -> bool:
        """Whether decoded frames depend on no later latents."""
        return bool(self.vae.decoder.is_causal)

    @property
    def tiling(self) -> Tiling:
        return Tiling(self.vae.tile_sample_min_num_frames, self.vae.tile_sample_stride_num_frames)

    def encode(self, video: Tensor) -> Tensor:
        self.check_video(video)
        return self._normalise(self.vae.encode(video.to(self.vae.dtype)).latent_dist.mode())

    def encode_tile(self, video: Tensor) -> Tensor:
        moments = self.vae.encoder(video.to(self.vae.dtype))
        return self._normalise(moments[:, :self.channels])                   # the mean, then log variances

    def decode(self, latents: Tensor) -> Tensor:
        self.check_latents(latents)
        if self.is_causal:
            stream = self.open_stream()
            chunks = latents.split(TILE_STRIDE // self.time_stride, 2)
            return torch.cat([stream.push(chunk) for chunk in chunks], 2)
        return self.vae.decode(self.raw(latents), return_dict=False)[0].float()

    def open_stream(self) -> DecodeStream:
        if not self.is_causal:
            raise ValueError("LTX-2 VAE: its decoder looks ahead, so no frame is final before the clip is. "
                             f"Decode whole, or load the causal one, {RELEASED_CAUSAL}.")
        return _Stream(self)

    def raw(self, latents: Tensor) -> Tensor:
        """Latents as the autoencoder has them, of its type."""
        scaled = latents.float() * self._spread(self.latent_std) + self._spread(self.latent_mean)
        return scaled.to(self.vae.dtype)

    def _normalise(self, raw: Tensor) -> Tensor:
        return (raw.float() - self._spread(self.latent_mean)) / self._spread(self.latent_std)

    def _spread(self, statistic: Tensor) -> Tensor:
        return statistic[:, :1, None, None].float()


class _Stream(DecodeStream):
    """Runs the decoder's modules in their order, each causal convolution seeing the last frames of the chunk
    before where the whole decode sees them, and copies of the first frame at the start."""

    def __init__(self, codec: LTX2Codec) -> None:
        self.codec = codec
        self.tails: dict[nn.Module, Tensor] = {}

    def push(self, latents: Tensor) -> Tensor:
        self.codec.check_latents(latents)
        decoder: Any = self.codec.vae.decoder
        first = not self.tails
        x = self._convolve(decoder.conv_in, self.codec.raw(latents))
        for block in decoder.mid_block.resnets:
            x = self._residual(block, x)
        for up in decoder.up_blocks:
            if up.conv_in is not None:
                x = self._residual(up.conv_in, x)
            for upsampler in up.upsamplers or ():
                x = self._upsample(upsampler, x, first)
            for block in up.resnets:
                x = self._residual(block, x)
        x = self._convolve(decoder.conv_out, decoder.conv_act(decoder.norm_out(x)))
        p = decoder.patch_size
        x = x.unflatten(1, (-1, p, p)).permute(0, 1, 4, 5, 3, 6, 2)          # (B, 3, F, H, p, W, p)
        return x.flatten(5, 6).flatten(3, 4).float()

    def nbytes(self) -> int:
        return sum(tail.nbytes for tail in self.tails.values())

    def _convolve(self, convolution: Any, x: Tensor) -> Tensor:
        seen = convolution.kernel_size[0] - 1
        tail = self.tails.get(convolution)
        x = torch.cat([x[:, :, :1].expand(-1, -1, seen, -1, -1) if tail is None else tail, x], 2)
        self.tails[convolution] = x[:, :, x.shape[2] - seen:].clone()
        return convolution.conv(x)

    def _residual(self, block: Any, x: Tensor) -> Tensor:
        y = self._convolve(block.conv1, block.nonlinearity(block.norm1(x)))
        y = self._convolve(block.conv2, block.nonlinearity(block.norm2(y)))
        if block.norm3 is not None:
            x = block.norm3(x.movedim(1, -1)).movedim(-1, 1)
        return y + (x if block.conv_shortcut is None else block.conv_shortcut(x))

    def _upsample(self, upsampler: Any, x: Tensor, first: bool) -> Tensor:
        y = _spread_channels(self._convolve(upsampler.conv, x), upsampler.stride)
        if upsampler.residual:
            still = _spread_channels(x, upsampler.stride)
            y = y + still.repeat(1, y.shape[1] // still.shape[1], 1, 1, 1)
        return y[:, :, upsampler.stride[0] - 1:] if first else y


def _spread_channels(x: Tensor, stride: tuple[int, int, int]) -> Tensor:
    """(B, C·t·h·w, T, H, W) to (B, C, T·t, H·h, W·w)."""
    x = x.unflatten(1, (-1, *stride)).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.flatten(6, 7).flatten(4, 5).flatten(2, 3)


def _strides(config: dict) -> tuple[int, int]:
    """Strides in time and space that the encoder's blocks multiply up to."""
    kinds, scaling = config["downsample_type"], config["spatio_temporal_scaling"]
    scaling = [scaling] * len(kinds) if isinstance(scaling, bool) else scaling
    scaled = [kind for kind, scales in zip(kinds, scaling) if scales]
    return (2 ** sum(kind != "spatial" for kind in scaled),
            config["patch_size"] * 2 ** sum(kind != "temporal" for kind in scaled))


def _any(flags: bool | tuple[bool, ...]) -> bool:
    return flags if isinstance(flags, bool) else any(flags)


def _digest(vae: nn.Module) -> str:
    """The same whether the weights were loaded as float32 or bfloat16."""
    state, digest = vae.state_dict(), hashlib.sha256()
    for name, key in _PARTS.items():
        digest.update(name.encode() + state[key].cpu().bfloat16().view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:12]
