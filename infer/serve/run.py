"""What `python -m infer.serve` does: check, listen, load, and serve until it is told to end."""

from __future__ import annotations

import logging
import signal
import socket
import sys
import threading
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from dataset.scratch import Scratch
from infer.serve.config import ServeConfig
from infer.serve.place import address, choose_token, listen

if TYPE_CHECKING:
    from infer.pipeline import WorldModel

BAD_INPUT, INTERRUPTED = 2, 130
_SOCKET_BYTES = 64 * 1024
"""Of one message of a page."""
_GOODBYE_S = 5
_WARM_CHUNKS = 3


def run(config: ServeConfig) -> int:
    """The exit code: 2 for settings that cannot be used."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    try:
        config.check()
        _check_packages()
        # Before the weights are loaded: an address in use costs a second, not minutes.
        listening = listen(config.host, config.port)
        with listening:
            world = _load(config)
            return _serve(config, world, listening)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (ValueError, FileNotFoundError, ImportError) as error:
        print(error, file=sys.stderr)
        return BAD_INPUT


def _check_packages() -> None:
    """Raises ImportError that says what to install."""
    from importlib.util import find_spec

    wanted = {"fastapi": "fastapi", "uvicorn": "uvicorn", "websockets": "websockets",
              "python_multipart": "python-multipart"}
    missing = [package for module, package in wanted.items() if find_spec(module) is None]
    if missing:
        raise ImportError(f"the server needs {', '.join(missing)}: pip install 'sana-wm-open[serve]'")


def _load(config: ServeConfig) -> WorldModel:
    """Raises ValueError for weights that are not there, do not fit, or cannot be driven."""
    import torch

    from infer.lens import Image
    from infer.live import NO_PATH, check_drivable, drive
    from infer.pipeline import WorldModel
    from infer.serve.wheel import Wheel

    dtype = None if config.dtype == "auto" else getattr(torch, config.dtype)
    world = WorldModel.from_pretrained(
        config.model, codec=config.codec, text=config.text, sampler=config.sampler, refiner=config.refiner,
        refine=config.refine, device=config.device, dtype=dtype, offload=config.offload,
        precision=config.precision, compile=config.compile)
    check_drivable(world)
    blank = Image(np.zeros((*config.size, 3), np.uint8))
    request = world.prepare(blank, camera=NO_PATH, size=(config.size[0], config.size[1]))
    if config.warm:
        wheel = Wheel()
        # Chunks differ in shape until the window of the softmax layers is full.
        for _ in islice(drive(world, request, wheel.steer), _WARM_CHUNKS):
            pass
    return world


def _serve(config: ServeConfig, world: WorldModel, listening: socket.socket) -> int:
    """The model in this thread, the web in another. SIGTERM and Ctrl-C end drives, then the web."""
    import uvicorn

    from infer.serve.app import make_app
    from infer.serve.engine import Engine

    token = choose_token(config.host, config.token)
    with Scratch("drives") as folder:
        engine = Engine(world, config.limit, folder, config.quality, config.crf)
        server = uvicorn.Server(uvicorn.Config(
            make_app(engine, config, token), log_level="warning", access_log=False, lifespan="off",
            ws_max_size=_SOCKET_BYTES, timeout_graceful_shutdown=_GOODBYE_S))

        def serve() -> None:
            try:
                server.run([listening])
            finally:
                engine.stop()

        web = threading.Thread(target=serve, name="web")
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: engine.stop())
        web.start()
        print(f"open {address(config.host, listening, token)}", flush=True)
        try:
            engine.run()
        finally:
            server.should_exit = True
            web.join()
    return 0
