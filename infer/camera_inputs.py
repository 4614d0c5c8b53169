"""What the network is told of a camera path, a stretch at a time, so that it does not grow with the path."""

from __future__ import annotations

import numpy as np
import torch

from dataset.camera import relative
from dataset.rays import STRIDE, ModelCamera, camera_conditions, latent_intrinsics, packed_plucker


class CameraInputs:
    """Of any latent frames of a path, the inputs that `dataset.rays.model_camera` makes of the whole path."""

    def __init__(self, c2w: np.ndarray, intrinsics: np.ndarray, size: tuple[int, int], cell: int) -> None:
        """c2w (F, 4, 4)    intrinsics (F, 4) in pixels of the video    size: (height, width)
        cell: pixels of a latent cell"""
        self.grid = (size[0] // cell, size[1] // cell)
        self.poses, self.intrinsics = relative(c2w), latent_intrinsics(intrinsics, size, self.grid)

    def frames(self, start: int, stop: int) -> ModelCamera:
        """Of latent frames `start` to `stop`. Each sees the eight video frames that end with its own; the
        first of all sees the seven that follow it."""
        first = max(start - 1, 0)  # stands where a clip's first frame does, and is then left out
        seen = slice(STRIDE * first, max(STRIDE * (stop - 1) + 1, STRIDE))
        poses, k, count = self.poses[seen], self.intrinsics[seen], stop - first
        plucker = torch.empty(6 * STRIDE, count, *self.grid)
        packed_plucker(poses, k, self.grid, count, plucker)
        conditions = camera_conditions(poses, k, count).to(torch.float32)
        return ModelCamera(conditions[start - first:], plucker[:, start - first:])
