"""What the workers of one run must agree on: how often an input killed its worker, and how much is staged.

One small actor holds it. It lives as long as the run: the death of the driver is nobody's fault and
forgets the counts. Should the actor itself die, Ray starts it anew and empty, which costs at most one
more round of attempts and of staged clips.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

_WAIT_S = (0.05, 1.0)
_ALONE_S = 8.0
"""For so long at most the first video has the machine to itself: somebody waits for its first clip."""


class Board:
    """The actor's state. Clips enter and leave by name, so a repeated call changes nothing."""

    def __init__(self) -> None:
        self._begun: Counter[str] = Counter()
        self._staged: set[str] = set()
        self._first: tuple[str, float] | None = None  # video that is cut alone, and since when
        self._together = False

    def begin(self, work: str) -> int:
        """Note that a worker starts on a piece of work; returns which attempt this is, from 1."""
        self._begun[work] += 1
        return self._begun[work]

    def begun(self, work: str) -> int:
        """How often a piece of work was begun and not ended."""
        return self._begun[work]

    def end(self, work: str) -> None:
        """The worker survived this piece of work."""
        self._begun.pop(work, None)
        self._together = True

    def may_cut(self, video: str) -> bool:
        """Whether the cutting of a video may start: the first one's at once, others once it has given a clip,
        has ended or has had its time."""
        if self._first is None:
            self._first = video, time.monotonic()
        first, since = self._first
        return self._together or video == first or time.monotonic() - since > _ALONE_S

    def stage(self, clips: Iterable[str]) -> None:
        """These clips are cut and wait for their annotation."""
        self._staged.update(clips)
        self._together = True

    def release(self, clips: Iterable[str]) -> None:
        """These clips are annotated."""
        self._staged.difference_update(clips)

    def staged(self) -> int:
        return len(self._staged)


@dataclass(frozen=True)
class BoardClient:
    """The board as workers and driver call it."""

    actor: Any

    @classmethod
    @contextlib.contextmanager
    def of_a_run(cls) -> Iterator[BoardClient]:
        """The board for the time of the block; needs Ray to be connected.

        Its end frees workers that still wait for room, which would otherwise outlive a run that failed and
        keep their share of the CPUs.
        """
        import ray

        actor: Any = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Board).remote()
        try:
            yield cls(actor)
        finally:
            with contextlib.suppress(ray.exceptions.RayError):  # a lost cluster took it along
                ray.kill(actor)

    def begin(self, work: str) -> int:
        return self._ask(self.actor.begin.remote(work))

    def begun(self, work: str) -> int:
        return self._ask(self.actor.begun.remote(work))

    def end(self, work: str) -> None:
        self._ask(self.actor.end.remote(work))

    def stage(self, clips: list[str]) -> None:
        self._ask(self.actor.stage.remote(clips))

    def release(self, clips: list[str]) -> None:
        self.actor.release.remote(clips)  # nobody waits for it

    def wait_for_turn(self, video: str) -> None:
        """Return once the cutting of the video may start."""
        self._wait(lambda: self._ask(self.actor.may_cut.remote(video)))

    def wait_for_room(self, limit: int) -> None:
        """Return once fewer than `limit` clips are staged."""
        self._wait(lambda: self._ask(self.actor.staged.remote()) < limit)

    @staticmethod
    def _wait(is_so: Callable[[], bool]) -> None:
        pause, longest = _WAIT_S
        while not is_so():
            time.sleep(pause)
            pause = min(2 * pause, longest)

    @staticmethod
    def _ask(reference: Any) -> Any:
        import ray

        return ray.get(reference)
