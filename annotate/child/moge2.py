"""MoGe-2 (package `moge`): depth in metres of single images.

Interface as in its README: `infer` of images (n, 3, h, w) in [0, 1] with the horizontal field of view in
degrees where it is known returns `depth` (n, h, w), infinite where its mask says sky, and `intrinsics`
(n, 3, 3) as shares of the image size.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from annotate.child.images import autocast, four, to_tensor
from annotate.child.protocol import Arrays


def load(settings: dict[str, Any]) -> Any:
    """An engine for requests {"rgb" (n, h, w, 3) uint8, "fov_x_deg" (n,) or absent}."""
    import torch
    from moge.model.v2 import MoGeModel

    device = settings["device"]
    model = MoGeModel.from_pretrained(settings["weights"]).to(device).eval()

    def engine(arrays: Arrays, meta: dict[str, Any]) -> tuple[Arrays, dict[str, Any]]:
        images = to_tensor(arrays["rgb"], device)
        fov = None
        if "fov_x_deg" in arrays:
            fov = torch.from_numpy(arrays["fov_x_deg"]).float().to(device)
        with torch.no_grad(), autocast(device):
            found = model.infer(images, fov_x=fov, use_fp16=device.startswith("cuda"))
        depth = found["depth"].float().cpu().numpy()
        height, width = depth.shape[1:]
        intrinsics = four(found["intrinsics"].double().cpu().numpy()) * (width, height, width, height)
        return {"depth": np.where(np.isfinite(depth), depth, np.nan), "intrinsics": intrinsics}, {}

    return engine
