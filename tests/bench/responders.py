"""A small DHCP server on loopback that misbehaves on purpose: what it does wrong is what a bench has to count."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address

OWN_ID = bytes([127, 0, 0, 1])
FIRST_MAC, FIRST_ADDRESS = 0x020000000000, int(IPv4Address("10.96.1.0"))


@dataclass(slots=True)
class Asked:
    """A request: its number since the start, the host's number, its options."""

    number: int
    host: int
    payload: bytes
    options: dict[int, bytes]

    def reply(self, address: int | None = None, kind: int | None = None) -> bytes:
        """The right reply, or one with another address or type."""
        asked = self.options[53][0]
        right = {1: 2, 3: 5, 8: 5}.get(asked, 6)
        given = FIRST_ADDRESS + self.host if address is None else address
        body = bytearray(self.payload[:240])
        body[0], body[16:20] = 2, given.to_bytes(4, "big")
        said = bytes([53, 1, right if kind is None else kind, 54, 4]) + OWN_ID + bytes([51, 4, 0, 0, 14, 16])
        if 82 in self.options:
            said += bytes([82, len(self.options[82])]) + self.options[82]
        return bytes(body) + said + b"\xff"


Behaviour = Callable[[Asked], list[tuple[float, bytes]]]  # (seconds to wait, reply) in order


def right(asked: Asked) -> list[tuple[float, bytes]]:
    return [(0.0, asked.reply())]


def _options(payload: bytes) -> dict[int, bytes]:
    found, at = {}, 240
    while at < len(payload) and payload[at] != 255:
        if payload[at] == 0:
            at += 1
            continue
        found[payload[at]] = payload[at + 2 : at + 2 + payload[at + 1]]
        at += 2 + payload[at + 1]
    return found


@contextmanager
def responder(behaviour: Behaviour) -> Iterator[int]:
    """Port of a server on 127.0.0.1 that behaves like that; it answers where a request came from."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)

        def serve() -> None:
            number = 0
            while True:
                payload, address = sock.recvfrom(2048)
                if payload == b"end":
                    return
                host = int.from_bytes(payload[28:34], "big") - FIRST_MAC
                for wait, reply in behaviour(Asked(number, host, payload, _options(payload))):
                    if wait:
                        time.sleep(wait)  # the fault that is asked for: a late reply
                    sock.sendto(reply, address)
                number += 1

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield sock.getsockname()[1]
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
                end.sendto(b"end", sock.getsockname())
            thread.join(20)
