"""One writer per data set, also across processes and machines, and free again when the writer dies.

Local disk: an flock, which the kernel drops with the process. Elsewhere (object stores, file systems
without flock): numbered lease objects, each created exclusively by one process and renewed while it
lives; the highest number holds.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import json
import os
import socket
import threading
import time
import uuid
import weakref
from dataclasses import asdict, dataclass
from pathlib import Path

from dataset.store import Store

LOCK = "_lock"
LEASES = "_lock.leases"
_NO_FLOCK = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


class LockHeld(RuntimeError):
    """Another run is writing this data set; the message says which."""


class LockLost(RuntimeError):
    """The lease went to another run because this one did not renew it in time."""


@dataclass
class Holder:
    """Who writes, or wrote, a data set."""

    host: str
    machine: str  # names the boot and the process namespace in which `pid` has a meaning
    pid: int
    started: str  # ISO time
    token: str
    stale_after_s: float
    renewed: float  # seconds since the epoch, by the holder's clock
    released: bool = False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.started}"

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()


class DatasetLock:
    """Use as `with DatasetLock(store) as lock:`; raises LockHeld on entry when somebody else writes.

    stale_after_s: a lease not renewed for so long is taken over; an flock needs no such time.
    Call `check()` before each commit: it raises LockLost when a lease was taken over meanwhile.
    """

    def __init__(self, store: Store, stale_after_s: float = 120.0) -> None:
        self.store = store
        self._me = Holder(
            host=socket.gethostname(), machine=_machine(), pid=os.getpid(), token=uuid.uuid4().hex,
            stale_after_s=stale_after_s, renewed=time.time(),
            started=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        )
        self._descriptor: int | None = None
        self._lease: int | None = None
        self._renewed = 0.0
        self._lost = False
        self._stop = threading.Event()
        self._heart: threading.Thread | None = None

    def __enter__(self) -> DatasetLock:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def acquire(self) -> None:
        """Become the one writer. Raises LockHeld."""
        if not (self.store.is_local and self._acquire_flock()):
            self._acquire_lease(after=self._highest())

    def release(self) -> None:
        """Let others write; does nothing if not held."""
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            os.ftruncate(descriptor, 0)
            os.close(descriptor)
        if self._lease is not None:
            self._stop.set()
            assert self._heart is not None
            self._heart.join()
            self._me.released = True
            with contextlib.suppress(OSError):  # then it runs out by itself
                if not self._lost and self._highest() == self._lease:
                    self.store.write(_lease_path(self._lease), self._me.to_json())
            self._lease = None

    def check(self) -> None:
        """Raise LockLost unless this process is still the writer."""
        if self._descriptor is not None:
            return
        silent = time.monotonic() - self._renewed
        if self._lease is None or self._lost or silent > self._me.stale_after_s:
            raise LockLost(f"{self.store.url}: this run no longer holds the data set (not renewed for "
                           f"{silent:.0f} s); nothing more is written. Run the same command again")

    # flock

    def _acquire_flock(self) -> bool:
        path = self.store.local_path(LOCK)
        assert path is not None
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.read(descriptor, 1 << 16)
            os.close(descriptor)
            raise LockHeld(_held(self.store, _holder(text))) from None
        except OSError as error:
            os.close(descriptor)
            if error.errno in _NO_FLOCK:
                return False
            raise
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, self._me.to_json(), 0)
        self._descriptor = descriptor
        _flocks.add(self)
        return True

    def _forget_in_child(self) -> None:
        # A forked child shares the flock and would keep it alive after this process is killed.
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    # leases

    def _acquire_lease(self, after: int) -> None:
        if after:
            self._wait_until_free(after)
        mine = after + 1
        self._me.renewed = time.time()
        created = self.store.write_new(_lease_path(mine), self._me.to_json())
        # Stores without conditional writes let the last of two writers win; and a lease made far too
        # late lies below the one that holds.
        if not created or self._highest() != mine or self._read(mine).token != self._me.token:
            if created and self._highest() != mine:
                self.store.remove(_lease_path(mine))
            raise LockHeld(_held(self.store, self._read(self._highest())))
        for old in range(max(1, mine - 8), mine):
            self.store.remove(_lease_path(old))
        self._lease, self._renewed, self._lost = mine, time.monotonic(), False
        self._stop.clear()
        self._heart = threading.Thread(target=self._beat, name="dataset lease", daemon=True)
        self._heart.start()

    def _wait_until_free(self, number: int) -> None:
        """Return if lease `number` is released or gone or its holder is dead; raise LockHeld otherwise."""
        if not self.store.exists(_lease_path(number)):
            return
        holder = self._read(number)
        if holder.released or _is_dead(holder):
            return
        if time.time() - holder.renewed < holder.stale_after_s:
            raise LockHeld(_held(self.store, holder))
        # Clocks of two machines may differ: stale only if it also stays unchanged for a heartbeat or two.
        time.sleep(holder.stale_after_s / 2)
        if self._read(number).renewed != holder.renewed:
            raise LockHeld(_held(self.store, holder))

    def _beat(self) -> None:
        while not self._stop.wait(self._me.stale_after_s / 4):
            try:
                assert self._lease is not None
                if self._highest() != self._lease:
                    self._lost = True
                    return
                self._me.renewed = time.time()
                self.store.write(_lease_path(self._lease), self._me.to_json())
                self._renewed = time.monotonic()
            except OSError:
                continue  # `check` notices when this lasts

    def _highest(self) -> int:
        numbers = [int(path.rsplit("/", 1)[1].removesuffix(".json")) for path in self.store.list(LEASES)]
        return max(numbers, default=0)

    def _read(self, number: int) -> Holder:
        try:
            return _holder(self.store.read(_lease_path(number)))
        except FileNotFoundError:  # a later holder has cleared it away
            return _holder(b"")


def current_holder(store: Store) -> Holder | None:
    """Who says to be writing a data set, as far as can be told without touching the lock; None if nobody, or
    if the process died on this machine. On another machine a dead holder of an flock looks alive."""
    with contextlib.suppress(FileNotFoundError):
        if text := store.read(LOCK):
            holder = _holder(text)
            return None if _is_dead(holder) else holder
    leases = store.list(LEASES)
    with contextlib.suppress(FileNotFoundError):
        if leases:
            holder = _holder(store.read(leases[-1]))
            stale = time.time() - holder.renewed > holder.stale_after_s
            return None if holder.released or stale or _is_dead(holder) else holder
    return None


def _lease_path(number: int) -> str:
    return f"{LEASES}/{number:08d}.json"


def _holder(text: bytes) -> Holder:
    try:
        return Holder(**json.loads(text))
    except (ValueError, TypeError):  # its writer has just begun
        return Holder("an unknown host", "", 0, "just now", "", 120.0, time.time())


def _held(store: Store, holder: Holder) -> str:
    return (f"{store.url}: is being written by another run ({holder}). Wait for it, stop it, "
            "or choose another out=")


def _is_dead(holder: Holder) -> bool:
    if not holder.machine or holder.machine != _machine():
        return False
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    try:  # dead, and nobody has asked for its exit code yet
        return Path(f"/proc/{holder.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


_flocks: weakref.WeakSet[DatasetLock] = weakref.WeakSet()


def _forget_flocks_in_child() -> None:
    for lock in list(_flocks):
        lock._forget_in_child()


os.register_at_fork(after_in_child=_forget_flocks_in_child)
