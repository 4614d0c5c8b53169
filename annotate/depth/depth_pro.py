"""DepthPro by transformers: depth in metres of single frames; it guesses a field of view if none is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from annotate.batches import Batches
from annotate.depth.maps import to_maps
from annotate.frames import Frames, gray_height, shrink
from annotate.learned import LearnedConfig, needs_of
from annotate.weights import Needs, locate
from dataset.camera import resize_intrinsics
from dataset.clip import DepthMaps


class DepthProEngine:
    """`annotate.depth.engine.MetricDepthEngine` around `transformers.DepthProForDepthEstimation`."""

    name = "depth_pro"
    version = "1"

    def __init__(self, learned: LearnedConfig, width: int) -> None:
        self._learned = learned
        self._width = width
        self._batches = Batches(learned.batch_size)
        self._model: Any = None

    def needs(self) -> list[Needs]:
        return [needs_of(self.name, self._learned)]

    def estimate(self, frames: Frames, chosen: Sequence[int], intrinsics: np.ndarray | None) -> DepthMaps:
        import torch

        if self._model is None:
            self._model = load(self.needs()[0], self._learned.device)
        width = min(self._width, frames.size[1])
        size = (gray_height(frames.size, width), width)
        known = None if intrinsics is None else resize_intrinsics(intrinsics, frames.size, size)

        def ask(batch: Sequence[int]) -> list[tuple[np.ndarray, np.ndarray]]:
            images = np.stack([shrink(frames.rgb(k), size) for k in batch])
            focal = None if known is None else torch.from_numpy(known[list(batch), 0])
            depth, fx = depth_of(self._model, images, focal, self._learned.device)
            columns = [(f, f, size[1] / 2, size[0] / 2) for f in fx] if known is None else known[list(batch)]
            return list(zip(depth, np.asarray(columns, np.float64)))

        maps, columns = zip(*self._batches.run(ask, list(chosen)))
        return to_maps(np.stack(maps), np.stack(columns), chosen, self.name)


def load(needs: Needs, device: str) -> Any:
    """The network of the weights named in `needs`."""
    import torch
    from transformers import DepthProForDepthEstimation

    assert needs.weights is not None
    where = locate(needs.weights, needs.file, needs.engine)
    dtype = torch.float16 if device.startswith("cuda") else torch.float32
    model: Any = DepthProForDepthEstimation.from_pretrained(where, dtype=dtype)
    return model.to(device).eval()


def depth_of(model: Any, images: np.ndarray, focal_px: Any, device: str) -> tuple[np.ndarray, np.ndarray]:
    """(n, h, w) metres and (n,) focal length in pixels of images (n, h, w, 3) uint8.

    The network gives canonical inverse depth C on square pictures; depth is f / (w C), f being the focal
    length in pixels of the width w (Bochkovskii et al. 2024, section 3). focal_px (n,): f where known.
    """
    import torch

    height, width = images.shape[1:3]
    side = round(model.config.patch_size / min(model.config.scaled_images_ratios))  # 1536 as released
    pixels = torch.from_numpy(images).to(device).permute(0, 3, 1, 2).to(model.dtype) / 127.5 - 1
    square = torch.nn.functional.interpolate(pixels, (side, side), mode="bilinear", antialias=True)
    with torch.no_grad():
        found = model(pixel_values=square)
    inverse = torch.nn.functional.interpolate(found.predicted_depth.float()[:, None], (height, width),
                                              mode="bilinear")[:, 0]
    if focal_px is None:
        if found.field_of_view is None:
            raise ValueError("depth_pro: these weights guess no field of view, and none is known")
        fov_deg = found.field_of_view.float().reshape(-1)
        if not bool(((fov_deg > 0) & (fov_deg < 180)).all()):
            raise ValueError(f"depth_pro: guesses a field of view of {fov_deg.tolist()} degrees")
        focal_px = 0.5 * width / torch.tan(0.5 * torch.deg2rad(fov_deg))
    focal = focal_px.float().to(inverse.device)
    depth = (focal / width)[:, None, None] / inverse.clamp(min=1e-4)
    return depth.cpu().numpy(), focal.double().cpu().numpy()
