"""Stores and clips for the storage tests."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from dataset.clip import ClipRecord, Kind, Verdict
from dataset.store import Store


@pytest.fixture(params=["local", "memory", "dir"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store: a local folder, an object store in memory, and one without conditional writes."""
    name = uuid.uuid4().hex
    urls = {"local": str(tmp_path / "out"), "memory": f"memory://{name}", "dir": f"dir::file://{tmp_path}/out"}
    yield Store(urls[request.param])
    if request.param == "memory" and fsspec.filesystem("memory").exists(name):
        fsspec.filesystem("memory").rm(name, recursive=True)


@pytest.fixture
def local_store(tmp_path: Path) -> Store:
    return Store(tmp_path / "out")


@pytest.fixture(scope="session")
def make_clip() -> Callable[..., tuple[ClipRecord, dict[str, bytes]]]:
    """make_clip(number, size=...) gives a record and its files, always the same for the same number."""

    def make(number: int, size: int = 700) -> tuple[ClipRecord, dict[str, bytes]]:
        name = hashlib.blake2b(str(number).encode(), digest_size=10).hexdigest()
        record = ClipRecord(
            name, f"video{number // 3}", Kind.CLIP, uri=f"/videos/{number}.mp4", verdict=Verdict.KEPT,
            flow_dis=number / 3, frames=161, annotated_at="2026-01-01T00:00:00+00:00",
        )
        filling = hashlib.shake_128(str(number).encode()).digest(size + number)
        return record, {"mp4": filling, "camera.npz": filling[:99], "depth.npz": filling[5:55]}

    return make
