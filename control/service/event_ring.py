"""What happened, as numbered events for whoever follows: `ctl events`.  A bounded memory of control, gone with it.

An event is noted once, where it happens (`note`), and costs that place microseconds.  Numbers have no holes: who comes
late, or reads too slowly, is told which are missing.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from itertools import takewhile
from typing import Any, Final, NamedTuple

from control.planner.jobs import Planned
from control.sources.reasons import clipped

PIECE: Final = 200  # events at once
NAME_CHARS_MAX: Final = 255
REASON_CHARS_MAX: Final = 500
STRANGERS_PER_S, STRANGERS_BURST = 10.0, 100.0  # anybody can make them up; those beyond are counted
GAP: Final = "gap"

# Each place has a room of its own, so that what packets give rise to pushes out nothing of what the service says.
SERVICE, HOSTS, BOOTS, STRANGERS = "service", "hosts", "boots", "strangers"
PLACES: Final = {SERVICE: 4_096, HOSTS: 4_096, BOOTS: 2_048, STRANGERS: 1_024}
KINDS: Final[dict[str, tuple[str, str]]] = {  # -> place, what it is (docs/operations.md has the same table)
    "control-started": (SERVICE, "a control process began; what was noted by the one before it is gone"),
    "process-replaced": (SERVICE, "a process of the service ended, and another one has its place"),
    "config-reloaded": (SERVICE, "SIGHUP: another configuration is in force"),
    "config-refused": (SERVICE, "SIGHUP: the file has a fault, or a change that needs a restart"),
    "table-changed": (SERVICE, "another generation is served, and where it comes from"),
    "refresh-failed": (SERVICE, "the inventory could not be read or believed; once for each reason"),
    "refresh-recovered": (SERVICE, "it can be read again"),
    "in-doubt": (SERVICE, "a refresh could not read or did not believe a part, which stays as it is served"),
    "doubt-ended": (SERVICE, "nothing is in doubt any more"),
    "conflict-appeared": (SERVICE, "a MAC or an address of two objects: neither is answered"),
    "conflict-ended": (SERVICE, "that conflict is gone"),
    "fault-appeared": (SERVICE, "any other fault of the inventory"),
    "fault-ended": (SERVICE, "that fault is gone"),
    "override-set": (
        SERVICE,
        "an operator holds a machine, or gives it options for one boot; or such a machine has left the inventory",
    ),
    "override-ended": (SERVICE, "that was released, or it is over"),
    "machine-found": (HOSTS, "a stranger asked, and a look-up found it in the inventory"),
    "machine-registered": (HOSTS, "discovery made a server of it, or connected one"),
    "machine-confirmed": (HOSTS, "its DHCP confirmed it, and its MAC address was recorded"),
    "machine-waits": (HOSTS, "discovery waits for a person or for the inventory"),
    "not-answered": (HOSTS, "a machine of the inventory asked, and was not answered"),
    "refused": (HOSTS, "it was sent a NAK"),
    "declined": (HOSTS, "it declined its address, which somebody else uses"),
    "abandoned": (HOSTS, "its packet ended three workers"),
    "machine-stuck": (HOSTS, "its boot does not get on, and why; of very many at once the number"),
    "machine-unstuck": (HOSTS, "a machine that was stuck has come further, or boots anew"),
    "stage-reached": (BOOTS, "the furthest stage of a machine's boot; of very many at once the number"),
    "boot-loop": (HOSTS, "it asks again and again in one stage of its boot"),
    "cloned-client-id": (HOSTS, "several machines have one client-id"),
    "shared-address": (HOSTS, "several cards of a host use one address"),
    "other-server": (HOSTS, "another server's id was named: somebody else serves DHCP"),
    "stranger-seen": (STRANGERS, "a MAC that the inventory does not have, for the first time as far as is remembered"),
}
Note = Callable[[str, str | None, str | None, str], None]
"""EventRing.note."""


def nowhere(_kind: str, _named: str | None, _mac: str | None, _reason: str) -> None:
    """Where nobody follows."""


class Event(NamedTuple):
    number: int
    time_s: float  # since 1970
    kind: str
    named: str | None
    mac: str | None
    reason: str

    def plain(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "time_s": self.time_s,
            "kind": self.kind,
            "object": self.named,
            "mac": self.mac,
            "reason": self.reason,
        }


class EventRing:
    """first: the number of the first event.  Microseconds since 1970, so that no control has numbers that one before it
    has given, and that every program takes as they are (below 2 ** 53)."""

    def __init__(self, clock: Callable[[], float] = time.time, ticks: Callable[[], float] = time.monotonic) -> None:
        self.clock, self.ticks = clock, ticks
        self.first = int(clock() * 1e6)
        self.newest = self.first - 1
        self.places = {name: deque[Event](maxlen=most) for name, most in PLACES.items()}
        self.bells: set[asyncio.Event] = set()  # of who follows
        self.strangers_left, self.strangers_s = STRANGERS_BURST, ticks()
        self.untold = self.strangers_untold = 0  # strangers beyond that, since the last one and in all
        self.note("control-started", None, None, f"pid {os.getpid()}; what happened before is not told any more")

    def note(self, kind: str, named: str | None, mac: str | None, reason: str) -> None:
        """One event more.  kind: of KINDS, else KeyError; named: of which object of the inventory.  Returns at once."""
        place = KINDS[kind][0]
        if place == STRANGERS:
            if not self.may_tell_stranger():
                return
            if self.untold:
                reason = f"{clipped(reason, REASON_CHARS_MAX - 60)} ({self.untold:,} other strangers were not told)"
                self.untold = 0
        self.newest += 1
        named = clipped(named, NAME_CHARS_MAX) if named else None
        told = Event(self.newest, round(self.clock(), 3), kind, named, mac, clipped(reason, REASON_CHARS_MAX))
        self.places[place].append(told)
        for bell in self.bells:
            bell.set()

    def may_tell_stranger(self) -> bool:
        now = self.ticks()
        self.strangers_left = min(STRANGERS_BURST, self.strangers_left + (now - self.strangers_s) * STRANGERS_PER_S)
        self.strangers_s = now
        if self.strangers_left < 1:
            self.untold += 1
            self.strangers_untold += 1
            return False
        self.strangers_left -= 1
        return True

    def note_table(self, planned: Planned) -> None:
        changes = f"{planned.added} added, {planned.changed} changed, {planned.removed} removed"
        words = f"generation {planned.generation} ({planned.origin}): {planned.hosts} hosts, {changes}"
        self.note("table-changed", None, None, words)

    def note_restarts(self, before: Mapping[str, int], now: Mapping[str, int]) -> None:
        """How often processes of each kind were replaced."""
        for kind, total in now.items():
            if total > before.get(kind, 0):
                self.note("process-replaced", None, None, f"{kind}: one ended, and was replaced; {total} so far")

    # --- for who reads -------------------------------------------------------------------------------------------

    async def stream(self, arguments: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """{"events": [...]} again and again, the first at once and perhaps empty; as fast as they are taken.

        since: only what came behind that number; follow: go on for ever."""
        until = math.inf if arguments.get("follow") else self.newest
        told, at = self.begin(arguments.get("since"))
        bell = asyncio.Event()
        self.bells.add(bell)
        try:
            yield {"events": told}
            while at < until:
                bell.clear()
                told, at = self.page(at, until)
                if told:
                    yield {"events": told}
                else:
                    await bell.wait()
        finally:
            self.bells.discard(bell)

    def begin(self, since: int | None) -> tuple[list[dict[str, Any]], int]:
        """What is to be told first, and the number to go on from.  since: None or 0: from the beginning."""
        if not since:
            return [], self.first - 1
        if self.first - 1 <= since <= self.newest:
            return [], since
        gone = f"number {since} is of another control process; what followed it there is gone"
        return [self.gap(self.first - 1, None, gone)], self.first - 1

    def page(self, at: int, until: float = math.inf) -> tuple[list[dict[str, Any]], int]:
        """Some events behind number `at`, each gap among them as an event, and the number to go on from."""
        end = int(min(until, self.newest))
        found: list[Event] = []
        for place in self.places.values():
            found += takewhile(lambda event: event.number > at, reversed(place))
        told = []
        for event in sorted(event for event in found if event.number <= end)[:PIECE]:
            told += self.missing(at, event.number - 1)
            told.append(event.plain())
            at = event.number
        if len(told) < PIECE:  # the last ones that were asked for may be overwritten by now
            told += self.missing(at, end)
            at = max(at, end)
        return told, at

    def missing(self, at: int, last: int) -> list[dict[str, Any]]:
        if last <= at:
            return []
        reason = f"{last - at:,} events are missing: newer ones took their place before they were read"
        return [self.gap(last, last - at, reason)]

    def gap(self, number: int, missing: int | None, reason: str) -> dict[str, Any]:
        """As an event.  number: the last that is missing; missing: how many, where that is known."""
        return Event(number, round(self.clock(), 3), GAP, None, None, reason).plain() | {"missing": missing}

    def status(self) -> dict[str, int]:
        return {
            "first": self.first,
            "newest": self.newest,
            "kept": sum(map(len, self.places.values())),
            "strangers_untold": self.strangers_untold,
        }
