"""A small data set with scores, and the dashboard over it without a socket."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from annotate.filters import Bound, Thresholds, judge
from dataset.catalog import read_description, write_description
from dataset.clip import ClipRecord
from dataset.store import Store
from tests.tiny_dataset import write_video_set

CLIPS = 7
THRESHOLDS = Thresholds(motions=["static"], flow_dis=Bound(min=2), saturation=Bound(max=90, missing=None))


def score(number: int, record: ClipRecord, files: dict[str, bytes]) -> None:
    """Scores that grow with the number: flow 0 to 6, saturation 40 to 100, focal length of odd clips."""
    record.saturation = 40.0 + 10 * number
    record.exposure = 100.0 + (number * 37) % 11
    record.focal_px = 500.0 if number % 2 else None
    record.reprojection_px = 0.1 * 10 ** (number / 2)
    record.pose_engine = "tiny"
    record.licence = "CC0" if number < 4 else None
    record.stage_seconds = json.dumps({"cut": 1.0, "pose": 2.0})
    record.annotated_at = f"2026-01-01T00:00:{10 + number}+00:00"
    record.verdict, record.reasons = judge(record, THRESHOLDS)


def write_scored_set(folder: Path, frames: int = 17, size: tuple[int, int] = (64, 96)) -> Store:
    """Seven clips in three shards; thresholds keep clips 2 to 5."""
    store = write_video_set(folder, CLIPS, frames, size, change=score)
    description = read_description(store)
    description.thresholds = json.loads(json.dumps(dataclasses.asdict(THRESHOLDS)))
    write_description(store, description)
    return store


@pytest.fixture
def scored_set(tmp_path: Path) -> Store:
    return write_scored_set(tmp_path / "data")


@pytest.fixture(scope="module")
def shared_set(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """For tests that only read."""
    return write_scored_set(tmp_path_factory.mktemp("shared") / "data")


@pytest.fixture
def open_page() -> Iterator[Callable[..., Any]]:
    """open_page(store, token=None) gives an HTTP client of the dashboard."""
    pytest.importorskip("fastapi")
    from starlette.testclient import TestClient

    from pipelines.qa.app import Desk, make_app

    clients = []

    def start(store: Store, token: str | None = None) -> Any:
        desk = Desk(store, "Ada")
        client = TestClient(make_app(desk, token), base_url="http://localhost",
                            raise_server_exceptions=False)
        client.desk = desk  # type: ignore[attr-defined]
        clients.append(client)
        return client

    yield start
    for client in clients:
        client.close()
