"""A stranger on the wire may be a server that was added a second ago: ask the inventory for it, with measure.

Coalesced, at most BATCH at a time in one job, with a budget for each relay or interface so that a room full of
strangers cannot keep others waiting, and with a memory of who is not there.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any

from control.refresh import RefreshFailed

BATCH = 16  # MACs in one question to the inventory
WAITING_MAX = 1_000
UNKNOWN_S, UNKNOWN_MAX = 60.0, 10_000  # who is not in the inventory is not asked for again so soon
PLACE_PER_S, PLACE_BURST, PLACES_MAX = 20.0, 100.0, 1_000
RETRY_S = 2.0  # after a failure: the inventory is down, and every retransmission would ask again

Ask = Callable[[list[str]], Awaitable[tuple[dict[str, Any], list[str]]]]


class Lookups:
    """look_up: reads hosts by MAC and publishes what changed; returns its figures and the MACs that do not exist."""

    def __init__(self, look_up: Ask, clock: Callable[[], float] = time.monotonic) -> None:
        self.look_up = look_up
        self.clock = clock
        self.waiting: dict[str, None] = {}  # in the order of asking
        self.unknown: OrderedDict[str, float] = OrderedDict()  # MAC -> until when
        self.budgets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # place -> (left, when)
        self.news = asyncio.Event()
        self.counts = {"asked": 0, "found": 0, "unknown": 0, "over_budget": 0, "failed": 0}

    def ask(self, mac: str, place: str) -> None:
        """A MAC that the table does not have was seen at a relay or interface."""
        now = self.clock()
        if mac in self.waiting or self.unknown.get(mac, 0.0) > now:
            return
        if len(self.waiting) >= WAITING_MAX or not self.afford(place, now):
            self.counts["over_budget"] += 1
            return
        self.waiting[mac] = None
        self.news.set()

    def afford(self, place: str, now: float) -> bool:
        left, since = self.budgets.pop(place, (PLACE_BURST, now))
        left = min(PLACE_BURST, left + (now - since) * PLACE_PER_S)
        self.budgets[place] = (left - 1 if left >= 1 else left, now)
        while len(self.budgets) > PLACES_MAX:
            self.budgets.popitem(last=False)
        return left >= 1

    async def run(self) -> None:
        while True:
            await self.news.wait()
            self.news.clear()
            while self.waiting:
                await self.take(list(self.waiting)[:BATCH])

    async def take(self, macs: list[str]) -> None:
        """One question; the answer is published before this returns, so the next retransmission is answered."""
        self.counts["asked"] += len(macs)
        try:
            _figures, missing = await self.look_up(macs)
        except RefreshFailed:  # the refresher keeps the reason and shows it in the status
            self.counts["failed"] += len(macs)
            self.forget(macs, RETRY_S)
        else:
            self.counts["found"] += len(macs) - len(missing)
            self.counts["unknown"] += len(missing)
            self.forget(missing, UNKNOWN_S)
        for mac in macs:
            self.waiting.pop(mac, None)

    def forget(self, macs: list[str], seconds: float) -> None:
        until = self.clock() + seconds
        for mac in macs:
            self.unknown.pop(mac, None)
            self.unknown[mac] = until
        while len(self.unknown) > UNKNOWN_MAX:
            self.unknown.popitem(last=False)
