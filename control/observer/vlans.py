"""VLAN tags that the kernel delivers beside a frame, and the interface of this machine that each of them belongs to.

Network card or kernel take an IEEE 802.1Q tag off the frame; a packet socket that asks for PACKET_AUXDATA still gets it
(packet(7)).  So a trunk's frame is seen on the trunk first, where its bytes look untagged, and then once more on the
VLAN's own interface, if the machine has one.
"""

from __future__ import annotations

import logging
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

log = logging.getLogger("bootstorm.observer")

SOL_PACKET, PACKET_AUXDATA = 263, 8
REREAD_S = 10.0  # between two looks at the interfaces for the sake of tags that none of them has
CLIMB_MAX = 8  # interfaces one above the other: a port, its bond, that one's bridge
ANSWER_S = 1.0
_AUXDATA = struct.Struct("=IIIHHHH")  # status, two lengths, two offsets, TCI, TPID: linux/if_packet.h
_VLAN_VALID, _TPID_VALID = 0x10, 0x40
_DOT1Q, _VLAN_MASK = 0x8100, 0x0FFF
# linux/netlink.h, linux/rtnetlink.h, linux/if_link.h
_HEAD, _LINK, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=BxHiII"), struct.Struct("=HH")
_NLMSG_ERROR, _NLMSG_DONE, _RTM_NEWLINK, _RTM_GETLINK, _REQUEST_DUMP = 2, 3, 16, 18, 0x301
_IFNAME, _PARENT, _MASTER, _LINKINFO, _PARENT_ELSEWHERE = 3, 5, 10, 18, 37
_KIND, _DATA, _VLAN_ID, _VLAN_PROTOCOL = 1, 2, 1, 5
_TYPE_MASK = 0x3FFF  # without the flags for nesting and byte order
_CARRIES_ADDRESSES: Final = {"bridge", "bond", "team"}  # for its ports; a VRF's ports have their own


class Tag(NamedTuple):
    """protocol: the TPID, 0x8100 or a provider's 0x88a8."""

    protocol: int
    vlan: int


class Interface(NamedTuple):
    """parent, master: ifindexes, 0 for none.  tag: what a VLAN's interface takes from its parent."""

    ifindex: int
    name: str
    kind: str = ""
    parent: int = 0
    master: int = 0
    tag: Tag | None = None


def tag_of(ancillary: Iterable[tuple[int, int, bytes]]) -> Tag | None:
    """The tag that a datagram's frame had.  None: untagged, or with a priority alone (VLAN 0)."""
    for level, kind, content in ancillary:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA) and len(content) >= _AUXDATA.size:
            status, *_, control, protocol = _AUXDATA.unpack_from(content)
            vlan = control & _VLAN_MASK
            if not status & _VLAN_VALID or not vlan:
                return None
            return Tag(protocol if status & _TPID_VALID else _DOT1Q, vlan)
    return None


class Vlans:
    """The interfaces, read when a tag is met, and again for one that none of them has, at most once in REREAD_S.

    read: this machine's interfaces; may raise OSError."""

    def __init__(
        self,
        read: Callable[[], Iterable[Interface]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.read = read or read_interfaces
        self.clock = clock
        self.read_s = float("-inf")
        self.interfaces: dict[int, Interface] = {}
        self.by_tag: dict[tuple[int, Tag], Interface] = {}

    def forget(self) -> None:
        """The interfaces may have changed."""
        self.read_s = float("-inf")
        self.interfaces, self.by_tag = {}, {}

    def interface_of(self, ifindex: int, tag: Tag) -> Interface | None:
        """Where somebody who asks with that tag at that interface stands; None: this machine has no interface for it.

        The VLAN's interface may be that of the bond or bridge that the interface is a port of; and an address of the
        VLAN that of the bridge which its interface is a port of."""
        found = self.find(ifindex, tag)
        if found is None and self.clock() - self.read_s >= REREAD_S:
            self.look()
            found = self.find(ifindex, tag)
        return found

    def look(self) -> None:
        self.read_s = self.clock()
        try:
            self.interfaces = {each.ifindex: each for each in self.read()}
        except OSError as error:
            log.warning("the interfaces cannot be read, so VLAN tags are not understood: %s", error)
            return
        self.by_tag = {(each.parent, each.tag): each for each in self.interfaces.values() if each.tag and each.parent}

    def find(self, ifindex: int, tag: Tag) -> Interface | None:
        for at in self.climb(ifindex):
            if (found := self.by_tag.get((at, tag))) is not None:
                *_, top = self.climb(found.ifindex)
                return self.interfaces[top]
        return None

    def climb(self, ifindex: int) -> Iterator[int]:
        """An interface, and those that have the addresses in its place."""
        for _ in range(CLIMB_MAX):
            yield ifindex
            interface = self.interfaces.get(ifindex)
            master = self.interfaces.get(interface.master) if interface is not None else None
            if master is None or master.kind not in _CARRIES_ADDRESSES:
                return
            ifindex = master.ifindex


def read_interfaces() -> list[Interface]:
    """This network's interfaces, as rtnetlink(7) lists them; needs no privilege.  Raises OSError.

    In a few lines, since one file alone imports pyroute2, which is loaded in 0.2 s."""
    request = _HEAD.pack(_HEAD.size + _LINK.size, _RTM_GETLINK, _REQUEST_DUMP, 1, 0) + _LINK.pack(0, 0, 0, 0, 0)
    found: list[Interface] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(ANSWER_S)
        sock.send(request)
        while True:
            done, interfaces = interfaces_in(sock.recv(1 << 16))
            found += interfaces
            if done:
                return found


def interfaces_in(messages: bytes) -> tuple[bool, list[Interface]]:
    """(whether the list ends here, the interfaces in it).  Raises OSError for the kernel's refusal."""
    found: list[Interface] = []
    at = 0
    while at + _HEAD.size <= len(messages):
        length, kind, _flags, _sequence, _port = _HEAD.unpack_from(messages, at)
        body = messages[at + _HEAD.size : at + max(length, _HEAD.size)]
        if kind == _NLMSG_DONE:
            return True, found
        if kind == _NLMSG_ERROR:
            code = -struct.unpack_from("=i", body)[0] if len(body) >= 4 else 0
            raise OSError(code, "the kernel does not list its interfaces")
        if kind == _RTM_NEWLINK and len(body) >= _LINK.size:
            found.append(interface_in(body))
        at += max(length + 3 & ~3, _HEAD.size)
    return False, found


def interface_in(body: bytes) -> Interface:
    said = attributes_in(body[_LINK.size :])
    more = attributes_in(said.get(_LINKINFO, b""))
    kind, tag = text_in(more.get(_KIND, b"")), None
    data = attributes_in(more.get(_DATA, b"")) if kind == "vlan" else {}
    if len(data.get(_VLAN_ID, b"")) == 2:
        protocol = int.from_bytes(data.get(_VLAN_PROTOCOL, _DOT1Q.to_bytes(2, "big")), "big")
        tag = Tag(protocol, int(struct.unpack("=H", data[_VLAN_ID])[0]))
    parent = number_in(said.get(_PARENT, b"")) if _PARENT_ELSEWHERE not in said else 0
    ifindex = _LINK.unpack_from(body)[2]
    return Interface(ifindex, text_in(said.get(_IFNAME, b"")), kind, parent, number_in(said.get(_MASTER, b"")), tag)


def attributes_in(area: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at + _ATTRIBUTE.size <= len(area):
        length, kind = _ATTRIBUTE.unpack_from(area, at)
        if length < _ATTRIBUTE.size:
            break
        found[kind & _TYPE_MASK] = area[at + _ATTRIBUTE.size : at + length]
        at += length + 3 & ~3
    return found


def text_in(value: bytes) -> str:
    return value.rstrip(b"\0").decode("utf-8", "replace")


def number_in(value: bytes) -> int:
    return int(struct.unpack("=I", value)[0]) if len(value) == 4 else 0
