"""Why an inventory cannot be read, in words that a person can act on: each cause reads differently."""

from __future__ import annotations

import socket
import socketserver
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from control.clusto import answers
from control.clusto.errors import InventoryDown
from control.sources.fetch import Fetcher
from tests.borrowed import beside
from tests.control.clusto.support import new_store, running


def why(url: str, token: str | None = None) -> str:
    """Behind the request, which is named first."""
    with pytest.raises(InventoryDown) as caught:
        Fetcher(url, token).read()
    head = f"GET {url}/query/get_entities: "
    assert str(caught.value).startswith(head)
    return str(caught.value).removeprefix(head)


@contextmanager
def deaf() -> Iterator[int]:
    """A port of loopback that takes no further connection: its queue of one is full."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for sock in (first, second):
            sock.setblocking(False)
            sock.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


def test_refused() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        said = why(f"http://127.0.0.1:{unused.getsockname()[1]}")
    assert said.startswith("cannot connect: refused, nothing listens on that port; is the inventory running")


def test_unknown_name(monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    said = why("http://inventory.invalid:9996")
    assert said.startswith("cannot connect: no address is known for that name (Name or service not known)")


def test_no_connection_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "CONNECT_TIMEOUT_S", 0.2)
    with deaf() as port:
        said = why(f"http://127.0.0.1:{port}")
    assert said.startswith("cannot connect: no connection within 0 s; is that machine up")


class SpeaksFirst(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        self.request.recv(1 << 16)


def test_no_tls() -> None:
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), SpeaksFirst)
    server.daemon_threads = True
    with beside(server):
        said = why(f"https://127.0.0.1:{server.server_address[1]}")
    assert said.startswith("cannot connect: no TLS (")


@pytest.mark.parametrize(
    "token, step",
    [(None, "set dhcp.api_token, its token"), ("wrong", "correct dhcp.api_token, which it refuses")],
)
def test_not_let_in(tmp_path: Path, token: str | None, step: str) -> None:
    store = new_store(tmp_path)
    with running(store, "right") as url:
        said = why(url, token)
    assert said == f"status 401, wanted 200: Wanted a header Authorization: Bearer TOKEN; {step}"
