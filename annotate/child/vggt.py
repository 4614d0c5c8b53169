"""VGGT (package `vggt`): cameras and depth of a window of frames in one pass, in a unit of its own.

Interface as in its README: images (n, 3, h, w) in [0, 1], sides multiples of 14; out come `pose_enc`, which
`pose_encoding_to_extri_intri` turns into world-to-camera (1, n, 3, 4), OpenCV, and (1, n, 3, 3) in pixels,
`depth` (1, n, h, w, 1), and `depth_conf` (1, n, h, w) = 1 + exp(logit).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from annotate.child.images import autocast, camera_to_world, four, to_tensor
from annotate.child.protocol import Arrays

_LEAST = 1e-6


def load(settings: dict[str, Any]) -> Any:
    """An engine for requests {"rgb" (n, h, w, 3) uint8}; intrinsics that are given do not help it."""
    import torch
    from vggt.models.vggt import VGGT
    from vggt.utils.pose_enc import pose_encoding_to_extri_intri

    device = settings["device"]
    model = VGGT.from_pretrained(settings["weights"]).to(device).eval()

    def engine(arrays: Arrays, meta: dict[str, Any]) -> tuple[Arrays, dict[str, Any]]:
        images = to_tensor(arrays["rgb"], device)
        with torch.no_grad(), autocast(device):
            found = model(images)
        w2c, matrix = pose_encoding_to_extri_intri(found["pose_enc"].float(), tuple(images.shape[-2:]))
        confidence = found["depth_conf"][0].float().cpu().numpy()
        return {
            "c2w": camera_to_world(w2c[0].double().cpu().numpy()),
            "intrinsics": four(matrix[0].double().cpu().numpy()),
            "depth": found["depth"][0, ..., 0].float().cpu().numpy(),
            "confidence": np.log(np.maximum(confidence - 1, _LEAST)),
        }, {"metric": False}

    return engine
