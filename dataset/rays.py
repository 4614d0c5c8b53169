"""Rays of cameras: unit directions, Plücker coordinates, and the camera inputs of the released network.

Ours     pixel centres at +0.5, like everything in this package: `ray_directions`, `plucker_map`.
Network  `model_camera` and the functions it is made of build the network's inputs as the released weights
         were trained: the ray of latent cell (x, y) goes through integer (x, y), the cell's top-left corner.
         That convention exists in `_corners` and nowhere else.

Results are torch tensors, float64 but for those of `model_camera`. Arguments may be numpy arrays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from dataset.camera import crop_intrinsics, relative, resize_intrinsics

if TYPE_CHECKING:
    import torch

TARGET_SIZE = (704, 1280)
CELL = 32
"""Pixels of the video per latent cell of the released model, along both axes."""
STRIDE = 8
"""Video frames per latent frame, after the first."""
STREAM_CHUNK = 24
"""Video frames a stream grows by: three latent frames."""


def ray_directions(intrinsics: ArrayLike, size: tuple[int, int]) -> torch.Tensor:
    """Unit directions (F, H, W, 3) in camera axes through the centre of every pixel of `size`.

    intrinsics: (F, 4) in pixels of `size`.
    """
    import torch
    from kornia.geometry.depth import unproject_meshgrid

    # kornia's grid has integer centres
    fx, fy, cx, cy = np.moveaxis(crop_intrinsics(intrinsics, 0.5, 0.5), -1, 0)
    matrix = np.zeros((len(fx), 3, 3))
    matrix[:, 0, 0], matrix[:, 1, 1], matrix[:, 0, 2], matrix[:, 1, 2], matrix[:, 2, 2] = fx, fy, cx, cy, 1.0
    return unproject_meshgrid(*size, torch.from_numpy(matrix), normalize_points=True, dtype=torch.float64)


def plucker_map(c2w: ArrayLike, intrinsics: ArrayLike, size: tuple[int, int]) -> torch.Tensor:
    """Plücker coordinates (F, H, W, 6) in the world: unit direction, then moment, centre × direction."""
    return _plucker(c2w, ray_directions(intrinsics, size))


def snap_frames(requested: int, available: int, streaming: bool = False) -> int:
    """Number of video frames to run: the 8k + 1 nearest to `requested` (24k + 1 for streams), ties upwards;
    downwards where the path has fewer. Raises ValueError where there is no frame at all."""
    if requested < 1 or available < 1:
        raise ValueError(f"{requested} frames requested, {available} available, expected at least 1 of each")
    step = STREAM_CHUNK if streaming else STRIDE
    nearest = (requested - 1 + step // 2) // step * step + 1
    return nearest if nearest <= available else (available - 1) // step * step + 1


def latent_frames(frames: int) -> int:
    """Latent frames of a video: frame 0 alone, then one for every eight."""
    return (frames - 1) // STRIDE + 1


@dataclass(frozen=True)
class ImageFit:
    """How an image of `size` becomes one of `target`: resize, then crop. All sizes (height, width)."""

    size: tuple[int, int]
    resized: tuple[int, int]
    top: int
    left: int
    target: tuple[int, int]

    def intrinsics(self, intrinsics: ArrayLike) -> np.ndarray:
        """Intrinsics (..., 4) of the target image from those of the source image."""
        return crop_intrinsics(resize_intrinsics(intrinsics, self.size, self.resized), self.top, self.left)


def fit_image(size: tuple[int, int], target: tuple[int, int] = TARGET_SIZE) -> ImageFit:
    """The smallest resize that covers `target`, and the centre crop after it; resample with Lanczos."""
    scale = max(target[0] / size[0], target[1] / size[1])
    height, width = (max(t, round(s * scale)) for s, t in zip(size, target, strict=True))
    return ImageFit(size, (height, width), (height - target[0]) // 2, (width - target[1]) // 2, target)


def frame_intrinsics(intrinsics: ArrayLike, frames: int) -> np.ndarray:
    """Intrinsics (frames, 4) from a vector (4,), a matrix (3, 3), or a sequence of either.

    A longer sequence is cut; a shorter one is stretched linearly in normalised time, both ends kept.
    Raises ValueError for any other shape, for skew, and for focal lengths that are not positive.
    """
    k = np.asarray(intrinsics, np.float64)
    if k.shape[-2:] == (3, 3) and k.ndim in (2, 3):
        if np.abs(k[..., 0, 1]).max() > 1e-6 * np.abs(k[..., 0, 0]).max():
            raise ValueError("intrinsics: the matrix has skew, which the model does not know; rectify first")
        k = np.stack([k[..., 0, 0], k[..., 1, 1], k[..., 0, 2], k[..., 1, 2]], -1)
    if k.shape[-1:] != (4,) or k.ndim > 2 or not k.size:
        raise ValueError(f"intrinsics: shape {np.shape(intrinsics)}, expected (4,), (3, 3), (frames, 4) "
                         "or (frames, 3, 3)")
    if not np.isfinite(k).all() or (k[..., :2] <= 0).any():
        raise ValueError("intrinsics: fx and fy must be positive, all values finite; order is fx, fy, cx, cy")
    if k.ndim == 1:
        return np.tile(k, (frames, 1))
    if len(k) >= frames:
        return k[:frames].copy()
    old, new = np.linspace(0, 1, len(k)), np.linspace(0, 1, frames)
    return np.stack([np.interp(new, old, k[:, i]) for i in range(4)], -1)


def latent_intrinsics(intrinsics: ArrayLike, size: tuple[int, int], grid: tuple[int, int]) -> np.ndarray:
    """Intrinsics (..., 4) of an image of `size` in units of the cells of a latent `grid` (height, width)."""
    return resize_intrinsics(intrinsics, size, grid)


@dataclass(frozen=True)
class ModelCamera:
    """Camera inputs of the network (the paper's dual-branch camera control), float32.

    conditions (T, 20): of video frame 8j its pose relative to frame 0, row-major, then intrinsics in cells.
    plucker (48, T, H, W): eight video frames of six Plücker coordinates for each latent frame.
    """

    conditions: torch.Tensor
    plucker: torch.Tensor


def model_camera(
    c2w: ArrayLike, intrinsics: ArrayLike, size: tuple[int, int], cell: int = CELL,
    plucker: torch.Tensor | None = None,
) -> ModelCamera:
    """Camera inputs for a video of `size` from poses (F, 4, 4) in metres and intrinsics (F, 4) in its pixels.

    Translations are used as they are: the network was trained on metres. Raises ValueError where `size` is
    not a multiple of the latent cell, `cell` pixels along both axes. plucker: where to put the maps.
    """
    import torch

    if size[0] % cell or size[1] % cell:
        raise ValueError(f"video of {size[1]} x {size[0]}: both must be multiples of the latent cell, "
                         f"{cell} pixels")
    poses, grid = relative(c2w), (size[0] // cell, size[1] // cell)
    k = latent_intrinsics(intrinsics, size, grid)
    count = latent_frames(len(poses))
    if plucker is None:
        plucker = torch.empty(6 * STRIDE, count, *grid, dtype=torch.float32)
    return ModelCamera(camera_conditions(poses, k, count).to(torch.float32),
                       packed_plucker(poses, k, grid, count, plucker))


def camera_conditions(relative_c2w: ArrayLike, intrinsics: ArrayLike, count: int) -> torch.Tensor:
    """Rows (count, 20): the last video frame of each latent frame speaks for it; the last row repeats where
    the path is shorter. `intrinsics` (F, 4) in cells."""
    import torch

    poses, k = np.asarray(relative_c2w, np.float64), np.asarray(intrinsics, np.float64)
    frames = np.minimum(np.arange(count), latent_frames(len(poses)) - 1) * STRIDE
    return torch.from_numpy(np.concatenate([poses[frames].reshape(count, 16), k[frames]], axis=1))


def packed_plucker(
    relative_c2w: ArrayLike, intrinsics: ArrayLike, grid: tuple[int, int], count: int,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Plücker maps (48, count, H, W) on the latent `grid`, channel = 6 · place in window + component.

    Latent frame j takes video frames 8j-7 to 8j. The window of frame 0 would start before the video and is
    moved to 0..7, so it holds seven future frames; windows past the end repeat the last frame.
    Before it is scaled to unit length, direction and moment are linear in the cell, R K⁻¹ (x, y, 1) and
    o × R K⁻¹ (x, y, 1): one product of matrices for the whole clip, put into `out` in its type if given.
    """
    import torch

    poses, k = np.asarray(relative_c2w, np.float64), np.asarray(intrinsics, np.float64)
    inverse = np.zeros((len(k), 3, 3))
    inverse[:, 0, 0], inverse[:, 1, 1], inverse[:, 2, 2] = 1 / k[:, 0], 1 / k[:, 1], 1.0
    inverse[:, :2, 2] = -k[:, 2:] / k[:, :2]
    directions = poses[:, :3, :3] @ inverse
    moments = np.cross(poses[:, :3, 3, None], directions, axis=1)
    starts = np.maximum(np.arange(count) * STRIDE - (STRIDE - 1), 0)
    window = np.minimum(np.arange(STRIDE)[:, None] + starts, len(poses) - 1)  # (8, count)
    lines = np.concatenate([directions, moments], axis=1)[window]  # (8, count, 6, 3)
    rows = torch.from_numpy(lines.swapaxes(1, 2).reshape(-1, 3))
    cells = _corners(grid)
    if out is None:
        out = torch.empty(6 * STRIDE, count, *grid, dtype=torch.float64)
    flat = out.view(len(rows), -1)
    if (k == k[0]).all():
        cells /= np.linalg.norm(inverse[0] @ cells, axis=0)
        torch.matmul(rows.to(out.dtype), torch.from_numpy(cells).to(out.dtype), out=flat)
    else:
        torch.matmul(rows.to(out.dtype), torch.from_numpy(cells).to(out.dtype), out=flat)
        length = torch.from_numpy(np.linalg.norm(inverse @ cells, axis=1)).to(out.dtype)
        flat.view(STRIDE, 6, count, -1).div_(length[torch.from_numpy(window)][:, None])
    return out


def _corners(grid: tuple[int, int]) -> np.ndarray:
    """(x, y, 1) of the top-left corner of every cell, (3, H · W)."""
    y, x = np.mgrid[: grid[0], : grid[1]].reshape(2, -1).astype(np.float64)
    return np.stack([x, y, np.ones_like(x)])


def _plucker(c2w: ArrayLike, directions: torch.Tensor) -> torch.Tensor:
    import torch

    poses = torch.from_numpy(np.asarray(c2w, np.float64))
    world = torch.einsum("fij,fhwj->fhwi", poses[:, :3, :3], directions)
    moment = torch.linalg.cross(poses[:, None, None, :3, 3].expand_as(world), world)
    return torch.cat([world, moment], dim=-1)
