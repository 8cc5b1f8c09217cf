"""One registrar process as the coordinator has it: started when there is work, one machine at a time, ended when it
hangs."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

from control.config.config import Config
from control.discovery.jobs import (
    KINDS,
    Granted,
    Intent,
    Outcome,
    Progress,
    RegistrarBegin,
    Reserved,
    Reserves,
    Stage,
    Work,
)
from control.discovery.states import OUTCOMES
from fastpath.protocol import Channel, ChannelClosed, close_all, memfd

# Without a request that was answered, each of which is given up after 40 s at most.
PROGRESS_LIMIT_S: Final = 60.0
FACTORY_LIMIT_S: Final = 30.0  # one call of a site's factory

Intend = Callable[[str, str], Awaitable[Granted]]
"""MAC and name -> whether the name is on disk for it."""
Word = Callable[[int], str]
"""Address -> what has it already, although the inventory knows of nobody; "" for nothing."""


Page = Callable[[], int]
"""In a fleet the descriptor of the page that says until when this machine may write, borrowed; -1 without one."""


class Ended(Exception):
    """The registrar is gone, or was ended: the text says at what.  by_factory: in the site's own code."""

    def __init__(self, message: str, *, by_factory: bool) -> None:
        super().__init__(message)
        self.by_factory = by_factory


class RegistrarProcess:
    """intend: asked before a server is made; word: before an address is bound.  place: its number among registrars."""

    def __init__(
        self,
        config: Config,
        intend: Intend,
        factory_limit_s: float = FACTORY_LIMIT_S,
        word: Word = lambda _address: "",
        page: Page = lambda: -1,
        place: int = 0,
    ) -> None:
        self.page, self.place = page, place
        self.config = config
        self.intend = intend
        self.word = word
        self.factory_limit_s = factory_limit_s
        self.process: asyncio.subprocess.Process | None = None
        self.channel: Channel | None = None
        self.messages: asyncio.Queue[Any] = asyncio.Queue()
        self.stage, self.staged_s = "", 0.0
        self.switch: str | None = None  # of its last machine, and how many of that it had in a row
        self.stayed = 0

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None else None

    async def do(self, work: Work) -> Outcome:
        """Raises Ended; then the next work starts another process."""
        loop = asyncio.get_running_loop()
        self.stage, self.staged_s = "", 0.0
        heard_s, requests = loop.time(), 0
        try:
            if self.channel is None:
                await self.start()
            assert self.channel is not None
            self.channel.send(work)
            while True:
                limit_s = heard_s + PROGRESS_LIMIT_S
                if self.stage:  # whatever it does, its own requests included
                    limit_s = min(limit_s, self.staged_s + self.factory_limit_s)
                async with asyncio.timeout_at(limit_s):
                    message = await self.messages.get()
                heard_s = loop.time()
                if isinstance(message, Outcome):
                    if message.state not in OUTCOMES:
                        raise ChannelClosed(f"it said that {message.mac} is {str(message.state)[:40]!r}")
                    return message
                if isinstance(message, Stage):
                    self.stage, self.staged_s = message.text, heard_s
                elif isinstance(message, Progress):
                    requests = message.requests
                elif isinstance(message, Intent):
                    granted = await self.intend(message.mac, message.name)
                    self.channel.send(granted)
                elif isinstance(message, Reserves):
                    self.channel.send(Reserved(words=[self.word(address) for address in message.addresses]))
                else:
                    raise ChannelClosed(str(message))
        except TimeoutError:
            if self.stage and loop.time() >= self.staged_s + self.factory_limit_s:
                raise await self.gone(f"took over {self.factory_limit_s:.0f} s and was ended") from None
            what = f"made no progress for {PROGRESS_LIMIT_S:.0f} s after {requests} requests and was ended"
            raise await self.gone(f"the registrar {what}") from None
        except (ChannelClosed, OSError) as error:
            raise await self.gone(f"the registrar's process ended ({error}); see its log lines") from error

    async def gone(self, what: str) -> Ended:
        stage = self.stage
        await self.end()
        return Ended(f"{stage}: {what}" if stage else what, by_factory=bool(stage))

    async def start(self) -> None:
        ours, theirs = Channel.pair(KINDS)
        argv = [sys.executable, "-P", "-m", "control", "registrar", str(theirs.fileno())]
        try:
            self.process = await asyncio.create_subprocess_exec(*argv, pass_fds=[theirs.fileno()])
        finally:
            theirs.close()
        ours.sock.setblocking(False)
        self.channel, self.messages = ours, asyncio.Queue()
        asyncio.get_running_loop().add_reader(ours.fileno(), self.on_message, ours)
        with memfd("bootstorm-config", self.config.text) as fd:
            page = self.page()
            begin = RegistrarBegin(config_path=str(self.config.path), place=self.place)
            ours.send(begin, [fd] if page < 0 else [fd, page])

    def on_message(self, channel: Channel) -> None:
        try:
            message, fds = channel.receive()
        except BlockingIOError:
            return
        except ChannelClosed as gone:
            asyncio.get_running_loop().remove_reader(channel.fileno())
            self.messages.put_nowait(gone)
            return
        close_all(fds)
        self.messages.put_nowait(message)

    async def end(self) -> None:
        if self.channel is not None:
            asyncio.get_running_loop().remove_reader(self.channel.fileno())
            self.channel.close()
            self.channel = None
            self.messages.put_nowait(ChannelClosed("it was ended"))  # for who waits for its answer
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
            self.process = None
