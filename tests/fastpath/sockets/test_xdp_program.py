"""The XDP program, run by the kernel on crafted frames: what it takes, what it leaves alone, who gets it."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

import pytest

from fastpath.sockets import bpf
from fastpath.sockets.xdp_program import XDP_PASS, XDP_REDIRECT, Place, taking
from tests.fastpath.sockets import inside

OURS, OTHER, EVERYBODY = bytes.fromhex("02aabbccddee"), bytes.fromhex("02aabbccddef"), b"\xff" * 6
ADDRESS, SUBNET, WORKERS = IPv4Address("10.20.0.2"), IPv4Address("10.20.255.255"), 4
MAC = bytes.fromhex("525400123456")


@dataclass
class Frame:
    """A DISCOVER as a client broadcasts it, and how it differs."""

    to: bytes = EVERYBODY
    kind: int = 0x0800
    first: int = 0x45
    fragment: int = 0
    protocol: int = 17
    source: str = "0.0.0.0"
    destination: str = "255.255.255.255"
    port: int = 67
    chaddr: bytes = MAC
    xid: int = 0x01020304
    message: int = 1
    options: bytes = b""
    payload: int = 300  # bytes
    ip_length: int | None = None
    udp_length: int | None = None
    behind: bytes = b""

    def raw(self) -> bytes:
        bootp = struct.pack("!4BI20x", 1, 1, 6, 0, self.xid) + self.chaddr.ljust(208, b"\0") + b"\x63\x82\x53\x63"
        body = (bootp + bytes([53, 1, self.message]) + self.options + b"\xff").ljust(self.payload, b"\0")[
            : self.payload
        ]
        udp = struct.pack("!4H", 68, self.port, self.udp_length or 8 + len(body), 0) + body
        addresses = IPv4Address(self.source).packed + IPv4Address(self.destination).packed
        ip = struct.pack(
            "!BBHHHBBH", self.first, 0, self.ip_length or 20 + len(udp), 0, self.fragment, 64, self.protocol, 0
        )
        return self.to + OTHER + struct.pack("!H", self.kind) + ip + addresses + udp + self.behind


@dataclass
class Program:
    fd: int
    sockets: int
    xsks: list[socket.socket]

    def keep_only(self, index: int) -> None:
        """Leave one socket in the map: what is meant for another one passes."""
        for at, sock in enumerate(self.xsks):
            key = struct.pack("=I", at)
            if at == index:
                bpf.update(self.sockets, key, struct.pack("=I", sock.fileno()))
            else:
                inside.delete(self.sockets, key)


@pytest.fixture
def program() -> Iterator[Program]:
    try:
        sockets = bpf.create_map(bpf.MAP_XSKMAP, 4, 4, 2 * WORKERS, name="workers")
        xsks = [socket.socket(44, socket.SOCK_RAW, 0) for _ in range(2 * WORKERS)]
    except OSError as failed:
        if failed.errno in (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EAFNOSUPPORT):
            pytest.skip(f"no AF_XDP here: {failed}")
        raise
    place = Place(mac=OURS, addresses=[ADDRESS, SUBNET], port=67, workers=WORKERS, sockets=sockets, vlan_tag=None)
    fd = bpf.load_program(bpf.PROGRAM_XDP, taking(place), name="tested", flags=bpf.XDP_HAS_FRAGS)
    for at, sock in enumerate(xsks):
        bpf.update(sockets, struct.pack("=I", at), struct.pack("=I", sock.fileno()))
    yield Program(fd, sockets, xsks)
    for sock in xsks:
        sock.close()
    os.close(fd)
    os.close(sockets)


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(Frame(), id="broadcast"),
        pytest.param(Frame(to=OURS, source="10.9.0.1", destination=str(ADDRESS)), id="relayed"),
        pytest.param(Frame(source="10.20.0.9", destination=str(SUBNET)), id="subnet broadcast"),
        pytest.param(Frame(message=3), id="REQUEST"),
        pytest.param(Frame(fragment=0x4000), id="do not fragment"),
        pytest.param(Frame(behind=bytes(6)), id="padding behind"),
        pytest.param(Frame(payload=244), id="the shortest"),
        pytest.param(Frame(payload=1472), id="the longest"),
    ],
)
def test_taken(program: Program, frame: Frame) -> None:
    assert inside.run_once(program.fd, frame.raw()) == XDP_REDIRECT


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(Frame(to=OTHER), id="for another card"),
        pytest.param(Frame(to=b"\xff\xff\xff\xff\xdd\xee"), id="half a broadcast"),
        pytest.param(Frame(to=OURS[:4] + b"\xff\xff"), id="half our address"),
        pytest.param(Frame(to=bytes.fromhex("01005e000001")), id="multicast"),
        pytest.param(Frame(to=OURS, destination="10.20.0.3"), id="to be forwarded"),
        pytest.param(Frame(destination="224.0.0.1"), id="multicast address"),
        pytest.param(Frame(kind=0x8100), id="VLAN"),
        pytest.param(Frame(kind=0x88A8), id="QinQ"),
        pytest.param(Frame(kind=0x86DD), id="IPv6"),
        pytest.param(Frame(kind=0x0806), id="ARP"),
        pytest.param(Frame(first=0x46), id="IP options"),
        pytest.param(Frame(first=0x65), id="version 6"),
        pytest.param(Frame(fragment=0x2000), id="first fragment"),
        pytest.param(Frame(fragment=0x0010), id="later fragment"),
        pytest.param(Frame(protocol=6), id="TCP"),
        pytest.param(Frame(port=68), id="a reply"),
        pytest.param(Frame(port=53), id="DNS"),
        pytest.param(Frame(source="127.0.0.1"), id="from loopback"),
        pytest.param(Frame(source="255.255.255.255"), id="from everybody"),
        pytest.param(Frame(source="224.0.0.1"), id="from multicast"),
        pytest.param(Frame(payload=243), id="too short"),
        pytest.param(Frame(payload=100, behind=bytes(200)), id="short with padding"),
        pytest.param(Frame(payload=1500), id="too long"),
        pytest.param(Frame(ip_length=400), id="IP longer than the frame"),
        pytest.param(Frame(ip_length=300), id="IP shorter than UDP"),
        pytest.param(Frame(udp_length=400), id="UDP longer than IP"),
    ],
)
def test_left_alone(program: Program, frame: Frame) -> None:
    assert inside.run_once(program.fd, frame.raw()) == XDP_PASS


def test_every_cut_passes(program: Program) -> None:
    whole = Frame().raw()
    assert {inside.run_once(program.fd, whole[:length]) for length in range(14, len(whole))} == {XDP_PASS}


def test_without_a_socket_it_passes(program: Program) -> None:
    program.keep_only(-1)
    assert inside.run_once(program.fd, Frame().raw()) == XDP_PASS


def worker_of(mac: bytes, xid: int = 0) -> int:
    """As fastpath.sockets.sockets.steer computes it."""
    key = int.from_bytes(mac[2:], "big") if any(mac) else xid
    return ((key * 0x9E3779B1 & 0xFFFFFFFF) >> 16) % WORKERS


@pytest.mark.parametrize("message", [1, 3])
@pytest.mark.parametrize("step", [1, 4, 16])
def test_the_worker_is_the_sockets_own(program: Program, step: int, message: int) -> None:
    """The same as the classic filters choose, or a host would be two workers' business."""
    seen = set()
    for number in range(24):
        mac = (0x525400000000 + number * step).to_bytes(6, "big")
        worker = worker_of(mac)
        seen.add(worker)
        program.keep_only(worker + (WORKERS if message == 3 else 0))
        assert inside.run_once(program.fd, Frame(chaddr=mac, message=message).raw()) == XDP_REDIRECT, mac.hex()
    assert len(seen) == WORKERS


def test_without_a_hardware_address_the_xid_spreads(program: Program) -> None:
    for xid in range(1 << 16, 24 << 16, 1 << 16):
        program.keep_only(worker_of(bytes(6), xid))
        assert inside.run_once(program.fd, Frame(chaddr=bytes(6), xid=xid).raw()) == XDP_REDIRECT


def test_a_request_behind_other_options_waits_with_the_rest(program: Program) -> None:
    plain = Frame(message=3).raw()
    moved = plain.replace(b"\x63\x82\x53\x63\x35\x01\x03", b"\x63\x82\x53\x63\x00\x35\x01\x03")[: len(plain)]
    program.keep_only(worker_of(MAC))
    assert inside.run_once(program.fd, moved) == XDP_REDIRECT
