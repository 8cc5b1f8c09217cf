"""All rows counted: how many machines are how far, in all and by pool, rack and relay.

One count for all who ask within a second, in pieces, between which control's loop goes on.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import Counter
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any, Final

from ext.ledger import Ledger
from ext.roll import PROGRESS, Roll
from ext.scan import Scan, Watch
from ext.table import Pair

from control.service.machines.whereabouts import POOL, RACK, Index, Whereabouts

ROWS_AT_ONCE: Final = 20_000  # less than a millisecond
TOLD_AT_ONCE: Final = 100
TOTALS_S: Final = 1.0  # one count for all who ask within that time
CONTAINERS_TOLD: Final = 500  # of each kind: those with the most stuck, then with the most rows
RELAYS_TOLD: Final = 64
RELAY: Final = "relay"
KINDS: Final = (POOL, RACK, RELAY)
UNPLACED: Final = "which containers hosts are in is known once the inventory has been read"
OTHER: Final = "other"  # relays beyond those that are told


class WrongFilter(ValueError):
    """What is asked for cannot be; says what was found and what was wanted."""


@dataclass(slots=True)
class Counted:
    """A scan at its end.  ended_s: CLOCK_MONOTONIC; now_s: since 1970; told: overview(), once somebody has asked."""

    scan: Scan
    index: Index
    pair: Pair
    ended_s: float
    now_s: int
    totals: dict[str, Any]
    relays: dict[str, dict[str, Any]]
    relays_cut: int
    told: dict[str, Any] = field(default_factory=dict)

    def is_good(self, pair: Pair, whereabouts: Whereabouts) -> bool:
        """Of this table and of these containers, and not old."""
        of_now = self.pair is pair and self.index.groups is whereabouts.groups
        return of_now and time.monotonic() - self.ended_s < TOTALS_S


class Scans:
    def __init__(self, ledger: Ledger, whereabouts: Whereabouts) -> None:
        self.ledger = ledger
        self.whereabouts = whereabouts
        self.last: Counted | None = None
        self.last_roll: Roll | None = None
        self.turn, self.telling = asyncio.Lock(), asyncio.Lock()

    async def roll(self, pair: Pair) -> Roll:
        """All rows, with what is known of their containers now.  To make it takes a look at each row of the delta."""
        index = await self.whereabouts.indexed()
        placed, ends, doubtful = self.whereabouts.placed, self.whereabouts.ends, self.whereabouts.doubtful or b""
        roll = self.last_roll
        if roll is None or (roll.pair, roll.groups, roll.ends, roll.doubtful) != (pair, placed, ends, doubtful):
            roll = self.last_roll = Roll(pair, self.ledger, placed, ends, doubtful)
        if roll.habits is not index.habits:
            roll.learn(index.habits)
        return roll

    async def count(self, pair: Pair, watch: Watch | None = None) -> Counted:
        """Of at most TOTALS_S ago; with a watch of now.  What pools do is learnt with a watch, and the first time."""
        async with self.turn:
            last = self.last
            if last is not None and watch is None and last.is_good(pair, self.whereabouts):
                return last
            roll = await self.roll(pair)
            index = self.whereabouts.index
            companies, company_count = index.companies.tobytes(), len(index.company_names)
            learns = watch is not None or not index.has_learnt
            scan = Scan(roll, self.ledger.now_s(), len(index.groups), companies, company_count, watch, learns)
            while scan.step(ROWS_AT_ONCE):
                await asyncio.sleep(0)
            if learns:
                index.habits, index.has_learnt = scan.habits(), True
            states, stages = scan.totals()
            found, others, cut = scan.by_relay(RELAYS_TOLD)
            relays = {str(IPv4Address(address)) if address else "": counts for address, counts in found.items()}
            self.last = Counted(
                scan, index, pair, time.monotonic(), int(time.time()),
                {"states": states, "stages": stages, "progress": progress_of_all(states)},
                relays | ({OTHER: others} if cut else {}), cut,
            )  # fmt: skip
            return self.last

    async def totals(self, pair: Pair | None) -> dict[str, Any]:
        """{"since_s", "states": {state: {progress: rows}}, "stages": {stage: machines heard}, "progress": {progress:
        rows}, "relays": {giaddr, "" of who is heard directly: {progress: machines heard}}}."""
        since_s = {"since_s": self.ledger.since_s}
        if pair is None:
            return since_s | {"states": {}, "stages": {}, "progress": {}, "relays": {}}
        counted = await self.count(pair)
        relays = {name: {word: counts[word] for word in PROGRESS} for name, counts in counted.relays.items()}
        return since_s | counted.totals | {"relays": relays}

    async def sums(self, pair: Pair | None, kind: str) -> dict[str, Any]:
        """{"since_s", "of": {name of a container of a kind, or giaddr: {progress: rows, "stages": {stage: machines
        heard}}}}; "" is of those that are in none, or heard directly.

        An object in several counts in each of them.  Raises WrongFilter."""
        if kind not in KINDS:
            raise WrongFilter(f"by {kind[:40]!r}: wanted {', '.join(KINDS[:-1])} or {KINDS[-1]}")
        of: dict[str, Any] = {}
        if kind != RELAY and not self.whereabouts.placed:
            raise WrongFilter(UNPLACED)
        if pair is not None:
            counted = await self.count(pair)
            of = counted.relays if kind == RELAY else (await self.containers(counted, kind, None))[0]
        return {"since_s": self.ledger.since_s, "of": of}

    async def overview(self, pair: Pair | None) -> dict[str, Any]:
        """{"since_s", "now_s": when it was counted, "generation", "totals": {"states", "stages", "progress"}, "by":
        {kind: as "of" of sums()}, "cut": {kind: how many are left out, or among "other"}}."""
        if pair is None:
            nobody: dict[str, Any] = {"states": {}, "stages": {}, "progress": {}}
            times = {"since_s": self.ledger.since_s, "now_s": int(time.time()), "generation": 0}
            return {**times, "totals": nobody, "by": {kind: {} for kind in KINDS}, "cut": dict.fromkeys(KINDS, 0)}
        counted = await self.count(pair)
        async with self.telling:
            if not counted.told:
                told = {kind: await self.told(counted, kind) for kind in (POOL, RACK)}
                told[RELAY] = counted.relays, counted.relays_cut
                counted.told = {
                    "since_s": self.ledger.since_s,
                    "now_s": counted.now_s,
                    "generation": pair.top.number,
                    "totals": counted.totals,
                    "by": {kind: of for kind, (of, _cut) in told.items()},
                    "cut": {kind: cut for kind, (_of, cut) in told.items()},
                }
        return counted.told

    async def told(self, counted: Counted, kind: str) -> tuple[dict[str, dict[str, Any]], int]:
        """As containers(); nothing before it is known who is where."""
        return await self.containers(counted, kind, CONTAINERS_TOLD) if self.whereabouts.placed else ({}, 0)

    async def containers(self, counted: Counted, kind: str, most: int | None) -> tuple[dict[str, dict[str, Any]], int]:
        """Those of a kind that have rows, at most so many, and how many more there are."""
        index = counted.index
        names = index.names[kind]
        sums = counted.scan.summed(index.first[kind].tobytes(), index.members[kind].tobytes(), len(names))
        await asyncio.sleep(0)
        scores = Scan.scores(sums)
        await asyncio.sleep(0)
        places = [place for place, score in enumerate(scores) if score]
        await asyncio.sleep(0)
        chosen = places if most is None else heapq.nlargest(most, places, key=scores.__getitem__)
        of: dict[str, dict[str, Any]] = {}
        await asyncio.sleep(0)
        for number, place in enumerate(chosen):
            of[names[place]] = Scan.told(sums, place)
            if number % TOLD_AT_ONCE == TOLD_AT_ONCE - 1:
                await asyncio.sleep(0)
        return of, len(places) - len(chosen)


def progress_of_all(states: dict[str, dict[str, int]]) -> dict[str, int]:
    found = Counter(dict.fromkeys(PROGRESS, 0))
    for counts in states.values():
        found.update(counts)
    return dict(found)
