"""The embedded inventory behind a server that counts, and that a test can make say anything, byte by byte."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from werkzeug.test import Client

from tests.borrowed import beside

Spoil = Callable[[str], bytes | None]


class Spoiling(ThreadingHTTPServer):
    """spoil(decoded target): the raw octets to answer with before the connection is closed, None for the true answer.

    targets: what was asked for, decoded.  most: connections that were open at one time."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, app: Any, spoil: Spoil) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.client_of = lambda: Client(app)
        self.spoil = spoil
        self.lock = threading.Lock()
        self.targets: list[str] = []
        self.open = self.most = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer waits 40 ms for a delayed ACK
    server: Spoiling

    def setup(self) -> None:
        super().setup()
        with self.server.lock:
            self.server.open += 1
            self.server.most = max(self.server.most, self.server.open)

    def finish(self) -> None:
        super().finish()
        with self.server.lock:
            self.server.open -= 1

    def do_GET(self) -> None:
        target = unquote(unquote(self.path))
        with self.server.lock:
            self.server.targets.append(target)
        raw = self.server.spoil(target)
        if raw is not None:
            self.wfile.write(raw)
            self.close_connection = True
            return
        answer = self.server.client_of().get(self.path, headers=dict(self.headers.items()))
        self.send_response(answer.status_code)
        self.send_header("Content-Type", answer.headers["Content-Type"])
        self.send_header("Content-Length", str(len(answer.data)))
        self.end_headers()
        self.wfile.write(answer.data)

    def log_message(self, *_: Any) -> None:
        """Nothing: a failed test shows the targets."""


@contextmanager
def spoiling(app: Any, spoil: Spoil = lambda _target: None) -> Iterator[Spoiling]:
    with beside(Spoiling(app, spoil)) as server:
        yield server


def http(body: bytes | str, status: str = "200 OK", length: int | None = None, *headers: str) -> bytes:
    """A raw answer.  length: what Content-Length claims, when not the truth."""
    raw = body.encode() if isinstance(body, str) else body
    claimed = len(raw) if length is None else length
    fixed = ["Content-Type: application/json", f"Content-Length: {claimed}", "Connection: close"]
    lines = [f"HTTP/1.1 {status}", *fixed, *headers]
    return "\r\n".join([*lines, "", ""]).encode() + raw
