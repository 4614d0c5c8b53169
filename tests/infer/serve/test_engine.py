"""The queue, turns, ends and faults of drives, with the model really making their frames."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from infer.pipeline import Request, WorldModel
from infer.serve.engine import Engine
from infer.serve.session import Session
from infer.serve.upload import Refused
from infer.trajectory import FPS, read_trajectory
from infer.video import write_video
from tests.infer.conftest import SIZE
from tests.infer.serve.conftest import Page, at_work, until

Make = Callable[..., Engine]
Ask = Callable[..., Request]


def come(engine: Engine, request: Request, page: Page, address: str = "here") -> Session:
    page.session = engine.admit(request, address, page)  # type: ignore[arg-type]
    assert engine.connect(page.session)
    return page.session


def test_two_drives_are_made_in_turn_and_each_is_the_video_of_its_own_keys(
    make_engine: Make, request_of: Ask, world: WorldModel, room: Path, tmp_path: Path,
) -> None:
    engine, log = make_engine(longest_s=73 / FPS), []
    pages = [Page(engine, log), Page(engine, log)]
    actions = ["w-30,wd-30,none-12", "s-24,ij-48"]
    for seed, (page, action) in enumerate(zip(pages, actions)):
        come(engine, request_of(seed), page).wheel.play(action)
    with at_work(engine):
        until(lambda: all(page.over for page in pages))
    assert [page for page, _ in log] == pages * 3
    assert [made for _, made in log] == [25, 25, 49, 49, 73, 73]
    for seed, (page, action) in enumerate(zip(pages, actions)):
        assert page.over == "the drive has reached its greatest length, 4.5625 s of video"
        assert page.told[-1]["action"] == action
        assert page.session is not None
        whole = world.prepare(room, "a room", action, seed=seed, size=SIZE)
        for _ in write_video(tmp_path / "whole.mp4", world.generate(whole), 18):
            pass
        assert page.session.recording.video.read_bytes() == (tmp_path / "whole.mp4").read_bytes()
        camera = read_trajectory(str(page.session.recording.camera))
        np.testing.assert_allclose(camera.c2w, whole.path.c2w, atol=1e-7)
        assert camera.size == SIZE


def test_frames_are_numbered_pictures_that_begin_with_the_one_given(
    make_engine: Make, request_of: Ask,
) -> None:
    engine = make_engine(longest_s=25 / FPS)
    page = Page(engine)
    come(engine, request_of(), page)
    with at_work(engine):
        until(lambda: page.over)
    assert [int.from_bytes(frame[:4], "little") for frame in page.frames] == list(range(25))
    shown = [cv2.imdecode(np.frombuffer(frame[4:], np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
             for frame in page.frames]
    assert all(frame.shape == (*SIZE, 3) for frame in shown)
    wanted = request_of().image.astype(float)
    assert np.abs(shown[0] - wanted).mean() < 8 < np.abs(shown[24] - wanted).mean()
    assert page.kinds() == ["running", "chunk", "over"]
    assert page.told[1]["path"] == [[0.0, 0.0]] * 25 and page.told[1]["ahead"] == [0.0, 1.0]


def test_no_chunk_is_made_while_enough_waits_to_be_shown(make_engine: Make, request_of: Ask) -> None:
    engine = make_engine(ahead_s=24 / FPS)
    page = Page(engine, shows=False)
    session = come(engine, request_of(), page)
    other = Page(engine)
    with at_work(engine):
        until(lambda: "chunk" in page.kinds())
        come(engine, request_of(), other)
        until(lambda: other.kinds().count("chunk") == 3)
        assert page.kinds().count("chunk") == 1
        engine.count_shown(session, 10**9, 0)  # more than was sent: believed as far as that
        until(lambda: other.kinds().count("chunk") == 6)
        assert page.kinds().count("chunk") == 1
        for _ in range(25):
            engine.count_sent(session)
        engine.count_shown(session, 1, 2)
        until(lambda: page.kinds().count("chunk") == 2)
        assert engine.figures()["underruns"] == 2


def test_who_finds_no_place_waits_in_a_queue_that_moves_and_ends(make_engine: Make, request_of: Ask) -> None:
    engine = make_engine(drives=1, waiting=2)
    pages = [Page(engine) for _ in range(3)]
    sessions = [come(engine, request_of(), page) for page in pages]
    with pytest.raises(Refused, match="all 1 places are taken and 3 visitors wait already") as refused:
        engine.admit(request_of(), "here", Page(engine))  # type: ignore[arg-type]
    assert refused.value.status == 503
    with at_work(engine):
        until(lambda: "chunk" in pages[0].kinds())
        assert [[m["place"] for m in page.told if m["kind"] == "waiting"] for page in pages] == [[], [1], [2]]
        engine.leave(sessions[0], "the visitor left")
        until(lambda: "chunk" in pages[1].kinds())
        until(lambda: pages[2].told[-1] == {"kind": "waiting", "place": 1})
        engine.leave(sessions[2], "the visitor left")
        until(lambda: pages[2].over)
        assert not sessions[2].recording.folder.exists()
        assert engine.figures()["running"] == 1 and engine.figures()["waiting"] == 0


def test_an_address_has_no_more_drives_than_allowed(make_engine: Make, request_of: Ask) -> None:
    engine = make_engine(each=1)
    come(engine, request_of(), Page(engine), "one")
    with pytest.raises(Refused, match="this address has 1 drives already") as refused:
        come(engine, request_of(), Page(engine), "one")
    assert refused.value.status == 429
    come(engine, request_of(), Page(engine), "other")


@pytest.mark.parametrize(("limits", "keys", "shows", "says"), [
    ({"idle_s": 0.2}, "", True, "no key was pressed for 0.2 s, so the drive ended"),
    ({"idle_s": 0.2}, "w", False, "the page showed nothing for 0.2 s, so the drive ended"),
])
def test_a_drive_that_nobody_drives_or_sees_ends(
    make_engine: Make, request_of: Ask, limits: dict[str, float], keys: str, shows: bool, says: str,
) -> None:
    engine = make_engine(**limits)
    page = Page(engine, shows=shows)
    session = come(engine, request_of(), page)
    for key in keys:
        session.wheel.press(key, 0.0)
    with at_work(engine):
        until(lambda: page.over)
    assert page.over == says
    assert session.recording.video.exists()


def test_a_drive_that_nobody_comes_for_is_dropped_and_an_old_one_forgotten(
    make_engine: Make, request_of: Ask,
) -> None:
    engine = make_engine(connect_s=0.1, keep_s=0.1, longest_s=1)
    missed, page = Page(engine), Page(engine)
    missed.session = engine.admit(request_of(), "here", missed)  # type: ignore[arg-type]
    session = come(engine, request_of(), page)
    with at_work(engine):
        until(lambda: missed.over)
        assert missed.over == "nobody came for the drive"
        assert not engine.connect(missed.session)
        until(lambda: page.over and engine.find(session.name) is None)
        until(lambda: not session.recording.folder.exists())


def test_one_drive_that_fails_ends_alone(
    make_engine: Make, request_of: Ask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:
    engine = make_engine(drives=3, longest_s=73 / FPS)
    pages = [Page(engine) for _ in range(3)]
    sessions = [come(engine, request_of(), page) for page in pages]
    steer = sessions[0].wheel.steer
    monkeypatch.setattr(sessions[0].wheel, "steer", lambda frames: steer(frames)[:25 if frames == 25 else 5])
    sessions[1].recording.folder.parent.mkdir()
    sessions[1].recording.folder.write_text("a file where a folder should be")
    with at_work(engine):
        until(lambda: all(page.over for page in pages))
    failed, lost, fine = (page.over or "" for page in pages)
    assert failed == "making the next chunk failed; the server's log says why"
    assert lost.startswith("writing the frames failed; the server's log says why")
    assert "5 poses of a chunk" in caplog.text and "File exists" in caplog.text
    assert fine.startswith("the drive has reached its greatest length")
    assert [page.told[-1]["video"] for page in pages] == [True, False, True]
    assert engine.figures()["failures"] == 2


def test_the_end_of_the_server_ends_every_drive_with_a_whole_video(
    make_engine: Make, request_of: Ask,
) -> None:
    engine = make_engine(drives=1)
    pages = [Page(engine), Page(engine)]
    sessions = [come(engine, request_of(), page) for page in pages]
    with at_work(engine):
        until(lambda: pages[0].kinds().count("chunk") == 2)
    assert [page.over for page in pages] == ["the server is shutting down"] * 2
    assert sorted(path.name for path in sessions[0].recording.folder.iterdir()) == ["camera.npz", "video.mp4"]


def test_figures_are_of_what_was_made(make_engine: Make, request_of: Ask) -> None:
    engine = make_engine(longest_s=49 / FPS)
    page: Any = Page(engine)
    assert engine.figures()["times_real_time"] is None
    come(engine, request_of(), page)
    engine.count_refused(415)
    with at_work(engine):
        until(lambda: page.over)
    found = engine.figures()
    assert {key: found[key] for key in ("drives", "chunks", "frames", "failures", "refused")} == {
        "drives": 1, "chunks": 2, "frames": 49, "failures": 0, "refused": {"415": 1}}
    made = [message["making_s"] for message in page.told if message["kind"] == "chunk"]
    assert found["making_s"] == {"p50": min(made), "p95": max(made)}
    assert found["times_real_time"] == pytest.approx(49 / FPS / sum(made), rel=0.01)
    assert found["first_chunk_s"]["p50"] >= made[0] and found["chunk_s"]["p50"] >= made[1]
