"""A site of some machines, an engine and an inventory, under a seed: everything that happens is drawn from it.

What goes wrong is drawn first, as a list; the rest (delays, losses) has a source of chance of its own, so that a
schedule from which some troubles were left out goes on much as before.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import Any

from control.fleet.canary import Canary
from control.fleet.messages import NOWHERE, SESSION_BYTES, Blob, Lease, encode
from tests.fleet import troubles
from tests.fleet.engine import Engine
from tests.fleet.machine import Machine
from tests.fleet.tables import Table, table
from tests.fleet.truth import Broken, Truth

SETTLE_MS = 90_000  # for everything to be well again, once nothing disturbs
LOOK_MS = 1_000


@dataclass(frozen=True, slots=True)
class Weather:
    """Of the network: shares of messages, and milliseconds."""

    lost: float = 0.0
    doubled: float = 0.0
    slow: float = 0.0
    slow_ms: int = 1


CALM = Weather()


@dataclass(frozen=True, slots=True)
class Story:
    """broken: None where everything held."""

    seed: int
    broken: Broken | None
    lines: tuple[str, ...]
    events: int
    settled_ms: int  # after the last trouble


class World:
    def __init__(self, seed: int, without: frozenset[int] = frozenset(), told: bool = False) -> None:
        """without: numbers of the troubles that are left out; told: whether the story is kept."""
        plan = Random(f"{seed} plan")
        self.seed, self.random = seed, Random(f"{seed} chance")
        self.told = told
        self.lines: list[str] = []
        self.now = self.events = self.order = 0
        self.queue: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self.truth = Truth()
        self.engine = Engine(self.head_written)
        self.forging = self.forged_over = False
        self.weather = CALM
        self.inventory_up = True
        self.head_meddler: Callable[[World, tuple[bytes | None, int]], tuple[bytes | None, int]] | None = None
        self.blob_meddler: Callable[[World, Blob, list[bytes | None]], list[bytes | None]] | None = None
        self.tables: dict[bytes, Table] = {}
        self.inventory = self.changed(1, True)
        names = [f"m{number}" for number in range(plan.choice((2, 3, 3, 3, 4)))]
        self.canaries = tuple(names[-1:]) if plan.random() < 0.5 else ()
        self.canary = Canary(hosts=self.canaries, wait_ms=6_000, rows=100)
        if plan.random() < 0.8:  # as the fleet's keys are made with it
            self.engine.write("lease", encode(Lease(holder="", session=bytes(SESSION_BYTES), beat=0)), 0, 0)
        follower = plan.choice(names) if plan.random() < 0.2 else ""
        self.machines = [Machine(self, name, name != follower) for name in names]
        self.troubles = troubles.drawn(plan, names)
        for number, trouble in enumerate(self.troubles):
            if number not in without:
                self.at(trouble.time, self.strike, trouble)
        for machine in self.machines:
            self.later(plan.choice((0, 0, 100, 9_000)), self.switch_on, machine)
        self.end = self.troubles[-1].time + 5_000 if self.troubles else 20_000

    # --- time --------------------------------------------------------------------------------------------------------

    def at(self, time: int, call: Callable[..., None], *args: Any) -> None:
        self.order += 1
        heapq.heappush(self.queue, (time, self.order, call, args))

    def later(self, delay: int, call: Callable[..., None], *args: Any) -> None:
        self.at(self.now + delay, call, *args)

    def tell(self, line: str) -> None:
        if self.told:
            self.lines.append(f"{self.now / 1000:8.3f} s  {line}")

    def run(self) -> Story:
        broken: Broken | None = None
        settled_ms = 0
        try:
            self.run_until(self.end)
            self.heal()
            settled_ms = self.settle()
        except Broken as fault:
            broken = fault
            self.tell(f"BROKEN {fault}")
        return Story(self.seed, broken, tuple(self.lines), self.events, settled_ms)

    def run_until(self, time: int) -> None:
        queue = self.queue
        while queue and queue[0][0] <= time:
            self.now, _order, call, args = heapq.heappop(queue)
            self.events += 1
            call(*args)
        self.now = time
        self.truth.traps_kept(self.machines)

    def settle(self) -> int:
        began, why = self.now, ""
        while self.now - began < SETTLE_MS:
            self.run_until(self.now + LOOK_MS)
            why = self.truth.unsettled(self)
            if not why:
                return self.now - began
            if (self.now - began) % 5_000 == 0:
                troubles.release(self)
        raise Broken("converges", f"{SETTLE_MS // 1000} s after the last trouble: {why}")

    def head_written(self, raw: bytes) -> None:
        if not self.forging:
            reached = [m for m in self.machines if m.alive and self.now >= m.paused_until and not m.cut]
            reached = [m for m in self.machines if m.alive and self.now >= m.paused_until and not m.cut]
            unknown = all(m.disk.mark == NOWHERE for m in reached)
            if self.forged_over and unknown:
                self.engine.wipes += 1  # nobody who could tell has what stood there
            self.forged_over = False
            first = self.weather is not CALM or unknown
            self.truth.head_written(raw, self.engine.wipes, first)
            self.truth.tables_go_on(self, raw)

    # --- what happens ------------------------------------------------------------------------------------------------

    def switch_on(self, machine: Machine) -> None:
        if not machine.alive and not machine.life:
            self.tell(f"{machine.name} starts")
            machine.start()

    def strike(self, trouble: troubles.Trouble) -> None:
        self.tell(f"TROUBLE {trouble.name}{' ' if trouble.args else ''}{' '.join(map(str, trouble.args))}")
        troubles.STRIKES[trouble.name](self, *trouble.args)

    def heal(self) -> None:
        self.tell("all is well from here")
        self.weather, self.inventory_up, self.head_meddler, self.blob_meddler = CALM, True, None, None
        self.engine.up, self.engine.restoring = True, 0
        for machine in self.machines:
            machine.cut.clear()
            machine.lag, machine.holes, machine.stop_in = 0, 0.0, None
            if not machine.alive:
                machine.start()
        self.inventory = self.changed(self.inventory.version + 1, self.random.random() < 0.5)

    def changed(self, version: int, big: bool, poison: bool = False) -> Table:
        made = table(version, version if big else self.inventory.base, poison)
        self.tables[made.digest] = made
        return made

    def ways(self, _lossy: bool = True) -> list[int]:
        """Delays after which a message arrives: none, once, or twice."""
        random, weather = self.random.random, self.weather
        if weather is CALM:
            return [1 + int(20 * random())]
        found = []
        for _copy in range(2 if random() < weather.doubled else 1):
            if random() >= weather.lost:
                slow = random() < weather.slow
                found.append(1 + int((weather.slow_ms if slow else 30) * random()))
        return found

    def meddle_head(self, found: tuple[bytes | None, int]) -> tuple[bytes | None, int]:
        return self.head_meddler(self, found) if self.head_meddler else found

    def meddle_blob(self, blob: Blob, found: list[bytes | None]) -> list[bytes | None]:
        return self.blob_meddler(self, blob, found) if self.blob_meddler else found

    def leaders(self) -> list[Machine]:
        return [m for m in self.machines if m.alive and m.member.leads(m.clock(self.now))]


def play(seed: int, without: Iterable[int] = (), told: bool = False) -> Story:
    return World(seed, frozenset(without), told).run()


def shrunk(seed: int, rule: str) -> tuple[Story, frozenset[int]]:
    """The story of a failing seed with as few troubles as still break that rule, and the numbers of those left out."""
    without = frozenset[int]()
    for number in reversed(range(len(World(seed).troubles))):
        tried = play(seed, without | {number})
        if tried.broken is not None and tried.broken.rule == rule:
            without |= {number}
    return play(seed, without, told=True), without
