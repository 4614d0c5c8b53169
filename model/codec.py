"""What a video codec is to everything above it: frames in, normalised latents out, and back, whole or chunk
by chunk. Latent frame 0 stands for the first frame alone, every later one for the next 8 frames.

Behind it: `dct.py`, which needs no weights, and `vae.py`, the LTX-2 autoencoder of the release.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn


class DecodeStream(ABC):
    """Decodes one clip from consecutive chunks of its latents; the frames are those of the whole decode."""

    @abstractmethod
    def push(self, latents: Tensor) -> Tensor:
        """The next latent frames (B, C, t, H, W) as video (B, 3, f, H·s, W·s): f = 8t, or 8t - 7 in the
        chunk that holds latent frame 0."""

    @abstractmethod
    def nbytes(self) -> int:
        """Memory held between chunks."""


@dataclass(frozen=True)
class Tiling:
    """How the encoder takes a clip of more than `frames` frames: in tiles of `frames` + 1 that begin `stride`
    apart, whose latents are faded into each other where they overlap."""

    frames: int
    stride: int


class Codec(nn.Module, ABC):
    """Video (B, 3, F, H, W) in [-1, 1] to latents (B, channels, T, H/s, W/s) with F = 8 (T - 1) + 1.

    `fingerprint` names the latent space: latents stored under one are refused under another.
    `latent_mean`, `latent_std` (channels, 2): what encode takes off the raw latents, of latent frame 0 and of
    the later ones.
    """

    channels: int
    time_stride: int
    space_stride: int
    fingerprint: str
    latent_mean: Tensor
    latent_std: Tensor

    @property
    def is_causal(self) -> bool:
        """Whether decoded frames depend on no later latents, so that `open_stream` can be used."""
        return True

    @property
    @abstractmethod
    def tiling(self) -> Tiling:
        """Over time; see `model.encode_stream`."""

    @abstractmethod
    def encode(self, video: Tensor) -> Tensor:
        """Normalised latents of a clip, or of an image as a clip of one frame."""

    @abstractmethod
    def encode_tile(self, video: Tensor) -> Tensor:
        """Normalised latents of one tile, as if it were a clip."""

    @abstractmethod
    def open_stream(self) -> DecodeStream:
        """A decoder of one clip, chunk by chunk."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Video of a whole clip; values may leave [-1, 1] a little, as the latents may."""

    def latent_frames(self, frames: int) -> int:
        """Latent frames of a clip of `frames` frames."""
        if frames < 1 or frames % self.time_stride != 1:
            below = max(1, (frames - 1) // self.time_stride * self.time_stride + 1)
            raise ValueError(f"video: {frames} frames, expected {self.time_stride}k + 1; "
                             f"cut to {below} or extend to {below + self.time_stride}")
        return (frames - 1) // self.time_stride + 1

    def check_video(self, video: Tensor) -> None:
        """Raises ValueError when `video` cannot be encoded, before any work."""
        if video.ndim != 5 or video.shape[1] != 3:
            raise ValueError(f"video: shape {tuple(video.shape)}, expected (batch, 3, frames, height, width)")
        if not video.is_floating_point():
            raise ValueError(f"video: {video.dtype}, expected floating point in [-1, 1]; "
                             "bytes become that by x / 127.5 - 1")
        self.latent_frames(video.shape[2])
        for name, size in zip(("height", "width"), video.shape[3:]):
            if size % self.space_stride or not size:
                raise ValueError(f"video: {name} {size}, expected a multiple of {self.space_stride}; "
                                 f"crop to {size // self.space_stride * self.space_stride}")

    def check_latents(self, latents: Tensor) -> None:
        """Raises ValueError when `latents` cannot be of this codec."""
        if latents.ndim != 5 or latents.shape[1] != self.channels or not latents.shape[2]:
            raise ValueError(f"latents: shape {tuple(latents.shape)}, expected (batch, {self.channels}, "
                             f"frames, height, width) of the codec {self.fingerprint}")

    def check_fingerprint(self, fingerprint: str, where: str) -> None:
        """Raises ValueError when the latents stored at `where` are of another codec."""
        if fingerprint != self.fingerprint:
            raise ValueError(f"{where}: latents of the codec {fingerprint}, this one is {self.fingerprint}.\n"
                             "  Encode the clips again with this codec, or name the one they were made with.")


def load_codec(source: str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> Codec:
    """The codec that a setting names: "dct32", "dct16" or "dct8", else a folder or hub id of an LTX-2 VAE."""
    from model.dct import STRIDES, DCTCodec
    from model.vae import LTX2Codec
    for stride in STRIDES:
        if source == f"dct{stride}":
            return DCTCodec(stride).to(device)
    return LTX2Codec.from_pretrained(source, device, dtype)
