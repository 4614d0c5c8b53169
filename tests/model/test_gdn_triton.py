"""The Triton kernels against plain torch: on a GPU where there is one, else through Triton's interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.model.kernels import RUNS, compare

# Of the largest value. bfloat16 carries 8 bits and a gradient passes a few products of it.
TOLERANCE = {"float32": 1e-5, "bfloat16": 0.05}
SHARED_MEMORY = 227 * 1024  # of a block on compute capability 9.0

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Triton is made for Linux")


def run(what: str, **environment: str) -> dict:
    """In a process of its own: Triton decides on its interpreter when it is imported."""
    done = subprocess.run([sys.executable, "-m", "tests.model.kernels", what], capture_output=True, text=True,
                          cwd=Path(__file__).parents[2], env=os.environ | environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def differences() -> dict[str, dict[str, float]]:
    if torch.cuda.is_available():
        return {", ".join(run): compare(*run, "cuda") for run in RUNS}
    return run("compare", TRITON_INTERPRET="1")


@pytest.mark.slow
@pytest.mark.parametrize("name,dtype", RUNS)
def test_results_and_gradients_of_the_kernels_are_those_of_torch(differences, name, dtype):
    found = dict(differences[f"{name}, {dtype}"])
    assert found.pop("equal twice") == 1, "gradients differ from one run to the next"
    assert len(found) >= 8
    assert {key: value for key, value in found.items() if not value <= TOLERANCE[dtype]} == {}


@pytest.mark.slow
def test_every_kernel_compiles_for_hopper_within_its_shared_memory():
    shared = run("build", TRITON_INTERPRET="0")
    assert len({name.split()[0] for name in shared}) == 10
    assert {name: size for name, size in shared.items() if size > SHARED_MEMORY} == {}
