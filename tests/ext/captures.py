"""Reads tests/data/pcaps: classic pcap of Ethernet frames, IPv4 without fragments, UDP."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PCAPS = Path(__file__).parents[1] / "data" / "pcaps"


@dataclass(frozen=True)
class Datagram:
    name: str  # file and frame number, for test ids
    source_mac: bytes
    source: int
    source_port: int
    destination: int
    destination_port: int
    payload: bytes


def datagrams(name: str) -> Iterator[Datagram]:
    """Every UDP datagram of tests/data/pcaps/<name>.pcap."""
    content = (PCAPS / f"{name}.pcap").read_bytes()
    order = "<" if content[:4] in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else ">"
    at, number = 24, 0
    while at < len(content):
        captured, length = struct.unpack_from(f"{order}II", content, at + 8)
        frame = content[at + 16 : at + 16 + captured]
        at += 16 + captured
        number += 1
        if captured != length or frame[12:14] != b"\x08\x00" or frame[23] != 17:
            raise ValueError(f"{name} frame {number}: cut, or no UDP over IPv4")
        udp = 14 + (frame[14] & 15) * 4
        source_port, destination_port, udp_length = struct.unpack_from("!HHH", frame, udp)
        source, destination = struct.unpack_from("!II", frame, 26)
        payload = frame[udp + 8 : udp + udp_length]
        yield Datagram(f"{name}-{number}", frame[6:12], source, source_port, destination, destination_port, payload)


def dhcp_captures() -> list[str]:
    return sorted(path.stem for path in PCAPS.glob("*.pcap") if not path.stem.startswith("snmp-"))
