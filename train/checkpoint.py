"""Checkpoints: everything a run needs to go on as if it had never stopped, written while it trains.

checkpoints/step-00000020/ holds the tensors as torch.distributed.checkpoint writes them, each process its own
part, and state.json. It appears by rename when all parts are there, and is read by any number of processes.
"""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor

from model.strict import list_faults
from train.config import CheckpointConfig

STATE = "state.json"
_NAME = re.compile(r"step-(\d{8})")


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, read, or is of another run."""


@dataclass(frozen=True)
class Saved:
    """A complete checkpoint: the updates it has seen, and what `save` was told beside tensors."""

    step: int
    path: Path
    state: dict[str, Any]


class Checkpoints:
    """Those of one run. All processes make the same calls; the first one renames and deletes."""

    def __init__(self, folder: Path, config: CheckpointConfig) -> None:
        self.folder, self.config = folder, config
        # Messages of the writing thread must not mix with those of training.
        self._group = dist.new_group(backend="gloo")
        self._first = dist.get_rank() == 0
        self._pending: tuple[Future[Any], Path, int] | None = None

    def sweep(self) -> None:
        """Delete what runs that were killed left unfinished; for the first process of the only run here."""
        for leftover in self.folder.glob(".step-*"):
            shutil.rmtree(leftover)

    def save(self, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Copy everything and write it in the background, after the one before has been finished."""
        self.finish()
        partial = self.folder / f".{_name(step)}.partial"
        if self._first:
            partial.mkdir(parents=True)
            (partial / STATE).write_text(json.dumps({**state, "step": step}) + "\n", encoding="utf-8")
        dist.barrier(self._group)
        writing = dcp.async_save(dict(tensors), checkpoint_id=partial, process_group=self._group)
        assert isinstance(writing, Future)
        self._pending = writing, partial, step

    def poll(self) -> None:
        """Give a checkpoint that has been written meanwhile its name."""
        if self._pending is not None and self._pending[0].done():
            self.finish()

    def finish(self) -> None:
        """Wait for the checkpoint that is being written. Raises CheckpointError where that failed."""
        if self._pending is None:
            return
        writing, partial, step = self._pending
        self._pending = None
        try:
            writing.result()
        except Exception as error:
            raise CheckpointError(f"{partial}: the checkpoint of step {step} could not be written: "
                                  f"{_reason(error)}. Make room, and run the same command again") from error
        if self._first:
            place = partial.with_name(_name(step))
            shutil.rmtree(place, ignore_errors=True)
            partial.rename(place)
            self._forget()

    def latest(self) -> Saved | None:
        """The newest complete checkpoint."""
        return newest(self.folder)

    def _forget(self) -> None:
        steps = sorted(found.step for found in _complete(self.folder))
        for step in steps[: -self.config.keep]:
            if not self.config.keep_every or step % self.config.keep_every:
                # Gone in one move, so that no half of a checkpoint is ever found.
                doomed = (self.folder / _name(step)).rename(self.folder / f".{_name(step)}.old")
                shutil.rmtree(doomed)


def newest(folder: Path) -> Saved | None:
    """The newest complete checkpoint of a folder of them."""
    return max(_complete(folder), key=lambda saved: saved.step, default=None)


def load(saved: Saved, tensors: Mapping[str, Tensor]) -> None:
    """Fill `tensors`, which may be parts of other sizes than were saved. Raises CheckpointError listing every
    tensor that is missing or has another shape."""
    try:
        stored = dcp.FileSystemReader(saved.path).read_metadata().state_dict_metadata
    except (OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise _incomplete(saved, error) from error
    shapes = {name: tuple(about.size) for name, about in stored.items()
              if isinstance(about, dcp.metadata.TensorStorageMetadata)}
    faults = list_faults({name: shapes[name] for name in tensors if name in shapes},
                         {name: tensor.shape for name, tensor in tensors.items()})
    if faults:
        raise CheckpointError("\n".join([
            f"{saved.path}: its tensors are not those of this run.", *faults,
            "  Run with the settings it was begun with, see config.yaml, or choose another out="]))
    try:
        dcp.load(dict(tensors), checkpoint_id=saved.path)
    except dcp.api.CheckpointException as error:
        raise _incomplete(saved, next(iter(error.failures.values()))[0]) from error


def _complete(folder: Path) -> list[Saved]:
    found = []
    for path in folder.glob("step-*") if folder.is_dir() else ():
        if (match := _NAME.fullmatch(path.name)) and (path / STATE).is_file():
            found.append(Saved(int(match[1]), path, json.loads((path / STATE).read_text(encoding="utf-8"))))
    return found


def _incomplete(saved: Saved, error: BaseException) -> CheckpointError:
    return CheckpointError(f"{saved.path}: not a complete checkpoint: {_reason(error)}. Delete it, and the "
                           "one before is taken")


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].rstrip(".") if lines else type(error).__name__
