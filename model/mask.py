"""Who may see whom in time, as data: chunks of frames, and how much of the past a stream keeps.

Frames see all of their own chunk and of earlier chunks. The only difference between the bidirectional, the
chunk-causal and the streaming use of the network is a value of `Mask`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

RULES = ("first_chunk_plus_one", "first_frame", "uniform")


@dataclass(frozen=True)
class Mask:
    """chunk_starts: first frames of the chunks; (0,) lets every frame see every other.
    window: chunks of the past that softmax blocks keep when streaming, the sink among them; None keeps all.
    sink: the whole first chunk is one of those. Blocks that scan keep all history in their state.
    """

    chunk_starts: tuple[int, ...] = (0,)
    window: int | None = None
    sink: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "chunk_starts", tuple(self.chunk_starts))
        starts = self.chunk_starts
        if not starts or starts[0] != 0 or any(b <= a for a, b in pairwise(starts)):
            raise ValueError(f"chunk_starts: {starts}, expected frames that begin at 0 and increase strictly")
        if self.window is not None and self.window < 1:
            raise ValueError(f"window: {self.window}, expected None for all history, or at least 1 chunk")

    @classmethod
    def bidirectional(cls) -> Mask:
        return cls()

    @classmethod
    def chunk_causal(cls, frames: int, size: int = 3, rule: str = "first_chunk_plus_one") -> Mask:
        """Chunks of `size` latent frames; a last one that would be shorter joins the one before it.

        rule: "first_chunk_plus_one" gives the first chunk one frame more, as released; "first_frame" makes
        frame 0 a chunk of its own; "uniform" does neither.
        """
        if frames < 1 or size < 1:
            raise ValueError(f"{frames} frames in chunks of {size}, expected at least 1 of each")
        if rule not in RULES:
            raise ValueError(f"rule: {rule!r}, expected one of {RULES}")
        first = {"first_chunk_plus_one": size + 1, "first_frame": 1, "uniform": size}[rule]
        later = list(range(first, frames, size))
        if later and frames - later[-1] < size:
            later.pop()
        return cls((0, *later))

    def bounds(self, frames: int) -> list[tuple[int, int]]:
        """(first frame, frame after the last) of every chunk of a clip."""
        return list(pairwise([*self.chunk_starts, frames]))

    def check(self, frames: int) -> None:
        """Raises ValueError unless every chunk has a frame."""
        if self.chunk_starts[-1] >= frames:
            raise ValueError(f"mask: chunk_starts {self.chunk_starts}, expected starts below {frames}, the "
                             f"number of latent frames; Mask.chunk_causal({frames}) makes them")

    def kept(self, chunks: int) -> list[int]:
        """Which of `chunks` past chunks, oldest first, the softmax attention of the next one sees."""
        if self.window is None or chunks <= self.window:
            return list(range(chunks))
        recent = self.window - self.sink
        return [0] * self.sink + list(range(chunks - recent, chunks))


def streaming_bounds(frames: int, size: int = 3) -> list[int]:
    """First frames of the chunks the released streaming sampler makes, and the end: the first chunk takes
    what whole chunks of `size` leave over, size + frames mod size."""
    if frames < size:
        raise ValueError(f"frames: {frames}, expected at least {size}, one chunk")
    return [0, *range(size + frames % size, frames + 1, size)]
