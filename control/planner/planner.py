"""The planner, a child process of control: reads the inventory, plans, builds generations, keeps the last one on disk.

It may take seconds, use much memory, hang or die: control's loop does not notice, and starts another.  While it waits
for the inventory's answers to a refresh it looks single hosts up; otherwise it does one thing after the other.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from typing import Any, TypeVar

from ext.builder import Surroundings
from ext.table import Changes, Generation, Keys, Pair, TableInvalid, compare, row_key

from control.clusto.errors import InventoryDown
from control.config.config import Config
from control.mac import show_mac
from control.plan.compile import Assembled, Compilation, Compiler, Younger, encoded
from control.plan.contexts import Faults
from control.plan.guards import Flips, shrinking
from control.plan.networks import kept_shared
from control.plan.otherwise import planned_otherwise
from control.plan.plan import plan_hosts
from control.plan.rows import Claim
from control.plan.site_facts import surroundings
from control.planner.closure import Closure, Disputes, read_closed
from control.planner.jobs import Failed, Planned, Progress
from control.planner.overlay import Overlay
from control.planner.report import Whereabouts, write_report
from control.planner.served import AnsweredTwice, Served, Silenced
from control.sources.model import Inventory, Source, name_of
from control.table.file import TableStore, present_pair
from fastpath.process.log_forms import about
from fastpath.process.table_proof import proof
from fastpath.protocol import close_all

log = logging.getLogger("bootstorm.planner")

PROGRESS_EVERY_S = 0.05
DOUBTS_MAX = 20
NO_CHANGES = Changes(Keys(), Keys(), Keys())
SAVED = ("inventory", "hosts", "links", "fleet", "overrides")  # links: also what one before this could not save
T = TypeVar("T")
Wait = Callable[["Future[Any]"], None]


def keys_of(changes: Changes) -> set[int]:
    """Of all rows that differ."""
    return {row_key(*key) for keys in (changes.added, changes.changed, changes.removed) for key in keys}


class Stages:
    """Seconds a stage, by name, in order; and `cpu`, the processor's seconds for all of them together."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.since = time.monotonic()
        self.cpu_since = time.process_time()

    def done(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name] = round(now - self.since, 4)
        self.seconds["cpu"] = round(time.process_time() - self.cpu_since, 4)
        self.since = now


class Planner:
    """What is served now, and how to get to what should be.

    wait(future): returns when it is done; may serve look-ups and relinks meanwhile."""

    def __init__(
        self,
        config: Config,
        links: list[list[int | str]],
        send: Callable[..., None],
        wait: Wait = lambda future: None,
    ) -> None:
        self.config = config
        self.links = links
        self.links_served: list[list[int | str]] | None = None  # those that the table says; None: another planner's
        self.send = send
        self.wait = wait
        self.reader = ThreadPoolExecutor(1, thread_name_prefix="source")
        self.store = TableStore(config.dhcp.state_dir)
        self.served = Served()
        self.overlay = Overlay()
        self.known_onces: set[int] = set()  # of these the rows of the table that we are given are up to date
        self.compiler = Compiler(config.dhcp)
        self.flips = Flips()
        self.quarantined = 0
        self.pinned_s = self.store.pinned_s()
        self.unsaved = ""  # why the disk has not got the pinned table
        self.confirmed_s = 0.0  # since 1970: the inventory's last word on the whole table
        self.confirmed_boottime_s = 0.0
        self.frame: Inventory | None = None  # containers and managers as last read
        self.refreshing = False
        self.touched: set[int] = set()  # keys of rows that were looked up while a refresh was reading: the younger word
        self.touched_claims: dict[str, Sequence[Claim]] = {}  # of objects, as `touched`
        self.looked_up_claims: dict[str, Sequence[Claim]] = {}  # that may be younger than the last read of their part
        self.disputes = Disputes()
        self.whereabouts = Whereabouts()
        self.progress_due_s = 0.0
        self.at = Progress(stage="begin", done=0, total=0)

    @cached_property
    def source(self) -> Source:
        """Opened when first read: a cold start serves from disk before the libraries of HTTP and YAML are there."""
        from control.sources.by_url import open_source

        return open_source(self.config.dhcp, self.progress)

    # --- what is served ------------------------------------------------------------------------------------------

    def adopt(self, base_fd: int, delta_fd: int) -> None:
        """Take over both fds as what is served, overrides of before and all."""
        shown = self.served.adopt_shown(base_fd, delta_fd, self.around)
        self.overlay.remember(shown, self.known_onces)
        assert self.served.pair is not None
        self.confirmed_s = max(self.confirmed_s, self.served.pair.top.created_s)

    def take_over(self, fds: list[int]) -> bool:
        """adopt() of base (and delta), in the present layout; False, and both closed, where they cannot be read."""
        try:
            base_fd, delta_fd = present_pair(fds)
        except TableInvalid as foreign:
            log.warning(
                "the table of before the upgrade is not used: %s; the one on disk or the inventory's is", foreign
            )
            return False
        finally:
            close_all(fds)
        self.adopt(base_fd, delta_fd)
        return True

    def load_from_disk(self) -> None:
        """A cold start: the last good table, with today's interfaces.  Says nothing when there is none."""
        loaded = self.store.load()
        if loaded is None:
            self.unpin()  # from nothing: there is no table to stay with
            return
        base_fd, delta_fd, confirmed_s = loaded
        held_back = self.store.unsaved(delta_fd if delta_fd >= 0 else base_fd)
        self.adopt(base_fd, delta_fd)
        self.confirmed_s = confirmed_s
        if held_back is None or held_back:
            self.unpin()  # what was pinned is not what lies there
        if held_back is None or not self.relink(self.links, "disk", confirmed_s, held_back):
            self.served.drop()

    def around(self, pair: Pair) -> Surroundings:
        """Of what a pair says, with today's interfaces."""
        return self.surroundings(pair.top.networks, pair.top.shared)

    def surroundings(
        self, networks: tuple[tuple[int, int], ...], shared: tuple[tuple[int, int, int], ...]
    ) -> Surroundings:
        served = set(self.config.dhcp.interfaces)
        links = (
            (index, address, prefix, mtu, not served or name in served)
            for index, name, address, prefix, mtu in self.links
        )
        return surroundings(self.config.dhcp, networks, links, shared)

    # --- relink --------------------------------------------------------------------------------------------------

    def relink(
        self,
        links: list[list[int | str]],
        origin: str = "links",
        dated_s: float | None = None,
        gone: Collection[int] = (),
    ) -> bool:
        """The same rows under new surroundings: a delta with what the present one says, without the rows of the keys
        that are gone.  False: it is not published."""
        self.links = links
        if self.served.pair is None:
            return True
        top = self.served.pair.top
        try:
            around = self.surroundings(top.networks, top.shared)
            silenced = self.served.delta(self.served.rows_of_delta(gone), around, top.created_s)
        except AnsweredTwice as refused:
            self.refuse(refused, "links")
            return False
        report = self.report_with(silenced, Faults(), {})
        self.publish(origin, top.created_s if dated_s is None else dated_s, NO_CHANGES, report=report)
        return True

    def refuse(self, refused: AnsweredTwice, job: str) -> None:
        log.error("not published: %s", refused)
        self.fail("contested", str(refused), job)

    def report_with(
        self,
        silenced: Silenced,
        faults: Faults,
        reasons: dict[str, str],
        answered: Iterable[str] = (),
        read: Iterable[str] = (),
        more: Mapping[str, Any] | None = None,
    ) -> int:
        """A report that names also what was made a conflict at the last moment."""
        for row in silenced.rows:
            known = about(mac=show_mac(row.key), host=row.name)
            log.warning("%s is not answered: %s", row.name, row.reason, extra=known)
        faults.include(silenced.faults)
        self.disputes.note(silenced.contested)
        reasons = {show_mac(row.key): row.reason for row in silenced.rows} | reasons
        return write_report(faults, reasons, sorted(set(answered) - reasons.keys()), read, more)

    # --- single hosts --------------------------------------------------------------------------------------------

    def look_up(self, macs: list[str], names: list[str], asked: bool = False) -> None:
        """Hosts that changed, came or went since the last full read: published as a delta."""
        pair = self.served.pair
        if self.pinned_s:
            self.fail("pinned", self.pinned(), "hosts")
            return
        if pair is None or self.frame is None:
            self.fail("unread", "the inventory has not been read as a whole yet", "hosts")
            return
        if asked and (networks := set(names).intersection(map(name_of, self.frame.managers))):
            # Nothing hangs below one: to read it alone would change nobody, and look as if it had.
            step = "wanted a host or a container; `ctl refresh` reads all networks with their hosts"
            self.fail("network", f"{min(networks)} is a network; {step}", "hosts")
            return
        stages = Stages()
        asked_macs = {int(mac.replace(":", ""), 16) for mac in macs}
        wanted = {row_key(mac, role) for mac in asked_macs for role in (0, 1)}
        wanted.update(row_key(*key) for key in pair.with_names({encoded(name) for name in names}) if names)
        try:
            found = self.read_closed(macs, names, wanted)
        except InventoryDown as down:
            self.fail("down", str(down), "hosts")
            return
        stages.done("fetch")
        changes = self.served.changes_by(found.rows, found.keys)
        former = self.served.remember() if asked and changes else None
        silenced = Silenced()
        try:
            if changes:
                builder = self.served.rows_of_delta(found.keys, found.rows.values())
                around = self.surroundings(pair.top.networks, pair.top.shared)
                silenced = self.served.delta(builder, around, pair.top.created_s)
        except AnsweredTwice as refused:
            close_all(former[1] if former is not None else [])
            self.refuse(refused, "hosts")
            return
        late = Keys(row.key | 1 << 63 for row in silenced.rows if row.key not in keys_of(changes))
        changes = Changes(changes.added, Keys([*changes.changed.packed, *late.packed]), changes.removed)
        if self.refreshing:
            self.touched |= found.keys | keys_of(changes)
            self.touched_claims.update(found.claims)
        self.looked_up_claims.update(found.claims)
        if former is not None:
            self.served.keep_former(former, changes, "hosts")
        self.disputes.note(found.plan.contested)
        for path in found.claims if self.overlay.onces else ():
            if path in found.inventory.things and (once := self.overlay.said_by(path)) is not None:
                rows, _faults = planned_otherwise(found.inventory, self.config.dhcp, path, once[1].said)
                self.overlay.take(once[0], {row.key: row for row in rows})
        stages.done("plan")
        there = {row.mac for row in found.plan.rows}
        read = {*names, *map(name_of, found.claims)}
        reasons = {show_mac(row.key): row.reason for row in reversed(found.plan.rows) if row.reason}
        assert self.served.pair is not None
        more = self.whereabouts.of_look_up(self.served.pair, found.rows, found.inventory, self.compiler.groups)
        self.publish(
            "hosts",
            time.time(),
            changes,
            published=bool(changes),
            report=self.report_with(silenced, found.plan.faults, reasons, map(show_mac, found.keys), read, more),
            stages_s=stages.seconds,
            missing=[show_mac(mac) for mac in sorted(asked_macs - there)],
            missing_names=sorted(set(names) - found.names),
        )

    def read_closed(self, macs: list[str], names: list[str], asked: set[int]) -> Closure:
        """What is asked for and all that it touches in what is served.  Raises InventoryDown."""
        frame = self.frame
        assert frame is not None
        return read_closed(
            self.source.read_hosts,
            lambda inventory: plan_hosts(inventory, self.config.dhcp),
            (frame, self.served.view(), self.disputes), macs, names, asked,
        )  # fmt: skip

    # --- refresh -------------------------------------------------------------------------------------------------

    def refresh(self, force: bool) -> None:
        if self.pinned_s and not force:
            self.fail("pinned", self.pinned())
            return
        stages = Stages()
        self.refreshing, self.touched, self.touched_claims = True, set(), {}
        try:
            done = self.compile(stages)
        except InventoryDown as down:
            self.fail("down", str(down))
            return
        finally:
            self.refreshing = False
        if done.knows_nothing:
            self.fail("down", f"no part of the inventory can be read: {done.doubts[0]}")
            return
        confirmed_s = time.time()
        self.confirmed_boottime_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        self.replace(done, stages, confirmed_s, force)

    def compile(self, stages: Stages) -> Compilation:
        """Read and plan, part by part; look-ups go on meanwhile.  Raises InventoryDown."""
        reading = self.off_loop(self.source.read)
        done = self.compiler.begin(reading.frame)
        done.said_by = self.overlay.said_by if self.overlay.onces else None
        done.on_rows = lambda rows: self.tell(replace(self.at, rows=rows))
        try:
            while (batch := self.off_loop(lambda: next(reading.batches, None))) is not None:
                done.add(batch)
        finally:
            self.off_loop(getattr(reading.batches, "close", lambda: None))
        stages.done("fetch")
        spent = {"parse": done.parse_s, "plan": done.plan_s}
        stages.seconds["fetch"] = round(stages.seconds["fetch"] - sum(spent.values()), 4)
        stages.seconds |= {name: round(seconds, 4) for name, seconds in spent.items()}
        return done

    def off_loop(self, work: Callable[[], T]) -> T:
        """In the reader's thread; this one waits, and may do what control asks for."""
        future = self.reader.submit(work)
        self.wait(future)
        return future.result()

    def replace(self, done: Compilation, stages: Stages, confirmed_s: float, force: bool) -> None:
        """Serve what was compiled, unless a guard says otherwise."""
        pair = self.served.pair
        carried = self.carried(done)
        number = self.served.number + 1
        self.progress("build", 0, 4)
        networks, shared = tuple(done.rules.networks), tuple(done.rules.shared)
        if pair is not None and done.rules.frame.unread:  # perhaps one of a manager that cannot be read
            shared = tuple(kept_shared(pair.top.shared, shared, networks))
            networks += pair.top.networks
        surroundings = self.surroundings(networks, shared)
        younger = Younger(self.touched, self.looked_up_claims, self.touched_claims)
        assembled = done.assemble(pair, carried, younger)
        fd = self.sealed(assembled, number, surroundings, confirmed_s)
        full = Generation(fd)
        self.progress("build", 1, 4)
        changes = compare(pair, full)
        self.progress("build", 2, 4)
        held = self.held(changes, full, force)
        if held:
            os.close(fd)
            assembled = done.assemble(pair, self.with_their_objects(carried | held), younger)
            fd = self.sealed(assembled, number, surroundings, confirmed_s)
            full = Generation(fd)
            changes = compare(pair, full)
        stages.done("build")
        refusal = None
        if not force and pair is not None:
            refusal = shrinking(self.served.view(), full, changes, self.config.dhcp.max_shrink)
        if refusal is not None:
            os.close(fd)
            self.fail("shrunk", refusal)
            return
        self.progress("build", 3, 4)
        former = self.served.remember()
        try:
            published, silenced = self.served.take(fd, full, changes, surroundings)
        except AnsweredTwice as refused:
            close_all(former[1] if former is not None else [])
            self.refuse(refused, "refresh")
            return
        if former is not None and published:
            self.served.keep_former(former, changes, "inventory")
        elif former is not None:
            close_all(former[1])
        self.compiler.keep(done)
        for identity, once in done.onces.items():
            self.overlay.take(identity, once)
        self.frame = done.rules.frame.frame()
        # Also what a look-up only confirmed: the part itself was read before that, and perhaps otherwise.
        self.looked_up_claims = (self.looked_up_claims if done.unread else {}) | self.touched_claims
        if not done.lost and not carried:
            self.disputes = Disputes()
        self.disputes.note(assembled.contested)
        self.confirmed_s = confirmed_s
        self.quarantined = assembled.quarantined
        self.unpin()
        stages.done("pack")
        self.progress("build", 4, 4)
        kept = carried | held
        report = self.report_of(assembled, silenced, done, held, carried)
        self.report_refresh(done, report, changes, published, stages, len(kept))

    def sealed(self, assembled: Assembled, number: int, around: Surroundings, confirmed_s: float) -> int:
        numbers = self.served.numbers()
        fd: int = assembled.rows.seal(number, around, created_s=int(confirmed_s), numbers=numbers)
        return fd

    def carried(self, done: Compilation) -> set[int]:
        """Keys of the rows that stay as they are served, whatever a refresh has read."""
        pair = self.served.pair
        carried = set(self.touched)
        if pair is not None and done.lost:
            carried |= self.served.view().of_objects(done.objects_lost())
        return self.with_their_objects(carried)

    def with_their_objects(self, keys: set[int]) -> set[int]:
        """And all other rows of those objects: none of them may be as it was beside another as it is."""
        if self.served.pair is None or not keys:
            return keys
        rows = (self.served.pair.lookup(key) for key in keys)
        others: set[int] = self.served.view().of_objects({row["identity"] for row in rows if row is not None})
        return keys | others

    def held(self, changes: Changes, full: Generation, force: bool) -> set[int]:
        """Keys of the rows that flip to and fro, also while they happen to agree with what is served."""
        pair = self.served.pair
        if force or pair is None:
            self.flips = Flips()
            return set()
        return self.flips.note(keys_of(changes), pair.content_hash, full.content_hash)

    def report_of(
        self, assembled: Assembled, silenced: Silenced, done: Compilation, held: set[int], carried: set[int]
    ) -> int:
        """The report of a refresh; who is held is a doubt, too."""
        pair = self.served.pair
        assert pair is not None
        for key in sorted(held):
            row = pair.lookup(key)
            name = row["name"].decode("utf-8", "replace") if row else show_mac(key)
            reason = (
                "changes to and fro with every refresh; it stays as it is until the inventory says the same 3 times"
            )
            assembled.faults.blame(name, reason, "flips")
            done.doubts.append(f"{name} {reason}")
        doubted = self.with_their_objects(held)
        if done.lost:
            doubted = doubted | self.served.view().of_objects(done.objects_lost()) & carried
        more = self.whereabouts.of_refresh(pair, done, doubted)
        return self.report_with(silenced, assembled.faults, assembled.reasons, more=more)

    def report_refresh(
        self, done: Compilation, report: int, changes: Changes, published: bool, stages: Stages, kept: int
    ) -> None:
        self.publish(
            "inventory",
            self.confirmed_s,
            changes,
            published=published,
            report=report,
            stages_s=stages.seconds,
            doubts=[plain(doubt[:400]) for doubt in done.doubts[:DOUBTS_MAX]],
            kept_hosts=kept,
            kept_parts=done.kept_segments,
            parts=len(done.segments),
        )

    # --- going back ----------------------------------------------------------------------------------------------

    def rollback(self) -> None:
        served = self.served
        if self.pinned_s and self.unsaved and served.pair is not None:
            created_s = served.pair.top.created_s
            self.publish("rollback", created_s, NO_CHANGES, published=False, unsaved=self.keep_pinned())
            return
        if self.pinned_s:
            self.fail("pinned", f"went back already: {self.pinned()}")
            return
        if served.former is None or served.pair is None:
            self.fail("nothing", "there was no refresh since control's planner started that changed anything")
            return
        before, left = served.remember(), served.shown_name()
        assert before is not None
        try:
            changes, silenced = served.go_back(self.around)
        except AnsweredTwice as refused:
            close_all(before[1])
            self.refuse(refused, "refresh")
            return
        served.keep_former(before, changes, "rollback")
        self.pinned_s = time.time()
        unsaved = self.keep_pinned(left)  # before anybody hears of it: a crash must not bring back what was left
        report = self.report_with(silenced, Faults(), {})
        self.publish("rollback", served.pair.top.created_s, changes, report=report, unsaved=unsaved)

    def keep_pinned(self, left: str = "") -> str:
        """What is served, and that it stays, on the disk; or why the disk does not take it.  left: as for the pin.

        No pin without its table: the disk has the one instead that somebody went away from."""
        self.unsaved = self.save()
        self.unsaved = self.unsaved or self.store.pin(self.pinned_s, left)
        if self.unsaved:
            log.error("%s; a restart would end the rollback", self.unsaved)
        return self.unsaved

    def pinned(self) -> str:
        number = self.served.shown.top.number if self.served.shown is not None else 0
        return f"pinned to generation {number} by ctl rollback; to follow the inventory again: ctl refresh --force"

    def unpin(self) -> None:
        if self.pinned_s:
            self.pinned_s = 0.0
            self.store.unpin()

    # --- to control ----------------------------------------------------------------------------------------------

    def fail(self, kind: str, reason: str, job: str = "refresh") -> None:
        self.send(Failed(kind=kind, reason=plain(reason), job=job))

    def progress(self, stage: str, done: int, total: int) -> None:
        """Stage "bytes" is none of its own: how much of an answer or a file has come, in whatever stage it is read."""
        if stage == "bytes":
            self.tell(replace(self.at, bytes=done))
        else:
            self.tell(replace(self.at, stage=stage, done=done, total=total, bytes=0), whatever=done in (0, total))

    def tell(self, at: Progress, whatever: bool = False) -> None:
        self.at = at
        now = time.monotonic()
        if whatever or now >= self.progress_due_s:
            self.progress_due_s = now + PROGRESS_EVERY_S
            self.send(at)

    def publish(
        self,
        origin: str,
        confirmed_s: float,
        changes: Changes,
        *,
        published: bool = True,
        report: int | None = None,
        **figures: Any,
    ) -> None:
        """Tell control first: clients wait for it.  Then the disk."""
        self.show()
        pair = self.served.shown
        assert pair is not None
        report_fd = write_report({}, {}) if report is None else report
        planned = Planned(
            origin=origin,
            generation=pair.top.number,
            base=pair.base.number,
            published=published,
            confirmed_s=confirmed_s,
            confirmed_boottime_s=self.confirmed_boottime_s,
            hosts=pair.top.host_count,
            quarantined=self.quarantined,
            added=len(changes.added),
            changed=len(changes.changed),
            removed=len(changes.removed),
            pinned_s=self.pinned_s,
            **figures,
        )
        fds = [fd for fd in self.served.shown_fds() if fd >= 0]
        self.send(planned, [report_fd, *(fds if published else [])])
        os.close(report_fd)
        self.links_served = self.links if published else self.links_served
        if origin in SAVED:
            self.save()

    def save(self) -> str:
        """What is served, to the disk; why that does not take it, or nothing."""
        self.show()
        pair, (base_fd, delta_fd) = self.served.shown, self.served.shown_fds()
        assert pair is not None
        told = None
        if self.links_served is not None and not self.overlay.onces:  # whose boot may be over by the next start
            told = proof(self.config.text, self.links_served, base_fd, delta_fd, self.confirmed_s)
        return self.store.save(pair, base_fd, delta_fd, self.confirmed_s, told)

    # --- an operator's overrides -----------------------------------------------------------------------------------

    def show(self) -> bool:
        """The overrides over what the inventory says, in what is published and saved from now on; whether that changed.

        Raises AnsweredTwice."""
        if self.served.pair is None:
            return False
        return self.served.lay(self.overlay.rows(self.served.view()), self.around)


def plain(text: str) -> str:
    """An inventory's text as UTF-8 takes it: half a letter is written out."""
    return text.encode("utf-8", "backslashreplace").decode()
