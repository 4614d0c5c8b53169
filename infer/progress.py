"""How far a video is, on one line of the terminal."""

from __future__ import annotations

import sys
import time


class Bar:
    """Steps done and time to go; call it after each of `steps` steps."""

    def __init__(self, steps: int) -> None:
        self.steps, self.done, self.begun = steps, 0, time.monotonic()

    def __call__(self, step: int, of: int) -> None:
        self.done += 1
        left = (time.monotonic() - self.begun) / self.done * (self.steps - self.done)
        filled = round(20 * self.done / self.steps)
        print(f"\r[{'#' * filled:20}] step {self.done}/{self.steps}  {duration(left)} left ", end="",
              file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """As one would say it."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
