"""Rendered scenes: a room whose image, depth and video along any path are known exactly."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from annotate.synthetic.paths import Path, make_path
from annotate.synthetic.render import Renderer
from annotate.synthetic.scene import build_scene
from annotate.synthetic.spec import Motion, Place, Texture
from annotate.synthetic.video import FOCAL_OF_WIDTH

FREE_M = 2.6
"""Radius of the disc about the start that holds no furniture."""


@lru_cache(maxsize=2)
def room_at(seed: int, size: tuple[int, int]) -> Room:
    """A room that was drawn a moment ago is still painted."""
    return Room(seed, size)


class Room:
    """A room by its seed, drawn at `size` (height, width); cameras are relative to one in its middle."""

    def __init__(self, seed: int, size: tuple[int, int]) -> None:
        def spiral(t: np.ndarray) -> np.ndarray:
            r = FREE_M * np.sqrt(t / 60.0)
            return np.stack([r * np.cos(6.0 * t), r * np.sin(6.0 * t)], -1)

        rng = np.random.default_rng([seed, 7])
        still = make_path(Place.room, Motion.static, 1.0, rng)
        keeps_free = Path(Motion.walk, 60.0, spiral, still.heading, still.pitch, bob=0.0)
        scene = build_scene(Place.room, keeps_free, rng, Texture.rich, size[1], moving=False)
        self.size = size
        self._renderer, self._start = Renderer(scene, size), still.c2w(np.zeros(1))[0]

    @property
    def intrinsics(self) -> np.ndarray:
        """(fx, fy, cx, cy) in pixels."""
        focal = FOCAL_OF_WIDTH * self.size[1]
        return np.array([focal, focal, self.size[1] / 2, self.size[0] / 2])

    def image(self) -> np.ndarray:
        """What the first camera sees: (H, W, 3) uint8."""
        return self._renderer.frame(self._start, self.intrinsics, 0.0)

    def depth(self) -> np.ndarray:
        """Its depth (H, W) in metres."""
        return self._renderer.depth(self._start, self.intrinsics, 0.0)

    def film(self, c2w: np.ndarray) -> Iterator[np.ndarray]:
        """Frames (1, H, W, 3) along a path (F, 4, 4) that begins with the identity."""
        for pose in c2w:
            yield self._renderer.frame(self._start @ pose, self.intrinsics, 0.0)[None]
