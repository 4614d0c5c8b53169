"""What a synthetic video is, and its address: `synthetic://room-walk?seed=3&width=1280&...`."""

from __future__ import annotations

import dataclasses
import math
import typing
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import parse_qsl, urlencode

SCHEME = "synthetic://"


class Place(StrEnum):
    """Where the camera is."""

    room = "room"
    street = "street"


class Motion(StrEnum):
    """How the camera moves; the truth's `Motion` class follows from it."""

    walk = "walk"
    forward = "forward"
    orbit = "orbit"
    s_curve = "s_curve"
    turn = "turn"
    rotation_only = "rotation_only"
    static = "static"


class Texture(StrEnum):
    """What the surfaces look like."""

    rich = "rich"
    repeated = "repeated"  # one tile everywhere: matches far apart look right
    low = "low"  # hardly anything to track


class Transition(StrEnum):
    """What lies between two shots."""

    cut = "cut"
    dissolve = "dissolve"
    fade = "fade"  # through black


@dataclass(frozen=True)
class SyntheticSpec:
    """One synthetic video. The first shot is `place` and `motion`; further shots take turns through others.

    Raises ValueError for values out of range.
    """

    place: Place = Place.room
    motion: Motion = Motion.walk
    seed: int = 0
    width: int = 1280
    height: int = 720
    fps: float = 30.0
    seconds: float = 10.5  # of each shot
    shots: int = 1
    zoom: float = 1.0  # last focal length / first
    texture: Texture = Texture.rich
    transition: Transition = Transition.cut
    noise: float = 0.0  # sensor noise, 1 sigma in grey levels of 255
    moving: bool = False  # a box crosses in front of the camera

    def __post_init__(self) -> None:
        limits: dict[str, tuple[float, float]] = {
            "seed": (0, 2**31 - 1), "width": (32, 8192), "height": (32, 8192), "fps": (1, 240),
            "seconds": (0.1, 3600), "shots": (1, 100), "zoom": (0.25, 4), "noise": (0, 64),
        }
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and low <= value <= high):
                raise ValueError(f"{SCHEME}: {name}={value}, allowed {low:g} to {high:g}")
        if self.width % 2 or self.height % 2:
            raise ValueError(f"{SCHEME}: size {self.width}x{self.height}; width and height must be even")

    @property
    def uri(self) -> str:
        """The address; settings that are at their default are left out."""
        settings = {}
        for item in dataclasses.fields(self)[2:]:
            value = getattr(self, item.name)
            if value != item.default:
                settings[item.name] = repr(value) if isinstance(value, float) else str(value)
        query = f"?{urlencode(settings)}" if settings else ""
        return f"{SCHEME}{self.place}-{self.motion}{query}"

    @classmethod
    def parse(cls, uri: str) -> SyntheticSpec:
        """Inverse of `uri`. Raises ValueError naming the unknown preset, key or value."""
        if not uri.startswith(SCHEME):
            raise ValueError(f"{uri}: expected {SCHEME}<preset>[?key=value&...]")
        preset, _, query = uri.removeprefix(SCHEME).partition("?")
        presets = {f"{place}-{motion}": (place, motion) for place in Place for motion in Motion}
        if preset not in presets:
            raise ValueError(f"{uri}: unknown preset {preset!r}; known: {', '.join(presets)}")
        place, motion = presets[preset]
        hints = typing.get_type_hints(cls)
        known = [item.name for item in dataclasses.fields(cls)[2:]]
        settings: dict[str, typing.Any] = {}
        for key, text in parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)):
            if key not in known or key in settings:
                what = "given twice" if key in settings else f"unknown; known: {', '.join(known)}"
                raise ValueError(f"{uri}: setting {key!r} {what}")
            settings[key] = _read(uri, key, text, hints[key])
        return cls(place, motion, **settings)


def _read(uri: str, key: str, text: str, kind: type) -> typing.Any:
    """A value of a query. Raises ValueError saying what would be allowed."""
    if kind is bool:
        if text in ("True", "true", "1", "False", "false", "0"):
            return text in ("True", "true", "1")
        raise ValueError(f"{uri}: {key}={text!r}, expected true or false")
    try:
        return kind(text)
    except ValueError:
        allowed = ", ".join(kind) if issubclass(kind, StrEnum) else f"a {kind.__name__}"
        raise ValueError(f"{uri}: {key}={text!r}, expected {allowed}") from None


def demo_items() -> list[str]:
    """Addresses of the videos that stand for `src=synthetic`: two shots, a zoom, a drive, and a pan."""
    small = {"width": 864, "height": 486, "fps": 20.0, "seconds": 10.05}
    return [
        SyntheticSpec(Place.room, Motion.walk, seed=1, shots=2, noise=1.0, **small).uri,  # type: ignore[arg-type]
        SyntheticSpec(Place.street, Motion.walk, seed=2, noise=1.0, **small).uri,  # type: ignore[arg-type]
        SyntheticSpec(Place.room, Motion.orbit, seed=3, zoom=1.3, noise=1.0, **small).uri,  # type: ignore[arg-type]
        SyntheticSpec(Place.room, Motion.rotation_only, seed=4, noise=1.0, **small).uri,  # type: ignore[arg-type]
    ]
