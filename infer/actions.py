"""The action language: `w-40,wd-16,none-8` to camera poses, as the model's release defines it.

A segment is `<keys>-<frames>`: keys held for that many frames. A scheme says what keys do and how fast; its
name belongs beside every saved action string, since the same string means another path in another scheme.
Poses are camera-to-world, OpenCV axes, metres, one for every frame and the identity before the first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

LONGEST = 1_000_000
"""Frames a segment may have; more is a slip of the finger."""


class ActionError(ValueError):
    """An action string that cannot be read; `position` is the index of the first character at fault."""

    def __init__(self, text: str, position: int, fault: str) -> None:
        shown = text.replace("\n", " ").replace("\t", " ")
        super().__init__(
            f"action string, character {position + 1}: {fault}\n  {shown}\n  {' ' * position}^\n"
            "  Write <keys>-<frames> separated by commas, such as w-40,wd-16,none-8.")
        self.position = position


@dataclass(frozen=True)
class Scheme:
    """What keys do. `keys`: each control with the key that drives it forth and the one that drives it back.

    Velocities follow their targets with the time constants `press_s` and `coast_s`; None: at once.
    At the pitch limit a step is cut, or with `reject_pitch` not taken.
    """

    name: str
    forward: str
    right: str
    yaw: str
    pitch: str
    metres: float
    """Per frame at full speed."""
    degrees: float
    """Per frame at full speed."""
    pitch_limit_deg: float
    reject_pitch: bool = False
    press_s: float | None = None
    coast_s: float | None = None
    fps: float = 16.0

    @property
    def keys(self) -> str:
        """All keys, in the order in which they are written."""
        return self.forward + self.yaw + self.pitch + self.right


RELEASED = Scheme("sana-wm-2", forward="ws", right="lj", yaw="da", pitch="ik", metres=0.025, degrees=0.6,
                  pitch_limit_deg=60.0, press_s=0.45, coast_s=1.0)
"""Of the maintained release."""
FIRST = Scheme("sana-wm-1", forward="ws", right="da", yaw="lj", pitch="ik", metres=0.05, degrees=1.2,
               pitch_limit_deg=85.0, reject_pitch=True)
"""Of the first release: a and d strafe, j and l turn, no smoothing, twice as fast."""
SCHEMES = (RELEASED, FIRST)


def find_scheme(name: str) -> Scheme:
    """The scheme of that name. Raises ValueError where there is none."""
    for scheme in SCHEMES:
        if scheme.name == name:
            return scheme
    raise ValueError(f"action scheme {name!r} is unknown; use one of {', '.join(s.name for s in SCHEMES)}")


@dataclass(frozen=True)
class Segment:
    """Keys held together, for a number of frames."""

    held: frozenset[str]
    frames: int


def parse_actions(text: str, scheme: Scheme = RELEASED) -> list[Segment]:
    """The segments of an action string. Case and blanks are ignored, a full-width comma is a comma.

    Raises ActionError, a ValueError, pointing at the first character that is wrong.
    """
    written = [(i, "," if c == "，" else c) for i, c in enumerate(text) if not c.isspace()]
    segments, begun = [], 0
    for end, (_, character) in enumerate([*written, (len(text), ",")]):
        if character == ",":
            stop = written[end][0] if end < len(written) else len(text)
            segments.append(_parse_segment(text, written[begun:end], stop, scheme))
            begun = end + 1
    return segments


def _parse_segment(text: str, written: list[tuple[int, str]], stop: int, scheme: Scheme) -> Segment:
    """One segment from its characters and their places; `stop` is where it ends."""
    dash = next((n for n, (_, character) in enumerate(written) if character == "-"), None)
    if not written:
        raise ActionError(text, stop, "a segment is missing here")
    if dash is None:
        raise ActionError(text, stop, "the segment ends without -<frames>")
    keys, digits = written[:dash], written[dash + 1 :]
    if not keys:
        raise ActionError(text, written[0][0], "keys are missing before the dash; none stands for no key")
    if not digits:
        raise ActionError(text, stop, "the number of frames is missing")
    for place, character in digits:
        if character not in "0123456789":
            raise ActionError(text, place, f"{character!r} is not a digit of a number of frames")
    number = "".join(character for _, character in digits).lstrip("0")
    if not number or len(number) > len(str(LONGEST)) or int(number) > LONGEST:
        raise ActionError(text, digits[0][0], f"a segment has 1 to {LONGEST} frames")
    names = "".join(character for _, character in keys).lower()
    if names == "none":
        return Segment(frozenset(), int(number))
    for place, character in keys:
        if character.lower() not in scheme.keys:
            raise ActionError(text, place, f"unknown key {character!r}; keys are {' '.join(scheme.keys)}, "
                                           "or none")
    return Segment(frozenset(names), int(number))


def format_actions(segments: Iterable[Segment], scheme: Scheme = RELEASED) -> str:
    """The string that `parse_actions` reads as these segments."""
    return ",".join(f"{''.join(key for key in scheme.keys if key in segment.held) or 'none'}-{segment.frames}"
                    for segment in segments)


def action_poses(segments: Sequence[Segment], scheme: Scheme = RELEASED) -> np.ndarray:
    """Poses (n + 1, 4, 4) float32 of n frames, the first the identity."""
    walk = Walk(scheme)
    poses = [walk.c2w.copy()]
    for segment in segments:
        poses += [walk.step(segment.held).copy() for _ in range(segment.frames)]
    return np.stack(poses).astype(np.float32)


def held_keys(segments: Sequence[Segment]) -> tuple[frozenset[str], ...]:
    """Keys held on the way to each of the poses of `action_poses`, none for the first."""
    return (frozenset(), *(segment.held for segment in segments for _ in range(segment.frames)))


class Walk:
    """A camera moved by held keys, one frame at a time; float64 inside."""

    def __init__(self, scheme: Scheme = RELEASED) -> None:
        self.scheme = scheme
        self.c2w = np.eye(4)
        self._velocity = np.zeros(4)
        self._pitch_deg = 0.0
        self._driven: frozenset[str] = frozenset()

    def step(self, held: Iterable[str]) -> np.ndarray:
        """The pose (4, 4) after one more frame with these keys held."""
        held = frozenset(held)
        self._velocity = self._follow(held)
        forward, right, yaw_deg, pitch_deg = self._velocity
        rotation = _rotation(1, yaw_deg) @ self.c2w[:3, :3] @ _rotation(0, self._pitch_step(pitch_deg))
        ahead, aside = _horizontal(rotation[:, 2]), _horizontal(rotation[:, 0])
        self.c2w[:3, 3] += forward * ahead + right * aside
        self.c2w[:3, :3] = rotation
        self._driven = held
        return self.c2w

    def _follow(self, held: frozenset[str]) -> np.ndarray:
        """Velocities (forward, right, yaw, pitch) of this frame. A key newly held makes all jump to their
        targets: starting is sudden, turning off coasts."""
        scheme = self.scheme
        controls = (scheme.forward, scheme.right, scheme.yaw, scheme.pitch)
        speeds = np.array([scheme.metres, scheme.metres, scheme.degrees, scheme.degrees])
        target = speeds * np.array([(pair[0] in held) - (pair[1] in held) for pair in controls])
        if scheme.press_s is None or scheme.coast_s is None or held - self._driven:
            return target
        constants = np.where(target != 0, scheme.press_s, scheme.coast_s)
        return self._velocity + (1 - np.exp(-1 / scheme.fps / constants)) * (target - self._velocity)

    def _pitch_step(self, wanted_deg: float) -> float:
        limit, old = self.scheme.pitch_limit_deg, self._pitch_deg
        if self.scheme.reject_pitch and abs(old + wanted_deg) > limit:
            return 0.0
        self._pitch_deg = min(max(old + wanted_deg, -limit), limit)
        return self._pitch_deg - old


def _rotation(axis: int, degrees: float) -> np.ndarray:
    """About x or y (0, 1): positive pitch looks up, positive yaw turns right."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    if axis == 0:
        return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def _horizontal(axis: np.ndarray) -> np.ndarray:
    flat = np.array([axis[0], 0.0, axis[2]])
    return flat / (np.linalg.norm(flat) + 1e-6)
