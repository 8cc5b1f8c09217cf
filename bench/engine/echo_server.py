"""The echo server of `bootstorm bench limit`, as a process: `python -m bench.engine.echo_server ADDRESS full|bare BYTES
PEER`."""

from __future__ import annotations

import ctypes
import signal
import socket
import struct
import sys

from bench.engine.echo import Echo

SO_ATTACH_FILTER, SO_SNDBUFFORCE, SO_RCVBUFFORCE, SO_ATTACH_REUSEPORT_CBPF, IP_PKTINFO = 26, 32, 33, 51, 8
RECEIVE_BYTES, SEND_BYTES = 256 << 20, 64 << 20  # a lone worker's
# As a worker's programs for a unicast datagram: a look at the packet's type; a hash of chaddr that ends in socket 0.
_FILTER = [(0x20, 0, 0, 0xFFFFF004), (0x15, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF)]
_GROUP = [
    (0x80, 0, 0, 0),
    (0x35, 2, 0, 34),
    (0x00, 0, 0, 0),
    (0x05, 0, 0, 6),
    (0x20, 0, 0, 28),
    (0x20, 0, 0, 30),
    (0x24, 0, 0, 0x9E3779B1),
    (0x74, 0, 0, 16),
    (0x94, 0, 0, 1),
    (0x16, 0, 0, 0),
    (0x16, 0, 0, 0),
]


def _attach(sock: socket.socket, option: int, program: list[tuple[int, int, int, int]]) -> None:
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer)))


def open_echo(address: str, peer: str, *, bare: bool, port: int = 67) -> socket.socket:
    """A worker's socket; bare: one that is connected to its only peer."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for force, plain, size in (
        (SO_RCVBUFFORCE, socket.SO_RCVBUF, RECEIVE_BYTES),
        (SO_SNDBUFFORCE, socket.SO_SNDBUF, SEND_BYTES),
    ):
        try:
            sock.setsockopt(socket.SOL_SOCKET, force, size)
        except PermissionError:  # an ordinary user gets what net.core allows
            sock.setsockopt(socket.SOL_SOCKET, plain, size)
    if bare:
        sock.bind((address, port))
        sock.connect((peer, 67))
        return sock
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    _attach(sock, SO_ATTACH_FILTER, _FILTER)
    _attach(sock, SO_ATTACH_REUSEPORT_CBPF, _GROUP)
    sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
    sock.bind(("", port))
    return sock


def main(address: str, kind: str, reply_bytes: str, peer: str) -> None:
    """Echo until SIGTERM."""
    bare = kind == "bare"
    with open_echo(address, peer, bare=bare) as sock:
        # By default SIGTERM ends the process at once: nothing is left to tidy up, and the loop holds no GIL to ask.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        Echo(sock.fileno(), bare=bare, reply_bytes=int(reply_bytes)).run()


if __name__ == "__main__":
    main(*sys.argv[1:5])
