"""Discovery as control has it: takes traps and DHCP sightings, has each machine registered, says how far it is.

Nothing here waits: requests and factories are the registrars' (registrar/child.py), the disk is the journal's.  The
switch of a machine is one registrar's at a time, so two machines of one rack never race for a rack unit or an address.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Any, Final

from control.config.config import Config
from control.discovery.jobs import Granted, Outcome
from control.discovery.journal import Journal, JournalFailed
from control.discovery.machines import NO_SWITCH, REPEAT_S, Machine, Machines
from control.discovery.registrar.child import FACTORY_LIMIT_S, Ended, Page, RegistrarProcess, Word
from control.discovery.sighting import BMC, BOOT, HOST
from control.discovery.states import AGAIN, KEPT, TRANSITIONS, Event, State
from control.discovery.trapseen import TrapSeen
from control.planner.jobs import RefreshFailed
from fastpath.process.log_forms import about

log = logging.getLogger("bootstorm.discovery")

REGISTRARS: Final = 2  # connections to the inventory; the planner has four, and the original bears few
INBOX_MAX: Final = 50_000
SLICE_S: Final = 0.003  # of traps, between two looks at control's other duties
LOOKED_AT: Final = 16  # traps between two looks at the clock
STAY_MAX: Final = 20  # machines of one switch, one after the other
IDLE_S: Final = 120.0  # then a registrar's memory is worth more than its start
DOWN_FIRST_S, DOWN_MAX_S = 1.0, 30.0
PAUSE_FIRST_S, PAUSE_MAX_S = 60.0, 3600.0  # for a switch whose rack's factory hung
LOG_PER_S, LOG_BURST = 5.0, 50.0
LOOK_UP_AT_ONCE: Final = 16
ASKED_S: Final = 60.0  # how long `ctl adopt` waits for the outcome
NO_BOOT_CLASS: Final = "OS"  # of ext/classify.pxd: what loads a boot file is of another class, and no BMC does
NOT_SERVED: Final = "IGNORED_UNKNOWN_MAC"
JOURNAL: Final = "discovery.journal"
COUNTS: Final = (
    "sightings", "dropped_inbox", "registrars_ended", "hosts_refreshed", "refreshes_failed", "log_lines_left_out",
    "records_refused",
)  # fmt: skip

LookUp = Callable[[list[str], list[str]], Awaitable[object]]
Note = Callable[[str, str | None, str | None, str], None]
# Outcome -> kind of event (control/service/event_ring.py).
NOTED: Final = {
    State.REGISTERED: "machine-registered", State.CONFIRMED: "machine-confirmed", State.WAITS: "machine-waits",
}  # fmt: skip


class Coordinator:
    """look_up: reads hosts by MAC and by name and publishes what changed.  clock: CLOCK_BOOTTIME's seconds.

    word: what has an address that the inventory has bound to nobody, "" for nothing.  served: what the table has for a
    MAC.  note: of who follows what happens: kind, object, MAC, reason.  may_work: in a fleet, whether this machine
    leads; ring() where that changes.  page: for the registrars, who ask before each request that writes."""

    def __init__(
        self,
        config: Config,
        look_up: LookUp,
        clock: Callable[[], float],
        *,
        factory_limit_s: float = FACTORY_LIMIT_S,
        word: Word = lambda _address: "",
        served: Callable[[str], str | None] = lambda _mac: None,
        note: Note = lambda *_event: None,
        may_work: Callable[[], bool] = lambda: True,
        page: Page = lambda: -1,
    ) -> None:
        self.note = note
        self.may_work = may_work
        self.config = config
        self.served = served
        self.look_up = look_up
        self.clock = clock
        self.machines = Machines(config.snmp.max_macs_per_port)
        self.journal = Journal(config.dhcp.state_dir / JOURNAL)
        self.inbox: deque[TrapSeen | asyncio.Future[None]] = deque()
        self.synced: Callable[[], Awaitable[None]] = nothing_to_sync  # the journal is wherever else it has to be
        self.bells: list[asyncio.Event] = []  # of who waits for news: each its own, or one would take another's
        self.registrars = [
            RegistrarProcess(config, self.intend, factory_limit_s, word, page, place) for place in range(REGISTRARS)
        ]
        self.working: dict[str, str] = {}  # MAC -> switch
        self.names: dict[str, str] = {}  # that were about to be taken -> MAC, until its machine is through
        self.waiting: dict[str, list[asyncio.Future[None]]] = {}  # MAC -> who asked for its outcome
        self.to_look_up: dict[str, str] = {}  # MAC -> server
        self.down_s, self.down_until_s, self.down_reason = 0.0, 0.0, ""
        self.log_left, self.log_since_s = LOG_BURST, 0.0
        self.counts: Counter[str] = Counter()
        self.recall()

    # --- what comes in -------------------------------------------------------------------------------------------

    def take(self, seen: Iterable[TrapSeen]) -> None:
        """Traps, in the order of receipt.  Returns at once."""
        for trap in seen:
            if len(self.inbox) >= INBOX_MAX:
                self.counts["dropped_inbox"] += 1
            else:
                self.inbox.append(trap)
        self.ring()

    async def taken(self) -> None:
        """Until what take() was given so far is looked at, and the journal has been told of it."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.inbox.append(done)
        self.ring()
        await done

    def sighted(self, sighting: dict[str, Any]) -> None:
        """A DHCP request of a MAC, as a worker judged it: mac, class, role, verdict, giaddr, client_id ..."""
        self.counts["sightings"] += 1
        mac, now = str(sighting["mac"]), self.clock()
        role = role_of(sighting)
        machine = self.machines.of_mac.get(mac)
        if machine is None:
            if sighting.get("verdict") != NOT_SERVED:
                return  # who is served, or could be, has its MAC where it belongs
            machine = self.machines.stranger(mac, now)
            if machine is None:
                return
            machine.move(Event.STRANGER)
        elif mac in self.machines.strangers:
            self.machines.stranger(mac, now)
        machine.seen_s = now
        machine.sighting = sighting
        if machine.state is State.IGNORED:
            return
        new = role not in machine.roles
        machine.roles |= {role}
        if role == BMC:
            before = machine.bmc_at
            new = machine.says_bmc(now) or new
            if machine.bmc_at != before and not new:
                self.keep(machine)
        unknown = machine.state is State.UNKNOWN
        if machine.state is State.WORKING:
            machine.again = machine.again or new
        elif machine.due_s is None and (new or (unknown and now > machine.settled_s + REPEAT_S)):
            if unknown:
                self.machines.schedule(machine, now)
            else:
                self.machines.start(machine, now)
            self.keep(machine)
            self.ring()

    # --- the loop ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """For ever; ends its processes and closes the journal when it is cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self.feed(), name="traps")
                for number, registrar in enumerate(self.registrars):
                    group.create_task(self.work(registrar), name=f"registrar {number}")
                group.create_task(self.refresh_hosts(), name="registered")
        finally:
            for registrar in self.registrars:
                await registrar.end()
            self.journal.close()

    def ring(self) -> None:
        for bell in self.bells:
            bell.set()

    def bell(self) -> asyncio.Event:
        """Cleared by its owner before it looks for work, so that nothing that comes meanwhile is missed."""
        self.bells.append(asyncio.Event())
        return self.bells[-1]

    async def feed(self) -> None:
        bell = self.bell()
        while True:
            bell.clear()
            while self.inbox:
                now = self.clock()
                while self.inbox and self.clock() < now + SLICE_S:
                    for _ in range(min(LOOKED_AT, len(self.inbox))):
                        self.take_one(self.inbox.popleft(), now)
                self.ring()
                await asyncio.sleep(0)
            await bell.wait()

    def take_one(self, trap: TrapSeen | asyncio.Future[None], now: float) -> None:
        if isinstance(trap, asyncio.Future):
            if not trap.done():
                trap.set_result(None)
            return
        machine = self.machines.take(trap, now)
        if machine is not None:
            self.keep(machine)

    async def work(self, registrar: RegistrarProcess) -> None:
        bell, idle_since = self.bell(), self.clock()
        while True:
            bell.clear()
            machine = self.claim(registrar)
            if machine is not None:
                await self.have_done(registrar, machine)
                idle_since = self.clock()
                continue
            if registrar.channel is not None and self.clock() > idle_since + IDLE_S:
                await registrar.end()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.wakes_in()):
                    await bell.wait()

    def wakes_in(self) -> float:
        now = self.clock()
        if not self.may_work():
            return IDLE_S
        if now < self.down_until_s:
            return self.down_until_s - now
        return min(self.machines.wakes_in(now), IDLE_S)

    def claim(self, registrar: RegistrarProcess) -> Machine | None:
        """The next one; of the switch that the registrar was at for a while, whose rack it remembers, then of
        another."""
        now = self.clock()
        if now < self.down_until_s or not self.may_work():
            return None
        # What only DHCP saw has no switch to be alone on.
        busy = {switch for switch in self.working.values() if switch != NO_SWITCH}
        machine = self.machines.next(now, busy, stay=registrar.switch if registrar.stayed < STAY_MAX else None)
        if machine is not None and machine.mac in self.working:  # ignored and adopted while it is in hand
            machine.again = True
            return None
        if machine is not None:
            self.working[machine.mac] = machine.queue
            registrar.stayed = registrar.stayed + 1 if machine.queue == registrar.switch else 1
            registrar.switch = machine.queue or None
        return machine

    async def have_done(self, registrar: RegistrarProcess, machine: Machine) -> None:
        switch = self.working[machine.mac]
        try:
            outcome = await registrar.do(replace(machine.work(), served=self.served(machine.mac) or ""))
        except Ended as ended:
            outcome = self.after_end(machine, switch, ended)
        finally:
            self.working.pop(machine.mac, None)
        self.settle(machine, outcome)
        if not machine.name:
            self.release_names(machine.mac)

    def after_end(self, machine: Machine, switch: str, ended: Ended) -> Outcome:
        """A hanging factory must not take the registrars from the other racks: its switch waits longer each time."""
        self.counts["registrars_ended"] += 1
        if ended.by_factory:
            pace = self.machines.pace(switch)
            pace.pause_s = min(PAUSE_MAX_S, 2 * pace.pause_s or PAUSE_FIRST_S)
            pace.paused_s, pace.reason = self.clock() + pace.pause_s, str(ended)
            log.warning("discovery: %s; switch %s waits for %.0f s", ended, switch, pace.pause_s)
            return Outcome(mac=machine.mac, state=State.WAITS, reason=str(ended))
        return Outcome(mac=machine.mac, state=State.RETRY, reason=str(ended))

    def settle(self, machine: Machine, outcome: Outcome) -> None:
        now = self.clock()
        before = machine.reason
        if outcome.state == State.DOWN:
            self.down_s = min(DOWN_MAX_S, 2 * self.down_s or DOWN_FIRST_S)
            self.down_until_s, self.down_reason = now + self.down_s, outcome.reason
        else:
            self.down_s, self.down_reason = 0.0, ""
        self.machines.settle(machine, outcome, now)
        self.keep(machine)
        if outcome.answered:
            self.to_look_up[machine.mac] = machine.server
        self.say(machine, outcome, before)
        for future in self.waiting.pop(machine.mac, []):
            if not future.done():
                future.set_result(None)
        self.ring()

    def say(self, machine: Machine, outcome: Outcome, before: str) -> None:
        """A line for each machine that got somewhere, and one for each new reason; many at once are counted only."""
        changed = bool(outcome.did) or (outcome.state in (State.WAITS, *AGAIN) and outcome.reason != before)
        if not changed:
            return
        where = f" on {machine.switch} port {machine.port}" if machine.switch else ""
        words = "; ".join([*([outcome.reason] if outcome.reason else []), *outcome.did, *outcome.notes])
        if machine.state in NOTED:
            self.note(NOTED[machine.state], machine.server or None, machine.mac, f"{words}{where}")
        now = self.clock()
        self.log_left = min(LOG_BURST, self.log_left + (now - self.log_since_s) * LOG_PER_S)
        self.log_since_s = now
        if self.log_left < 1:
            self.counts["log_lines_left_out"] += 1
            return
        self.log_left -= 1
        server = f" is {machine.server}" if machine.server else ""
        level = logging.INFO if outcome.did else logging.WARNING
        known = about(mac=machine.mac, host=machine.server)
        log.log(level, "discovery: %s%s%s, %s: %s", machine.mac, server, where, outcome.state, words, extra=known)

    def release_names(self, mac: str) -> None:
        for name in [name for name, owner in self.names.items() if owner == mac]:
            del self.names[name]

    async def intend(self, mac: str, name: str) -> Granted:
        """The name is on disk before the registrar takes it: after a crash the server is known as ours."""
        if self.names.setdefault(name, mac) != mac:
            return Granted(ok=False)
        machine = self.machines.of_mac.get(mac)
        if machine is None:
            return Granted(ok=False, fault=f"{mac} is not known any more")
        self.release_names(mac)
        self.names[name] = mac
        machine.name = name
        self.keep(machine)
        try:
            await self.journal.flush()
            await self.synced()
        except JournalFailed as failed:
            return Granted(ok=False, fault=str(failed))
        return Granted(ok=True)

    async def refresh_hosts(self) -> None:
        """What was registered is served at once, not at the next refresh."""
        bell = self.bell()
        while True:
            bell.clear()
            while self.to_look_up:
                macs = list(self.to_look_up)[:LOOK_UP_AT_ONCE]
                names = sorted({self.to_look_up.pop(mac) for mac in macs} - {""})
                try:
                    await self.look_up(macs, names)
                    self.counts["hosts_refreshed"] += len(macs)
                except RefreshFailed as failed:
                    # Its next retransmission is an unknown MAC's, and looks it up again.
                    self.counts["refreshes_failed"] += 1
                    log.warning("discovery: %s not refreshed: %s", ", ".join(macs), failed)
            await bell.wait()

    # --- the journal ---------------------------------------------------------------------------------------------

    def keep(self, machine: Machine) -> None:
        if machine.state in KEPT:
            self.journal.put(machine.mac, machine.record())
        else:
            self.journal.forget(machine.mac)

    def recall(self) -> None:
        """What the last process was at goes on; what waited waits again, and is looked at soon."""
        now = self.clock()
        for machine in self.journal.load(lambda record: Machine.of_record(record, now))[-self.machines.most :]:
            self.machines.of_mac[machine.mac] = machine
            if machine.name:
                self.names[machine.name] = machine.mac
            if machine.state in TRANSITIONS[Event.RECALL][0]:
                machine.move(Event.RECALL)
                self.machines.schedule(machine, now)

    def take_over(self, records: Iterable[dict[str, Any]]) -> None:
        """In a fleet, by who takes the lead: what the leaders before were at.  It counts instead of what this machine
        knew of the same MACs; what it knew of others is told to the journal of all."""
        now = self.clock()
        for record in records:
            try:
                machine = Machine.of_record({**record, "bmc_at": None}, now)  # another machine's clock said since when
            except ValueError as fault:
                self.counts["records_refused"] += 1
                log.warning("discovery: a record of another machine is none of ours: %s", fault)
                continue
            if machine.mac in self.working:
                continue
            before = self.machines.of_mac.get(machine.mac)
            if before is not None:
                self.machines.forget(before)
            elif self.machines.known(machine.mac, now) is None:
                continue
            self.release_names(machine.mac)
            self.machines.of_mac[machine.mac] = machine
            if machine.name:
                self.names[machine.name] = machine.mac
            if machine.state in TRANSITIONS[Event.RECALL][0]:
                machine.move(Event.RECALL)
                self.machines.schedule(machine, now)
        for machine in self.machines.of_mac.values():
            if machine.state in KEPT:
                self.keep(machine)
        self.ring()

    # --- commands ------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """For `ctl status`: cheap, whatever there is."""
        now = self.clock()
        paused = {switch: pace.reason for switch, pace in self.machines.paces.items() if pace.paused_s > now}
        return {
            "machines": len(self.machines.of_mac),
            "working": len(self.working),
            "inbox": len(self.inbox),
            "due": sum(len(queue) for queue in self.machines.ready.values()),
            "uplinks": len(self.machines.uplinks),
            "dry_run": self.config.snmp.dry_run,
            "inventory_down": self.down_reason or None,
            "paused_switches": dict(list(paused.items())[:20]),
            "journal": {
                "records": len(self.journal.live),
                "left_out": self.journal.skipped,
                "fault": self.journal.fault,
            },
            "counters": dict(sorted((self.machines.counts + self.counts).items())),
        }

    def listing(self, macs: Iterable[str] = (), offset: int = 0, limit: int = 1000) -> dict[str, Any]:
        """For `ctl discovered`: rows of the latest seen first."""
        now = self.clock()
        only = list(macs)
        states = Counter(
            machine.state for machine in self.machines.of_mac.values() if machine.state is not State.UNKNOWN
        )
        if only:
            found = [self.machines.of_mac[mac] for mac in only if mac in self.machines.of_mac]
        else:
            found = list(self.machines.rows(offset, limit))
        uplinks = [[switch, port] for (switch, port), until in self.machines.uplinks.items() if until > now]
        return {
            "machines": [self.row(machine, now) for machine in found],
            "total": sum(states.values()),
            "states": {str(state): count for state, count in states.items()},
            "uplinks": uplinks[:1000],
        }

    def row(self, machine: Machine, now: float) -> dict[str, Any]:
        sighting = machine.sighting or {}
        return {
            "mac": machine.mac,
            "state": str(machine.state),
            "reason": machine.reason or None,
            "server": machine.server or None,
            "switch": machine.switch or None,
            "port": machine.port or None,
            "places": [
                {"switch": switch, "port": port, "vlan": vlan} for (switch, port), (_s, vlan) in machine.places.items()
            ],
            "roles": sorted(machine.roles),
            "dhcp": {key: shown(sighting[key]) for key in DHCP_SHOWN if key in sighting} or None,
            "did": machine.did,
            "notes": machine.notes,
            "traps": machine.traps,
            "adopted": machine.adopted,
            "seconds_ago": round(now - machine.seen_s, 1),
            "again_in_s": round(max(0.0, machine.due_s - now), 1) if machine.due_s is not None else None,
        }

    async def adopt(self, mac: str) -> dict[str, Any] | None:
        """A person says to go on with what is not done without asking; its row then.  None: no trap has shown where."""
        machine = self.machines.of_mac.get(mac)
        if machine is not None:
            self.machines.put_back(machine, self.clock())
        if machine is None or not (machine.places or BMC in machine.roles):
            return None
        machine.adopted = True
        machine.bmc_word = BMC in machine.roles  # of what comes later, by whomever, nothing is said
        if machine.state is State.WORKING:
            machine.again = True
        else:
            self.machines.start(machine, self.clock(), Event.ADOPT)
            self.keep(machine)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.setdefault(mac, []).append(future)
        self.ring()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ASKED_S):
                await future
        return self.row(machine, self.clock())

    def ignore(self, mac: str) -> dict[str, Any] | None:
        """Nothing more is done about it, over restarts too, until `unignore` or `adopt`.  None: there is no room to
        note it."""
        machine = self.machines.known(mac, self.clock())
        if machine is None:
            return None
        machine.move(Event.IGNORE)
        machine.reason, machine.adopted = "by ctl ignore", False
        machine.bmc_word = False
        self.keep(machine)
        return self.row(machine, self.clock())

    def unignore(self, mac: str) -> dict[str, Any] | None:
        """It has its turn as if it had just been seen; one that never was is forgotten.  None: it was not ignored."""
        machine = self.machines.of_mac.get(mac)
        if machine is None or machine.state is not State.IGNORED:
            return None
        self.machines.put_back(machine, self.clock())
        self.machines.start(machine, self.clock(), Event.UNIGNORE)
        if machine.places or machine.roles:
            self.keep(machine)
            self.ring()
        else:
            self.machines.forget(machine)
            self.journal.forget(mac)
        return self.row(machine, self.clock())

    async def reconfigure(self, config: Config) -> None:
        """Another configuration counts for the next machine; one that is under way is taken up again."""
        self.config = config
        self.machines.max_macs = config.snmp.max_macs_per_port
        for registrar in self.registrars:
            registrar.config = config
            await registrar.end()


async def nothing_to_sync() -> None:
    """Without a fleet the journal is on this machine's disk alone."""


DHCP_SHOWN: Final = ("class", "role", "verdict", "giaddr", "ifindex", "circuit_id", "vendor_class", "client_id")


def role_of(sighting: dict[str, Any]) -> str:
    if sighting.get("role") == BMC:
        return BMC
    return BOOT if sighting.get("class", NO_BOOT_CLASS) != NO_BOOT_CLASS else HOST


def shown(value: Any) -> Any:
    """Octets as a person reads them: text where they are printable ASCII, else hexadecimal digits."""
    if not isinstance(value, bytes):
        return value
    text = value.decode("ascii", "replace")
    return text if text.isprintable() and "\ufffd" not in text else value.hex(":")
