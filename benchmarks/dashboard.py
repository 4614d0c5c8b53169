"""How long the dashboard's answers take over 213,000 clips, and how long until its page is there.

python -m benchmarks.dashboard writes an index of invented clips, starts the command itself over it, asks
every question in turn, opens the page in Chromium where there is one, and writes
benchmarks/results/dashboard.json and .md.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from annotate.filters import Bound, Thresholds
from benchmarks.dashboard_data import default_thresholds, write_index
from benchmarks.measure import ROOT, machine, write

QUERY_TARGET_MS, PAGE_TARGET_S = 200, 1.0
ABOUT = """\
Every question goes over HTTP to the running command; milliseconds are of wall time from the request to \
the last byte of the answer, JSON included, median over the rounds, spread (slowest - fastest) / median; \
CPU is of the server. A threshold moves at every round, so that no answer is one remembered. The page is \
there when its view is drawn in a browser with an empty cache."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """One question over the rounds."""

    question: str
    ms: float
    spread: float
    cpu_ms: float
    kilobytes: float


@contextmanager
def running(data: str) -> Iterator[tuple[str, psutil.Process, float]]:
    """The command over a data set: address, process, and seconds from its start until it listens."""
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "pipelines.qa", f"data={data}", "port=0", "open=false"],
                               cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        told = "".join(process.stdout.readline() for _ in range(2))
        found = re.search(r"dashboard: (\S+)/", told)
        if found is None:
            sys.exit(f"the dashboard did not start: {told}")
        yield found.group(1), psutil.Process(process.pid), time.perf_counter() - begun
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()


def questions(thresholds: Thresholds) -> dict[str, Callable[[int], tuple[str, dict[str, Any] | None]]]:
    """By name, what is asked in a round: a path, and a body where it is a POST."""

    def tried(number: int, **chosen: Any) -> dict[str, Any]:
        moved = dataclasses.replace(thresholds, flow_dis=Bound(min=1 + 0.37 * number))
        return {"thresholds": dataclasses.asdict(moved), "filter": chosen}

    def rows(number: int, **body: Any) -> tuple[str, dict[str, Any]]:
        return "rows", {"limit": 60, "offset": number, **body}

    return {
        "a threshold moves: clips and hours that stay, share of every rule": lambda n: ("tally", tried(n)),
        "a threshold moves: histograms of all scores": lambda n: ("histograms", tried(n)),
        "the same for one source": lambda n: ("histograms", tried(n, source="drone")),
        "clips at a limit": lambda n: ("edge", {"score": "flow_dis", "limit": 1 + n / 3, "upper": False}),
        "table, sorted by a score": lambda n: rows(n, sort="speed_max", down=True),
        "table, words in captions": lambda n: rows(n, filter={"text": f"with {n} houses"}),
        "table, SQL": lambda n: rows(n, filter={"where": f"flow_dis > {n} and motion = 'parallax'"}),
        "a random sample of 200": lambda n: ("sample", {"count": 200, "seed": n}),
        "overview": lambda n: ("overview", None),
        "clips over time": lambda n: ("live", None),
        "verdicts of the map": lambda n: ("map/states", None),
    }


def ask(address: str, path: str, body: dict[str, Any] | None) -> bytes:
    headers = {"content-type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{address}/api/{path}", data, headers)) as answer:
        return answer.read()


def time_answers(address: str, process: psutil.Process, rounds: int) -> list[Answer]:
    asked = questions(default_thresholds())
    walls: dict[str, list[float]] = {name: [] for name in asked}
    cpus: dict[str, list[float]] = {name: [] for name in asked}
    sizes: dict[str, int] = {}
    for number in range(rounds + 1):
        for name, make in asked.items():
            path, body = make(number)
            cpu, wall = sum(process.cpu_times()[:2]), time.perf_counter()
            sizes[name] = len(ask(address, path, body))
            if number:  # the first round warms up
                walls[name].append(time.perf_counter() - wall)
                cpus[name].append(sum(process.cpu_times()[:2]) - cpu)
    return [Answer(name, 1e3 * statistics.median(times), (max(times) - min(times)) / statistics.median(times),
                   1e3 * statistics.mean(cpus[name]), sizes[name] / 1e3) for name, times in walls.items()]


def time_pages(address: str, rounds: int) -> dict[str, list[float]] | None:
    """Seconds until each view is drawn, by view; None without a browser."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        return None
    from playwright.sync_api import sync_playwright

    views = {"overview": ("", ".tiles"), "scores": ("scores", "figure.score rect.stay"),
             "table": ("clips", "#summary[data-total]")}
    found: dict[str, list[float]] = {name: [] for name in views}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        browser.new_page().goto("about:blank")
        for _ in range(rounds):
            for name, (view, drawn) in views.items():
                context = browser.new_context()
                page = context.new_page()
                begun = time.perf_counter()
                page.goto(f"{address}/#/{view}", wait_until="commit")
                page.wait_for_selector(drawn, state="attached")
                found[name].append(time.perf_counter() - begun)
                context.close()
        browser.close()
    return found


def render(
    about: dict[str, Any], start_s: float, answers: list[Answer], pages: dict[str, list[float]] | None,
) -> str:
    slowest = max(answer.ms for answer in answers)
    met = _told(slowest < QUERY_TARGET_MS)
    lines = ["# The dashboard over many clips", "", *(f"- {key}: {value}" for key, value in about.items()),
             "", ABOUT, "", "| target | measured | met |", "|---|---|---|",
             f"| slowest question < {QUERY_TARGET_MS} ms | {slowest:.0f} ms | {met} |"]
    for name, times in (pages or {}).items():
        middle = statistics.median(times)
        met = _told(middle < PAGE_TARGET_S)
        lines.append(f"| page ready, {name} < {PAGE_TARGET_S:g} s | {middle:.2f} s | {met} |")
    lines += ["", f"From the command to a page that can be opened: {start_s:.1f} s.", "",
              "| question | ms | spread | CPU ms | KB |", "|---|---|---|---|---|"]
    lines += [f"| {a.question} | {a.ms:.0f} | {a.spread:.0%} | {a.cpu_ms:.0f} | {a.kilobytes:.0f} |"
              for a in answers]
    return "\n".join(lines) + "\n"


def _told(met: bool) -> str:
    return "yes" if met else "**no**"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=213_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--folder", type=Path, help="where a temporary folder for the index is made")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        data = write_index(Path(folder) / "data", arguments.clips)
        with running(data.url) as (address, process, start_s):
            answers = time_answers(address, process, arguments.rounds)
            pages = time_pages(address, max(3, arguments.rounds // 3))
            memory = process.memory_info().rss / 1e6
    about = machine("dashboard") | {"clips": arguments.clips, "server's memory, MB": round(memory)}
    results = {**about, "start_s": start_s, "pages_s": pages,
               "answers": [dataclasses.asdict(answer) for answer in answers]}
    write(arguments.out, "dashboard", results, render(about, start_s, answers, pages))


if __name__ == "__main__":
    main()
