"""Revisits: frames of one video that should show the same, because the camera is back where it was."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dataset.camera import rotation_angle_deg
from pipelines.evaluation.path import FPS


@dataclass
class RevisitConfig:
    """Which pairs of frames are revisits; distance and angle are the paper's."""

    distance: float = 0.5  # metres between the two cameras, less than
    angle: float = 20.0  # degrees between their directions, less than
    gap_s: float = 8.0  # seconds between the two, at least; between them the camera must have been elsewhere
    pairs: int = 24  # of a video at most, spread over it

    def check(self) -> None:
        """Raises ValueError for values that make no sense."""
        for name in ("distance", "angle", "gap_s", "pairs"):
            if not getattr(self, name) > 0:
                raise ValueError(f"revisit.{name}={getattr(self, name)}, allowed more than 0")


def revisits(c2w: np.ndarray, config: RevisitConfig) -> list[tuple[int, int]]:
    """Pairs (earlier, later) of frames of a path (F, 4, 4), every half second, for each later frame the
    earlier one nearest to it. Standing still is no revisit: in between the camera was out of bounds."""
    frames = np.arange(0, len(c2w), round(FPS / 2))
    centre, turn = c2w[frames, :3, 3], c2w[frames, :3, :3]
    apart = np.linalg.norm(centre[:, None] - centre, axis=-1) / config.distance
    between = rotation_angle_deg(turn[:, None].swapaxes(-1, -2) @ turn) / config.angle
    away = np.maximum(apart, between)  # of frames i and j; below 1 they see the same
    gap = round(2 * config.gap_s)
    found = []
    for later in range(gap, len(frames)):
        back = [i for i in range(later - gap + 1)
                if away[i, later] < 1 and (away[later, i:later] >= 1).any()]
        if back:
            nearest = min(back, key=lambda i: (away[i, later], i))
            found.append((int(frames[nearest]), int(frames[later])))
    chosen = np.unique(np.linspace(0, len(found) - 1, min(config.pairs, len(found))).round().astype(int))
    return [found[i] for i in chosen]


@dataclass(frozen=True)
class Likeness:
    """Of two pictures: PSNR in decibels, at most 100, and SSIM (Wang et al. 2004, window of 11)."""

    psnr: float
    ssim: float


def likeness(a: np.ndarray, b: np.ndarray) -> Likeness:
    """Of two pictures (H, W, 3) uint8."""
    import kornia.metrics
    import torch

    first, second = (torch.from_numpy(np.ascontiguousarray(x)).permute(2, 0, 1)[None].float() / 255
                     for x in (a, b))
    error = float(((first - second) ** 2).mean())
    psnr = min(100.0, -10 * float(np.log10(max(error, 1e-10))))
    return Likeness(psnr, float(kornia.metrics.ssim(first, second, 11).mean()))
