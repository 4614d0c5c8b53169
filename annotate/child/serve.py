"""The child of `annotate.child.process`: loads one engine and answers requests until its input ends.

    python serve.py ENGINE FOLDER

ENGINE is a module of `annotate.child` or the path of a Python file. It has a function
`load(settings) -> engine`, and `engine(arrays, meta) -> (arrays, meta)`. Python 3.10, standard library and
numpy only. Engines may hang or die in native code: the parent kills and reports, and an alarm ends what is
left behind by a parent that was killed itself.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

_ROOT = str(Path(__file__).resolve().parents[2])
_GRACE_S = 10

if __name__ == "__main__":
    sys.path[0] = _ROOT  # instead of this folder, whose names are those of the engines' packages

from annotate.child import protocol  # noqa: E402
from annotate.child.protocol import Arrays  # noqa: E402

Engine = Callable[[Arrays, dict[str, Any]], tuple[Arrays, dict[str, Any]]]


def main(name: str, folder: Path) -> None:
    """Serve the requests of `folder`; nothing of it is left when the input ends."""
    settings = json.loads((folder / protocol.SETTINGS).read_text())
    signal.alarm(int(settings["start_limit_s"]) + _GRACE_S)
    load = _load_function(name)
    if _ROOT in sys.path:  # our packages have common names, such as train and model
        sys.path.remove(_ROOT)
    engine = load(settings)
    signal.alarm(0)
    protocol.write_json(folder / protocol.READY, {"python": sys.version.split()[0]})
    for line in sys.stdin:
        number, limit_s = line.split()
        _answer(engine, folder, int(number), float(limit_s))
    shutil.rmtree(folder, ignore_errors=True)


def _load_function(name: str) -> Callable[[dict[str, Any]], Engine]:
    if not name.endswith(".py"):
        return importlib.import_module(f"annotate.child.{name}").load
    spec = importlib.util.spec_from_file_location(Path(name).stem, name)
    if spec is None or spec.loader is None:
        raise ValueError(f"{name} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load


def _answer(engine: Engine, folder: Path, number: int, limit_s: float) -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(int(limit_s) + _GRACE_S)
    arrays, meta = protocol.read_npz(protocol.request_path(folder, number))
    protocol.request_path(folder, number).unlink()
    try:
        found, about = engine(arrays, meta)
        status = {"status": protocol.OK, **about}
    except Exception as error:
        traceback.print_exc()
        found, status = {}, {"status": _status(error), "reason": f"{type(error).__name__}: {error}"}
        _free_memory()
    protocol.write_npz(protocol.answer_path(folder, number), found, status)
    signal.alarm(0)


def _status(error: Exception) -> str:
    """torch is not imported here: its error is known by its name."""
    short = type(error).__name__ == "OutOfMemoryError" or isinstance(error, MemoryError)
    return protocol.OUT_OF_MEMORY if short else protocol.FAILED


def _free_memory() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
