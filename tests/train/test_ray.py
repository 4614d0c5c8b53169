"""Workers of Ray Train do what a process alone does."""

from __future__ import annotations

from pathlib import Path

import pytest
import ray

from tests.train.conftest import losses


@pytest.fixture(scope="module", autouse=True)
def cluster():
    """Its workers find the packages of the repository wherever the tests were started."""
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
