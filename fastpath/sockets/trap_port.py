"""What the trap receiver works with and the supervisor keeps: socket, the memory of its queue, channel to control."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from fastpath.sockets.sockets import SO_RCVBUFFORCE, SocketsFailed, set_buffer

RECEIVE_BYTES = 64 << 20  # doubled by the kernel: 32,768 traps at the 4 kB that a network card's buffers take
QUEUE_BYTES = 64 << 20  # 300,000 traps of a MAC notification's size


@dataclass(frozen=True, slots=True)
class TrapFds:
    """receiver, control: the two ends of a channel of their own, kept so that either may die and leave the other's
    messages where they are."""

    udp: int
    queue: int
    receiver: int
    control: int

    def all(self) -> list[int]:
        return [self.udp, self.queue, self.receiver, self.control]


def open_traps(address: str, port: int, owner: tuple[int, int] | None) -> TrapFds:
    """The socket bound, the queue empty.  Raises SocketsFailed."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        udp.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_PKTINFO", 8), 1)
        set_buffer(udp, SO_RCVBUFFORCE, socket.SO_RCVBUF, RECEIVE_BYTES)
        udp.bind((address, port))
    except OSError as error:
        udp.close()
        raise SocketsFailed(
            f"cannot receive traps on {address}, UDP port {port}: {error.strerror}; see who holds it "
            f"(ss -lunp 'sport = {port}'), whether the address is this machine's, and that ports below 1024 are allowed"
        ) from error
    if owner is not None:
        os.fchown(udp.fileno(), *owner)
    queue = os.memfd_create("bootstorm-traps", os.MFD_CLOEXEC)
    os.ftruncate(queue, QUEUE_BYTES)
    receiver, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    receiver.setblocking(False)
    control.setblocking(False)
    return TrapFds(udp.detach(), queue, receiver.detach(), control.detach())
