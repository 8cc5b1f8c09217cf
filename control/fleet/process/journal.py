"""The leader's journal of discovery in the engine, where the next leader finds it: one message a machine.

Control writes its own journal on its disk and hands each record on.  They are stored in their order, each acknowledged,
and again until it is; control is told when everything so far is there.  Who takes the lead reads all of it once.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from control.fleet.process import jobs
from control.fleet.process.engine import EngineFault

if TYPE_CHECKING:
    from control.fleet.process.engine import Engine

log = logging.getLogger("bootstorm.fleet")

QUEUE_MAX: Final = 20_000  # what is more is on this machine's disk alone, and named
AT_ONCE: Final = 16
AGAIN_S: Final = 0.5
RECORD_BYTES_MAX: Final = 48 << 10  # of one machine: its texts are bounded
_MAC: Final = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")


def word_of(mac: str) -> str:
    """The last part of its subject."""
    return mac.replace(":", "")


def mac_of(word: str) -> str:
    """ "" for what is none."""
    mac = ":".join(word[at : at + 2] for at in range(0, len(word), 2))
    return mac if _MAC.fullmatch(mac) else ""


class EngineJournal:
    """send: to control.  leads(): whether this machine may write it."""

    def __init__(
        self, engine: Engine, send: Callable[[jobs.Told | jobs.Recall], bool], leads: Callable[[], bool]
    ) -> None:
        self.engine, self.send, self.leads = engine, send, leads
        self.queue: deque[tuple[str, bytes] | int] = deque()
        self.bell = asyncio.Event()
        self.fault = ""
        self.lost = 0
        self.terms = 0  # of the lead that have ended

    # --- of control ----------------------------------------------------------------------------------------------

    def keep(self, mac: str, record: bytes) -> None:
        """record: nothing where the machine is through."""
        if len(self.queue) >= QUEUE_MAX or len(record) > RECORD_BYTES_MAX:
            self.lost += 1
            return
        self.queue.append((mac, record))
        self.bell.set()

    def sync(self, number: int) -> None:
        """Answered with Told when all that came before is stored."""
        self.queue.append(number)
        self.bell.set()

    def end(self) -> None:
        """Of the lead: the next leader's records are the newer ones."""
        self.terms += 1
        waiting = [each for each in self.queue if isinstance(each, int)]
        self.queue.clear()
        for number in waiting:
            self.send(jobs.Told(number=number, fault="this machine does not lead its fleet any more"))

    # --- the engine ----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """For ever."""
        while True:
            await self.bell.wait()
            self.bell.clear()
            while self.queue:
                if not await self.stored(self.next_group()):
                    await asyncio.sleep(AGAIN_S)

    def next_group(self) -> list[tuple[str, bytes]]:
        """The first ones; of a machine one at a time, so that the last is the one that stays."""
        group: dict[str, bytes] = {}
        for each in self.queue:
            if isinstance(each, int) or each[0] in group or len(group) >= AT_ONCE:
                break
            group[each[0]] = each[1]
        return list(group.items())

    async def stored(self, group: list[tuple[str, bytes]]) -> bool:
        if not self.leads():
            self.end()
            return True
        term = self.terms
        try:
            await asyncio.gather(*(self.store(mac, record) for mac, record in group))
        except EngineFault as fault:
            if str(fault) != self.fault:
                log.warning("the journal of discovery is not in the engine: %s", fault)
            self.fault = str(fault)
            return False
        self.fault = ""
        if term != self.terms:
            return True  # it was emptied meanwhile
        for _ in group:
            self.queue.popleft()
        while self.queue and isinstance(number := self.queue[0], int):
            self.queue.popleft()
            self.send(jobs.Told(number=number))
        return True

    def store(self, mac: str, record: bytes) -> Awaitable[None]:
        word = word_of(mac)
        return self.engine.keep_record(word, record) if record else self.engine.forget_record(word)

    async def recall(self) -> None:
        """To control, all of it, and that it was all.  Raises EngineFault."""
        try:
            words = [word for word in await self.engine.record_words() if mac_of(word)]
        except EngineFault as fault:
            self.fault = f"it cannot be read: {fault}"
            log.warning("the journal of discovery in the engine cannot be read: %s; nobody is registered", fault)
            raise
        for at in range(0, len(words), AT_ONCE):
            group = words[at : at + AT_ONCE]
            for word, record in zip(group, await asyncio.gather(*map(self.engine.record, group)), strict=True):
                if record and len(record) <= RECORD_BYTES_MAX:
                    while not self.send(jobs.Recall(mac=mac_of(word), record=record)):
                        await asyncio.sleep(AGAIN_S)
        while not self.send(jobs.Recall(mac="", record=b"")):
            await asyncio.sleep(AGAIN_S)
        log.info("the journal of discovery in the engine has %d machines", len(words))
