"""A listening socket with limits: takes connections as fast as they come, and shuts out who is one too many at once.

A queue of the kernel that strangers fill is a door that nobody else gets through, so nothing waits there for its turn;
and no number of connections, nor the end of descriptors, stops the loop or fills the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

log = logging.getLogger("bootstorm.door")

ACCEPTS_A_TURN = 64
REFUSED_A_TURN = 32  # then the door rests: 12,800 a second cost a fifth of a core
REST_S = 0.005
TOLD_EVERY_S = 60.0  # a line in the log about what was refused
FAULT_REST_S = 0.1
REASONS = ("gone", "EMFILE", "ENFILE", "error")  # that any door may have to refuse a connection; rarely another errno


class Refused(Exception):
    """Not let in.  reason: what it is counted as; reply: what the peer is told first."""

    def __init__(self, reason: str, reply: bytes = b"") -> None:
        super().__init__(reason)
        self.reason = reason
        self.reply = reply


class Door:
    """admit(sock): raises Refused; else what serve() gets beside the socket.  serve closes nothing: the door does.

    refused: how many for which reason; connections: open ones."""

    def __init__(
        self,
        name: str,
        listener: socket.socket,
        admit: Callable[[socket.socket], Any],
        serve: Callable[[socket.socket, Any], Coroutine[Any, Any, None]],
    ) -> None:
        self.name = name
        self.listener = listener
        self.admit = admit
        self.serve = serve
        self.refused: Counter[str] = Counter()
        self.served = 0
        self.guests: set[asyncio.Task[None]] = set()
        self.told: Counter[str] = Counter()
        self.tell_due_s = 0.0
        self.resting: asyncio.TimerHandle | None = None
        self.spare = -1

    @property
    def connections(self) -> int:
        return len(self.guests)

    def open(self) -> None:
        """From now on, in the running loop."""
        self.listener.setblocking(False)
        self.spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)  # given up where there are no more
        asyncio.get_running_loop().add_reader(self.listener.fileno(), self.on_ready)

    async def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.listener.fileno())
        if self.resting is not None:
            self.resting.cancel()
        guests = list(self.guests)
        for guest in guests:
            guest.cancel()
        await asyncio.gather(*guests, return_exceptions=True)
        self.listener.close()
        if self.spare >= 0:
            os.close(self.spare)

    def on_ready(self) -> None:
        refused = 0
        for _ in range(ACCEPTS_A_TURN):
            try:
                sock, _address = self.listener.accept()
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno == errno.ECONNABORTED:
                    continue
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    self.shed()
                self.count(errno.errorcode.get(error.errno or 0, "error"))
                self.rest(FAULT_REST_S)
                break
            refused += not self.let_in(sock)
            if refused >= REFUSED_A_TURN:
                self.rest(REST_S)
                break
        self.tell()

    def let_in(self, sock: socket.socket) -> bool:
        sock.setblocking(False)
        try:
            guest = self.admit(sock)
        except (Refused, OSError) as refusal:
            if isinstance(refusal, Refused):
                with contextlib.suppress(OSError):
                    sock.send(refusal.reply)
            self.count(refusal.reason if isinstance(refusal, Refused) else "gone")
            sock.close()
            return False
        self.served += 1
        task = asyncio.get_running_loop().create_task(self.entertain(sock, guest), name=self.name)
        self.guests.add(task)
        task.add_done_callback(self.guests.discard)
        return True

    async def entertain(self, sock: socket.socket, guest: Any) -> None:
        with sock:
            try:
                await self.serve(sock, guest)
            except OSError:
                log.debug("%s: a peer went away", self.name)
            except Exception:  # one peer's fault must not end control, and must not pass silently
                log.exception("%s: a connection ended by a fault of ours", self.name)

    def shed(self) -> None:
        """No descriptor is left: the first in the queue is taken by the spare one and shut out, for a queue that stays
        full would wake us for ever."""
        if self.spare >= 0:
            os.close(self.spare)
            self.spare = -1
        with contextlib.suppress(OSError):
            self.listener.accept()[0].close()
        with contextlib.suppress(OSError):
            self.spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def rest(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self.listener.fileno())
        self.resting = loop.call_later(seconds, self.go_on)

    def go_on(self) -> None:
        self.resting = None
        asyncio.get_running_loop().add_reader(self.listener.fileno(), self.on_ready)

    def count(self, reason: str) -> None:
        self.refused[reason] += 1

    def tell(self) -> None:
        """One line a minute at most."""
        now = asyncio.get_running_loop().time()
        if self.refused == self.told or now < self.tell_due_s:
            return
        news = ", ".join(f"{count} {reason}" for reason, count in sorted((self.refused - self.told).items()))
        log.warning("%s: connections refused: %s", self.name, news)
        self.told = Counter(self.refused)
        self.tell_due_s = now + TOLD_EVERY_S

    def status(self) -> dict[str, Any]:
        return {"open": self.connections, "served": self.served, "refused": dict(self.refused)}
