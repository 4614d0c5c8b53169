"""Encodes a clip piece by piece, with memory for one tile of it however long it is: a film of a minute would
be 10 GB as a tensor. The latents are those of `Codec.encode`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from model.codec import Codec


def encode_stream(codec: Codec, video: Iterable[Tensor], frames: int) -> Iterator[Tensor]:
    """Latents (B, channels, t, h, w) of a clip of `frames` frames, in order, as its video comes in.

    video: consecutive pieces (B, 3, f, H, W) in [-1, 1] of any length. Raises ValueError when they hold
    another number of frames than stated.
    """
    codec.latent_frames(frames)
    tiling, before, seen = codec.tiling, None, 0
    length = frames if frames <= tiling.frames else tiling.frames + 1
    stride = frames if frames <= tiling.frames else tiling.stride
    fade = (tiling.frames - tiling.stride) // codec.time_stride
    keep = stride // codec.time_stride
    for place, tile in enumerate(_tiles(video, length, stride)):
        seen = place * stride + tile.shape[2]
        codec.check_video(tile)
        latents = codec.encode_tile(tile)
        if before is not None:
            latents = _fade(before, latents[:, :, 1:], fade)
        before = latents
        if latents.shape[2]:
            yield latents[:, :, :keep + (place == 0)]
    if seen != frames:
        raise ValueError(f"video: {seen} frames came, {frames} were announced; cut or read the clip again")


def _tiles(video: Iterable[Tensor], length: int, stride: int) -> Iterator[Tensor]:
    """Tiles of `length` frames, one every `stride`; the last ones hold what is left."""
    held: list[Tensor] = []
    count = 0
    for piece in video:
        held.append(piece)
        count += piece.shape[2]
        while count >= length:
            whole = torch.cat(held, 2)
            yield whole[:, :, :length]
            held = [whole[:, :, stride:]]
            count -= stride
    # Frames that one tile has seen begin the next one, which exists if the clip reaches past its start.
    while count > 0 and held:
        whole = torch.cat(held, 2)
        yield whole
        held = [whole[:, :, stride:]]
        count -= stride


def _fade(before: Tensor, tile: Tensor, most: int) -> Tensor:
    """The tile, its first frames mixed with the last ones of the tile before, which show the same time."""
    overlap = min(before.shape[2], tile.shape[2], most)
    if not overlap:
        return tile
    share = torch.arange(overlap, device=tile.device, dtype=tile.dtype)[:, None, None] / overlap
    mixed = before[:, :, -overlap:] * (1 - share) + tile[:, :, :overlap] * share
    return torch.cat([mixed, tile[:, :, overlap:]], 2)
