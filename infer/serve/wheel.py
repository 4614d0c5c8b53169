"""What a driver holds, and the path it makes: told of keys at any time, asked for chunks as they are due."""

from __future__ import annotations

import math
import threading
from collections import deque

import numpy as np

from infer.actions import RELEASED, Segment, Walk, format_actions, parse_actions


class Wheel:
    """Keys held while a chunk is asked for are held for all of it. A key pressed and let go since the chunk
    before is not lost: it is held at the chunk's beginning, for as long as it was. A typed action string
    comes first until it ends or a key is pressed.

    Times are in seconds of any clock. One thread may tell of keys while another asks for chunks.
    """

    def __init__(self) -> None:
        self._walk, self._lock = Walk(RELEASED), threading.Lock()
        self._held: dict[str, float] = {}  # when it was pressed
        self._used: set[str] = set()  # of those held, what a chunk was already made with
        self._tapped: dict[str, int] = {}  # for how many frames
        self._script: deque[Segment] = deque()
        self._driven: list[Segment] = []
        self._poses: list[np.ndarray] = []

    def press(self, key: str, at: float) -> None:
        """Raises ValueError for what is no key."""
        self._check(key)
        with self._lock:
            self._script.clear()
            self._held.setdefault(key, at)

    def release(self, key: str, at: float) -> None:
        """Raises ValueError for what is no key."""
        self._check(key)
        with self._lock:
            pressed = self._held.pop(key, None)
            if pressed is not None and key not in self._used:
                frames = max(1, math.ceil((at - pressed) * RELEASED.fps))
                self._tapped[key] = max(frames, self._tapped.get(key, 0))
            self._used.discard(key)

    def play(self, text: str) -> None:
        """Drive an action string. Raises ActionError, a ValueError."""
        segments = parse_actions(text, RELEASED)
        with self._lock:
            self._script = deque(segments)

    def steer(self, frames: int) -> np.ndarray:
        """Poses (frames, 4, 4) float32 of the chunk now due, as those of `action_poses` on `action`. The
        first pose of the first chunk is where the drive begins."""
        with self._lock:
            begun = bool(self._poses)
            moves = [self._frame(i) for i in range(frames - (not begun))]
            self._used, self._tapped = set(self._held), {}
            for held in moves:
                self._remember(held)
            if not begun:
                self._poses.append(self._walk.c2w.astype(np.float32))
            self._poses += [self._walk.step(held).astype(np.float32) for held in moves]
            return np.stack(self._poses[-frames:])

    @property
    def action(self) -> str:
        """All that was driven so far, as an action string."""
        with self._lock:
            return format_actions(self._driven, RELEASED)

    @property
    def c2w(self) -> np.ndarray:
        """All poses so far, (F, 4, 4) float32."""
        with self._lock:
            return np.stack(self._poses)

    @property
    def is_busy(self) -> bool:
        """Whether a key is held or an action string is being driven."""
        with self._lock:
            return bool(self._held or self._script)

    def _frame(self, number: int) -> frozenset[str]:
        """What is held in a frame of the chunk now due."""
        if self._script:
            segment = self._script[0]
            if segment.frames > 1:
                self._script[0] = Segment(segment.held, segment.frames - 1)
            else:
                self._script.popleft()
            return segment.held
        return frozenset(self._held) | {key for key, frames in self._tapped.items() if number < frames}

    def _remember(self, held: frozenset[str]) -> None:
        if self._driven and self._driven[-1].held == held:
            held_for = self._driven.pop().frames
            self._driven.append(Segment(held, held_for + 1))
        else:
            self._driven.append(Segment(held, 1))

    @staticmethod
    def _check(key: str) -> None:
        if len(key) != 1 or key not in RELEASED.keys:
            raise ValueError(f"{key[:20]!r} is no key; keys are {' '.join(RELEASED.keys)}")
