"""Cameras and depth of a small clip, and the other tools where they are installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dataset.clip import CameraTrack, DepthMaps, Motion

TOOLS = Path(__file__).resolve().parents[3] / ".tools"
"""Where docs/export.md puts virtual environments with FiftyOne and Rerun; they cannot share ours."""


@pytest.fixture
def track() -> CameraTrack:
    """Nine frames that turn, move and zoom; frame 4 has no pose."""
    rng = np.random.default_rng(5)
    made = CameraTrack.failed("", np.arange(9) / 16, (60, 80), "test", Motion.PARALLAX)
    made.failure, made.unit = None, "m"
    made.c2w = np.tile(np.eye(4), (9, 1, 1))
    made.c2w[:, :3, :3] = Rotation.from_rotvec(np.cumsum(rng.normal(0, 0.2, (9, 3)), 0)).as_matrix()
    made.c2w[:, :3, 3] = np.cumsum(rng.normal(0, 0.3, (9, 3)), 0)
    made.intrinsics = np.tile([70.0, 71.0, 39.0, 31.0], (9, 1))
    made.intrinsics[:, 0] += np.arange(9)
    made.frame_verdict[:] = 2
    made.frame_verdict[4], made.c2w[4] = 0, np.nan
    return made


@pytest.fixture
def depth(track) -> DepthMaps:
    """Maps of frames 0, 4 and 8 at half the size, one cell in three invalid."""
    rng = np.random.default_rng(6)
    frames = np.array([0, 4, 8], np.int32)
    valid = rng.random((3, 30, 40)) > 0.33
    maps = np.where(valid, rng.uniform(1, 9, valid.shape), 0).astype(np.float16)
    return DepthMaps(maps, valid, frames, track.intrinsics[frames] / 2, "test")


@pytest.fixture(scope="session")
def tool() -> Callable[[str, str], str]:
    """tool("rerun", "rerun"): a program in one of the other environments; skips where it is not there."""

    def find(environment: str, program: str) -> str:
        path = TOOLS / environment / "bin" / program
        if not path.exists():
            pytest.skip(f"{environment} is not installed in {TOOLS}")
        return str(path)

    return find
