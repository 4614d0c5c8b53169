"""Where a page is served: the socket, the token that strangers need, the address to open."""

from __future__ import annotations

import ipaddress
import secrets
import socket
from urllib.parse import quote

_SHORTEST = 8
"""Characters of a token: with fewer it can be guessed."""
_EVERYWHERE = ("0.0.0.0", "::")


def check_place(port: int, token: str | None) -> None:
    """Raises ValueError, naming the key, for a port or a token that cannot be."""
    if not 0 <= port <= 65535:
        raise ValueError(f"port={port}, allowed 0 to 65535")
    if token is not None and len(token) < _SHORTEST:
        raise ValueError(f"token: too short to keep anybody out, allowed {_SHORTEST} characters or more")


def is_own(host: str) -> bool:
    """Whether a name or address is this machine's own, which no other can reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """A socket that already listens: who comes before the server waits, and a second server is told.

    Raises ValueError where that cannot be.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise ValueError(f"host={host} port={port}: cannot be listened on: {error.strerror or error}; "
                         "name others, or port=0 for any that is free") from None


def choose_token(host: str, token: str | None) -> str | None:
    """`token`; where there is none, a random one, or none at all on this machine's own address."""
    return token or (None if is_own(host) else secrets.token_urlsafe(16))


def address(host: str, listening: socket.socket, token: str | None) -> str:
    """What a browser opens; a server of all addresses is named by this machine's name."""
    name = socket.gethostname() if host in _EVERYWHERE else host
    name = f"[{name}]" if ":" in name else name
    return f"http://{name}:{listening.getsockname()[1]}/" + (f"?token={quote(token)}" if token else "")
