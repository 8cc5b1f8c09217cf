"""A stranger on the wire may be a server that was added a second ago: ask the inventory for it, with measure.

Anybody can send DISCOVERs with MACs and giaddrs of his choice, thousands a second.  So a giaddr has a budget of its own
only where `dhcp.relays` lists it, there is a total, and as much is kept for who looks like one of this site's: MACs of
makers that the inventory knows, and what comes by a listed relay.  Those are asked for first.  At most BATCH in a job,
with a memory of who is not there.

A maker is forged as easily as a MAC, and then nothing tells a new host from the made-up ones but that it asks again
seconds later: part of each budget is kept for who does, and among its kind it goes first.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network
from itertools import chain, islice
from typing import Any

from control.planner.jobs import RefreshFailed

BATCH = 16  # MACs in one question to the inventory
BATCH_OTHERS = 4  # of them left to those that do not look like ours, where both wait
WAITING_MAX = 1_000  # of each kind, and of those that asked again as many
AGAIN_S = 0.5  # after its first time; sooner it may be one DISCOVER by two relays
ASKED_MAX = 1 << 16  # MACs remembered as having asked, up to twice as many: 33 to 66 s of 2,000 forged ones a second
UNKNOWN_S, UNKNOWN_MAX = 60.0, 10_000  # who is not in the inventory is not asked for again so soon
PLACE_PER_S, PLACE_BURST, PLACES_MAX = 20.0, 100.0, 1_000
TOTAL_PER_S, TOTAL_BURST = 40.0, 200.0  # of each kind, all places together
PLACE_KEPT, TOTAL_KEPT = 50.0, 100.0  # saved up besides, for who asks again
RETRY_S = 2.0  # after a failure: the inventory is down, and every retransmission would ask again

Ask = Callable[[list[str]], Awaitable[tuple[dict[str, Any], list[str]]]]


class Asked:
    """When a MAC asked for the first time; the ones that asked long ago are forgotten."""

    def __init__(self) -> None:
        # Not an OrderedDict: that has links to each, which the garbage collector would walk.
        self.young: dict[str, float] = {}
        self.old: dict[str, float] = {}

    def first_s(self, mac: str, now: float) -> float:
        since = self.young.get(mac)
        if since is None:
            since = self.old.get(mac)
        if since is None:
            if len(self.young) >= ASKED_MAX:
                self.old, self.young = self.young, {}
            since = self.young[mac] = now
        return since

    def forget(self, mac: str) -> None:
        self.young.pop(mac, None)
        self.old.pop(mac, None)


class Queue:
    """MACs that wait for a look-up, each part in the order of asking."""

    def __init__(self) -> None:
        self.again: dict[str, None] = {}
        self.first: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self.again) + len(self.first)

    def __contains__(self, mac: str) -> bool:
        return mac in self.again or mac in self.first

    def __iter__(self) -> Iterator[str]:
        return chain(self.again, self.first)

    def part(self, again: bool) -> dict[str, None]:
        return self.again if again else self.first

    def ahead(self, mac: str) -> None:
        if mac in self.first:
            del self.first[mac]
            self.again[mac] = None

    def discard(self, mac: str) -> None:
        self.again.pop(mac, None)
        self.first.pop(mac, None)


class Lookups:
    """look_up: reads hosts by MAC and publishes what changed; returns its figures and the MACs that do not exist.

    relays: dhcp.relays; familiar: whether a MAC's maker is one whose cards the inventory has; on_found: is told of each
    MAC that the inventory has."""

    def __init__(
        self,
        look_up: Ask,
        relays: Sequence[IPv4Network] = (),
        familiar: Callable[[str], bool] = lambda _mac: False,
        clock: Callable[[], float] = time.monotonic,
        on_found: Callable[[str], None] = lambda _mac: None,
    ) -> None:
        self.look_up = look_up
        self.on_found = on_found
        self.relays = relays
        self.familiar = familiar
        self.clock = clock
        self.ours = Queue()  # who waits and looks like one of ours
        self.others = Queue()
        self.asked = Asked()  # and had no look-up yet
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
        if self.unknown.get(mac, 0.0) > now:
            return
        again = now >= self.asked.first_s(mac, now) + AGAIN_S
        for queue in (self.ours, self.others):
            if mac in queue:
                if again:
                    queue.ahead(mac)
                return
        relay = self.relay_of(giaddr)
        ours = relay is not None or self.familiar(mac)
        queue = self.ours if ours else self.others
        part = queue.part(again)
        if len(part) >= WAITING_MAX or not self.afford(interface, relay, ours, again, now):
            self.counts["over_budget"] += 1
            return
        part[mac] = None
        self.news.set()

    def relay_of(self, giaddr: str | None) -> IPv4Network | None:
        """The entry of dhcp.relays: one for all addresses in it, which may be many and are as easily forged as one."""
        if giaddr is None or not self.relays:
            return None
        address = IPv4Address(giaddr)
        return next((network for network in self.relays if address in network), None)

    def afford(self, interface: str, relay: IPv4Network | None, ours: bool, again: bool, now: float) -> bool:
        """Of the place's and of the total budget, or of neither."""
        place, total = (interface, relay, ours), (ours,)
        of_place = self.left(place, PLACE_PER_S, PLACE_BURST + PLACE_KEPT, now)
        of_all = self.left(total, TOTAL_PER_S, TOTAL_BURST + TOTAL_KEPT, now)
        if of_place < 1 + PLACE_KEPT * (not again) or of_all < 1 + TOTAL_KEPT * (not again):
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
        first = list(islice(self.ours, BATCH - min(BATCH_OTHERS, len(self.others))))
        return first + list(islice(self.others, BATCH - len(first)))

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
                self.asked.forget(mac)
                if mac not in missing:
                    self.on_found(mac)
        for mac in macs:
            self.ours.discard(mac)
            self.others.discard(mac)

    def forget(self, macs: list[str], seconds: float) -> None:
        until = self.clock() + seconds
        for mac in macs:
            self.unknown.pop(mac, None)
            self.unknown[mac] = until
        while len(self.unknown) > UNKNOWN_MAX:
            self.unknown.popitem(last=False)
