"""The web side: the page, the form that asks for a drive, its socket, and what is left of it."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from infer import pipeline
from infer.actions import RELEASED
from infer.live import NO_PATH
from infer.serve.config import ServeConfig
from infer.serve.door import Door
from infer.serve.engine import Engine
from infer.serve.session import Outbox, Session, State
from infer.serve.upload import Refused, read_form, read_picture
from infer.trajectory import FPS

_PAGE = Path(__file__).with_name("page")
_TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript"}
_LEFT = "the visitor left"
_Value = TypeVar("_Value")
_MOST_REFUSED = 100
"""Messages of one page; who sends more of what makes no sense is no page."""
_READ_AT_ONCE = 2
"""Pictures that are unpacked at a time: each takes a hundred megabytes for a moment."""


def make_app(engine: Engine, config: ServeConfig, token: str | None) -> FastAPI:
    """The application. token: what a visitor must bring; None where only this machine can ask."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Door, token=token)
    _add_page(app, config)
    _add_drives(app, engine, config)

    @app.exception_handler(Refused)
    async def refused(_: Request, error: Refused) -> JSONResponse:
        engine.count_refused(error.status)
        return JSONResponse({"message": str(error)}, error.status)

    return app


def _add_page(app: FastAPI, config: ServeConfig) -> None:
    # Read once: a visitor's address is a key of this table and never a path.
    files = {path.name: (path.read_bytes(), _TYPES[path.suffix]) for path in _PAGE.iterdir()
             if path.suffix in _TYPES}

    @app.get("/")
    @app.get("/page/{name}")
    async def page(name: str = "index.html") -> Response:
        if name not in files:
            raise Refused(404, "there is no such file")
        content, kind = files[name]
        return Response(content, media_type=kind)

    @app.get("/limits")
    async def limits() -> dict[str, Any]:
        limit = config.limit
        return {"fps": FPS, "size": config.size, "image_mb": limit.image_mb, "longest_s": limit.longest_s,
                "prompt_characters": limit.prompt_characters, "scheme": RELEASED.name,
                "action_characters": limit.action_characters,
                "controls": {name: getattr(RELEASED, name) for name in ("forward", "yaw", "pitch", "right")}}


def _add_drives(app: FastAPI, engine: Engine, config: ServeConfig) -> None:
    reading = asyncio.Semaphore(_READ_AT_ONCE)

    @app.get("/metrics")
    async def metrics() -> dict[str, Any]:
        return engine.figures()

    @app.post("/drives", status_code=201)
    async def ask_drive(request: Request) -> dict[str, str]:
        address = request.client.host if request.client else ""
        engine.check_room(address)
        data, words = await read_form(request, config.limit.image_mb)
        async with reading:
            wish = await run_in_threadpool(_read_wish, engine.world, config, data, words)
        return {"name": engine.admit(wish, address, Outbox()).name, "lens": wish.lens.origin}

    @app.websocket("/drives/{name}/live")
    async def live(socket: WebSocket, name: str) -> None:
        await socket.accept()
        session = engine.find(name)
        if session is None or not engine.connect(session):
            await socket.close(1008, "there is no such drive, or it has its page")
            return
        both = [asyncio.create_task(_speak(socket, engine, session)),
                asyncio.create_task(_listen(socket, engine, session, config))]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            engine.leave(session, _LEFT)
            for task in both:
                task.cancel()
            # A page that is gone is no fault: what its socket then raises is not looked at.
            await asyncio.gather(*both, return_exceptions=True)

    @app.get("/drives/{name}/{file}")
    async def download(name: str, file: str) -> Response:
        session = engine.find(name)
        if session is None:
            raise Refused(404, "there is no such drive; videos are kept for "
                               f"{config.limit.keep_s:g} s after its end")
        found = {"video.mp4": session.recording.video, "camera.npz": session.recording.camera}.get(file)
        if found is None:
            raise Refused(404, "a drive has video.mp4 and camera.npz")
        if session.state is not State.over:
            raise Refused(409, "the drive is not over; stop it first")
        if not found.exists():
            raise Refused(404, "this drive left no video")
        return FileResponse(found, filename=file)


def _read_wish(world: pipeline.WorldModel, config: ServeConfig, data: bytes, words: dict[str, str],
               ) -> pipeline.Request:
    """What the form asks for. Raises Refused."""
    unknown = set(words) - {"prompt", "seed", "fov"}
    if unknown:
        raise Refused(422, f"{sorted(unknown)[0][:40]!r} is no field of the form; it has image, prompt, seed "
                           "and fov")
    prompt, longest = words.get("prompt", "").strip(), config.limit.prompt_characters
    if len(prompt) > longest:
        raise Refused(422, f"the prompt has {len(prompt)} characters, allowed {longest}")
    picture = read_picture(data, config.limit.image_megapixels)
    try:
        seed = int(words.get("seed") or 0)
        fov = float(words["fov"]) if words.get("fov") else None
    except ValueError:
        raise Refused(422, "seed and fov are numbers") from None
    try:
        return world.prepare(picture, prompt, NO_PATH, seed=seed, size=(config.size[0], config.size[1]),
                             fov=fov)
    except ValueError as error:
        raise Refused(422, str(error)) from None


async def _speak(socket: WebSocket, engine: Engine, session: Session) -> None:
    """Pass on what the drive tells, until it is over."""
    while True:
        message = await session.outbox.take()
        if isinstance(message, bytes):
            await socket.send_bytes(message)
            engine.count_sent(session)
            continue
        await socket.send_json(message)
        if message["kind"] == "over":
            await socket.close(1000)
            return


async def _listen(socket: WebSocket, engine: Engine, session: Session, config: ServeConfig) -> None:
    """Do what the page says, until it is gone. What makes no sense is answered, and changes nothing."""
    refused = 0
    while (message := await socket.receive())["type"] == "websocket.receive":
        try:
            _obey(json.loads(message.get("text") or ""), engine, session, config)
        except (ValueError, RecursionError) as error:
            refused += 1
            if refused > _MOST_REFUSED:
                return
            session.outbox.put({"kind": "refused", "message": str(error)})


def _obey(said: Any, engine: Engine, session: Session, config: ServeConfig) -> None:
    """One message of the page. Raises ValueError for one that makes no sense."""
    kind, now = _value(said, "kind", str), time.monotonic()
    if kind == "shown":
        engine.count_shown(session, _value(said, "frames", int), _value(said, "underruns", int))
        return
    engine.touch(session)
    if kind == "press":
        session.wheel.press(_value(said, "key", str), now)
    elif kind == "release":
        session.wheel.release(_value(said, "key", str), now)
    elif kind == "play":
        longest, text = config.limit.action_characters, _value(said, "action", str)
        if len(text) > longest:
            raise ValueError(f"the action string has {len(text)} characters, allowed {longest}")
        session.wheel.play(text)
    elif kind == "stop":
        engine.leave(session, "the drive was stopped")
    else:
        raise ValueError(f"{kind[:40]!r} is no word of this server; it knows press, release, play, "
                         "shown and stop")


def _value(said: Any, name: str, kind: type[_Value]) -> _Value:
    found = said.get(name) if isinstance(said, dict) else None
    if type(found) is not kind:
        wanted = "a text" if kind is str else "a whole number"
        raise ValueError(f"a message of the page needs {name!r}, {wanted}")
    return found  # type: ignore[return-value]
