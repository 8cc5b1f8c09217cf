"""A board for the tests: its ASGI application asked directly, or its process beside a running service."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

HOST = "127.0.0.1:9970"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    text: str


def ask(app: Any, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> Answer:
    """headers: host=HOST unless said; `_` stands for `-`."""

    async def talk() -> Answer:
        said = {"host": HOST} | {name.replace("_", "-"): value for name, value in headers.items()}
        where, _, query = path.partition("?")
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
            "path": where, "raw_path": where.encode(), "query_string": query.encode(), "root_path": "",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in said.items()],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 9970),
        }  # fmt: skip
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await app(scope, receive, send)
        start = next(message for message in sent if message["type"] == "http.response.start")
        content = b"".join(message.get("body", b"") for message in sent if message["type"] == "http.response.body")
        fields = {name.decode().lower(): value.decode("latin-1") for name, value in start["headers"]}
        return Answer(start["status"], fields, content.decode())

    return asyncio.run(talk())


def opened(folder: Path) -> None:
    """pytest's folders are their user's, and the board is another."""
    for each in (folder, *folder.parents):
        if each == Path(tempfile.gettempdir()):
            break
        each.chmod(0o755)


class Board:
    """A `bootstorm board`."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.lines: list[str] = []
        self.is_up = threading.Event()
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            if "the board is at" in line:
                self.is_up.set()
        self.is_up.set()


@contextmanager
def boarding(conf: Path, port: int) -> Iterator[Board]:
    """conf: a services.conf with a board that listens on a port of 127.0.0.1."""
    argv = [sys.executable, "-P", "-m", "control", "board", "-c", str(conf)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        board = Board(process, port)
        try:
            assert board.is_up.wait(60) and process.poll() is None, "\n".join(board.lines)
            yield board
        finally:
            process.terminate()
            try:
                process.wait(30)
            finally:
                process.kill()
                board.thread.join(30)
