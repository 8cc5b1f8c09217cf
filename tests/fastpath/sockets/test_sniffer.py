"""The observer's socket on the loopback interface, and the port that is left to the server that has it."""

from __future__ import annotations

import logging
import os
import re
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator

import pytest

from fastpath.sockets import sniffer, sockets
from fastpath.sockets.sniffer import open_tap, tap_filter
from fastpath.sockets.sockets import is_taken, open_slots
from tests.ports import free_port

LIMIT_S = 30.0
SAID = b"bootstorm-tap-test"


@pytest.fixture
def opened() -> Iterator[socket.socket]:
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0).close()
    except PermissionError:
        pytest.skip("no CAP_NET_RAW for a packet socket; run as root, or inside `unshare -rn`")
    with socket.socket(fileno=open_tap(["lo"])) as sock:
        sock.settimeout(LIMIT_S)
        yield sock


def send(port: int, text: bytes, source_port: int = 0) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", source_port))
        sock.sendto(SAID + text, ("127.0.0.1", port))


def heard(sock: socket.socket, until: bytes) -> list[bytes]:
    """What was said by send() up to a certain text, each once: loopback shows all twice.  Others may talk meanwhile."""
    found: list[bytes] = []
    for _ in range(10_000):
        content = sock.recv(2048)
        text = content[28:]
        if text.startswith(SAID) and text[len(SAID) :] not in found:
            assert content[0] == 0x45 and content[9] == 17, "the IP header is at offset 0"
            found.append(text[len(SAID) :])
            if found[-1] == until:
                return found
    raise AssertionError(f"{until!r} never came: {found}")


def test_only_DHCP_s_ports_pass_in_both_directions(opened: socket.socket) -> None:
    send(69, b"tftp")
    send(67, b"request")
    send(6767, b"another port")
    send(68, b"reply")
    send(66, b"below")
    send(67, b"end")
    assert heard(opened, b"end") == [b"request", b"reply", b"end"]


def test_the_source_port_is_enough(opened: socket.socket) -> None:
    """A relay's reply may go to a port of its own (RFC 8357)."""
    try:
        send(6768, b"from 67", source_port=67)
    except OSError as error:
        pytest.skip(f"UDP port 67 of 127.0.0.1: {error.strerror}")
    send(67, b"end")
    assert heard(opened, b"end") == [b"from 67", b"end"]


def test_datagrams_carry_the_kernel_s_time(opened: socket.socket) -> None:
    send(67, b"now")
    _content, ancillary, _flags, address = opened.recvmsg(2048, 128)
    ((level, kind, stamp),) = ancillary
    assert (level, kind, address[0]) == (socket.SOL_SOCKET, 35, "lo")
    assert abs(struct.unpack_from("qq", stamp)[0] - time.time()) < 600


@pytest.mark.skipif(shutil.which("ip") is None, reason="ip is not installed (Debian package iproute2)")
def test_the_interfaces_named_are_promiscuous(opened: socket.socket) -> None:
    """A mirror port's frames are addressed to others."""
    said = subprocess.run(["ip", "-d", "link", "show", "lo"], capture_output=True, text=True, timeout=60, check=True)
    assert re.search(r"promiscuity [1-9]", said.stdout)


def test_the_filter_jumps_to_its_own_last_lines() -> None:
    program = tap_filter()
    for at, (code, true, false, _value) in enumerate(program):
        if code & 7 == 5:
            assert at + 1 + true < len(program) and at + 1 + false < len(program)
    assert [program[-2][3], program[-1][3]] == [0xFFFFFFFF, 0]


def test_an_interface_that_is_not_there_is_said(opened: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        os.close(open_tap(["nowhere0"]))
    assert "dhcp.interfaces names nowhere0, which is not there" in caplog.text


@pytest.fixture
def holder() -> Iterator[socket.socket]:
    """A server that would share its port, as dnsmasq does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0))
        yield sock


def test_a_port_that_a_server_would_share_stays_its_own(
    opened: socket.socket, holder: socket.socket, caplog: pytest.LogCaptureFixture
) -> None:
    port = holder.getsockname()[1]
    assert is_taken(port)
    with caplog.at_level(logging.WARNING):
        slots, _ = open_slots(2, port, None, observe=True)
    assert f"another server of this machine has UDP port {port}" in caplog.text
    for slot in slots:
        with socket.socket(fileno=slot.udp) as udp:
            assert udp.getsockname()[1] == 0
        os.close(slot.packet)


def test_a_free_port_is_taken_and_that_is_said(opened: socket.socket, caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    assert not is_taken(port)
    with caplog.at_level(logging.WARNING):
        (slot,), _ = open_slots(1, port, None, observe=True)
    assert f"UDP port {port} is ours while we observe" in caplog.text
    with socket.socket(fileno=slot.udp) as udp:
        assert udp.getsockname()[1] == port and is_taken(port)
    os.close(slot.packet)


def test_without_the_right_to_a_packet_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "no")

    monkeypatch.setattr(sniffer.socket, "socket", refused)
    with pytest.raises(sockets.SocketsFailed, match="CAP_NET_RAW"):
        open_tap([])
