"""Batches without end, the same for everybody who asks with the same settings; resumable to the sample."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dataset.batch import Batch
from dataset.catalog import CatalogError
from dataset.latents import read_null_text
from dataset.loader.assemble import Assembler, Task
from dataset.loader.config import DataConfig, LatentSpace
from dataset.loader.members import Fault
from dataset.loader.plan import Plan, Position, Step
from dataset.loader.select import Selection, select

_log = logging.getLogger(__name__)


class LoaderError(RuntimeError):
    """The stream cannot go on, or not from where it was; the message says why and what to do."""


class Loader:
    """The batches of one process, in order; iterate as long as there are steps to train.

    rank, world: this process and how many there are. context_parallel: neighbouring ranks so many at a time
    form a group and get the same batches. expect: what the network takes. epochs: passes after which the
    stream ends; None: never. At its end come batches of what fills no whole step, unless `drop_last`; some
    groups may have one less then.

    A step takes `batch_size` clips of one shape for every group. `state_dict` is the place after the batch
    that was yielded last; loaded into a loader of the same data and seed, the stream goes on exactly there,
    with any number of workers, and with another batch size or number of ranks without loss or repetition.
    Raises ValueError and CatalogError for settings that cannot be, LoaderError for clips that cannot be read.
    """

    def __init__(
        self, config: DataConfig, *, rank: int = 0, world: int = 1, context_parallel: int = 1,
        expect: LatentSpace | None = None, epochs: int | None = None, drop_last: bool = False,
    ) -> None:
        config.check()
        if world % context_parallel or not 0 <= rank < world:
            raise ValueError(f"rank {rank} of {world} in groups of {context_parallel}: ranks are 0 to "
                             "world - 1, and the size of a group divides their number")
        self.config = config
        self.selections = [select(source, config, expect) for source in config.all_sources()]
        _check_alike(self.selections)
        groups = world // context_parallel
        self._group, self._groups = rank // context_parallel, groups
        self._drop_last = drop_last
        sources = config.all_sources()
        weights = [source.weight for source in sources if source.weight is not None]
        self.plan = Plan(
            self.selections, [source.repeats for source in sources], weights or None,
            samples=config.batch_size * groups, seed=config.seed, shuffle=config.shuffle,
            window=config.window, epochs=epochs,
        )
        self._position = Position()
        self.faults: list[Fault] = []

    @property
    def latents(self) -> LatentSpace | None:
        """What the latents are; None where video is loaded."""
        found = self.selections[0].latents
        if found is None:
            return None
        sizes = {bucket.size for bucket in self.plan.buckets}
        return LatentSpace(found.codec_fingerprint, min(sizes) if len(sizes) == 1 else None,
                           found.text_fingerprint)

    @property
    def epoch(self) -> float:
        """Passes over the data that the batches so far make."""
        waiting = sum(self._position.waiting.values())
        return (self._position.drawn - waiting) / self.plan.draws_per_epoch

    @property
    def skipped(self) -> dict[str, int]:
        """Clips this process left out so far, by what was wrong with them."""
        return dict(Counter(str(fault.trouble) for fault in self.faults))

    def summary(self) -> str:
        """What there is to train on, a line for each source."""
        return "\n".join(selection.summary for selection in self.selections)

    def null_text(self) -> tuple[Tensor, Tensor]:
        """The empty caption's states (L, channels) float32 and mask (L,) bool, as the latents were made."""
        if self.selections[0].latents is None:
            raise LoaderError("video has no stored captions' states; name a latent set by data.latents")
        text = read_null_text(self.selections[0].store)
        return torch.from_numpy(text.states).float(), torch.from_numpy(text.mask)

    def state_dict(self) -> dict[str, Any]:
        """The place in the stream, as plain JSON values; of all ranks the same after the same step."""
        waiting = {str(bucket): count for bucket, count in self._position.waiting.items()}
        return {"drawn": self._position.drawn, "waiting": waiting, "fingerprint": self.plan.fingerprint}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a place. Raises LoaderError where it is one in another stream."""
        fingerprint = self.plan.fingerprint
        if state["fingerprint"] != fingerprint:
            raise LoaderError(
                f"the stream of samples is another one (found {fingerprint}, saved {state['fingerprint']}): "
                "the data sets hold other clips, or their settings, data.seed, data.shuffle, data.window or "
                "data.frames changed.\n  Set them as they were, or go on without the loader's state, which "
                "begins the data anew.")
        names = {str(bucket): bucket for bucket in self.plan.buckets}
        waiting = {names[name]: int(count) for name, count in state["waiting"].items()}
        self._position = Position(int(state["drawn"]), waiting)

    def __iter__(self) -> Iterator[Batch]:
        """Batches from the present place on."""
        ahead: deque[Position] = deque()
        reader = DataLoader(
            _Tasks(Assembler(self.selections, self.config)), batch_size=None,
            sampler=self._tasks(ahead),  # type: ignore[arg-type]  # any iterable will do
            collate_fn=_unchanged, num_workers=self.config.workers,
            pin_memory=torch.cuda.is_available(), **self._worker_settings())
        for result in _alive(reader):
            if isinstance(result, Fault):
                raise LoaderError(str(result))
            batch, faults = result
            self._note(faults)
            self._position = ahead.popleft()
            yield batch

    # parts

    def _tasks(self, ahead: deque[Position]) -> Iterator[Task]:
        """This group's part of every step; the position after each goes to `ahead`."""
        for step in self.plan.steps(self._position):
            task = self._own(step)
            if task is not None:
                ahead.append(step.after)
                yield task

    def _own(self, step: Step) -> Task | None:
        count, whole = len(step.draws), self.config.batch_size * self._groups
        if count < whole and self._drop_last:
            return None
        begin, end = (count * group // self._groups for group in (self._group, self._group + 1))
        return Task(step.bucket, step.draws[begin:end]) if end > begin else None

    def _worker_settings(self) -> dict[str, Any]:
        if not self.config.workers:
            return {}
        return {"multiprocessing_context": "fork" if self.config.fork else "spawn",
                "prefetch_factor": self.config.prefetch}

    def _note(self, faults: list[Fault]) -> None:
        for fault in faults:
            _log.warning("skipped (%s): %s", fault.trouble, fault)
        self.faults += faults
        if len(self.faults) > self.config.skip_limit:
            raise LoaderError(f"{len(self.faults)} clips could not be read ({self.skipped}), more than "
                              f"data.skip_limit={self.config.skip_limit}; the last: {self.faults[-1]}")


class _Tasks(Dataset[Any]):
    """The assembler as torch's loader wants it: tasks are its indices."""

    def __init__(self, assembler: Assembler) -> None:
        self._assembler = assembler

    def __getitem__(self, task: Task) -> tuple[Batch, list[Fault]] | Fault:
        return self._assembler[task]


def _unchanged(result: Any) -> Any:
    return result


def _alive(reader: DataLoader[Any]) -> Iterator[Any]:
    """What the workers read. Raises LoaderError when one of them dies."""
    results = iter(reader)
    while True:
        try:
            yield next(results)
        except StopIteration:
            return
        except (RuntimeError, EOFError, ConnectionError) as error:  # the latter two: as it hands memory over
            if isinstance(error, RuntimeError) and "DataLoader worker (pid" not in str(error):
                raise
            raise LoaderError(f"a process that reads data died ({error}). If it lacked memory, lower "
                              "data.workers, data.prefetch or data.batch_size, and resume the run") from error


def _check_alike(selections: list[Selection]) -> None:
    """Raises CatalogError unless all sources are video, or latents of one codec and one text encoder."""
    first = selections[0]
    for other in selections[1:]:
        here, there = (_space(selection) for selection in (first, other))
        if here != there:
            raise CatalogError(f"data.sources: {first.store.url} holds {here}, {other.store.url} holds "
                               f"{there}; samples of one stream are of one kind")


def _space(selection: Selection) -> str:
    found = selection.latents
    if found is None:
        return "video"
    return f"latents of the codec {found.codec_fingerprint} with text of {found.text_fingerprint}"
