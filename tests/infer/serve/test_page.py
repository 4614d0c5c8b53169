"""The page in a real browser: a visitor drives, others wait, and what goes wrong is said."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from infer.pipeline import WorldModel
from infer.serve.config import LimitConfig, ServeConfig
from tests.infer.conftest import SIZE
from tests.infer.serve.conftest import PATIENCE_S, serving

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
MS = PATIENCE_S * 1000


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("no Chromium is installed")
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=MS)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=program,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"])
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def address(world: WorldModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    config = ServeConfig(size=list(SIZE), limit=LimitConfig(drives=1, waiting=1, image_mb=0.3))
    with serving(world, tmp_path_factory.mktemp("drives"), config) as found:
        yield found


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Callable[[], Any]]:
    """Opens the page, for one visitor after another; no page may have complained to the console."""
    pages, complaints = [], []

    def open_page() -> Any:
        page = browser.new_page()
        page.set_default_timeout(MS)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address)
        page.wait_for_selector("#keys button")
        pages.append(page)
        return page
    yield open_page
    for page in pages:
        page.close()
    assert complaints == []


def start(page: Any, picture: Path) -> None:
    page.set_input_files("#image", str(picture))
    page.click("#start")


def see(page: Any, selector: str) -> Any:
    from playwright.sync_api import expect
    return expect(page.locator(selector))


def shown(page: Any, frames: int) -> None:
    """Wait until so many frames were shown."""
    while int(page.inner_text("#shown").partition(" ")[0].replace("–", "0")) < frames:
        page.wait_for_timeout(20)


def test_a_visitor_drives_sees_the_figures_and_takes_the_video_home(
    visit: Callable[[], Any], room: Path, tmp_path: Path,
) -> None:
    page = visit()
    page.fill("#prompt", "a room with w a s d in its name")
    start(page, room)
    shown(page, 8)
    first = page.locator("#screen").screenshot()
    page.keyboard.down("w")
    see(page, "button[data-key=w]").to_have_class("held")
    see(page, "#record").to_have_value(re.compile(r"^none-\d+,w-\d+$"))
    page.keyboard.down("d")
    page.keyboard.up("w")
    shown(page, 60)
    assert page.locator("#screen").screenshot() != first
    page.keyboard.up("d")
    see(page, "button.held").to_have_count(0)
    for figure in ("#first", "#p50", "#p95", "#rate", "#underruns", "#shown"):
        assert page.inner_text(figure)[0].isdigit()
    page.click("#stop")
    see(page, "#status").to_have_text("Over: the drive was stopped")
    with page.expect_download() as downloaded:
        page.click("#video")
    downloaded.value.save_as(tmp_path / "drive.mp4")
    driven = sum(int(part.partition("-")[2]) for part in page.input_value("#record").split(","))
    with av.open(str(tmp_path / "drive.mp4")) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(frames) == driven + 1 >= 73
    assert (frames[0] != frames[-1]).any()


def test_a_typed_action_string_is_driven_and_a_wrong_one_is_explained(
    visit: Callable[[], Any], room: Path,
) -> None:
    page = visit()
    start(page, room)
    see(page, "#record").to_have_value(re.compile("^none-"))
    page.fill("#action", "w-4,x-3")
    page.click("#play")
    see(page, "#message").to_contain_text("unknown key 'x'; keys are w s d a i k l j")
    page.fill("#action", "wd-20,i-4")
    page.press("#action", "Enter")
    see(page, "#message").to_be_hidden()
    see(page, "#record").to_have_value(re.compile("wd-20,i-4"))
    page.focus("#prompt")
    page.keyboard.press("s")
    see(page, "button.held").to_have_count(0)
    page.locator("button[data-key=k]").hover()
    page.mouse.down()
    see(page, "#record").to_have_value(re.compile(r"k-\d+$"))
    page.mouse.up()
    see(page, "button.held").to_have_count(0)


def test_the_second_visitor_waits_with_a_place_and_drives_when_the_first_stops(
    visit: Callable[[], Any], room: Path,
) -> None:
    first, second, third = visit(), visit(), visit()
    start(first, room)
    see(first, "#status").to_contain_text("Driving: hold the keys.")
    start(second, room)
    see(second, "#status").to_have_text("Waiting: place 1 in the queue.")
    start(third, room)
    see(third, "#message").to_have_text("all 1 places are taken and 1 visitors wait already; try again "
                                           "in a few minutes")
    first.close()
    shown(second, 1)
    second.click("#stop")
    see(second, "#result").to_be_visible()
    start(second, room)
    see(second, "#status").to_contain_text("Driving: hold the keys.")


def test_a_refused_picture_gives_its_message(visit: Callable[[], Any], tmp_path: Path) -> None:
    page = visit()
    for data, says in (
        (b"no picture", "the file is no picture that can be read here; send a JPEG, PNG or WebP"),
        (bytes(400_000), "The picture has 0.4 MB, allowed 0.3; choose a smaller one."),
    ):
        (tmp_path / "picture.png").write_bytes(data)
        start(page, tmp_path / "picture.png")
        see(page, "#message").to_have_text(says)
        see(page, "#start").to_be_enabled()
