"""Shards for the loader's benchmark: real sizes, random numbers, written by the project's own writers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dataset.camera import look_at
from dataset.catalog import open_dataset
from dataset.clip import CameraTrack, ClipRecord, FrameVerdict, Kind, Motion, ScaleStatus, Verdict
from dataset.latents import (
    CAMERA_MEMBER,
    FAMILY,
    LATENTS,
    LATENTS_MEMBER,
    TEXT_MEMBER,
    LatentRecord,
    LatentSet,
    Status,
    TextStates,
    caption_digest,
    latent_store,
    latents_to_npy,
    open_set,
)
from dataset.shards import ShardWriter
from dataset.store import Store

SIZE = (704, 1280)
VIDEO_SIZE = (192, 320)
CHANNELS, TOKENS, WIDTH = 128, 300, 2304
SHARDS = 8


@dataclass(frozen=True)
class Shards:
    """A data set to read: `samples` in `tars` of `nbytes` together; `batch` at a time, `passes` times."""

    name: str
    about: str
    path: str
    latents: str | None
    tars: list[str]
    samples: int
    batch: int
    passes: int

    @property
    def nbytes(self) -> int:
        return sum(Path(tar).stat().st_size for tar in self.tars)


def write_latents(folder: Path, name: str, frames: int, clips: int, batch: int, passes: int) -> Shards:
    """Latents (128, T, 22, 40) with Gemma-sized caption states, as `pipelines.latents` would leave them."""
    data, rng = Store(folder), np.random.default_rng(0)
    open_dataset(data, "benchmark", {}, {})
    records = [_record(number, frames, SIZE) for number in range(clips)]
    with ShardWriter(data, "kept") as writer:
        for record in records:
            writer.add(record, {CAMERA_MEMBER: _cameras(frames, SIZE)})
        writer.commit()
    store = latent_store(data, name)
    wanted = LatentSet("benchmark", "benchmark", CHANNELS, 32, 8, list(SIZE), "benchmark", "benchmark",
                       TOKENS, WIDTH)
    open_set(store, wanted, lambda: _caption(rng, None))
    T = (frames - 1) // 8 + 1
    with ShardWriter(store, FAMILY, rows=LATENTS) as writer:
        for record in records:
            latents = rng.standard_normal((CHANNELS, T, 22, 40), np.float32)
            writer.add(
                LatentRecord(record.clip_id, Status.OK, caption=record.caption, frames=frames, fps=16.0,
                             latent_frames=T, latent_height=22, latent_width=40),
                {LATENTS_MEMBER: latents_to_npy(latents), TEXT_MEMBER: _caption(rng, record.caption),
                 CAMERA_MEMBER: _cameras(frames, SIZE)})
            if len(writer.pending) == clips // SHARDS:
                writer.commit()
        writer.commit()
    about = (f"{clips} clips of {frames} frames at 1280x704: latents (128, {T}, 22, 40) and captions "
             f"(300, 2304) in float16; batches of {batch}, {passes} passes")
    return Shards(name, about, str(folder), name, _tars(store), clips, batch, passes)


def write_video(folder: Path, clips: int, batch: int) -> Shards:
    """81 frames at 320x192, H.264; a few different ones, repeated under other names."""
    from annotate.cut.encode import ClipWriter

    data, rng = Store(folder), np.random.default_rng(0)
    open_dataset(data, "benchmark", {}, {})
    videos = []
    for _ in range(2):
        picture = rng.integers(0, 256, (60, 90, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        encoder = ClipWriter(VIDEO_SIZE, 16)
        for frame in range(81):
            window = picture[frame : frame + VIDEO_SIZE[0], frame : frame + VIDEO_SIZE[1]]
            encoder.add(np.ascontiguousarray(window))
        videos.append(encoder.finish())
    with ShardWriter(data, "kept") as writer:
        for number in range(clips):
            writer.add(_record(number, 81, VIDEO_SIZE),
                       {"mp4": videos[number % len(videos)], CAMERA_MEMBER: _cameras(81, VIDEO_SIZE)})
            if len(writer.pending) == clips // SHARDS:
                writer.commit()
        writer.commit()
    about = f"{clips} clips of 81 frames at 320x192, H.264; batches of {batch}, one pass"
    return Shards("video", about, str(folder), None, _tars(data), clips, batch, 1)


def _record(number: int, frames: int, size: tuple[int, int]) -> ClipRecord:
    return ClipRecord(
        hashlib.blake2b(str(number).encode(), digest_size=10).hexdigest(), "benchmark", Kind.CLIP,
        caption=f"a street, number {number}", frames=frames, fps=16.0, height=size[0], width=size[1],
        verdict=Verdict.KEPT, posed_share=1.0, scale_status=ScaleStatus.METRIC_SENSOR, metric_scale=1.0,
        flow_dis=float(number))


def _cameras(frames: int, size: tuple[int, int]) -> bytes:
    """A walk with a little shaking, as an engine would find it: no two numbers alike."""
    rng = np.random.default_rng(frames)
    steps = np.arange(frames) / 16
    centres = np.stack([0.3 * np.sin(steps), -1.5 + 0 * steps, 1.4 * steps], -1)
    centres += rng.normal(0, 0.01, (frames, 3))
    track = CameraTrack(
        c2w=look_at(centres, (0.5, -1.0, 200.0)),
        intrinsics=np.tile([0.8 * size[1], 0.8 * size[1], size[1] / 2, size[0] / 2], (frames, 1)), size=size,
        timestamps=steps, sigma_position=rng.random(frames), sigma_rotation_deg=rng.random(frames),
        frame_verdict=np.full(frames, FrameVerdict.ESTIMATED, np.uint8), motion=Motion.PARALLAX,
        engine="benchmark", unit="m")
    return track.to_npz()


def _caption(rng: np.random.Generator, caption: str | None) -> bytes:
    """States of a caption of 120 words; the rest of the 300 places is padding, masked and of any value."""
    states = rng.standard_normal((TOKENS, WIDTH), np.float32).astype(np.float16)
    return TextStates(states, np.arange(TOKENS) < 120, caption_digest(caption)).to_npz()


def _tars(store: Store) -> list[str]:
    return [str(store.local_path(path)) for path in store.list("shards") if path.endswith(".tar")]
