"""Small data sets to load: twelve clips of two lengths as video, and the same as latents."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dataset.store import Store
from tests.tiny_dataset import write_latent_set, write_video_set

LATENTS = "dct32-96x64"


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Clips 0..7 of 17 frames, clips 8..11 of 33, all 96x64, three to a shard; with latents."""
    store = write_video_set(tmp_path_factory.mktemp("set") / "data", clips=8, frames=17)
    write_video_set(store.url, clips=4, frames=33, first=8)
    write_latent_set(store, name=LATENTS)
    return store


@pytest.fixture
def data(pristine: Store, tmp_path: Path) -> Store:
    """The same, to damage."""
    return Store(shutil.copytree(pristine.url, tmp_path / "data"))
