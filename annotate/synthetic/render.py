"""Draws a scene: exact depth of every pixel centre, trilinear textures, edges antialiased by supersampling.

A rectangle O + a u + b v seen through K[R|t] obeys  (a, b, 1) ~ G (x, y, 1)  with  G = (K [u v O-C])^-1,
and the last row of G p is 1/z: visibility, depth and texture coordinates are all linear in the pixel
before one division.
"""

from __future__ import annotations

import math
from functools import cached_property

import cv2
import numpy as np

from annotate.synthetic.scene import Scene
from annotate.synthetic.texture import HAZE, MIP_LEVELS

_NEAR_M = 0.05
_OFFSETS = ((-0.375, -0.125), (0.125, -0.375), (0.375, 0.125), (-0.125, 0.375))  # a rotated grid
_SHARPNESS = 0.2  # mip levels below the widest footprint: surfaces seen at an angle keep some detail


class Renderer:
    """Draws frames and depth maps of one scene at one size."""

    def __init__(self, scene: Scene, size: tuple[int, int]) -> None:
        self.scene = scene
        self._size = size
        height, width = size
        self._xs = np.arange(width, dtype=np.float32) + 0.5
        self._ys = np.arange(height, dtype=np.float32) + 0.5
        surfaces = scene.surfaces
        self._origin, self._u, self._v, self._normal = (
            np.stack([getattr(s, name) for s in surfaces]) for name in ("origin", "u", "v", "normal"))
        self._moving = np.array([s.moving for s in surfaces])
        self._sky = np.array([s.infinite for s in surfaces])
        # Texture corner and size in the atlas, float32: x, y, width, height.
        self._blocks = np.array([(*s.block, s.texels[1], s.texels[0]) for s in surfaces], np.float32)

    @cached_property
    def _tables(self) -> list[np.ndarray]:
        """By level: 2^-level, and the corner (x, y) of the level in the atlas less half a texel."""
        tables = np.zeros((3, 256), np.float32)
        levels = np.minimum(np.arange(256), MIP_LEVELS - 1)
        tables[0] = 0.5**levels
        tables[1:] = self.scene.atlas[1][levels].T - 0.5
        return list(tables)

    def depth(self, c2w: np.ndarray, intrinsics: np.ndarray, time: float) -> np.ndarray:
        """Depth (H, W) float32 in metres at pixel centres; infinite where there is only sky."""
        _, inverse, _ = self._visibility(c2w, intrinsics, time)
        with np.errstate(divide="ignore"):
            return np.where(inverse > 0, 1.0 / inverse, np.inf).astype(np.float32)

    def frame(self, c2w: np.ndarray, intrinsics: np.ndarray, time: float) -> np.ndarray:
        """The image (H, W, 3) RGB uint8 of a camera at `c2w` with (fx, fy, cx, cy) `intrinsics`."""
        ids, inverse, maps = self._visibility(c2w, intrinsics, time)
        u, v, level = self._texture_maps(ids, inverse, maps)
        image = self._sample(u, v, level)
        if (ids < 0).any():
            image[ids < 0] = HAZE
        self._smooth_edges(image, ids, level, maps)
        return image

    def _visibility(
        self, c2w: np.ndarray, intrinsics: np.ndarray, time: float,
    ) -> tuple[np.ndarray, np.ndarray, dict[int, tuple[np.ndarray, slice, slice]]]:
        """Surface number (H, W) int16 (-1: none), 1/z (H, W) float32, and each surface's G and window."""
        ids = np.full(self._size, -1, np.int16)
        inverse = np.zeros(self._size, np.float32)
        fx, fy, cx, cy = intrinsics
        k = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
        maps: dict[int, tuple[np.ndarray, slice, slice]] = {}
        numbers, corners, lines = self._facing(c2w, k, time)
        for number, quad, g in zip(numbers.tolist(), corners, lines):
            spans = _scan(quad, self._size)
            if spans is None:
                continue
            rows, left, right = spans
            x0, x1 = int(left.min()), int(right.max())
            columns = np.arange(x0, x1)
            inside = (columns >= left[:, None]) & (columns < right[:, None])
            window = (rows, slice(x0, x1))
            if not self._sky[number]:
                w = np.float32(g[2, 0]) * self._xs[x0:x1] + _column(g[2], self._ys[rows])
                inside &= w > inverse[window]
                np.copyto(inverse[window], w, where=inside)
            np.copyto(ids[window], np.int16(number), where=inside)
            maps[number] = g, *window
        return ids, inverse, maps

    def _facing(
        self, c2w: np.ndarray, k: np.ndarray, time: float,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Numbers (n,) of surfaces that may show, sky first; corners (n, 4, 3), homogeneous; G (n, 3, 3)."""
        offset = self._origin - np.where(self._sky[:, None], 0.0, c2w[:3, 3])
        offset = offset + self._moving[:, None] * self.scene.velocity * time
        plane = k @ c2w[:3, :3].T @ np.stack([self._u, self._v, offset], -1)
        o, u, v = plane[..., 2], plane[..., 0], plane[..., 1]
        corners = np.stack([o, o + u, o + u + v, o + v], 1)  # (n, 4, 3), homogeneous pixels
        height, width = self._size
        x, y, z = np.moveaxis(corners, -1, 0)
        # Homogeneous coordinates keep their sides of the image's borders for points behind the camera too.
        outside = np.any([(z < _NEAR_M).all(1), (x < 0).all(1), (x > width * z).all(1), (y < 0).all(1),
                          (y > height * z).all(1)], axis=0)
        shown = np.flatnonzero(((offset * self._normal).sum(1) < -1e-9) & ~outside)
        shown = shown[np.argsort(~self._sky[shown], kind="stable")]
        return shown, corners[shown], np.linalg.inv(plane[shown])

    def _texture_maps(
        self, ids: np.ndarray, inverse: np.ndarray, maps: dict[int, tuple[np.ndarray, slice, slice]],
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Atlas coordinates u, v (H, W) at level 0 and the mip level (H, W), float32."""
        u, v, level = (np.zeros(self._size, np.float32) for _ in range(3))
        present = np.bincount(ids.ravel() + 1, minlength=len(self.scene.surfaces) + 1)[1:] > 0
        for number, (g, rows, columns) in maps.items():
            if not present[number]:
                continue
            mine = ids[rows, columns] == number
            ys, xs = np.flatnonzero(mine.any(1)), np.flatnonzero(mine.any(0))
            y0, y1 = rows.start + ys[0], rows.start + ys[-1] + 1
            x0, x1 = columns.start + xs[0], columns.start + xs[-1] + 1
            mine = mine[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
            window = (slice(y0, y1), slice(x0, x1))
            texture = self._atlas_map(number, g)
            if self._sky[number]:
                w = np.float32(texture[2, 0]) * self._xs[x0:x1] + _column(texture[2], self._ys[y0:y1])
            else:
                w = inverse[window]
            z = 1 / np.maximum(w, 1e-6)
            for target, line in ((u, texture[0]), (v, texture[1])):
                value = np.float32(line[0]) * self._xs[x0:x1] + _column(line, self._ys[y0:y1])
                np.multiply(value, z, out=target[window], where=mine)
            np.copyto(level[window], self._levels(texture, y0, y1, x0, x1), where=mine)
        return u, v, level

    def _atlas_map(self, number: int, g: np.ndarray) -> np.ndarray:
        """G with its first two rows in texels of the atlas (times 1/z)."""
        x, y, wide, high = self._blocks[number].astype(np.float64)
        return np.stack([wide * g[0] + x * g[2], high * g[1] + y * g[2], g[2]])

    def _levels(self, texture: np.ndarray, y0: int, y1: int, x0: int, x1: int) -> np.ndarray:
        """Mip level (y1-y0, x1-x0) of one surface: log2 of the longer side of a pixel's footprint in texels.

        Smooth over a surface, so computed on a grid of about 16 pixels and interpolated.
        """
        rows, columns = max(2, (y1 - y0) // 16), max(2, (x1 - x0) // 16)
        step_y, step_x = (y1 - y0) / rows, (x1 - x0) / columns
        ys = (y0 + (np.arange(rows) + 0.5) * step_y)[:, None]
        xs = x0 + (np.arange(columns) + 0.5) * step_x
        t = texture.astype(np.float64)
        w = np.maximum(t[2, 0] * xs + t[2, 1] * ys + t[2, 2], 1e-3)
        u, v = ((t[i, 0] * xs + t[i, 1] * ys + t[i, 2]) / w for i in (0, 1))
        across = ((t[0, 0] - u * t[2, 0]) / w) ** 2 + ((t[1, 0] - v * t[2, 0]) / w) ** 2
        down = ((t[0, 1] - u * t[2, 1]) / w) ** 2 + ((t[1, 1] - v * t[2, 1]) / w) ** 2
        grid = 0.5 * np.log2(np.maximum(np.maximum(across, down), 1e-12)) - _SHARPNESS
        grid = np.clip(grid, 0, MIP_LEVELS - 1 - 1e-3).astype(np.float32)
        return cv2.resize(grid, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)

    def _sample(self, u: np.ndarray, v: np.ndarray, level: np.ndarray) -> np.ndarray:
        """Trilinear look-up: (..., 3) uint8 for maps of one two-dimensional shape."""
        base = level.astype(np.uint8)
        share = level - base
        layers = []
        for number in (base, base + np.uint8(1)):
            scale, map_x, map_y = (cv2.LUT(number, table) for table in self._tables)
            layers.append(cv2.remap(self.scene.atlas[0], u * scale + map_x, v * scale + map_y,
                                    cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
        return cv2.blendLinear(layers[0], layers[1], 1 - share, share)

    def _smooth_edges(
        self, image: np.ndarray, ids: np.ndarray, level: np.ndarray,
        maps: dict[int, tuple[np.ndarray, slice, slice]],
    ) -> None:
        """Redraws the pixels where surfaces meet from four samples each."""
        ys, xs, candidates, levels = _edge_pixels(ids, level)
        count = len(ys)
        if not count:
            return
        table = np.zeros((9, len(self.scene.surfaces) + 1), np.float32)  # last column: nothing drawn
        for number, (g, *_) in maps.items():
            table[:, number] = g.ravel()
        lines = table[:, candidates]  # (9, 3, n)
        empty = candidates < 0
        behind = np.append(self._sky, True)[candidates]
        blocks = np.vstack([self._blocks, np.zeros((1, 4), np.float32)])
        total = np.zeros((count, 3), np.uint16)
        pick = np.arange(count)
        for dx, dy in _OFFSETS:
            at_x, at_y = (xs + (0.5 + dx)).astype(np.float32), (ys + (0.5 + dy)).astype(np.float32)
            a, b, w = (lines[r] * at_x + lines[r + 1] * at_y + lines[r + 2] for r in (0, 3, 6))
            inside = (np.minimum(a, b) >= 0) & (np.maximum(a, b) <= w)
            inside |= empty
            # Nearest wins; sky and emptiness only where nothing else is.
            score = np.where(inside, np.where(behind, np.float32(1e-9), w), 0)
            best = score.argmax(0)
            chosen = candidates[best, pick]
            z = 1 / np.maximum(w[best, pick], 1e-6)
            block = blocks[chosen]
            u = block[:, 0] + np.clip(a[best, pick] * z, 0, 1) * block[:, 2]
            v = block[:, 1] + np.clip(b[best, pick] * z, 0, 1) * block[:, 3]
            colours = self._sample_list(u, v, levels[best, pick])
            colours[chosen < 0] = HAZE
            total += colours
        image[ys, xs] = (total + 2) // 4

    def _sample_list(self, u: np.ndarray, v: np.ndarray, level: np.ndarray) -> np.ndarray:
        """`_sample` of n places; (n, 3). Folded to rows, since images may not be wider than 32767."""
        count, columns = len(u), 1024
        rows = -(-count // columns)
        folded = [np.resize(values, (rows, columns)) for values in (u, v, level)]
        return self._sample(*folded).reshape(-1, 3)[:count]


def _column(line: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """The part of a linear function that changes down the image, (n, 1) float32."""
    return (line[1] * ys + line[2]).astype(np.float32)[:, None]


def _edge_pixels(
    ids: np.ndarray, level: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Pixels (n,) beside another surface: rows, columns, and (3, n) surfaces and levels to choose from.

    The choice is the pixel's own, the other one to its left or right, and the other one above or below.
    """
    across, down = np.zeros_like(ids, dtype=bool), np.zeros_like(ids, dtype=bool)
    across[:, 1:] = ids[:, 1:] != ids[:, :-1]  # differs from its left
    down[1:] = ids[1:] != ids[:-1]  # differs from the one above
    edge = across | down
    edge[:, :-1] |= across[:, 1:]
    edge[:-1] |= down[1:]
    ys, xs = np.nonzero(edge)
    height, width = ids.shape
    beside = np.where(across[ys, xs], xs - 1, np.minimum(xs + 1, width - 1))
    above = np.where(down[ys, xs], ys - 1, np.minimum(ys + 1, height - 1))
    places = (ys, xs), (ys, beside), (above, xs)
    return ys, xs, np.stack([ids[at] for at in places]), np.stack([level[at] for at in places])


def _scan(corners: np.ndarray, size: tuple[int, int]) -> tuple[slice, np.ndarray, np.ndarray] | None:
    """Rows of the image a rectangle covers, and for each the columns [left, right) whose centres lie inside.

    corners (4, 3) are homogeneous pixels. None when nothing shows.
    """
    if corners[:, 2].min() < _NEAR_M:
        corners = _clip_near(corners)
        if len(corners) < 3:
            return None
    pixels = corners[:, :2] / corners[:, 2:]
    height, width = size
    y_low, y_high = pixels[:, 1].min(), pixels[:, 1].max()
    top = math.ceil(min(max(y_low - 0.5, 0), height))
    bottom = math.ceil(min(max(y_high - 0.5, 0), height))
    if top >= bottom:
        return None
    centres = np.arange(top, bottom) + 0.5
    p, q = pixels[:, :, None], pixels[np.arange(1, len(pixels) + 1) % len(pixels), :, None]  # (edges, 2, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        at = p[:, 0] + (centres - p[:, 1]) * ((q[:, 0] - p[:, 0]) / (q[:, 1] - p[:, 1]))  # (edges, rows)
    crosses = (p[:, 1] <= centres) != (q[:, 1] <= centres)
    left = np.where(crosses, at, np.inf).min(0)
    right = np.where(crosses, at, -np.inf).max(0)
    sides = np.ceil(np.minimum(np.maximum((left - 0.5, right - 0.5), 0), width)).astype(np.int64)
    left, right = sides
    shown = left < right
    if not shown.any():
        return None
    left[~shown] = right[~shown] = left[shown][0]
    return slice(top, bottom), left, right


def _clip_near(corners: np.ndarray) -> np.ndarray:
    """The polygon (n, 3) in homogeneous pixels, without what lies nearer than `_NEAR_M`."""
    kept = []
    for p, q in zip(corners, np.roll(corners, -1, axis=0)):
        if p[2] >= _NEAR_M:
            kept.append(p)
        if (p[2] >= _NEAR_M) != (q[2] >= _NEAR_M):
            kept.append(p + (q - p) * (_NEAR_M - p[2]) / (q[2] - p[2]))
    return np.array(kept).reshape(-1, 3)
