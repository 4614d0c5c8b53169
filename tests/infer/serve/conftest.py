"""An engine at work, pages that answer it, and the server as it stands on its port."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from infer.pipeline import Request, WorldModel
from infer.serve.app import make_app
from infer.serve.config import LimitConfig, ServeConfig
from infer.serve.engine import Engine
from infer.serve.session import Message, Session
from tests.infer.conftest import SIZE

PATIENCE_S = 240


def until(true: Callable[[], Any]) -> Any:
    """What the call returns once it is true."""
    end = time.monotonic() + PATIENCE_S
    while not (found := true()):
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)
    return found


class Page:
    """Stands where an outbox does: keeps what it is told, and shows every frame as soon as it is there."""

    def __init__(self, engine: Engine, log: list[tuple[Page, int]] | None = None, shows: bool = True) -> None:
        self.engine, self.log, self.shows = engine, log, shows
        self.told: list[dict[str, Any]] = []
        self.frames: list[bytes] = []
        self.session: Session | None = None

    def put(self, message: Message) -> None:
        if isinstance(message, bytes):
            self.frames.append(message)
            return
        self.told.append(message)
        if message["kind"] == "chunk":
            if self.log is not None:
                self.log.append((self, message["made"]))
            if self.shows:
                assert self.session is not None
                for _ in range(message["frames"]):
                    self.engine.count_sent(self.session)
                self.engine.count_shown(self.session, message["made"], 0)

    def kinds(self) -> list[str]:
        return [message["kind"] for message in self.told]

    @property
    def over(self) -> str | None:
        """The message at the end."""
        return next((m["message"] for m in self.told if m["kind"] == "over"), None)


@contextmanager
def at_work(engine: Engine) -> Iterator[None]:
    thread = threading.Thread(target=engine.run)
    thread.start()
    try:
        yield
    finally:
        engine.stop()
        thread.join()


@pytest.fixture(scope="session")
def world(make_world: Callable[..., WorldModel]) -> WorldModel:
    return make_world("distilled", timesteps=[1000, 0])


@pytest.fixture(scope="session")
def request_of(world: WorldModel, room: Path) -> Callable[..., Request]:
    def make(seed: int = 3) -> Request:
        return world.prepare(room, "a room", "none-24", seed=seed, size=SIZE)
    return make


@pytest.fixture
def make_engine(world: WorldModel, tmp_path: Path) -> Callable[..., Engine]:
    def make(**limits: Any) -> Engine:
        return Engine(world, LimitConfig(**limits), tmp_path / "drives", quality=85, crf=18)
    return make


@contextmanager
def serving(world: WorldModel, folder: Path, config: ServeConfig, token: str | None = None) -> Iterator[str]:
    """The server on a free port; its address."""
    engine = Engine(world, config.limit, folder, config.quality, config.crf)
    listening = socket.create_server(("127.0.0.1", 0))
    app = make_app(engine, config, token)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off",
                                           timeout_graceful_shutdown=5))
    web = threading.Thread(target=server.run, args=([listening],))
    with at_work(engine):
        web.start()
        until(lambda: server.started)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    web.join()
