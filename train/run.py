"""From settings to a finished run, in each of its processes; and what is said instead when it cannot be."""

from __future__ import annotations

import os
import sys
import traceback

from train.config import TrainConfig

USAGE_ERROR, RUN_ERROR, INTERRUPTED = 2, 1, 130


def run(config: TrainConfig) -> int:
    """Train, plan, or hand over to Ray; the exit code."""
    from dataset.catalog import CatalogError
    from dataset.loader.loader import LoaderError
    from dataset.lock import LockHeld
    from train.checkpoint import CheckpointError
    from train.guard import Diverged

    again = "Running the same command again continues."
    try:
        config.check()
        if config.dry_run:
            return plan(config)
        if config.launcher == "ray":
            from train.launch import run_on_ray
            run_on_ray(config, work)
            return 0
        work(config)
        return 0
    except KeyboardInterrupt:
        return _complain(f"interrupted. {again}", INTERRUPTED)
    except (CatalogError, CheckpointError, FileNotFoundError, LockHeld, ValueError) as error:
        return _complain(str(error), USAGE_ERROR)
    except (Diverged, LoaderError) as error:
        return _complain(str(error), RUN_ERROR)
    except OSError as error:
        return _complain(f"{error}. {again}", RUN_ERROR)
    except Exception:
        traceback.print_exc()
        return _complain(f"the run broke off; its checkpoints are kept. {again}", RUN_ERROR)


def work(config: TrainConfig) -> None:
    """What one process does."""
    from train.launch import meet
    from train.trainer import Trainer

    with meet(config.parallel) as ranks:
        Trainer(config, ranks).run()


def plan(config: TrainConfig) -> int:
    """Print what the run would take."""
    from train.plan import describe_plan
    from train.stages import plan_stage

    print(describe_plan(config, plan_stage(config), config.stage.objective))
    return 0


def _complain(message: str, code: int) -> int:
    rank = os.environ.get("RANK")  # of torchrun: what befalls one process may befall it alone
    print(message if rank is None else f"rank {rank}: {message}", file=sys.stderr)
    return code
