"""What the kernel refuses to the UDP sockets of the packet path."""

import socket

import pytest

from fastpath.sockets import sockets


def test_no_udp_reply_is_a_broadcast() -> None:
    """giaddr may be the broadcast address of a network that we do not know; to the loopback's own, harmless here."""
    udp = socket.socket(fileno=sockets._open_udp(0, 1, 0, sockets.choose, 1 << 16))
    with udp:
        assert udp.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST) == 0
        with pytest.raises(PermissionError):
            udp.sendto(b"reply", ("127.255.255.255", 67))
