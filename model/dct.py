"""A codec without weights: an orthonormal 3-D cosine transform of blocks of 8 frames (the first frame alone)
by s x s pixels by 3 colours, cut to the coefficients that carry most energy in real video.

Its only error is what is cut off. Everything is a matrix product and can be differentiated.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from model.codec import Codec, DecodeStream, Tiling

TIME = 8
STRIDES = (32, 16, 8)
COLOURS = ((1, 1, 1), (-1, -1, 2), (1, -1, 0))
"""Luma, blue and red difference as combinations of R, G, B, before scaling to length 1."""


@dataclass(frozen=True)
class Spectrum:
    """Variance of a coefficient of video in [-1, 1]: with r the row plus the column frequency of the block,

        log variance = level[colour] - slope · log(r + knee) - decay · log(t)
    """

    level: tuple[float, float, float]
    slope: float
    knee: float
    decay: float = 0.0

    def log_variance(self, colour: int, t: int, r: int) -> float:
        return self.level[colour] - self.slope * math.log(r + self.knee) - self.decay * math.log(max(t, 1))


@dataclass(frozen=True)
class Spectra:
    """Of the first frame; of the mean of 8 frames (t = 0); of how they change (t > 0)."""

    first: Spectrum
    still: Spectrum
    moving: Spectrum


SPECTRA = {
    32: Spectra(Spectrum((4.39, 0.48, 0.30), 2.66, 0.44),
                Spectrum((4.72, 1.82, 1.17), 2.31, 0.29),
                Spectrum((6.11, 2.62, 2.66), 3.03, 1.93, 0.41)),
    16: Spectra(Spectrum((4.48, 0.09, -0.34), 3.66, 0.83),
                Spectrum((2.88, -0.79, -1.20), 2.53, 0.17),
                Spectrum((4.29, 0.56, 0.59), 3.29, 1.41, 0.32)),
    8: Spectra(Spectrum((0.20, -3.60, -4.00), 3.00, 0.25),
               Spectrum((1.27, -2.40, -3.36), 2.89, 0.22),
               Spectrum((2.62, -1.51, -1.35), 3.78, 1.12, 0.23)),
}
"""Fitted to nine hand-held, driving and tripod videos of 294 to 960 lines at their own size. They decide both
which coefficients are kept and by what a latent is divided."""

Frequency = tuple[int, int, int, int]
"""Colour, and the frequency in time, row and column."""


def allocate(space_stride: int, channels: int) -> tuple[list[Frequency], list[Frequency]]:
    """Frequency behind each channel of a group of 8 frames and of a first frame, largest variance first.

    A coefficient with t = 0 that both keep has one channel in both: a still scene has the same latents in
    every frame, but for what the first frame shows sharper.
    """
    spectra = SPECTRA[space_stride]
    group = _largest(space_stride, TIME, channels,
                     lambda c, t, r: (spectra.moving if t else spectra.still).log_variance(c, t, r))
    first = _largest(space_stride, 1, channels, spectra.first.log_variance)
    shared = set(group) & set(first)
    rest = iter([frequency for frequency in first if frequency not in shared])
    return group, [frequency if frequency in shared else next(rest) for frequency in group]


def _largest(
    space_stride: int, frames: int, count: int, log_variance: Callable[[int, int, int], float],
) -> list[Frequency]:
    """The `count` frequencies of largest variance. Ties go to the lower frequency, on every machine."""
    frequencies = product(range(3), range(frames), range(space_stride), range(space_stride))
    ranked = sorted(frequencies, key=lambda f: (-round(log_variance(f[0], f[1], f[2] + f[3]), 6), f))
    return ranked[:count]


class DCTCodec(Codec):
    """See the module. A first frame keeps 24, 6 or 1.5 values per latent number at stride 32, 16 or 8."""

    def __init__(self, space_stride: int = 32, channels: int = 128) -> None:
        super().__init__()
        if space_stride not in SPECTRA:
            raise ValueError(f"space_stride: {space_stride}, expected one of {STRIDES}")
        if not 1 <= channels <= 3 * space_stride ** 2:
            raise ValueError(f"channels: {channels}, expected 1 to {3 * space_stride ** 2}, the coefficients "
                             f"of one frame of {space_stride} x {space_stride} pixels")
        self.channels, self.time_stride, self.space_stride = channels, TIME, space_stride
        group, first = allocate(space_stride, channels)
        spectra = SPECTRA[space_stride]
        std = torch.tensor([
            [math.exp(spectra.first.log_variance(f[0], 0, f[2] + f[3]) / 2),
             math.exp((spectra.moving if g[1] else spectra.still).log_variance(g[0], g[1], g[2] + g[3]) / 2)]
            for f, g in zip(first, group)])
        self.register_buffer("latent_mean", torch.zeros(channels, 2), persistent=False)
        self.register_buffer("latent_std", std, persistent=False)
        self.first = _Transform(first, 1, space_stride)
        self.group = _Transform(group, TIME, space_stride)
        digest = hashlib.sha256(repr((first, group, SPECTRA[space_stride])).encode()).hexdigest()
        self.fingerprint = f"dct-s{space_stride}-c{channels}-{digest[:12]}"

    @property
    def tiling(self) -> Tiling:
        return Tiling(2 * TIME, 2 * TIME)  # no group of frames knows of another: any would do

    def encode(self, video: Tensor) -> Tensor:
        return self.encode_tile(video)

    def encode_tile(self, video: Tensor) -> Tensor:
        self.check_video(video)
        parts = [self.first.analyse(video[:, :, :1]) / self._std(0, video)]
        if video.shape[2] > 1:
            parts.append(self.group.analyse(video[:, :, 1:]) / self._std(1, video))
        return torch.cat(parts, 2)

    def decode(self, latents: Tensor) -> Tensor:
        return self.open_stream().push(latents)

    def open_stream(self) -> DecodeStream:
        return _Stream(self)

    def synthesise(self, latents: Tensor, holds_first: bool) -> Tensor:
        """Video of some latent frames, the first of which is the clip's first frame or not."""
        self.check_latents(latents)
        parts = []
        if holds_first:
            parts.append(self.first.synthesise(latents[:, :, :1] * self._std(0, latents)))
            latents = latents[:, :, 1:]
        if latents.shape[2]:
            parts.append(self.group.synthesise(latents * self._std(1, latents)))
        return torch.cat(parts, 2)

    def _std(self, kind: int, like: Tensor) -> Tensor:
        return self.latent_std[:, kind].to(like.dtype)[:, None, None, None]


class _Stream(DecodeStream):
    """Nothing is carried from chunk to chunk but that there was one."""

    def __init__(self, codec: DCTCodec) -> None:
        self.codec = codec
        self.begun = False

    def push(self, latents: Tensor) -> Tensor:
        video = self.codec.synthesise(latents, holds_first=not self.begun)
        self.begun = True
        return video

    def nbytes(self) -> int:
        return 0


class _Transform(torch.nn.Module):
    """The kept coefficients of blocks of `frames` x s x s pixels, and back; only the frequencies up to the
    highest kept one are ever computed."""

    mix: Tensor
    time: Tensor
    rows: Tensor
    columns: Tensor
    place: Tensor

    def __init__(self, frequencies: list[Frequency], frames: int, space_stride: int) -> None:
        super().__init__()
        colours, times, rows, columns = (1 + max(axis) for axis in zip(*frequencies))
        mix = torch.tensor(COLOURS, dtype=torch.float64)
        self.register_buffer("mix", (mix / mix.norm(dim=1, keepdim=True))[:colours], persistent=False)
        self.register_buffer("time", cosine_basis(frames)[:times], persistent=False)
        self.register_buffer("rows", cosine_basis(space_stride)[:rows], persistent=False)
        self.register_buffer("columns", cosine_basis(space_stride)[:columns], persistent=False)
        place = [((c * times + t) * rows + i) * columns + j for c, t, i, j in frequencies]
        self.register_buffer("place", torch.tensor(place), persistent=False)
        self.frames, self.space_stride = frames, space_stride
        self.sizes = (colours, times, rows, columns)

    def analyse(self, video: Tensor) -> Tensor:
        """(B, 3, T·frames, H·s, W·s) to coefficients (B, C, T, H, W)."""
        s = self.space_stride
        x = video.unflatten(-1, (-1, s)) @ self.columns.to(video.dtype).T          # (B, 3, F, H·s, W, j)
        width = x.shape[4]
        x = self.rows.to(video.dtype) @ x.flatten(4).unflatten(3, (-1, s))         # (B, 3, F, H, i, W·j)
        x = x.unflatten(5, (width, -1)).unflatten(2, (-1, self.frames))            # (B, 3, T, f, H, i, W, j)
        x = torch.einsum("kc,tf,bcnfyixj->bktijnyx", self.mix.to(x.dtype), self.time.to(x.dtype), x)
        return x.flatten(1, 4).index_select(1, self.place)

    def synthesise(self, coefficients: Tensor) -> Tensor:
        """(B, C, T, H, W) to video (B, 3, T·frames, H·s, W·s); what was not kept is zero."""
        batch, _, *grid = coefficients.shape
        x = coefficients.new_zeros(batch, math.prod(self.sizes), *grid)
        x = x.index_copy(1, self.place, coefficients).unflatten(1, self.sizes)     # (B, k, t, i, j, T, H, W)
        x = torch.einsum("kc,tf,bktijnyx->bcnfyixj", self.mix.to(x.dtype), self.time.to(x.dtype), x)
        x = x.flatten(2, 3).flatten(5)                                             # (B, 3, F, H, i, W·j)
        x = self.rows.to(x.dtype).T @ x                                            # (B, 3, F, H, s, W·j)
        x = x.flatten(3, 4).unflatten(4, (grid[2], -1)) @ self.columns.to(x.dtype)
        return x.flatten(4)


def cosine_basis(size: int) -> Tensor:
    """Orthonormal DCT-II, rows by frequency, (size, size) float64."""
    k, n = torch.arange(size, dtype=torch.float64)[:, None], torch.arange(size, dtype=torch.float64)
    basis = torch.cos(math.pi * (n + 0.5) * k / size) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis
