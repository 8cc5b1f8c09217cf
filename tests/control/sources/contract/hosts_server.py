"""The example server of docs/contract/, with rows that a test changes, and with any fault in place of an answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.borrowed import beside, loaded

EXAMPLE_FILE = Path(__file__).resolve().parents[4] / "docs/contract/server.py"
CLOSING = re.compile(rb"\A(HTTP/1.1 [^\n]+\n)")  # or the client would ask again where nobody listens
Row = dict[str, Any]
Fault = bytes | Iterable[bytes] | None


EXAMPLE: Any = loaded(EXAMPLE_FILE)


class Rows(EXAMPLE.Rows):  # type: ignore[name-defined,misc]
    """now: id -> row, as a test wants them.  tells: what an end line says besides `end` and `hosts`."""

    def __init__(self) -> None:
        super().__init__("")
        self.now: dict[str, Row] = {}
        self.tells = ("cursor", "total")
        self.has_etag = True

    def look(self) -> None:
        ids = [each for each in self.now.keys() | self.rows.keys() if self.now.get(each) != self.rows.get(each)]
        if ids:
            self.rows, self.version = json.loads(json.dumps(self.now)), self.version + 1
            self.changed.update(dict.fromkeys(ids, self.version))

    def answer(self, query: dict[str, list[str]], known_etag: str | None = None) -> tuple[int, str, list[Row]]:
        status, etag, lines = super().answer(query, known_etag if self.has_etag else None)
        if lines:
            lines[-1] = {key: value for key, value in lines[-1].items() if key in ("end", "hosts", *self.tells)}
        return status, etag if self.has_etag else "", lines

    def put(self, *rows: Row) -> None:
        self.now.update((str(row["id"]), row) for row in rows)


class Server(ThreadingHTTPServer):
    """spoil(target): raw octets to say instead, all at once or in pieces; None for the true answer.

    targets: what was asked for, with its query."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.rows, self.token = Rows(), ""
        self.spoil: Callable[[str], Fault] = lambda _target: None
        self.targets: list[str] = []
        self.connections = 0

    @property
    def url(self) -> str:
        return f"http+hosts://127.0.0.1:{self.server_address[1]}"


class Handler(EXAMPLE.Handler):  # type: ignore[name-defined,misc]
    server: Server

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_GET(self) -> None:
        self.server.targets.append(self.path)
        said = self.server.spoil(self.path)
        if said is None:
            super().do_GET()
            return
        self.close_connection = True
        try:
            for piece in (said,) if isinstance(said, bytes) else said:
                self.wfile.write(CLOSING.sub(rb"\1Connection: close\r\n", piece))
                self.wfile.flush()
        except OSError:
            return  # the client has heard enough

    def log_message(self, *_: Any) -> None:
        """Nothing: a failed test shows the targets."""


@contextmanager
def serving(*rows: Row) -> Iterator[Server]:
    with beside(Server()) as server:
        server.rows.put(*rows)
        yield server


def ok(*lines: Row | str, head: str = "") -> bytes:
    """An answer of status 200 with these lines."""
    body = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines).encode()
    return f"HTTP/1.1 200 OK\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


NETWORK: Row = {"id": "net1", "kind": "network", "name": "n1", "base": "10.1.0.0", "mask": "255.255.255.0"}
POOL: Row = {"id": "p1", "kind": "pool", "name": "racks", "dhcp": {"enabled": 1, "tftp_filename": "/pxelinux.0"}}


def host(number: int, **more: Any) -> Row:
    """h5, of id 5, with 02:00:00:00:00:05 and 10.1.0.5, in the pool."""
    row = {"id": str(number), "kind": "host", "name": f"h{number}", "mac": f"02:00:00:00:00:{number:02x}"}
    return row | {"address": f"10.1.0.{number}", "pool": "racks"} | more


SITE = (NETWORK, POOL, *(host(number) for number in range(2, 8)))


def end(hosts: int, **more: Any) -> Row:
    return {"end": True, "hosts": hosts, "cursor": "c1"} | more
