"""The endpoint engine against a server on this machine that behaves and misbehaves."""

import base64
import json
import socket
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from chat_server import ChatServer, said

from annotate.vlm.config import EndpointConfig, VlmConfig, VlmEngine
from annotate.vlm.endpoint import Endpoint, EndpointError, check_endpoint
from annotate.vlm.engine import Answer, Question, ask
from annotate.weights import EngineMissing


@pytest.fixture
def chat():
    server = ChatServer()
    yield server
    server.close()


def settings(url: str, **server) -> VlmConfig:
    server = {"wait_s": 0.01, "timeout_s": 20.0, **server}
    return VlmConfig(engine=VlmEngine.endpoint, model="model-a", endpoint=EndpointConfig(url=url, **server))


def picture(value: int) -> np.ndarray:
    return np.full((32, 48, 3), (value, 40, 200), np.uint8)


def test_pictures_and_words_arrive_and_every_answer_goes_to_its_clip(chat, tmp_path):
    """Answers come back in another order than the questions went."""
    turn = threading.Barrier(3)
    order = {"a": 3, "b": 2, "c": 1}

    def reply(body):
        name = body["messages"][0]["content"][-1]["text"]
        turn.wait(timeout=20)
        threading.Event().wait(0.02 * order[name])
        return said(f"about {name}")

    chat.reply = reply
    (tmp_path / "key").write_text("secret\n")
    engine = Endpoint(settings(chat.url, key_file=str(tmp_path / "key"), parallel=3))
    questions = [Question(name, (picture(10), picture(250)), name) for name in "abc"]
    assert ask(engine, questions) == [Answer(name, f"about {name}") for name in "abc"]
    body = chat.asked[0]
    assert body["model"] == "model-a" and body["max_tokens"] == 400 and body["temperature"] == 0.0
    kinds = [part["type"] for part in body["messages"][0]["content"]]
    assert kinds == ["image_url", "image_url", "text"]
    data = base64.b64decode(body["messages"][0]["content"][1]["image_url"]["url"].split(",")[1])
    shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert shown.shape == (32, 48, 3) and np.abs(shown.astype(int) - picture(250)).max() <= 4
    assert set(chat.keys) == {"Bearer secret"}


def test_refusals_that_may_pass_are_tried_again_and_others_are_not(chat):
    answers = [(503, {}, b"busy"), (429, {"Retry-After": "0"}, b"slow down"), (200, {}, b"not json"),
               said("yes")]
    chat.reply = lambda body: answers[len(chat.asked) - 1]
    assert Endpoint(settings(chat.url)).ask([Question("a", (), "?")]) == [Answer("a", "yes")]
    assert len(chat.asked) == 4
    chat.asked.clear()
    chat.reply = lambda body: (400, {}, b'{"error": "pictures are too large"}')
    with pytest.raises(EndpointError, match=r"HTTP 400 .*pictures are too large"):
        Endpoint(settings(chat.url)).ask([Question("a", (), "?")])
    assert len(chat.asked) == 1
    chat.reply = lambda body: (500, {}, b"broken")
    with pytest.raises(EndpointError, match="HTTP 500 broken after 3 attempts"):
        Endpoint(settings(chat.url, retries=2)).ask([Question("a", (), "?")])
    chat.reply = lambda body: (200, {}, json.dumps({"choices": []}).encode())
    with pytest.raises(EndpointError, match="without choices"):
        Endpoint(settings(chat.url)).ask([Question("a", (), "?")])


def test_a_server_that_says_nothing_is_given_up_after_its_time():
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and never answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        with pytest.raises(EndpointError, match=r"no answer within 0.2 s after 2 attempts"):
            Endpoint(settings(url, retries=1, timeout_s=0.2)).ask([Question("a", (), "?")])


def test_an_answer_that_was_cut_off_says_so(chat):
    chat.reply = lambda body: said("A table that", "length")
    assert Endpoint(settings(chat.url)).ask([Question("a", (), "?")]) == [Answer("a", "A table that", False)]


def test_requests_keep_to_the_rate(chat):
    import time

    engine = Endpoint(settings(chat.url, rate=20.0, parallel=8))
    begun = time.monotonic()
    engine.ask([Question(str(k), (), "?") for k in range(7)])
    assert time.monotonic() - begun >= 6 / 20 - 0.01  # the seventh may not leave before


def test_a_missing_server_model_or_key_is_said_before_the_run(chat, tmp_path):
    check_endpoint(settings(chat.url))
    with pytest.raises(EngineMissing, match="offers model-a"):
        config = settings(chat.url)
        config.model = "model-b"
        check_endpoint(config)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = taken.getsockname()[1]
    with pytest.raises(EngineMissing, match="vllm serve model-a"):
        check_endpoint(settings(f"http://127.0.0.1:{nobody}/v1"))
    with pytest.raises(EngineMissing, match="key_file"):
        check_endpoint(settings(chat.url, key_file=str(tmp_path / "none")))


def test_an_answer_about_another_clip_is_refused():
    class Confused:
        def ask(self, questions):
            return [Answer(q.clip_id, "") for q in reversed(questions)]

    with pytest.raises(ValueError, match="answered about"):
        ask(Confused(), [Question("a", (), "?"), Question("b", (), "?")])
