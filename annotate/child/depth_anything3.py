"""Depth Anything 3 (package `depth_anything_3`): cameras and depth of a window of frames in one pass.

Interface as in its README and docs/API.md: `inference` takes a list of images and returns `depth` (n, h, w),
`conf` (n, h, w) = 1 + exp(logit), `extrinsics` (n, 3, 4) or (n, 4, 4) world-to-camera, OpenCV, and
`intrinsics` (n, 3, 3) in pixels of the depth. In metres with the NESTED weights (`is_metric`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from annotate.child.images import camera_to_world, four
from annotate.child.protocol import Arrays

_LEAST = 1e-6


def load(settings: dict[str, Any]) -> Any:
    """An engine for requests {"rgb" (n, h, w, 3) uint8}."""
    import torch
    from depth_anything_3.api import DepthAnything3

    model = DepthAnything3.from_pretrained(settings["weights"]).to(torch.device(settings["device"])).eval()

    def engine(arrays: Arrays, meta: dict[str, Any]) -> tuple[Arrays, dict[str, Any]]:
        rgb = arrays["rgb"]
        found = model.inference(list(rgb), process_res=max(rgb.shape[1:3]), ref_view_strategy="middle")
        if found.extrinsics is None or found.intrinsics is None or found.conf is None:
            raise ValueError(f"{settings['weights']} gives no cameras; weights of the NESTED series do")
        depth = found.depth
        if found.sky is not None:  # a mask, or its probability, which the package cuts at 0.3
            depth = np.where(np.asarray(found.sky) >= 0.3, np.nan, depth)
        return {
            "c2w": camera_to_world(np.asarray(found.extrinsics, np.float64)),
            "intrinsics": four(np.asarray(found.intrinsics, np.float64)),
            "depth": np.asarray(depth, np.float32),
            "confidence": np.log(np.maximum(np.asarray(found.conf, np.float32) - 1, _LEAST)),
        }, {"metric": bool(found.is_metric)}

    return engine
