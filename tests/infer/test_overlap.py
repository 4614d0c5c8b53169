"""Stages side by side give what they give one after another, hold little, and all end together."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from infer.overlap import Line, Pieces, in_line, in_turn

CPU = torch.device("cpu")


def count_to(limit: int, made: list[int] | None = None) -> Pieces:
    for number in range(limit):
        if made is not None:
            made.append(number)
        yield number


def doubled(pieces: Iterator[int]) -> Pieces:
    for piece in pieces:
        yield 2 * piece


def pairs(pieces: Iterator[int]) -> Pieces:
    for piece in pieces:
        yield piece, next(pieces)


def others() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("stage ")}


def test_side_by_side_gives_what_one_after_another_gives() -> None:
    stages = [doubled, pairs]
    found = list(Line(CPU).run(count_to(100), stages))
    assert found == list(in_line(count_to(100), stages)) == list(in_turn(count_to(100), stages))
    assert found[:2] == [(0, 2), (4, 6)] and not others()


def test_stages_work_at_the_same_time() -> None:
    """Each waits for the other to be at work; one after another they would wait for ever."""
    meeting = threading.Barrier(2, timeout=60)

    def first() -> Pieces:
        yield 0
        meeting.wait()
        yield 1

    def second(pieces: Iterator[int]) -> Pieces:
        for piece in pieces:
            if piece == 0:
                meeting.wait()
            yield piece

    assert list(Line(CPU).run(first(), [second])) == [0, 1]


@pytest.mark.parametrize("depth", [1, 3])
def test_no_more_is_made_than_the_queues_hold(depth: int) -> None:
    made: list[int] = []
    stream = Line(CPU, depth).run(count_to(1000, made), [doubled])
    for taken in range(1, 6):
        next(stream)
        before = -1
        while before != len(made):  # until nothing moves
            before = len(made)
            time.sleep(0.05)
        # one in the hands of each stage, `depth` behind each, those taken
        assert len(made) <= taken + 2 * depth + 2
    stream.close()
    assert not others()


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_error_of_any_stage_reaches_the_reader_after_what_was_made_before_it(place: int) -> None:
    def breaks(pieces: Iterator[int]) -> Pieces:
        for piece in pieces:
            if piece == 8:
                raise RuntimeError("out of memory")
            yield piece

    stages = [doubled, doubled]
    stages.insert(place, breaks)
    found = []
    with pytest.raises(RuntimeError, match="out of memory"):
        for piece in Line(CPU).run(count_to(10**9), stages):
            found.append(piece)
    assert found == [list(range(0, 32, 4)), [0, 4, 8, 12], [0, 4]][place]
    assert not others()


def test_a_closed_stream_ends_a_stage_in_the_middle_of_its_work() -> None:
    line, ended, begun = Line(CPU), [], threading.Event()

    def slow() -> Pieces:
        yield 0
        try:
            while True:
                begun.set()
                line.check()
                time.sleep(0.01)
        finally:
            ended.append(True)

    stream = line.run(slow(), [doubled])
    assert next(stream) == 0 and begun.wait(60)
    stream.close()
    assert ended and not others()


def test_stages_compute_without_gradients() -> None:
    weight = torch.ones(3, requires_grad=True)
    one = (piece for piece in [torch.ones(3)])
    made = list(Line(CPU).run(one, [lambda pieces: (piece * weight for piece in pieces)]))
    assert not made[0].requires_grad


def test_ctrl_c_ends_all_stages(tmp_path: Path) -> None:
    program = tmp_path / "endless.py"
    program.write_text(f"""
import itertools, sys, threading, torch
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from infer.overlap import Line
try:
    for piece in Line(torch.device("cpu")).run(itertools.count(), [lambda pieces: (2 * p for p in pieces)]):
        if piece == 20:
            print("begun", flush=True)
except KeyboardInterrupt:
    print([t.name for t in threading.enumerate()], flush=True)
    sys.exit(130)
""")
    running = subprocess.Popen([sys.executable, str(program)], stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None and running.stdout.readline() == "begun\n"
    running.send_signal(signal.SIGINT)
    said, _ = running.communicate(timeout=120)
    assert running.returncode == 130 and said.strip() == "['MainThread']"
