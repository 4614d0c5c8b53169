"""One visitor's drive: what was asked for, how far it is, and whom to tell."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

from infer.pipeline import Request
from infer.serve.recording import Recording
from infer.serve.wheel import Wheel

Message = bytes | dict[str, Any]
"""To the page: a frame, its number in four bytes and then a JPEG; anything else by its "kind"."""


class Outbox:
    """What a page is to be told, put in by any thread and taken out by that of the web."""

    def __init__(self) -> None:
        self._loop, self._messages = asyncio.get_running_loop(), asyncio.Queue[Message]()

    def put(self, message: Message) -> None:
        self._loop.call_soon_threadsafe(self._messages.put_nowait, message)

    async def take(self) -> Message:
        return await self._messages.get()


class State(Enum):
    waiting = "waiting"
    running = "running"
    over = "over"


@dataclass(eq=False)
class Session:
    """A drive. The engine guards all of it but the wheel, which guards itself. Times are monotonic."""

    name: str
    request: Request
    address: str
    outbox: Outbox
    recording: Recording
    touched: float  # when the visitor last did something
    wheel: Wheel = field(default_factory=Wheel)
    state: State = State.waiting
    connected: bool = False
    place: int = 0  # in the queue, as it was told last
    frames: Iterator[np.ndarray] | None = None
    made: int = 0  # frames, as the next three
    sent: int = 0
    shown: int = 0
    underruns: int = 0
    shown_at: float = 0.0  # when frames were last shown
    due_at: float | None = None  # since when the next chunk is due
    ending: str | None = None  # why it is to end
    finished_at: float | None = None  # when its video was whole
    action: str = ""  # what was driven, up to `made`, and its poses
    c2w: np.ndarray = field(default_factory=lambda: np.empty((0, 4, 4), np.float32))

    def is_due(self, ahead: int) -> bool:
        """Whether no more than `ahead` frames are made and not shown yet."""
        return self.state is State.running and self.made - min(self.shown, self.sent) <= ahead
