"""The inference benchmark on clips of a second: it runs, and what it says follows from what it measured."""

import json
import xml.etree.ElementTree as ET
from dataclasses import asdict, replace

import pytest
import torch

from benchmarks.infer import Row, constant_memory, measure, report, targets
from benchmarks.infer_plot import plot
from benchmarks.infer_worlds import SCALES, Scale


@pytest.fixture(scope="module")
def scale() -> Scale:
    return replace(SCALES["cpu"], size=(32, 48), guided=(4,), streamed=(4, 7), steps=2)


@pytest.fixture(scope="module")
def rows(scale: Scale) -> list[Row]:
    threads = torch.get_num_threads()
    found = list(measure(scale, 1))
    torch.set_num_threads(threads)
    return found


def test_every_sampler_is_measured(rows: list[Row]) -> None:
    assert [(row.world, row.frames) for row in rows] == [
        ("bidirectional", 4), ("chunk_causal", 4), ("distilled", 4), ("distilled", 7)]
    for row in rows:
        assert row.video_s == pytest.approx((8 * (row.frames - 1) + 1) / 16)
        assert 0 < row.first_s <= row.seconds and row.peak_mb > 0 and row.step_s > 0


def test_the_page_and_the_plot_hold_every_row(rows: list[Row], scale: Scale) -> None:
    page = report({"cpu": "one"}, rows, scale)
    assert sum(line.startswith(("| bidir", "| chunk", "| distilled |")) for line in page.splitlines()) == 4
    drawn = ET.fromstring(plot(json.loads(json.dumps([asdict(row) for row in rows]))))
    circles = [element for element in drawn.iter() if element.tag.endswith("circle")]
    assert len(circles) == 3 * len(rows)


def test_memory_is_compared_over_ten_times_the_length(rows: list[Row]) -> None:
    assert constant_memory(rows) is None
    long = replace(rows[-1], frames=70, peak_mb=2 * rows[-1].peak_mb)
    assert constant_memory([*rows, long]) == (10.0, 2.0)
    assert not targets([*rows, long])[0][2]
