"""Writes captures (pcapng) of bare IPv4, with a direction and a comment to each datagram.

Wireshark, tshark, tcpdump and capture.py read them.  Link type raw IP: who sent an Ethernet frame is not known, and is
not made up.  Layout: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcapng-03.html
"""

from __future__ import annotations

import struct
from typing import BinaryIO

RAW_IP = 101
INBOUND, OUTBOUND = 1, 2
_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_BYTE_ORDER = 0x1A2B3C4D
_COMMENT, _APPLICATION, _NAME, _FLAGS, _RESOLUTION = 1, 4, 2, 2, 9
_UDP = 17
_HEADERS_BYTES = 28


class Writer:
    """One section with one interface: libpcap 1.10 refuses several of this link type."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        head = struct.pack("<IHHq", _BYTE_ORDER, 1, 0, -1)
        self.block(_SECTION, head + _option(_APPLICATION, b"bootstorm flight recorder"))
        options = _option(_NAME, b"bootstorm") + _option(_RESOLUTION, b"\x09")
        self.block(_INTERFACE, struct.pack("<HHI", RAW_IP, 0, 0) + options)

    def packet(self, time_ns: int, packet: bytes, whole_bytes: int, direction: int, comment: str) -> None:
        """packet: from the IPv4 header on, perhaps cut; whole_bytes: of the uncut one.  time_ns: since 1970."""
        head = struct.pack("<5I", 0, time_ns >> 32, time_ns & 0xFFFFFFFF, len(packet), whole_bytes)
        options = _option(_FLAGS, struct.pack("<I", direction)) + _option(_COMMENT, comment.encode("utf-8", "replace"))
        self.block(_PACKET, head + _padded(packet) + options)

    def block(self, kind: int, body: bytes) -> None:
        """Options, where there are any, stand last in the body and are closed here."""
        body += _option(0, b"")
        length = struct.pack("<I", 12 + len(body))
        self.file.write(struct.pack("<I", kind) + length + body + length)


def _padded(value: bytes) -> bytes:
    return value + bytes(-len(value) % 4)


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)


def ip_udp(
    source: int, source_port: int, destination: int, destination_port: int, payload: bytes, payload_bytes: int
) -> bytes:
    """The datagram with headers in front (RFC 791, RFC 768); addresses are ints in host order.

    payload_bytes: of the whole payload, of which `payload` may be the beginning; the lengths say the whole.  The UDP
    checksum is 0, "not computed": the real one is not known any more."""
    length = (_HEADERS_BYTES + payload_bytes) & 0xFFFF
    head = struct.pack("!BBHHHBBHII", 0x45, 0, length, 0, 0, 64, _UDP, 0, source, destination)
    total = sum(struct.unpack("!10H", head))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    udp = struct.pack("!HHHH", source_port, destination_port, length - 20, 0)
    return b"".join((head[:10], (~total & 0xFFFF).to_bytes(2, "big"), head[12:], udp, payload))
