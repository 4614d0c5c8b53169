"""Stages of a stream side by side: each runs in a thread of its own, on a GPU in a stream of its own, behind
a bounded queue. What comes out is what the stages give one after another.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import torch
from torch import Tensor

Pieces = Generator[Any, None, None]
Stage = Callable[[Iterator[Any]], Pieces]
"""Takes pieces in the order of time and gives pieces."""
DEPTH = 1
"""Pieces that wait before each stage at most."""


class Stopped(Exception):
    """The stream was closed while a stage was at work; only stages see it."""


def in_line(source: Pieces, stages: Sequence[Stage]) -> Pieces:
    """One piece after another through all stages, in the caller's thread."""
    for stage in stages:
        source = stage(source)
    return source


def in_turn(source: Pieces, stages: Sequence[Stage]) -> Pieces:
    """All pieces through one stage, then all through the next, so that only one is at work at a time."""
    for stage in stages:
        source = stage(iter(list(source)))
    yield from source


class Line:
    """One stream through its stages. It ends, threads and all, when it is read to its end, when it is closed,
    or when a stage fails, whose error the reader then gets after the pieces that were made before it."""

    def __init__(self, device: torch.device, depth: int = DEPTH) -> None:
        self.device, self.depth = device, depth
        self._stopped = threading.Event()

    def check(self) -> None:
        """For stages whose pieces take long: raises Stopped where nobody reads any more."""
        if self._stopped.is_set():
            raise Stopped

    def run(self, source: Pieces, stages: Sequence[Stage]) -> Pieces:
        """What the last stage makes, read by the caller's own thread."""
        links = [_Link(self.depth) for _ in range(len(stages) + 1)]
        begun = torch.cuda.current_stream(self.device) if self.device.type == "cuda" else None

        def work(pieces: Pieces, out: _Link) -> None:
            try:
                with torch.no_grad(), self._stream(begun) as stream:
                    with closing(pieces):
                        for piece in pieces:
                            out.put(piece)
                    if stream is not None:
                        stream.synchronize()
                out.end()
            except Stopped:
                pass
            except BaseException as error:  # the reader's to handle, whatever it is
                out.end(error)

        given = [source, *(stage(link.take()) for stage, link in zip(stages, links))]
        threads = [threading.Thread(target=work, args=(pieces, link), name=f"stage {number}", daemon=True)
                   for number, (pieces, link) in enumerate(zip(given, links, strict=True))]
        for thread in threads:
            thread.start()
        try:
            yield from links[-1].take()
        finally:
            self._stopped.set()
            for link in links:
                link.stop()
            for thread in threads:
                thread.join()
            if begun is not None:
                torch.cuda.synchronize(self.device)

    @contextmanager
    def _stream(self, begun: Any) -> Iterator[Any]:
        """Work on a stream of the GPU, behind what the caller's has been given so far; None on a CPU."""
        if begun is None:
            yield None
            return
        stream = torch.cuda.Stream(self.device)
        stream.wait_stream(begun)
        with torch.cuda.stream(stream):
            yield stream


class _Link:
    """A queue between two threads that can be stopped from outside."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.pieces: deque[tuple[Any, Any]] = deque()
        self.changed = threading.Condition()
        self.ended = self.stopped = False
        self.error: BaseException | None = None

    def put(self, piece: Any) -> None:
        """Waits while the queue is full."""
        written = None
        if isinstance(piece, Tensor) and piece.is_cuda:
            written = torch.cuda.Event()
            written.record()
        with self.changed:
            self.changed.wait_for(lambda: self.stopped or len(self.pieces) < self.depth)
            if self.stopped:
                raise Stopped
            self.pieces.append((piece, written))
            self.changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        with self.changed:
            self.ended, self.error = True, error
            self.changed.notify_all()

    def stop(self) -> None:
        with self.changed:
            self.stopped = True
            self.pieces.clear()
            self.changed.notify_all()

    def take(self) -> Iterator[Any]:
        """Pieces until the end; raises the error that the writer ended with."""
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.stopped or self.ended or self.pieces)
                if self.stopped:
                    raise Stopped
                if not self.pieces:
                    break
                piece, written = self.pieces.popleft()
                self.changed.notify_all()
            if written is not None:
                here = torch.cuda.current_stream(piece.device)
                here.wait_event(written)
                piece.record_stream(here)
            yield piece
        if self.error is not None:
            raise self.error
