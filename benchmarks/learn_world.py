"""A rendered room for `learn.py`: clips along random paths with known cameras, and where in the room a
picture was taken from, however blurred it is."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from annotate.synthetic.paths import Path
from annotate.synthetic.render import Renderer
from annotate.synthetic.scene import build_scene
from annotate.synthetic.spec import Motion, Place, Texture
from annotate.synthetic.video import FOCAL_OF_WIDTH

FPS = 16.0
RADIUS_M = 1.4
"""Cameras stay in a disc of the room that is free of furniture."""
SPEED_M_S = 1.0
TURN_RAD_S = 0.8
HEADING_RAD = 0.8
"""Largest heading of a path's first camera."""
_STEPS = np.array([0.02, 0.02, 0.01, 0.01])
"""Of x, z in metres and heading, pitch in radians, for derivatives."""
_APART = np.array([0.35, 0.35, 0.25, 0.2])
"""Places nearer than this in all four are one start."""
_COARSE, _FINE = 3.0, 1.0
"""Blur in pixels of the small pictures."""


class Room:
    """One room, the same in every clip, seen at `size` (height, width)."""

    def __init__(self, seed: int, size: tuple[int, int]) -> None:
        def spiral(t: np.ndarray) -> np.ndarray:
            r = RADIUS_M * np.sqrt(t / 60.0)
            return np.stack([r * np.cos(6.0 * t), r * np.sin(6.0 * t)], -1)

        def zero(t: np.ndarray) -> np.ndarray:
            return np.zeros_like(t)

        keeps_free = Path(Motion.walk, 60.0, spiral, zero, zero, bob=0.0)
        rng = np.random.default_rng([seed, 1])
        self.scene = build_scene(Place.room, keeps_free, rng, Texture.low, size[1], moving=False)
        self.size = size
        self._renderers = {size: Renderer(self.scene, size)}

    def intrinsics(self, size: tuple[int, int]) -> np.ndarray:
        """(fx, fy, cx, cy) in pixels of `size`."""
        focal = FOCAL_OF_WIDTH * size[1]
        return np.array([focal, focal, size[1] / 2, size[0] / 2])

    def picture(self, c2w: np.ndarray, size: tuple[int, int] | None = None) -> np.ndarray:
        """(H, W, 3) uint8 of a camera (4, 4)."""
        size = size or self.size
        if size not in self._renderers:
            self._renderers[size] = Renderer(self.scene, size)
        return self._renderers[size].frame(c2w, self.intrinsics(size), 0.0)

    def film(self, path: np.ndarray) -> np.ndarray:
        """(F, H, W, 3) uint8 along a path of `poses`."""
        return np.stack([self.picture(c2w) for c2w in path])


def poses(places: np.ndarray) -> np.ndarray:
    """Cameras (n, 4, 4) from x, z, heading and pitch (n, 4); all at walking height, none leans."""
    x, z, heading, pitch = np.moveaxis(np.asarray(places, np.float64), -1, 0)
    count = len(x)

    def still(value: np.ndarray):
        return lambda t: value

    path = Path(Motion.walk, 1.0, still(np.stack([x, z], -1)), still(heading), still(pitch), bob=0.0)
    return path.c2w(np.zeros(count))


def draw_path(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Places (F, 4) of a camera that walks straight on and looks elsewhere, turning steadily."""
    t = np.arange(frames) / FPS
    while True:
        angle, speed = rng.uniform(-np.pi, np.pi), SPEED_M_S * rng.uniform()
        start = RADIUS_M * np.sqrt(rng.uniform()) * _unit(rng.uniform(-np.pi, np.pi))
        plan = start + speed * t[:, None] * _unit(angle)
        if np.linalg.norm(plan[-1]) <= RADIUS_M:
            break
    heading = rng.uniform(-HEADING_RAD, HEADING_RAD) + TURN_RAD_S * rng.uniform(-1, 1) * t
    pitch = rng.uniform(-0.05, 0.15) + rng.uniform(-0.08, 0.08) * t
    return np.concatenate([plan, heading[:, None], pitch[:, None]], 1)


@dataclass(frozen=True)
class CameraError:
    """Of cameras found in pictures, each (n,)."""

    rotation_deg: np.ndarray
    translation_m: np.ndarray


def camera_error(found: np.ndarray, true: np.ndarray) -> CameraError:
    """Angles and distances between cameras at places (n, 4)."""
    a, b = poses(found), poses(true)
    cosine = (np.einsum("nij,nij->n", a[:, :3, :3], b[:, :3, :3]) - 1) / 2
    return CameraError(np.degrees(np.arccos(np.clip(cosine, -1, 1))),
                       np.linalg.norm(a[:, :3, 3] - b[:, :3, 3], axis=1))


class Locator:
    """Finds the camera of a picture of the room: the best of many places all over it, then of neighbours.

    Pictures are compared small, without their mean and scale, so that blur counts little; first blurred, for
    edges far from where they belong to pull, then sharper. It knows nothing of where the camera should be.
    """

    def __init__(self, room: Room, places: int, farthest: float, size: tuple[int, int] = (24, 36)) -> None:
        """places: how many are tried at first.    farthest: largest heading, either way, in radians."""
        self.room, self.size = room, size
        rng = np.random.default_rng(0)
        r, angle = 1.15 * RADIUS_M * np.sqrt(rng.uniform(size=places)), rng.uniform(-np.pi, np.pi, places)
        heading, pitch = rng.uniform(-farthest, farthest, places), rng.uniform(-0.25, 0.35, places)
        self.places = np.stack([r * np.cos(angle), r * np.sin(angle), heading, pitch], -1)
        self._seen = np.stack([self._look(place, _COARSE) for place in self.places])

    def find(self, picture: np.ndarray, tries: int = 5) -> np.ndarray:
        """Place (4,) from where the picture (H, W, 3), bytes, was most likely taken."""
        wanted = self._describe(picture, _COARSE)
        starts: list[np.ndarray] = []
        for i in np.argsort(self._seen @ wanted)[::-1]:
            apart = [np.abs(self.places[i] - other) / _APART for other in starts]
            if all((gap > 1).any() for gap in apart):  # neighbours would only end where these do
                starts.append(self.places[i])
                if len(starts) == tries:
                    break
        rough = [self._refine(start, wanted, _COARSE) for start in starts]
        rough.sort(key=lambda found: -found[1])
        wanted = self._describe(picture, _FINE)
        sharp = [self._refine(place, wanted, _FINE) for place, _ in rough[:2]]
        return max(sharp, key=lambda found: found[1])[0]

    def _refine(self, place: np.ndarray, wanted: np.ndarray, blur: float) -> tuple[np.ndarray, float]:
        """Levenberg-Marquardt on the difference of descriptions; the place and its likeness."""
        steps = _STEPS * blur
        seen, damping = self._look(place, blur), 1e-2
        slopes = None
        for _ in range(8):
            if slopes is None:
                slopes = np.stack([self._look(place + step, blur) - seen for step in np.diag(steps)], -1)
            normal, toward = slopes.T @ slopes, slopes.T @ (wanted - seen)
            move = np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-9), toward)
            there = place + np.clip(move, -10, 10) * steps
            view = self._look(there, blur)
            if view @ wanted > seen @ wanted:
                place, seen, damping, slopes = there, view, damping / 3, None
            else:
                damping *= 10
        return place, float(seen @ wanted)

    def _look(self, place: np.ndarray, blur: float) -> np.ndarray:
        return self._describe(self.room.picture(poses(place[None])[0], self.size), blur)

    def _describe(self, picture: np.ndarray, blur: float) -> np.ndarray:
        small = cv2.resize(picture, self.size[::-1], interpolation=cv2.INTER_AREA)
        values = cv2.GaussianBlur(small.astype(np.float32), (0, 0), blur)
        values = (values - values.mean((0, 1))).ravel()
        return values / max(float(np.linalg.norm(values)), 1e-6)


def _unit(angle: float) -> np.ndarray:
    return np.array([np.cos(angle), np.sin(angle)])
