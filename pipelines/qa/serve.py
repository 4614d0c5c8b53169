"""The server of the dashboard: a socket, the app, and a thread that follows the data set."""

from __future__ import annotations

import getpass
import secrets
import socket
import sys
import threading
import webbrowser
from typing import TYPE_CHECKING
from urllib.parse import quote

from dataset.catalog import CatalogError
from dataset.store import Store, StoreError
from dataset.verdicts import VerdictsError
from pipelines.plan import PlanError
from pipelines.qa.config import QaConfig

if TYPE_CHECKING:  # FastAPI is asked for only once it is known that something is to be served
    from pipelines.qa.app import Desk


def serve(config: QaConfig) -> int:
    """Answer until Ctrl-C. Raises CatalogError if there is no data set, PlanError where it cannot listen."""
    try:
        import uvicorn

        from pipelines.qa.app import Desk, make_app
    except ImportError as error:
        raise PlanError(f"the dashboard needs {error.name}: pip install 'sana-wm-open[dashboard]'") from error
    listener = _listen(config)
    store = Store(config.data)
    desk = Desk(store, config.reviewer or _login())
    try:
        desk.book.fold()
    except (VerdictsError, StoreError) as error:
        print(f"verdicts stay in many files: {error}", file=sys.stderr)
    token = config.token or (None if config.is_private else secrets.token_urlsafe(24))
    address = _address(config, listener, token)
    desk.overview()
    stop = threading.Event()
    threading.Thread(target=_follow, args=(desk, config.refresh_s, stop), name="follow", daemon=True).start()
    print(f"{desk.index.snapshot.table.num_rows:,} rows of {store.url}\ndashboard: {address}\nCtrl-C ends it",
          flush=True)
    for notice in desk.index.snapshot.notices:
        print(notice, file=sys.stderr)
    if config.open:
        webbrowser.open(address)
    server = uvicorn.Server(uvicorn.Config(make_app(desk, token), log_level="warning", access_log=False,
                                           timeout_graceful_shutdown=2))
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        pass
    finally:
        stop.set()
    return 0


def _listen(config: QaConfig) -> socket.socket:
    try:
        family, kind, _, _, where = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen()  # a browser that comes before the server waits, and a second server is told
    except OSError as error:
        why = error.strerror or error
        raise PlanError(f"host={config.host} port={config.port}: cannot listen there ({why}); "
                        "port=0 takes any that is free") from error
    return listener


def _address(config: QaConfig, listener: socket.socket, token: str | None) -> str:
    host = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(config.host, config.host)
    host = f"[{host}]" if ":" in host else host
    return f"http://{host}:{listener.getsockname()[1]}/" + (f"?token={quote(token)}" if token else "")


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container without a name for its user
        return "anonymous"


def _follow(desk: Desk, every_s: float, stop: threading.Event) -> None:
    """Look for new clips and verdicts now and then; what keeps it from that becomes a notice of the page."""
    failing = "the data set cannot be looked at anew: "
    while not stop.wait(every_s):
        snapshot = desk.index.snapshot
        snapshot.notices = [notice for notice in snapshot.notices if not notice.startswith(failing)]
        try:
            if desk.index.refresh():
                desk.overview()
        except (CatalogError, OSError, ValueError) as error:
            desk.index.snapshot.notices.append(f"{failing}{error}")
