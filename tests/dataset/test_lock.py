from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from dataset.lock import LEASES, DatasetLock, Holder, LockHeld, LockLost
from dataset.store import Store

REPOSITORY = Path(__file__).resolve().parents[2]
HOLD = """
import os, sys
from dataset.lock import DatasetLock
from dataset.store import Store
lock = DatasetLock(Store(sys.argv[1]), stale_after_s=60.0)
lock.acquire()
if sys.argv[2] == "fork" and os.fork() == 0:
    os.write(1, b"child %d\\n" % os.getpid())
else:
    os.write(1, b"held %d\\n" % os.getpid())
sys.stdin.read()
"""


def hold(url: str, mode: str = "plain") -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", HOLD, url, mode], cwd=REPOSITORY, text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def said(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return process.stdout.readline().split()


@pytest.mark.parametrize("kind", ["local", "lease"])
def test_a_second_process_is_told_who_writes_and_a_killed_one_frees_the_data_set(
    tmp_path: Path, kind: str
) -> None:
    url = str(tmp_path / "out") if kind == "local" else f"dir::file://{tmp_path}/out"
    with hold(url) as process:
        assert said(process)[0] == "held"
        with pytest.raises(LockHeld, match=rf"another run \(process {process.pid} on .*choose another out="):
            DatasetLock(Store(url)).acquire()
        process.kill()
    with DatasetLock(Store(url)) as lock:
        lock.check()


def test_a_forked_child_that_outlives_its_killed_parent_does_not_hold_the_data_set(tmp_path: Path) -> None:
    url = str(tmp_path / "out")
    with hold(url, "fork") as process:
        words = dict([said(process), said(process)])  # type: ignore[arg-type]
        os.kill(int(words["held"]), signal.SIGKILL)
        process.wait()
        os.kill(int(words["child"]), 0)
        with DatasetLock(Store(url)) as lock:
            lock.check()


def test_two_in_one_process_exclude_each_other(store: Store) -> None:
    first, second = DatasetLock(store), DatasetLock(store)
    with first:
        with pytest.raises(LockHeld):
            second.acquire()
        first.check()
    with second:
        second.check()
        with pytest.raises(LockLost):
            first.check()


@pytest.mark.parametrize("kind", ["flock", "lease"])
def test_of_many_at_once_one_gets_it(local_store: Store, kind: str) -> None:
    """Leases serve local disks too, where the file system has no flock."""
    ready, locks = threading.Barrier(6), [DatasetLock(local_store) for _ in range(6)]
    won: list[DatasetLock] = []

    def take(lock: DatasetLock) -> None:
        ready.wait()
        try:
            lock.acquire() if kind == "flock" else lock._acquire_lease(after=lock._highest())
        except LockHeld:
            return
        won.append(lock)

    threads = [threading.Thread(target=take, args=(lock,)) for lock in locks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    won[0].check()
    won[0].release()


def foreign_lease(store: Store, number: int, age_s: float, stale_after_s: float) -> None:
    """A lease as another machine would have left it."""
    holder = Holder(host="elsewhere", machine="another boot", pid=7, started="2026-01-01", token="theirs",
                    stale_after_s=stale_after_s, renewed=time.time() - age_s)
    assert store.write_new(f"{LEASES}/{number:08d}.json", holder.to_json())


@pytest.fixture
def remote(store: Store) -> Store:
    if store.is_local:
        pytest.skip("leases are for remote stores")
    return store


def test_a_fresh_lease_of_another_machine_holds(remote: Store) -> None:
    foreign_lease(remote, 3, age_s=5.0, stale_after_s=60.0)
    with pytest.raises(LockHeld, match="process 7 on elsewhere"):
        DatasetLock(remote).acquire()


def test_a_lease_that_is_no_longer_renewed_is_taken_over(remote: Store) -> None:
    foreign_lease(remote, 3, age_s=5.0, stale_after_s=0.2)
    with DatasetLock(remote) as lock:
        lock.check()
        assert remote.list(LEASES) == [f"{LEASES}/00000004.json"]


def test_a_lease_whose_holder_has_a_slow_clock_but_lives_holds(remote: Store) -> None:
    foreign_lease(remote, 1, age_s=500.0, stale_after_s=1.0)
    path = f"{LEASES}/00000001.json"
    renewed = Holder("elsewhere", "another boot", 7, "2026-01-01", "theirs", 1.0, time.time() - 499.0)
    beat = threading.Timer(0.1, remote.write, (path, renewed.to_json()))
    beat.start()
    with pytest.raises(LockHeld):
        DatasetLock(remote).acquire()
    beat.join()


def test_a_holder_whose_lease_was_taken_over_finds_out(remote: Store) -> None:
    lock = DatasetLock(remote, stale_after_s=0.2)
    lock.acquire()
    foreign_lease(remote, 2, age_s=0.0, stale_after_s=60.0)
    assert lock._heart is not None
    lock._heart.join()
    with pytest.raises(LockLost, match="no longer holds"):
        lock.check()
    lock.release()
    with pytest.raises(LockHeld, match="elsewhere"):
        DatasetLock(remote).acquire()


def test_a_lease_made_far_too_late_does_not_win(remote: Store) -> None:
    foreign_lease(remote, 9, age_s=0.0, stale_after_s=60.0)
    late = DatasetLock(remote)
    with pytest.raises(LockHeld, match="elsewhere"):
        late._acquire_lease(after=4)  # the highest it saw before it slept; cleared away since
    assert f"{LEASES}/00000005.json" not in remote.list(LEASES)
