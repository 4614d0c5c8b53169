"""Connecting to Ray: a quiet instance of our own on this machine, or a cluster that shares our storage."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from annotate.config import RayConfig
from dataset.store import Store
from pipelines.plan import PlanError
from pipelines.processes import descendants, end

_PACKAGES = ("annotate", "conf", "dataset", "infer", "model", "pipelines")
_PROBE_TIMEOUT_S = 60.0
_WORKER_NICENESS = 5
"""Less than Ray's 15, so that workers which are to stand back behind the others have somewhere to go."""


@dataclass(frozen=True)
class Cluster:
    """What there is to work with. Call `settled` once all workers have started."""

    cpus: float
    gpus: float
    settled: Callable[[], None]


def is_connected() -> bool:
    """Whether whoever embeds us has connected to Ray."""
    import ray

    return ray.is_initialized()


@contextlib.contextmanager
def connected(config: RayConfig) -> Iterator[Cluster]:
    """Ray, for the time of the block.

    An instance that is connected already is used and left alone. address null: a new instance on this
    machine, which ends with this process however that dies. Otherwise that of a cluster ("auto" finds
    the one of this node); our packages are sent along.
    Raises PlanError when the cluster cannot be reached.
    """
    import ray

    if is_connected():  # theirs to end
        yield _cluster(lambda: None)
        return
    with contextlib.ExitStack() as quiet:
        if not config.verbose:
            quiet.enter_context(_native_messages_aside())
        # Needed next, and half a second of work for which the start of Ray leaves time.
        threading.Thread(target=importlib.import_module, args=["ray.data"], daemon=True).start()
        before = set(descendants())
        _connect(config)
        try:
            yield _cluster(quiet.close)
        finally:
            started = set(descendants()) - before
            ray.shutdown()
            end(started)


def _connect(config: RayConfig) -> None:
    import ray

    level = logging.INFO if config.verbose else logging.CRITICAL
    common: dict[str, Any] = {
        "logging_level": level, "log_to_driver": config.verbose, "configure_logging": True,
    }
    if config.address is None:
        ray.init(
            address="local", num_cpus=config.num_cpus, num_gpus=config.num_gpus,
            include_dashboard=config.dashboard, _system_config={"worker_niceness": _WORKER_NICENESS},
            **common,
        )
    else:
        try:
            ray.init(address=config.address, runtime_env={"py_modules": _package_folders()}, **common)
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise PlanError(f"ray.address={config.address}: no cluster answers there ({error}). Start one "
                            "with `ray start --head`, or leave ray.address out. Where it asks for a token "
                            "(Ray's default) an address in figures also needs RAY_AUTH_MODE=token") from error
    if threading.current_thread() is threading.main_thread():
        # In place of Ray's own handler, so that a preempted run ends as an interrupted one does.
        signal.signal(signal.SIGTERM, _interrupt)
    if not config.verbose:
        _silence_reports()


def check_shared(stores: dict[str, Store]) -> None:
    """Make sure that every node of the cluster sees the same files; raises PlanError if one does not.

    stores: by the setting that names them, for the message.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    token = uuid.uuid4().hex
    for setting, store in stores.items():
        path = f"_probe-{token}"
        store.write(path, token.encode())
        try:
            look = ray.remote(num_cpus=0, max_retries=0)(_sees)
            asked = {
                (node["NodeManagerHostname"], node["NodeID"]): look.options(
                    scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                ).remote(store, path)
                for node in ray.nodes() if node["Alive"]
            }
            blind = [host for (host, _), answer in asked.items() if not _answer(answer)]
        finally:
            store.remove(path)
        if blind:
            raise PlanError(
                f"{setting}={store.url}: the nodes {', '.join(sorted(blind))} do not see what is written "
                "there. On a cluster out= and work= must be storage that all nodes share, such as s3://... "
                "or a network file system"
            )


def _cluster(settled: Callable[[], None]) -> Cluster:
    import ray

    resources = ray.cluster_resources()
    return Cluster(resources.get("CPU", 0.0), resources.get("GPU", 0.0), settled)


def _sees(store: Store, path: str) -> bool:
    return store.exists(path)


def _answer(reference: Any) -> bool:
    import ray

    try:
        return bool(ray.get(reference, timeout=_PROBE_TIMEOUT_S))
    except ray.exceptions.RayError:
        return False


@contextlib.contextmanager
def _native_messages_aside() -> Iterator[None]:
    """Drop what Ray's native code says while it starts; Python's messages get a channel of their own.

    It warns of each restartable actor. Later it is heard again: should the cluster be lost, it ends this
    process with a sentence that nobody else could print.
    """
    sys.stderr.flush()
    ours, before = os.dup(2), sys.stderr
    with tempfile.TemporaryFile() as native, os.fdopen(ours, "w", buffering=1) as stderr:
        os.dup2(native.fileno(), 2)
        sys.stderr = stderr
        try:
            yield
        finally:
            sys.stderr = before
            os.dup2(ours, 2)


def _silence_reports() -> None:
    """Deaths of workers are counted and told by us; Ray would print a page for each."""
    import ray._private.worker as worker

    worker._worker_logs_enabled = False


def _package_folders() -> list[str]:
    root = Path(__file__).resolve().parents[1]
    return [str(root / name) for name in _PACKAGES]


def _interrupt(signum: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
