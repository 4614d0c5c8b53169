"""Temporary folders go with who made them, however that ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dataset.scratch import Scratch

_USES_ONE = """
import sys, time
from dataset.scratch import Scratch
with Scratch("test") as folder:
    (folder / "video.mp4").write_bytes(bytes(9))
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_it_is_there_for_the_context_and_no_longer(place: Path) -> None:
    with pytest.raises(KeyError), Scratch("test") as folder:
        (folder / "deep").mkdir()
        assert folder.parent == place
        raise KeyError
    assert list(place.iterdir()) == []
    kept = Scratch("test")
    kept.remove()
    kept.remove()
    assert list(place.iterdir()) == []


def test_what_a_killed_process_leaves_goes_with_the_next_and_no_other(place: Path) -> None:
    command = [sys.executable, "-c", _USES_ONE]
    environment = {**os.environ, "TMPDIR": str(place)}
    users = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    try:
        dead, alive = (Path(user.stdout.readline().strip()) for user in users)  # type: ignore[union-attr]
        users[0].send_signal(signal.SIGKILL)
        users[0].wait()
        assert dead.exists()
        with Scratch("test") as folder:
            assert set(place.iterdir()) == {alive, folder}
            assert (alive / "video.mp4").exists()
    finally:
        for user in users:
            user.kill()
            user.communicate()


def test_one_that_is_being_made_is_left_alone_and_an_old_one_without_a_lock_is_not(place: Path) -> None:
    young, old, other = place / "sana-wm-young", place / "sana-wm-old", place / "else"
    for folder in (young, old, other):
        folder.mkdir()
    for folder in (old, other):
        os.utime(folder, (time.time() - 3600,) * 2)
    with Scratch("test") as mine:
        assert set(place.iterdir()) == {young, other, mine}
