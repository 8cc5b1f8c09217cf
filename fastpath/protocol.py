"""Messages between supervisor, workers and control: frozen dataclasses, msgpack, fds beside them.

A channel is a SOCK_SEQPACKET pair: a message arrives whole or not at all, also when its sender dies half-way.  The
supervisor keeps both ends, so that a replaced process finds its channel as the last one left it.

During an upgrade processes of two builds talk to each other.  So a message is read by the fields that the reader knows:
others are ignored, missing ones take their defaults, and descriptors are found by name.  Fields and names may be added
and dropped (with a default), never given another meaning.
"""

from __future__ import annotations

import array
import fcntl
import logging
import os
import socket
import termios
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any

import msgpack

log = logging.getLogger("bootstorm.protocol")

MESSAGE_BYTES_MAX = 1 << 16
ENCLOSED_BYTES_MAX = 1 << 26  # a million interface addresses
FDS_MAX = 200
GENERATION_MAX = 1 << 62
_FD = array.array("i")
_CLOSE_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0x40000000)  # socket.recv_fds() of Python 3.11 drops its flags


class ChannelClosed(Exception):
    """The other end is gone for good."""


class MessageRefused(ValueError):
    """What came is no message that this build can read; its fds are closed already."""


class UnknownKind(MessageRefused):
    """A message of a kind that this build does not have: another build's, perhaps."""


class Fds(list[int]):
    """Received descriptors, in the order of sending; whoever receives them owns them.

    named: name -> descriptors, where the sender named them."""

    def __init__(self, fds: Iterable[int] = (), named: Mapping[str, list[int]] | None = None) -> None:
        super().__init__(fds)
        self.named = dict(named or {})

    @classmethod
    def of(cls, named: Mapping[str, int | list[int]]) -> Fds:
        """As if they had been received by these names."""
        lists = {name: [fds] if isinstance(fds, int) else list(fds) for name, fds in named.items()}
        return cls([fd for each in lists.values() for fd in each], lists)

    def one(self, name: str) -> int:
        """Raises MessageRefused unless exactly one came by that name."""
        found = self.named.get(name, [])
        if len(found) != 1:
            raise MessageRefused(f"{len(found)} descriptors named {name}, wanted 1; there are {sorted(self.named)}")
        return found[0]

    def perhaps(self, name: str) -> int:
        """-1 where none came by that name."""
        return self.one(name) if self.named.get(name) else -1

    def all(self, name: str) -> list[int]:
        return self.named.get(name, [])

    def keep(self, name: str) -> int:
        """one(), taken out of those that are closed with the message; the caller owns it from now on."""
        fd = self.one(name)
        self.remove(fd)
        del self.named[name]
        return fd


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
    """Worker -> supervisor: imported and able to take a slot.

    Of which build, since what is executed is what is installed by then.  Without layouts: the supervisor's own."""

    build: str = ""
    layouts: dict[str, int] = field(default_factory=dict)  # fastpath.supervisor.children.LAYOUTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Confine:
    """Supervisor -> worker, first message: give up all system calls but those of this seccomp program."""

    program: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Assign:
    """Supervisor -> worker: take this slot.  fds: udp, urgent, packet, page, site, adopted, events, ledger; boot where
    boot_port is not 0; and pool_memory, pool_plain, pool_urgent, one each for every XDP pool."""

    slot: int
    port: int
    boot_port: int = 0
    observe: bool = False  # decide, count and record, send nothing
    brake_ns: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Supervisor -> observer, first message.  fds: tap, site, control (its end of the channel to it), turns.  Load
    follows."""

    interfaces: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Supervisor -> worker, observer: adopt this pair.  fds: base, and delta unless generation == base."""

    generation: int
    base: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """Spare -> supervisor: this pair is mapped, a slot can be taken with it."""

    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """Worker -> supervisor, before it ends because it was asked to: its page's counters (ext.page, counters())."""

    counters: dict[str, Any]


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
    """Supervisor -> control, first message.  fds: config, console, site, adopted, events, turns, ledger; pages, one a
    slot; known, the map of known MACs, where strangers are dropped; trap_queue and trap_channel where traps are
    received; observer, the end of the channel to it, where settings.mode is observe; base (and delta) of the pair that
    is being served, if any."""

    settings: Settings
    generation: int = 0
    base: int = 0
    restarts: dict[str, int] = field(default_factory=dict)
    traps_fault: str = ""  # why no traps are received although they should be
    boot_fault: str = ""  # why the boot port is not open although it should be
    known_fault: str = ""  # why strangers are not dropped although they should be
    io: str = "socket"  # how requests come in
    io_reason: str = ""  # why by sockets, although dhcp.io is xdp
    build: str = ""  # of the supervisor


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """Supervisor -> trap receiver, first message.  fds: config, udp, queue, control (its end of the channel to it),
    turns."""

    config_path: str
    state_dir: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """Control -> supervisor -> trap receiver: this configuration is in force now.  fds: config (its text)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarted:
    """Supervisor -> control: how often processes were replaced so far, by kind
    (fastpath.supervisor.supervisor.KINDS)."""

    restarts: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reload:
    """Supervisor -> control: SIGHUP came, read services.conf again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """Supervisor -> anyone: finish what you are at and exit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """Supervisor -> trial of new code, first message.  fds: state, a memfd with the text that the new image would be
    given; config, a copy of the accepted services.conf; base (and delta), read-only.

    urgent: hosts wait for the upgrade.  quiet: what it would print has been printed by the trial before."""

    config_path: str
    urgent: bool = False
    quiet: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """Trial -> supervisor: the new code can take over; or, with a fault, not.  notes: what it will do otherwise, each a
    sentence for the log.

    fingerprint: fastpath.process.build.fingerprint() of the folders when the trial began; "" from a build that does not
    say."""

    fault: str = ""
    notes: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    fingerprint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Enclosed:
    """Anyone -> anyone: a message over MESSAGE_BYTES_MAX lies in the first fd, a memfd; the message's own fds follow.

    Channel sends and takes it; nobody else sees it."""

    size: int


Message = (
    Ready
    | Confine
    | Assign
    | Watch
    | Load
    | Loaded
    | Finished
    | Rejected
    | Publish
    | Begin
    | Listen
    | Accepted
    | Restarted
    | Reload
    | Stop
    | Try
    | Tried
)
KINDS: dict[str, type] = {kind.__name__: kind for kind in typing.get_args(Message)}
ENCLOSED: dict[str, type] = {"Enclosed": Enclosed}


@cache
def _wanted(kind: type) -> dict[str, tuple[bool, tuple[type, ...], type | None]]:
    """Of each field of a dataclass: has it a default, what it may be an instance of (none: anything), and the dataclass
    that a map is read into."""
    hints = typing.get_type_hints(kind)
    found = {}
    for each in fields(kind):
        has_default = each.default is not MISSING or each.default_factory is not MISSING
        types_: list[type] = []
        inner: type | None = None
        hint = hints[each.name]
        for part in typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,):
            plain = typing.get_origin(part) or part
            if is_dataclass(plain) and isinstance(plain, type):
                inner = plain
                types_ += [dict]
            elif plain in (list, tuple):
                types_ += [list, tuple]
            elif plain is float:
                types_ += [int, float]
            elif plain in (int, str, bytes, bool, dict, type(None)):
                types_ += [plain]
            else:
                types_ = []
                break
        found[each.name] = has_default, tuple(types_), inner
    return found


def known(kind: type, told: Mapping[str, Any]) -> Any:
    """A dataclass from what another build says of it: unknown fields are ignored, missing ones take their defaults.

    Raises MessageRefused where a field without default is missing, or is of another type than the class says."""
    if not isinstance(told, Mapping):
        raise MessageRefused(f"{kind.__name__}: {type(told).__name__} where a map of fields was wanted")
    taken = {}
    for name, (has_default, types_, inner) in _wanted(kind).items():
        if name not in told:
            if not has_default:
                raise MessageRefused(f"{kind.__name__} has no field {name}")
            continue
        value = told[name]
        if types_ and not isinstance(value, types_):
            raise MessageRefused(f"{kind.__name__}.{name} is of type {type(value).__name__}")
        taken[name] = known(inner, value) if inner is not None and isinstance(value, dict) else value
    return kind(**taken)


def pack(message: Any, names: list[tuple[str, int]] | None = None) -> bytes:
    """names: of the fds beside it, in order, each with how many bear it.  Raises ValueError over ENCLOSED_BYTES_MAX.

    Text of the inventory may hold halves of surrogate pairs (JSON allows them, UTF-8 does not): they arrive as \\udXXX,
    written out."""
    told = [type(message).__name__, asdict(message), names or []]
    data: bytes = msgpack.packb(told, unicode_errors="backslashreplace")
    if len(data) > ENCLOSED_BYTES_MAX:
        raise ValueError(f"{type(message).__name__} of {len(data)} bytes: a message has at most {ENCLOSED_BYTES_MAX}")
    return data


def unpack(data: bytes, fds: Iterable[int] = (), kinds: Mapping[str, type] = KINDS) -> tuple[Any, Fds]:
    """The message, an instance of one of `kinds`, and its fds by name.  Raises MessageRefused and nothing else."""
    fds = list(fds)
    try:
        kind, told, *more = msgpack.unpackb(data, strict_map_key=False)
        names = [(str(name), int(count)) for name, count in more[0]] if more else []
    except Exception as error:  # msgpack raises what it likes, also RecursionError
        raise MessageRefused(f"{len(data)} bytes that are no message: {type(error).__name__}: {error}") from error
    if not isinstance(kind, str) or kind not in kinds:
        raise UnknownKind(f"a message of unknown kind {str(kind)[:60]!r}")
    if names and (sum(count for _, count in names) != len(fds) or min(count for _, count in names) < 0):
        raise MessageRefused(f"{kind} with {len(fds)} descriptors, and it names {names}")
    named: dict[str, list[int]] = {}
    at = 0
    for name, count in names:
        named[name] = fds[at : at + count]
        at += count
    return known(kinds[kind], told), Fds(fds, named)


def _descriptors(ancillary: Iterable[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(content[: len(content) - len(content) % fds.itemsize])
    return list(fds)


class Channel:
    """One end of a message channel.  Not for two threads at once in one direction.

    kinds: the message classes that may arrive, by name.  takes_enclosed: also messages over MESSAGE_BYTES_MAX."""

    def __init__(self, sock: socket.socket, kinds: dict[str, type] = KINDS) -> None:
        self.sock = sock
        self.kinds = kinds
        self.takes_enclosed = True

    @classmethod
    def of_fd(cls, fd: int, kinds: dict[str, type] = KINDS) -> Channel:
        return cls(socket.socket(fileno=fd), kinds)

    @classmethod
    def pair(cls, kinds: dict[str, type] = KINDS) -> tuple[Channel, Channel]:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours, kinds), cls(theirs, kinds)

    def fileno(self) -> int:
        return self.sock.fileno()

    def send(self, message: Any, fds: Iterable[int] | Mapping[str, int | list[int]] = ()) -> None:
        """fds: by name, or in an order that both ends know.

        Raises ChannelClosed; BlockingIOError on a full non-blocking channel; OSError where the kernel has no room;
        ValueError over ENCLOSED_BYTES_MAX."""
        named = Fds.of(fds) if isinstance(fds, Mapping) else Fds(fds)
        data = pack(message, [(name, len(each)) for name, each in named.named.items()])
        if len(data) > MESSAGE_BYTES_MAX:
            with memfd("bootstorm-message", data) as fd:
                self.send(Enclosed(size=len(data)), [fd, *named])
            return
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", named))] if named else []
        try:
            self.sock.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)
        except (BrokenPipeError, ConnectionResetError) as gone:
            raise ChannelClosed(f"cannot send {type(message).__name__}: {gone}") from gone

    def is_read(self) -> bool:
        """The other end has received all that was sent.  Raises OSError."""
        unread = fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(_FD.itemsize))
        return not any(unread)

    def receive(self) -> tuple[Any, Fds]:
        """The next message and its fds, which the caller owns (close-on-exec).

        Raises ChannelClosed; BlockingIOError; MessageRefused with its fds closed."""
        try:
            room = socket.CMSG_SPACE(FDS_MAX * _FD.itemsize)
            data, ancillary, flags, _address = self.sock.recvmsg(MESSAGE_BYTES_MAX, room, _CLOSE_ON_EXEC)
        except ConnectionResetError as gone:
            raise ChannelClosed(str(gone)) from gone
        fds = _descriptors(ancillary)
        if not data and not fds and not flags & socket.MSG_TRUNC:
            raise ChannelClosed("the other end closed it")
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise MessageRefused(f"a message cut after {len(data)} bytes and {len(fds)} descriptors")
            message, named = unpack(data, fds, self.kinds | ENCLOSED)
            if isinstance(message, Enclosed):
                message, named = unpack(self.opened(message, fds), fds, self.kinds)
        except BaseException:
            close_all(fds)
            raise
        return message, named

    def opened(self, message: Enclosed, fds: list[int]) -> bytes:
        """The enclosed message; what is left in fds is its own.  Raises MessageRefused."""
        if not self.takes_enclosed or not fds:
            raise MessageRefused("an enclosed message that nobody may send here, or without what it lies in")
        fd = fds.pop(0)
        try:
            return read_enclosed(fd, message.size)
        finally:
            os.close(fd)

    def close(self) -> None:
        self.sock.close()


def read_enclosed(fd: int, size: int) -> bytes:
    """Raises MessageRefused for what is no enclosed message."""
    if not 0 < size <= min(ENCLOSED_BYTES_MAX, os.fstat(fd).st_size):
        raise MessageRefused(
            f"an enclosed message of {size} bytes; wanted at most {ENCLOSED_BYTES_MAX}, all of them there"
        )
    return os.pread(fd, size, 0)


def write_all(fd: int, content: bytes) -> None:
    """Raises OSError; a memfd may take less than all at once where memory is short."""
    at = 0
    while at < len(content):
        at += os.write(fd, content[at:])


@contextmanager
def memfd(name: str, content: bytes) -> Iterator[int]:
    """A memfd with some content, for as long as it takes to send it."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        write_all(fd, content)
        yield fd
    finally:
        os.close(fd)


def close_all(fds: Iterable[int]) -> None:
    """All of them, whatever closing one of them says: it is closed either way."""
    for fd in fds:
        try:
            os.close(fd)
        except OSError as error:
            log.warning("closing descriptor %d: %s", fd, error)
