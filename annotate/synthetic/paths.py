"""Camera paths: where the camera is at a time, as a smooth function, so that any frame rate can be drawn.

World axes follow the camera's: x right, y down, z forward; the ground is y = 0, metres and seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicSpline

from annotate.synthetic.spec import Motion, Place

WALKING_HEIGHT_M = 1.55
"""Of the camera over the ground, on every path."""

_GRID_S = 0.01  # step of the integration of heading into position

Curve = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Path:
    """A camera path of `duration` seconds: plan position (n, 2) as (x, z), heading, pitch, and a step bob.

    Headings are radians from +z towards +x; pitches are radians, positive looks down.
    """

    motion: Motion
    duration: float
    plan: Curve
    heading: Curve
    pitch: Curve
    bob: float  # 0 none, 1 a walking person

    def c2w(self, times: np.ndarray) -> np.ndarray:
        """Poses (n, 4, 4) at `times` (n,) seconds from the start of the shot."""
        t = np.asarray(times, np.float64)
        step = 2 * np.pi * 0.9 * t  # a stride: two steps
        swing = self.bob * np.sin(step)
        rise = self.bob * np.sin(2 * step + 0.7)
        heading = self.heading(t) + 0.004 * swing
        rotation = _rotation(heading, self.pitch(t) + 0.005 * rise, 0.006 * swing)
        plan = self.plan(t)
        c2w = np.tile(np.eye(4), (len(t), 1, 1))
        c2w[:, :3, :3] = rotation
        c2w[:, 0, 3] = plan[:, 0] + 0.015 * swing * np.cos(heading)
        c2w[:, 1, 3] = -WALKING_HEIGHT_M + 0.02 * rise
        c2w[:, 2, 3] = plan[:, 1] - 0.015 * swing * np.sin(heading)
        return c2w

    def footprint(self) -> np.ndarray:
        """(n, 2) plan positions dense enough to keep furniture away from."""
        return self.plan(np.linspace(0.0, self.duration, max(2, int(self.duration * 10))))


def make_path(place: Place, motion: Motion, duration: float, rng: np.random.Generator) -> Path:
    """The path of a shot. Speeds are a walker's (0.9 to 1.4 m/s), or a slow car's driving `forward`."""
    phase = rng.uniform(0.0, 2 * np.pi)
    outdoors = place is Place.street

    def look(t: np.ndarray) -> np.ndarray:
        return 0.06 + 0.03 * np.sin(0.5 * t + phase)

    def still(t: np.ndarray) -> np.ndarray:
        return np.zeros((len(t), 2))

    if motion is Motion.static:
        heading = rng.uniform(-0.3, 0.3)
        return Path(motion, duration, still, lambda t: np.full(len(t), heading),
                    lambda t: np.full(len(t), 0.06), bob=0.0)
    if motion is Motion.rotation_only:
        return Path(motion, duration, still, lambda t: 0.9 * np.sin(0.45 * t + phase),
                    lambda t: 0.05 + 0.08 * np.sin(0.6 * t), bob=0.0)
    if motion is Motion.orbit:
        radius, speed = (5.0, 1.3) if outdoors else (2.2, 0.92)
        rate = speed / radius

        def circle(t: np.ndarray) -> np.ndarray:
            return radius * np.stack([np.cos(phase + rate * t), np.sin(phase + rate * t)], -1)

        return Path(motion, duration, circle, lambda t: -phase - rate * t - np.pi / 2, look, bob=0.3)
    if motion is Motion.walk and not outdoors:
        rate = 0.95 / 1.7  # about a loop of mean radius 1.7 m

        def loop(t: np.ndarray) -> np.ndarray:
            angle = phase + rate * t
            return np.stack([2.0 * np.cos(angle) + 0.2 * np.cos(3 * angle),
                             1.5 * np.sin(angle) + 0.15 * np.sin(2 * angle)], -1)

        # Along the tangent, a little to the inside, looking about.
        return Path(motion, duration, loop,
                    lambda t: -phase - rate * t + 0.35 * np.sin(0.8 * t + phase) - 0.3, look, bob=1.0)
    speeds = {Motion.forward: 4.0 if outdoors else 0.75, Motion.walk: 1.35}
    speed = speeds.get(motion, 1.2 if outdoors else 0.8)
    bob = 1.0 if motion is Motion.walk else 0.25
    return Path(motion, duration, *_integrate(_course(motion, duration, phase), speed, duration), look, bob)


def _course(motion: Motion, duration: float, phase: float) -> Curve:
    """Heading of the paths that go where they look."""
    if motion is Motion.turn:
        def turn(t: np.ndarray) -> np.ndarray:
            u = np.clip((t / duration - 0.25) / 0.5, 0.0, 1.0)
            return 0.5 * np.pi * u**3 * (10 - 15 * u + 6 * u**2)
        return turn
    if motion is Motion.s_curve:
        return lambda t: 0.6 * np.cos(2 * np.pi * t / 8.0)
    if motion is Motion.walk:
        return lambda t: 0.12 * np.sin(0.5 * t + phase) + 0.05 * np.sin(1.3 * t)
    return lambda t: 0.015 * np.sin(0.4 * t + phase)


def _integrate(course: Curve, speed: float, duration: float) -> tuple[Curve, Curve]:
    """Plan position and heading of a camera moving along its course."""
    knots = np.arange(0.0, duration + 1.0, _GRID_S)
    middle = course(knots[:-1] + _GRID_S / 2)
    steps = speed * _GRID_S * np.stack([np.sin(middle), np.cos(middle)], -1)
    plan = CubicSpline(knots, np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)]))
    return plan, course


def _rotation(heading: np.ndarray, pitch: np.ndarray, roll: np.ndarray) -> np.ndarray:
    """Camera-to-world rotations (n, 3, 3): roll about the view axis, then pitch, then heading."""
    zero, one = np.zeros_like(heading), np.ones_like(heading)
    cos, sin = np.cos(heading), np.sin(heading)
    yaw = np.stack([cos, zero, sin, zero, one, zero, -sin, zero, cos], -1).reshape(-1, 3, 3)
    cos, sin = np.cos(pitch), np.sin(pitch)
    tilt = np.stack([one, zero, zero, zero, cos, sin, zero, -sin, cos], -1).reshape(-1, 3, 3)
    cos, sin = np.cos(roll), np.sin(roll)
    lean = np.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], -1).reshape(-1, 3, 3)
    return yaw @ tilt @ lean
