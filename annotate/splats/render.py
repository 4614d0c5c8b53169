"""Draws splats on a CPU, exactly as defined and as gsplat does: the reference, and enough for small scenes.

A Gaussian is projected by the local affine approximation (EWA), widened by the trainers' low-pass filter, and
blended front to back over black. Every image tile holds the list of the Gaussians that can reach it.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import numpy as np

from annotate.splats.harmonics import colours
from annotate.splats.scene import Splats

TILE = 16
BLUR_PX2 = 0.3
"""Added to the variance of every projected Gaussian, in training and so in drawing."""
LEAST_ALPHA = 1 / 255
MOST_ALPHA = 0.999
OPAQUE = 1e-4
"""A pixel that lets no more than this through is finished."""
_MARGIN = 0.3  # beyond the image, in half images, the slope of the projection is that of the border
_BATCH = 64  # Gaussians of a tile that are blended at once


class Drawing(Protocol):
    """Draws one scene at one size."""

    def frame(self, c2w: np.ndarray, intrinsics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """RGB (H, W, 3), 0 to 1 or above, over black, and opacity (H, W), of a camera at `c2w` (4, 4) with
        (fx, fy, cx, cy) `intrinsics` in pixels, centres at +0.5."""
        ...


class Projected(NamedTuple):
    """Gaussians that may show, nearest first: centres (n, 2) in pixels, inverse covariances (n, 3) as
    (xx, xy, yy), half sides (n, 2) of the box outside which they are not seen, opacities (n,), RGB (n, 3)."""

    centres: np.ndarray
    conics: np.ndarray
    reach: np.ndarray
    opacities: np.ndarray
    rgb: np.ndarray


class CpuDrawing:
    """The reference renderer. Works in the precision of the splats."""

    def __init__(self, splats: Splats, size: tuple[int, int], near: float) -> None:
        self._splats = splats
        self._size = size
        self._near = near
        axes = rotation_matrices(splats.rotations) * splats.scales[:, None, :]
        self._covariances = axes @ axes.swapaxes(1, 2)

    def frame(self, c2w: np.ndarray, intrinsics: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `Drawing.frame`."""
        height, width = self._size
        seen = self.project(c2w, intrinsics)
        rgb = np.zeros((height, width, 3), seen.rgb.dtype)
        alpha = np.zeros((height, width), seen.rgb.dtype)
        for rows, columns, members in _tiles(seen, self._size):
            rgb[rows, columns], through = _blend(seen, members, rows, columns)
            alpha[rows, columns] = 1 - through
        return rgb, alpha

    def project(self, c2w: np.ndarray, intrinsics: np.ndarray) -> Projected:
        """The Gaussians before the camera whose box meets the image."""
        splats, kind = self._splats, self._splats.means.dtype
        height, width = self._size
        rotation, centre = c2w[:3, :3].astype(kind), c2w[:3, 3].astype(kind)
        fx, fy, cx, cy = (kind.type(v) for v in intrinsics)
        inside = np.flatnonzero(((splats.means - centre) @ rotation[:, 2] > self._near)
                                & (splats.opacities >= LEAST_ALPHA))
        offsets = splats.means[inside] - centre
        points = offsets @ rotation
        z = points[:, 2]
        x, y = points[:, 0] / z, points[:, 1] / z
        centres = np.stack([fx * x + cx, fy * y + cy], -1)
        slack = _MARGIN * kind.type(0.5) * np.array([width / fx, height / fy], kind)
        x = np.clip(x, -cx / fx - slack[0], (width - cx) / fx + slack[0])
        y = np.clip(y, -cy / fy - slack[1], (height - cy) / fy + slack[1])
        # Rows of the projection's slope in world axes: J Rᵀ.
        across = (fx / z)[:, None] * (rotation[:, 0] - x[:, None] * rotation[:, 2])
        down = (fy / z)[:, None] * (rotation[:, 1] - y[:, None] * rotation[:, 2])
        spread = self._covariances[inside]
        wide = np.einsum("ni,nij->nj", across, spread)
        xx = (wide * across).sum(1) + kind.type(BLUR_PX2)
        xy = (wide * down).sum(1)
        yy = np.einsum("ni,nij,nj->n", down, spread, down) + kind.type(BLUR_PX2)
        # Where the profile times the opacity falls below the least alpha.
        farthest = 2 * np.log(splats.opacities[inside] / kind.type(LEAST_ALPHA))
        reach = np.sqrt(farthest[:, None] * np.stack([xx, yy], -1))
        shown = ((centres + reach > 0) & (centres - reach < np.array([width, height], kind))).all(1)
        shown = np.flatnonzero(shown)
        shown = shown[np.argsort(z[shown], kind="stable")]
        inside, determinant = inside[shown], (xx * yy - xy * xy)[shown]
        conics = np.stack([yy[shown], -xy[shown], xx[shown]], -1) / determinant[:, None]
        directions = offsets[shown] / np.linalg.norm(offsets[shown], axis=1)[:, None]
        return Projected(centres[shown], conics, reach[shown], splats.opacities[inside],
                         colours(splats.sh[inside], directions))


def rotation_matrices(quaternions: np.ndarray) -> np.ndarray:
    """(N, 3, 3) of unit quaternions (N, 4) w x y z, in their precision."""
    w, x, y, z = quaternions.T
    rows = [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
            2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
            2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)]
    return np.stack(rows, -1).reshape(-1, 3, 3)


def _tiles(seen: Projected, size: tuple[int, int]) -> list[tuple[slice, slice, np.ndarray]]:
    """Rows, columns and Gaussians, nearest first, of every tile that any can reach."""
    height, width = size
    down, across = -(-height // TILE), -(-width // TILE)
    # A pixel is seen at its centre: that of the first column lies at 0.5.
    low = np.ceil((seen.centres - seen.reach - 0.5).clip(0)).astype(np.int64) // TILE
    high = np.floor((seen.centres + seen.reach - 0.5).clip(-1, [width - 1, height - 1]))
    high = high.astype(np.int64) // TILE
    sides = (high - low + 1).clip(0)
    counts = sides[:, 0] * sides[:, 1]
    members = np.repeat(np.arange(len(counts)), counts)
    nth = np.arange(len(members)) - np.repeat(np.cumsum(counts) - counts, counts)
    wide = sides[members, 0]
    tiles = (low[members, 1] + nth // wide) * across + low[members, 0] + nth % wide
    order = np.argsort(tiles, kind="stable")
    edges = np.searchsorted(tiles[order], np.arange(down * across + 1))
    found = []
    for tile in np.flatnonzero(np.diff(edges)):
        top, left = int(tile) // across * TILE, int(tile) % across * TILE
        found.append((slice(top, min(top + TILE, height)), slice(left, min(left + TILE, width)),
                      members[order[edges[tile]:edges[tile + 1]]]))
    return found


def _blend(
    seen: Projected, members: np.ndarray, rows: slice, columns: slice,
) -> tuple[np.ndarray, np.ndarray]:
    """RGB (h, w, 3) of a tile, and what it lets through (h, w).

    A Gaussian that would leave a pixel opaque is not blended any more, nor is any behind it.
    """
    kind = seen.rgb.dtype
    shape = rows.stop - rows.start, columns.stop - columns.start
    ys = np.repeat(np.arange(rows.start, rows.stop, dtype=kind), shape[1])[:, None] + kind.type(0.5)
    xs = np.tile(np.arange(columns.start, columns.stop, dtype=kind), shape[0])[:, None] + kind.type(0.5)
    rgb = np.zeros((len(xs), 3), kind)
    through, open_ = np.ones(len(xs), kind), np.ones(len(xs), kind)
    for first in range(0, len(members), _BATCH):
        mine = members[first:first + _BATCH]
        dx, dy = xs - seen.centres[mine, 0], ys - seen.centres[mine, 1]  # (pixels, Gaussians)
        xx, xy, yy = seen.conics[mine].T
        power = dx * (xx * dx + 2 * xy * dy) + yy * dy * dy
        alpha = seen.opacities[mine] * np.exp(kind.type(-0.5) * power)
        np.minimum(alpha, kind.type(MOST_ALPHA), out=alpha)
        alpha[alpha < kind.type(LEAST_ALPHA)] = 0
        after = np.cumprod(1 - alpha, axis=1) * (through * open_)[:, None]
        before = np.concatenate([(through * open_)[:, None], after[:, :-1]], axis=1)
        blended = after > kind.type(OPAQUE)
        rgb += np.where(blended, alpha * before, 0) @ seen.rgb[mine]
        least = np.where(blended, after, np.inf).min(1)
        through = np.where((open_ > 0) & np.isfinite(least), least, through)
        open_ = open_ * blended[:, -1]
        if not open_.any():
            break
    return rgb.reshape(*shape, 3), through.reshape(shape)
