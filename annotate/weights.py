"""Learned engines: what each needs before a run may start, where its weights lie, and on which terms.

One rule for weights: a local path; else a hub repository "owner/name", taken from the hub's cache if it is
there and fetched into it if not. `prepare` applies it once, before the run; workers find what it fetched.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from dataset.clip import ClipRecord

_PROBE_LIMIT_S = 120.0
_PROBE = "import importlib.util as u, sys; print(*[m for m in sys.argv[1:] if u.find_spec(m) is None])"


class EngineMissing(ValueError):
    """A learned engine cannot run here; the message says in one sentence what to install or to set."""


@dataclass(frozen=True)
class Needs:
    """What one learned engine needs.

    install: the command that provides `modules`, top-level names. python: the interpreter that must have
    them, None for this one. weights: local path or hub repository, None where the package brings its own;
    file: the one file of it that is read, None for the whole folder. fetch: brings the weights that a package
    fetches by itself into its cache, where workers then find them.
    """

    engine: str
    licence: str  # of code and weights
    install: str
    modules: tuple[str, ...] = ()
    python: str | None = None
    weights: str | None = None
    file: str | None = None
    fetch: Callable[[], None] | None = None


@runtime_checkable
class Learned(Protocol):
    """A stage that may use learned engines."""

    def needs(self) -> Sequence[Needs]:
        """What the engines it is set up with need; empty where all are embedded."""
        ...


def prepare(stages: Iterable[Any]) -> list[str]:
    """Make sure that every learned engine of the stages can run, fetching weights that are not here yet.

    Returns a line on the licence of each engine, to be printed once. Raises EngineMissing.
    """
    lines = []
    for needs in dict.fromkeys(n for stage in stages if isinstance(stage, Learned) for n in stage.needs()):
        check_modules(needs)
        if needs.weights is not None:
            locate(needs.weights, needs.file, needs.engine)
        elif needs.fetch is not None:
            _fetch_own(needs.fetch, needs.engine)
        lines.append(f"engine {needs.engine}: {needs.licence}")
    return lines


def check_modules(needs: Needs) -> None:
    """Raise EngineMissing unless the engine's interpreter is there and finds its modules."""
    python = Path(needs.python).expanduser() if needs.python else None
    if python is None:
        missing = [name for name in needs.modules if importlib.util.find_spec(name) is None]
    elif not python.is_file():
        raise EngineMissing(f"engine {needs.engine}: there is no interpreter {python}; {needs.install}")
    else:
        try:
            found = subprocess.run([str(python), "-c", _PROBE, *needs.modules], text=True, check=True,
                                   capture_output=True, timeout=_PROBE_LIMIT_S, stdin=subprocess.DEVNULL)
        except (OSError, subprocess.SubprocessError) as error:
            raise EngineMissing(f"engine {needs.engine}: the interpreter {python} does not work ({error}); "
                                f"{needs.install}") from None
        missing = found.stdout.split()
    if missing:
        where = python or sys.executable
        raise EngineMissing(f"engine {needs.engine}: {', '.join(missing)} is not installed for {where}; "
                            f"{needs.install}")


def locate(weights: str, file: str | None, engine: str) -> Path:
    """The local file or folder of an engine's weights, fetched into the hub's cache if need be.

    Raises EngineMissing where they are neither here nor to be had.
    """
    local = Path(weights).expanduser()
    if local.exists():
        found = local / file if file and local.is_dir() else local
        if not found.exists():
            raise EngineMissing(f"engine {engine}: the folder {local} holds no {file}; give the folder or "
                                "file of its released weights")
        return found
    if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", weights) is None:
        raise EngineMissing(f"engine {engine}: there are no weights at {weights}, and it is no hub "
                            "repository (owner/name); give the path of the released weights")
    try:
        return _cached(weights, file)
    except FileNotFoundError:  # the hub's cache has it not
        pass
    try:
        return _fetched(weights, file)
    except Exception as error:
        raise EngineMissing(
            f"engine {engine}: its weights {weights} are not in the hub's cache and cannot be fetched "
            f"({_first_line(error)}); run `hf download {weights}` on a machine with a network (gated ones "
            "need `hf auth login`), or copy them here and give their path") from None


def _fetch_own(fetch: Callable[[], None], engine: str) -> None:
    try:
        fetch()
    except Exception as error:
        raise EngineMissing(f"engine {engine}: its weights are not here and cannot be fetched "
                            f"({_first_line(error)}); run once on a machine with a network, or give the path "
                            "of a copy") from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _cached(repository: str, file: str | None) -> Path:
    from huggingface_hub import hf_hub_download, snapshot_download

    if file is not None:
        return Path(hf_hub_download(repository, file, local_files_only=True))
    return Path(snapshot_download(repository, local_files_only=True))


def _fetched(repository: str, file: str | None) -> Path:
    from huggingface_hub import hf_hub_download, snapshot_download

    return Path(hf_hub_download(repository, file) if file is not None else snapshot_download(repository))


def licence_fields(record: ClipRecord, needs: Iterable[Needs]) -> dict[str, Any]:
    """The column `engine_licences` of a record, with these engines added to those of earlier stages."""
    added = {n.engine: n.licence for n in needs}
    if not added:
        return {}
    licences = json.loads(record.engine_licences) | added
    return {"engine_licences": json.dumps(licences, sort_keys=True)}
