"""The observer's socket: what is on the wire of DHCP, to and from anybody, and nothing else.

Opened by the supervisor while it still may.  A filter in the kernel passes UDP ports 67 and 68 only; what this very
machine sends is seen, too, because the server that is watched may run here.
"""

from __future__ import annotations

import logging
import os
import socket
import struct
from collections.abc import Sequence

from fastpath.sockets.sockets import SO_ATTACH_FILTER, SO_RCVBUFFORCE, Instruction, SocketsFailed, attach, set_buffer

log = logging.getLogger("bootstorm.tap")

BUFFER_BYTES = 64 << 20  # a burst of 10,000 machines and the replies to it, at 2 kB each, twice over
_SO_TIMESTAMPNS = 35
_SOL_PACKET = 263
_ADD_MEMBERSHIP, _PROMISCUOUS = 1, 1
_ETH_P_ALL, _ETH_P_IP = 0x0003, 0x0800
_LD_B, _LD_H, _LD_H_AT_X, _LDX_HEADER = (
    0x30,
    0x28,
    0x48,
    0xB1,
)  # bytes at a fixed offset, behind X; X := length of IP header
_JEQ, _JSET, _RET = 0x15, 0x45, 0x06
_PROTOCOL = 0xFFFFF000  # SKF_AD_OFF + SKF_AD_PROTOCOL
_UDP, _FRAGMENT = 17, 0x3FFF
_PORTS = (67, 68)


def tap_filter() -> list[Instruction]:
    """Unfragmented UDP over IPv4, port 67 or 68 at either end.  The IP header stands at offset 0 (SOCK_DGRAM)."""
    return [
        (_LD_H, 0, 0, _PROTOCOL),
        (_JEQ, 0, 12, _ETH_P_IP),
        (_LD_B, 0, 0, 9),
        (_JEQ, 0, 10, _UDP),
        (_LD_H, 0, 0, 6),
        (_JSET, 8, 0, _FRAGMENT),
        (_LDX_HEADER, 0, 0, 0),
        (_LD_H_AT_X, 0, 0, 0),
        (_JEQ, 4, 0, _PORTS[0]),
        (_JEQ, 3, 0, _PORTS[1]),
        (_LD_H_AT_X, 0, 0, 2),
        (_JEQ, 1, 0, _PORTS[0]),
        (_JEQ, 0, 1, _PORTS[1]),
        (_RET, 0, 0, 0xFFFFFFFF),
        (_RET, 0, 0, 0),
    ]


def open_tap(interfaces: Sequence[str]) -> int:
    """The socket, on all interfaces; those named are promiscuous (all of them, when none is named).

    Raises SocketsFailed."""
    try:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL))
    except PermissionError as error:
        raise SocketsFailed(
            'dhcp.mode = "observe" cannot open a packet socket: needs CAP_NET_RAW; start as root'
        ) from error
    attach(sock, SO_ATTACH_FILTER, tap_filter())
    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    set_buffer(sock, SO_RCVBUFFORCE, socket.SO_RCVBUF, BUFFER_BYTES)
    present = {name: index for index, name in socket.if_nameindex() if name != "lo"}
    for name in interfaces or present:
        if name not in present and name != "lo":
            log.warning(
                "dhcp.interfaces names %s, which is not there: what it will see is only what is meant for it", name
            )
            continue
        try:
            member = struct.pack("iHH8x", present.get(name, 1), _PROMISCUOUS, 0)
            sock.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, member)
        except OSError as error:
            log.warning("%s does not become promiscuous: %s", name, error.strerror)
    sock.setblocking(False)
    return sock.detach()


def channel_ends() -> tuple[int, int]:
    """A message channel between observer and control, which outlives both."""
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (one, two):
        os.set_blocking(end.fileno(), False)
    return one.detach(), two.detach()
