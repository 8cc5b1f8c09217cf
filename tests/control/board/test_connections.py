"""control/board/connections.py in a process: who says or reads nothing, or sends nonsense, costs nobody the board."""

from __future__ import annotations

import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from control.board import connections
from control.board.connections import Doors, peer_of
from tests.control.board.faked import descriptors, faked, get, overview, raw
from tests.control.board.test_board import until


@contextmanager
def silent(port: int, many: int, text: bytes = b"") -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        found = []
        for _ in range(many):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            try:
                sock.sendall(text)
            except OSError:  # it is closed already
                continue
            found.append(sock)
        yield found


def ended(sock: socket.socket) -> bool:
    try:
        return sock.recv(1 << 16) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("text", [b"", b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "])
@pytest.mark.waits
def test_connections_that_say_nothing_cost_nobody_the_board(tmp_path: Path, text: bytes) -> None:
    with faked(tmp_path) as (_fake, board, port), silent(port, 610, text) as socks:
        assert b" 200 " in get(port)[:20], "those who wait make room"
        assert all(map(ended, socks)), "and are let go in time"
        assert len(board.lines) < 20, board.lines


@pytest.mark.waits
def test_a_body_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    text = b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nx"
    with faked(tmp_path) as (_fake, board, port), silent(port, 1, text) as (sock,):
        assert ended(sock)
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", port)) as aborted:
                aborted.sendall(text)
        for _ in range(100):
            found = raw(port, b"\x16\x03\x01\r\n\r\n")
            assert b" 400 " in found[:20] and b"content-security-policy" in found.lower()
        assert not [line for line in board.lines if "Traceback" in line]
        assert len(board.lines) < 12, board.lines


def test_more_connections_than_descriptors(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
        try:
            _fake, board, port = stack.enter_context(faked(tmp_path))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        until(lambda: b"Serving" in get(port), "no figures")
        with silent(port, 400):
            assert b"Serving" in get(port)
        assert b"Serving" in get(port)
        assert len(board.lines) < 20, board.lines[:20]


@pytest.mark.waits
def test_a_live_page_that_reads_nothing_is_let_go(tmp_path: Path) -> None:
    turn = [0]

    def big(_: Any) -> Any:
        turn[0] += 1
        group = overview()["by"]["pool"]["a"]
        return overview(by={"pool": {f"{turn[0]} {number} {'x' * 250}": group for number in range(60)}})

    with faked(tmp_path, lambda fake: fake.answers.update(overview=big)) as (_fake, board, port), ExitStack() as stack:
        until(lambda: b"Serving" in get(port), "no figures")
        before = descriptors(board.process.pid)
        for _ in range(10):
            sock = stack.enter_context(socket.socket())
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", port))
            sock.sendall(f"GET /live HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        until(lambda: descriptors(board.process.pid) >= before + 7, "they do not come in")
        deadline = time.monotonic() + 150  # the kernel takes some megabytes first
        while descriptors(board.process.pid) > before + 2:
            assert time.monotonic() < deadline, "they are kept"
            time.sleep(0.5)


def test_one_address_may_have_so_many() -> None:
    doors = Doors()
    assert [doors.take("192.0.2.1") for _ in range(connections.OF_ONE_MAX)] == [True] * connections.OF_ONE_MAX
    assert not doors.take("192.0.2.1") and doors.take("192.0.2.2")
    doors.left("192.0.2.1")
    assert doors.take("192.0.2.1")
    room = connections.OPEN_MAX - doors.inside.total()
    assert all(doors.take("127.0.0.1") for _ in range(room)) and not doors.take("127.0.0.1")


class Silent:
    """A connection that waits to be thrown out."""

    is_out = False

    def end(self) -> None:
        self.is_out = True


def test_who_may_not_come_in_throws_nobody_out() -> None:
    doors, other = Doors(connections.OF_ONE_MAX + 1), Silent()
    assert all(doors.take("192.0.2.1") for _ in range(connections.OF_ONE_MAX)) and doors.take("192.0.2.2")
    doors.waiting[other] = None  # type: ignore[index]
    assert not doors.take("192.0.2.1") and not other.is_out
    assert doors.take("192.0.2.3") and other.is_out


def test_the_head_of_what_is_live_has_an_end(tmp_path: Path) -> None:
    with faked(tmp_path) as (_fake, _board, port), socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(f"HEAD /live HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
        found = b""
        while data := sock.recv(1 << 16):
            found += data
        assert b" 200 " in found[:20] and b"text/event-stream" in found


@pytest.mark.parametrize(
    "host, peer",
    [
        ("192.0.2.1", "192.0.2.1"), ("::ffff:192.0.2.1", "192.0.2.1"), ("2001:db8::1", "2001:db8::/64"), ("::1", "::1"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)  # fmt: skip
def test_what_counts_as_one(host: str, peer: str) -> None:
    assert peer_of(host) == peer
