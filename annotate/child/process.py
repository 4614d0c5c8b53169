"""An engine in a process of its own, kept from request to request, killed when it hangs.

Whatever goes wrong with it is one `ChildFailed` for the clip in hand; the next request starts it anew.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import weakref
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from annotate.child import protocol
from annotate.child.protocol import Arrays
from dataset.scratch import Scratch

_SERVE = Path(__file__).with_name("serve.py")
_POLL_S = (0.002, 0.05)
_SAID = 200  # characters of the child's last words that are passed on


class ChildFailed(RuntimeError):
    """An engine's process died, hung, raised or wrote nonsense; the message says which."""


class Child:
    """One engine behind `annotate.child.protocol`; can be pickled while it is not running.

    engine: a module of `annotate.child` or the path of a Python file; settings: what it is loaded with.
    python: its interpreter, None for this one.
    """

    def __init__(self, engine: str, settings: Mapping[str, Any], python: str | None = None,
                 start_limit_s: float = 600.0) -> None:
        self.name = Path(engine).stem
        self._engine = engine
        self._settings = dict(settings)
        self._python = str(Path(python).expanduser()) if python else None
        self._start_limit_s = start_limit_s
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = Path()
        self._number = 0

    def __getstate__(self) -> dict[str, Any]:
        if self._process is not None:
            raise ValueError(f"the process of {self.name} is running and stays where it is")
        return self.__dict__

    def ask(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any],
            limit_s: float) -> tuple[Arrays, dict[str, Any]]:
        """The engine's answer to one request, within `limit_s` seconds of wall time.

        Raises ChildFailed, and torch.OutOfMemoryError where the engine's memory was too small.
        """
        folder = self._running()
        self._number += 1
        protocol.write_npz(protocol.request_path(folder, self._number), arrays, meta)
        self._send(f"{self._number} {limit_s:g}\n")
        path = protocol.answer_path(folder, self._number)
        self._wait_for(path, limit_s, f"did not answer within {limit_s:g} s")
        try:
            found, about = protocol.read_npz(path)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise self._failed(f"wrote an answer that cannot be read ({error})") from None
        path.unlink()
        status, reason = about.pop("status", None), about.pop("reason", "no reason given")
        if status == protocol.OUT_OF_MEMORY:
            import torch

            raise torch.OutOfMemoryError(f"{self.name}: {reason}")
        if status == protocol.FAILED:  # its process is whole and goes on
            raise ChildFailed(f"{self.name} failed: {_first_line(str(reason))}")
        if status != protocol.OK:
            raise self._failed(f"wrote an answer of status {status!r}")
        return found, about

    def close(self) -> None:
        """End the process; the next request starts another one."""
        if self._process is not None:
            _end(self._process, self._scratch)
            self._process = None

    def _running(self) -> Path:
        if self._process is None:
            self._start()
        return self._folder

    def _start(self) -> None:
        scratch = Scratch(f"engine-{self.name}")
        folder = scratch.path
        self._folder, self._scratch = folder, scratch
        settings = {**self._settings, "start_limit_s": self._start_limit_s}
        protocol.write_json(folder / protocol.SETTINGS, settings)
        environment = dict(os.environ)
        if self._python is not None:  # paths of this interpreter's packages are of no use to another
            environment.pop("PYTHONPATH", None)
        command = [self._python or sys.executable, str(_SERVE), self._engine, str(folder)]
        try:
            with (folder / "log.txt").open("wb") as sink:
                self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=sink, stderr=sink,
                                                 env=environment, cwd=folder, start_new_session=True)
        except OSError as error:
            scratch.remove()
            raise ChildFailed(f"{self.name}: its process cannot be started: {error}") from None
        weakref.finalize(self, _end, self._process, scratch)  # also when this process ends
        self._wait_for(folder / protocol.READY, self._start_limit_s,
                       f"was not ready within {self._start_limit_s:g} s")

    def _send(self, line: str) -> None:
        assert self._process is not None and self._process.stdin is not None
        with contextlib.suppress(OSError):  # it has died, which the wait for its answer will tell
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()

    def _wait_for(self, path: Path, limit_s: float, complaint: str) -> None:
        assert self._process is not None
        deadline = time.monotonic() + limit_s
        pause, longest = _POLL_S
        while not path.exists():
            code = self._process.poll()
            if code is not None and not path.exists():
                with contextlib.suppress(ProcessLookupError):  # what it started outlives it
                    os.killpg(self._process.pid, signal.SIGKILL)
                how = f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
                raise self._failed(how)
            if time.monotonic() > deadline:
                raise self._failed(complaint)
            time.sleep(pause)
            pause = min(1.5 * pause, longest)

    def _failed(self, what: str) -> ChildFailed:
        """The error to raise; the process is ended with all that it started."""
        said = self._last_words()
        self.close()
        return ChildFailed(f"the process of {self.name} {what}: {said}")

    def _last_words(self) -> str:
        try:
            text = (self._folder / "log.txt").read_bytes()[-4096:].decode(errors="replace").strip()
        except OSError:
            return "no output"
        return text.splitlines()[-1][-_SAID:] if text else "no output"


def _end(process: subprocess.Popen[bytes], scratch: Scratch) -> None:
    """Kill a process with all that it started, and remove its folder; nothing if that has been done."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdin is not None:
        with contextlib.suppress(OSError):
            process.stdin.close()
    scratch.remove()


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or ["no reason given"])[0][:_SAID]
