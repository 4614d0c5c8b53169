"""What can be wrong inside the files of a clip: video, cameras, depth, latents, caption states.

Each check gives sentences, none where all is well. They read what training reads and judge only damage,
never quality: a clip without a pose is no damage if it says so.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dataset.camera import check_c2w
from dataset.clip import CameraTrack, ClipRecord, DepthMaps
from dataset.latents import LatentRecord, LatentSet, TextStates, caption_digest, latents_from_npy

TIME_STRIDE = 8


def check_video(mp4: bytes, record: ClipRecord) -> Iterator[str]:
    """Decodes every frame: their number, size, times at the constant rate, and damage the decoder sees."""
    import av

    count, damaged, late = 0, 0, 0
    try:
        with av.open(io.BytesIO(mp4), "r") as container:
            stream = container.streams.video[0]
            stream.thread_type = "NONE"
            if (stream.height, stream.width) != (record.height, record.width):
                yield (f"frames of {stream.width}x{stream.height}, its row says "
                       f"{record.width}x{record.height}")
            for count, frame in enumerate(container.decode(stream), 1):
                damaged += frame.is_corrupt
                due = (count - 1) / (record.fps or 1)
                late += frame.time is None or abs(frame.time - due) > 0.5 / (record.fps or 1)
    except (av.FFmpegError, IndexError) as error:
        yield f"cannot be decoded after frame {count}: {error}"
        return
    if count != record.frames:
        yield f"{count} frames can be decoded, its row says {record.frames}"
    elif count % TIME_STRIDE != 1:
        yield f"{count} frames, expected {TIME_STRIDE}k + 1"
    if damaged:
        yield f"{damaged} of {count} frames are damaged"
    if late:
        yield f"{late} of {count} frames are not shown at their time for {record.fps:g} frames a second"


def check_camera(data: bytes, frames: int | None, size: tuple[int, int] | None) -> Iterator[str]:
    """Shapes, rigid poses, finite positive intrinsics and increasing times. None: not known."""
    try:
        track = CameraTrack.from_npz(data)
    except Exception as error:  # bytes that are no such archive fail in many ways
        yield f"unreadable: {error}"
        return
    count = len(track.timestamps) if frames is None else frames
    shapes = {"c2w": (count, 4, 4), "intrinsics": (count, 4), "timestamps": (count,),
              "sigma_position": (count,), "sigma_rotation_deg": (count,), "frame_verdict": (count,)}
    wrong = [f"{name} is {getattr(track, name).shape}, expected {shape}" for name, shape in shapes.items()
             if getattr(track, name).shape != shape]
    if wrong:
        yield "; ".join(wrong)
        return
    if size is not None and track.size != size:
        yield f"intrinsics are in pixels of {track.size[1]}x{track.size[0]}, the video is {size[1]}x{size[0]}"
    if not np.isfinite(track.timestamps).all() or (np.diff(track.timestamps) <= 0).any():
        yield "timestamps do not increase strictly"
    if not track.posed.any():
        if track.failure is None:
            yield "no frame has a pose, and no failure says why"
        return
    try:
        check_c2w(track.c2w[track.posed], "c2w of the posed frames")
    except ValueError as error:
        yield str(error).splitlines()[0]
    k = track.intrinsics[track.posed]
    if not np.isfinite(k).all() or (k[:, :2] <= 0).any():
        yield "intrinsics of posed frames are not finite, or a focal length is not positive"


def check_depth(data: bytes, frames: int | None) -> Iterator[str]:
    """Shapes, finite positive depth where it is valid, frames of the clip in order."""
    try:
        maps = DepthMaps.from_npz(data)
    except Exception as error:
        yield f"unreadable: {error}"
        return
    count = len(maps.frames)
    if maps.depth.ndim != 3 or maps.depth.shape != maps.valid.shape or len(maps.depth) != count:
        yield f"depth {maps.depth.shape}, valid {maps.valid.shape} and {count} frames do not belong together"
        return
    if maps.intrinsics.shape != (count, 4) or not np.isfinite(maps.intrinsics).all():
        yield f"intrinsics are {maps.intrinsics.shape} or not finite, expected ({count}, 4)"
    if (np.diff(maps.frames) <= 0).any() or (count and (
            maps.frames[0] < 0 or (frames is not None and maps.frames[-1] >= frames))):
        yield f"frames {maps.frames.tolist()[:8]} are not increasing places in a clip of {frames}"
    bad = ~np.isfinite(maps.depth) | (maps.valid & ~(maps.depth > 0))
    if bad.any():
        yield f"{int(bad.sum())} of {bad.size} depths are not finite, or valid and not positive"


def check_latents(data: bytes, record: LatentRecord, made: LatentSet) -> Iterator[str]:
    """Shape, type and finiteness, as the set and the row say."""
    try:
        latents = latents_from_npy(data)
    except Exception as error:
        yield f"unreadable: {error}"
        return
    height, width = (side // made.space_stride for side in made.size)
    frames = ((record.frames or 1) - 1) // made.time_stride + 1
    wanted = (made.channels, frames, height, width)
    stated = (record.latent_frames, record.latent_height, record.latent_width)
    if latents.shape != wanted or str(latents.dtype) != made.dtype:
        yield f"{latents.dtype} of shape {latents.shape}, expected {made.dtype} {wanted}"
    elif stated != wanted[1:]:
        yield f"the row says {stated}, the latents are {wanted[1:]}"
    elif not np.isfinite(latents).all():
        yield f"{int((~np.isfinite(latents)).sum())} of {latents.size} values are not finite"


def check_text(data: bytes, made: LatentSet, caption: str | None) -> Iterator[str]:
    """Shapes and finiteness, and that the states are those of the caption in the row."""
    try:
        text = TextStates.from_npz(data)
    except Exception as error:
        yield f"unreadable: {error}"
        return
    wanted = (made.caption_tokens, made.caption_channels)
    if text.states.shape != wanted or text.mask.shape != wanted[:1] or text.mask.dtype != bool:
        yield f"states {text.states.shape}, mask {text.mask.dtype} {text.mask.shape}, expected {wanted}"
    elif not np.isfinite(text.states).all():
        yield f"{int((~np.isfinite(text.states)).sum())} of {text.states.size} values are not finite"
    elif not text.mask.any():
        yield "the mask hides every state"
    if text.caption_sha256 != caption_digest(caption):
        yield "the states are those of another caption than the row's"


Check = Callable[[bytes], Iterator[str]]


def clip_checks(record: Any, decode: bool) -> dict[str, Check]:
    """What to do with the members of a clip of a data set. decode: also the video."""
    size = (record.height, record.width) if record.height and record.width else None
    checks: dict[str, Check] = {
        "camera.npz": lambda data: check_camera(data, record.frames, size),
        "depth.npz": lambda data: check_depth(data, record.frames),
    }
    if decode:
        checks["mp4"] = lambda data: check_video(data, record)
    return checks


def latent_checks(record: Any, made: LatentSet) -> dict[str, Check]:
    """What to do with the members of a clip of a latent set."""
    return {
        "latents.npy": lambda data: check_latents(data, record, made),
        "text.npz": lambda data: check_text(data, made, record.caption),
        "camera.npz": lambda data: check_camera(data, record.frames, None),
    }
