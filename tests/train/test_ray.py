"""Workers of Ray Train do what a process alone does."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray

from tests.train.conftest import losses


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """One for both tests, reached from the repository so that workers find its packages."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False,
             runtime_env={"env_vars": {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}})
    yield
    ray.shutdown()


@pytest.mark.slow
def test_a_worker_of_ray_trains_like_a_process_alone(settings, train, tmp_path) -> None:
    code, said = train(settings(tmp_path / "ray", stage="gdn", launcher="ray"))
    assert code == 0, said
    assert train(settings(tmp_path / "alone", stage="gdn"))[0] == 0
    assert losses(tmp_path / "ray") == losses(tmp_path / "alone")


@pytest.mark.slow
def test_what_a_worker_complains_of_is_said_here(settings, train, tmp_path) -> None:
    code, said = train(settings(tmp_path / "ray", stage="gdn", launcher="ray", data__frames=[961]))
    assert code == 2 and "shorter than 961 frames" in said.splitlines()[-2] + said.splitlines()[-1]
