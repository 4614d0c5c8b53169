"""How far a video is."""

import pytest

from infer.progress import Bar, duration


def test_the_line_counts_steps_and_fills(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Bar(4)
    for step in range(4):
        bar(step, 4)
    lines = capsys.readouterr().err.split("\r")[1:]
    assert [line.split("]")[0].count("#") for line in lines] == [5, 10, 15, 20]
    assert "step 4/4  0 s left" in lines[-1]


@pytest.mark.parametrize(("seconds", "says"), [
    (0.2, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (3599, "59 min 59 s"), (7260, "2 h 01 min")])
def test_durations_are_said_as_one_would(seconds: float, says: str) -> None:
    assert duration(seconds) == says
