"""Draws of a step to a batch: bytes, cameras, latents or video, captions; what cannot be read stays empty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dataset.batch import Batch
from dataset.camera import check_c2w, relative
from dataset.clip import CameraTrack
from dataset.fit import Framing, fit_clip
from dataset.latents import CAMERA_MEMBER, LATENTS_MEMBER, TEXT_MEMBER, TextStates, caption_digest
from dataset.loader.config import DataConfig, Lengths, OnError, Scale, Start
from dataset.loader.members import NPY_HEADER, ClipReader, Fault, read_camera, read_npy_header, view_npy
from dataset.loader.plan import Draw, draw_start
from dataset.loader.select import VIDEO_MEMBER, Bucket, Place, Selection
from dataset.loader.video import decode_frames
from dataset.rays import STRIDE, ImageFit, frame_intrinsics, latent_frames, model_camera


@dataclass(frozen=True)
class Task:
    """What one process reads for one step: some draws of one bucket."""

    bucket: Bucket
    draws: list[Draw]


@dataclass(frozen=True)
class Piece:
    """Frames of a clip that make a sample: `count` from `first` on, and how its images are fitted."""

    first: int
    count: int
    fit: ImageFit


class Assembler:
    """Makes batches of tasks. Safe to pickle and to fork: it opens nothing before its first task."""

    def __init__(self, selections: Sequence[Selection], config: DataConfig) -> None:
        self._selections, self._config = list(selections), config
        self._readers: dict[int, ClipReader] = {}
        self._latents = selections[0].latents
        self._cell = config.cell if self._latents is None else self._latents.space_stride

    def __getitem__(self, task: Task) -> tuple[Batch, list[Fault]] | Fault:
        """The batch and what was left empty in it; or, with on_error=raise, the first fault."""
        batch, faults = self._empty(task), []
        for slot, draw in enumerate(task.draws):
            try:
                self._fill(batch, slot, draw, task.bucket)
            except Fault as fault:
                if self._config.on_error is not OnError.skip:
                    return fault
                self._clear(batch, slot, task.bucket)
                batch.skipped.append(str(fault))
                faults.append(fault)
        return batch, faults

    # parts

    def _empty(self, task: Task) -> Batch:
        bucket, count = task.bucket, len(task.draws)
        T, F = latent_frames(bucket.frames), bucket.frames
        h, w = bucket.size[0] // self._cell, bucket.size[1] // self._cell
        of = [self._selections[draw.source] for draw in task.draws]
        latents = video = states = mask = None
        if self._latents is not None:
            stored = getattr(torch, self._latents.dtype)
            latents = _allocate((count, self._latents.channels, T, h, w), stored)
            tokens = self._latents.caption_tokens
            states = _allocate((count, tokens, self._latents.caption_channels), stored)
            mask = torch.zeros(count, tokens, dtype=torch.bool)
        else:
            video = _allocate((count, 3, F, *bucket.size), torch.uint8)
        return Batch(
            clip_ids=[one.ids[draw.clip] for one, draw in zip(of, task.draws)],
            sources=[one.url for one in of],
            captions=[one.captions[draw.clip] for one, draw in zip(of, task.draws)], size=bucket.size,
            camera_conditions=torch.empty(count, T, 20),
            plucker=_allocate((count, 48, T, h, w), torch.float32),
            frame_valid=torch.zeros(count, T, dtype=torch.bool),
            c2w=torch.empty(count, F, 4, 4, dtype=torch.float64),
            intrinsics=torch.empty(count, F, 4, dtype=torch.float64),
            latents=latents, video=video, caption_states=states, caption_mask=mask,
        )

    def _fill(self, batch: Batch, slot: int, draw: Draw, bucket: Bucket) -> None:
        """Put a clip into a slot of a batch. Raises Fault."""
        selection = self._selections[draw.source]
        reader = self._reader(draw.source)
        shard, clip_id = selection.shards[selection.shard[draw.clip]], selection.ids[draw.clip]
        places = selection.places(draw.clip)
        latents = None if batch.latents is None else batch.latents[slot]
        tails = {} if latents is None else _whole(latents, places[LATENTS_MEMBER])
        views = reader.read(shard, clip_id, places, tails)
        metric = self._config.scale is Scale.metric

        def parse_camera(view: memoryview) -> Piece:
            return self._fill_camera(batch, slot, read_camera(view, metric), draw, bucket)

        piece = reader.parse(shard, clip_id, CAMERA_MEMBER, views[CAMERA_MEMBER], parse_camera)
        if batch.video is not None:
            frames = batch.video[slot].numpy()[:, : piece.count]
            reader.parse(shard, clip_id, VIDEO_MEMBER, views[VIDEO_MEMBER],
                         lambda view: decode_frames(view, piece.first, frames, piece.fit))
            batch.video[slot, :, piece.count :] = batch.video[slot, :, piece.count - 1, None]
        else:
            assert latents is not None
            reader.parse(shard, clip_id, LATENTS_MEMBER, views[LATENTS_MEMBER],
                         lambda view: _fill_latents(latents, view, piece, bool(tails)))
            reader.parse(shard, clip_id, TEXT_MEMBER, views[TEXT_MEMBER],
                         lambda view: _fill_caption(batch, slot, TextStates.from_npz(bytes(view))))
        batch.frame_valid[slot, : latent_frames(piece.count)] = True

    def _fill_camera(self, batch: Batch, slot: int, track: CameraTrack, draw: Draw, bucket: Bucket) -> Piece:
        """Cut a track to its sample, pad it, and make the network's inputs of it."""
        have, wanted = len(track.c2w), bucket.frames
        if have < wanted and self._config.lengths is Lengths.crop:
            raise ValueError(f"cameras of {have} frames, the index promises {wanted} or more")
        first = 0
        if self._latents is None and self._config.start is Start.random and have > wanted:
            first = draw_start(self._config.seed, draw, have - wanted)
        count = wanted if have >= wanted else STRIDE * (latent_frames(have) - 1) + 1
        poses = check_c2w(track.c2w[first : first + count], "c2w")
        latents = self._selections[draw.source].latents
        framing = Framing.cover if latents is None else latents.framing
        fit = fit_clip(track.size, bucket.size, self._cell, framing)
        k = fit.intrinsics(frame_intrinsics(track.intrinsics[first : first + count], count))
        held = np.minimum(np.arange(wanted), count - 1)  # the last pose is held
        poses, k = relative(poses)[held], k[held]
        inputs = model_camera(poses, k, bucket.size, self._cell, batch.plucker[slot])
        batch.camera_conditions[slot] = inputs.conditions
        batch.c2w[slot], batch.intrinsics[slot] = torch.from_numpy(poses), torch.from_numpy(k)
        return Piece(first, count, fit)

    def _clear(self, batch: Batch, slot: int, bucket: Bucket) -> None:
        """Make a slot harmless: finite everywhere, and nothing in it valid."""
        for tensor in (batch.latents, batch.video, batch.caption_states, batch.caption_mask):
            if tensor is not None:
                tensor[slot] = 0
        poses = np.tile(np.eye(4), (bucket.frames, 1, 1))
        k = np.tile([bucket.size[1], bucket.size[1], bucket.size[1] / 2, bucket.size[0] / 2], (len(poses), 1))
        inputs = model_camera(poses, k, bucket.size, self._cell, batch.plucker[slot])
        batch.camera_conditions[slot] = inputs.conditions
        batch.c2w[slot], batch.intrinsics[slot] = torch.from_numpy(poses), torch.from_numpy(k)
        batch.frame_valid[slot] = False

    def _reader(self, source: int) -> ClipReader:
        if source not in self._readers:
            self._readers[source] = ClipReader(self._selections[source].store, self._config.verify)
        return self._readers[source]


def _whole(slot: Tensor, place: Place) -> dict[str, memoryview]:
    """Latents of the very size of their slot are read straight into it: the last bytes of their member."""
    if place.size != slot.nbytes + NPY_HEADER:
        return {}
    numbers: Any = slot.view(torch.uint8).numpy().reshape(-1)
    return {LATENTS_MEMBER: memoryview(numbers)}


def _fill_latents(slot: Tensor, view: memoryview, piece: Piece, is_there: bool) -> None:
    """Put latents into their slot, cut or padded; if they are there already, see that they are what it takes.

    slot: (C, T, h, w)    view: the .npy file, or its header if `is_there`. Raises ValueError.
    """
    shape, dtype, begin = read_npy_header(view)
    count = latent_frames(piece.count)
    stored = np.dtype(str(slot.dtype).removeprefix("torch."))
    same = len(shape) == 4 and dtype == stored and (shape[0], *shape[2:]) == (slot.shape[0], *slot.shape[2:])
    if not same or shape[1] < count or (is_there and begin != len(view)):
        raise ValueError(f"latents of shape {shape}, {dtype}, expected ({slot.shape[0]}, {count} or more, "
                         f"{slot.shape[2]}, {slot.shape[3]}), {slot.dtype}")
    if not is_there:
        slot[:, :count] = torch.from_numpy(view_npy(view)[:, :count])
        slot[:, count:] = 0.0


def _fill_caption(batch: Batch, slot: int, text: TextStates) -> None:
    assert batch.caption_states is not None and batch.caption_mask is not None
    if text.states.shape != batch.caption_states.shape[1:]:
        raise ValueError(f"caption states of shape {text.states.shape}, "
                         f"expected {tuple(batch.caption_states.shape[1:])}")
    if text.caption_sha256 != caption_digest(batch.captions[slot]):
        raise ValueError(f"the states of another caption than the index has, {batch.captions[slot]!r}")
    batch.caption_states[slot] = torch.from_numpy(text.states)
    batch.caption_mask[slot] = torch.from_numpy(text.mask)


def _allocate(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Memory to fill: in a worker at once the shared memory it travels in, as torch's own collation does."""
    if torch.utils.data.get_worker_info() is None:
        return torch.empty(shape, dtype=dtype)
    storage = torch.UntypedStorage._new_shared(math.prod(shape) * dtype.itemsize, device="cpu")
    return torch.empty(0, dtype=dtype).set_(storage, 0, shape)  # type: ignore[call-overload]
