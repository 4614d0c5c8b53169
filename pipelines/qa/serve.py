"""The server of the dashboard: a socket, the app, and a thread that follows the data set."""

from __future__ import annotations

import getpass
import sys
import threading
import webbrowser
from typing import TYPE_CHECKING

from dataset.catalog import CatalogError
from dataset.store import Store, StoreError
from dataset.verdicts import VerdictsError
from infer.serve.place import address, choose_token, listen
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
    try:
        listener = listen(config.host, config.port)
    except ValueError as error:
        raise PlanError(str(error)) from error
    store = Store(config.data)
    desk = Desk(store, config.reviewer or _login())
    try:
        desk.book.fold()
    except (VerdictsError, StoreError) as error:
        print(f"verdicts stay in many files: {error}", file=sys.stderr)
    token = choose_token(config.host, config.token)
    page = address(config.host, listener, token)
    desk.overview()
    stop = threading.Event()
    threading.Thread(target=_follow, args=(desk, config.refresh_s, stop), name="follow", daemon=True).start()
    print(f"{desk.index.snapshot.table.num_rows:,} rows of {store.url}\ndashboard: {page}\nCtrl-C ends it",
          flush=True)
    for notice in desk.index.snapshot.notices:
        print(notice, file=sys.stderr)
    if config.open:
        webbrowser.open(page)
    server = uvicorn.Server(uvicorn.Config(make_app(desk, token), log_level="warning", access_log=False,
                                           timeout_graceful_shutdown=2))
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        pass
    finally:
        stop.set()
    return 0


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
