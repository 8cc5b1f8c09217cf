"""When to read the inventory, what to do when that fails, and when a refresh is done: all workers answer from it.

Drives the planner, a child process: starts it, gives it one job at a time with a time limit, ends it when it hangs.
Keeps the last good table; a failure only shows in the status, in the log once, and in the next try's delay.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import msgpack
from ext.table import TABLE_LAYOUT, TableInvalid

from control.config.config import Config, resolve_refresh_interval
from control.planner.child import STILL_LOOK_S, STILL_LOOKS, PlannerProcess
from control.planner.jobs import (
    READY,
    Failed,
    FindOrigins,
    Laid,
    Lay,
    ListChanges,
    Listed,
    LookUp,
    OriginsFound,
    PlanBegin,
    Planned,
    Progress,
    Refresh,
    RefreshFailed,
    Relink,
    Relinked,
    Rollback,
    TableChecked,
)
from control.planner.replies import FOLLOWS, SUPERSEDED, NoProgress, Origins, Reply, is_superseded, is_unread, reason_of
from control.service.event_ring import Note, nowhere
from control.service.faultbook import FaultBook
from control.service.inventory_state import InventoryState
from control.service.links import LinkAddress
from control.service.machines.whereabouts import Whereabouts
from control.service.served_table import NotAdopted, ServedTable
from fastpath.process.build import another_is_installed
from fastpath.protocol import Channel, ChannelClosed, close_all, memfd

log = logging.getLogger("bootstorm.refresh")

# Without a word of progress: then the planner hangs.  Its work says one after each piece; the longest piece that was
# measured, comparing a million rows, takes seconds, and waiting for an answer says how much has come.
PROGRESS_LIMIT_S = 60.0
RETRY_FIRST_S, RETRY_MAX_S = 2.0, 60.0
# While nobody is served and no planner lived to say whether the disk has a table: the inventory is not what failed.
FIRST_WORD_PAUSES_S = 0.0, 0.0, 0.1, 0.2, 0.5, 1.0
CONFIRM_S = 5.0  # for all workers to adopt; they need milliseconds


JOB_OF = {"inventory": "refresh", "rollback": "refresh", "hosts": "hosts", "fleet": "fleet"}
T = TypeVar("T")


def retrieved(job: asyncio.Task[Any]) -> None:
    """Of one that nobody waits for any more: its failure is counted and logged where it happened."""
    if not job.cancelled():
        job.exception()


class Refresher:
    """Owner of the planner process.  publish(planned, fds) hands a new pair on; fds are borrowed.  outlived(why): what
    is installed makes tables that we cannot read."""

    keeps = True  # the planner writes what it makes to the disk

    def __init__(
        self,
        config: Config,
        table: ServedTable,
        publish: Callable[[Planned, list[int]], None],
        generation: int,
        planner: PlannerProcess | None = None,
        outlived: Callable[[str], None] | None = None,
        note: Note = nowhere,
    ) -> None:
        """planner: one that was started already and waits for its first message."""
        self.config = config
        self.table = table
        self.publish = publish
        self.outlived = outlived or (lambda _why: None)
        self.generation = generation
        self.state = InventoryState(note=note)
        self.faults, self.whereabouts = FaultBook(note=note), Whereabouts()
        self.links: list[LinkAddress] = []
        self.overrides = Lay()  # also what the next planner is told first
        self.relinking = self.links_due = False  # a Relink is under way; the planner has not been told the last links
        self.job, self.starting = asyncio.Lock(), asyncio.Lock()
        self.going_back = asyncio.Lock()  # held by a rollback that the planner is at: between its disk and its word
        self.ahead = planner
        self.process: PlannerProcess | None = None
        self.channel: Channel | None = None
        self.waiting: dict[str, asyncio.Future[Reply]] = {}  # job -> who waits for its answer
        self.looking_up, self.finding_origins, self.laying = asyncio.Lock(), asyncio.Lock(), asyncio.Lock()
        self.origins_due = False  # the planner has not answered the last question yet, whoever still waits for it
        self.poke, self.rescheduled = asyncio.Event(), asyncio.Event()
        self.follows = ""  # whom, in words: another machine of the fleet reads the inventory; "" while we do
        self.confirming: asyncio.Task[None] | None = None  # of the last refresh
        self.due_s, self.retry_s = 0.0, RETRY_FIRST_S  # when run() refreshes next; the delay after the next failure
        self.pauses = iter(FIRST_WORD_PAUSES_S)
        self.silent = False  # the planner, or who should have become one, has not said anything yet
        self.heard_s = 0.0  # CLOCK_MONOTONIC of the planner's last word
        self.begun_s = -math.inf  # CLOCK_MONOTONIC of the last refresh
        self.last_progress: Progress | None = None
        self.followers: set[Callable[[Progress], None]] = set()  # of the refresh under way

    # --- the planner process -------------------------------------------------------------------------------------

    async def running_planner(self) -> Channel:
        """The planner's channel; starts one when there is none, and one only, whoever needs it at the same time."""
        async with self.starting:
            if self.channel is None:
                await self._start_planner()
            assert self.channel is not None
            return self.channel

    async def _start_planner(self) -> None:
        """A fresh one with what is served now, or with what the disk has."""
        await self.end_planner()
        self.last_progress, self.silent = None, True
        self.process, self.ahead = self.ahead or PlannerProcess(), None
        self.channel = ours = self.process.channel
        asyncio.get_running_loop().add_reader(ours.fileno(), self.on_message)
        begin = PlanBegin(
            config_path=str(self.config.path),
            state_dir=str(self.config.dhcp.state_dir),
            links=[list(link) for link in self.links],
            generation=self.generation,
            pinned_s=self.state.pinned_s,
            keeps=self.keeps,
            holds=self.overrides.holds,
            onces=self.overrides.onces,
        )
        try:
            with memfd("bootstorm-config", self.config.text) as config_fd:
                ours.send(begin, [config_fd, *self.table.fds()])
        except (OSError, ChannelClosed, ValueError):  # whoever needs the planner says so, and tries again
            await self.end_planner()
            raise
        self.links_due = False
        # It knows nothing of the inventory, and without that looks nobody up.
        self.due_s = min(self.due_s, time.monotonic() + RETRY_FIRST_S)
        self.rescheduled.set()

    async def end_planner(self) -> None:
        self.drop_channel()
        process, self.process = self.process, None
        if process is not None:
            await process.end()

    def drop_channel(self) -> None:
        if self.channel is not None:
            asyncio.get_running_loop().remove_reader(self.channel.fileno())
            self.channel.close()
            self.channel = None
            self.origins_due = self.relinking = False

    def on_message(self) -> None:
        assert self.channel is not None
        try:
            message, fds = self.channel.receive()
        except BlockingIOError:
            return
        except ChannelClosed as gone:
            self.give_up(f"the planner ended ({gone}); see its log lines")
            return
        except Exception as damaged:  # a planner that talks nonsense is ended by the next job, and ends nobody else
            log.exception("a message of the planner's cannot be read")
            self.give_up(f"the planner sent what cannot be read ({type(damaged).__name__}: {damaged})")
            return
        self.heard_s, self.silent = time.monotonic(), False
        try:
            self.on_job_message(message, fds)
        except (ValueError, LookupError, TypeError, OSError) as damaged:
            log.exception("a %s of the planner's cannot be used", type(message).__name__)
            self.give_up(f"the planner sent a damaged {type(message).__name__} ({type(damaged).__name__}: {damaged})")
            if isinstance(damaged, TableInvalid) and another_is_installed():  # whose planner may not say its layout
                self.outlived(f"its table cannot be read ({damaged})")

    def give_up(self, reason: str, kind: str = "internal") -> None:
        """The planner is no use any more: who waits for it hears why, and the next job starts another."""
        self.drop_channel()
        for job in list(self.waiting):
            self.answer(job, Failed(kind=kind, reason=reason))

    def on_job_message(self, message: Any, fds: list[int]) -> None:
        if isinstance(message, Progress):
            self.on_progress(message)
        elif isinstance(message, Planned):
            self.on_planned(message, fds)
        elif isinstance(message, Listed):
            with os.fdopen(fds[0], "rb") as file:
                file.seek(0)
                self.answer("changes", (message, msgpack.unpack(file)))
        elif isinstance(message, OriginsFound):
            self.on_origins(message, fds)
        elif isinstance(message, Failed):
            self.answer(message.job, message)
        elif isinstance(message, TableChecked):
            self.answer("check", message)
        elif isinstance(message, Laid):
            self.answer("overrides", message)
        elif isinstance(message, Relinked):
            self.relinking = False
        self.tell_links()

    def on_progress(self, message: Progress) -> None:
        if replace(message, table_layout=0) == READY:  # no stage of a refresh
            self.check_layout(message.table_layout)
            return
        self.last_progress = message
        if "refresh" not in self.waiting:
            return
        state = self.state
        state.stage, state.done, state.total = message.stage, message.done, message.total
        state.rows, state.bytes = message.rows, message.bytes
        for follower in self.followers:
            follower(message)

    def check_layout(self, layout: int) -> None:
        """A planner is of the code that is installed when it is started."""
        if layout in (0, TABLE_LAYOUT):
            return
        why = f"the planner lays out tables as {layout}, this control as {TABLE_LAYOUT}"
        self.give_up(why)
        if another_is_installed():  # else the old code is back, and so is the next planner
            self.outlived(why)

    def answer(self, job: str, reply: Reply) -> None:
        waiting = self.waiting.pop(job, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(reply)

    def on_origins(self, message: OriginsFound, fds: list[int]) -> None:
        self.origins_due = False
        if message.failed:
            self.answer("origins", Failed(kind="down", reason=message.failed, job="origins"))
            return
        with os.fdopen(fds[0], "rb") as file:
            file.seek(0)
            rows = msgpack.unpack(file, strict_map_key=False)
        self.answer("origins", Origins({(mac, client, address): said for mac, address, client, said in rows}))

    def on_planned(self, planned: Planned, fds: list[int]) -> None:
        report_fd, *table_fds = fds
        with os.fdopen(report_fd, "rb") as file:
            file.seek(0)
            report = msgpack.unpack(file, strict_map_key=False)
        state = self.state
        state.pinned_s = planned.pinned_s
        if planned.origin == "inventory":
            state.faults, state.reasons = report["faults"], report["reasons"]
            state.faults_total = report["faults_total"]
            state.quarantined = planned.quarantined
        elif report["reasons"] or planned.origin == "hosts":
            for name in report.get("read", ()):
                state.faults.pop(name, None)
            state.faults |= report["faults"]
            state.faults_total = max(state.faults_total, len(state.faults))
            for mac in report["answered"]:
                state.reasons.pop(mac, None)
            state.reasons |= report["reasons"]
        self.faults.take(report, whole=planned.origin == "inventory")
        self.whereabouts.take(report)
        started = time.monotonic()
        # Nobody has an older table that this word could be taken for; and the first request comes at once.
        if planned.origin == "disk":
            self.table.date(planned.confirmed_s)
        elif planned.origin == "inventory" and not self.generation:
            self.table.confirm(planned.confirmed_boottime_s)
        if planned.published:
            self.generation = planned.generation
            self.publish(planned, table_fds)
        planned.stages_s["publish"] = round(time.monotonic() - started, 4)
        close_all(table_fds)
        if planned.origin == "inventory":
            if self.confirming is not None:
                self.confirming.cancel()
            confirm = self.confirm_adopted(planned.generation, planned.confirmed_boottime_s)
            self.confirming = asyncio.get_running_loop().create_task(confirm, name="confirm")
        elif planned.origin == "disk":
            log.info("the table from disk is of age %s", self.table.age_words())
        if planned.origin in JOB_OF:
            self.answer(JOB_OF[planned.origin], planned)
        else:
            log.info("generation %d: %d hosts (%s)", planned.generation, planned.hosts, planned.origin)

    async def confirm_adopted(self, generation: int, boottime_s: float) -> None:
        """The word is about this table: a worker that still answers from the one before must not take it for that
        one's, or it would refuse machines whose address has just been changed."""
        while True:
            try:
                await self.table.wait_adopted(generation, CONFIRM_S)
            except NotAdopted as late:
                log.warning("%s; the table's age counts from its last confirmation until they do", late)
                continue
            self.table.confirm(boottime_s)
            return

    # --- jobs ----------------------------------------------------------------------------------------------------

    async def relink(self, links: list[LinkAddress]) -> None:
        """Interfaces changed; the first call starts everything.

        However fast they change, one Relink is under way: 250 filled the channel of a planner that was building."""
        self.links, self.links_due = links, True
        self.tell_links()
        if self.channel is None:  # or it was found dead just now
            try:
                await self.running_planner()
            except (OSError, ChannelClosed, ValueError) as error:  # the next job tries again
                log.warning("the planner cannot be started: %s", error)

    def tell_links(self) -> None:
        if not self.links_due or self.relinking or self.channel is None:
            return
        try:
            self.channel.send(Relink(links=[list(link) for link in self.links]))
        except BlockingIOError:
            return  # it has messages to read, and answers each of them: then again
        except (OSError, ValueError, ChannelClosed) as error:
            self.give_up(f"the planner cannot be told of the interfaces ({error})")
            self.poke.set()  # whose job starts another, with these links
            return
        self.relinking, self.links_due = True, False

    async def refresh(self, force: bool = False) -> dict[str, Any]:
        """Read the inventory now.  Returns the figures of `refresh --json`; raises RefreshFailed with the reason.

        Who asked may go away meanwhile: the job goes on, or the next one would get its answer."""
        return await self.whatever_happens(self.do_refresh(Refresh(force=force)))

    async def rollback(self) -> dict[str, Any]:
        """Serve what was served before the last refresh, and stay there.  Figures as of a refresh."""
        return await self.whatever_happens(self.do_refresh(Rollback()))

    async def look_up(
        self, macs: list[str], names: list[str] | None = None, asked: bool = False
    ) -> tuple[dict[str, Any], list[str]]:
        """Read single hosts now, also during a refresh; the figures, and which MACs the inventory does not have.

        Raises RefreshFailed."""
        return await self.whatever_happens(self.do_look_up(LookUp(macs=macs, names=names or [], asked=asked)))

    async def lay(self, overrides: Lay) -> None:
        """These are in force from now on; returns when their table is published.  Raises RefreshFailed: those that can
        be are in the next table all the same."""
        self.overrides = overrides
        await self.whatever_happens(self.do_lay())

    async def do_lay(self) -> None:
        async with self.laying:
            reply = await self.give(self.overrides, "overrides")
            if (
                isinstance(reply, Failed) and reply.kind == "internal"
            ):  # it died: the next one knows them from the start
                reply = await self.give(self.overrides, "overrides")
            if not isinstance(reply, Laid):
                raise RefreshFailed(reason_of(reply))

    async def origins(self, leases: list[tuple[int, int]], limit_s: float) -> Origins:
        """Who gives the options of some (MAC, address), by what the inventory says now; publishes nothing.

        Raises RefreshFailed, after limit_s at the latest: then the planner goes on and its answer is thrown away."""
        try:
            async with asyncio.timeout(limit_s), self.finding_origins:
                return await self.ask_origins(leases)
        except TimeoutError as error:
            raise RefreshFailed(
                f"the planner has no answer within {limit_s:g} s: it is busy, or waits itself"
            ) from error

    async def ask_origins(self, leases: list[tuple[int, int]]) -> Origins:
        if self.channel is None:
            raise RefreshFailed("there is no planner just now")
        if self.origins_due:
            raise RefreshFailed("the planner is still at the last question")
        waiting = self.waiting["origins"] = asyncio.get_running_loop().create_future()
        try:
            self.channel.send(FindOrigins(leases=leases))
            self.origins_due = True
            reply = await waiting
        except (ChannelClosed, BlockingIOError) as gone:
            raise RefreshFailed(f"the planner takes no question ({gone})") from gone
        finally:
            self.waiting.pop("origins", None)
        if not isinstance(reply, Origins):
            raise RefreshFailed(reason_of(reply))
        return reply

    async def changes(self, offset: int, limit: int) -> dict[str, Any]:
        """What the last refresh changed: {"generation", "origin", "total", "changes"}.  Raises RefreshFailed.

        Who goes away while others are at work is not waited for: anybody who may read could delay a refresh so."""
        await self.job.acquire()
        return await self.whatever_happens(self.do_list(ListChanges(offset=offset, limit=limit)))

    @contextlib.contextmanager
    def followed_by(self, follower: Callable[[Progress], None]) -> Iterator[None]:
        self.followers.add(follower)
        try:
            yield
        finally:
            self.followers.discard(follower)

    async def whatever_happens(self, job: Coroutine[Any, Any, T]) -> T:
        task = asyncio.get_running_loop().create_task(job, name="job")
        task.add_done_callback(retrieved)
        return await asyncio.shield(task)

    async def do_look_up(self, message: LookUp) -> tuple[dict[str, Any], list[str]]:
        async with self.looking_up:
            started = time.monotonic()
            reply = await self.give(message, "hosts")
            if is_unread(reply) and self.job.locked():
                async with self.job:  # it has just been started, and reads the inventory as a whole
                    pass
                reply = await self.give(message, "hosts")
            if is_unread(reply) and message.asked:
                await self.do_refresh(Refresh())
                reply = await self.give(message, "hosts")
            if not isinstance(reply, Planned):
                raise RefreshFailed(reason_of(reply))
            return self.figures(reply, started) | {"missing": [*reply.missing_names, *reply.missing]}, reply.missing

    async def do_list(self, message: ListChanges) -> dict[str, Any]:
        """Releases the job's lock, which the caller has taken."""
        try:
            reply = await self.give(message, "changes")
            if not isinstance(reply, tuple):
                raise RefreshFailed(reason_of(reply))
            listed, changes = reply
            return {
                "generation": listed.generation,
                "origin": listed.origin,
                "total": listed.total,
                "changes": changes,
            }
        finally:
            self.job.release()

    async def give(self, message: Any, job: str, fds: Sequence[int] = ()) -> Reply:
        """One job to the planner, and its answer; the caller holds the job's lock."""
        if self.follows and isinstance(message, (Refresh, LookUp, Rollback)):
            return Failed(kind=FOLLOWS, reason=self.follows, job=job)
        try:
            try:
                channel = await self.running_planner()
            except (OSError, ValueError) as error:  # among them EAGAIN of a fork, which is a BlockingIOError, too
                return Failed(kind="internal", reason=f"cannot start the planner: {error}")
            if not self.waiting:  # another job that waits does not make one that hangs look alive
                self.heard_s = time.monotonic()
                self.last_progress = None
            waiting = self.waiting[job] = asyncio.get_running_loop().create_future()
            channel.send(message, fds)
            return await self.progressing(waiting)
        except NoProgress as hangs:
            await self.end_planner()
            return Failed(kind="internal", reason=str(hangs))
        except ChannelClosed as gone:
            self.drop_channel()
            return Failed(kind="internal", reason=f"the planner ended ({gone}); see its log lines")
        except BlockingIOError:
            return Failed(kind="internal", reason="the planner does not take messages: too many wait for it")
        except (OSError, ValueError) as error:  # no descriptor, no memory, a message over every limit
            return Failed(kind="internal", reason=f"the planner cannot be asked: {error}")
        finally:
            self.waiting.pop(job, None)

    async def progressing(self, waiting: asyncio.Future[Reply]) -> Reply:
        """Raises NoProgress."""
        while not waiting.done():
            left_s = self.heard_s + PROGRESS_LIMIT_S - time.monotonic()
            if left_s <= 0:
                at = self.last_progress
                where = "at its start"
                if at is not None:
                    where = f"at {at.stage} {at.done}/{at.total}, {at.rows} rows planned, {at.bytes} bytes read"
                raise NoProgress(f"the planner made no progress for {PROGRESS_LIMIT_S:.0f} s ({where}) and was ended")
            if self.silent:
                if self.process is not None and self.process.stands_still():
                    still_s = STILL_LOOK_S * STILL_LOOKS
                    raise NoProgress(f"the planner stood still for {still_s:.0f} s before its first word and was ended")
                left_s = min(left_s, STILL_LOOK_S)
            await asyncio.wait((waiting,), timeout=left_s)
        return waiting.result()

    async def do_refresh(self, message: Refresh | Rollback) -> dict[str, Any]:
        rollback = isinstance(message, Rollback)
        async with self.job, self.going_back if rollback else contextlib.nullcontext():
            started = self.begun_s = time.monotonic()
            reply = await self.give(message, "refresh")
            self.state.stage = ""
            if not rollback and not is_superseded(reply):
                self.schedule(isinstance(reply, Planned), time.monotonic() - started)
            if not isinstance(reply, Planned):
                assert isinstance(reply, Failed)
                if not is_superseded(reply):  # of that the inventory is not to blame
                    self.state.failed(reply.kind, reply.reason, self.table.generation)
                raise RefreshFailed(reason_of(reply))
            if reply.origin == "inventory":
                self.state.last_duration_s = time.monotonic() - started
                self.state.succeeded(reply)
            return self.figures(reply, started)

    def figures(self, planned: Planned, started: float) -> dict[str, Any]:
        """What `refresh --json` says of a job."""
        figures: dict[str, Any] = {
            "generation": planned.generation,
            "hosts": planned.hosts,
            "added": planned.added,
            "changed": planned.changed,
            "removed": planned.removed,
            "quarantined": planned.quarantined,
            "seconds": round(time.monotonic() - started, 3),
        }
        if planned.unsaved:
            figures["unsaved"] = planned.unsaved
        if planned.published:
            log.info(
                "generation %(generation)d: %(hosts)d hosts, %(added)d added, %(changed)d changed, "
                "%(removed)d removed, %(quarantined)d quarantined, %(seconds).2f s",
                figures,
            )
        return figures

    def schedule(self, succeeded: bool, took_s: float) -> None:
        """Whoever asked: a refresh that failed is tried again soon, and after one that did not the interval begins."""
        if succeeded:
            self.retry_s = RETRY_FIRST_S
            wait_s = resolve_refresh_interval(self.config.dhcp.refresh_interval, took_s)
        elif self.silent and not self.generation and (pause_s := next(self.pauses, None)) is not None:
            wait_s = pause_s
        else:
            wait_s, self.retry_s = self.retry_s, min(self.retry_s * 2, RETRY_MAX_S)
        self.due_s = time.monotonic() + wait_s
        self.rescheduled.set()

    async def run(self) -> None:
        """Refresh for ever: at the configured interval, after a failure with a growing delay, at once when poked."""
        while True:
            self.poke.clear()  # one that comes from now on may be about what this refresh has read already
            await self.not_following()
            with contextlib.suppress(RefreshFailed):
                await self.refresh()
            await self.wait_due()

    async def not_following(self) -> None:
        while self.follows:
            self.rescheduled.clear()
            await self.rescheduled.wait()

    async def wait_due(self) -> None:
        """Until the next refresh is due, which may change meanwhile, or somebody pokes."""
        while not self.poke.is_set():
            self.rescheduled.clear()
            left_s = self.due_s - time.monotonic()
            if (left_s <= 0 and not self.state.pinned_s) or self.follows:
                return
            poked = asyncio.ensure_future(self.poke.wait())
            moved = asyncio.ensure_future(self.rescheduled.wait())
            try:
                limit_s = None if self.state.pinned_s else left_s
                await asyncio.wait((poked, moved), timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            finally:
                poked.cancel()
                moved.cancel()

    async def reconfigure(self, config: Config) -> None:
        """Another configuration counts from now on, and the inventory is read by it.

        What the planner is at by the old one is not waited for: an address that hangs is what gets corrected.  One
        that was told nothing else than it would be told now stays, with whatever it is at."""
        async with self.going_back, self.starting:
            another, self.config = config.dhcp != self.config.dhcp, config
            self.poke.set()  # before anybody hears of the end: or run() would read twice
            if another:
                self.retry_s = RETRY_FIRST_S
                self.give_up("superseded by a new configuration, by which the inventory is read now", SUPERSEDED)
                try:
                    await self._start_planner()
                except (OSError, ChannelClosed, ValueError) as error:  # the refresh that follows tries again
                    log.warning("the planner cannot be started: %s", error)
