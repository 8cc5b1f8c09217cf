"""Control and its fleet process: started, watched, replaced; tables that come from it go to the planner.

Whatever becomes of it, the workers serve on: nothing here is in a packet's way, and nothing waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from importlib.util import find_spec
from typing import Any, Final

from control.config.config import Config
from control.fleet.process import jobs
from control.fleet.process.child import FleetProcess
from control.fleet.process.keyfiles import NO_LIBRARY
from control.planner.jobs import CheckTable, Lay, Planned, RefreshFailed, ServeTable, TableChecked
from control.planner.replies import SUPERSEDED, reason_of
from control.service.fleet.builder import Builder
from control.service.fleet.registering import Registering
from control.service.links import LinkAddress
from control.service.refresh import CONFIRM_S, Refresher
from control.service.served_table import NotAdopted, ServedTable
from control.service.watch import watched_path
from fastpath.protocol import ChannelClosed, close_all, memfd

log = logging.getLogger("bootstorm.fleet")

PAUSES_S: Final = 0.5, 1.0, 2.0, 5.0, 10.0
LIVED_S: Final = 60.0  # a process that lived for so long is replaced at once
FIRST_WORD_S: Final = 15.0  # of a planner, for what the disk has; and of the fleet, before we are on our own
SILENT_S: Final = 20.0  # it says something each second
COUNT_S: Final = 1.0
RATE_LOOKS: Final = 6
ANSWER_S: Final = 12.0
ADOPT_S: Final = 5.0
LOOK_UP_S: Final = 20.0  # more than the fleet's process takes to give one up
SERVED_S: Final = 3.0  # for what a look-up found to be served here as well
OUTBOX_MAX: Final = 60_000  # of messages that wait for the fleet's process
DRAIN_S: Final = 0.02
REASONS_MAX: Final = 1_000
COUNTED: Final = ("hosts", "added", "changed", "removed", "quarantined")
GUARDED: Final = "guarded"


class FleetSilent(Exception):
    """No answer, or one that says why not."""


class FleetLink:
    """restarts(): of workers so far.  page: of the registrars (control/fleet/process/page.py), borrowed.

    on_lead: called when this machine takes the lead, or loses it."""

    def __init__(
        self,
        config: Config,
        refresher: Refresher,
        table: ServedTable,
        restarts: Callable[[], int],
        page: int,
        on_lead: Callable[[], None],
    ) -> None:
        self.config, self.refresher, self.table = config, refresher, table
        self.page, self.on_lead = page, on_lead
        self.restarts = restarts
        self.process: FleetProcess | None = None
        self.spare: FleetProcess | None = None  # loads its libraries while the planner looks at the disk
        self.state: jobs.State | None = None
        self.fault = "" if find_spec("nats") is not None else NO_LIBRARY
        self.heard_s = self.started_s = time.monotonic()
        self.builder: Builder | None = None
        self.building: asyncio.Task[None] | None = None
        self.tasks: set[asyncio.Task[None]] = set()
        self.links: list[LinkAddress] = []
        self.overrides = Lay()  # for who reads the inventory while we lead
        self.numbers = itertools.count(1)
        self.waiting: dict[int, asyncio.Future[jobs.Told]] = {}
        self.alone = False  # we read the inventory for ourselves
        self.dated_s = 0
        self.deaths = 0
        self.ended = asyncio.Event()
        self.news = asyncio.Event()
        self.adopted = True  # what is served, by all workers
        self.seen: deque[tuple[float, int, int]] = deque(maxlen=RATE_LOOKS)
        self.registering: Registering | None = None
        self.start_saying()
        self.look_up_fault = ""  # of the last one that the leader was asked for
        self.look_ups = {"asked": 0, "failed": 0, "for_others": 0}
        self.unanswered: OrderedDict[str, str] = OrderedDict()  # MAC -> why nobody looked it up
        self.served_s, self.restarts_then, self.abandoned_then = time.monotonic(), restarts(), self.abandoned()
        if not self.fault:
            self.follow("the fleet has not said yet which table is served")
        else:
            log.error("fleet: %s; this server is on its own", self.fault)

    # --- the process ---------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """For ever; ended by cancellation, and by end()."""
        if self.fault:
            return
        with contextlib.suppress(OSError):  # said by start()
            self.spare = FleetProcess()
        await self.first_word()
        pauses = iter(PAUSES_S)
        while True:
            born_s = time.monotonic()
            try:
                self.start()
                await self.watch()
            except (OSError, ChannelClosed, ValueError) as error:
                log.warning("the fleet's process cannot be used: %s", error)
            await self.gone()
            self.deaths += 1
            if time.monotonic() - born_s > LIVED_S:
                pauses = iter(PAUSES_S)
            self.on_our_own()
            await asyncio.sleep(next(pauses, PAUSES_S[-1]))

    async def first_word(self) -> None:
        """What the disk has is served, if it has something: the planner says so."""
        deadline = time.monotonic() + FIRST_WORD_S
        while not self.refresher.heard_s and time.monotonic() < deadline:
            await asyncio.sleep(0.02)

    def start(self) -> None:
        """Raises OSError, ChannelClosed, ValueError."""
        self.ended.clear()
        self.process, self.spare = self.spare or FleetProcess(), None
        self.heard_s = time.monotonic()
        channel = self.process.channel
        asyncio.get_running_loop().add_reader(channel.fileno(), self.on_message)
        begin = jobs.FleetBegin(config_path=str(self.config.path), state_dir=str(self.config.dhcp.state_dir))
        with memfd("bootstorm-config", self.config.text) as config_fd:
            channel.send(begin, {"config": config_fd, "lead": self.page, **named(self.table.fds())})

    async def watch(self) -> None:
        """Until it ends, or says nothing for too long.  Counts are sent meanwhile."""
        while not self.ended.is_set():
            if time.monotonic() - self.heard_s > SILENT_S:
                log.warning("the fleet's process has said nothing for %.0f s and is replaced", SILENT_S)
                return
            self.send(self.counts())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(COUNT_S):
                    await self.ended.wait()

    async def gone(self) -> None:
        process, self.process, self.state = self.process, None, None
        self.forget_said()
        self.stop_building()
        for waiting in self.waiting.values():
            if not waiting.done():
                waiting.set_result(jobs.Told(number=0, fault="the fleet's process ended"))
        if process is not None:
            asyncio.get_running_loop().remove_reader(process.channel.fileno())
            await process.end()

    async def end(self) -> None:
        """The lease is given back, where there is one."""
        if self.registering is not None:
            self.registering.end()
        await self.gone()
        if self.spare is not None:
            await self.spare.end()
        for task in [*self.tasks]:
            task.cancel()
        self.refresher.follows = ""
        self.refresher.rescheduled.set()

    def send(self, message: Any, fds: list[int] | None = None) -> bool:
        """False: it does not read just now, and has not got it; it is replaced where that lasts."""
        if self.process is None:
            return False
        try:
            self.process.channel.send(message, named(fds or []))
        except BlockingIOError:
            return False
        except (ChannelClosed, OSError):
            self.ended.set()
            return False
        return True

    def start_saying(self) -> None:
        self.outbox: deque[Any] = deque()
        self.draining: asyncio.TimerHandle | None = None
        self.dropped = 0

    def forget_said(self) -> None:
        """With a process that ended: what is for whichever comes next stays."""
        self.outbox = deque(each for each in self.outbox if isinstance(each, jobs.Seen))

    def say(self, message: Any) -> None:
        """In this order, and as soon as it reads: a burst of traps is more than a channel holds."""
        if len(self.outbox) >= OUTBOX_MAX:
            self.dropped += 1
            return
        self.outbox.append(message)
        self.drain()

    def drain(self) -> None:
        while self.outbox and self.send(self.outbox[0]):
            self.outbox.popleft()
        if self.outbox and self.process is not None:
            if self.draining is not None:
                self.draining.cancel()
            self.draining = asyncio.get_running_loop().call_later(DRAIN_S, self.drain)

    def on_message(self) -> None:
        if self.process is None:
            return
        try:
            message, fds = self.process.channel.receive()
        except BlockingIOError:
            return
        except Exception as gone:  # closed, or nonsense: either way another one is started
            if not isinstance(gone, ChannelClosed):
                log.exception("a message of the fleet's process cannot be read")
            self.ended.set()
            asyncio.get_running_loop().remove_reader(self.process.channel.fileno())
            return
        self.heard_s = time.monotonic()
        try:
            self.take(message, [*fds.all("base"), *fds.all("delta")])
        finally:
            close_all(fds)

    def take(self, message: Any, fds: list[int]) -> None:
        match message:
            case jobs.State():
                self.take_state(message)
            case jobs.Told(number=number):
                waiting = self.waiting.get(number)
                if waiting is not None and not waiting.done():
                    waiting.set_result(message)
            case jobs.Check(digest=digest):
                self.spawn(self.check(digest, dup_all(fds)))
            case jobs.Serve(digest=digest):
                self.spawn(self.serve(digest))
            case jobs.Build() if self.builder is not None:
                if self.builder.state.confirmed_s:
                    self.builder.again()
                else:
                    self.builder.poke.set()
            case jobs.Journal() if self.registering is not None:
                self.spawn(self.registering.take(message))
            case jobs.Recall() if self.registering is not None:
                self.registering.recall(message)
                self.on_lead()
            case jobs.LookFor():
                self.spawn(self.look_for(message))
            case jobs.ReadInventory():
                self.on_our_own("the fleet has no table for this machine")

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="fleet")
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    # --- tables --------------------------------------------------------------------------------------------------

    async def check(self, digest: bytes, fds: list[int]) -> None:
        if self.alone and self.refresher.job.locked():  # by an inventory that we read for want of this table
            self.refresher.give_up("superseded by the table of the fleet", SUPERSEDED)
        try:
            async with self.refresher.job:
                reply = await self.refresher.give(CheckTable(digest=digest), "check", fds)
        finally:
            close_all(fds)
        if isinstance(reply, TableChecked):
            self.say(jobs.Checked(digest=digest, reason=reply.reason, said=reply.said[:200]))
        else:
            self.say(jobs.Checked(digest=digest, reason=GUARDED, said=reason_of(reply)[:200]))

    async def serve(self, digest: bytes) -> None:
        async with self.refresher.job:
            reply = await self.refresher.give(ServeTable(digest=digest), "fleet")
        if not isinstance(reply, Planned):
            why = reason_of(reply)
            self.say(jobs.Served(digest=digest, fault=why[:200]))
            return
        self.dated_s = 0
        self.adopted = False
        self.served_s, self.restarts_then, self.abandoned_then = time.monotonic(), self.restarts(), self.abandoned()
        log.info("generation %d: %d hosts (of the fleet)", reply.generation, reply.hosts)
        self.say(jobs.Served(digest=digest))
        await self.tell_adopted(reply.generation, digest)

    async def tell_adopted(self, generation: int, digest: bytes) -> None:
        """When all workers answer from it, or never: then no trial of it counts, and `ctl fleet` says so."""
        said = ""
        while self.table.generation == generation:
            try:
                await self.table.wait_adopted(generation, CONFIRM_S)
            except NotAdopted as late:
                if str(late) != said:
                    log.warning("the table of the fleet: %s", late)
                said = str(late)
            else:
                self.adopted, self.served_s = True, time.monotonic()
                self.say(jobs.Adopted(digest=digest))
                return

    def on_published(self, planned: Planned, fds: list[int]) -> None:
        """By the ordinary planner, whatever it was."""
        if planned.origin in ("inventory", "hosts") and self.alone:
            self.send(jobs.Alone(), fds)

    def counts(self) -> jobs.Counts:
        age_s = self.table.age_s()
        requests_s, replies_s = self.rates()
        return jobs.Counts(
            requests_s=requests_s,
            replies_s=replies_s,
            age_s=int(age_s) if age_s is not None else None,
            served_s=int(time.monotonic() - self.served_s) if self.adopted else 0,
            restarts=max(0, self.restarts() - self.restarts_then),
            abandoned=max(0, self.abandoned() - self.abandoned_then),
        )

    def rates(self) -> tuple[int, int]:
        """Requests and replies a second, of the last seconds."""
        workers = self.table.workers()
        now = time.monotonic(), sum(worker["rx"] for worker in workers), sum(worker["tx"] for worker in workers)
        self.seen.append(now)
        took_s, requests, replies = (late - early for late, early in zip(now, self.seen[0], strict=True))
        return (round(requests / took_s), round(replies / took_s)) if took_s > 0 and requests >= 0 else (0, 0)

    def abandoned(self) -> int:
        return self.table.counters().get("ABANDONED", 0)

    # --- who reads the inventory ---------------------------------------------------------------------------------

    def follow(self, whom: str) -> None:
        self.alone = False
        self.refresher.follows = whom
        self.refresher.rescheduled.set()

    def on_our_own(self, why: str = "") -> None:
        """Without a table, and nobody to give one: as a server without a fleet.  Who has one keeps it."""
        if self.alone or (not why and self.table.pair is not None):
            return
        log.warning("%s: it reads the inventory by itself", why or "the fleet's process does not live")
        self.alone, self.refresher.follows = True, ""
        self.refresher.rescheduled.set()
        self.refresher.poke.set()

    def take_state(self, state: jobs.State) -> None:
        led, self.state, first = self.leads, state, self.state is None
        if first:
            self.drain()
        if led != state.leads or first:
            if self.registering is not None:
                self.registering.another_lead()
            self.on_lead()
        if state.follows and (self.alone or self.refresher.follows != following(state)):
            self.follow(following(state))
        if state.leads and self.builder is None:
            self.start_building()
        elif not state.leads:
            self.stop_building()
        if state.follows and state.dated_s and state.dated_s != self.dated_s:
            self.dated_s = state.dated_s
            self.spawn(self.date(float(state.dated_s), self.table.generation))
        self.news.set()

    async def date(self, dated_s: float, generation: int) -> None:
        """The leader's word is about this table: a worker that has not got it yet must not take it for its own."""
        with contextlib.suppress(NotAdopted):  # the next word comes within minutes
            await self.table.wait_adopted(generation, ADOPT_S)
            if generation == self.table.generation:
                self.table.date(dated_s)

    @property
    def leads(self) -> bool:
        return self.state is not None and self.state.leads

    @property
    def registers(self) -> bool:
        """This machine leads, and has what the leaders before it were at."""
        return self.leads and self.registering is not None and self.registering.recalled

    def start_building(self) -> None:
        log.info("this machine leads the shard %s: it reads the inventory", self.config.fleet.shard)
        builder = Builder(self.config, self.table.fds(), self.on_built)
        self.builder = builder
        builder.overrides = self.overrides

        async def build() -> None:
            try:
                await builder.relink(self.links)
                await builder.run()
            finally:
                await builder.end()

        self.building = asyncio.get_running_loop().create_task(build(), name="builder")

    def on_built(self, fds: list[int]) -> None:
        if not self.send(jobs.Built(), fds):
            asyncio.get_running_loop().call_later(DRAIN_S, self.built_again)

    def built_again(self) -> None:
        if self.builder is not None and self.process is not None:
            self.builder.again()

    def stop_building(self) -> None:
        if self.building is not None:
            self.building.cancel()
        self.builder = self.building = None

    async def relink(self, links: list[LinkAddress]) -> None:
        self.links = links
        if self.builder is not None:
            await self.builder.relink(links)

    # --- look-ups ------------------------------------------------------------------------------------------------

    @property
    def looks_up(self) -> bool:
        """Whether the leader is to be asked for strangers: not by itself, and not where nothing new is published."""
        state = self.state
        return self.builder is None and state is not None and state.follows and not state.frozen

    async def look_up(self, macs: list[str], names: list[str], asked: bool) -> tuple[dict[str, Any], list[str]]:
        """By the leader; what it found is served here when this returns, or soon after.  As Refresher.look_up; raises
        RefreshFailed."""
        started = time.monotonic()
        self.look_ups["asked"] += len(macs) + len(names)
        try:
            told = await self.answer_to(
                lambda number: jobs.LookUp(number=number, macs=macs, names=names, asked=asked), LOOK_UP_S
            )
        except FleetSilent as silent:
            self.note_unanswered(macs, str(silent))
            self.look_ups["failed"] += len(macs) + len(names)
            raise RefreshFailed(f"the leader of the fleet was asked: {silent}") from silent
        self.look_up_fault = ""
        for mac in macs:
            self.unanswered.pop(mac, None)
        missing = [str(mac) for mac in told["missing"]]
        if told["digest"] and len(missing) + len(told["missing_names"]) < len(macs) + len(names):
            with contextlib.suppress(FleetSilent):  # the next head brings it
                await self.wait_served(bytes.fromhex(told["digest"]), SERVED_S)
        counts = dict(zip(COUNTED, told["counts"], strict=False))
        figures = {"generation": self.table.generation, "seconds": round(time.monotonic() - started, 3)} | counts
        return figures | {"missing": [*told["missing_names"], *missing]}, missing

    def note_unanswered(self, macs: list[str], why: str) -> None:
        """For `ctl recent`, which tells it of the machine; the log is told once."""
        if why != self.look_up_fault:
            log.warning("strangers are not looked up: %s", why)
        self.look_up_fault = why
        for mac in macs:
            self.unanswered.pop(mac, None)
            self.unanswered[mac] = f"not looked up: {why}"
        while len(self.unanswered) > REASONS_MAX:
            self.unanswered.popitem(last=False)

    async def look_for(self, message: jobs.LookFor) -> None:
        """For another machine, by this one, which leads."""
        builder = self.builder
        self.look_ups["for_others"] += len(message.macs) + len(message.names)
        if builder is None:
            self.say(jobs.Looked(number=message.number, fault="the leader has just lost the lead"))
        elif not message.asked and watched_path(self.config.dhcp.api_url) is not None:
            self.say(jobs.Looked(number=message.number, missing=message.macs, missing_names=message.names))
        else:
            try:
                figures, missing = await builder.look_up(message.macs, message.names, message.asked)
            except RefreshFailed as failed:
                self.say(jobs.Looked(number=message.number, fault=str(failed)[:200]))
                return
            names = [name for name in figures["missing"] if name not in missing]
            counts = [int(figures[name]) for name in COUNTED]
            self.say(jobs.Looked(number=message.number, missing=missing, missing_names=names, counts=counts))

    # --- what is asked -------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """For ctl status: never waits."""
        said = asdict(self.state) if self.state is not None else {}
        return {
            "shard": self.config.fleet.shard, "fault": self.fault, "deaths": self.deaths, "alone": self.alone,
            "silent_s": round(time.monotonic() - self.heard_s, 1), "state": said or None,
            "discovery": self.registering.counts if self.registering is not None else None,
            "look_ups": self.look_ups, "look_up_fault": self.look_up_fault or None, "dropped": self.dropped,
        }  # fmt: skip

    async def ask(self, verb: str = "", digest: str = "", signed: bytes = b"") -> dict[str, Any]:
        """Raises FleetSilent."""
        return await self.answer_to(
            lambda number: jobs.Ask(number=number, verb=verb, digest=digest, signed=signed), ANSWER_S
        )

    async def answer_to(self, question: Callable[[int], Any], limit_s: float) -> dict[str, Any]:
        """question(number): a message that is answered with Told.  Raises FleetSilent."""
        if self.fault or self.process is None:
            raise FleetSilent(self.fault or "the fleet's process is not there just now; see its log lines")
        number = next(self.numbers)
        waiting = self.waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self.say(question(number))
            async with asyncio.timeout(limit_s):
                told: jobs.Told = await waiting
        except TimeoutError as silent:
            raise FleetSilent(f"the fleet's process does not answer within {limit_s:.0f} s") from silent
        finally:
            del self.waiting[number]
        if told.fault:
            raise FleetSilent(told.fault)
        return told.told

    async def fault_of(self, question: Callable[[int], Any], limit_s: float) -> str:
        """Why it was not done; nothing where it was."""
        try:
            await self.answer_to(question, limit_s)
        except FleetSilent as silent:
            return str(silent)
        return ""

    async def wait_served(self, digest: bytes, limit_s: float = ANSWER_S) -> None:
        """Until this machine serves it by a head.  Raises FleetSilent."""
        try:
            async with asyncio.timeout(limit_s):
                while self.state is None or self.state.serves != digest.hex():
                    self.news.clear()
                    await self.news.wait()
        except TimeoutError as late:
            why = self.state.refused if self.state is not None else "the fleet's process ended"
            raise FleetSilent(f"published, but not served here yet: {why or 'it is tried by the canaries'}") from late

    async def wait_everywhere(self, digest: bytes) -> dict[str, Any]:
        """Until all machines that were heard of lately do: how many, and who is silent.  Raises FleetSilent."""
        return await self.ask(jobs.SERVED, digest.hex())


def following(state: jobs.State) -> str:
    leader = state.leader or "nobody"
    return f"this machine serves the table of its fleet, led by {leader} just now; the inventory is read there"


def named(fds: list[int]) -> dict[str, int | list[int]]:
    return dict(zip(("base", "delta"), fds, strict=False))


def dup_all(fds: list[int]) -> list[int]:
    return [os.dup(fd) for fd in fds]
