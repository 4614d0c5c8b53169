"""Who may come in: the token where there is one, and no page of another site."""

from __future__ import annotations

import hmac
from typing import Any
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from infer.serve.place import is_own

_POLICY = "default-src 'self'; img-src 'self' blob: data:; frame-ancestors 'none'"
_GUARDS = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-store"}


class Door:
    """Before the application: refuses strangers, and pages that are not its own.

    A browser sends the name it was given (Host) and the site whose page asks (Origin): a request from
    another site is refused, and without a token so is every name but this machine's own. The token comes as
    `?token=`, which leaves a cookie, or as `Authorization: Bearer`.

    cookie: its name; two servers of one machine share cookies, whatever their ports. policy: what the page
    may load, a Content-Security-Policy.
    """

    def __init__(
        self, app: ASGIApp, token: str | None, cookie: str = "sana_wm_token", policy: str = _POLICY,
    ) -> None:
        self.app, self.token, self.cookie = app, token, cookie
        self.headers = {"content-security-policy": policy, **_GUARDS}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        fault = self._fault(scope, headers)
        if fault is not None:
            if scope["type"] == "websocket":
                await receive()
                await send({"type": "websocket.close", "code": 1008, "reason": fault})
                return
            await JSONResponse({"message": fault}, 401 if self.token else 403,
                               self.headers)(scope, receive, send)
            return
        if self._brings_token(scope) and scope["type"] == "http" and scope["path"] == "/":
            answer = RedirectResponse("./", 303, self.headers)
            answer.set_cookie(self.cookie, self.token or "", httponly=True, samesite="lax",
                              secure=scope["scheme"] == "https")
            await answer(scope, receive, send)
            return
        await self.app(scope, receive, self._guarded(send))

    def _fault(self, scope: Scope, headers: Headers) -> str | None:
        host = headers.get("host", "")
        origin = headers.get("origin")
        try:
            name = urlsplit(f"//{host}").hostname or ""
            is_foreign = origin is not None and urlsplit(origin).netloc != host
        except ValueError:  # a bracket without its other
            return "the request names no host"
        if self.token is None and not is_own(name):
            return f"this server answers to localhost and 127.0.0.1, not to {name[:80]!r}"
        if is_foreign:
            return "the request comes from a page of another site"
        if self.token is not None and not (self._brings_token(scope) or self._knows_token(headers)):
            return "this server asks for its token: open the address that it printed when it was started"
        return None

    def _brings_token(self, scope: Scope) -> bool:
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
        return any(self._is_token(one) for one in given)

    def _knows_token(self, headers: Headers) -> bool:
        kind, _, bearer = headers.get("authorization", "").partition(" ")
        # Not SimpleCookie: one cookie of another server on this host that it cannot read hides all others.
        cookie = cookie_parser(headers.get("cookie", "")).get(self.cookie, "")
        return (kind.lower() == "bearer" and self._is_token(bearer)) or self._is_token(cookie)

    def _is_token(self, given: str) -> bool:
        return self.token is not None and hmac.compare_digest(given.encode(), self.token.encode())

    def _guarded(self, send: Send) -> Send:
        """`send`, with headers that keep the page to itself; what the answer says of those itself, counts."""
        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(raw=[*message.get("headers", [])])
                for name, value in self.headers.items():
                    headers.setdefault(name, value)
                message = {**message, "headers": headers.raw}
            await send(message)

        return guarded
