"""Named camera paths in metres: `orbit:radius=3,degrees=90`. Poses are camera-to-world, OpenCV axes, start at
the identity, and move by the same share of the path every frame.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable

import numpy as np

from dataset.camera import look_at, relative

NamedPath = Callable[..., np.ndarray]


def orbit(share: np.ndarray, radius: float = 2.0, degrees: float = 90.0, height: float = 0.0) -> np.ndarray:
    """Around the point `radius` metres ahead, to the right for positive degrees, rising by `height`."""
    angle = np.radians(degrees) * share
    centre = np.stack([radius * np.sin(angle), -height * share, radius * (1 - np.cos(angle))], -1)
    return look_at(centre, np.array([0.0, 0.0, radius]))


def dolly(share: np.ndarray, distance: float = 2.0) -> np.ndarray:
    """Straight ahead, back for a negative distance."""
    return _at(np.stack([0 * share, 0 * share, distance * share], -1))


def truck(share: np.ndarray, distance: float = 1.0) -> np.ndarray:
    """Sideways to the right, looking ahead."""
    return _at(np.stack([distance * share, 0 * share, 0 * share], -1))


def crane(share: np.ndarray, height: float = 1.0, distance: float = 0.0) -> np.ndarray:
    """Upwards, and ahead by `distance`."""
    return _at(np.stack([0 * share, -height * share, distance * share], -1))


def pan(share: np.ndarray, degrees: float = 60.0) -> np.ndarray:
    """A turn on the spot, to the right for positive degrees."""
    return _turned(np.zeros((len(share), 3)), np.radians(degrees) * share)


def spiral(
    share: np.ndarray, radius: float = 0.3, turns: float = 2.0, distance: float = 1.0, focus: float = 4.0,
) -> np.ndarray:
    """A widening screw ahead, looking at the point `focus` metres ahead of the start."""
    if distance >= focus:
        raise ValueError(f"spiral: distance={distance:g} reaches focus={focus:g}, where there is no "
                         "direction to look in; allowed is less")
    angle = 2 * math.pi * turns * share
    centre = np.stack([radius * share * np.sin(angle), -radius * share * np.cos(angle), distance * share], -1)
    return look_at(centre, np.array([0.0, 0.0, focus]))


def s_curve(share: np.ndarray, distance: float = 4.0, width: float = 1.0) -> np.ndarray:
    """Ahead, out to the right by half of `width`, across to the left and back, looking where it goes."""
    angle = 2 * math.pi * share
    centre = np.stack([width / 2 * np.sin(angle), 0 * share, distance * share], -1)
    heading = np.arctan2(width * math.pi * np.cos(angle), distance)
    return _turned(centre, heading)


NAMED: dict[str, NamedPath] = {
    path.__name__.replace("_", "-"): path for path in (orbit, dolly, truck, crane, pan, spiral, s_curve)}


def named_path(text: str, frames: int) -> np.ndarray:
    """Poses (frames, 4, 4) of `name` or `name:key=value,key=value`.

    Raises ValueError for an unknown name or key, and for a value that is no finite number.
    """
    name, _, rest = text.partition(":")
    if name not in NAMED:
        raise ValueError(f"camera={text}: {name!r} is no named path; use one of {', '.join(NAMED)}")
    path, given = NAMED[name], {}
    allowed = list(inspect.signature(path).parameters)[1:]
    for part in filter(None, (part.strip() for part in rest.split(","))):
        key, _, value = (piece.strip() for piece in part.partition("="))
        if key not in allowed:
            raise ValueError(f"camera={text}: {name} has no {key!r}; it has {', '.join(allowed)}")
        given[key] = _number(value, f"camera={text}: {key}")
    return relative(path(np.linspace(0.0, 1.0, frames), **given))


def _number(value: str, what: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ValueError(f"{what}={value}, expected a finite number")
    return number


def _at(centre: np.ndarray) -> np.ndarray:
    c2w = np.tile(np.eye(4), (len(centre), 1, 1))
    c2w[:, :3, 3] = centre
    return c2w


def _turned(centre: np.ndarray, yaw: np.ndarray) -> np.ndarray:
    """At `centre`, turned right by `yaw` radians."""
    c2w = _at(centre)
    c2w[:, 0, 0] = c2w[:, 2, 2] = np.cos(yaw)
    c2w[:, 0, 2], c2w[:, 2, 0] = np.sin(yaw), -np.sin(yaw)
    return c2w
