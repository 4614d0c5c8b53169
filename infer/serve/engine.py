"""The queue, and the one thread that makes chunks: drives that are due get one each in turn."""

from __future__ import annotations

import logging
import secrets
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from infer.live import drive
from infer.pipeline import Request, WorldModel
from infer.serve.config import LimitConfig
from infer.serve.figures import Figures
from infer.serve.recording import Recording
from infer.serve.session import Outbox, Session, State
from infer.serve.upload import Refused
from infer.trajectory import FPS

_TICK_S = 0.25
_log = logging.getLogger(__name__)


class Engine:
    """Drives of all visitors on one model. `run` makes chunks in the thread that calls it, until `stop`; a
    second thread packs and writes the frames, so that the model does not wait for them.
    """

    def __init__(self, world: WorldModel, limit: LimitConfig, folder: Path, quality: int, crf: int) -> None:
        self.world, self.limit, self.folder = world, limit, folder
        self._quality, self._crf, self._figures = quality, crf, Figures()
        self._changed, self._stopping = threading.Condition(), threading.Event()
        self._sessions: dict[str, Session] = {}
        self._running: list[Session] = []  # whose turn comes next stands first
        self._waiting: list[Session] = []
        self._writer = ThreadPoolExecutor(1, "writer")

    def run(self) -> None:
        """Until `stop`; then every drive is ended and its video is whole."""
        try:
            while (session := self._await_turn()) is not None:
                self._advance(session)
        finally:
            with self._changed:
                for session in [*self._waiting, *self._running]:
                    self._end(session, "the server is shutting down")
            self._writer.shutdown()

    def stop(self) -> None:
        """May be called from a signal's handler."""
        self._stopping.set()

    # What the web asks for

    def admit(self, request: Request, address: str, outbox: Outbox) -> Session:
        """A drive that waits for its place. Raises Refused where there is no room."""
        name = secrets.token_urlsafe(16)
        session = Session(name, request, address, outbox, Recording(self.folder / name, self._crf),
                          time.monotonic())
        with self._changed:
            self.check_room(address)
            self._sessions[name] = session
            self._waiting.append(session)
            self._figures.drives += 1
            self._changed.notify()
        return session

    def check_room(self, address: str) -> None:
        """Raises Refused where `admit` would."""
        limit = self.limit
        with self._changed:
            here = [*self._running, *self._waiting]
            if limit.each is not None and sum(s.address == address for s in here) >= limit.each:
                raise Refused(429, f"this address has {limit.each} drives already; end one first")
            if len(here) >= limit.drives + limit.waiting:
                raise Refused(503, f"all {limit.drives} places are taken and {len(self._waiting)} visitors "
                                   "wait already; try again in a few minutes")

    def find(self, name: str) -> Session | None:
        with self._changed:
            return self._sessions.get(name)

    def connect(self, session: Session) -> bool:
        """Whether this is the one who came for the drive, and the first."""
        with self._changed:
            if session.connected or session.state is State.over:
                return False
            session.connected, session.touched = True, time.monotonic()
            self._changed.notify()
            return True

    def leave(self, session: Session, why: str) -> None:
        """End a drive soon, unless it is to end already."""
        with self._changed:
            session.ending = session.ending or why
            self._changed.notify()

    def touch(self, session: Session) -> None:
        """The visitor did something."""
        with self._changed:
            session.touched = time.monotonic()

    def count_sent(self, session: Session) -> None:
        """One more frame left for the page."""
        with self._changed:
            session.sent += 1

    def count_shown(self, session: Session, shown: int, underruns: int) -> None:
        """How many frames the page has shown, and how often it had none to show."""
        with self._changed:
            now = time.monotonic()
            if shown > session.shown:
                session.shown, session.shown_at = min(shown, session.sent), now
            underruns = max(min(underruns, session.made), session.underruns)
            self._figures.underruns += underruns - session.underruns
            session.underruns = underruns
            self._note_due(session, now)
            self._changed.notify()

    def count_refused(self, status: int) -> None:
        with self._changed:
            self._figures.refused[status] += 1

    def figures(self) -> dict[str, Any]:
        """What the operator reads."""
        with self._changed:
            return {"running": len(self._running), "waiting": len(self._waiting), **self._figures.summary()}

    # The thread of the model

    def _await_turn(self) -> Session | None:
        """The drive whose chunk is made next; None at the end of all."""
        with self._changed:
            while not self._stopping.is_set():
                now = time.monotonic()
                self._tidy(now)
                due = [session for session in self._running if self._note_due(session, now)]
                if due:
                    self._running.remove(due[0])
                    self._running.append(due[0])
                    return due[0]
                self._changed.wait(_TICK_S)
        return None

    def _advance(self, session: Session) -> None:
        begun = time.monotonic()
        try:
            session.frames = session.frames or drive(self.world, session.request, session.wheel.steer)
            frames = next(session.frames)
        except Exception:
            self._fail(session, "making the next chunk failed")
            return
        now = time.monotonic()
        with self._changed:
            due_at, session.due_at = session.due_at or begun, None
            if not session.made:
                session.touched = session.shown_at = now
            session.made += len(frames)
            session.action, session.c2w = session.wheel.action, session.wheel.c2w
            told = {"kind": "chunk", "frames": len(frames), "made": session.made, "action": session.action,
                    "making_s": round(now - begun, 4), **_place(session.c2w[-len(frames):])}
        self._writer.submit(self._deliver, session, frames, told, due_at)

    def _tidy(self, now: float) -> None:
        """End what is to end, fill free places, tell the waiting where they stand, forget what is old."""
        for session in [*self._waiting, *self._running]:
            why = session.ending or self._why_end(session, now)
            if why:
                self._end(session, why)
        came = [session for session in self._waiting if session.connected]
        for session in came[: self.limit.drives - len(self._running)]:
            self._waiting.remove(session)
            self._running.append(session)
            session.state, session.touched = State.running, now
            session.outbox.put({"kind": "running"})
        for place, session in enumerate([session for session in self._waiting if session.connected], 1):
            if session.place != place:
                session.place = place
                session.outbox.put({"kind": "waiting", "place": place})
        for session in [*self._sessions.values()]:
            if session.finished_at is not None and now - session.finished_at > self.limit.keep_s:
                session.recording.discard()
                del self._sessions[session.name]

    def _why_end(self, session: Session, now: float) -> str | None:
        limit = self.limit
        if session.state is State.waiting:
            late = not session.connected and now - session.touched > limit.connect_s
            return "nobody came for the drive" if late else None
        if session.made >= limit.longest_s * FPS:
            return f"the drive has reached its greatest length, {limit.longest_s:g} s of video"
        if not session.made:
            return None
        if session.wheel.is_busy:
            session.touched = now
        if now - session.touched > limit.idle_s:
            return f"no key was pressed for {limit.idle_s:g} s, so the drive ended"
        if session.shown < session.made and now - session.shown_at > limit.idle_s:
            return f"the page showed nothing for {limit.idle_s:g} s, so the drive ended"
        return None

    def _end(self, session: Session, why: str) -> None:
        (self._waiting if session.state is State.waiting else self._running).remove(session)
        session.state = State.over
        session.frames = None  # and with it the cache of the drive
        self._writer.submit(self._finish, session, why)

    def _note_due(self, session: Session, now: float) -> bool:
        due = session.is_due(int(self.limit.ahead_s * FPS))
        if due and session.due_at is None:
            session.due_at = now
        return due

    # The thread that writes

    def _deliver(self, session: Session, frames: np.ndarray, told: dict[str, Any], due_at: float) -> None:
        try:
            first = told["made"] - len(frames)
            for number, pixels in enumerate(frames, first):
                session.outbox.put(struct.pack("<I", number) + self._packed(pixels))
            due_s = time.monotonic() - due_at
            session.outbox.put({**told, "due_s": round(due_s, 4)})
            with self._changed:
                self._figures.chunk(len(frames), FPS, told["making_s"], due_s, first == 0)
            session.recording.add(frames)
        except Exception:
            self._fail(session, "writing the frames failed")

    def _finish(self, session: Session, why: str) -> None:
        try:
            if session.made:
                request = session.request
                session.recording.finish(session.c2w, request.lens.intrinsics[0], request.size)
        except Exception:
            self._fail(session, "finishing the video failed")
            why = f"{why}; {session.ending}"
        with self._changed:
            session.finished_at = time.monotonic()
        session.outbox.put({"kind": "over", "message": why, "frames": session.made, "action": session.action,
                            "video": session.recording.video.exists()})

    def _fail(self, session: Session, what: str) -> None:
        """Called while an error is handled, which is for the operator: what it says is not for strangers."""
        _log.exception("drive %s: %s", session.name, what)
        with self._changed:
            self._figures.failures += 1
            session.ending = f"{what}; the server's log says why"

    def _packed(self, pixels: np.ndarray) -> bytes:
        done, jpeg = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, self._quality])
        if not done:
            raise ValueError("a frame could not be packed as JPEG")
        return jpeg.tobytes()


def _place(c2w: np.ndarray) -> dict[str, Any]:
    """Where frames (f, 4, 4) are on the ground, x right and z ahead in metres, and where the last looks."""
    return {"path": c2w[:, [0, 2], 3].round(3).tolist(), "ahead": c2w[-1, [0, 2], 2].round(3).tolist()}
