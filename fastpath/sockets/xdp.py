"""AF_XDP for the workers: a pool of frames for each queue of each interface, two sockets in it for each worker, and the
program that fills them.  Opened by the supervisor while it still may, or not at all, with the reason.

The program hangs on a link: when the last fd of that is closed, however the supervisor ends, the kernel takes it off.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import logging
import mmap
import os
import socket
import struct
from array import array
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv4Address

from ext.xsk import FRAME, POOLS, SENDING_FRAMES, UMEM_AT, completions, create_pool, umem_bytes

from fastpath.sockets import bpf
from fastpath.sockets.sockets import SEND_BYTES, SO_SNDBUFFORCE, set_buffer
from fastpath.sockets.xdp_program import ADDRESSES_MAX, Place, taking

log = logging.getLogger("bootstorm.xdp")

FRAMES_MAX, FRAMES_MIN = 32768, 4096  # of a queue, 2 kB each: what may wait; and 128 MB in all
FRAMES_TOTAL = 65536
_AF_XDP, _SOL_XDP = 44, 283
_MMAP_OFFSETS, _RX_RING, _TX_RING, _UMEM, _FILL_RING, _DONE_RING = 1, 2, 3, 4, 5, 6
_FILL_AT = 0x100000000
_SHARED_UMEM, _COPY = 1, 2  # how a socket is bound
_SIOCGIFHWADDR, _SIOCETHTOOL = 0x8927, 0x8946
_GET_DRIVER, _GET_FLAGS, _GET_CHANNELS = 0x03, 0x25, 0x3C
_FLAG_VLAN_TAKEN_OFF = 1 << 8
_ETHERNET = 1  # ARPHRD_ETHER
_COMPOSED = {"bonding", "team", "bridge", "macvlan", "802.1Q VLAN Support"}  # their queues are another's
_VLAN_FUNCTION = "bpf_xdp_metadata_rx_vlan_tag"
_libc = ctypes.CDLL(None, use_errno=True)


class XdpFailed(Exception):
    """Why the service starts with sockets alone; one line that says what to do."""


@dataclass(slots=True)
class PoolFds:
    """One queue: its memory, and each worker's socket for what is not urgent, and for REQUESTs."""

    memory: int
    plain: list[int]
    urgent: list[int]


@dataclass(slots=True)
class XdpFds:
    """links: while these are open the programs run."""

    links: list[int]
    pools: list[PoolFds]

    def all(self) -> list[int]:
        return [*self.links, *(fd for pool in self.pools for fd in (pool.memory, *pool.plain, *pool.urgent))]


@dataclass(frozen=True, slots=True)
class Interface:
    name: str
    ifindex: int
    mac: bytes
    queues: int
    vlan_tag: int | None  # as in Place


def open_xdp(names: Sequence[str], workers: int, port: int, owner: tuple[int, int] | None) -> XdpFds:
    """Everything ready, and the programs attached last.  Raises XdpFailed with nothing left behind."""
    if not names:
        raise XdpFailed("dhcp.interfaces names no interface, and XDP takes its frames from interfaces; name them")
    with ExitStack() as undo:
        try:
            opened = _open(names, workers, port, undo)
        except bpf.BpfFailed as failed:
            raise XdpFailed(in_one_line(failed)) from failed
        except OSError as error:
            raise XdpFailed(f"AF_XDP: {error.strerror or error}; it needs root and Linux 6.4 or newer") from error
        if owner is not None:
            for pool in opened.pools:
                os.fchown(pool.memory, *owner)
        undo.pop_all()
    return opened


def _open(names: Sequence[str], workers: int, port: int, undo: ExitStack) -> XdpFds:
    interfaces = [look_at(name) for name in names]
    queues = sum(interface.queues for interface in interfaces)
    if queues > POOLS:
        raise XdpFailed(
            f"{', '.join(names)} have {queues} receive queues, and there may be {POOLS} in all; "
            "`ethtool -L INTERFACE combined NUMBER` makes them fewer"
        )
    opened = XdpFds([], [])
    programs = []
    with ExitStack() as passing:  # the program keeps its map, the link its program
        for interface in interfaces:
            entries = interface.queues * 2 * workers
            sockets = _kept(bpf.create_map(bpf.MAP_XSKMAP, 4, 4, entries, name="workers"), passing)
            for queue in range(interface.queues):
                pool = open_pool(interface, queue, workers, frames_of(queues), undo)
                opened.pools.append(pool)
                for index, fd in enumerate((*pool.plain, *pool.urgent)):
                    bpf.update(sockets, struct.pack("=I", queue * 2 * workers + index), struct.pack("=I", fd))
            programs.append((interface, _kept(_load(interface, sockets, workers, port), passing)))
        for interface, program in programs:
            opened.links.append(_kept(_attach(interface, program), undo))
    return opened


def in_one_line(failed: bpf.BpfFailed) -> str:
    """Of what the verifier said the point: its last words but for statistics."""
    first, *rest = str(failed).splitlines()
    last = [line for line in rest if not line.startswith(("processed ", "verification time", "stack depth"))][-1:]
    needs = failed.errno in (errno.EPERM, errno.EACCES)
    return ": ".join([first, *last]) + ("; needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN" if needs else "")


def _kept(fd: int, until: ExitStack) -> int:
    until.callback(os.close, fd)
    return fd


def frames_of(queues: int) -> int:
    """Frames of one pool that circulate, a power of two."""
    return max(FRAMES_MIN, min(FRAMES_MAX, 1 << (FRAMES_TOTAL // queues).bit_length() - 1))


# --- interfaces ----------------------------------------------------------------------------------------------------


def look_at(name: str) -> Interface:
    """What has to be known of an interface; XdpFailed where XDP would be wrong there."""
    try:
        ifindex = socket.if_nametoindex(name)
    except OSError as error:
        raise XdpFailed(f"dhcp.interfaces names {name}, which is not there") from error
    kind, mac = struct.unpack("=16xH6s", _ask(name, _SIOCGIFHWADDR, bytes(16))[:24])
    if kind != _ETHERNET:
        raise XdpFailed(f"{name} is no Ethernet interface (type {kind})")
    driver = _ethtool(name, struct.pack("=I192x", _GET_DRIVER))[4:36].split(b"\0")[0].decode(errors="replace")
    if driver in _COMPOSED:
        raise XdpFailed(f"{name} ({driver}) has no receive queues of its own; name an interface that has")
    if driver == "veth":  # a tag travels beside the frame whatever this end has switched off
        return Interface(name, ifindex, mac, _queues(name), bpf.kernel_function(_VLAN_FUNCTION))
    (flags,) = struct.unpack("=4xI", _ethtool(name, struct.pack("=II", _GET_FLAGS, 0)))
    if flags & _FLAG_VLAN_TAKEN_OFF:
        raise XdpFailed(
            f"{name} ({driver}) takes VLAN tags off frames, and those of other networks would look like its own; "
            f"`ethtool -K {name} rxvlan off`"
        )
    return Interface(name, ifindex, mac, _queues(name), None)


def _queues(name: str) -> int:
    try:
        now = struct.unpack("=20x4I", _ethtool(name, struct.pack("=I32x", _GET_CHANNELS)))
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return 1
        raise
    return max(1, int(now[0]) + int(now[3]))  # those that only receive, and those that send as well


def _ethtool(name: str, command: bytes) -> bytes:
    """The command's structure as the kernel filled it in.  Raises OSError."""
    buffer = ctypes.create_string_buffer(command, len(command))
    _ask(name, _SIOCETHTOOL, struct.pack("=Q8x", ctypes.addressof(buffer)))
    return buffer.raw


def _ask(name: str, request: int, rest: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return bytes(fcntl.ioctl(sock, request, struct.pack("=16s24s", name.encode(), rest)))


class _Ifaddrs(ctypes.Structure):
    pass


_Ifaddrs._fields_ = [
    ("next", ctypes.POINTER(_Ifaddrs)),
    ("name", ctypes.c_char_p),
    ("flags", ctypes.c_uint),
    ("address", ctypes.c_void_p),
    ("netmask", ctypes.c_void_p),
]


def addresses(name: str) -> list[IPv4Address]:
    """What an interface answers to: its IPv4 addresses and the broadcasts of their networks."""
    first = ctypes.POINTER(_Ifaddrs)()
    if _libc.getifaddrs(ctypes.byref(first)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"cannot list the addresses of {name}: {os.strerror(number)}")
    found: set[IPv4Address] = set()
    entry = first
    while entry:
        each = entry.contents
        if each.name == name.encode() and each.address and each.netmask:
            family, address = struct.unpack("=H2x4s", ctypes.string_at(each.address, 8))
            if family == socket.AF_INET:
                (mask,) = struct.unpack("!4xI", ctypes.string_at(each.netmask, 8))
                found |= {IPv4Address(address), IPv4Address(int.from_bytes(address, "big") | mask ^ 0xFFFFFFFF)}
        entry = each.next
    _libc.freeifaddrs(first)
    if len(found) > ADDRESSES_MAX:
        raise XdpFailed(f"{name} has {len(found)} addresses with their broadcasts, and there may be {ADDRESSES_MAX}")
    return sorted(found)


# --- pools and sockets ---------------------------------------------------------------------------------------------


def open_pool(interface: Interface, queue: int, workers: int, frames: int, undo: ExitStack) -> PoolFds:
    """Memory, sockets, all of them bound, and every frame with the kernel."""
    memory = _kept(create_pool(workers, frames, interface.ifindex, interface.mac), undo)
    sockets = [_kept(_open_socket(frames), undo) for _ in range(2 * workers)]
    size = umem_bytes(workers, frames)
    with mmap.mmap(memory, size, offset=UMEM_AT) as umem:
        begin = ctypes.c_char.from_buffer(umem)
        try:
            _set(sockets[0], _UMEM, struct.pack("=QQIIII", ctypes.addressof(begin), size, FRAME, 0, 0, 0))
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            raise XdpFailed(
                f"a queue of {interface.name} needs {size >> 20} MB of locked memory, which this user may not have; "
                "LimitMEMLOCK=infinity in the unit, or CAP_IPC_LOCK"
            ) from error
        finally:
            del begin  # the kernel holds the pages, not our mapping of them
    _set(sockets[0], _FILL_RING, struct.pack("=I", frames))
    _set(sockets[0], _DONE_RING, struct.pack("=I", completions(workers)))
    for fd in sockets[:workers]:
        _set(fd, _TX_RING, struct.pack("=I", SENDING_FRAMES))
    _bind(sockets[0], interface, queue, _COPY, 0)
    for fd in sockets[1:]:
        _bind(fd, interface, queue, _SHARED_UMEM, sockets[0])
    _fill(sockets[0], frames)
    return PoolFds(memory, sockets[:workers], sockets[workers:])


def _open_socket(frames: int) -> int:
    sock = socket.socket(_AF_XDP, socket.SOCK_RAW, 0)
    try:
        set_buffer(sock, SO_SNDBUFFORCE, socket.SO_SNDBUF, SEND_BYTES)
        sock.setsockopt(_SOL_XDP, _RX_RING, struct.pack("=I", frames))
    except OSError:
        sock.close()
        raise
    return sock.detach()


def _set(fd: int, option: int, value: bytes) -> None:
    with socket.socket(_AF_XDP, socket.SOCK_RAW, 0, fileno=os.dup(fd)) as sock:
        sock.setsockopt(_SOL_XDP, option, value)


def _bind(fd: int, interface: Interface, queue: int, flags: int, shared: int) -> None:
    address = struct.pack("=HHIII", _AF_XDP, flags, interface.ifindex, queue, shared)
    if _libc.bind(fd, ctypes.create_string_buffer(address, len(address)), len(address)) != 0:
        number = ctypes.get_errno()
        raise XdpFailed(
            f"cannot bind an AF_XDP socket to queue {queue} of {interface.name}: {os.strerror(number)}"
            + ("; another program has it" if number == errno.EBUSY else "")
        )


def _fill(fd: int, frames: int) -> None:
    """Also the proof that rings can be mapped once a socket is bound, as each worker that comes later has to."""
    with socket.socket(_AF_XDP, socket.SOCK_RAW, 0, fileno=os.dup(fd)) as sock:
        offsets = struct.unpack("=16Q", sock.getsockopt(_SOL_XDP, _MMAP_OFFSETS, 128))
    producer, entries = offsets[8], offsets[10]
    try:
        ring = mmap.mmap(fd, entries + 8 * frames, offset=_FILL_AT)
    except OSError as error:
        raise XdpFailed(
            f"cannot map the ring of a bound AF_XDP socket ({error.strerror}), without which no worker could be "
            "replaced; needs Linux 6.4 or newer"
        ) from error
    with ring:
        ring[entries : entries + 8 * frames] = array("Q", range(0, frames * FRAME, FRAME)).tobytes()
        struct.pack_into("=I", ring, producer, frames)


# --- programs ------------------------------------------------------------------------------------------------------


def _load(interface: Interface, sockets: int, workers: int, port: int) -> int:
    bound = interface.vlan_tag is not None  # what asks the driver about a frame belongs to one interface
    place = Place(
        mac=interface.mac,
        addresses=addresses(interface.name),
        port=port,
        workers=workers,
        sockets=sockets,
        vlan_tag=interface.vlan_tag,
    )
    return bpf.load_program(
        bpf.PROGRAM_XDP,
        taking(place),
        name="bootstorm",
        flags=bpf.XDP_HAS_FRAGS | (bpf.XDP_DEVICE_BOUND if bound else 0),
        ifindex=interface.ifindex if bound else 0,
    )


def _attach(interface: Interface, program: int) -> int:
    """In the driver only: before it, in the kernel's general code, frames come with their VLAN tags taken off."""
    try:
        return bpf.link(program, interface.ifindex, bpf.XDP_NATIVE)
    except bpf.BpfFailed as failed:
        why = {
            errno.EBUSY: "another XDP program is there",
            errno.EEXIST: "another XDP program is there",
            errno.EOPNOTSUPP: "its driver has no XDP",
        }.get(failed.errno or 0, str(failed))
        raise XdpFailed(f"{interface.name}: {why}") from failed
