"""What parent and child agree on: a folder, numbered request and answer files, one line for each request.

The parent makes the folder and writes `settings.json` into it. The child loads its engine and writes
`ready.json`. Then, for each request, the parent writes `<n>.request.npz` and sends the line "<n> <seconds>"
to the child's standard input; the child writes `<n>.answer.npz`. Files appear by rename, so one that is
there is whole. The end of the input is the end of the child.

Python 3.10, the standard library and numpy: this runs in the interpreters of foreign engines as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]

SETTINGS = "settings.json"
READY = "ready.json"
OK = "ok"
FAILED = "failed"  # the engine raised; `reason` says what
OUT_OF_MEMORY = "out_of_memory"
_META = "meta"


def request_path(folder: Path, number: int) -> Path:
    """File of a request."""
    return folder / f"{number:06d}.request.npz"


def answer_path(folder: Path, number: int) -> Path:
    """File of the answer to it."""
    return folder / f"{number:06d}.answer.npz"


def write_npz(path: Path, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Arrays and a JSON object in one file that appears whole."""
    unfinished = path.with_suffix(".part.npz")
    encoded = np.frombuffer(json.dumps(dict(meta)).encode(), np.uint8)
    np.savez(unfinished, **{_META: encoded}, **dict(arrays))  # type: ignore[arg-type]
    unfinished.rename(path)


def read_npz(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """Inverse of `write_npz`. Raises ValueError, OSError or zipfile.BadZipFile for anything else."""
    with np.load(path, allow_pickle=False) as stored:
        if not hasattr(stored, "files") or _META not in stored.files:
            raise ValueError(f"{path.name} is no file of this protocol")
        arrays = {name: stored[name] for name in stored.files if name != _META}
        meta = json.loads(stored[_META].tobytes())
    if not isinstance(meta, dict):
        raise ValueError(f"{path.name} holds no JSON object")
    return arrays, meta


def write_json(path: Path, value: Any) -> None:
    """JSON in a file that appears whole."""
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(value))
    unfinished.rename(path)
