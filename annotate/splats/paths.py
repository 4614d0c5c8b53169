"""Forty candidate paths of a scene, before they are fitted to it: where the camera goes and where it looks.

Ten run smoothly along the training cameras; thirty are drawn from eight families in turn. A path is its
positions, and a rule that gives rotations once the positions are final.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.spatial.transform import Rotation

from annotate.splats.curves import blend, ease, spline, squad, upright
from annotate.splats.statistics import SceneStatistics

View = Callable[[np.ndarray], np.ndarray]
"""Rotations (N, 3, 3) of a camera at positions (N, 3)."""


class Family(StrEnum):
    """Kinds of paths."""

    near_original = "near_original"
    orbit = "orbit"
    spiral = "spiral"
    dolly = "dolly"
    fly_through = "fly_through"
    random_walk = "random_walk"
    crane = "crane"
    pendulum = "pendulum"
    compound = "compound"


class Draft(NamedTuple):
    """Positions (N, 3) and the rule for the rotations."""

    positions: np.ndarray
    view: View


class Frame(NamedTuple):
    """What a family draws with: the scene, frames and their rate, the size of the motion (1: as drawn; less
    in further attempts), and the random numbers of this attempt."""

    scene: SceneStatistics
    frames: int
    fps: int
    size: float
    rng: np.random.Generator

    def amount(self) -> float:
        """A fraction of r, 0.2 to 1, times the size."""
        return float(self.rng.uniform(0.2, 1.0)) * self.scene.radius * self.size


FREE = (Family.orbit, Family.spiral, Family.dolly, Family.fly_through, Family.random_walk, Family.crane,
        Family.pendulum, Family.compound)
_JOINED = (Family.orbit, Family.dolly, Family.crane, Family.pendulum, Family.fly_through)


def family_of(candidate: int, near_original: int) -> Family:
    """The family of a candidate by its number."""
    if candidate < near_original:
        return Family.near_original
    return FREE[(candidate - near_original) % len(FREE)]


def draw(family: Family, frame: Frame) -> Draft:
    """One path of a family. In a forward-facing scene all but those near the original look at its middle."""
    draft = _DRAWN[family](frame)
    if frame.scene.forward_facing and family is not Family.near_original:
        return Draft(draft.positions, _at(frame.scene.target, frame.scene))
    return draft


def _near_original(frame: Frame) -> Draft:
    """6 to 12 waypoints in the order of capture, within a stretch of it."""
    scene, rng = frame.scene, frame.rng
    c2w = scene.cameras.c2w
    stretch = max(6, round(len(c2w) * float(rng.uniform(0.25, 0.6)) * frame.size))
    first = int(rng.integers(0, max(1, len(c2w) - stretch + 1)))
    count = min(int(rng.integers(6, 13)), stretch)
    chosen = c2w[np.round(np.linspace(first, min(first + stretch, len(c2w)) - 1, count)).astype(np.int64)]
    positions, parameter = spline(chosen[:, :3, 3], frame.frames)
    rotations = squad(chosen[:, :3, :3], parameter)
    return Draft(positions, lambda final: rotations)


def _orbit(frame: Frame) -> Draft:
    rho, height = frame.amount(), float(frame.rng.uniform(*frame.scene.heights))
    u = _unit(frame)
    return _circling(frame, np.full_like(u, rho), np.full_like(u, height))


def _spiral(frame: Frame) -> Draft:
    u = _unit(frame)
    start, end = frame.amount(), frame.amount()
    rise = 0.5 * frame.amount() * frame.rng.choice([-1.0, 1.0])
    return _circling(frame, start + u * (end - start), frame.rng.uniform(*frame.scene.heights) + u * rise)


def _circling(frame: Frame, rho: np.ndarray, height: np.ndarray) -> Draft:
    """About the centroid over 60 to 360 degrees, moved sideways so that it starts over or under a training
    camera."""
    scene, rng = frame.scene, frame.rng
    sweep = np.radians(rng.uniform(60, 360)) * rng.choice([-1.0, 1.0]) * frame.size
    theta = rng.uniform(0, 2 * np.pi) + sweep * _unit(frame)
    circle = rho[:, None] * (np.cos(theta)[:, None] * scene.e1 + np.sin(theta)[:, None] * scene.e2)
    positions = scene.centroid + circle + height[:, None] * scene.up
    offset = _anchor(frame)[:3, 3] - positions[0]
    return Draft(positions + offset - (offset @ scene.up) * scene.up, _at(scene.target, scene))


def _dolly(frame: Frame) -> Draft:
    """Along the direction of view or across it, looking as the training camera did."""
    anchor = _anchor(frame)
    axis = anchor[:3, 2] if frame.rng.random() < 0.6 else anchor[:3, 0]
    travel = frame.amount() * frame.rng.choice([-1.0, 1.0]) * ease(_unit(frame))
    rotation = anchor[:3, :3]
    return Draft(anchor[:3, 3] + travel[:, None] * axis,
                 lambda final: np.tile(rotation, (len(final), 1, 1)))


def _fly_through(frame: Frame) -> Draft:
    """Through sampled cameras, each near the one before and rather ahead than behind, looking where it will
    be in a second."""
    scene, rng = frame.scene, frame.rng
    centres = scene.cameras.centres
    left = rng.permutation(len(centres))[:max(4, len(centres) // 4)].tolist()
    chain = [left.pop(0)]
    wanted = int(rng.integers(4, 9))
    while left and len(chain) < wanted:
        legs = centres[left] - centres[chain[-1]]
        distances = np.linalg.norm(legs, axis=1)
        before = centres[chain[-1]] - centres[chain[-2]] if len(chain) > 1 else np.zeros(3)
        ahead = legs @ before / np.maximum(distances * np.linalg.norm(before), 1e-12)
        chain.append(left.pop(int(np.argmin(distances * (1.5 - ahead)))))
    start = centres[chain[0]]
    waypoints = start + frame.size * (centres[chain] - start)
    positions, _ = spline(waypoints, frame.frames)
    return Draft(positions, _ahead(frame))


def _random_walk(frame: Frame) -> Draft:
    """Ornstein-Uhlenbeck velocity and yaw rate, looking where it heads."""
    scene, rng = frame.scene, frame.rng
    step, anchor = 1 / frame.fps, _anchor(frame)
    # Relaxation of about 2 s; sideways and upwards it wanders less than forward.
    speed = 1.0 + 0.5 * _wander(rng, frame.frames, step, 2.0)
    aside = 0.25 * _wander(rng, frame.frames, step, 2.0)
    rise = 0.1 * _wander(rng, frame.frames, step, 2.0)
    yaw = np.cumsum(np.radians(8.0) * _wander(rng, frame.frames, step, 3.0)) * step
    level = upright(anchor[None, :3, 2], scene.up)[0]
    turns = Rotation.from_rotvec(yaw[:, None] * -scene.up).as_matrix() @ level
    velocity = speed[:, None] * turns[:, :, 2] + aside[:, None] * turns[:, :, 0] + rise[:, None] * scene.up
    walked = np.cumsum(velocity, axis=0)
    walked = np.concatenate([np.zeros((1, 3)), walked[:-1]])
    length = np.linalg.norm(np.diff(walked, axis=0), axis=1).sum()
    return Draft(anchor[:3, 3] + walked * (2 * frame.amount() / length), lambda final: turns)


def _crane(frame: Frame) -> Draft:
    """Up or down with a small arc, keeping what it looks at."""
    scene, anchor, u = frame.scene, _anchor(frame), ease(_unit(frame))
    height = frame.amount() * frame.rng.choice([-1.0, 1.0])
    arc = 0.25 * frame.amount() * frame.rng.choice([-1.0, 1.0])
    far = max(float(np.linalg.norm(scene.target - anchor[:3, 3])), 0.5 * scene.radius)
    kept = anchor[:3, 3] + far * anchor[:3, 2]
    positions = (anchor[:3, 3] + (height * u)[:, None] * scene.up
                 + (arc * np.sin(np.pi * u))[:, None] * anchor[:3, 0])
    return Draft(positions, _at(kept, scene))


def _pendulum(frame: Frame) -> Draft:
    """To and fro about the upright axis through the middle of the scene."""
    scene, rng = frame.scene, frame.rng
    start = _anchor(frame)[:3, 3]
    arm = start - scene.target
    reach = float(np.linalg.norm(arm - (arm @ scene.up) * scene.up))
    swing = min(frame.amount() / max(reach, 1e-9), np.radians(60))
    angle = swing * np.sin(2 * np.pi * rng.uniform(0.5, 1.5) * _unit(frame)) * rng.choice([-1.0, 1.0])
    turned = Rotation.from_rotvec(angle[:, None] * scene.up).apply(arm)
    return Draft(scene.target + turned, _at(scene.target, scene))


def _compound(frame: Frame) -> Draft:
    """Two or three of the others, each set to the end of the one before and blended over a fifth of it."""
    rng = frame.rng
    parts = int(rng.integers(2, 4))
    overlap = max(2, frame.frames // (5 * parts))
    edges = np.round(np.linspace(0, frame.frames - overlap, parts + 1)).astype(np.int64)
    spans = [(int(a), int(b) + overlap) for a, b in pairwise(edges)]
    drafts: list[Draft] = []
    whole = np.zeros((frame.frames, 3))
    for start, stop in spans:
        family = _JOINED[int(rng.integers(len(_JOINED)))]
        draft = _DRAWN[family](frame._replace(frames=stop - start, size=frame.size / parts))
        if drafts:
            # Both run through the middle of the blend together.
            middle = overlap // 2
            draft = Draft(draft.positions + whole[start + middle] - draft.positions[middle], draft.view)
            share = ease((np.arange(overlap) + 1) / (overlap + 1))[:, None]
            joint = slice(start, start + overlap)
            whole[joint] = (1 - share) * whole[joint] + share * draft.positions[:overlap]
            whole[start + overlap:stop] = draft.positions[overlap:]
        else:
            whole[start:stop] = draft.positions
        drafts.append(draft)

    def view(final: np.ndarray) -> np.ndarray:
        rotations = np.empty((len(final), 3, 3))
        for (start, stop), draft in zip(spans, drafts):
            mine = draft.view(final[start:stop])
            if start:
                share = ease((np.arange(overlap) + 1) / (overlap + 1))
                joint = slice(start, start + overlap)
                rotations[joint] = blend(rotations[joint], mine[:overlap], share)
                rotations[start + overlap:stop] = mine[overlap:]
            else:
                rotations[:stop] = mine
        return rotations

    return Draft(whole, view)


_DRAWN: dict[Family, Callable[[Frame], Draft]] = {
    Family.near_original: _near_original, Family.orbit: _orbit, Family.spiral: _spiral, Family.dolly: _dolly,
    Family.fly_through: _fly_through, Family.random_walk: _random_walk, Family.crane: _crane,
    Family.pendulum: _pendulum, Family.compound: _compound,
}


def _unit(frame: Frame) -> np.ndarray:
    return np.linspace(0.0, 1.0, frame.frames)


def _wander(rng: np.random.Generator, count: int, step: float, relaxation_s: float) -> np.ndarray:
    """(count,) samples of an Ornstein-Uhlenbeck process of unit variance, started in its steady state."""
    keep = np.exp(-step / relaxation_s)
    kicks = rng.normal(0, np.sqrt(1 - keep**2), count)
    values = np.empty(count)
    value = rng.normal()
    for k in range(count):
        value = keep * value + kicks[k]
        values[k] = value
    return values


def _anchor(frame: Frame) -> np.ndarray:
    """c2w (4, 4) of a sampled training camera, moved by up to 0.1 r."""
    cameras = frame.scene.cameras.c2w
    anchor = cameras[int(frame.rng.integers(len(cameras)))].copy()
    anchor[:3, 3] += frame.rng.uniform(-0.1, 0.1, 3) / np.sqrt(3) * frame.scene.radius
    return anchor


def _at(target: np.ndarray, scene: SceneStatistics) -> View:
    return lambda final: upright(target - final, scene.up)


def _ahead(frame: Frame) -> View:
    """Towards where the camera will be in a second; towards the end, the last direction."""
    def view(final: np.ndarray) -> np.ndarray:
        second = min(frame.fps, len(final) - 1)
        forward = final[np.minimum(np.arange(len(final)) + second, len(final) - 1)] - final
        forward[len(final) - second:] = forward[len(final) - second - 1]
        forward = gaussian_filter1d(forward, max(1.0, second / 4), axis=0, mode="nearest")
        return upright(forward, frame.scene.up)
    return view
