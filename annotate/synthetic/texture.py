"""Procedural textures: noise of many octaves under drawn shapes, so that no place looks like another."""

from __future__ import annotations

import cv2
import numpy as np

from annotate.synthetic.spec import Texture

MIP_LEVELS = 7
BORDER = 8
"""Texels kept around each texture, so that bilinear reads of coarser levels stay within it."""

_TILE_M = 0.6  # of the repeated texture


def paint(
    rng: np.random.Generator, size_m: tuple[float, float], size: tuple[int, int], colour: np.ndarray,
    kind: Texture,
) -> np.ndarray:
    """A surface of `size_m` metres as (h, w, 3) RGB uint8, `size` texels, about `colour` (3,) 0..255."""
    if kind is Texture.low:
        return _plain(rng, size, colour)
    if kind is Texture.repeated:
        tile_size = tuple(max(8, round(n / m * _TILE_M)) for n, m in zip(size, size_m))
        tile = _rich(np.random.default_rng(7), (_TILE_M, _TILE_M), (tile_size[0], tile_size[1]), colour)
        repeats = (-(-size[0] // tile.shape[0]), -(-size[1] // tile.shape[1]), 1)
        return np.tile(tile, repeats)[: size[0], : size[1]]
    return _rich(rng, size_m, size, colour)


def clouds(rng: np.random.Generator, size: int) -> np.ndarray:
    """A sky (size, size, 3), fading to `HAZE` at its border."""
    noise = cv2.resize(_fractal(rng, (64, 64), 5), (size, size), interpolation=cv2.INTER_CUBIC)
    noise = np.clip(1.2 * noise - 0.1, 0, 1)
    axis = np.abs(np.linspace(-1, 1, size, dtype=np.float32))
    fade = np.clip(3 * (1 - np.maximum(axis[:, None], axis[None])), 0, 1)[..., None]
    sky = np.array([120, 160, 215], np.float32) + noise[..., None] * np.array([120, 85, 35], np.float32)
    return (HAZE * (1 - fade) + sky * fade).astype(np.uint8)


HAZE = np.array([196, 208, 222], np.float32)
"""Colour of the sky near the horizon."""


def _plain(rng: np.random.Generator, size: tuple[int, int], colour: np.ndarray) -> np.ndarray:
    soft = cv2.resize(_fractal(rng, (12, 12), 3), size[::-1], interpolation=cv2.INTER_CUBIC) - 0.5
    return np.clip(colour + 8 * soft[..., None], 0, 255).astype(np.uint8)


def _rich(
    rng: np.random.Generator, size_m: tuple[float, float], size: tuple[int, int], colour: np.ndarray,
) -> np.ndarray:
    per_metre = size[1] / size_m[1]
    light = 0.55 + 0.9 * _fractal(rng, size, _octaves(per_metre))
    coarse = max(1, size[0] // 8), max(1, size[1] // 8)
    image = np.empty((*size, 3), np.uint8)
    for channel in range(3):
        tint = colour[channel] + 50 * (_fractal(rng, coarse, _octaves(per_metre / 8)) - 0.5)
        tint = cv2.resize(tint, size[::-1], interpolation=cv2.INTER_CUBIC)
        image[..., channel] = np.clip(light * tint, 0, 255)
    _draw_shapes(rng, image, size_m[0] * size_m[1], per_metre)
    grain = _fractal(rng, size, 3)
    gain = np.clip(150 + 210 * grain, 0, 255).astype(np.uint8)
    for channel in range(3):
        plane = np.ascontiguousarray(image[..., channel])
        image[..., channel] = cv2.multiply(plane, gain, scale=1 / 255)
    return image


def _fractal(rng: np.random.Generator, size: tuple[int, int], octaves: int) -> np.ndarray:
    """Noise (h, w) float32 about 0.5: octaves of equal contrast, the finest with cells of two texels."""
    total: np.ndarray = np.zeros((1, 1), np.float32)
    for octave in range(octaves, 0, -1):
        shape = (size[0] >> octave) + 2, (size[1] >> octave) + 2
        coarser = cv2.resize(total, shape[::-1], interpolation=cv2.INTER_CUBIC)
        total = coarser + rng.random(shape, dtype=np.float32) - np.float32(0.5)
    # Twice the size of the finest grid, less its margin, so that cells are two texels everywhere.
    total = cv2.resize(total, (2 * total.shape[1], 2 * total.shape[0]), interpolation=cv2.INTER_CUBIC)
    return total[1 : size[0] + 1, 1 : size[1] + 1] * np.float32(1 / np.sqrt(octaves)) + np.float32(0.5)


def _octaves(texels: float) -> int:
    """Octaves whose coarsest cell is about `texels` wide."""
    return max(1, round(np.log2(max(2.0, texels))))


def _draw_shapes(rng: np.random.Generator, image: np.ndarray, area_m2: float, per_metre: float) -> None:
    """Rectangles, ellipses, triangles and strokes of 3 to 60 cm, the large ones first."""
    height, width = image.shape[:2]
    count = int(np.clip(14 * area_m2, 6, 600))
    radii = np.sort(0.03 * 20 ** rng.random(count) ** 1.5)[::-1] * per_metre
    radii = radii[radii >= 1.5]
    count = len(radii)
    centres = rng.random((count, 2)) * (width, height)
    colours = rng.integers(10, 245, (count, 3)).tolist()
    halves = radii[:, None] * rng.uniform(0.4, 1.0, (count, 2)) / 2
    angles = rng.uniform(0, 360, count)
    ends = np.round((centres[:, None] + radii[:, None, None] * rng.uniform(-0.8, 0.8, (count, 3, 2))) * 16)
    thickness = max(1, round(0.02 * per_metre))
    for i, shape in enumerate(rng.integers(0, 4, count).tolist()):
        colour = colours[i]
        if shape == 0:
            box = cv2.boxPoints((centres[i].tolist(), (2 * halves[i]).tolist(), float(angles[i])))
            cv2.fillConvexPoly(image, np.round(box * 16).astype(np.int32), colour, cv2.LINE_AA, 4)
        elif shape == 1:
            centre, axes = (np.round(values[i] * 16).astype(int).tolist() for values in (centres, halves))
            cv2.ellipse(image, centre, axes, float(angles[i]), 0, 360, colour, -1, cv2.LINE_AA, 4)
        elif shape == 2:
            cv2.fillConvexPoly(image, ends[i].astype(np.int32), colour, cv2.LINE_AA, 4)
        else:
            first, last = ends[i, :2].astype(int).tolist()
            cv2.line(image, first, last, colour, thickness, cv2.LINE_AA, 4)


def mip_pyramid(level0: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All levels of an atlas in one image: (H, 1.5 W, 3) and the (levels, 2) corners (x, y) of the levels.

    The sides of `level0` must be multiples of 2**(MIP_LEVELS - 1).
    """
    height, width = level0.shape[:2]
    image = np.zeros((height, width + width // 2, 3), np.uint8)
    image[:, :width] = level0
    corners, level, y = [(0, 0)], level0, 0
    for _ in range(1, MIP_LEVELS):
        level = cv2.resize(level, (level.shape[1] // 2, level.shape[0] // 2), interpolation=cv2.INTER_AREA)
        image[y : y + level.shape[0], width : width + level.shape[1]] = level
        corners.append((width, y))
        y += level.shape[0]
    return image, np.array(corners, np.float32)
