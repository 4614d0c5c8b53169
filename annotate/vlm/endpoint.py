"""A vision-language model behind any server that speaks OpenAI's chat completions (vLLM, SGLang, OpenAI)."""

from __future__ import annotations

import base64
import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from annotate.vlm.config import EndpointConfig, VlmConfig
from annotate.vlm.engine import Answer, Question
from annotate.weights import EngineMissing

_PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Refusals that may not be repeated."""
_LONGEST_WAIT_S = 60.0
_JPEG_QUALITY = 90
_CHECK_TIMEOUT_S = 15.0


class EndpointError(RuntimeError):
    """The server gave no answer; the message says what it said instead."""


class Endpoint:
    """Asks a server. Every answer comes over the connection of its own question, and bears its clip's id."""

    def __init__(self, config: VlmConfig) -> None:
        self._config = config
        self._server = config.endpoint
        self._key = read_key(config.endpoint)
        self._pace = Pace(config.endpoint.rate)

    def ask(self, questions: Sequence[Question]) -> list[Answer]:
        with ThreadPoolExecutor(max_workers=self._server.parallel) as pool:
            return list(pool.map(self._ask, questions))

    def _ask(self, question: Question) -> Answer:
        content: list[dict[str, Any]] = [
            {"type": "image_url", "image_url": {"url": _data_url(picture)}} for picture in question.pictures]
        content.append({"type": "text", "text": question.text})
        body = {"model": self._config.model, "messages": [{"role": "user", "content": content}],
                "max_tokens": self._config.max_tokens, "temperature": question.temperature}
        reply = self._post("/chat/completions", body)
        try:
            choice = reply["choices"][0]
            text, reason = choice["message"]["content"], choice.get("finish_reason")
        except (KeyError, IndexError, TypeError):
            raise EndpointError(f"{self._server.url}: answered without choices: {str(reply)[:200]}") from None
        return Answer(question.clip_id, text or "", reason != "length")

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        """The server's answer as JSON; asks again after refusals that may pass."""
        for attempt in range(self._server.retries + 1):
            self._pace.wait()
            try:
                return _request(self._server, path, self._key, self._server.timeout_s, body)
            except _Refused as error:
                if not error.may_pass or attempt == self._server.retries:
                    tried = f" after {attempt + 1} attempts" if attempt else ""
                    raise EndpointError(f"{self._server.url}{path}: {error}{tried}") from None
                wait_s = error.after_s if error.after_s is not None else self._server.wait_s * 2**attempt
                time.sleep(min(wait_s, _LONGEST_WAIT_S))
        raise AssertionError("unreachable")


class Pace:
    """Lets at most `rate` pass in a second, whichever threads they come from."""

    def __init__(self, rate: float | None) -> None:
        self._period = 1 / rate if rate else 0.0
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self) -> None:
        """Return when it is this caller's turn."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._period
        time.sleep(turn - now)


class _Refused(Exception):
    def __init__(self, reason: str, may_pass: bool, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.may_pass, self.after_s = may_pass, after_s


def check_endpoint(config: VlmConfig) -> None:
    """Raise EngineMissing unless the server answers and offers the model."""
    server = config.endpoint
    try:
        reply = _request(server, "/models", read_key(server), min(server.timeout_s, _CHECK_TIMEOUT_S))
    except _Refused as error:
        raise EngineMissing(f"vlm.endpoint.url={server.url}: {error}; start the server, such as `vllm serve "
                            f"{config.model}`, or correct the address") from None
    try:
        offered = [str(model["id"]) for model in reply["data"]]
    except (KeyError, TypeError):
        raise EngineMissing(
            f"vlm.endpoint.url={server.url}: /models gave {str(reply)[:100]}, expected a list of models; an "
            "address of OpenAI's protocol usually ends in /v1") from None
    if config.model not in offered:
        raise EngineMissing(f"vlm.model={config.model}: {server.url} offers "
                            f"{', '.join(offered) or 'no model'}")


def read_key(server: EndpointConfig) -> str | None:
    """The key in `key_file`. Raises EngineMissing where there is none."""
    if server.key_file is None:
        return None
    try:
        key = Path(server.key_file).expanduser().read_text().strip()
    except OSError as error:
        raise EngineMissing(f"vlm.endpoint.key_file={server.key_file}: cannot be read: {error}") from None
    if not key:
        raise EngineMissing(f"vlm.endpoint.key_file={server.key_file}: the file is empty")
    return key


def _request(
    server: EndpointConfig, path: str, key: str | None, timeout_s: float, body: dict[str, Any] | None = None,
) -> Any:
    """One request. Raises _Refused with a sentence for everything but an answer in JSON."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.url.rstrip("/") + path, data, headers)
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as reply:
            return json.loads(reply.read())
    except urllib.error.HTTPError as error:
        said = " ".join(error.read(400).decode(errors="replace").split())
        raise _Refused(f"HTTP {error.code} {said}".strip(), error.code in _PASSING,
                       _seconds(error.headers.get("Retry-After"))) from None
    except TimeoutError:
        raise _Refused(f"no answer within {timeout_s:g} s", True) from None
    except urllib.error.URLError as error:
        raise _Refused(f"cannot be reached: {error.reason}", True) from None
    except (OSError, http.client.HTTPException) as error:
        raise _Refused(f"the connection broke: {type(error).__name__} {error}".strip(), True) from None
    except ValueError:
        raise _Refused("answered with something else than JSON", True) from None


def _seconds(text: str | None) -> float | None:
    """What a server says by Retry-After, where that is a number of seconds."""
    try:
        return max(0.0, float(text)) if text is not None else None
    except ValueError:
        return None


def _data_url(picture: np.ndarray) -> str:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR),
                           [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()
