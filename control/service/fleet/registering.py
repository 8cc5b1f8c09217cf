"""Discovery in a fleet: what a follower sees goes to the leader, and the leader's journal to where the next finds it.

A follower hands traps and DHCP sightings to its fleet process, which keeps them on disk until the leader's journal has
them.  The leader's coordinator takes them as if they were its own; each record of its journal goes to the engine as
well, and who takes the lead begins with what is there.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any, Final

from control.discovery.coordinator import Coordinator, nothing_to_sync
from control.discovery.journal import JournalFailed, Record
from control.discovery.reserved import Reserved
from control.discovery.statefile import json_object
from control.discovery.states import KEPT, State
from control.discovery.trapseen import Port, TrapSeen, numbered
from control.fleet.process import jobs
from control.fleet.sightings import Row, Sighting, Trap, grouped, rows_of, sighting_row
from control.fleet.wire import Refused
from control.service.clocks import boottime_s

if TYPE_CHECKING:
    from control.service.fleet.link import FleetLink

log = logging.getLogger("bootstorm.fleet")

TOGETHER_S: Final = 0.1  # traps come in bursts
ROWS_MAX: Final = 20_000  # until they are handed over; what is more comes again
AGAIN_S: Final = 300.0  # the same sighting is no news for so long
SIGHTINGS_MAX: Final = 20_000
SIGHTINGS_PER_S, SIGHTINGS_BURST = 20.0, 200.0  # of each kind
EARLY_MAX: Final = 1_024
STORED_S: Final = 15.0  # for the engine to have what the journal has
UNFINISHED: Final = KEPT - {State.IGNORED}
UNKNOWN: Final = "IGNORED_UNKNOWN_MAC"
BMC: Final = "bmc"


class Registering:
    """recalled: in this lead the engine's journal has been read."""

    def __init__(self, link: FleetLink, coordinator: Coordinator, reserved: Reserved) -> None:
        self.link, self.coordinator, self.reserved = link, coordinator, reserved
        self.rows: deque[Row] = deque()
        self.flushing: asyncio.TimerHandle | None = None
        self.seen: OrderedDict[tuple[str, str, bool], float] = OrderedDict()  # MAC, role, unknown -> until when
        self.budgets = {True: (SIGHTINGS_BURST, 0.0), False: (SIGHTINGS_BURST, 0.0)}
        self.recalled = False
        self.records: list[Record] = []
        self.early: list[jobs.Journal] = []  # that came before that
        self.kept: dict[str, bytes] = {}  # as the engine has it, or is about to
        self.counts = {"forwarded": 0, "dropped": 0, "taken": 0, "refused": 0}
        coordinator.journal.mirror = self.keep
        coordinator.synced = self.synced

    def end(self) -> None:
        self.coordinator.journal.mirror = lambda _mac, _record: None
        self.coordinator.synced = nothing_to_sync
        if self.flushing is not None:
            self.flushing.cancel()

    # --- who follows ---------------------------------------------------------------------------------------------

    def traps(self, seen: Sequence[TrapSeen]) -> None:
        self.forward([Trap(one.switch, one.mac, one.port, one.vlan, one.learnt) for one in seen])

    def sighted(self, sighting: dict[str, Any]) -> None:
        """Of thousands of machines only what is news; those that discovery asks for have room of their own."""
        row, now = sighting_row(sighting), time.monotonic()
        wanted = row.verdict == UNKNOWN or row.role == BMC
        key = row.mac, row.role, row.verdict == UNKNOWN
        if self.seen.get(key, 0.0) > now:
            return
        left, since = self.budgets[wanted]
        left = min(SIGHTINGS_BURST, left + (now - since) * SIGHTINGS_PER_S)
        self.budgets[wanted] = (left - (left >= 1), now)
        if left < 1:
            self.counts["dropped"] += 1
            return
        self.seen.pop(key, None)
        self.seen[key] = now + AGAIN_S
        while len(self.seen) > SIGHTINGS_MAX:
            self.seen.popitem(last=False)
        self.forward([row])

    def hand_over(self) -> None:
        """What discovery was at on this machine, to whoever leads by now, as if it had just been seen: the engine may
        have lost its journal."""
        rows = [
            Trap(switch, machine.mac, port, vlan, True)
            for machine in self.coordinator.machines.of_mac.values()
            if machine.state in UNFINISHED
            for (switch, port), (_since, vlan) in machine.places.items()
        ]
        if rows:
            log.info("what discovery was at here is handed over: %d places of machines", len(rows))
            self.forward(rows)

    def forward(self, rows: Sequence[Row]) -> None:
        for row in rows:
            if len(self.rows) >= ROWS_MAX:
                self.counts["dropped"] += 1
            else:
                self.rows.append(row)
        if self.flushing is None:
            self.flushing = asyncio.get_running_loop().call_later(TOGETHER_S, self.flush)

    def flush(self) -> None:
        """To the fleet's process, which may be a while in coming back."""
        self.flushing = None
        if not self.rows:
            return
        if self.link.state is not None:
            rows, self.rows = list(self.rows), deque()
            self.counts["forwarded"] += len(rows)
            for what in grouped(rows):
                self.link.say(jobs.Seen(what=what))
            return
        self.flushing = asyncio.get_running_loop().call_later(1.0, self.flush)

    # --- who leads -----------------------------------------------------------------------------------------------

    async def take(self, message: jobs.Journal) -> None:
        """What another machine saw, as if this one had; it is told when the journal has what came of it."""
        if not self.recalled:  # what the leaders before were at comes first
            if len(self.early) < EARLY_MAX:
                self.early.append(message)
            return
        try:
            rows = rows_of(message.what)
        except Refused as fault:
            self.counts["refused"] += 1
            log.warning("what %s has seen cannot be read: %s", message.host, fault)
            rows = []  # by another build, perhaps; it must not be said for ever
        self.counts["taken"] += len(rows)
        now = boottime_s()
        self.coordinator.take(
            TrapSeen(switch=row.switch, mac=row.mac, port=row.port, vlan=row.vlan, learnt=row.learnt, boottime_s=now)
            for row in rows
            if isinstance(row, Trap) and self.is_port(row.port)
        )
        for row in rows:
            if isinstance(row, Sighting):
                self.take_sighting(row, now)
        try:
            await self.coordinator.taken()
            await self.coordinator.journal.flush()
            await self.synced()
        except JournalFailed as failed:
            log.warning("what %s has seen is not in the journal yet: %s", message.host, failed)
            return  # it says it again
        self.link.say(jobs.Journaled(host=message.host, spool=message.spool, number=message.number))

    def is_port(self, port: Port) -> bool:
        try:
            return isinstance(port, int) or bool(numbered(port))
        except ValueError:
            self.counts["refused"] += 1
            return False

    def take_sighting(self, row: Sighting, now: float) -> None:
        try:
            giaddr = int(IPv4Address(row.giaddr)) if row.giaddr else 0
        except ValueError:
            self.counts["refused"] += 1
            return
        self.reserved.note({"giaddr": giaddr, "verdict": row.verdict})
        self.coordinator.sighted({
            "mac": row.mac, "class": row.client, "role": row.role, "verdict": row.verdict, "giaddr": row.giaddr,
            "ifindex": 0, "client_id": row.client_id, "vendor_class": row.vendor_class, "circuit_id": row.circuit_id,
            "boottime_s": now,
        })  # fmt: skip

    # --- the journal in the engine -------------------------------------------------------------------------------

    def keep(self, mac: str, record: Record | None) -> None:
        """Whenever the journal on disk gets one; of a machine that is through: None."""
        if not self.recalled:
            return
        said = json.dumps(record, separators=(",", ":")).encode() if record is not None else b""
        if self.kept.get(mac, b"") == said:
            return
        if said:
            self.kept[mac] = said
        else:
            del self.kept[mac]
        self.link.say(jobs.Keep(mac=mac, record=said))

    async def synced(self) -> None:
        """Until the engine has all that was kept.  Raises JournalFailed."""
        fault = await self.link.fault_of(lambda number: jobs.Sync(number=number), STORED_S)
        if fault:
            raise JournalFailed(f"the journal of the fleet: {fault}")

    def another_lead(self) -> None:
        """This machine took the lead, or has none: the journal in the engine is another's by now."""
        self.recalled = False
        self.records.clear()
        self.early.clear()
        self.kept.clear()
        if not self.link.leads:
            self.hand_over()

    def recall(self, message: jobs.Recall) -> None:
        """One record after the other; without a MAC the end."""
        if message.mac:
            try:
                self.records.append(json_object(message.record) | {"mac": message.mac})
                self.kept[message.mac] = message.record
            except ValueError as fault:
                log.warning("a record of %s in the engine's journal cannot be read: %s", message.mac, fault)
            return
        records, self.records = self.records, []
        self.recalled = True
        self.coordinator.take_over(records)
        early, self.early = self.early, []
        for seen in early:
            self.link.spawn(self.take(seen))
        log.info("discovery goes on here, with %d machines of the leaders before", len(records))
