"""Word to the service manager as sd_notify(3) has it: one datagram each, sent or refused at once, never a wait for it.

NOTIFY_SOCKET says where, as systemd sets it; without it nothing is said.  Also what a manager tells a process when it
starts it: how often it wants to hear of it, and which descriptors it has kept of the one before.
"""

from __future__ import annotations

import array
import contextlib
import logging
import os
import socket
from collections.abc import Mapping, MutableMapping, Sequence
from typing import NamedTuple

log = logging.getLogger("bootstorm.manager")

SOCKET_VARIABLE = "NOTIFY_SOCKET"
WATCHDOG_VARIABLES = ("WATCHDOG_USEC", "WATCHDOG_PID")
LISTEN_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
FIRST_FD = 3  # SD_LISTEN_FDS_START
HANDED_BACK_MAX = 4096  # descriptors; FileDescriptorStoreMax= of our unit is a quarter of it


class Handed(NamedTuple):
    """A descriptor that the manager kept, and the name that it has there."""

    name: str
    fd: int


def for_children(environment: Mapping[str, str]) -> dict[str, str]:
    """What a child is given of it: nobody but the service's own process speaks to the manager, or is spoken to."""
    ours = {SOCKET_VARIABLE, *WATCHDOG_VARIABLES, *LISTEN_VARIABLES}
    return {name: value for name, value in environment.items() if name not in ours}


def handed_back(environment: Mapping[str, str]) -> list[Handed]:
    """The descriptors that the manager gave this very process (sd_listen_fds(3)), which owns them from now on.

    Empty where there are none, or where they are another process's."""
    pid, count = environment.get("LISTEN_PID", ""), environment.get("LISTEN_FDS", "")
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    number = min(int(count), HANDED_BACK_MAX)
    names = environment.get("LISTEN_FDNAMES", "").split(":")
    names += ["unknown"] * (number - len(names))
    return [Handed(name, FIRST_FD + at) for at, name in enumerate(names[:number])]


def forget_handed_back(environment: MutableMapping[str, str]) -> None:
    """They are taken, once."""
    for name in LISTEN_VARIABLES:
        environment.pop(name, None)


class NotifySocket:
    """address: as NOTIFY_SOCKET says it.  beat_s: how often the manager has to hear of us; 0.0: it does not ask."""

    def __init__(self, address: str, beat_s: float = 0.0) -> None:
        """Raises OSError."""
        self.address = "\0" + address[1:] if address.startswith("@") else address
        self.beat_s, self.beaten_s = beat_s, 0.0
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> NotifySocket | None:
        """None: there is no manager, or none that can be spoken to."""
        address = environment.get(SOCKET_VARIABLE, "")
        if not address:
            return None
        if address[0] not in "/@" or len(address) < 2:
            log.error(
                "NOTIFY_SOCKET: found %r, wanted a path or an abstract address (@...); the manager is told nothing",
                address[:100],
            )
            return None
        try:
            return cls(address, beat_s(environment))
        except OSError as error:
            log.error("NOTIFY_SOCKET %s: %s; the manager is told nothing", address, error)
            return None

    def send(self, words: str, fds: Sequence[int] = ()) -> None:
        """words: lines as sd_notify(3) lists them.  Raises OSError, BlockingIOError where its queue is full."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
        self.sock.sendmsg([words.encode("utf-8", "backslashreplace")], rights, flags, self.address)

    def beat(self, now_s: float) -> None:
        """At every turn of a loop: the watchdog hears of it twice as often as it wants to."""
        if self.beat_s and now_s - self.beaten_s >= self.beat_s:
            with contextlib.suppress(OSError):  # the next turn tries again
                self.send("WATCHDOG=1")
                self.beaten_s = now_s

    def barrier(self) -> int:
        """A descriptor that hangs up (POLLHUP) once the manager has done all that it was told before; the caller owns
        it.  Raises OSError."""
        ours, theirs = os.pipe2(os.O_CLOEXEC)
        try:
            self.send("BARRIER=1", [theirs])
        except OSError:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        return ours

    def close(self) -> None:
        self.sock.close()


def beat_s(environment: Mapping[str, str]) -> float:
    """Half of WATCHDOG_USEC, in seconds; 0.0 where no watchdog waits for this process."""
    span, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not span or (pid and pid != str(os.getpid())):
        return 0.0
    if not span.isdecimal() or not int(span):
        log.error("WATCHDOG_USEC: found %r, wanted a number of microseconds; no watchdog is told anything", span[:40])
        return 0.0
    return int(span) / 2e6
