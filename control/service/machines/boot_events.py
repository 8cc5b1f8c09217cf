"""What happens to machines while they boot, as events for whoever follows: who is stuck, who goes on, who came further.

Found by looking at the boot ledger now and then, never on the packets' way.  A storm is told as numbers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from ext.roll import Roll
from ext.scan import Watch
from ext.table import Pair

from control.service.event_ring import Note
from control.service.machines.hosts import Hosts, described
from control.service.machines.scans import Counted

LOOK_S: Final = 5.0
NOTED_AT_ONCE: Final = 25
STUCK, UNSTUCK, REACHED = "machine-stuck", "machine-unstuck", "stage-reached"


class BootEvents:
    """pair: what is served now.  reason_of: why a machine is not answered, as the inventory says it."""

    def __init__(
        self, hosts: Hosts, pair: Callable[[], Pair | None], reason_of: Callable[[str], str | None], note: Note
    ) -> None:
        self.hosts = hosts
        self.pair = pair
        self.reason_of = reason_of
        self.note = note
        self.watch, self.has_containers = Watch(), False
        self.stuck_before = 0  # control looked

    async def run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """What is new since the look before; of the first look, only how many are stuck already.

        When it comes to be known which pools machines are in, more of them are stuck at once: that is a first look."""
        pair = self.pair()
        if pair is None:
            return
        if self.hosts.whereabouts.placed and not self.has_containers:
            self.watch, self.has_containers = Watch(), True
            await self.hosts.scans.count(pair)  # what most of a pool do: the next count goes by it
        first = self.watch.until_s < 0
        counted = await self.hosts.scans.count(pair, self.watch)
        found = counted.scan.findings()
        if first:
            many = found["stuck"][1]
            if many > self.stuck_before:
                self.note(STUCK, None, None, f"{many:,} machines were stuck when control began to look")
            self.stuck_before = many
            return
        await self.tell(counted, STUCK, found["stuck"], stuck_words)
        await self.tell(counted, UNSTUCK, found["goes_on"], further_words)
        reached = ", ".join(f"{many:,} {stage}" for stage, many in found["stages"].items())
        await self.tell(counted, REACHED, found["reached"], further_words, f"; in all {reached}")

    async def tell(
        self,
        counted: Counted,
        kind: str,
        found: tuple[list[int], int],
        words: Callable[[dict[str, Any]], str],
        in_all: str = "",
    ) -> None:
        """An event of each place, and one for all beyond these.  found: places, how many there are."""
        (places, many), roll, now_s = found, counted.scan.roll, counted.scan.now_s
        for number, place in enumerate(places):
            host = self.host_at(counted, roll, place, now_s)
            self.note(kind, host["name"], host["mac"], words(host))
            if number % NOTED_AT_ONCE == NOTED_AT_ONCE - 1:
                await asyncio.sleep(0)
        if many > len(places):
            self.note(kind, None, None, f"and {many - len(places):,} more within {LOOK_S:g} s{in_all}")

    def host_at(self, counted: Counted, roll: Roll, place: int, now_s: int) -> dict[str, Any]:
        return described(roll.row(place, now_s), self.reason_of, counted.index)


def stuck_words(host: dict[str, Any]) -> str:
    relay = f" by relay {host['relay']}" if host["relay"] else ""
    return f"{host['stage']}{relay}: {host['reason']}"


def further_words(host: dict[str, Any]) -> str:
    relay = f" by relay {host['relay']}" if host["relay"] else ""
    return f"{host['stage']}{relay}, boot {host['boots']:,}"
