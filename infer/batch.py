"""Many videos, one after the other with one set of weights: what is there stays, and what fails is told."""

from __future__ import annotations

import errno
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infer.config import InferConfig
from infer.folder import VIDEO, make_folder, read_inputs
from infer.manifest import Row
from infer.progress import duration
from infer.record import same_video
from infer.video import write_whole

if TYPE_CHECKING:
    from infer.pipeline import WorldModel

SUMMARY = "batch.jsonl"
MADE, THERE, FAILED, WAITS = "made", "there", "failed", "waits"


@dataclass(frozen=True)
class Outcome:
    """Of a row: `made` now, `there` from an earlier run, `failed` for `reason`, or it `waits`."""

    row: int
    name: str
    status: str
    reason: str | None = None
    seconds: float | None = None


class Summary:
    """What became of every row, in `batch.jsonl`, which is whole at any time and there once rows are made."""

    def __init__(self, folder: Path, rows: Sequence[Row]) -> None:
        self._path = folder / SUMMARY
        self._outcomes = {row.number: Outcome(row.number, row.name, WAITS) for row in rows}
        self._begun: float | None = None

    def add(self, outcome: Outcome) -> None:
        self._outcomes[outcome.row] = outcome
        if self._begun is not None:
            self._write()
        told = f": {outcome.reason}" if outcome.reason else self._left()
        if outcome.status != THERE:
            print(f"row {outcome.row}, {outcome.name}, {outcome.status}{told}", file=sys.stderr, flush=True)

    def begin(self) -> None:
        """From now on rows are made, and the time that is left can be told."""
        self._begun = time.monotonic()
        self._write()

    def _left(self) -> str:
        made, waiting = self.count(MADE), self.count(WAITS)
        if self._begun is None or not made:
            return ""
        return f"; {waiting} left, {duration((time.monotonic() - self._begun) / made * waiting)}"

    def count(self, status: str) -> int:
        return sum(outcome.status == status for outcome in self._outcomes.values())

    def finish(self) -> int:
        """Says how it went; 1 where a row failed, else 0."""
        self._write()
        failed = self.count(FAILED)
        print(f"{self._path}: {self.count(MADE)} videos made, {self.count(THERE)} were there, "
              f"{failed} failed")
        return int(failed > 0)

    def _write(self) -> None:
        lines = [json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in self._outcomes.values()]
        write_whole(self._path, "".join(lines).encode())


def to_do(rows: Sequence[Row], summary: Summary) -> list[Row]:
    """The rows whose video is missing and can be made, as far as can be seen without weights."""
    left = []
    for row in rows:
        fault, folder = row.fault, Path(row.config.out).expanduser()
        if fault is None and (folder / VIDEO).exists() and not row.config.overwrite:
            if same_video(row.config, folder):
                summary.add(Outcome(row.number, row.name, THERE))
                continue
            fault = f"{folder / VIDEO} was made with other settings; overwrite=true replaces it"
        if fault is None:
            try:
                read_inputs(row.config)
            except ValueError as error:
                fault = str(error)
        if fault is None:
            left.append(row)
        else:
            summary.add(Outcome(row.number, row.name, FAILED, fault))
    return left


def make_rows(world: WorldModel, rows: Sequence[Row]) -> Iterator[Outcome]:
    """Make each row's video; one that cannot be made does not keep the others from it.

    Raises OSError where the disk is full.
    """
    for row in rows:
        begun = time.monotonic()
        try:
            make_folder(world, row.config, read_inputs(row.config))
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            yield Outcome(row.number, row.name, FAILED, f"{type(error).__name__}: {error}")
        else:
            yield Outcome(row.number, row.name, MADE, seconds=round(time.monotonic() - begun, 1))


def run_batch(config: InferConfig, rows: Sequence[Row], load: Callable[[InferConfig], WorldModel]) -> int:
    """All rows in this process; the exit code."""
    summary = Summary(Path(config.out).expanduser(), rows)
    left = to_do(rows, summary)
    if left:
        world = load(config)
        summary.begin()
        for outcome in make_rows(world, left):
            summary.add(outcome)
    return summary.finish()
