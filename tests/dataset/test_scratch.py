"""Temporary folders go with who made them, however that ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dataset.scratch import PREFIX, Scratch

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


def test_what_bears_no_lock_of_ours_is_left_alone(place: Path) -> None:
    others = {place / name for name in (f"{PREFIX}made", "sana-wm-open", "else")}
    for folder in others:
        folder.mkdir()
    with Scratch("test") as mine:
        assert set(place.iterdir()) == {*others, mine}
