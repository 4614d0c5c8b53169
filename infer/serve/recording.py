"""A drive as a file: an MP4 that grows while the drive goes on, and its camera."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from infer.video import GrowingVideo, save_camera


class Recording:
    """The files of one drive, in a folder of their own; the video takes its name when it is whole."""

    def __init__(self, folder: Path, crf: int) -> None:
        self.folder, self.video, self.camera = folder, folder / "video.mp4", folder / "camera.npz"
        self._crf, self._growing = crf, folder / "video.partial.mp4"
        self._writer: GrowingVideo | None = None

    def add(self, frames: np.ndarray) -> None:
        """Append frames (f, H, W, 3) uint8."""
        if self._writer is None:
            self.folder.mkdir(parents=True)
            self._writer = GrowingVideo(self._growing, (frames.shape[1], frames.shape[2]), self._crf)
        self._writer.add(frames)

    def finish(self, c2w: np.ndarray, intrinsics: np.ndarray, size: tuple[int, int]) -> None:
        """Close the video and write the camera (F, 4, 4) of its frames beside it, intrinsics (4,). Nothing
        where no frame was made."""
        if self._writer is None:
            return
        self._writer.close()
        made = self._writer.frames
        self._writer = None
        save_camera(self.camera, c2w[-made:], np.tile(intrinsics, (made, 1)), size)
        self._growing.replace(self.video)

    def discard(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
