"""The server on its port, spoken to as a page does and as no page would."""

import json
import socket
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from infer.pipeline import WorldModel
from infer.serve.config import LimitConfig, ServeConfig
from infer.video import write_video
from tests.infer.conftest import SIZE
from tests.infer.serve.conftest import PATIENCE_S, serving, until

LIMITS = LimitConfig(drives=2, waiting=1, image_mb=0.3, image_megapixels=1.0, prompt_characters=20,
                     action_characters=30)


@pytest.fixture(scope="module")
def address(world: WorldModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    config = ServeConfig(size=list(SIZE), limit=LIMITS)
    with serving(world, tmp_path_factory.mktemp("drives"), config) as found:
        yield found


get = partial(httpx.get, timeout=PATIENCE_S)


def ask(address: str, picture: Path | bytes, **words: str) -> httpx.Response:
    data = picture if isinstance(picture, bytes) else picture.read_bytes()
    files = {"image": ("room.png", data)}
    return httpx.post(f"{address}/drives", files=files, data=words, timeout=PATIENCE_S)


def come(address: str, name: str) -> ClientConnection:
    return connect(f"{address.replace('http', 'ws')}/drives/{name}/live", open_timeout=PATIENCE_S)


def say(page: ClientConnection, kind: str, **more: Any) -> None:
    page.send(json.dumps({"kind": kind, **more}))


def hear(page: ClientConnection, kind: str) -> dict[str, Any]:
    """The next message of a kind; frames and others pass by."""
    while True:
        message = page.recv(timeout=PATIENCE_S)
        if isinstance(message, str) and (found := json.loads(message))["kind"] == kind:
            return found


def test_a_drive_over_the_wire_is_the_video_of_its_keys(
    address: str, room: Path, world: WorldModel, tmp_path: Path,
) -> None:
    answer = ask(address, room, prompt="a room", seed="7")
    assert answer.status_code == 201
    at = f"{address}/drives/{answer.json()['name']}"
    with come(address, answer.json()["name"]) as page:
        hear(page, "running")
        assert hear(page, "chunk")["action"] == "none-24"
        early = get(f"{at}/video.mp4")
        assert early.status_code == 409 and "the drive is not over; stop it first" in early.text
        say(page, "press", key="w")
        say(page, "shown", frames=24, underruns=0)
        assert hear(page, "chunk")["action"] == "none-24,w-24"
        say(page, "release", key="w")
        say(page, "play", action="d-20,i-4")
        say(page, "shown", frames=48, underruns=1)
        assert hear(page, "chunk")["made"] == 73
        say(page, "stop")
        over = hear(page, "over")
        assert over == {"kind": "over", "message": "the drive was stopped", "frames": 73,
                        "action": "none-24,w-24,d-20,i-4", "video": True}
        with pytest.raises(ConnectionClosed):
            page.recv(timeout=PATIENCE_S)
    whole = world.prepare(room, "a room", over["action"], seed=7, size=SIZE)
    for _ in write_video(tmp_path / "whole.mp4", world.generate(whole), 18):
        pass
    video = get(f"{at}/video.mp4")
    assert video.headers["content-type"] == "video/mp4"
    assert video.content == (tmp_path / "whole.mp4").read_bytes()
    assert get(f"{at}/camera.npz").content[:2] == b"PK"
    assert get(f"{address}/metrics").json()["underruns"] == 1


def test_the_third_visitor_waits_with_a_place_and_the_fourth_is_refused(address: str, room: Path) -> None:
    a, b, c = (ask(address, room).json()["name"] for _ in range(3))
    with come(address, a) as first, come(address, b) as second, come(address, c) as third:
        for page in (first, second):
            hear(page, "chunk")
        assert hear(third, "waiting")["place"] == 1
        refused = ask(address, room)
        assert refused.status_code == 503
        assert refused.json()["message"] == ("all 2 places are taken and 1 visitors wait already; try again "
                                             "in a few minutes")
        first.close()
        hear(third, "chunk")
    until(lambda: get(f"{address}/metrics").json()["running"] == 0)


def test_words_that_make_no_sense_are_answered_and_the_drive_goes_on(address: str, room: Path) -> None:
    name = ask(address, room).json()["name"]
    with come(address, name) as page:
        hear(page, "chunk")
        for said, answer in (
            ({"kind": "press", "key": "x"}, "'x' is no key"), ({"kind": "press"}, "needs 'key', a text"),
            ({"kind": "press", "key": 5}, "needs 'key', a text"),
            ({"kind": "play", "action": "w-4,q-3"}, "character 5"), ({"kind": "play"}, "needs 'action'"),
            ({"kind": "play", "action": "w-1," * 9}, "has 36 characters, allowed 30"),
            ({"kind": "fly"}, "'fly' is no word"), ([1], "needs 'kind'"), (5, "needs 'kind'"),
            ({"kind": "shown", "frames": "9", "underruns": 0}, "needs 'frames', a whole number"),
        ):
            page.send(json.dumps(said))
            assert answer in hear(page, "refused")["message"]
        for nonsense in ("{not json", b"\0\1", "[" * 50_000, ""):
            page.send(nonsense)
            hear(page, "refused")
        say(page, "shown", frames=24, underruns=0)
        assert hear(page, "chunk")["action"] == "none-48"
        with come(address, name) as second, pytest.raises(ConnectionClosed):
            second.recv(timeout=PATIENCE_S)
    with come(address, ask(address, room).json()["name"]) as page, pytest.raises(ConnectionClosed):
        for _ in range(101):
            page.send("?")
        while True:
            page.recv(timeout=PATIENCE_S)
    with come(address, "nobody") as page, pytest.raises(ConnectionClosed, match="no such drive"):
        page.recv(timeout=PATIENCE_S)


@pytest.mark.parametrize(("words", "status", "says"), [
    ({"prompt": "x" * 21}, 422, "the prompt has 21 characters, allowed 20"),
    ({"seed": "many"}, 422, "seed and fov are numbers"), ({"seed": "-1"}, 422, "seed=-1, allowed 0 to"),
    ({"fov": "10"}, 422, "allowed 25 to 120"), ({"fov": "nan"}, 422, "allowed 25 to 120"),
    ({"path": "/etc/passwd"}, 422, "'path' is no field of the form"),
])
def test_a_form_outside_the_limits_is_refused(
    address: str, room: Path, words: dict[str, str], status: int, says: str,
) -> None:
    answer = ask(address, room, **words)
    assert answer.status_code == status and says in answer.json()["message"]


def test_who_leaves_while_sending_leaves_no_trace(
    address: str, caplog: pytest.LogCaptureFixture,
) -> None:
    host, _, port = address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as line:
        line.sendall(b"POST /drives HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n"
                     b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n")
    until(lambda: get(f"{address}/metrics").json()["refused"].get("400") == 1)
    assert "Traceback" not in caplog.text


def test_a_picture_outside_the_limits_is_refused(address: str, room: Path) -> None:
    large = ask(address, room.read_bytes() + bytes(400_000))
    assert large.status_code == 413 and "more than 0.3 MB" in large.json()["message"]
    assert ask(address, b"no picture").status_code == 415
    for form in ({"data": {"image": str(room)}}, {"data": {"prompt": "x"}},
                 {"files": [("image", ("a.png", b"1")), ("image", ("b.png", b"2"))]},
                 {"content": b"{}", "headers": {"content-type": "application/json"}}):
        answer = httpx.post(f"{address}/drives", timeout=PATIENCE_S, **form)  # type: ignore[arg-type]
        assert answer.status_code == 422 and "form" in answer.json()["message"]
    assert get(f"{address}/metrics").json()["refused"]["413"] == 1


@pytest.mark.parametrize("path", [
    "/page/app.py", "/page/..%2fapp.py", "/page/%2e%2e/run.py", "/page//etc/passwd", "/drives/x/video.mp4",
    "/drives/..%2f..%2fetc/passwd", "/docs", "/openapi.json"])
def test_no_path_of_a_visitor_is_opened(address: str, path: str) -> None:
    answer = get(httpx.URL(address, raw_path=path.encode()))
    assert answer.status_code == 404 and b"import" not in answer.content


def test_the_page_is_all_there_and_asks_no_other_host(address: str) -> None:
    page = get(address)
    assert page.headers["content-security-policy"].startswith("default-src 'self'")
    files = [name for name in ("style.css", "drive.js", "player.js", "keys.js", "map.js")]
    sources = [page.text, *(get(f"{address}/page/{name}").text for name in files)]
    assert all(source and "://" not in source for source in sources)
    limits = get(f"{address}/limits").json()
    assert limits["size"] == list(SIZE) and limits["controls"]["yaw"] == "da"


@pytest.mark.parametrize(("headers", "status"), [
    ({}, 200), ({"host": "localhost:9"}, 200), ({"host": "[::1]:9"}, 200), ({"host": "127.0.0.2"}, 200),
    ({"host": "[::1"}, 403), ({"origin": "http://[::1"}, 403),
    ({"host": "elsewhere.example"}, 403), ({"origin": "http://elsewhere.example"}, 403),
    ({"origin": "null"}, 403)])
def test_another_site_s_page_is_not_let_in(address: str, headers: dict[str, str], status: int) -> None:
    assert get(f"{address}/limits", headers=headers).status_code == status


def test_another_site_s_page_gets_no_socket(address: str) -> None:
    with pytest.raises(Exception, match="403"):
        connect(f"{address.replace('http', 'ws')}/drives/x/live", origin="http://elsewhere.example")  # type: ignore[arg-type]


def test_a_server_for_others_asks_for_its_token(world: WorldModel, room: Path, tmp_path: Path) -> None:
    config = ServeConfig(size=list(SIZE))
    with serving(world, tmp_path, config, token="correct horse") as address:
        here = partial(httpx.Client, base_url=address, timeout=PATIENCE_S)
        for brought in ({}, {"headers": {"authorization": "Bearer wrong"}}, {"params": {"token": "wrong"}},
                        {"headers": {"cookie": "sana_wm_token=wrong"}}):
            strange = here(**brought)  # type: ignore[arg-type]
            for path in ("/", "/limits", "/metrics", "/page/drive.js", "/drives/x/video.mp4"):
                answer = strange.get(path)
                assert answer.status_code == 401 and "asks for its token" in answer.json()["message"]
            assert strange.post("/drives", files={"image": room.read_bytes()}).status_code == 401
        with pytest.raises(Exception, match="403"):
            come(address, "x")
        assert here(headers={"authorization": "Bearer correct horse"}).get("/metrics").status_code == 200
        friend = here(headers={"host": "gpu.example"})
        came = friend.get("/", params={"token": "correct horse"})
        assert (came.status_code, came.headers["location"]) == (303, "./")
        assert "httponly" in came.headers["set-cookie"].lower()
        cookie = came.headers["set-cookie"].partition(";")[0]
        assert friend.get("/", headers={"cookie": cookie}).status_code == 200
