"""What the kernel refuses to the UDP sockets of the packet path."""

import socket
from pathlib import Path

import pytest

from fastpath.sockets import sockets


def test_no_udp_reply_is_a_broadcast() -> None:
    """giaddr may be the broadcast address of a network that we do not know; to the loopback's own, harmless here."""
    udp = socket.socket(fileno=sockets._open_udp(0, 1, 0, sockets.choose, 1 << 16))
    with udp:
        assert udp.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST) == 0
        with pytest.raises(PermissionError):
            udp.sendto(b"reply", ("127.255.255.255", 67))


def test_replies_go_without_df_whatever_the_machine_s_default_is() -> None:
    """A relay's path may have a smaller MTU; tests/netns/test_relay_mtu.py sends a reply through one."""
    with socket.socket(fileno=sockets._open_udp(0, 1, 0, sockets.choose, 1 << 16)) as udp:
        assert udp.getsockopt(socket.IPPROTO_IP, sockets.IP_MTU_DISCOVER) == sockets.IP_PMTUDISC_OMIT
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as usual:
        default = int(Path("/proc/sys/net/ipv4/ip_no_pmtu_disc").read_text())
        assert (usual.getsockopt(socket.IPPROTO_IP, sockets.IP_MTU_DISCOVER) == 1) is (default == 0), (
            "by default it is on"
        )
