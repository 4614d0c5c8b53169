"""Draws splats on a GPU with gsplat (extra `gpu`), by the same definition as the reference renderer."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np

from annotate.splats.config import Drawer
from annotate.splats.render import BLUR_PX2, TILE
from annotate.splats.scene import Splats

INSTALL = "pip install 'sana-wm-open[gpu]'"


def why_not() -> str | None:
    """Why gsplat cannot draw here, in a sentence that says what to install; None where it can."""
    if importlib.util.find_spec("gsplat") is None:
        return f"source.splats.drawer=gsplat needs the package gsplat: {INSTALL}"
    import torch

    if not torch.cuda.is_available():
        return ("source.splats.drawer=gsplat needs an NVIDIA GPU and a CUDA build of torch; "
                "drawer=cpu draws without")
    return None


def resolve(drawer: Drawer) -> Drawer:
    """cpu or gsplat. Raises ValueError where gsplat is asked for and cannot draw."""
    missing = why_not() if drawer is not Drawer.cpu else None
    if drawer is Drawer.gsplat and missing is not None:
        raise ValueError(missing)
    return Drawer.cpu if drawer is Drawer.cpu or missing is not None else Drawer.gsplat


class GsplatDrawing:
    """A scene on the GPU. Raises RuntimeError with what to install where gsplat cannot draw."""

    def __init__(self, splats: Splats, size: tuple[int, int], near: float) -> None:
        missing = why_not()
        if missing is not None:
            raise RuntimeError(missing)
        import torch

        self._size = size
        self._near = near
        self._degree = round(splats.sh.shape[1] ** 0.5) - 1
        arrays = splats.means, splats.rotations, splats.scales, splats.opacities, splats.sh
        self._arrays = [torch.from_numpy(np.ascontiguousarray(a, np.float32)).cuda() for a in arrays]

    def frame(self, c2w: np.ndarray, intrinsics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """RGB (H, W, 3) and opacity (H, W) float32, as `annotate.splats.render.Drawing` has it."""
        rgb, alpha = self.draw(c2w, intrinsics)
        return rgb.cpu().numpy(), alpha.cpu().numpy()

    def draw(self, c2w: np.ndarray, intrinsics: np.ndarray) -> tuple[Any, Any]:
        """The same, left on the GPU."""
        import torch
        from gsplat import rasterization

        means, rotations, scales, opacities, sh = self._arrays
        fx, fy, cx, cy = (float(v) for v in intrinsics)
        matrix = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], device="cuda")
        w2c = torch.from_numpy(np.linalg.inv(c2w).astype(np.float32)).cuda()
        height, width = self._size
        with torch.inference_mode():
            rgb, alpha, _ = rasterization(
                means, rotations, scales, opacities, sh, w2c[None], matrix[None], width, height,
                near_plane=self._near, eps2d=BLUR_PX2, sh_degree=self._degree, tile_size=TILE)
        return rgb[0], alpha[0, ..., 0]
