"""The supervisor's children: how one is started, what is known of it, whether it hangs or is only starved."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import struct
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from ext.page import PAGE_LAYOUT
from ext.table import TABLE_LAYOUT
from ext.xsk import POOL_LAYOUT

from fastpath.process.notify import for_children
from fastpath.process.turns import look_at
from fastpath.protocol import Channel, Fds, Message, close_all

KINDS = ("worker", "spare", "control", "observer", "traps")  # those that are kept running, and counted
TRIAL = "trial"  # of new code, before an upgrade
COMMANDS: dict[str, list[str]] = {
    "spare": ["fastpath", "worker"],
    "control": ["control", "run"],
    "observer": ["control", "observer"],
    "traps": ["control", "traps"],
    TRIAL: ["control", "try"],
}
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2)
INTERRUPT = (signal.SIGINT,)  # blocked in all children: Ctrl-C goes to all of a terminal's, and we end them in order
BACKOFF_S = (0.0, 0.0, 0.0, 0.1, 0.2, 0.5, 1.0)  # before the next start of a kind that keeps dying young
YOUNG_S = 1.0
MESSAGES_MAX, MESSAGES_S = 200, 1.0  # of one child in this time; none of ours says a tenth as much
LAYOUTS: dict[str, int] = {
    "page": PAGE_LAYOUT,
    "table": TABLE_LAYOUT,
    "pool": POOL_LAYOUT,
}  # of shared memory, in this build
LAYOUTS_MAX = 20  # of any build
_HEAD = struct.Struct("<IIIIQ")  # of every page of any layout: magic, version, slot, pid, heartbeat in ns
_TABLE_HEAD = struct.Struct("<II")  # of every table of any layout: magic, version


@dataclass(slots=True, eq=False)
class Child:
    """A process of ours.  kind: one of KINDS, or TRIAL; slot: -1 but for workers."""

    kind: str
    pid: int
    channel: Channel
    pidfd: int
    started_s: float
    slot: int = -1
    ready: bool = False
    loaded: int = 0  # a spare: the generation that it has mapped
    behind: bool = False  # it could not be told of the present table
    outdated: bool = False  # started before the last upgrade
    layouts: dict[str, int] = field(default_factory=lambda: dict(LAYOUTS))  # of its build
    build: str = ""  # as it said
    head: PageHead | None = None  # a worker of another layout: its page, which is not that of the slot any more
    deaf: bool = False  # nothing is read from it any more
    stopping_s: float = 0.0  # when Stop was sent
    ran_ns: int = -1  # CPU time at an earlier look since it is late, to tell hung from starved
    since_s: float = 0.0  # of the assignment: a new worker's heartbeat counts from here
    said: int = 0  # messages since said_s
    said_s: float = 0.0

    @property
    def is_foreign(self) -> bool:
        """Of a build that was installed after ours was started, and that lays out memory otherwise."""
        return not self.outdated and self.layouts != LAYOUTS

    def hear_build(self, build: str, layouts: Mapping[str, int]) -> None:
        """Raises ValueError for layouts that are none.  Without any: a build that does not say, told apart already."""
        self.build = printable(build)
        if layouts:
            self.layouts = {str(name): int(number) for name, number in list(layouts.items())[:LAYOUTS_MAX]}

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # it was quicker
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def talks_too_much(self, now_s: float) -> bool:
        """One message more: is that beyond anything that a sane child says?"""
        if now_s - self.said_s > MESSAGES_S:
            self.said, self.said_s = 0, now_s
        self.said += 1
        return self.said > MESSAGES_MAX

    def close(self) -> None:
        """Its channel and its pidfd; for a child that is dead and reaped."""
        with contextlib.suppress(OSError):
            self.channel.close()
        close_all([self.pidfd])
        if self.head is not None:
            self.head.close()


class KernelRefuses(Exception):
    """For want of memory or the like; what is to be received stays where it is."""


def printable(text: str) -> str:
    """One line of the log at most, whatever a child has said."""
    return "".join(letter if letter.isprintable() else "?" for letter in text[:500])


def received(child: Child) -> tuple[Message, Fds]:
    """As Channel.receive()."""
    try:
        return child.channel.receive()
    except BlockingIOError:
        raise
    except OSError as error:
        raise KernelRefuses(str(error)) from error


def spawn(kind: str, command: list[str]) -> Child:
    """Start `command... FD` with one end of a new channel as its only fd.

    Raises OSError, with nothing left behind but perhaps a process that ends by itself: it dies with its channel."""
    ours, theirs = Channel.pair()
    try:
        os.set_inheritable(theirs.fileno(), True)
        ours.sock.setblocking(False)
        ours.takes_enclosed = False  # nothing that a child has to say is so long
        argv = [*command, str(theirs.fileno())]
        environment = for_children(os.environ)
        pid = os.posix_spawn(argv[0], argv, environment, setsigmask=INTERRUPT, setsigdef=SIGNALS)
        try:
            pidfd = os.pidfd_open(pid)
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)  # it has not run a line of its own yet
            raise
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    return Child(kind, pid, ours, pidfd, time.monotonic())


def commands() -> dict[str, list[str]]:
    """What is executed for each kind, by the Python that runs this: the code that is installed now."""
    return {kind: [sys.executable, "-P", "-m", *words] for kind, words in COMMANDS.items()}


@dataclass(slots=True)
class Deaths:
    """How often a kind of process died young in a row, and when the next one may start."""

    young: int = 0
    next_s: float = 0.0
    total: int = 0
    fault: str = ""  # why the last one could not be started at all

    def note(self, age_s: float, now_s: float) -> None:
        self.total += 1
        self.delay(age_s, now_s)

    def delay(self, age_s: float, now_s: float) -> None:
        self.young = self.young + 1 if age_s < YOUNG_S else 0
        self.next_s = now_s + BACKOFF_S[min(self.young, len(BACKOFF_S) - 1)]


def is_stopped(child: Child) -> bool:
    """By a signal or a debugger: it will not go on by itself."""
    seen = look_at(child.pid)
    return seen is not None and seen[0] in "Tt"


def is_starved(child: Child, budget_s: float = 0.0) -> bool:
    """It is ready to run and had no CPU since the last look, or not more than budget_s since the first one: killing it
    would help nobody.  Also where nothing can be seen.  To be asked at each look while it is late, and only then."""
    seen = look_at(child.pid)
    if seen is None:
        return True
    state, ran_ns = seen
    used_ns = ran_ns - child.ran_ns if child.ran_ns >= 0 else 0
    if child.ran_ns < 0 or not budget_s:
        child.ran_ns = ran_ns
    return state == "R" and used_ns <= budget_s * 1e9


class PageHead:
    """The beginning of a worker's page of any layout.  Takes fd over.  Raises OSError, ValueError."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.map = mmap.mmap(fd, _HEAD.size, prot=mmap.PROT_READ)

    @property
    def heartbeat_ns(self) -> int:
        return int(_HEAD.unpack_from(self.map)[4])

    def close(self) -> None:
        self.map.close()
        close_all([self.fd])


def table_layout(fd: int) -> int:
    """Of the table behind fd, of any build.  Raises OSError, ValueError."""
    head = os.pread(fd, _TABLE_HEAD.size, 0)
    if len(head) < _TABLE_HEAD.size:
        raise ValueError(f"{len(head)} bytes are no table")
    return int(_TABLE_HEAD.unpack(head)[1])


def differing(layouts: Mapping[str, int]) -> list[str]:
    """Names of the layouts that another build has otherwise than this one."""
    return [name for name, number in LAYOUTS.items() if layouts.get(name) != number]
