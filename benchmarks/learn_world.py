"""A rendered room for `learn.py`: walks through it with known cameras, and where in it the pictures of a clip
were taken from, however blurred they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.interpolate import CubicSpline

from annotate.synthetic.paths import Path
from annotate.synthetic.render import Renderer
from annotate.synthetic.scene import Scene, build_scene
from annotate.synthetic.spec import Motion, Place, Texture
from annotate.synthetic.video import FOCAL_OF_WIDTH

FPS = 16.0
RADIUS_M = 1.4
"""Cameras stay in a disc of the room that is free of furniture."""
HEADING_RAD = 0.5
"""Largest heading, either way: a network sees half of the room and learns that well."""
KNOT_S = 1.25
SPEED_M_S = (0.5, 1.1)
"""Mean speeds between the knots of a walk."""
FASTEST = np.array([1.6, 0.9])
"""Metres and radians a second no walk exceeds."""
_PATTERN = 0.15
"""Of the walls: enough to be tracked, and little enough for a small network to learn the colours behind."""
_STEPS = np.array([0.02, 0.02, 0.01, 0.01])
"""Of x, z in metres and heading, pitch in radians, for derivatives."""
_APART = np.array([0.3, 0.3, 0.2, 0.15])
"""Places nearer than this in all four are one start."""
_PITCH_RAD = (0.0, 0.5)
_TRIES = 160
"""Places looked at around the one before."""
_COARSE, _FINE = 3.0, 1.0
"""Blur in pixels of the small pictures."""


class Room:
    """One room, the same for the same seed and `size` (height, width), at which pictures of it are taken."""

    def __init__(self, seed: int, size: tuple[int, int]) -> None:
        def spiral(t: np.ndarray) -> np.ndarray:
            r = RADIUS_M * np.sqrt(t / 60.0)
            return np.stack([r * np.cos(6.0 * t), r * np.sin(6.0 * t)], -1)

        def zero(t: np.ndarray) -> np.ndarray:
            return np.zeros_like(t)

        keeps_free = Path(Motion.walk, 60.0, spiral, zero, zero, bob=0.0)
        def scene(texture: Texture) -> Scene:
            rng = np.random.default_rng([seed, 1])
            return build_scene(Place.room, keeps_free, rng, texture, size[1], moving=False)

        plain, rich = scene(Texture.low), scene(Texture.rich)
        self.scene = Scene(plain.surfaces, lambda: cv2.addWeighted(
            plain.paint_atlas(), 1 - _PATTERN, rich.paint_atlas(), _PATTERN, 0.0))
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


def draw_walk(rng: np.random.Generator, frames: int) -> np.ndarray:
    """Places (F, 4) of a camera that wanders about the free disc and looks around."""
    t = np.arange(frames) / FPS
    knots = np.arange(t[-1] // KNOT_S + 3) * KNOT_S
    while True:
        plan = [_in_disc(rng)]
        while len(plan) < len(knots):
            there = _in_disc(rng)
            low, high = SPEED_M_S
            if low < np.linalg.norm(there - plan[-1]) / KNOT_S < high:
                plan.append(there)
        heading = rng.uniform(-HEADING_RAD, HEADING_RAD, len(knots))
        pitch = rng.uniform(0.15, 0.35, len(knots))  # so that a floor shows how large all is
        walk = CubicSpline(knots, np.stack([*np.transpose(plan), heading, pitch], -1))(t)
        rates = np.diff(walk, axis=0) * FPS
        if (np.linalg.norm(walk[:, :2], axis=1).max() <= RADIUS_M and np.abs(walk[:, 2]).max() <= HEADING_RAD
                and np.linalg.norm(rates[:, :2], axis=1).max() <= FASTEST[0]
                and np.abs(rates[:, 2]).max() <= FASTEST[1]):
            return walk


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
    """Finds the cameras of a clip's pictures, the first of which is known, each near the one before.

    Of many places that a walk could have reached, the best and then their neighbours. Pictures are compared
    small, without their mean and scale, so that blur counts little; first blurred, for edges far from where
    they belong to pull, then sharper. Of where the cameras should be it knows no more.
    """

    def __init__(self, room: Room, size: tuple[int, int] = (24, 36)) -> None:
        self.room, self.size = room, size

    def follow(self, first: np.ndarray, pictures: Sequence[np.ndarray], gap_s: float) -> np.ndarray:
        """Places (n, 4) of `pictures`, each (H, W, 3) bytes and `gap_s` after the one before; `first` (4,) is
        the place of the picture before them."""
        rng, places = np.random.default_rng(0), [first]
        for picture in pictures:
            places.append(self._find(picture, places[-1], gap_s, rng))
        return np.stack(places[1:])

    def _find(self, picture: np.ndarray, before: np.ndarray, gap_s: float,
              rng: np.random.Generator, tries: int = 3) -> np.ndarray:
        r, angle = FASTEST[0] * gap_s * np.sqrt(rng.uniform(size=_TRIES)), rng.uniform(-np.pi, np.pi, _TRIES)
        turn = FASTEST[1] * gap_s * rng.uniform(-1, 1, _TRIES)
        centre = before[:2] * min(1.0, RADIUS_M / max(float(np.linalg.norm(before[:2])), 1e-9))
        around = np.stack([centre[0] + r * np.cos(angle), centre[1] + r * np.sin(angle), before[2] + turn,
                           rng.uniform(*_PITCH_RAD, _TRIES)], -1)
        around = around[np.linalg.norm(around[:, :2], axis=1) <= 1.1 * RADIUS_M]
        wanted = self._describe(picture, _COARSE)
        likeness = np.array([self._look(place, _COARSE) @ wanted for place in around])
        starts: list[np.ndarray] = []
        for i in np.argsort(likeness)[::-1]:
            apart = [np.abs(around[i] - other) / _APART for other in starts]
            if all((gap > 1).any() for gap in apart):  # neighbours would only end where these do
                starts.append(around[i])
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
        for _ in range(7):
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


def _in_disc(rng: np.random.Generator) -> np.ndarray:
    """A place (2,) within the free disc, not quite at its rim: curves go beyond their knots."""
    angle = rng.uniform(-np.pi, np.pi)
    return 0.85 * RADIUS_M * np.sqrt(rng.uniform()) * np.array([np.cos(angle), np.sin(angle)])
