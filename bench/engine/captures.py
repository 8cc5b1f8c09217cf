"""Reads captures: classic pcap of Ethernet, IPv4 without fragments, UDP ports 67 and 68."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ORDERS = {  # magic number -> byte order, units a second of the time stamps
    b"\xd4\xc3\xb2\xa1": ("<", 10**6),
    b"\xa1\xb2\xc3\xd4": (">", 10**6),
    b"\x4d\x3c\xb2\xa1": ("<", 10**9),
    b"\xa1\xb2\x3c\x4d": (">", 10**9),
}
ETHERNET = 1
PORTS = (67, 68)


class CaptureUnreadable(ValueError):
    """A file is no capture that this can read; says what it is."""


@dataclass(frozen=True, slots=True)
class Datagram:
    """One DHCP message of a capture: seconds since 1970, BOOTP payload, whether it was sent to one host alone."""

    time_s: float
    payload: bytes
    unicast: bool = False

    @property
    def is_request(self) -> bool:
        return self.payload[0] == 1

    @property
    def mac(self) -> bytes:
        return self.payload[28:34]

    @property
    def xid(self) -> int:
        return int.from_bytes(self.payload[4:8], "big")


def read(path: Path) -> list[Datagram]:
    """DHCP messages over Ethernet hardware, in order; everything else in the file is left out.  CaptureUnreadable."""
    content = path.read_bytes()
    if content[:4] not in _ORDERS:
        kind = "pcapng: convert it with `editcap -F pcap`" if content[:4] == b"\x0a\x0d\x0d\x0a" else content[:4].hex()
        raise CaptureUnreadable(f"{path}: begins with {kind}, wanted a classic pcap")
    order, second = _ORDERS[content[:4]]
    (link,) = struct.unpack_from(order + "I", content, 20)
    if link & 0xFFFF != ETHERNET:
        raise CaptureUnreadable(f"{path}: link type {link & 0xFFFF}, wanted {ETHERNET} (Ethernet)")
    frames = ((time_s, _dhcp(frame)) for time_s, frame in _frames(content, order, second))
    return [Datagram(time_s, *found) for time_s, found in frames if found is not None]


def _frames(content: bytes, order: str, second: int) -> Iterator[tuple[float, bytes]]:
    at = 24
    while at + 16 <= len(content):
        seconds, fraction, length, _original = struct.unpack_from(order + "IIII", content, at)
        at += 16
        yield seconds + fraction / second, content[at : at + length]
        at += length


def _dhcp(frame: bytes) -> tuple[bytes, bool] | None:
    at = 14
    while frame[at - 2 : at] in (b"\x81\x00", b"\x88\xa8"):  # VLAN tags
        at += 4
    if frame[at - 2 : at] != b"\x08\x00" or len(frame) < at + 28 or frame[at + 9] != 17:
        return None
    if int.from_bytes(frame[at + 6 : at + 8], "big") & 0x3FFF:
        return None
    udp = at + 4 * (frame[at] & 15)
    _source, destination, length = struct.unpack_from("!HHH", frame, udp)
    payload = frame[udp + 8 : udp + length]
    known = destination in PORTS and len(payload) >= 240 and payload[236:240] == b"\x63\x82\x53\x63"
    if not known or payload[1:3] != b"\x01\x06":
        return None
    return payload, frame[at + 16 : at + 20] != b"\xff" * 4
