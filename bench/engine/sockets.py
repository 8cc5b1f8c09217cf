"""The generator's sockets, opened here or on a laboratory host: a relay's UDP socket, or a packet socket on a segment.

A socket belongs to the network in which it was made, whoever uses it: a helper inside the host makes it and hands it
over, so that the generator itself, its progress and its results stay in the process that asked for them.
"""

from __future__ import annotations

import fcntl
import json
import socket
import struct
import subprocess
import sys
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path

from bench.lab.lab import Host, LabError
from bench.lab.site import ENVIRONMENT

BUFFER_BYTES = 128 << 20  # 100,000 replies: the generator must not be what loses them
SO_SNDBUFFORCE, SO_RCVBUFFORCE, SO_TIMESTAMPNS, SO_MEMINFO = 32, 33, 35, 55
MEMINFO_DROPS = 8  # index of SK_MEMINFO_DROPS
ETH_P_IP = 0x0800
PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC, PACKET_STATISTICS, PACKET_IGNORE_OUTGOING, SOL_PACKET = 1, 1, 6, 23, 263
SIOCGIFINDEX = 0x8933
HANDOVER_S = 20.0


def open_relay(giaddrs: Sequence[str], port: int, host: Host | None = None) -> socket.socket:
    """A UDP socket of a relay, bound to its address; with several addresses it stands for all of them."""
    return _open({"kind": "relay", "address": giaddrs[0] if len(giaddrs) == 1 else "", "port": port}, host)


def open_segment(ifname: str, host: Host | None = None) -> tuple[socket.socket, int]:
    """A packet socket that hears everything on an interface, and the interface's number."""
    sock = _open({"kind": "segment", "ifname": ifname}, host)
    request = struct.pack("16si", ifname.encode(), 0)
    # Asked of the socket: its network is where the number holds.
    return sock, int(struct.unpack("16si", fcntl.ioctl(sock, SIOCGIFINDEX, request))[1])


def drops(sock: socket.socket) -> int:
    """Datagrams that found this socket's buffer full, since it was made (a packet socket: since the last question)."""
    if sock.family == socket.AF_PACKET:
        return int(struct.unpack("II", sock.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))[1])
    return int(struct.unpack("9I", sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36))[MEMINFO_DROPS])


def hardware_address(server: str, host: Host | None = None) -> bytes:
    """MAC of a neighbour, as the kernel found it; LabError when it did not."""
    ask = f"import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'', ('{server}', 9))"
    here = ["sh", "-c", f'{sys.executable} -c "{ask}"; ip -4 neigh show {server}']
    if host is None:
        said = subprocess.run(here, capture_output=True, text=True, timeout=5, check=False).stdout
    else:
        said = host.run(here, timeout=5, check=False).stdout
    words = said.split()
    if "lladdr" not in words:
        raise LabError(f"no hardware address of {server}: the kernel's neighbour table says {said.strip()!r}")
    return bytes.fromhex(words[words.index("lladdr") + 1].replace(":", ""))


def _open(what: dict[str, object], host: Host | None) -> socket.socket:
    if host is None:
        return _make(what)
    path = host.scratch / "handover.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        try:
            listener.listen(1)
            listener.settimeout(HANDOVER_S)
            helper = host.popen(
                [sys.executable, "-m", "bench.engine.sockets", str(path), json.dumps(what)], env=ENVIRONMENT
            )
            try:
                connection = listener.accept()[0]
            except TimeoutError:
                raise LabError(f"{host.name}: no socket within {HANDOVER_S:g} s for {what}:\n{helper.log()}") from None
            with connection:
                connection.settimeout(HANDOVER_S)
                said, fds, _flags, _address = socket.recv_fds(connection, 1024, 1)
            helper.wait(HANDOVER_S)
        finally:
            path.unlink()
    if not fds:
        raise LabError(f"{host.name}: cannot open {what}: {said.decode()}")
    return socket.socket(fileno=fds[0])


def _make(what: dict[str, object]) -> socket.socket:
    if what["kind"] == "relay":
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((str(what["address"]), int(str(what["port"]))))
    else:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        index = socket.if_nametoindex(str(what["ifname"]))
        sock.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, struct.pack("iHH8s", index, PACKET_MR_PROMISC, 0, b""))
        sock.bind((str(what["ifname"]), ETH_P_IP))
    for force, plain in ((SO_RCVBUFFORCE, socket.SO_RCVBUF), (SO_SNDBUFFORCE, socket.SO_SNDBUF)):
        try:
            sock.setsockopt(socket.SOL_SOCKET, force, BUFFER_BYTES)
        except PermissionError:  # an ordinary user gets what net.core allows; drops() says when that was too little
            sock.setsockopt(socket.SOL_SOCKET, plain, BUFFER_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    sock.setblocking(False)
    return sock


def main(path: Path, what: dict[str, object]) -> None:
    """Inside the host: open the socket, hand it over; or the error in words."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as connection:
        connection.connect(str(path))
        try:
            with _make(what) as sock:
                socket.send_fds(connection, [b"here"], [sock.fileno()])
        except OSError as error:
            connection.send(str(error).encode())


def numbers(addresses: Sequence[str]) -> list[int]:
    """Addresses in words -> ints in host order."""
    return [int(IPv4Address(address)) for address in addresses]


if __name__ == "__main__":
    main(Path(sys.argv[1]), json.loads(sys.argv[2]))
