"""Small data sets written straight into shards, without annotating anything: a second for a dozen clips.

    store = write_video_set(tmp_path, clips=6)                       # mp4, camera.npz, depth.npz, captions
    latents = write_latent_set(store, codec="dct32", text=(16, 24))  # latents/dct32-96x64 beside them
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from annotate.cut.encode import ClipWriter
from dataset.camera import look_at
from dataset.catalog import open_dataset
from dataset.clip import CameraTrack, ClipRecord, DepthMaps, FrameVerdict, Kind, Motion, ScaleStatus, Verdict
from dataset.fit import largest_size
from dataset.latents import (
    CAMERA_MEMBER,
    FAMILY,
    LATENTS,
    LatentRecord,
    Status,
    default_name,
    latent_store,
    open_set,
)
from dataset.reader import read_samples
from dataset.shards import ShardWriter
from dataset.store import Store
from pipelines.latents_config import LatentsConfig
from pipelines.latents_encode import Encoder

FPS = 16

Change = Callable[[int, ClipRecord, dict[str, bytes]], None]


def clip_name(number: int) -> str:
    """The id of a clip, like those of real ones."""
    return hashlib.blake2b(f"clip {number}".encode(), digest_size=10).hexdigest()


def write_video_set(
    folder: str | Path, clips: int = 6, frames: int = 17, size: tuple[int, int] = (64, 96), *,
    first: int = 0, per_shard: int = 3, change: Change | None = None,
) -> Store:
    """A data set of kept clips number `first` to `first + clips - 1`; adds to one that is there.

    change: may alter the record and the files of a clip before it is written.
    """
    store = Store(folder)
    open_dataset(store, "tiny", {"tiny": True}, {})
    with ShardWriter(store, "kept") as writer:
        for number in range(first, first + clips):
            record, files = clip_record(number, frames, size), clip_files(number, frames, size)
            if change is not None:
                change(number, record, files)
            writer.add(record, files)
            if len(writer.pending) == per_shard:
                writer.commit()
        writer.commit()
    return store


def clip_record(number: int, frames: int, size: tuple[int, int]) -> ClipRecord:
    return ClipRecord(
        clip_name(number), f"video{number // 3}", Kind.CLIP, uri=f"/videos/{number // 3}.mp4", source="tiny",
        licence="CC0", caption=f"a {['red', 'green', 'blue'][number % 3]} room, number {number}",
        start_s=float(number), end_s=number + frames / FPS, frames=frames, fps=float(FPS), height=size[0],
        width=size[1], verdict=Verdict.KEPT, motion=Motion.PARALLAX, posed_share=1.0,
        scale_status=ScaleStatus.METRIC_SENSOR, metric_scale=1.0, scale_sigma_log=0.01,
        flow_dis=float(number), annotated_at="2026-01-01T00:00:00+00:00",
    )


def clip_files(number: int, frames: int, size: tuple[int, int]) -> dict[str, bytes]:
    track = camera_track(number, frames, size)
    return {"mp4": clip_video(number, frames, size), "camera.npz": track.to_npz(),
            "depth.npz": depth_maps(number, frames, size).to_npz()}


@lru_cache(maxsize=64)
def clip_video(number: int, frames: int, size: tuple[int, int]) -> bytes:
    """A window that drifts over a blurred random picture."""
    rng = np.random.default_rng(number)
    noise = rng.integers(0, 256, (size[0] + 2 * frames, size[1] + 2 * frames, 3), np.uint8)
    picture = cv2.GaussianBlur(noise, (0, 0), 3)
    picture = cv2.normalize(picture, None, 0, 255, cv2.NORM_MINMAX)  # type: ignore[call-overload]
    writer = ClipWriter(size, FPS)
    for frame in range(frames):
        writer.add(picture[frame:frame + size[0], 2 * frame:2 * frame + size[1]])
    return writer.finish()


def camera_track(number: int, frames: int, size: tuple[int, int]) -> CameraTrack:
    """A walk forward past a point, another one for each number; metres."""
    steps = np.arange(frames) / FPS
    centres = np.stack([0.3 * np.sin(steps + number), np.full(frames, -1.5), steps * (1 + number % 3)], -1)
    focal = 0.9 * size[1]
    return CameraTrack(
        c2w=look_at(centres, (0.5, -1.0, 30.0)),
        intrinsics=np.tile([focal, focal, size[1] / 2, size[0] / 2], (frames, 1)), size=size,
        timestamps=steps, sigma_position=np.full(frames, 0.01), sigma_rotation_deg=np.full(frames, 0.1),
        frame_verdict=np.full(frames, FrameVerdict.GIVEN, np.uint8), motion=Motion.PARALLAX, engine="tiny",
        unit="m",
    )


def depth_maps(number: int, frames: int, size: tuple[int, int]) -> DepthMaps:
    """A ramp, with the top row not known, at the first and last frame."""
    height, width = size[0] // 8, size[1] // 8
    depth = np.tile(np.linspace(2, 9 + number % 3, height)[None, :, None], (2, 1, width)).astype(np.float16)
    valid = np.ones(depth.shape, bool)
    valid[:, 0] = False
    focal = 0.9 * width
    return DepthMaps(np.where(valid, depth, np.float16(0)), valid, np.array([0, frames - 1]),
                     np.tile([focal, focal, width / 2, height / 2], (2, 1)), "tiny")


def write_latent_set(
    data: Store, codec: str = "dct32", text: tuple[int, int] = (16, 24), size: tuple[int, int] | None = None,
    *, name: str | None = None, per_shard: int = 3,
) -> Store:
    """Latents of every kept clip of a data set, in this process. text: tokens and channels of its states."""
    encoder = Encoder(LatentsConfig(codec=codec, text_tokens=text[0], text_channels=text[1]), "cpu")
    samples = list(read_samples(data, "verdict = 'kept'", members=["mp4", CAMERA_MEMBER]))
    first = samples[0].record
    size = size or largest_size((first.height, first.width), encoder.codec.space_stride)
    made, store = encoder.describe(size), latent_store(data, name or default_name(codec, size))
    open_set(store, made, lambda: encoder.null_text.to_npz())
    with ShardWriter(store, FAMILY, rows=LATENTS) as writer:
        for sample in samples:
            record, encoded = sample.record, encoder.encode(sample.record, sample.files, size)
            writer.add(LatentRecord(
                record.clip_id, Status.OK, source=record.source, caption=record.caption, frames=record.frames,
                fps=record.fps, latent_frames=encoded.shape[1], latent_height=encoded.shape[2],
                latent_width=encoded.shape[3], config_hash=made.key(),
            ), encoded.files)
            if len(writer.pending) == per_shard:
                writer.commit()
        writer.commit()
    return store
