"""Pictures and cameras of a request as networks want them. For foreign interpreters: numpy and torch."""

from __future__ import annotations

from typing import Any

import numpy as np


def to_tensor(rgb: np.ndarray, device: str) -> Any:
    """(n, 3, h, w) float32 in [0, 1] of images (n, h, w, 3) uint8."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(rgb)).to(device).permute(0, 3, 1, 2).float() / 255


def autocast(device: str) -> Any:
    """bfloat16 where the GPU has it, float16 on older ones, nothing on a CPU."""
    import torch

    if not device.startswith("cuda"):
        return torch.autocast("cpu", enabled=False)
    good = torch.cuda.get_device_capability(torch.device(device))[0] >= 8
    return torch.autocast("cuda", dtype=torch.bfloat16 if good else torch.float16)


def four(matrix: np.ndarray) -> np.ndarray:
    """(n, 4) fx fy cx cy of matrices (n, 3, 3)."""
    return np.stack([matrix[:, 0, 0], matrix[:, 1, 1], matrix[:, 0, 2], matrix[:, 1, 2]], -1)


def three(intrinsics: np.ndarray) -> np.ndarray:
    """Inverse of `four`."""
    matrix = np.zeros((len(intrinsics), 3, 3))
    matrix[:, 0, 0], matrix[:, 1, 1], matrix[:, 0, 2], matrix[:, 1, 2] = intrinsics.T
    matrix[:, 2, 2] = 1
    return matrix


def camera_to_world(w2c: np.ndarray) -> np.ndarray:
    """(n, 4, 4) inverses of rigid (n, 3, 4) or (n, 4, 4)."""
    rotation, translation = w2c[:, :3, :3], w2c[:, :3, 3]
    c2w = np.tile(np.eye(4), (len(w2c), 1, 1))
    c2w[:, :3, :3] = rotation.swapaxes(1, 2)
    c2w[:, :3, 3] = -np.einsum("nji,nj->ni", rotation, translation)
    return c2w


def focal_of_rays(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(n, 4) intrinsics, principal point at the centre, of point maps (n, h, w, 3) in camera axes.

    fx: median over the pixels of (u - W/2) z / x, without the middle, where it says nothing.
    """
    height, width = size
    u, v = np.meshgrid(np.arange(width) + 0.5 - width / 2, np.arange(height) + 0.5 - height / 2)
    out = np.empty((len(points), 4))
    for k, (x, y, z) in enumerate(np.moveaxis(points.astype(np.float64), -1, 1)):
        side, up = np.abs(u) > width / 8, np.abs(v) > height / 8
        out[k, :2] = np.nanmedian((u * z)[side] / x[side]), np.nanmedian((v * z)[up] / y[up])
        out[k, 2:] = width / 2, height / 2
    return out
