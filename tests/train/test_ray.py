"""Workers of Ray Train do what a process alone does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.train.conftest import losses, overrides

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_worker_of_ray_trains_like_a_process_alone(latents, settings, train, tmp_path) -> None:
    asked = overrides(latents, tmp_path / "ray", stage="gdn", launcher="ray")
    done = subprocess.run([sys.executable, "-m", "train", *asked], cwd=REPOSITORY, text=True,
                          capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    assert train(settings(tmp_path / "alone", stage="gdn"))[0] == 0
    assert losses(tmp_path / "ray") == losses(tmp_path / "alone")
