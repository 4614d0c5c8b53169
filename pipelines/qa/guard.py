"""Who may use the page: this machine without further ado, others with the token; nobody from another site."""

from __future__ import annotations

import hmac
from typing import Any
from urllib.parse import parse_qs

from pipelines.qa.config import is_own

COOKIE = "sana_wm_qa"
HEADER = b"x-requested-with"
"""A header that other sites cannot send along without being allowed to, which they are not."""
_POLICY = ("default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
           "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
_ADDED = [(b"content-security-policy", _POLICY.encode()), (b"x-content-type-options", b"nosniff"),
          (b"referrer-policy", b"no-referrer"), (b"x-frame-options", b"DENY")]


class Guard:
    """ASGI middleware.

    token: what everyone must show, in the address once and then as a cookie. None: nothing, but then only
    requests that name this machine as their host are answered, lest a foreign name that resolves to it does.
    """

    def __init__(self, app: Any, token: str | None) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        refusal = self._refusal(scope, headers, given)
        if refusal is not None:
            await _answer(send, *refusal)
            return
        added = list(_ADDED)
        if self._token and given:
            cookie = f"{COOKIE}={self._token}; HttpOnly; SameSite=Strict; Path=/"
            added.append((b"set-cookie", cookie.encode()))

        async def guarded(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self._app(scope, receive, guarded)

    def _refusal(
        self, scope: dict[str, Any], headers: dict[bytes, bytes], given: str,
    ) -> tuple[int, str] | None:
        if self._token is None:
            host = headers.get(b"host", b"").decode("latin-1")
            name = host if host.endswith("]") else host.rsplit(":", 1)[0]
            if not is_own(name[1:-1] if name.startswith("[") else name):
                return 421, (f"this page answers to localhost and 127.0.0.1, not to {host}; "
                             "start it with host=... to use it from elsewhere")
        elif not any(hmac.compare_digest(one.encode(), self._token.encode())
                     for one in (given, _cookie(headers.get(b"cookie", b"")))):
            return 401, "the token is missing or wrong: open the whole address that the command printed"
        if scope["method"] not in ("GET", "HEAD") and HEADER not in headers:
            return 403, "only the page itself may send this"
        return None


def _cookie(header: bytes) -> str:
    for part in header.decode("latin-1").split(";"):
        name, _, value = part.strip().partition("=")
        if name == COOKIE:
            return value
    return ""


async def _answer(send: Any, status: int, sentence: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *_ADDED]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": sentence.encode()})
