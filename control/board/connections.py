"""What a connection may cost: a request that does not come, an answer that is not read, and many from one address end.

uvicorn's own protocol waits for both for ever, and counts connections only once a request has come.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from ipaddress import IPv6Address, ip_address
from typing import Any, ClassVar, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from control.board.gate import HEADERS

REQUEST_S: Final = 10.0  # for a whole request, from the connection or the answer before on
READ_S: Final = 20.0  # for the other end to read something of what waits for it
OPEN_MAX: Final = 600
OF_ONE_MAX: Final = 64  # of one address, loopback left out: a proxy may be there
SAID_EVERY_S: Final = 10.0


class Doors:
    """Who is in.  open_max: connections."""

    def __init__(self, open_max: int = OPEN_MAX) -> None:
        self.open_max = open_max
        self.inside: Counter[str] = Counter()
        self.waiting: dict[Connection, None] = {}  # for a request, the longest first

    def take(self, peer: str) -> bool:
        """Whether one more may come; then it is counted until left()."""
        if self.inside[peer] >= OF_ONE_MAX and not ip_address(peer.partition("/")[0]).is_loopback:
            return False
        if self.inside.total() >= self.open_max and self.waiting:
            next(iter(self.waiting)).end()  # who has said nothing yet makes room
        elif self.inside.total() >= self.open_max:
            return False
        self.inside[peer] += 1
        return True

    def left(self, peer: str) -> None:
        self.inside[peer] -= 1
        if not self.inside[peer]:
            del self.inside[peer]


def peer_of(host: str) -> str:
    """What counts as one: an IPv4 address, or an IPv6 /64, of whose addresses a host takes any."""
    address = ip_address(host.partition("%")[0])
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address) if address.is_loopback else f"{IPv6Address(int(address) >> 64 << 64)}/64"


class Connection(H11Protocol):
    """doors: of all of them."""

    doors: ClassVar[Doors]
    peer = ""  # as it is counted; "": it is not
    request_timer: asyncio.TimerHandle | None = None
    read_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        peer = peer_of((transport.get_extra_info("peername") or ("127.0.0.1",))[0])
        if not self.doors.take(peer):
            self.send_alone(503, "so many connections are open already; try again in a moment")
            return
        self.peer = peer
        self.look()

    def connection_lost(self, exc: Exception | None) -> None:
        self.leave()
        super().connection_lost(exc)

    def leave(self) -> None:
        """Once."""
        for timer in (self.request_timer, self.read_timer):
            if timer is not None:
                timer.cancel()
        self.request_timer = self.read_timer = None
        self.doors.waiting.pop(self, None)
        if self.peer:
            self.doors.left(self.peer)
            self.peer = ""

    def end(self) -> None:
        """Whatever was still to be said is lost: the other end does not take it, or said nothing."""
        self.leave()
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self.peer:
            super().data_received(data)
            self.look()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self.look()

    def look(self) -> None:
        """Whether something of a request is waited for."""
        if self.transport.is_closing() or self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self.doors.waiting.pop(self, None)
            if self.request_timer is not None:
                self.request_timer.cancel()
                self.request_timer = None
        elif self.request_timer is None and self.peer:
            self.doors.waiting[self] = None
            self.request_timer = self.loop.call_later(REQUEST_S, self.end)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.read_timer is None:
            self.read_timer = self.loop.call_later(READ_S, self.end)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.read_timer is not None:
            self.read_timer.cancel()
            self.read_timer = None

    def timeout_keep_alive_handler(self) -> None:
        """close() would wait for who does not read."""
        if self.transport.get_write_buffer_size():
            self.end()
        else:
            super().timeout_keep_alive_handler()

    def send_400_response(self, msg: str) -> None:
        """As every answer, with what it says to a browser; h11 may be in no state to send it."""
        self.send_alone(400, msg)

    def send_alone(self, status: int, words: str) -> None:
        """An answer to no request, and the end."""
        lines = [f"HTTP/1.1 {status} -", "content-type: text/plain; charset=utf-8", "connection: close"]
        lines += [f"content-length: {len(words) + 1}", *(f"{name}: {value}" for name, value in HEADERS.items())]
        self.transport.write("\r\n".join([*lines, "", words + "\n"]).encode())
        self.transport.close()
        self.look()


def protocol(doors: Doors) -> type[Connection]:
    """For uvicorn, which makes one of each connection."""
    return type("Connection", (Connection,), {"doors": doors})


class Seldom(logging.Filter):
    """A record of each kind once in SAID_EVERY_S, without a traceback after the first: what others can bring about as
    often as they like must not fill a disk."""

    def __init__(self) -> None:
        super().__init__()
        self.said: dict[Any, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.module, record.lineno, record.levelno
        now_s = time.monotonic()
        at_s, left_out = self.said.get(kind, (now_s - SAID_EVERY_S, 0))
        if now_s - at_s < SAID_EVERY_S:
            self.said[kind] = at_s, left_out + 1
            return False
        if kind in self.said:
            record.exc_info = None
        if left_out:
            record.msg, record.args = f"{record.getMessage()} (and {left_out} times since the last such line)", ()
        self.said[kind] = now_s, 0
        return True
