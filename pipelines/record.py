"""The record of a run: a file in `runs/` with its command, settings, versions and outcome."""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import json
import platform
import shlex
import sys
import uuid
from collections.abc import Mapping
from typing import Any

from dataset.store import Store

RUNS = "runs"
_LIBRARIES = ("ray", "av", "opencv-python-headless", "pycolmap", "numpy", "scipy", "torch", "diffusers",
              "transformers")


def new_run_id() -> str:
    """A name for a run, by its time."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S-") + uuid.uuid4().hex[:6]


def write_record(
    store: Store, run_id: str, state: str, config: Any, outcome: Any, stages: Mapping[str, str]
) -> None:
    """Put the record in place, or the newer state of it. stages: what did the work, with its version."""
    record: dict[str, Any] = {
        "run": run_id, "state": state, "command": shlex.join(sys.orig_argv),
        "config": dataclasses.asdict(config), "outcome": dataclasses.asdict(outcome),
        "machine": {"platform": platform.platform(), "python": platform.python_version()},
        "versions": {name: _version(name) for name in _LIBRARIES}, "stages": dict(stages),
    }
    store.write(f"{RUNS}/{run_id}.json", json.dumps(record, indent=1, default=str).encode())


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None
