"""One member of the fleet at work: every event to its decisions, every action to the engine, the disk or control.

Answers come back as events.  An answer that does not come is the tick's to notice, so a fault of the engine is counted
and forgotten here.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final

from ext.table import TableInvalid

from control.config.config import Config
from control.fleet import actions as act
from control.fleet import adoption, election, intake
from control.fleet.adoption import Counted
from control.fleet.election import Election
from control.fleet.heads import Site
from control.fleet.leading import Leading
from control.fleet.member import Member
from control.fleet.messages import SESSION_BYTES, Blob, Content, Journaled, LookedUp, kind_of
from control.fleet.process import forwarding, jobs
from control.fleet.process.disk import Disk, Kept
from control.fleet.process.engine import Engine, EngineFault, said_of
from control.fleet.process.journal import EngineJournal
from control.fleet.process.page import LeadPage, now_ms
from control.fleet.process.peers import Peers
from control.fleet.process.spool import SpoolFile
from control.fleet.process.tables import (
    blob_behind,
    changed_hosts,
    chunks_of,
    content_of,
    fds_of,
    new_table,
    pair_of,
    rules_digest,
    seal,
)
from control.fleet.strangers import Answering, Asking
from control.fleet.wire import Reason, Refused
from control.table.digest import rows_digest
from fastpath.protocol import Channel, close_all

log = logging.getLogger("bootstorm.fleet")

TICK_S: Final = 1.0
HINT_S: Final = adoption.HINT_MS / 1000
TASKS_MAX: Final = 64  # under way; the decisions ask again for what found no room
RECALL_MS: Final = 5_000
ALL_ROWS: Final = 1 << 32
UNREAD: Final = "control does not read what it is sent"


class Node:
    """channel: to control.  send, like all here, is called from the loop's thread only."""

    def __init__(
        self,
        config: Config,
        site: Site,
        may_lead: bool,
        channel: Channel,
        served: list[int],
        page: LeadPage | None = None,
    ) -> None:
        """served: descriptors of base (and delta) in the workers, borrowed.  page: of the registrars."""
        self.page = page
        fleet = config.fleet
        self.site, self.channel = site, channel
        self.rules = rules_digest(config)
        self.disk = Disk(config.dhcp.state_dir, site.shard)
        self.blobs: dict[bytes, int] = {}  # SHA-256 -> sealed memfd, ours
        self.building: dict[bytes, Content] = {}  # digest -> built here, perhaps not yet in a head
        self.spool = SpoolFile(config.dhcp.state_dir)
        self.spool.load()
        self.outbox: deque[tuple[str, bytes]] = deque()  # of forwarding
        self.looking_up: dict[int, int] = {}  # number of a look-up among us -> the one that control gave it
        self.tasks: dict[tuple[str, Any], asyncio.Task[None]] = {}
        self.lost = 0
        self.in_workers = b""  # digest
        self.peers = Peers(site.shard)
        self.news = asyncio.Event()  # somebody told what he has
        self.member = self.started(self.disk.load(), may_lead, served)
        self.engine = Engine(fleet, site.host, {
            "announce": self.on_announcement, "have": self.on_have, "order": self.on_order, "ask": self.on_ask,
            "seen": self.on_seen, "said": self.on_said,
        }, self.on_connection)  # fmt: skip
        self.journal = EngineJournal(self.engine, self.send, lambda: self.member.leads(now_ms()))
        self.recalled = 0  # the lead for which the journal was read: the lease's revision then
        self.recall_ms = 0  # when that was tried
        self.said: jobs.State | None = None

    def started(self, kept: Kept, may_lead: bool, served: list[int]) -> Member:
        """What the disk says is served counts if it is what is in the workers."""
        now = now_ms()
        serves = kept.serves
        try:
            digest = rows_digest(pair_of(served)) if served else b""
        except TableInvalid as foreign:
            log.warning("what is served cannot be read (%s)", foreign)
            digest = b""
        self.in_workers = digest
        if serves is not None and serves.digest != digest:
            serves = None
        responder = adoption.started(self.site, kept.head, kept.mark, serves, now)
        if serves is not None:
            self.keep_blob(serves.base, os.dup(served[0]))
            if serves.delta is not None and (fd := self.disk.delta(serves.delta)) is not None:
                self.keep_blob(serves.delta, fd)
            responder = responder._replace(has=frozenset(self.blobs))
        elif digest:  # read by itself before, or another fleet's: served until there is a head
            content, _pair = content_of(served, self.rules)
            responder = responder._replace(serves=content, by_itself=True, has=frozenset())
        return Member(
            responder._replace(adopted=digest),
            Election(host=self.site.host, session=os.urandom(SESSION_BYTES), may_lead=may_lead),
            Leading(site=self.site),
            intake.Spool(host=self.site.host, spool=self.spool.spool, waiting=dict(self.spool.entries)),
            intake.started(()),
            Asking(self.site.shard, self.site.host, os.urandom(SESSION_BYTES)),
            Answering(self.site.shard, self.site.host),
        )

    def keep_blob(self, blob: Blob, fd: int) -> None:
        """Takes fd over; one that is not that blob is closed."""
        if os.fstat(fd).st_size != blob.size or blob_behind(fd) != blob or blob.sha256 in self.blobs:
            os.close(fd)
        else:
            self.blobs[blob.sha256] = fd

    # --- events --------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self.engine.run(), name="engine")
            group.create_task(self.journal.run(), name="journal")
            while True:
                self.event(lambda now: self.member.tick(int(time.time()), now))
                self.peers.look(self.member.responder.head, now_ms())
                self.say_state(whatever=True)
                await asyncio.sleep(TICK_S)

    def event(self, decide: Callable[[int], act.Actions]) -> None:
        before = self.member.responder
        actions = decide(now_ms())
        for action in actions:
            try:
                HANDS[type(action)](self, action)
            except OSError as error:  # the disk: what it did not take has not happened
                log.error("%s: %s; not done: %s", self.disk.path, error.strerror, type(action).__name__)
                self.member.responder = before._replace(refused=f"disk: {error.strerror}")
                break
        if self.page is not None:
            self.page.until_ms = self.member.write_until_ms(now_ms())
        self.say_state()
        self.recall()

    def recall(self) -> None:
        """Once a lead: what the leaders before were at goes on here."""
        term = self.member.lease.taken if self.member.leads(now_ms()) else 0
        if not term or term == self.recalled or now_ms() - self.recall_ms < RECALL_MS:
            return
        self.recall_ms = now_ms()

        async def work() -> None:
            await self.journal.recall()
            self.recalled = term

        self.spawn("recall", term, work())

    def end(self) -> act.Actions:
        """In order: the lease may be given back, unless a registrar's request is under way."""
        if self.page is None:
            return self.member.release(0, now_ms())
        self.page.until_ms = 0  # first: who sends one notes it before he looks here
        return self.member.release(self.page.busy_ms, now_ms())

    def spawn(self, name: str, key: Any, work: Coroutine[Any, Any, None]) -> None:
        """One of a name and key at a time."""
        if (name, key) in self.tasks or len(self.tasks) >= TASKS_MAX:
            work.close()
            self.lost += 1
            return

        async def guarded() -> None:
            try:
                await work
            except EngineFault as fault:
                log.debug("%s: %s", name, fault)
            finally:
                self.tasks.pop((name, key), None)

        self.tasks[name, key] = asyncio.get_running_loop().create_task(guarded(), name=name)

    def on_connection(self) -> None:
        """At once, not after the next tick."""
        if self.engine.connected:
            self.spawn("read head", False, self.read_head_of(False, now_ms()))
        self.say_state()

    def on_announcement(self, raw: bytes, _by: str) -> None:
        self.event(lambda now: self.member.announcement(raw, now))
        if self.member.responder.hint > self.member.responder.mark:
            tick = self.member
            asyncio.get_running_loop().call_later(
                HINT_S + 0.01, lambda: self.event(lambda now: tick.tick(int(time.time()), now))
            )

    def on_have(self, raw: bytes, _by: str) -> None:
        self.peers.heard(raw, now_ms())
        self.news.set()
        self.event(lambda now: self.member.have(raw, now))

    def on_order(self, raw: bytes, _by: str) -> None:
        self.event(lambda now: self.member.order(raw, now))

    def on_ask(self, _raw: bytes, _by: str) -> bytes | None:
        if not self.member.leads(now_ms()):
            return None
        self.peers.look(self.member.responder.head, now_ms())
        return self.peers.packed(now_ms())

    def on_seen(self, raw: bytes, by: str) -> None:
        self.event(lambda now: self.member.seen(raw, by, now))

    def on_said(self, raw: bytes, _by: str) -> None:
        """To this host, by who leads."""
        kind = kind_of(raw)
        if kind is LookedUp:
            self.event(lambda _now: self.member.looked_up(raw))
        elif kind is Journaled:
            forwarding.take_confirmed(self, raw)

    # --- hands: the engine ---------------------------------------------------------------------------------------

    def read_lease(self, action: act.ReadLease) -> None:
        async def work() -> None:
            found = await self.engine.read_key("lease", hub=True)
            self.event(lambda now: self.member.lease_read(action.asked_ms, *found, now))

        self.spawn("read lease", action.asked_ms, work())

    def write_lease(self, action: act.WriteLease) -> None:
        async def work() -> None:
            revision = await self.engine.write_key("lease", action.value, action.last)
            self.event(lambda now: self.member.lease_written(action.beat, revision, now))

        self.spawn("write lease", action.beat, work())

    def read_head(self, action: act.ReadHead) -> None:
        self.spawn("read head", (action.hub, action.asked_ms), self.read_head_of(action.hub, action.asked_ms))

    async def read_head_of(self, hub: bool, asked_ms: int) -> None:
        found = await self.engine.read_key("head", hub)
        self.event(lambda now: self.member.head_read(hub, asked_ms, *found, now))

    def write_head(self, action: act.WriteHead) -> None:
        async def work() -> None:
            revision = await self.engine.write_key("head", action.value, action.last)
            self.event(lambda now: self.member.head_written(action.generation, revision, now))
            if revision and self.member.leads(now_ms()):
                await self.tidy()

        self.spawn("write head", action.generation, work())

    async def tidy(self) -> None:
        """Blobs that no head names any more are taken out of the store; those on their way there stay."""
        head = self.member.leading.head
        if head is None or self.member.leading.putting:
            return
        named = [head.stable, *head.kept, *self.building.values()]
        named += [head.trial] if head.trial is not None else []
        await self.engine.forget_blobs({blob.sha256 for content in named for blob in content.blobs})

    def say(self, what: str, value: bytes) -> None:
        self.spawn("say", (what, value), self.engine.say_to_all(what, value))

    def announce(self, action: act.Announce) -> None:
        self.say("announce", action.value)

    def tell(self, action: act.Tell) -> None:
        self.say(f"have.{self.site.host}", action.value)

    def put_blobs(self, action: act.PutBlobs) -> None:
        content = action.content

        async def work() -> None:
            done = False
            try:
                for blob in content.blobs:
                    if (fd := self.blobs.get(blob.sha256)) is None:
                        raise EngineFault("this machine has not got it any more")
                    await self.engine.put_blob(blob, chunks_of(fd))
                done = True
            except EngineFault as fault:
                log.warning("the table of %d hosts is not in the store: %s", content.hosts, fault)
                if fds_of(content, self.blobs) is None:  # the inventory has to say it anew
                    self.member.leading = self.member.leading._replace(own=None, wants=None)
            self.event(lambda now: self.member.blobs_put(content.digest, done, now))

        self.spawn("put", content.digest, work())

    def read_blob(self, action: act.ReadBlob) -> None:
        blob = action.blob

        async def work() -> None:
            fd, fault = new_table(), None
            try:
                await self.engine.read_blob(blob, action.hub, lambda chunk: write_chunk(fd, chunk))
                seal(fd)
                self.keep_blob(blob, os.dup(fd))
            except Refused as refused:
                fault = refused
            except OSError as error:
                raise EngineFault(said_of(error)) from error
            finally:
                os.close(fd)
            self.event(lambda now: self.member.blob_read(blob.sha256, fault, now))

        self.spawn("read blob", blob.sha256, work())

    # --- hands: control, the disk --------------------------------------------------------------------------------

    def send(self, message: Any, fds: list[int] | None = None) -> bool:
        """False: control does not read just now, and has not got it."""
        named = dict(zip(("base", "delta"), fds or [], strict=False))
        try:
            self.channel.send(message, named)
        except BlockingIOError:
            self.lost += 1
            return False
        return True

    def check_table(self, action: act.CheckTable) -> None:
        content = action.content
        fds = fds_of(content, self.blobs)
        if fds is None:
            missing = Refused(Reason.BLOB_MISSING, "not here any more")
            self.later(lambda now: self.member.table_checked(content.digest, missing, now))
            return
        if not self.send(jobs.Check(digest=content.digest), fds):
            unread = Refused(Reason.GUARDED, UNREAD)
            self.later(lambda now: self.member.table_checked(content.digest, unread, now))

    def later(self, decide: Callable[[int], act.Actions]) -> None:
        asyncio.get_running_loop().call_soon(self.event, decide)

    def keep_mark(self, action: act.KeepMark) -> None:
        """Raises OSError."""
        kept = self.disk.kept
        self.disk.keep(Kept(shard=kept.shard, mark=action.mark, head=action.head, serves=kept.serves))

    def serve(self, action: act.Serve) -> None:
        digest = action.content.digest
        if self.member.responder.by_itself:
            return
        if digest == self.in_workers:
            self.take_served(jobs.Served(digest=digest))
            self.later(lambda now: self.member.adopted(digest, now))
        elif not self.send(jobs.Serve(digest=digest)):
            self.take_served(jobs.Served(digest=digest, fault=UNREAD))

    def build(self, _action: act.Build) -> None:
        self.send(jobs.Build())

    def read_inventory(self, _action: act.ReadInventory) -> None:
        self.send(jobs.ReadInventory())

    def step_down(self, action: act.StepDown) -> None:
        log.info("this machine does not lead any more: %s", action.why)
        self.building.clear()
        self.forget()
        self.journal.end()
        self.recalled = self.recall_ms = 0

    # --- from control --------------------------------------------------------------------------------------------

    def take_built(self, fds: list[int]) -> None:
        """Of the inventory, by this machine, which leads.  Raises TableInvalid."""
        content, pair = content_of(fds, self.rules)
        for blob, fd in zip(content.blobs, fds, strict=True):
            self.keep_blob(blob, os.dup(fd))
        head = self.member.leading.head
        before = fds_of(head.stable, self.blobs) if head is not None else None
        changed = changed_hosts(pair_of(before), pair) if before is not None else ALL_ROWS
        self.building[content.digest] = content
        self.event(lambda now: self.member.built(content, changed, now))
        self.building = {content.digest: content}
        self.forget()

    def take_alone(self, fds: list[int]) -> None:
        """Raises TableInvalid."""
        content, _pair = content_of(fds, self.rules)
        self.in_workers = content.digest
        self.event(lambda now: self.member.inventory_read(content, now))

    def take_served(self, message: jobs.Served) -> None:
        """The table of the last Serve is in the workers, or is not."""
        responder = self.member.responder
        content = responder.serves
        if content is None or content.digest != message.digest or responder.by_itself:
            return
        if message.fault:
            log.error("the table of %d hosts is not served: %s", content.hosts, message.fault)
            self.member.responder = responder._replace(
                serves=self.disk.kept.serves, bad=message.digest, bad_ms=now_ms(), refused=message.fault[:200]
            )
            return
        self.in_workers = content.digest
        kept = self.disk.kept
        try:
            self.disk.keep(Kept(shard=kept.shard, mark=kept.mark, head=kept.head, serves=content))
            if content.delta is not None and content.delta.sha256 in self.blobs:
                self.disk.keep_delta(self.blobs[content.delta.sha256])
        except OSError as error:
            log.error("%s: %s; a restart finds the table of before", self.disk.path, error.strerror)
        self.forget()
        self.say_state()

    def forget(self) -> None:
        """Blobs that nothing needs any more."""
        responder, leading = self.member.responder, self.member.leading
        wanted = [responder.serves, responder.goal, leading.own, leading.wants, *self.building.values()]
        if self.disk.kept.serves is not None:
            wanted.append(self.disk.kept.serves)
        needed = {blob.sha256 for content in wanted if content is not None for blob in content.blobs}
        close_all([self.blobs.pop(sha256) for sha256 in self.blobs.keys() - needed])

    def take_counts(self, message: jobs.Counts) -> None:
        serves = self.member.responder.serves
        if serves is not None:
            self.member.counted(
                Counted(
                    serves.digest, message.served_s, message.restarts, message.abandoned, message.requests_s,
                    message.replies_s, message.age_s,
                )
            )  # fmt: skip

    # --- what is said --------------------------------------------------------------------------------------------

    def say_state(self, whatever: bool = False) -> None:
        state = self.state()
        if whatever or state != self.said:
            self.said = state
            self.send(state)

    def state(self) -> jobs.State:
        responder, now = self.member.responder, now_ms()
        head, serves = responder.head, responder.serves
        named = head is not None and serves is not None and serves.digest == head.stable.digest
        lease, leads = election.lease_of(self.member.lease.seen), self.member.leads(now)
        machines, behind = self.peers.counts(now) if leads else (0, 0)
        return jobs.State(
            leads=leads,
            follows=serves is not None and not responder.by_itself,
            connected=self.engine.connected,
            leader=lease.holder if lease is not None else "",
            mark=list(responder.mark),
            serves=serves.digest.hex() if serves is not None else "",
            dated_s=head.created_s if named and head is not None else 0,
            refused=responder.refused,
            frozen=head is not None and (head.held or head.pinned),
            fault="" if self.engine.connected else self.engine.fault,
            waiting=len(self.member.spool.waiting),
            journal_fault=self.journal.fault,
            lost=self.lost + self.engine.lost + self.journal.lost,
            head_s=head.created_s if head is not None else 0,
            held=head is not None and head.held,
            pinned=head is not None and head.pinned,
            trial=head is not None and head.trial is not None,
            dropped=head is not None and bool(head.failed),
            lags=adoption.lags(responder),
            machines=machines,
            behind=behind,
            refusals=dict(self.member.refusals),
        )


def write_chunk(fd: int, chunk: bytes) -> None:
    """Raises OSError."""
    at = 0
    while at < len(chunk):
        at += os.write(fd, chunk[at:])


HANDS: dict[type[act.Action], Callable[[Node, Any], None]] = {
    act.ReadLease: Node.read_lease, act.WriteLease: Node.write_lease, act.ReadHead: Node.read_head,
    act.WriteHead: Node.write_head, act.Announce: Node.announce, act.Tell: Node.tell, act.PutBlobs: Node.put_blobs,
    act.ReadBlob: Node.read_blob, act.CheckTable: Node.check_table, act.KeepMark: Node.keep_mark,
    act.Serve: Node.serve, act.Build: Node.build, act.ReadInventory: Node.read_inventory,
    act.StepDown: Node.step_down, **forwarding.HANDS,
}  # fmt: skip
