"""A small annotation job and one Ray instance for all tests of the runner."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import tiny

VIDEOS = {"street": 40, "garden": 47, "harbour": 31, "station": 27}


@pytest.fixture(scope="session")
def ray_here():
    """Ray with two CPUs and a pretended GPU, shared by all tests: the runner uses what is connected."""
    import logging

    import ray
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(tiny)
    ray.init(address="local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False,
             logging_level=logging.CRITICAL)
    yield
    ray.shutdown()


@pytest.fixture(autouse=True)
def no_worker_is_left_behind() -> Iterator[None]:
    """A run gives back every CPU and GPU however it ends; the runs after it would wait for them for ever."""
    import ray

    yield
    if not ray.is_initialized():
        return
    whole, deadline = ray.cluster_resources(), time.monotonic() + 60
    while any(ray.available_resources().get(name, 0.0) < whole[name] - 1e-3 for name in ("CPU", "GPU")):
        assert time.monotonic() < deadline, f"still in use: {ray.available_resources()} of {whole} are free"
        time.sleep(0.1)


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> Path:
    """Four videos of 3 to 5 clips each."""
    folder = tmp_path_factory.mktemp("videos")
    for seed, (name, frames) in enumerate(VIDEOS.items()):
        tiny.write_video(folder / f"{name}.mp4", frames, seed)
    return folder


@pytest.fixture(scope="session")
def undisturbed(ray_here, videos, tmp_path_factory) -> str:
    """Digest of the content of a data set made without any fault."""
    out = tmp_path_factory.mktemp("undisturbed")
    tiny.run(tiny.job(str(videos), str(out)))
    return tiny.content_of(out)
