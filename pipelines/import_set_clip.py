"""One published clip as a row and its files: cameras in metres, in pixels of the clip's own video."""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np

from annotate.clip_video import ClipVideo
from annotate.cut.cameras import motion_of
from annotate.pose.selfcheck import Outcome, check_convention
from annotate.pose.stage import GIVEN, MISREAD, track_fields
from annotate.quality.cameras import camera_scores
from annotate.source.cameras import BadCameras
from annotate.source.layouts.sana_wm import ZipClip
from dataset.camera import resize_intrinsics
from dataset.clip import CameraTrack, ClipRecord, FrameVerdict, Kind, ScaleStatus, Verdict

MISREAD_CAMERAS = "misread_cameras"
"""Reason of a clip whose images contradict its cameras."""

_LARGEST_ASPECT_ERROR = 0.02


@dataclass(frozen=True)
class Imported:
    """A row without its verdict (unless it failed), and the files of a clip."""

    record: ClipRecord
    files: dict[str, bytes]


def imported_clip(clip: ZipClip, name: str, video: str, uri: str, fps: float) -> Imported:
    """Raises BadCameras when video, cameras and stated size do not belong together."""
    frames = len(clip.c2w)
    if frames < 9 or frames % 8 != 1:
        raise BadCameras(f"{uri}: {frames} poses; clips hold 8k + 1 frames, 9 or more")
    size = clip.size if clip.mp4 is None else _video_size(clip.mp4, uri, frames, fps)
    track = given_track(clip, size, fps)
    files = {"camera.npz": track.to_npz()}
    if clip.mp4 is not None:
        files["mp4"] = clip.mp4
    record = ClipRecord(
        name, video, Kind.CLIP, uri=uri, caption=clip.caption, start_s=0.0, end_s=(frames - 1) / fps,
        source_height=size[0], source_width=size[1], frames=frames, fps=fps, height=size[0], width=size[1],
        scale_status=str(ScaleStatus.METRIC_LEARNED), metric_scale=clip.metric_scale,
        scale_origin="stored with the set: its poses against a metric depth model",
        path_length=track.path_length)
    for column, value in {**track_fields(track), **camera_scores(track), **clip.scores}.items():
        setattr(record, column, value)
    return Imported(record, files)


def self_checked(made: Imported) -> Imported:
    """The clip with what its images say of its cameras; one whose images contradict them is a failed row.

    Raises BadCameras for video that cannot be decoded.
    """
    track = CameraTrack.from_npz(made.files["camera.npz"])
    try:
        check = check_convention(ClipVideo(made.files["mp4"]), track.c2w, track.intrinsics)
    except (ValueError, av.FFmpegError) as error:
        raise BadCameras(f"{made.record.uri}: {error}") from None
    score, record = check.stated, made.record
    record.selfcheck_sampson_px = score.sampson_px if np.isfinite(score.sampson_px) else None
    record.selfcheck_cheirality = score.cheirality if np.isfinite(score.cheirality) else None
    if check.outcome is not Outcome.REFUSED:
        return made
    record.verdict, record.reasons = Verdict.FAILED, [MISREAD_CAMERAS]
    record.pose_failure, record.detail = f"{MISREAD}: {check.reason}", check.table()
    return Imported(record, {})


def given_track(clip: ZipClip, size: tuple[int, int], fps: float) -> CameraTrack:
    """The cameras of a clip in metres, in pixels of `size`. Raises BadCameras for another aspect."""
    if abs(clip.size[0] * size[1] / (clip.size[1] * size[0]) - 1) > _LARGEST_ASPECT_ERROR:
        raise BadCameras(f"{clip.key}: cameras of {clip.size[1]}x{clip.size[0]}, video of "
                         f"{size[1]}x{size[0]}: another aspect, so it was cropped and nobody says where")
    count = len(clip.c2w)
    unknown = np.full(count, np.nan)
    track = CameraTrack(
        c2w=clip.c2w, intrinsics=resize_intrinsics(clip.intrinsics, clip.size, size), size=size,
        timestamps=np.arange(count) / fps, sigma_position=unknown, sigma_rotation_deg=unknown.copy(),
        frame_verdict=np.full(count, FrameVerdict.GIVEN, np.uint8), motion=motion_of(clip.c2w), engine=GIVEN)
    return track.scaled(clip.metric_scale, "m")


def _video_size(mp4: bytes, uri: str, frames: int, fps: float) -> tuple[int, int]:
    """(height, width) of a video that has these frames at this rate. Raises BadCameras."""
    try:
        with av.open(io.BytesIO(mp4), "r") as container:
            stream = container.streams.video[0]
            have = stream.frames or sum(packet.size > 0 for packet in container.demux(stream))
            rate, size = stream.average_rate, (stream.codec_context.height, stream.codec_context.width)
    except (av.FFmpegError, IndexError) as error:
        raise BadCameras(f"{uri}: no video: {error}") from None
    if have != frames:
        raise BadCameras(f"{uri}: {have} frames of video, {frames} poses; they must be as many")
    if rate is None or abs(float(rate) / fps - 1) > 1e-3:
        raise BadCameras(f"{uri}: {float(rate or Fraction(0)):g} frames a second, expected {fps:g}")
    return size
