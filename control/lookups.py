"""A stranger on the wire may be a server that was added a second ago: ask the inventory for it, with measure.

Anybody can send DISCOVERs with MACs and giaddrs of his choice, thousands a second.  So a giaddr has a budget of its own
only where `dhcp.relays` lists it, there is a total, and as much is kept for who looks like one of this site's: MACs of
makers that the inventory knows, and what comes by a listed relay.  Those are asked for first.  At most BATCH in a job,
with a memory of who is not there.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from control.refresh import RefreshFailed

BATCH = 16  # MACs in one question to the inventory
BATCH_OTHERS = 4  # of them left to those that do not look like ours, where both wait
WAITING_MAX = 1_000  # of each kind
UNKNOWN_S, UNKNOWN_MAX = 60.0, 10_000  # who is not in the inventory is not asked for again so soon
PLACE_PER_S, PLACE_BURST, PLACES_MAX = 20.0, 100.0, 1_000
TOTAL_PER_S, TOTAL_BURST = 40.0, 200.0  # of each kind, all places together
RETRY_S = 2.0  # after a failure: the inventory is down, and every retransmission would ask again

Ask = Callable[[list[str]], Awaitable[tuple[dict[str, Any], list[str]]]]


class Lookups:
    """look_up: reads hosts by MAC and publishes what changed; returns its figures and the MACs that do not exist.

    relays: dhcp.relays; familiar: whether a MAC's maker is one whose cards the inventory has."""

    def __init__(
        self,
        look_up: Ask,
        relays: Sequence[IPv4Network] = (),
        familiar: Callable[[str], bool] = lambda _mac: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.look_up = look_up
        self.relays = relays
        self.familiar = familiar
        self.clock = clock
        self.ours: dict[str, None] = {}  # who waits and looks like one of ours, in the order of asking
        self.others: dict[str, None] = {}
        self.unknown: OrderedDict[str, float] = OrderedDict()  # MAC -> until when
        self.budgets: OrderedDict[tuple[Any, ...], tuple[float, float]] = OrderedDict()  # place -> (left, when)
        self.news = asyncio.Event()
        self.counts = {"asked": 0, "found": 0, "unknown": 0, "over_budget": 0, "failed": 0}

    @property
    def waiting(self) -> list[str]:
        """In the order in which they are asked for."""
        return [*self.ours, *self.others]

    def ask(self, mac: str, interface: str, giaddr: str | None = None) -> None:
        """A MAC that the table does not have was seen on an interface, perhaps by a relay that says it is giaddr."""
        now = self.clock()
        if mac in self.ours or mac in self.others or self.unknown.get(mac, 0.0) > now:
            return
        relay = self.relay_of(giaddr)
        ours = relay is not None or self.familiar(mac)
        queue = self.ours if ours else self.others
        if len(queue) >= WAITING_MAX or not self.afford(interface, relay, ours, now):
            self.counts["over_budget"] += 1
            return
        queue[mac] = None
        self.news.set()

    def relay_of(self, giaddr: str | None) -> IPv4Network | None:
        """The entry of dhcp.relays: one for all addresses in it, which may be many and are as easily forged as one."""
        if giaddr is None or not self.relays:
            return None
        address = IPv4Address(giaddr)
        return next((network for network in self.relays if address in network), None)

    def afford(self, interface: str, relay: IPv4Network | None, ours: bool, now: float) -> bool:
        """Of the place's and of the total budget, or of neither."""
        place, total = (interface, relay, ours), (ours,)
        if self.left(place, PLACE_PER_S, PLACE_BURST, now) < 1 or self.left(total, TOTAL_PER_S, TOTAL_BURST, now) < 1:
            return False
        for key in (place, total):
            left, since = self.budgets[key]
            self.budgets[key] = (left - 1, since)
        return True

    def left(self, key: tuple[Any, ...], per_s: float, burst: float, now: float) -> float:
        left, since = self.budgets.pop(key, (burst, now))
        left = min(burst, left + (now - since) * per_s)
        self.budgets[key] = (left, now)
        while len(self.budgets) > PLACES_MAX:
            self.budgets.popitem(last=False)
        return left

    async def run(self) -> None:
        while True:
            await self.news.wait()
            self.news.clear()
            while self.ours or self.others:
                await self.take(self.next_batch())

    def next_batch(self) -> list[str]:
        first = list(self.ours)[: BATCH - min(BATCH_OTHERS, len(self.others))]
        return first + list(self.others)[: BATCH - len(first)]

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
            self.ours.pop(mac, None)
            self.others.pop(mac, None)

    def forget(self, macs: list[str], seconds: float) -> None:
        until = self.clock() + seconds
        for mac in macs:
            self.unknown.pop(mac, None)
            self.unknown[mac] = until
        while len(self.unknown) > UNKNOWN_MAX:
            self.unknown.popitem(last=False)
