"""A run folder tells its story unaided: config.yaml, command.txt, environment.json, metrics.jsonl,
checkpoints/, samples/, export/. Every file appears by rename, complete or not at all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dataset.lock import DatasetLock, LockHeld
from dataset.store import Store

CONFIG, COMMAND, ENVIRONMENT = "config.yaml", "command.txt", "environment.json"
METRICS, NONFINITE, ABOUT = "metrics.jsonl", "nonfinite.jsonl", "about.json"
PATIENCE_S = 20.0
"""The readers of a run that was killed notice it, and let go of its lock, within some seconds."""


class RunFolder:
    """Files of one run. Only one process writes; the others never call what writes."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser().resolve()
        self.checkpoints = self.path / "checkpoints"
        self.samples = self.path / "samples"
        self.export = self.path / "export"

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Within it no other run writes here. Raises LockHeld."""
        lock, until = DatasetLock(Store(self.path)), time.monotonic() + PATIENCE_S
        while True:
            try:
                lock.acquire()
                break
            except LockHeld:
                if time.monotonic() > until:
                    raise
            time.sleep(0.2)
        try:
            yield
        finally:
            lock.release()

    def begin(self, config: Any, about: dict[str, Any], step: int) -> None:
        """Write down what is run, where and with what, and forget lines of steps that will be made again.

        about: what the next stage must know of this one.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self.write(CONFIG, _to_yaml(dataclasses.asdict(config)))
        self.write(COMMAND, shlex.join(sys.orig_argv) + "\n")
        self.write(ENVIRONMENT, json.dumps(describe_environment(), indent=1) + "\n")
        self.write(ABOUT, json.dumps(about, indent=1) + "\n")
        for name in (METRICS, NONFINITE):
            if (self.path / name).is_file():
                lines = [line for line in self.lines(name) if line["step"] <= step]
                self.write(name, "".join(json.dumps(line) + "\n" for line in lines))

    def write(self, name: str, text: str) -> None:
        """A whole file, new or in place of an earlier one."""
        path = self.path / name
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)

    def append(self, name: str, line: dict[str, Any]) -> None:
        """One line of JSON, written at once; the file appears with its first."""
        if not (self.path / name).is_file():
            self.write(name, json.dumps(line) + "\n")
            return
        descriptor = os.open(self.path / name, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(descriptor, (json.dumps(line) + "\n").encode())
        finally:
            os.close(descriptor)

    def lines(self, name: str) -> list[dict[str, Any]]:
        """Lines of a .jsonl file; one that a kill cut short is left out."""
        path = self.path / name
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def about(self) -> dict[str, Any] | None:
        """What `begin` was told; None where this is no run folder."""
        path = self.path / ABOUT
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def exported(self) -> Path | None:
        """The network this run ended with: the mean of its weights where there is one."""
        for name in ("ema", "network"):
            if (self.export / name).is_dir():
                return self.export / name
        return None


def describe_environment() -> dict[str, Any]:
    """Machine, libraries and the state of the code."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "python": platform.python_version(), "torch": torch.__version__, "platform": platform.platform(),
        "host": platform.node(), "cpus": os.cpu_count(), "gpu": gpu, "cuda": torch.version.cuda,
        "commit": _git("rev-parse", "HEAD"), "changed": bool(_git("status", "--porcelain")),
    }


def _git(*arguments: str) -> str | None:
    """Output of git in the folder of the code; None where it is not a checkout."""
    try:
        done = subprocess.run(["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True,
                              check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _to_yaml(values: dict[str, Any]) -> str:
    import yaml

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [plain(inner) for inner in value]
        return str(value) if isinstance(value, str) else value  # members of enumerations are written plainly

    return yaml.safe_dump(plain(values), sort_keys=False)
