"""Pi3X (package `pi3`): cameras and point maps of a window of frames in one pass, roughly in metres.

Interface as in its README and `example_mm.py`: images (1, n, 3, h, w) in [0, 1], h and w multiples of 14; out
come `camera_poses` (1, n, 4, 4) OpenCV camera-to-world, `local_points` (1, n, h, w, 3) in camera axes, `conf`
(1, n, h, w, 1) logits. Intrinsics (1, n, 3, 3) in pixels may be given.
"""

from __future__ import annotations

from typing import Any

from annotate.child.images import autocast, focal_of_rays, three, to_tensor
from annotate.child.protocol import Arrays


def load(settings: dict[str, Any]) -> Any:
    """An engine for requests {"rgb" (n, h, w, 3) uint8, "intrinsics" (n, 4) or absent}."""
    import torch
    from pi3.models.pi3x import Pi3X

    device = settings["device"]
    model = Pi3X.from_pretrained(settings["weights"]).to(device).eval()

    def engine(arrays: Arrays, meta: dict[str, Any]) -> tuple[Arrays, dict[str, Any]]:
        images = to_tensor(arrays["rgb"], device)[None]
        known = {}
        if "intrinsics" in arrays:
            known["intrinsics"] = torch.from_numpy(three(arrays["intrinsics"])).float().to(device)[None]
        with torch.no_grad(), autocast(device):
            found = model(images, **known)
        points = found["local_points"][0].float().cpu().numpy()
        intrinsics = arrays.get("intrinsics")
        if intrinsics is None:
            intrinsics = focal_of_rays(points, points.shape[1:3])
        return {
            "c2w": found["camera_poses"][0].double().cpu().numpy(), "intrinsics": intrinsics,
            "depth": points[..., 2], "confidence": found["conf"][0, ..., 0].float().cpu().numpy(),
        }, {"metric": True}

    return engine
