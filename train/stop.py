"""SIGTERM as a wish: whoever asks sees that it came, and nothing is torn off in the middle."""

from __future__ import annotations

import signal
import threading
from typing import Any


class StopSignal:
    """Within it, SIGTERM only sets `came`. In threads, which get no signals, it never does."""

    def __init__(self) -> None:
        self.came = False
        self._before: Any = None

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, *_: object) -> None:
        self.came = True
