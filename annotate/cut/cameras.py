"""Given cameras and depth, and the truth of synthetic video, at the frames and in the pixels of a clip."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from annotate.cut.framing import Framing
from annotate.decode import ReadReport, VideoInfo, count_frames
from annotate.source.cameras import BadCameras, GivenDepth, GivenPoses
from annotate.source.fetch import LocalVideo
from annotate.source.item import PoseUnit, SourceItem
from annotate.source.layouts import load_given
from annotate.synthetic import SyntheticTruth
from dataset.camera import rotation_angle_deg
from dataset.clip import CameraTrack, DepthMaps, FrameVerdict, Motion


@dataclass(frozen=True)
class ClipCameras:
    """What comes with one source, ready to be taken at the frames of any clip of it."""

    framing: Framing
    fps: int
    intrinsics: np.ndarray | None  # (1 or frames, 4) pixels of the displayed picture
    poses: GivenPoses | None
    depth: GivenDepth | None
    unit: str
    truth: SyntheticTruth | None
    numbered: str | None  # what goes by frame number: "poses", "intrinsics" or "depth"
    engine: str  # where the poses come from

    @classmethod
    def load(
        cls, item: SourceItem, local: LocalVideo, info: VideoInfo, framing: Framing, fps: int,
    ) -> ClipCameras:
        """Raises BadCameras when the files are wrong, or hold another number of frames than the video.

        The frames are counted by decoding them once more, unless they are as many as the file itself states.
        """
        intrinsics, poses, depth, engine = load_given(item, info) if local.given is None else local.given
        counted = {"poses": len(poses.c2w) if poses is not None and poses.times is None else 0,
                   "intrinsics": len(intrinsics) if intrinsics is not None and len(intrinsics) > 1 else 0}
        for what, rows in counted.items():
            if rows and rows != info.header_frames and rows != (seen := count_frames(local.path)):
                raise BadCameras(f"{item.uri}: {rows} {what} for {seen} frames; they must be one a frame, or "
                                 f"{what} with time stamps")
        numbered = next((what for what, rows in counted.items() if rows), "depth" if depth else None)
        unit = "m" if item.given.pose_unit is PoseUnit.metres else "engine"
        return cls(framing, fps, intrinsics, poses, depth, unit, local.truth, numbered, engine)

    def files(self, frames: np.ndarray, times: Sequence[Fraction], report: ReadReport) -> dict[str, bytes]:
        """Files of the clip made of these source frames (F,) with these presentation times.

        Raises BadCameras where time-stamped poses do not reach, and where frames were lost before the clip's
        last one: then nobody knows which frame has which number.
        """
        if self.numbered is not None and any(at <= frames[-1] for at in report.lost_at):
            raise BadCameras(f"{self.numbered} go by frame number, but damaged frames up to "
                             f"{float(times[-1]):.3f} s make the frame numbers uncertain")
        made = {}
        if self.intrinsics is not None or self.poses is not None:
            made["given.npz"] = self._track(frames, times).to_npz()
        if self.depth is not None and (maps := self._depth_maps(frames)) is not None:
            made["given_depth.npz"] = maps.to_npz()
        if self.truth is not None and (truth := self._truth(times)) is not None:
            made["truth.npz"] = truth.to_npz()
        return made

    def _clip_times(self, count: int) -> np.ndarray:
        return np.arange(count) / self.fps

    def _intrinsics_at(self, frames: np.ndarray) -> np.ndarray:
        """(F, 4) pixels of the clip; NaN when none are given."""
        if self.intrinsics is None:
            return np.full((len(frames), 4), np.nan)
        rows = frames if len(self.intrinsics) > 1 else np.zeros(len(frames), np.int64)
        return self.framing.intrinsics(self.intrinsics[rows])

    def _track(self, frames: np.ndarray, times: Sequence[Fraction]) -> CameraTrack:
        count = len(frames)
        track = CameraTrack.failed(
            "", self._clip_times(count), self.framing.size, self.engine, Motion.PARALLAX)
        track.failure = None
        track.intrinsics = self._intrinsics_at(frames)
        if self.poses is None:
            return track
        try:
            track.c2w = self.poses.at(frames, np.array([float(t) for t in times]))
        except ValueError as error:
            raise BadCameras(str(error)) from None
        track.frame_verdict = np.full(count, FrameVerdict.GIVEN, np.uint8)
        track.unit = self.unit
        track.motion = motion_of(track.c2w)
        return track

    def _depth_maps(self, frames: np.ndarray) -> DepthMaps | None:
        """Maps of the frames that have one; a source frame shown several times keeps its first."""
        assert self.depth is not None
        kept, maps, grid = [], [], (0, 0)
        for k, frame in enumerate(frames):
            if k and frames[k - 1] == frame:
                continue
            depth = self.depth.load(int(frame))
            if depth is None:
                continue
            rows, columns, grid = self.framing.depth_grid(depth.shape)
            kept.append(k)
            maps.append(depth[rows][:, columns])
        if not kept:
            return None
        if len({m.shape for m in maps}) > 1:
            raise BadCameras("depth maps of one video differ in size")
        depth = np.stack(maps)
        scale = np.array([grid[1], grid[0], grid[1], grid[0]]) / np.array([*self.framing.size[::-1]] * 2)
        valid = (depth > 0) & (depth <= np.finfo(np.float16).max)
        return DepthMaps(depth=np.where(valid, depth, 0).astype(np.float16), valid=valid,
                         frames=np.array(kept, np.int32), engine="given",
                         intrinsics=self._intrinsics_at(frames)[kept] * scale)

    def _truth(self, times: Sequence[Fraction]) -> CameraTrack | None:
        """The synthetic cameras, or None where a clip spans two shots: then there is no one true path."""
        assert self.truth is not None
        try:
            track = self.truth.at(np.array([float(t) for t in times]))
        except ValueError:
            return None
        return dataclasses.replace(track, intrinsics=self.framing.intrinsics(track.intrinsics),
                                   size=self.framing.size, timestamps=self._clip_times(len(times)))


def motion_of(c2w: np.ndarray) -> Motion:
    """What given poses say: a span of less than 1e-9 of a unit or of a degree is none."""
    moves = bool(np.ptp(c2w[:, :3, 3], axis=0).max() > 1e-9)
    turns = bool(rotation_angle_deg(c2w[0, :3, :3].T @ c2w[:, :3, :3]).max() > 1e-9)
    return Motion.PARALLAX if moves else Motion.ROTATION_ONLY if turns else Motion.STATIC
