"""What is served where, and to whom."""

from __future__ import annotations

import socket

from infer.serve.place import address, choose_token, is_own, listen


def test_only_addresses_of_this_machine_need_no_token() -> None:
    hosts = ("127.0.0.1", "localhost", "::1", "127.0.0.9", "0.0.0.0", "::", "192.168.0.7", "example.org")
    assert [host for host in hosts if is_own(host)] == ["127.0.0.1", "localhost", "::1", "127.0.0.9"]
    assert [host for host in hosts if choose_token(host, None) is None] == list(hosts[:4])
    assert choose_token("0.0.0.0", None) != choose_token("0.0.0.0", None)
    assert {choose_token(host, "a long word") for host in hosts} == {"a long word"}


def test_the_address_opens_what_listens() -> None:
    with listen("127.0.0.1", 0) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            pass
        assert address("::1", server, "a b") == f"http://[::1]:{port}/?token=a%20b"
        assert address("0.0.0.0", server, None) == f"http://{socket.gethostname()}:{port}/"
