"""Control and its observer: what they say to each other, and control's end of it.

The channel outlives both of them (the supervisor keeps it), so neither hears of the other's death: every question has a
time limit and a number, and an answer that nobody waits for is dropped.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from dataclasses import dataclass
from typing import Any

import msgpack

from fastpath.protocol import Channel, ChannelClosed, close_all

ANSWER_S = 10.0
HOSTS_MAX = 200  # in one answer; the client asks for the rest


class ObserverSilent(Exception):
    """No answer: none is running, or it is busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Control -> observer.  mac: this host alone, as it names itself; else hosts with differences behind `after`.
    strict: as if no difference were set aside."""

    number: int
    mac: str | None
    after: str
    limit: int
    strict: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Observer -> control.  fds: a memfd with msgpack, {"totals", "hosts"}."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Observer -> control, at most once a second: control.observer.shadow.Shadow.totals(), and what was lost."""

    totals: dict[str, Any]


KINDS: dict[str, type] = {kind.__name__: kind for kind in (Ask, Told, Tally)}


class ObserverLink:
    """Control's end.  fd: of the channel, ours from now on."""

    def __init__(self, fd: int) -> None:
        self.channel = Channel.of_fd(fd, KINDS)
        self.channel.sock.setblocking(False)
        self.numbers = itertools.count(os.getpid() << 20)  # a predecessor's questions have others
        self.waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.totals: dict[str, Any] | None = None
        self.heard_s = 0.0

    def watch(self) -> None:
        asyncio.get_running_loop().add_reader(self.channel.fileno(), self.on_message)

    def on_message(self) -> None:
        try:
            message, fds = self.channel.receive()
        except (BlockingIOError, ChannelClosed):
            return
        if isinstance(message, Tally):
            self.totals, self.heard_s = message.totals, time.monotonic()
        elif isinstance(message, Told):
            with os.fdopen(os.dup(fds[0]), "rb") as file:
                file.seek(0)
                told = msgpack.unpack(file)
            waiting = self.waiting.get(message.number)
            if waiting is not None and not waiting.done():
                waiting.set_result(told)
        close_all(fds)

    def status(self) -> dict[str, Any] | None:
        """The last tally with its age; None before the first."""
        if self.totals is None:
            return None
        return self.totals | {"heard_s_ago": round(time.monotonic() - self.heard_s, 1)}

    async def ask(self, mac: str | None, after: str, limit: int, strict: bool = False) -> dict[str, Any]:
        """Raises ObserverSilent."""
        number = next(self.numbers)
        waiting = self.waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self.channel.send(Ask(number=number, mac=mac, after=after, limit=limit, strict=strict))
            async with asyncio.timeout(ANSWER_S):
                told: dict[str, Any] = await waiting
            return told
        except (TimeoutError, BlockingIOError, ChannelClosed) as silent:
            raise ObserverSilent(f"the observer does not answer within {ANSWER_S:.0f} s; see its log lines") from silent
        finally:
            del self.waiting[number]
