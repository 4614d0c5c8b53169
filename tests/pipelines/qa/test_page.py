"""The page in a real browser: open, filter, drag a threshold, play, seek, judge, reload: still there."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dataset.store import Store
from dataset.verdicts import in_force, read_history
from tests.pipelines.qa.conftest import write_scored_set
from tests.tiny_dataset import clip_name

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ROOT = Path(__file__).parents[3]
FLAGS = ["--no-sandbox", "--disable-background-networking", "--use-angle=swiftshader",
         "--enable-unsafe-swiftshader"]
PATIENCE_MS = 120_000


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Seven clips of four seconds."""
    return write_scored_set(tmp_path_factory.mktemp("page") / "data", frames=65, size=(96, 160))


@pytest.fixture(scope="module")
def address(data: Store) -> Iterator[str]:
    """The command itself, on a free port, behind a token."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pipelines.qa", f"data={data.url}", "port=0", "open=false",
         "token=let-me-in-please", "refresh_s=0.5", "reviewer=Ada"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(2)]
    found = re.search(r"dashboard: (\S+)", "".join(lines))
    assert found, lines
    yield found.group(1)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A page that has the token; it must neither raise nor ask another host for anything."""
    context = browser.new_context(viewport={"width": 1000, "height": 700}, accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: request.url.startswith((address.split("?")[0], "data:", "blob:"))
            or faults.append(f"asked {request.url}"))
    page.goto(address)
    page.wait_for_selector(".tiles")
    yield page
    context.close()
    assert faults == []


def go(page: Any, view: str, until: str) -> None:
    page.evaluate(f"location.hash = '#/{view}'")
    page.wait_for_selector(until)


def until(page: Any, condition: str) -> None:
    """Wait until an expression is true; asked from outside, for the page's policy forbids `eval` inside."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, f"still not so: {condition}"
        page.wait_for_timeout(50)


def kept(page: Any) -> int:
    return int(page.locator("#kept").get_attribute("data-kept"))


@pytest.mark.slow
def test_open_filter_drag_play_seek_judge_reload(page: Any, data: Store):
    assert "4 of 7 clips kept" in page.locator(".lead").inner_text()

    # filter, and follow a rule of the funnel to its clips
    page.get_by_text("flow_dis<2", exact=True).click()
    page.wait_for_selector("#summary[data-total='2']")
    page.select_option("#f-rule", "*")
    page.wait_for_selector("#summary[data-total='7']")
    page.fill("#f-where", "flow_dis >= 3 and flow_dis < 6")
    page.press("#f-where", "Enter")
    page.wait_for_selector("#summary[data-total='3']")
    page.get_by_text("clear", exact=True).click()
    page.wait_for_selector("#summary[data-total='7']")

    # drag the lower limit of the flow: fewer clips stay, and the file says so
    go(page, "scores", "figure[data-score=flow_dis]")
    until(page, "document.getElementById('kept')?.dataset.kept === '4'")
    figure = page.locator("figure[data-score=flow_dis]")
    figure.scroll_into_view_if_needed()
    grip, chart = figure.locator(".limit.min circle").bounding_box(), figure.locator("svg").bounding_box()
    page.mouse.move(grip["x"] + grip["width"] / 2, grip["y"] + grip["height"] / 2)
    page.mouse.down()
    page.mouse.move(chart["x"] + chart["width"] * 0.7, chart["y"] + 20, steps=5)
    until(page, "document.getElementById('kept').dataset.kept === '1'")  # only clip 5: flow 5 of 0..6
    page.mouse.move(chart["x"] + chart["width"] * 0.75, chart["y"] + 20, steps=2)
    page.mouse.up()
    page.wait_for_selector("figure[data-score=flow_dis] .edge-row .goes")
    with page.expect_download() as download:
        page.click("#download")
    limit = re.search(r"flow_dis: \{min: ([\d.]+)\}", download.value.path().read_text())
    assert limit and 4 < float(limit.group(1)) <= 5
    assert kept(page) == 1

    # a clip: seek, play, and everything moves along
    go(page, f"clip/{clip_name(2)}", ".scene[data-frame]")
    page.evaluate("const bar = document.querySelector('input[aria-label=frame]');"
                  "bar.value = 40; bar.dispatchEvent(new Event('input'))")
    page.wait_for_selector(".scene[data-frame='40']")
    assert "frame 40" in page.locator(".clock").inner_text()
    until(page, "!document.querySelector('video').seeking")
    assert page.evaluate("document.querySelector('video').currentTime") == pytest.approx(40.25 / 16, abs=0.02)
    page.keyboard.press(",")
    page.wait_for_selector(".scene[data-frame='39']")
    before = page.evaluate("document.querySelector('video').currentTime")
    page.keyboard.press(" ")
    until(page, f"Math.abs(document.querySelector('video').currentTime - {before}) > 0.2")
    until(page, "document.querySelector('.scene').dataset.frame !== '39'")
    page.keyboard.press(" ")

    # a note that is not saved is still there on coming back
    page.wait_for_selector("#final.kept")
    page.fill("#note", "a hand before the lens")
    page.press("#note", "Escape")
    go(page, f"clip/{clip_name(3)}", f"article[data-id='{clip_name(3)}'] .scene[data-frame]")
    assert page.input_value("#note") == ""
    go(page, f"clip/{clip_name(2)}", f"article[data-id='{clip_name(2)}'] .scene[data-frame]")
    assert page.input_value("#note") == "a hand before the lens"

    # judge by key, with that note; it is on disk, and there after a reload
    page.wait_for_selector("#final.kept")
    page.locator("h1").click()
    page.keyboard.press("r")
    page.wait_for_selector("#final.rejected")
    said = in_force(read_history(data))[clip_name(2)]
    assert (said.verdict, said.note, said.reviewer) == ("reject", "a hand before the lens", "Ada")
    page.reload()
    page.wait_for_selector("#final.rejected")
    assert page.input_value("#note") == "a hand before the lens"
    go(page, "", ".tiles")
    until(page, "document.querySelector('.lead').textContent.startsWith('3 of 7 clips kept')")


def test_two_clips_side_by_side_the_map_and_the_run(page: Any):
    go(page, f"compare/{clip_name(0)}/{clip_name(1)}", ".pair video")
    page.evaluate("const bar = document.querySelector('input[aria-label=frame]');"
                  "bar.value = 20; bar.dispatchEvent(new Event('input'))")
    until(page, "[...document.querySelectorAll('.clock')].every((at) => /frame 20$/.test(at.textContent))")
    go(page, "map", ".cards .card .two")
    assert page.locator("h2").first.inner_text() == "7 clips by their scores"
    go(page, "live", ".pace rect")
    assert "Nobody is writing" in page.locator(".lead").inner_text()


def test_a_shard_that_goes_missing_is_shown_in_the_table_and_on_the_clips_page(page: Any, data: Store):
    victim = data.local_path(sorted(data.list("shards"))[0])
    assert victim is not None
    hidden = victim.with_suffix(".away")
    os.rename(victim, hidden)
    try:
        until(page, "fetch('api/overview').then((r) => r.json()).then((o) => o.notices.length === 1)")
        page.reload()
        page.wait_for_selector("#notices p")
        go(page, "clips", "#summary[data-total='7']")
        broken = page.locator("tr:has(.strip.broken)")
        assert broken.count() in (1, 3)
        broken.first.locator("code").click()
        page.wait_for_selector(".player .error:not([hidden])")
        assert "there is no such shard" in page.locator(".player .error").inner_text()
    finally:
        os.rename(hidden, victim)


def test_nothing_opens_without_the_token(browser: Any, address: str):
    context = browser.new_context()
    page = context.new_page()
    assert page.goto(address.split("?")[0]).status == 401
    context.close()
