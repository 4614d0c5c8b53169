"""What the stand-ins of learned engines know: the true cameras and depth of one rendered clip.

They have the interfaces and shapes that the engines' own documentation states. Which frame a picture shows is
found by its looks, so that they sit behind the real adapters and know nothing of requests. The "weights" are
a folder with `truth.npz` and `errors.json`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import torch

THUMB = (36, 64)


def thumbs(images: torch.Tensor) -> torch.Tensor:
    """(n, 36, 64) of images (n, 3, h, w) in [0, 1]."""
    return torch.nn.functional.interpolate(images.mean(1, keepdim=True), THUMB, mode="area")[:, 0]


class Truth:
    """True numbers of the frames that images show, with the errors that `errors.json` asks for."""

    def __init__(self, weights: str) -> None:
        folder = Path(weights) if Path(weights).is_dir() else Path(weights).parent
        self.arrays = {k: torch.from_numpy(v) for k, v in np.load(folder / "truth.npz").items()}
        self.stated = folder / "errors.json"
        self.errors = json.loads(self.stated.read_text())
        self.calls = 0
        self.random = np.random.default_rng(0)

    def look(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """c2w (n, 4, 4), intrinsics (n, 4) in pixels of the images, depth (n, h, w) in metres, inf: sky."""
        self.calls += 1
        self.errors = json.loads(self.stated.read_text())  # which tests change while an engine is up
        if self.errors.get("die"):
            os.abort()
        if len(images) > self.errors.get("most_images", 10**9):
            raise torch.OutOfMemoryError(f"tried to allocate {len(images)} images")
        height, width = images.shape[-2:]
        apart = (thumbs(images.float())[:, None] - self.arrays["thumbs"][None]).abs().mean((2, 3))
        which = apart.argmin(1)
        known = self.arrays["depth"].shape[1:]
        columns = self.arrays["intrinsics"][which] * torch.tensor(
            [width / known[1], height / known[0], width / known[1], height / known[0]])
        depth = torch.nn.functional.interpolate(self.arrays["depth"][which][:, None], (height, width),
                                                mode="nearest-exact")[:, 0]
        return self.arrays["c2w"][which], columns, self.spoil(depth)

    def spoil(self, depth: torch.Tensor) -> torch.Tensor:
        """Multiplicative noise, a factor for each map, outliers and pixels that are not known."""
        shape = depth.shape
        coarse = torch.from_numpy(self.random.standard_normal((shape[0], 1, shape[1] // 12, shape[2] // 12)))
        smooth = torch.nn.functional.interpolate(coarse, shape[1:], mode="bicubic")[:, 0].numpy()
        noise = np.exp(self.errors.get("noise", 0.0) * smooth)  # neighbouring pixels err alike
        noise *= np.exp(self.errors.get("waver", 0.0) * self.random.standard_normal((shape[0], 1, 1)))
        blocks = self.random.random((shape[0], shape[1] // 6 + 1, shape[2] // 6 + 1))
        blocks = blocks.repeat(6, 1).repeat(6, 2)[:, :shape[1], :shape[2]]
        share = self.errors.get("outliers", 0.0)
        noise = np.where(blocks < share, noise * 7.0, noise)
        noise = np.where(blocks > 1 - self.errors.get("missing", 0.0), np.nan, noise)
        return depth * torch.from_numpy(noise).float() * self.errors.get("scale", 1.0)

    def world(self, c2w: torch.Tensor, unit: float) -> torch.Tensor:
        """The cameras in a world of the engine's own, a window's first frame, and in its unit."""
        moved = torch.linalg.inv(c2w[:1].double()) @ c2w.double()
        moved[:, :3, 3] *= unit
        return moved.float()
