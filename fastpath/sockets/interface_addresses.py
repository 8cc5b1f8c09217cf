"""This machine's IPv4 addresses by interface, read once, without a library that would cost a start 0.2 s.

The same list as control/service/links.py makes, which follows them from then on; a test compares the two.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Final

RTM_GETLINK, RTM_GETADDR = 18, 22
NLM_F_REQUEST, NLM_F_DUMP_INTR, NLM_F_DUMP = 0x1, 0x10, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
IFLA_IFNAME, IFLA_MTU = 3, 4
IFA_ADDRESS, IFA_LOCAL = 1, 2
IFA_F_SECONDARY = 0x1
LINKS_MAX: Final = 65_536  # as in control/service/links.py
ANSWER_BYTES: Final = 1 << 16
_MESSAGE = struct.Struct("=IHHII")  # nlmsghdr
_LINK = struct.Struct("=BxHiII")  # ifinfomsg
_ADDRESS = struct.Struct("=BBBBI")  # ifaddrmsg
_ATTRIBUTE = struct.Struct("=HH")
Address = tuple[int, str, int, int, int]
"""(ifindex, name, address as an int in host order, prefix, mtu)."""


def interface_addresses() -> list[Address]:
    """An interface's primary address before its others.  Raises OSError, also where they change meanwhile."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.bind((0, 0))
        names: dict[int, tuple[str, int]] = {}
        for payload in dumped(sock, RTM_GETLINK, _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0)):
            said = dict(attributes(payload[_LINK.size :]))
            mtu = int.from_bytes(said.get(IFLA_MTU, b"")[:4], sys.byteorder)
            names[_LINK.unpack_from(payload)[2]] = said.get(IFLA_IFNAME, b"").rstrip(b"\0").decode(), mtu or 1500
        found: list[tuple[int, int, int, Address]] = []
        for payload in dumped(sock, RTM_GETADDR, _ADDRESS.pack(socket.AF_INET, 0, 0, 0, 0)):
            _family, prefix, flags, _scope, index = _ADDRESS.unpack_from(payload)
            said = dict(attributes(payload[_ADDRESS.size :]))
            own = said.get(IFA_LOCAL) or said.get(IFA_ADDRESS)
            if own is not None and index in names:
                name, mtu = names[index]
                address = index, name, int(IPv4Address(own)), prefix, mtu
                found.append((index, flags & IFA_F_SECONDARY, len(found), address))
    return [address for *_order, address in sorted(found)][:LINKS_MAX]


def dumped(sock: socket.socket, kind: int, body: bytes) -> Iterator[bytes]:
    """The payload of each message of the kernel's answer."""
    sock.send(_MESSAGE.pack(_MESSAGE.size + len(body), kind, NLM_F_REQUEST | NLM_F_DUMP, kind, 0) + body)
    while True:
        data = sock.recv(ANSWER_BYTES)
        at = 0
        while at < len(data):
            length, type_, flags, _sequence, _port = _MESSAGE.unpack_from(data, at)
            if flags & NLM_F_DUMP_INTR:
                raise InterruptedError("the interfaces changed while they were read")
            payload = data[at + _MESSAGE.size : at + length]
            if type_ == NLMSG_ERROR:
                code = -struct.unpack_from("=i", payload)[0]
                raise OSError(code, os.strerror(code))
            if type_ == NLMSG_DONE:
                return
            yield payload
            at += _aligned(length)


def attributes(payload: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(payload):
        length, type_ = _ATTRIBUTE.unpack_from(payload, at)
        if length < _ATTRIBUTE.size:
            return
        yield type_, payload[at + _ATTRIBUTE.size : at + length]
        at += _aligned(length)


def _aligned(length: int) -> int:
    return max(length + 3 & ~3, 4)
