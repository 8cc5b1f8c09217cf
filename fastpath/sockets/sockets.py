"""The sockets of the packet path: created once, in order, steered by a hash of chaddr, kept by the supervisor.

One rule stands in two places (measured: docs/design.md): a program on the reuseport group decides unicast, a filter on
each socket judges what is not addressed to this host alone, because a broadcast reaches every socket of the group.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import socket
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass

from fastpath.privileges.folders import Untrusted, give, opened_folder
from fastpath.sockets.bpf import BpfFailed, attach_socket
from fastpath.sockets.unknown_mac_filter import load_filter

log = logging.getLogger("bootstorm.sockets")

SO_ATTACH_FILTER = 26
SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33
SO_ATTACH_REUSEPORT_CBPF = 51
SO_MEMINFO = 55
_MEMINFO_WORDS = 9  # SK_MEMINFO_RMEM_ALLOC and SK_MEMINFO_RCVBUF come first
IP_MTU_DISCOVER, IP_PMTUDISC_OMIT = 10, 5
RECEIVE_BYTES_TOTAL = 256 << 20  # 100,000 DISCOVERs of 1,280 bytes truesize queued, twice over: NICs charge 2 kB
RECEIVE_BYTES_MIN = 32 << 20
BOOT_RECEIVE_BYTES = 8 << 20  # of a socket at the boot port: 3,500 requests, and ROMs ask there once
SEND_BYTES = 64 << 20  # 20 dead relays filled the default one and blocked all others for 3 s

_LD_W, _LD_H = 0x20, 0x28  # load a word, a half word at a fixed offset
_LD_LEN, _LD_K = 0x80, 0x00  # load the packet's length, a constant
_JA, _JEQ, _JGE = 0x05, 0x15, 0x35
_MUL, _RSH, _MOD = 0x24, 0x74, 0x94
_RET_K, _RET_A = 0x06, 0x16
_ST, _LD_MEM, _ADD = 0x02, 0x60, 0x04  # scratch memory 0; add a constant
_PKTTYPE = 0xFFFFF004  # SKF_AD_OFF + SKF_AD_PKTTYPE
_PACKET_HOST = 0
_ACCEPT = 0xFFFFFFFF
UNIX_PATH_BYTES_MAX = 107  # sun_path of unix(7), less its NUL
MIX = 0x9E3779B1  # plain modulo sends MACs at step 4 all to one of 4 workers (measured)
Instruction = tuple[int, int, int, int]
_libc = ctypes.CDLL(None, use_errno=True)


class SocketsFailed(Exception):
    """The packet path cannot open its sockets; says what to do."""


@dataclass(frozen=True, slots=True)
class SlotSockets:
    """What one worker slot receives from and sends frames by."""

    udp: int
    urgent: int  # REQUESTs, as far as their first option says so: they are nearer to done than DISCOVERs
    packet: int
    boot: int = -1  # at PXE's port for clients that have an address by now; -1: not open

    def all(self) -> list[int]:
        return [fd for fd in (self.udp, self.urgent, self.packet, self.boot) if fd >= 0]


def steer(payload_at: int, workers: int) -> list[Instruction]:
    """Accumulator := worker of the datagram whose payload begins at payload_at; worker 0 when it is too short.

    Ends without a return; falls through with the worker's number in the accumulator.  An out-of-range load would drop
    the datagram silently, and then nobody counts it, hence the length check first."""
    return [
        (_LD_LEN, 0, 0, 0),
        (_JGE, 2, 0, payload_at + 34),
        (_LD_K, 0, 0, 0),
        (_JA, 0, 0, 10),
        (_LD_W, 0, 0, payload_at + 28),
        (_JEQ, 0, 4, 0),
        (_LD_H, 0, 0, payload_at + 32),
        (_JEQ, 0, 2, 0),
        (_LD_W, 0, 0, payload_at + 4),  # chaddr all zero (InfiniBand, RFC 4390): the xid spreads
        (_JA, 0, 0, 1),
        (_LD_W, 0, 0, payload_at + 30),
        (_MUL, 0, 0, MIX),
        (_RSH, 0, 0, 16),
        (_MOD, 0, 0, workers),
    ]


def choose(payload_at: int, workers: int) -> list[Instruction]:
    """Accumulator := index of the socket: of the workers' plain ones, then of their urgent ones.

    Urgent is what begins its options with 53 = REQUEST, as all clients that we know do; others wait with the rest."""
    return [
        *steer(payload_at, workers),
        (_ST, 0, 0, 0),
        (_LD_LEN, 0, 0, 0),
        (_JGE, 0, 3, payload_at + 244),
        (_LD_W, 0, 0, payload_at + 240),
        (_RSH, 0, 0, 8),
        (_JEQ, 2, 0, 0x350103),
        (_LD_MEM, 0, 0, 0),
        (_JA, 0, 0, 2),
        (_LD_MEM, 0, 0, 0),
        (_ADD, 0, 0, workers),
    ]


Choice = Callable[[int, int], list[Instruction]]  # choose, or steer where a worker has one socket


def group_program(workers: int, by: Choice = choose) -> list[Instruction]:
    """For SO_ATTACH_REUSEPORT_CBPF: sees the UDP payload at offset 0, returns the index of a socket."""
    return [*by(0, workers), (_RET_A, 0, 0, 0)]


def socket_filter(index: int, workers: int, by: Choice = choose) -> list[Instruction]:
    """For SO_ATTACH_FILTER: sees the UDP header first; unicast was decided by the group already."""
    body = by(8, workers)
    return [
        (_LD_W, 0, 0, _PKTTYPE),
        (_JEQ, len(body) + 1, 0, _PACKET_HOST),
        *body,
        (_JEQ, 0, 1, index),
        (_RET_K, 0, 0, _ACCEPT),
        (_RET_K, 0, 0, 0),
    ]


def open_slots(
    workers: int,
    port: int,
    owner: tuple[int, int] | None,
    observe: bool = False,
    boot_port: int = 0,
    known_fd: int = -1,
) -> tuple[list[SlotSockets], str]:
    """All sockets, in order, filters in place before the first datagram can arrive.

    known_fd: the known MACs, where strangers are to be dropped (fastpath/sockets/unknown_mac_filter.py).
    owner: (uid, gid) that the workers run as; a group that root made cannot be joined again by that user otherwise.
    observe: a port that somebody else has stays his, and then the workers receive nothing.  boot_port: 0 for none.
    Returns the slots, and why the boot port is not open although it should be.  Raises SocketsFailed."""
    bound = not observe or not is_taken(port)
    if not bound:
        log.warning(
            "another server of this machine has UDP port %d: the workers receive nothing, the observer sees all", port
        )
    elif observe:
        log.warning("UDP port %d is ours while we observe: no other server of this machine can be started on it", port)
    size = max(RECEIVE_BYTES_MIN, RECEIVE_BYTES_TOTAL // workers)
    udp = [_open_udp(index, workers, port if bound else None, choose, size, known_fd) for index in range(2 * workers)]
    boot, fault = [-1] * workers, ""
    if boot_port and not observe:  # who only observes answers nobody there
        fault = boot_port_fault(boot_port)
        if not fault:
            boot = [_open_udp(index, workers, boot_port, steer, BOOT_RECEIVE_BYTES) for index in range(workers)]
    slots = [SlotSockets(udp[worker], udp[workers + worker], _open_packet(), boot[worker]) for worker in range(workers)]
    if owner is not None:
        for fd in (fd for slot in slots for fd in slot.all()):
            os.fchown(fd, *owner)
    return slots, fault


def boot_port_fault(port: int) -> str:
    """Machines need addresses whoever has the boot port: nearly all boot without it, so its loss is told, no more."""
    if not is_taken(port):
        return ""
    fault = (
        f"UDP port {port} belongs to another program (ss -lunp 'sport = {port}'): ROMs that ask there are not answered "
        "by us; stop that program and restart, or set dhcp.boot_port = 0"
    )
    log.warning("%s", fault)
    return fault


def is_taken(port: int) -> bool:
    """True when anybody has the port, on whatever address.

    Asked without SO_REUSEPORT: with it the kernel would let us join a server that has set it as well (dnsmasq does),
    and would from then on give us its requests."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(("", port))
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False


def _open_udp(index: int, workers: int, port: int | None, by: Choice, receive_bytes: int, known_fd: int = -1) -> int:
    """port None: bound nowhere, so that nothing ever comes in."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if known_fd < 0:
            attach(sock, SO_ATTACH_FILTER, socket_filter(index, workers, by))
        else:
            program = load_filter(known_fd, index, workers)
            attach_socket(sock, program)
            os.close(program)
        if index == 0:  # the others join the group and its program
            attach(sock, SO_ATTACH_REUSEPORT_CBPF, group_program(workers, by))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_PKTINFO if hasattr(socket, "IP_PKTINFO") else 8, 1)
        # A relay's path may have a smaller MTU: no DF, whatever forged ICMP says of that path.  Replies are not sent
        # anew when such a message comes, and clients do not ask for smaller ones.
        sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_OMIT)
        set_buffer(sock, SO_RCVBUFFORCE, socket.SO_RCVBUF, receive_bytes)
        set_buffer(sock, SO_SNDBUFFORCE, socket.SO_SNDBUF, SEND_BYTES)
        if port is not None:
            sock.bind(("", port))
    except BpfFailed as error:
        sock.close()
        raise SocketsFailed(f"{error}; take dhcp.drop_strangers out of the configuration") from error
    except OSError as error:
        sock.close()
        raise SocketsFailed(
            f"cannot open UDP port {port} for worker {index % workers}: {error.strerror}; another DHCP server may hold "
            f"it (ss -lunp 'sport = {port}'), and a port below 1024 needs root or CAP_NET_BIND_SERVICE"
        ) from error
    return sock.detach()


def _open_packet() -> int:
    try:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
    except PermissionError as error:
        raise SocketsFailed(
            "cannot open a packet socket: needs CAP_NET_RAW, because clients without an address are answered by "
            "Ethernet frames; start as root, or inside `unshare -rn`"
        ) from error
    set_buffer(sock, SO_SNDBUFFORCE, socket.SO_SNDBUF, SEND_BYTES)
    return sock.detach()


def set_buffer(sock: socket.socket, force: int, plain: int, size: int) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, force, size)
    except PermissionError:  # a user namespace has no say over the machine's memory
        sock.setsockopt(socket.SOL_SOCKET, plain, size)
        got = sock.getsockopt(socket.SOL_SOCKET, plain)
        if got < 2 * size:  # the kernel reports, as it grants, twice what was asked for
            what = "SO_RCVBUF" if plain == socket.SO_RCVBUF else "SO_SNDBUF"
            log.info("%s is %d bytes, wanted %d: no CAP_NET_ADMIN, so net.core limits it", what, got, size)


def attach(sock: socket.socket, option: int, program: list[Instruction]) -> None:
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer)))


def queued(fd: int) -> tuple[int, int]:
    """(what waits in a socket, what may wait there), in bytes of memory as the kernel charges them; zeros where it does
    not say.  While something waits, up to a quarter of the limit may have been received already."""
    figures, size = (ctypes.c_uint32 * _MEMINFO_WORDS)(), ctypes.c_uint32(4 * _MEMINFO_WORDS)
    if _libc.getsockopt(fd, socket.SOL_SOCKET, SO_MEMINFO, figures, ctypes.byref(size)):
        return 0, 0
    return figures[0], figures[1]


def open_console(path: str, owner: tuple[int, int] | None) -> int:
    """The control socket, listening; a stale one of a dead service is replaced (the state lock says it is dead).

    Who may speak is decided by SO_PEERCRED, so that its mode is 0666.  Raises SocketsFailed."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with opened_folder(os.path.dirname(os.path.abspath(path))) as folder:
            bind_below(sock, folder, os.path.basename(path), path)
            if owner is not None:
                give_socket(folder, os.path.basename(path), owner)
        sock.listen(64)
    except Untrusted as found:
        sock.close()
        raise SocketsFailed(f"cannot listen on control.socket {path}: {found}") from found
    except OSError as error:
        if error.errno in (errno.EROFS, errno.ENOSPC):
            # Machines need addresses whoever can ask how they get them: we go on, with a socket that nobody finds.
            log.error(
                "cannot listen on control.socket %s: %s; serving without it: ctl cannot reach this service until it is "
                "started anew with a folder that can be written",
                path,
                error.strerror,
            )
            sock.bind("")
            sock.listen(1)
            return sock.detach()
        sock.close()
        raise SocketsFailed(
            f"cannot listen on control.socket {path}: {error.strerror or error}; "
            "set control.socket to a short path in a folder that the service may write"
        ) from error
    return sock.detach()


def bind_below(sock: socket.socket, folder: int, name: str, path: str) -> None:
    """Only sockets and links make room: a file that stands there by mistake is not ours to remove."""
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if not stat.S_ISSOCK(mode) and not stat.S_ISLNK(mode):
            raise Untrusted("a file that is no socket is there; remove it, or set control.socket to another path")
        os.unlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass
    if len(os.fsencode(path)) > UNIX_PATH_BYTES_MAX:  # we could, by the folder; no client could
        raise OSError(errno.ENAMETOOLONG, "AF_UNIX path too long")
    before = os.umask(0o111)
    try:
        sock.bind(f"/proc/self/fd/{folder}/{name}")
    finally:
        os.umask(before)


def give_socket(folder: int, name: str, owner: tuple[int, int]) -> None:
    """By the descriptor that was looked at: the owner of the folder may have put something else there meanwhile."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        found = os.fstat(fd)
        if not stat.S_ISSOCK(found.st_mode) or found.st_nlink != 1 or found.st_uid != os.geteuid():
            raise Untrusted("somebody put something else there while we did; who can write to that folder?")
        give(fd, owner)
    finally:
        os.close(fd)
