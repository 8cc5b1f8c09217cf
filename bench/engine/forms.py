"""Requests with holes: what a client says, with places for what differs from host to host.

Invented ones (a firmware's options) and captured ones; blast.pyx and storms.pyx fill the holes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM = range(1, 9)
WANTED = {DISCOVER: OFFER, REQUEST: ACK, INFORM: ACK, RELEASE: 0, DECLINE: 0}
COOKIE = b"\x63\x82\x53\x63"
OPTIONS_AT, BOOTP_MIN = 240, 300
REQUESTED, KIND, SERVER_ID, CLIENT_ID, RELAY_AGENT, END = 50, 53, 54, 61, 82, 255
# What firmware asks for, more or less: mask, router, DNS, name, domain, root path, lease, vendor, boot server and file.
ASKED_FOR = bytes([1, 3, 6, 12, 15, 17, 28, 42, 43, 51, 54, 58, 59, 60, 66, 67])


@dataclass(frozen=True, slots=True)
class Form:
    """A request.  Offsets of holes, 0 = none; wants: type of the right reply, 0 = silence."""

    data: bytes
    kind: int
    wants: int
    requested_at: int = 0
    server_at: int = 0
    client_id_at: int = 0
    circuit_at: int = 0
    ciaddr: bool = False
    unicast: bool = False


class TakesTemplates(Protocol):
    def add_template(self, data: bytes, **holes: Any) -> int: ...


def add(wire: TakesTemplates, form: Form) -> int:
    """The form as a template of a wire; its index."""
    holes = {name: getattr(form, name) for name in form.__slots__ if name != "data"}
    return wire.add_template(form.data, **holes)


def options_of(payload: bytes) -> Iterator[tuple[int, int, int]]:
    """(code, offset of the value, length) of the options field, up to its end or to where it makes no sense."""
    at = OPTIONS_AT
    while at < len(payload) and payload[at] != END:
        if payload[at] == 0:
            at += 1
            continue
        if at + 2 > len(payload) or at + 2 + payload[at + 1] > len(payload):
            return
        yield payload[at], at + 2, payload[at + 1]
        at += 2 + payload[at + 1]


def kind_of(payload: bytes) -> int:
    """Message type, 0 for BOOTP."""
    return next((payload[at] for code, at, length in options_of(payload) if code == KIND and length == 1), 0)


def form(
    kind: int, options: Sequence[tuple[int, bytes]] = (), *, flags: int = 0, circuit: bool = False, secs: int = 0
) -> Form:
    """An invented request.  REQUEST is that of a client that takes an offer; circuit: the relay adds option 82."""
    head = struct.pack("!4BIHH", 1, 1, 6, 0, 0, secs, flags)
    picked = [(REQUESTED, bytes(4)), (SERVER_ID, bytes(4))] if kind == REQUEST else []
    client_id = [(CLIENT_ID, b"\x01" + bytes(6))]
    every = [(KIND, bytes([kind])), *picked, *client_id, *options, *([] if kind == RELEASE else [(55, ASKED_FOR)])]
    return fill(_whole(head.ljust(OPTIONS_AT - 4, b"\0") + COOKIE, every, circuit), WANTED[kind])


def _whole(head: bytes, options: Sequence[tuple[int, bytes]], circuit: bool) -> bytes:
    agent = [(RELAY_AGENT, bytes([1, 4, 0, 0, 0, 0]))] if circuit else []  # last, RFC 3046 section 2.1
    encoded = b"".join(bytes([code, len(value)]) + value for code, value in [*options, *agent])
    return (head + encoded + bytes([END])).ljust(BOOTP_MIN, b"\0")


def fill(payload: bytes, wants: int) -> Form:
    """Find the holes of a request.  One that was refused keeps the address that it asked for."""
    found: dict[str, int] = {}
    for code, at, length in options_of(payload):
        if code == REQUESTED and length == 4 and wants != NAK:
            found["requested_at"] = at
        elif code == SERVER_ID and length == 4:
            found["server_at"] = at
        elif code == CLIENT_ID and length == 7 and payload[at : at + 7] == b"\x01" + payload[28:34]:
            found["client_id_at"] = at + 1
        elif code == RELAY_AGENT and payload[at : at + 2] == b"\x01\x04":
            found["circuit_at"] = at + 2
    kind, ciaddr = kind_of(payload), payload[12:16] != bytes(4) and wants != NAK
    return replace(Form(payload, kind, wants, ciaddr=ciaddr), **found)  # type: ignore[arg-type]


def captured(payload: bytes, refused: bool = False, *, unicast: bool = False, circuit: bool = False) -> Form | None:
    """A captured client's request; None for what is no DHCP request.  What a relay had added is taken off.

    refused: the server said NAK, and ours shall, too.  unicast: it was sent to the server alone."""
    kind = kind_of(payload)
    if kind not in WANTED:
        return None
    options = [(code, payload[at : at + length]) for code, at, length in options_of(payload) if code != RELAY_AGENT]
    head = bytearray(payload[:OPTIONS_AT])
    head[3], head[24:28] = 0, bytes(4)  # hops, giaddr
    wants = NAK if refused and kind == REQUEST else WANTED[kind]
    made = fill(_whole(bytes(head), options, circuit), wants)
    return replace(made, data=_emptied(made), unicast=unicast and made.ciaddr)


def _emptied(made: Form) -> bytes:
    """Zeros where another host's words will stand: two hosts' requests of one kind become the same form."""
    data = bytearray(made.data)
    data[4:8], data[28:34] = bytes(4), bytes(6)  # xid, chaddr
    for at, length in ((made.requested_at, 4), (made.server_at, 4), (made.client_id_at, 6)):
        if at:
            data[at : at + length] = bytes(length)
    if made.ciaddr:
        data[12:16] = bytes(4)
    return bytes(data)
