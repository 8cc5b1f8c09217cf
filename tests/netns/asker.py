"""Speaks for any machine or relay on several wires at once, and hears all that the servers say there.

Frames are made by hand, so that any source address, port and checksum can stand in them.  Every question has an end
that is an event: the reply that was wanted, or that of a sentinel, a machine that both servers know and that asks last.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import NamedTuple

from bench.engine.sockets import open_segment
from bench.lab.lab import Host, LabError
from tests.ext.packets import discover

ETH_P_IP = 0x0800
ALL = b"\xff" * 6
REPLY_S = 30.0  # machines under test may stand still


class Heard(NamedTuple):
    """A DHCP datagram of a server.  frame: as it came, from the Ethernet header on."""

    ifname: str
    frame: bytes
    to_mac: bytes
    source: int
    destination: int
    port: int
    payload: bytes
    source_port: int = 67


@dataclass
class Way:
    """One wire: our socket on it, our MAC there and the server's."""

    ifname: str
    socket: socket.socket
    mac: bytes
    server_mac: bytes


def mac_of(host: Host, ifname: str) -> bytes:
    return bytes.fromhex(host.read(f"/sys/class/net/{ifname}/address").strip().replace(":", ""))


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def frame_of(
    payload: bytes,
    macs: bytes,
    source: int,
    source_port: int,
    destination: int,
    checked: bool = True,
    to_port: int = 67,
) -> bytes:
    """An Ethernet frame.  macs: of the receiver, then of the sender.  checked False: no UDP checksum, which
    RFC 768 allows."""
    length = 8 + len(payload)
    pseudo = struct.pack("!IIBBH", source, destination, 0, 17, length)
    head = struct.pack("!HHH", source_port, to_port, length)
    udp = checksum(pseudo + head + b"\0\0" + payload) or 0xFFFF if checked else 0
    ip = struct.pack("!BBHHHBBHII", 0x45, 0, 20 + length, 1, 0, 64, 17, 0, source, destination)
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    return macs + struct.pack("!H", ETH_P_IP) + ip + head + struct.pack("!H", udp) + payload


def heard(ifname: str, frame: bytes) -> Heard | None:
    """None when it is no datagram from port 67 or 4011."""
    if len(frame) < 42 or frame[12:14] != b"\x08\x00" or frame[23] != 17:
        return None
    udp = 14 + (frame[14] & 15) * 4
    source_port, port, length = struct.unpack_from("!HHH", frame, udp)
    source, destination = struct.unpack_from("!II", frame, 26)
    if source_port not in (67, 4011):
        return None
    return Heard(ifname, frame, frame[:6], source, destination, port, frame[udp + 8 : udp + length], source_port)


@dataclass
class Asker:
    """host: where our ends of the wires are; server: the host at the other ends, under the same interface names."""

    host: Host
    server: Host
    ifnames: tuple[str, ...]
    sentinel: int  # MAC
    sentinel_ifname: str  # where it asks unless said otherwise
    ways: dict[str, Way] = field(default_factory=dict)
    xid: int = 0x5E000000

    def __enter__(self) -> Asker:
        for ifname in self.ifnames:
            sock, _ifindex = open_segment(ifname, self.host)
            self.ways[ifname] = Way(ifname, sock, mac_of(self.host, ifname), mac_of(self.server, ifname))
        return self

    def __exit__(self, *_error: object) -> None:
        for way in self.ways.values():
            way.socket.close()

    def send(
        self,
        ifname: str,
        payload: bytes,
        source: int,
        source_port: int,
        destination: int,
        checked: bool = True,
        to_port: int = 67,
    ) -> None:
        """A broadcast address goes to everybody, any other to the server; with giaddr it is a relay, we, that sends."""
        way = self.ways[ifname]
        everybody = destination == 0xFFFFFFFF or destination & 0xFF == 0xFF
        sender = payload[28:34] if payload[24:28] == bytes(4) else way.mac
        macs = (ALL if everybody else way.server_mac) + sender
        frame = frame_of(payload, macs, source, source_port, destination, checked, to_port)
        way.socket.sendto(frame, (ifname, 0))

    def hear(self, enough: Callable[[list[Heard]], bool]) -> list[Heard]:
        """What comes until it is enough.  LabError when it is not within REPLY_S."""
        found: list[Heard] = []
        deadline = time.monotonic() + REPLY_S
        while not enough(found):
            left = deadline - time.monotonic()
            if left <= 0:
                raise LabError(f"{self.server.name}: not enough within {REPLY_S:g} s, heard {found}")
            for sock in select.select([way.socket for way in self.ways.values()], [], [], left)[0]:
                ifname = next(way.ifname for way in self.ways.values() if way.socket is sock)
                if (one := heard(ifname, sock.recv(4096))) is not None:
                    found.append(one)
        return found

    def settle(self, ifname: str = "") -> list[Heard]:
        """Everything said so far: all that came before the answers to two questions of the sentinel, one by one.

        Two, because a server may send the replies of one batch in another order.  ifname: a server with a socket for
        each interface keeps the order on one wire only."""
        found: list[Heard] = []
        for _ in range(2):
            self.xid += 1
            marker = self.xid.to_bytes(4, "big")
            self.send(ifname or self.sentinel_ifname, discover(self.sentinel, xid=self.xid), 0, 68, 0xFFFFFFFF)
            found += self.hear(lambda some, marker=marker: any(each.payload[4:8] == marker for each in some))  # type: ignore[misc]
        return [each for each in found if int.from_bytes(each.payload[28:34], "big") != self.sentinel]

    def ask(
        self, ifname: str, payload: bytes, source: int, source_port: int, destination: int, checked: bool = True
    ) -> list[Heard]:
        """One request, and all that is answered to it: usually one reply, or none.  The sentinel is at home there."""
        self.send(ifname, payload, source, source_port, destination, checked)
        return self.settle(ifname)


def described(one: Heard) -> str:
    return (
        f"{one.ifname}: {IPv4Address(one.source)} -> {IPv4Address(one.destination)}:{one.port}, {one.to_mac.hex(':')}"
    )
