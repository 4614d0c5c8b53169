"""The main job: `python -m pipelines.annotate src=<videos> out=<data set>`."""

from __future__ import annotations

import sys
import traceback

from annotate.config import AnnotateConfig
from conf import USAGE_ERROR, entry

RUN_ERROR = 1
INTERRUPTED = 130


@entry(
    AnnotateConfig, name="annotate", text_keys=("src", "out", "work"),
    examples=(
        "python -m pipelines.annotate src=synthetic out=demo/dataset",
        "python -m pipelines.annotate src=~/videos out=dataset thresholds=spatialvid source.rig=walking",
        "python -m pipelines.annotate src=s3://bucket/list.parquet out=s3://bucket/dataset ray.address=auto",
    ),
)
def main(config: AnnotateConfig) -> int:
    """Annotate video: cut it into clips, find cameras, depth and metric scale, score, and write shards.

    Run the same command again at any time: it finishes what is missing and touches nothing else.
    """
    from dataset.catalog import CatalogError
    from dataset.lock import LockHeld, LockLost
    from pipelines.job import build_job
    from pipelines.plan import PlanError
    from pipelines.runner import Refused, run
    from pipelines.summary import finish, note_start

    again = "Running the same command again continues."
    try:
        job = build_job(config)
    except ValueError as error:
        return _complain(str(error), USAGE_ERROR)
    try:
        outcome = run(job, begin=lambda outcome: note_start(config, job, outcome))
        return finish(config, job, outcome)
    except KeyboardInterrupt:
        return _complain(f"interrupted. {again}", INTERRUPTED)
    except (CatalogError, LockHeld, PlanError, Refused) as error:
        return _complain(str(error), USAGE_ERROR)
    except (OSError, LockLost) as error:
        return _complain(f"{_last_line(error)}. {again}", RUN_ERROR)
    except Exception:
        traceback.print_exc()
        return _complain(f"the run broke off; what is finished is kept. {again}", RUN_ERROR)


def _last_line(error: Exception) -> str:
    """Ray puts the trace of the worker before what was raised there."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].rstrip(".")


def _complain(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
