"""Captures of tcpdump and Wireshark -> the DHCP datagrams in them.

pcap and pcapng; Ethernet with or without VLAN tags, Linux cooked, or bare IPv4.  Frames that are no DHCP are counted by
what they are instead.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

DATAGRAMS_MAX = 100_000
FRAME_BYTES_MAX = 1 << 18  # what tcpdump itself takes at most
BOOT_PORT = 4011  # PXE's
PORTS = {67, 68, BOOT_PORT}
RAW_IP = 101
_ETHERNET, _COOKED = 1, 113
_LINKS = {_ETHERNET: "Ethernet", RAW_IP: "bare IP", _COOKED: "Linux cooked"}
_IPV4, _VLAN, _UDP = 0x0800, {0x8100, 0x88A8, 0x9100}, 17
_PCAPNG = b"\x0a\x0d\x0d\x0a"
_INTERFACE_BLOCK, _SIMPLE_BLOCK, _PACKET_BLOCK, _SECTION_BLOCK = 1, 3, 6, 0x0A0D0D0A
_PCAP: dict[bytes, tuple[Literal["<", ">"], float]] = {  # byte order, seconds a unit of the fraction
    b"\xd4\xc3\xb2\xa1": ("<", 1e-6),
    b"\xa1\xb2\xc3\xd4": (">", 1e-6),
    b"\x4d\x3c\xb2\xa1": ("<", 1e-9),
    b"\xa1\xb2\x3c\x4d": (">", 1e-9),
}
MAGICS = {_PCAPNG, *_PCAP}


class CaptureBroken(Exception):
    """A file that is no capture, or that ends in the middle; names the file and the frame."""


class Datagram(NamedTuple):
    """One UDP datagram of DHCP.  frame: its number in the file, from 1; addresses are ints in host order."""

    frame: int
    time_s: float  # since 1970, as the capture says
    source: int
    source_port: int
    destination: int
    destination_port: int
    payload: bytes


@dataclass(slots=True)
class Capture:
    """skipped: what else there was -> how many frames."""

    datagrams: list[Datagram] = field(default_factory=list)
    frames: int = 0
    skipped: dict[str, int] = field(default_factory=dict)


Frame = tuple[int, float, bytes]  # link type, time, content


def read_capture(path: Path) -> Capture:
    """Raises CaptureBroken, and OSError for a file that cannot be read."""
    capture = Capture()
    with path.open("rb") as file:
        magic = file.read(4)
        if magic not in MAGICS:
            raise CaptureBroken(f"{path}: begins with {magic.hex() or 'nothing'}, wanted a pcap or pcapng capture")
        frames = pcapng_frames(file) if magic == _PCAPNG else pcap_frames(file, magic)
        try:
            for link, time_s, content in frames:
                capture.frames += 1
                found = dhcp_of(link, content, capture.frames, time_s)
                if isinstance(found, Datagram) and len(capture.datagrams) == DATAGRAMS_MAX:
                    found = f"DHCP after the first {DATAGRAMS_MAX:,}"
                if isinstance(found, Datagram):
                    capture.datagrams.append(found)
                else:
                    capture.skipped[found] = capture.skipped.get(found, 0) + 1
        except CaptureBroken as broken:
            raise CaptureBroken(f"{path}: frame {capture.frames + 1}: {broken}") from broken
    return capture


def exactly(file: BinaryIO, count: int, what: str) -> bytes:
    if not 0 <= count <= FRAME_BYTES_MAX:
        raise CaptureBroken(f"{what} of {count} bytes, wanted at most {FRAME_BYTES_MAX}")
    content = file.read(count)
    if len(content) != count:
        raise CaptureBroken(f"{what} ends after {len(content)} of {count} bytes: the file was cut")
    return content


def pcap_frames(file: BinaryIO, magic: bytes) -> Iterator[Frame]:
    order, unit_s = _PCAP[magic]
    link = struct.unpack_from(f"{order}I", exactly(file, 20, "the file's header"), 16)[0] & 0x0FFFFFFF
    check_link(link)
    while head := file.read(16):
        if len(head) < 16:
            raise CaptureBroken(f"its header ends after {len(head)} of 16 bytes: the file was cut")
        seconds, fraction, length, _whole = struct.unpack(f"{order}4I", head)
        yield link, seconds + fraction * unit_s, exactly(file, length, "a frame")


def check_link(link: int) -> None:
    if link not in _LINKS:
        raise CaptureBroken(f"link type {link}, wanted {', '.join(f'{n} ({name})' for n, name in _LINKS.items())}")


def pcapng_frames(file: BinaryIO) -> Iterator[Frame]:
    """The magic was the type of the first section's block."""
    order: Literal["<", ">"] = "<"
    links: list[tuple[int, float]] = []  # of the section's interfaces: link type, seconds a tick
    block = _SECTION_BLOCK
    while True:
        length_bytes = exactly(file, 4, "a block's length")
        if block == _SECTION_BLOCK:
            mark = exactly(file, 4, "a section's byte order")
            if mark not in (b"\x4d\x3c\x2b\x1a", b"\x1a\x2b\x3c\x4d"):
                raise CaptureBroken(f"byte order {mark.hex()}, wanted 1a2b3c4d")
            order, links = ("<" if mark[0] == 0x4D else ">"), []
        length = struct.unpack(f"{order}I", length_bytes)[0] - (16 if block == _SECTION_BLOCK else 12)
        body = exactly(file, length, "a block")
        exactly(file, 4, "a block's second length")
        if block == _INTERFACE_BLOCK and len(body) >= 8:
            links.append((struct.unpack_from(f"{order}H", body)[0], tick_s(body[8:], order)))
        elif block == _PACKET_BLOCK and len(body) >= 20:
            at, high, low, captured = struct.unpack_from(f"{order}4I", body)
            if at >= len(links):
                raise CaptureBroken(f"names interface {at} of {len(links)}")
            check_link(links[at][0])
            yield links[at][0], (high << 32 | low) * links[at][1], body[20 : 20 + captured]
        elif block == _SIMPLE_BLOCK and len(body) >= 4 and links:
            check_link(links[0][0])
            yield links[0][0], 0.0, body[4 : 4 + struct.unpack_from(f"{order}I", body)[0]]
        head = file.read(4)
        if not head:
            return
        if len(head) < 4:
            raise CaptureBroken(f"a block's type ends after {len(head)} of 4 bytes: the file was cut")
        block = struct.unpack(f"{order}I", head)[0]


def tick_s(options: bytes, order: str) -> float:
    """Seconds a tick of an interface's clock: its option 9 (if_tsresol), a millionth without."""
    at = 0
    while at + 4 <= len(options):
        code, length = struct.unpack_from(f"{order}HH", options, at)
        if code == 9 and length == 1 and at + 4 < len(options):
            value = options[at + 4]
            return float(2.0 ** -(value & 0x7F) if value & 0x80 else 10.0**-value)
        at += 4 + (length + 3) // 4 * 4
    return 1e-6


def dhcp_of(link: int, frame: bytes, number: int, time_s: float) -> Datagram | str:
    """The datagram of a frame, or what the frame is instead."""
    if link == RAW_IP:
        ether, at = _IPV4, 0
    elif link == _COOKED:
        ether, at = int.from_bytes(frame[14:16], "big"), 16
    else:
        ether, at = int.from_bytes(frame[12:14], "big"), 14
    while ether in _VLAN and at + 4 <= len(frame):
        ether, at = int.from_bytes(frame[at + 2 : at + 4], "big"), at + 4
    if ether != _IPV4 or len(frame) < at + 20 or frame[at] >> 4 != 4:
        return "no IPv4"
    if frame[at + 9] != _UDP:
        return "no UDP"
    if struct.unpack_from("!H", frame, at + 6)[0] & 0x3FFF:
        return "fragments of IPv4"
    udp = at + (frame[at] & 15) * 4
    if len(frame) < udp + 8:
        return "cut by the capture"
    source_port, destination_port, length = struct.unpack_from("!HHH", frame, udp)
    if not PORTS & {source_port, destination_port}:
        return "other UDP ports"
    if length < 8 or len(frame) < udp + length:
        return "cut by the capture"
    source, destination = struct.unpack_from("!II", frame, at + 12)
    payload = frame[udp + 8 : udp + length]
    return Datagram(number, time_s, source, source_port, destination, destination_port, payload)
