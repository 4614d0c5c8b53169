"""How well a video follows a path, through the command that measures it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from annotate.synthetic import SyntheticSpec, render_sequence
from train.follow import measure


@pytest.mark.slow
def test_a_video_follows_its_own_path_and_not_another() -> None:
    spec = SyntheticSpec.parse("synthetic://room-walk?seed=1")
    film, true, _ = render_sequence(spec, 33, 320, 192)
    other = true.c2w[::-1].copy()
    other[:, :3, :3] = np.eye(3)
    own, wrong = (measure("pipelines.follow", film, path, true.intrinsics, 16.0)
                  for path in (true.c2w, other))
    assert own.failure is None and own.rotation_deg < 0.1 and own.translation < 0.005
    assert wrong.failure is None and wrong.rotation_deg > 1 and wrong.translation > 10 * own.translation


def test_a_command_that_fails_is_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    film, path = np.zeros((2, 32, 32, 3), np.uint8), np.tile(np.eye(4), (2, 1, 1))
    for source, failure in (
        ("raise SystemExit('the engine is not installed')", "ended with 1: the engine is not installed"),
        ("print('well')", "printed 'well', expected JSON with its errors"),
        ("print('{\"rot_err_deg\": null, \"failure\": \"too dark\"}')", "too dark"),
    ):
        (tmp_path / "odd_follower.py").write_text(source)
        found = measure("odd_follower", film, path, np.ones((2, 4)), 16.0)
        assert found.rotation_deg is None and (found.failure or "").endswith(failure)
