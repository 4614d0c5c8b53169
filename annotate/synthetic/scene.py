"""Rooms and streets as rectangles in space, furnished so that the camera's path stays free."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np

from annotate.synthetic.paths import Path
from annotate.synthetic.spec import Place, Texture
from annotate.synthetic.texture import BORDER, MIP_LEVELS, clouds, mip_pyramid, paint

_TEXELS_AT_1280 = 20e6  # of a scene's atlas, for an image 1280 wide


@dataclass
class Surface:
    """A rectangle: a corner and two edges in world metres; seen from the side of `normal` = u x v."""

    origin: np.ndarray
    u: np.ndarray
    v: np.ndarray
    colour: np.ndarray
    moving: bool = False
    infinite: bool = False  # the sky: turns with the camera, never comes nearer, has no depth
    block: tuple[int, int] = (0, 0)  # corner (x, y) of its texture in the atlas
    texels: tuple[int, int] = (0, 0)  # (along v, along u)

    @property
    def normal(self) -> np.ndarray:
        normal = np.cross(self.u, self.v)
        return normal / np.linalg.norm(normal)

    @property
    def lengths(self) -> tuple[float, float]:
        """Metres along v and along u."""
        return float(np.linalg.norm(self.v)), float(np.linalg.norm(self.u))


@dataclass
class Scene:
    """Surfaces whose textures share one atlas; `velocity` moves the moving surfaces."""

    surfaces: list[Surface]
    paint_atlas: Callable[[], np.ndarray]  # its finest level (H, W, 3) uint8; depth does without
    velocity: np.ndarray = field(default_factory=lambda: np.zeros(3))

    @cached_property
    def atlas(self) -> tuple[np.ndarray, np.ndarray]:
        """All mip levels in one image, and the (levels, 2) corners (x, y) where they start."""
        return mip_pyramid(self.paint_atlas())


def build_scene(
    place: Place, path: Path, rng: np.random.Generator, texture: Texture, image_width: int, moving: bool,
) -> Scene:
    """A furnished room or street around `path`."""
    surfaces = _room(path, rng) if place is Place.room else _street(path, rng)
    velocity = np.zeros(3)
    if moving:
        crossing, velocity = _crossing_box(path, rng)
        surfaces += crossing
    size = _allot_texels(surfaces, path, image_width)
    return Scene(surfaces, lambda: _paint_atlas(surfaces, size, rng, texture), velocity)


def _rectangle(origin: list[float], u: list[float], v: list[float], colour: np.ndarray) -> Surface:
    return Surface(np.array(origin, float), np.array(u, float), np.array(v, float), colour)


def _box(low: np.ndarray, high: np.ndarray, colour: np.ndarray, bottom: bool = False) -> list[Surface]:
    """The sides and top of an axis-aligned box, seen from outside; sides are shaded by their direction."""
    (x0, y0, z0), (x1, y1, z1) = low.tolist(), high.tolist()
    dx, dy, dz = x1 - x0, y1 - y0, z1 - z0
    sides = [
        _rectangle([x0, y0, z1], [0, 0, -dz], [0, dy, 0], colour * 0.85),  # -x
        _rectangle([x1, y0, z0], [0, 0, dz], [0, dy, 0], colour * 0.95),  # +x
        _rectangle([x0, y0, z0], [dx, 0, 0], [0, dy, 0], colour * 0.75),  # -z
        _rectangle([x1, y0, z1], [-dx, 0, 0], [0, dy, 0], colour),  # +z
        _rectangle([x0, y0, z1], [dx, 0, 0], [0, 0, -dz], colour * 1.1),  # top, -y
    ]
    if bottom:
        sides.append(_rectangle([x0, y1, z0], [dx, 0, 0], [0, 0, dz], colour * 0.6))
    centre = (low + high) / 2
    for side in sides:  # u x v must look outwards
        if np.dot(side.normal, side.origin + (side.u + side.v) / 2 - centre) < 0:
            side.origin, side.u = side.origin + side.u, -side.u
    return sides


def _colour(rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(95, 190) + rng.uniform(-35, 35, 3)


def _facing(surface: Surface, point: np.ndarray) -> Surface:
    """The surface, turned to be seen from `point`."""
    if np.dot(surface.normal, point - surface.origin) < 0:
        surface.origin, surface.u = surface.origin + surface.u, -surface.u
    return surface


def _room(path: Path, rng: np.random.Generator) -> list[Surface]:
    plan = path.footprint()
    low, high = plan.min(0) - rng.uniform(1.8, 2.4, 2), plan.max(0) + rng.uniform(1.8, 2.4, 2)
    ceiling = -rng.uniform(2.7, 3.0)
    (x0, z0), (x1, z1) = low.tolist(), high.tolist()
    inside = np.array([plan[0, 0], -1.5, plan[0, 1]])
    dx, dz = x1 - x0, z1 - z0
    shell = [
        _rectangle([x0, ceiling, z0], [dx, 0, 0], [0, -ceiling, 0], _colour(rng)),
        _rectangle([x0, ceiling, z1], [dx, 0, 0], [0, -ceiling, 0], _colour(rng)),
        _rectangle([x0, ceiling, z0], [0, 0, dz], [0, -ceiling, 0], _colour(rng)),
        _rectangle([x1, ceiling, z0], [0, 0, dz], [0, -ceiling, 0], _colour(rng)),
        _rectangle([x0, 0, z0], [dx, 0, 0], [0, 0, dz], _colour(rng) * 0.9),
        _rectangle([x0, ceiling, z0], [dx, 0, 0], [0, 0, dz], _colour(rng) * 1.2),
    ]
    surfaces = [_facing(wall, inside) for wall in shell]
    count = int(np.clip(dx * dz / 3.5, 8, 40))
    for centre, half in _free_spots(plan, low, high, rng, count, (0.2, 0.65), clearance=0.55):
        surfaces += _furniture(centre, half, rng)
    return surfaces


def _furniture(centre: np.ndarray, half: np.ndarray, rng: np.random.Generator) -> list[Surface]:
    """A chest, a stack of two, or a table with legs and something on it."""
    (x, z), (a, b) = centre.tolist(), half.tolist()
    colour, kind = _colour(rng), rng.integers(3)
    if kind == 0:
        height = rng.uniform(0.4, 2.1)
        return _box(np.array([x - a, -height, z - b]), np.array([x + a, 0, z + b]), colour)
    if kind == 1:
        height = rng.uniform(0.4, 0.8)
        top = height + rng.uniform(0.3, 0.9)
        return (_box(np.array([x - a, -height, z - b]), np.array([x + a, 0, z + b]), colour)
                + _box(np.array([x - 0.6 * a, -top, z - 0.5 * b]),
                       np.array([x + 0.5 * a, -height, z + 0.7 * b]), _colour(rng)))
    height, leg = 0.75, 0.04
    parts = _box(np.array([x - a, -height, z - b]), np.array([x + a, -height + 0.05, z + b]), colour, True)
    for lx in (x - a + leg, x + a - leg):
        for lz in (z - b + leg, z + b - leg):
            parts += _box(np.array([lx - leg, -height + 0.05, lz - leg]), np.array([lx + leg, 0, lz + leg]),
                          colour * 0.8)[:4]
    top = height + rng.uniform(0.15, 0.5)
    return parts + _box(np.array([x - 0.5 * a, -top, z - 0.5 * b]),
                        np.array([x + 0.4 * a, -height, z + 0.3 * b]), _colour(rng))


def _free_spots(
    plan: np.ndarray, low: np.ndarray, high: np.ndarray, rng: np.random.Generator, count: int,
    half_range: tuple[float, float], clearance: float,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Up to `count` axis-aligned footprints (centre, half size) clear of the path and of each other."""
    spots: list[tuple[np.ndarray, np.ndarray]] = []
    for _ in range(count * 25):
        half = rng.uniform(*half_range, 2)
        if (high - low < 2 * half + 0.1).any():
            continue
        centre = rng.uniform(low + half + 0.02, high - half - 0.02)
        outside = np.maximum(np.abs(plan - centre) - half, 0)
        if np.linalg.norm(outside, axis=1).min() < clearance:
            continue
        if any((np.abs(centre - c) < half + h + 0.05).all() for c, h in spots):
            continue
        spots.append((centre, half))
        if len(spots) == count:
            break
    return spots


def _street(path: Path, rng: np.random.Generator) -> list[Surface]:
    """Ground in slabs, houses on four sides, kerbs, and things standing about; open to the sky."""
    plan = path.footprint()
    side, ends = rng.uniform(5.0, 6.5), (8.0, 28.0)
    low = np.array([plan[:, 0].min() - side, plan[:, 1].min() - ends[0]])
    high = np.array([plan[:, 0].max() + side, plan[:, 1].max() + ends[1]])
    sky = _rectangle([-4, -1, -4], [8, 0, 0], [0, 0, 8], np.full(3, 200.0))
    sky.infinite = True
    surfaces = [_facing(sky, np.zeros(3))]
    slab_x, slab_z = (np.linspace(low[i], high[i], max(2, round((high[i] - low[i]) / 8) + 1)) for i in (0, 1))
    asphalt = _colour(rng) * 0.8
    for xa, xb in itertools.pairwise(slab_x):
        for za, zb in itertools.pairwise(slab_z):
            slab = _rectangle([xa, 0, za], [xb - xa, 0, 0], [0, 0, zb - za], asphalt * rng.uniform(0.85, 1.1))
            surfaces.append(_facing(slab, np.array([xa, -1.0, za])))
    surfaces += _houses(low, high, rng)
    for x, inner in ((low[0], 1.6), (high[0], -1.6)):  # pavements
        if np.abs(plan[:, 0] - (x + inner)).min() > 1.5:
            xa, xb = sorted((x, x + inner))
            for za, zb in itertools.pairwise(slab_z):
                surfaces += _box(np.array([xa, -0.12, za]), np.array([xb, 0, zb]), _colour(rng))
    area = np.prod(high - low)
    spots = _free_spots(plan, low + 1.7, high - 1.7, rng, int(np.clip(area / 45, 5, 60)), (0.25, 1.0), 0.9)
    for centre, half in spots:
        surfaces += _street_thing(centre, half, rng)
    return surfaces


def _houses(low: np.ndarray, high: np.ndarray, rng: np.random.Generator) -> list[Surface]:
    """Houses of different width, height and setback around the rectangle, with projecting bays."""
    houses: list[Surface] = []
    for axis in (0, 1):  # the axis along which the row runs
        across = 1 - axis
        for at, outwards in ((low[across], -1.0), (high[across], 1.0)):
            position = low[axis] - 6.0
            while position < high[axis] + 6.0:
                width, height = rng.uniform(5, 10), rng.uniform(4.5, 11)
                near = at + outwards * rng.uniform(0.0, 0.9)
                corners = np.zeros((2, 3))
                corners[:, 1] = -height, 0.0
                span, deep = (0, 2) if axis == 0 else (2, 0)
                corners[:, span] = position, position + width
                corners[:, deep] = sorted((near, near + outwards * 5.0))
                houses += _box(corners[0], corners[1], _colour(rng))[:4]  # nobody sees the roof
                bay = corners.copy()
                bay[:, span] = position + width * np.array([0.2, 0.2 + rng.uniform(0.15, 0.4)])
                bay[:, deep] = sorted((near, near - outwards * rng.uniform(0.15, 0.5)))
                bay[:, 1] = -rng.uniform(0.5, 0.9) * height, -2.2 * rng.integers(0, 2)
                houses += [side for side in _box(bay[0], bay[1], _colour(rng), bottom=True)
                           if side.normal[1] >= 0]
                position += width
    return houses


def _street_thing(centre: np.ndarray, half: np.ndarray, rng: np.random.Generator) -> list[Surface]:
    """A parked car of two boxes, a crate, or a post."""
    (x, z), (a, b) = centre.tolist(), half.tolist()
    colour, kind = _colour(rng), rng.integers(3)
    if kind == 0:
        car = _box(np.array([x - a, -0.85, z - b]), np.array([x + a, -0.2, z + b]), colour, True)
        return car + _box(np.array([x - 0.8 * a, -1.45, z - 0.5 * b]),
                          np.array([x + 0.8 * a, -0.85, z + 0.6 * b]), colour * 0.8)
    if kind == 1:
        return _box(np.array([x - a, -rng.uniform(0.4, 1.8), z - b]), np.array([x + a, 0, z + b]), colour)
    height = rng.uniform(2.5, 4.5)
    return _box(np.array([x - 0.09, -height, z - 0.09]), np.array([x + 0.09, 0, z + 0.09]), colour)


def _crossing_box(path: Path, rng: np.random.Generator) -> tuple[list[Surface], np.ndarray]:
    """A box that passes through the view of the middle of the shot, and its velocity at time 0's place."""
    c2w = path.c2w(np.array([path.duration / 2]))[0]
    right, forward = c2w[:3, 0] * (1, 0, 1), c2w[:3, 2] * (1, 0, 1)
    speed = 0.5
    centre = c2w[:3, 3] + 1.3 * forward - right * speed * path.duration / 2
    half = np.array([0.2, 0.35, 0.2])
    middle = np.array([centre[0], -1.3, centre[2]])
    box = _box(middle - half, middle + half, _colour(rng), bottom=True)
    for side in box:
        side.moving = True
    return box, speed * right


def _allot_texels(surfaces: list[Surface], path: Path, image_width: int) -> tuple[int, int]:
    """Gives each surface its place in the atlas, near ones more texels a metre; the atlas' size (H, W)."""
    plan = path.footprint()
    eyes = np.stack([plan[:, 0], np.full(len(plan), -1.55), plan[:, 1]], -1)
    density = np.empty(len(surfaces))
    for i, surface in enumerate(surfaces):
        high, wide = surface.lengths
        along = [np.clip((eyes - surface.origin) @ e / (e @ e), 0, 1) for e in (surface.u, surface.v)]
        nearest = surface.origin + along[0][:, None] * surface.u + along[1][:, None] * surface.v
        distance = np.linalg.norm(nearest - eyes, axis=1).min()
        density[i] = 0.72 * image_width / max(1.0, distance)
        density[i] = min(density[i], np.sqrt(0.25 * _TEXELS_AT_1280 / (high * wide)) * image_width / 1280)
        if surface.infinite:
            density[i] = 0.72 * image_width / 4.0
    areas = np.array([np.prod(surface.lengths) for surface in surfaces])
    budget = _TEXELS_AT_1280 * (image_width / 1280) ** 2
    density *= min(1.0, np.sqrt(budget / (areas * density**2).sum()))
    for surface, per_metre in zip(surfaces, density):
        high, wide = surface.lengths
        surface.texels = max(4, round(high * per_metre)), max(4, round(wide * per_metre))
    return _pack(surfaces)


def _paint_atlas(
    surfaces: list[Surface], size: tuple[int, int], rng: np.random.Generator, texture: Texture,
) -> np.ndarray:
    """The finest level of the atlas, (H, W, 3) uint8."""
    level0 = np.full((*size, 3), 128, np.uint8)
    for surface in surfaces:
        if surface.infinite:
            image = cv2.resize(clouds(rng, surface.texels[0]), surface.texels[::-1])
        else:
            image = paint(rng, surface.lengths, surface.texels, np.clip(surface.colour, 30, 230), texture)
        x, y = surface.block
        framed = cv2.copyMakeBorder(image, BORDER, BORDER, BORDER, BORDER, cv2.BORDER_REPLICATE)
        level0[y - BORDER : y - BORDER + framed.shape[0], x - BORDER : x - BORDER + framed.shape[1]] = framed
    return level0


def _pack(surfaces: list[Surface]) -> tuple[int, int]:
    """Places the textures on shelves, tallest first; the atlas' size (H, W), multiples for the mip levels."""
    order = sorted(surfaces, key=lambda s: -s.texels[0])
    total = sum((s.texels[0] + 2 * BORDER) * (s.texels[1] + 2 * BORDER) for s in surfaces)
    unit = 2 ** (MIP_LEVELS - 1)
    width = max(max(s.texels[1] for s in surfaces) + 2 * BORDER, int(np.sqrt(1.1 * total)))
    width = -(-width // unit) * unit
    x = y = shelf = 0
    for surface in order:
        high, wide = surface.texels[0] + 2 * BORDER, surface.texels[1] + 2 * BORDER
        if x + wide > width:
            x, y, shelf = 0, y + shelf, 0
        surface.block = (x + BORDER, y + BORDER)
        x, shelf = x + wide, max(shelf, high)
    return -(-(y + shelf) // unit) * unit, width
