"""How every long-running command ends: an exit code, and a sentence that says what to do next."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from conf import USAGE_ERROR

RUN_ERROR = 1
INTERRUPTED = 130
_AGAIN = "Running the same command again continues."


class _Checked(Protocol):
    def check(self) -> None: ...


_Config = TypeVar("_Config", bound=_Checked)


def run_checked(config: _Config, run: Callable[[_Config], int], *paths: str) -> int:
    """What a command does: a home folder for the ~ of settings that may be `paths`, a check, and the work."""
    expand_home(config, *paths)
    try:
        config.check()
    except ValueError as error:
        return complain(str(error), USAGE_ERROR)
    return exit_code(lambda: run(config))


def expand_home(settings: Any, *keys: str) -> None:
    """Put the home folder for a leading ~ into settings that may be paths."""
    for key in keys:
        value = getattr(settings, key)
        if value and value.startswith("~"):
            setattr(settings, key, str(Path(value).expanduser()))


def exit_code(run: Callable[[], int]) -> int:
    """The code of `run`, or what its error stands for; tells the error on stderr."""
    from dataset.catalog import CatalogError
    from dataset.lock import LockHeld, LockLost
    from pipelines.plan import PlanError
    from pipelines.runner import Refused

    try:
        return run()
    except KeyboardInterrupt:
        return complain(f"interrupted. {_AGAIN}", INTERRUPTED)
    except (CatalogError, LockHeld, PlanError, Refused) as error:
        return complain(str(error), USAGE_ERROR)
    except BrokenPipeError:
        raise  # whoever reads the output left; `conf.entry` knows what to do
    except (OSError, LockLost, MemoryError) as error:
        return complain(f"{_last_line(error)}. {_AGAIN}", RUN_ERROR)
    except Exception:
        traceback.print_exc()
        return complain(f"the run broke off; what is finished is kept. {_AGAIN}", RUN_ERROR)


def complain(message: str, code: int) -> int:
    """Say it on stderr; gives `code` back."""
    print(message, file=sys.stderr)
    return code


def _last_line(error: Exception) -> str:
    """Ray puts the trace of the worker before what was raised there."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].rstrip(".")
