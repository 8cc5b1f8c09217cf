"""The XDP program as a table: which frames go to a worker's AF_XDP socket, and to which; all others pass untouched.

Plain DHCP requests for this machine are taken; whatever is odd about a frame (a VLAN tag, IP options, a fragment, a
length that does not fit) leaves it to the kernel, and so to the ordinary sockets.  Workers are chosen by the rule of
fastpath.sockets.sockets.choose.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

from fastpath.sockets.bpf import (
    CALL_ADJUST_META,
    CALL_BOOTTIME_NS,
    CALL_REDIRECT_MAP,
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
    Line,
    alu,
    alu32,
    big_endian,
    call,
    call_kernel,
    jump,
    jump_if,
    label,
    leave,
    load,
    load_map,
    store,
)
from fastpath.sockets.sockets import MIX

XDP_PASS, XDP_REDIRECT = 2, 4
ADDRESSES_MAX = 64
STAMP_BYTES = 8  # before the frame: CLOCK_BOOTTIME (ext/xsk.pxd)
FRAME_MAX = 1536  # what is longer the ordinary sockets count as truncated
_DATA, _END, _META, _QUEUE = 0, 4, 8, 16  # of struct xdp_md
_IP, _UDP, _PAYLOAD = 14, 34, 42  # places in a frame
_CHADDR, _XID, _OPTIONS = _PAYLOAD + 28, _PAYLOAD + 4, _PAYLOAD + 240
_LEAST = _OPTIONS + 4
_UDP_PROTOCOL, _FRAGMENT = 17, 0x3FFF
_ENODATA = -61


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What the program of one interface takes.

    addresses: ours, and the broadcasts of their networks.  vlan_tag: the kernel's function that tells a VLAN tag which
    the driver has taken off a frame; None where drivers leave tags in the frame."""

    mac: bytes
    addresses: Sequence[IPv4Address]
    port: int
    workers: int
    # fd of the map: those of queue 0, of queue 1 ...; of each the workers' plain ones, then their urgent ones
    sockets: int
    vlan_tag: int | None


def taking(place: Place) -> list[Line]:
    """R6 context, R7 the frame, R9 the worker's number, then its socket's."""
    return [
        alu(R6, "=", R1),
        load("u32", R7, R1, _DATA),
        load("u32", R8, R1, _END),
        alu(R2, "=", R7),
        alu(R2, "+=", _LEAST),
        jump_if(R2, ">", R8, "pass"),
        *_for_this_machine(place),
        *_plain_udp(place.port),
        *_fitting_lengths(),
        *([] if place.vlan_tag is None else _untagged(place.vlan_tag)),
        *_socket(place.workers),
        *_stamp(),
        load_map(R1, place.sockets),
        alu(R2, "=", R9),
        alu(R3, "=", XDP_PASS),  # where nobody listens
        call(CALL_REDIRECT_MAP),
        leave(),
        label("pass"),
        alu(R0, "=", XDP_PASS),
        leave(),
    ]


def _for_this_machine(place: Place) -> list[Line]:
    """By Ethernet and by IP address; of everything else we are the router, or nobody."""
    mac_high, mac_low = struct.unpack("=IH", place.mac)
    return [
        load("u32", R2, R7, 0),
        load("u16", R3, R7, 4),
        *_if_equal(R2, mac_high, "other mac"),
        jump_if(R3, "==", mac_low, "address"),
        label("other mac"),
        *_if_equal(R2, 0xFFFFFFFF, "pass"),
        jump_if(R3, "!=", 0xFFFF, "pass"),
        label("address"),
        load("u32", R2, R7, _IP + 16),
        alu32(R4, "=", -1),
        jump_if(R2, "==", R4, "ours"),
        *(line for address in place.addresses for line in _address(address)),
        jump("pass"),
        label("ours"),
    ]


def _if_equal(register: int, value: int, other: str) -> list[Line]:
    """Goes on when the 32 bits are equal: a jump's own value would be sign-extended."""
    return [alu32(R4, "=", value), jump_if(register, "!=", R4, other)]  # type: ignore[arg-type]


def _address(address: IPv4Address) -> list[Line]:
    (value,) = struct.unpack("=I", address.packed)
    return [alu32(R4, "=", value), jump_if(R2, "==", R4, "ours")]


def _plain_udp(port: int) -> list[Line]:
    return [
        load("u16", R2, R7, 12),
        jump_if(R2, "!=", _swapped(0x0800), "pass"),
        load("u8", R2, R7, _IP),
        jump_if(R2, "!=", 0x45, "pass"),
        load("u16", R2, R7, _IP + 6),
        jump_if(R2, "&", _swapped(_FRAGMENT), "pass"),
        load("u8", R2, R7, _IP + 9),
        jump_if(R2, "!=", _UDP_PROTOCOL, "pass"),
        load("u8", R2, R7, _IP + 12),  # sources that the kernel refuses: loopback, multicast, reserved
        jump_if(R2, "==", 127, "pass"),
        jump_if(R2, ">=", 224, "pass"),
        load("u16", R2, R7, _UDP + 2),
        jump_if(R2, "!=", _swapped(port), "pass"),
    ]


def _fitting_lengths() -> list[Line]:
    return [
        alu(R4, "=", R8),
        alu(R4, "-=", R7),  # bytes of the frame
        jump_if(R4, ">", FRAME_MAX, "pass"),
        load("u16", R2, R7, _IP + 2),
        big_endian(R2, 16),
        load("u16", R3, R7, _UDP + 4),
        big_endian(R3, 16),
        alu(R3, "+=", 20),
        jump_if(R2, "!=", R3, "pass"),
        alu(R2, "+=", _IP),
        jump_if(R2, ">", R4, "pass"),
        jump_if(R2, "<", _LEAST, "pass"),  # padding of a short datagram
    ]


def _untagged(function: int) -> list[Line]:
    """The driver may have taken the tag off; then the frame is for another interface."""
    return [
        alu(R1, "=", R6),
        alu(R2, "=", R10),
        alu(R2, "+=", -8),
        alu(R3, "=", R10),
        alu(R3, "+=", -16),
        call_kernel(function),
        alu32(R1, "=", _ENODATA),
        alu32(R0, "=", R0),
        jump_if(R0, "!=", R1, "pass"),
    ]


def _socket(workers: int) -> list[Line]:
    """R9 := index into the map."""
    return [
        load("u32", R2, R7, _CHADDR),
        load("u16", R3, R7, _CHADDR + 4),
        alu(R3, "|=", R2),
        load("u32", R9, R7, _CHADDR + 2),
        jump_if(R3, "!=", 0, "mix"),
        load("u32", R9, R7, _XID),  # chaddr all zero (InfiniBand, RFC 4390)
        label("mix"),
        big_endian(R9, 32),
        alu32(R9, "*=", MIX),
        alu32(R9, ">>=", 16),
        alu32(R9, "%=", workers),
        load("u32", R2, R7, _OPTIONS),
        big_endian(R2, 32),
        alu(R2, ">>=", 8),
        jump_if(R2, "!=", 0x350103, "queue"),
        alu(R9, "+=", workers),
        label("queue"),
        load("u32", R2, R6, _QUEUE),
        alu(R2, "*=", 2 * workers),
        alu(R9, "+=", R2),
    ]


def _stamp() -> list[Line]:
    """When the frame came, before it; a driver that has no room there leaves it out.  The frame's own bytes stay."""
    return [
        call(CALL_BOOTTIME_NS),
        alu(R8, "=", R0),
        alu(R1, "=", R6),
        alu(R2, "=", -STAMP_BYTES),
        call(CALL_ADJUST_META),
        jump_if(R0, "!=", 0, "go"),
        load("u32", R2, R6, _META),
        load("u32", R3, R6, _DATA),
        alu(R5, "=", R2),
        alu(R5, "+=", STAMP_BYTES),
        jump_if(R5, ">", R3, "go"),
        store("u64", R2, 0, R8),
        label("go"),
    ]


def _swapped(value: int) -> int:
    """As a load of 16 bits in network order shows it."""
    return int(struct.unpack("=H", struct.pack("!H", value))[0])
