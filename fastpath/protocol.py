"""Messages between supervisor, workers and control: frozen dataclasses, msgpack, fds beside them.

A channel is a SOCK_SEQPACKET pair: a message arrives whole or not at all, also when its sender dies half-way.  The
supervisor keeps both ends, so that a replaced process finds its channel as the last one left it.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import msgpack

MESSAGE_BYTES_MAX = 1 << 16
ENCLOSED_BYTES_MAX = 1 << 26  # a million interface addresses
FDS_MAX = 200


class ChannelClosed(Exception):
    """The other end is gone for good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the supervisor has to know; worked out from services.conf before it starts, kept over upgrades."""

    config_path: str
    workers: int
    port: int
    state_dir: str
    console_path: str
    boot_port: int = 0  # PXE's; 0: not opened
    user: str | None = None
    mode: str = "serve"  # or "observe": nobody sends
    interfaces: list[str] = field(default_factory=list)  # that the observer watches, none: all; that XDP takes from
    trap_address: str | None = None  # None: no traps are received
    trap_port: int = 162
    drop_strangers: bool = False
    brake_ns: tuple[int, int] = (0, 0)  # the benches' brake: of workers, for an answer and for any other datagram
    io: str = "socket"  # or "xdp": wanted beside the sockets, on the interfaces


@dataclass(frozen=True, slots=True, kw_only=True)
class Ready:
    """Worker -> supervisor: imported and able to take a slot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confine:
    """Supervisor -> worker, first message: give up all system calls but those of this seccomp program."""

    program: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Assign:
    """Supervisor -> worker: take this slot.  fds: udp, urgent, packet, page, site page, adopted bell, event bell; the
    boot port's where boot_port is not 0; and for each XDP pool its memory and the worker's two sockets."""

    slot: int
    port: int
    boot_port: int = 0
    observe: bool = False  # decide, count and record, send nothing
    brake_ns: tuple[int, int] = (0, 0)
    pools: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Supervisor -> observer, first message.  fds: tap, site page, its end of the channel to control.  Load follows."""

    interfaces: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Supervisor -> worker, observer: adopt this pair.  fds: base, and delta unless generation == base."""

    generation: int
    base: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """Worker -> supervisor -> control: not adopted; the worker answers from what it had."""

    generation: int
    reason: str
    slot: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """Control -> supervisor: from now on this pair is the table.  fds as in Load."""

    generation: int
    base: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """Supervisor -> control, first message.  fds: config, console, site page, adopted bell, event bell, with `known`
    the map of known MACs, with `traps` the trap queue and control's end of the receiver's channel, a page for each
    slot, the end of the channel to the observer where settings.mode is observe, then base (and delta) of the pair that
    is being served, if any."""

    settings: Settings
    generation: int = 0
    base: int = 0
    restarts: dict[str, int] = field(default_factory=dict)
    traps: bool = False
    traps_fault: str = ""  # why no traps are received although they should be
    boot_fault: str = ""  # why the boot port is not open although it should be
    known: bool = False
    known_fault: str = ""  # why strangers are not dropped although they should be
    io: str = "socket"  # how requests come in
    io_reason: str = ""  # why by sockets, although dhcp.io is xdp


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """Supervisor -> trap receiver, first message.  fds: config, UDP socket, queue, its end of the channel to
    control."""

    config_path: str
    state_dir: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """Control -> supervisor -> trap receiver: this configuration is in force now.  fds: a memfd with its text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarted:
    """Supervisor -> control: how often processes were replaced so far, by kind (fastpath.supervisor.KINDS)."""

    restarts: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload:
    """Supervisor -> control: SIGHUP came, read services.conf again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Supervisor -> anyone: finish what you are at and exit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enclosed:
    """Anyone -> anyone: a message over MESSAGE_BYTES_MAX lies in the first fd, a memfd; the message's own fds follow.

    Channel sends and takes it; nobody else sees it."""

    size: int


Message = (
    Ready | Confine | Assign | Watch | Load | Rejected | Publish | Begin | Listen | Accepted | Restarted | Reload | Stop
)
KINDS: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        Ready,
        Confine,
        Assign,
        Watch,
        Load,
        Rejected,
        Publish,
        Begin,
        Listen,
        Accepted,
        Restarted,
        Reload,
        Stop,
    )
}


def pack(message: Any) -> bytes:
    """Raises ValueError over ENCLOSED_BYTES_MAX.  Text of the inventory may hold halves of surrogate pairs (JSON allows
    them, UTF-8 does not): they arrive as \\udXXX, written out."""
    fields = [type(message).__name__, asdict(message)]
    data: bytes = msgpack.packb(fields, unicode_errors="backslashreplace")
    if len(data) > ENCLOSED_BYTES_MAX:
        raise ValueError(f"{type(message).__name__} of {len(data)} bytes: a message has at most {ENCLOSED_BYTES_MAX}")
    return data


def unpack(data: bytes, kinds: dict[str, type] = KINDS) -> Any:
    """The message, an instance of one of `kinds`."""
    kind, fields = msgpack.unpackb(data, strict_map_key=False)
    if kind == "Enclosed":
        return Enclosed(**fields)
    if kind == "Begin":
        fields["settings"] = Settings(**fields["settings"])
    return kinds[kind](**fields)


class Channel:
    """One end of a message channel.  Not for two threads at once in one direction.

    kinds: the message classes that may arrive, by name."""

    def __init__(self, sock: socket.socket, kinds: dict[str, type] = KINDS) -> None:
        self.sock = sock
        self.kinds = kinds

    @classmethod
    def of_fd(cls, fd: int, kinds: dict[str, type] = KINDS) -> Channel:
        return cls(socket.socket(fileno=fd), kinds)

    @classmethod
    def pair(cls, kinds: dict[str, type] = KINDS) -> tuple[Channel, Channel]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours, kinds), cls(theirs, kinds)

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(self, message: Any, fds: list[int] | tuple[int, ...] = ()) -> None:
        """Raises ChannelClosed; BlockingIOError on a full non-blocking channel; ValueError over ENCLOSED_BYTES_MAX."""
        data = pack(message)
        if len(data) > MESSAGE_BYTES_MAX:
            with memfd("bootstorm-message", data) as fd:
                self.send(Enclosed(size=len(data)), [fd, *fds])
            return
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self.sock.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionResetError) as gone:
            raise ChannelClosed(f"cannot send {type(message).__name__}: {gone}") from gone

    def receive(self) -> tuple[Any, list[int]]:
        """The next message and its fds, which the caller owns (close-on-exec)."""
        try:
            data, fds, _flags, _address = socket.recv_fds(
                self.sock, MESSAGE_BYTES_MAX, FDS_MAX, getattr(socket, "MSG_CMSG_CLOEXEC", 0x40000000)
            )
        except ConnectionResetError as gone:
            raise ChannelClosed(str(gone)) from gone
        if not data:
            raise ChannelClosed("the other end closed it")
        message = unpack(data, self.kinds)
        if isinstance(message, Enclosed):
            enclosing, *fds = fds
            try:
                message = unpack(read_enclosed(enclosing, message.size), self.kinds)
                if isinstance(message, Enclosed):
                    raise ValueError("an enclosed message of unknown kind: another enclosed one")
            finally:
                os.close(enclosing)
        return message, list(fds)

    def close(self) -> None:
        self.sock.close()


def read_enclosed(fd: int, size: int) -> bytes:
    """Raises ValueError for what is no enclosed message."""
    if not 0 < size <= min(ENCLOSED_BYTES_MAX, os.fstat(fd).st_size):
        raise ValueError(f"an enclosed message of {size} bytes; wanted at most {ENCLOSED_BYTES_MAX}, and as many there")
    return os.pread(fd, size, 0)


@contextmanager
def memfd(name: str, content: bytes) -> Iterator[int]:
    """A memfd with some content, for as long as it takes to send it."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        os.write(fd, content)
        yield fd
    finally:
        os.close(fd)


def close_all(fds: list[int] | tuple[int, ...]) -> None:
    for fd in fds:
        os.close(fd)
