"""How many processes measure, on machines with GPUs and without; no Ray is started."""

from pathlib import Path

import pytest

from annotate.learned import LearnedConfig
from pipelines.cluster import Cluster
from pipelines.evaluation.config import EvaluateConfig, EvaluateRunConfig
from pipelines.evaluation.recovery import RecoveryConfig
from pipelines.evaluation.schedule import Schedule
from pipelines.plan import PlanError


def schedule(
    out: Path, gpus: float, engine: str = "vggt", workers: int | None = None, **learned: float | str,
) -> Schedule:
    config = EvaluateConfig(
        out=str(out), run=EvaluateRunConfig(workers=workers),
        recovery=RecoveryConfig(engine, learned=LearnedConfig(**learned)))  # type: ignore[arg-type]
    return Schedule(config, [], Cluster(16.0, gpus, lambda: None))


def test_as_many_processes_measure_as_can_run_at_once(tmp_path: Path) -> None:
    assert schedule(tmp_path, 2.0)._measurers().most == 2
    assert schedule(tmp_path, 2.0, "classical")._measurers().most == 16
    assert schedule(tmp_path, 2.0, device="cpu")._measurers().most == 16
    assert schedule(tmp_path, 2.0, "classical", workers=3)._measurers().most == 3
    assert schedule(tmp_path, 2.0, "classical", workers=30)._measurers().most == 16


def test_an_engine_that_wants_a_gpu_where_there_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"recovery.engine=vggt wants 1 GPU .* there are 0"):
        next(schedule(tmp_path, 0.0).rows([]))
