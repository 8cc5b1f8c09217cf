"""One machine of the simulated fleet: a Member, a disk, a clock of its own, and hands that carry actions out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from control.fleet import actions as act
from control.fleet import adoption, intake
from control.fleet.blobs import Assembly
from control.fleet.election import Election
from control.fleet.heads import Site
from control.fleet.leading import Leading
from control.fleet.member import Member
from control.fleet.messages import NOWHERE, Blob, Content, Mark
from control.fleet.strangers import Answering, Asking, Found
from control.fleet.wire import Reason, Refused
from tests.fleet.keys import LEADERS, OPERATORS
from tests.fleet.tables import LAYOUT, is_whole, split

if TYPE_CHECKING:
    from tests.fleet.world import World

INVENTORY_TIMEOUT_MS = 3_000
POISON_MS = 1_500  # until a worker that serves such a table ends
LINGER_MS = 1_800  # an inventory may go on for so long with a request that was given up
WALL_S = 1_800_000_000


@dataclass(slots=True)
class Disk:
    """What outlives the process."""

    mark: Mark = NOWHERE
    head: bytes = b""
    table: Content | None = None
    cache: dict[bytes, bytes] = field(default_factory=dict)
    spool_id: bytes = b""
    spool: dict[int, bytes] = field(default_factory=dict)
    numbers: int = 0
    journal: dict[intake.Key, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Write(act.Action):
    """A request to the inventory, decided at that time."""

    decided: int


class Machine:
    def __init__(self, world: World, name: str, may_lead: bool) -> None:
        random = world.random
        self.world, self.name, self.may_lead = world, name, may_lead
        self.offset, self.rate = random.randrange(1 << 40), 1 + random.uniform(-0.002, 0.002)
        self.wall_off = random.choice((0, 0, 0, random.randint(-3600, 3600)))
        self.disk = Disk(spool_id=random.randbytes(8))
        self.disks = 0
        self.life = 0
        self.alive = False
        self.paused_until = self.pauses = 0
        self.cut: set[str] = set()  # "engine" in it: no way to there
        self.lag = 0  # of its mirror
        self.holes = 0.0  # share of chunks that its mirror lacks
        # kill or stop; which action; 0 before it, 1 after it; for how long
        self.stop_in: tuple[str, str, int, int] | None = None
        self.member: Member
        self.serving: Content | None = None
        self.cache: dict[bytes, bytes] = {}
        self.bare_since = 0
        self.served_since = 0
        self.building = False
        self.busy_ms = adoption.NEVER  # by its own clock: until when a request to the inventory may be under way

    # --- life --------------------------------------------------------------------------------------------------------

    def clock(self, now: int) -> int:
        """CLOCK_BOOTTIME of that machine."""
        return self.offset + int(now * self.rate)

    def start(self) -> None:
        world, disk = self.world, self.disk
        self.life += 1
        self.alive, self.paused_until, self.stop_in, self.building = True, 0, None, False
        self.busy_ms = adoption.NEVER
        world.truth.looked(self)
        now = self.clock(world.now)
        site = Site(host=self.name, shard="dc1", signer=LEADERS, keys=LEADERS, operators=OPERATORS, layout=LAYOUT,
                    canary=world.canary)  # fmt: skip
        self.cache = dict(disk.cache)
        self.serving = disk.table
        self.bare_since = world.now
        self.served_since = world.now
        self.member = Member(
            adoption.started(site, disk.head, disk.mark, disk.table, now),
            Election(host=self.name, session=world.random.randbytes(16), may_lead=self.may_lead),
            Leading(site=site),
            intake.Spool(host=self.name, spool=disk.spool_id, waiting=dict(disk.spool)),
            intake.started(disk.journal),
            Asking("dc1", self.name, world.random.randbytes(16)),
            Answering("dc1", self.name),
        )
        world.later(world.random.randrange(1000), self.tick, self.life)

    def kill(self, down_ms: int) -> None:
        if self.alive:
            self.world.tell(f"{self.name} is killed, for {down_ms / 1000:.1f} s")
            self.alive = False
            self.life += 1
            self.world.later(down_ms, self.revive, self.life)

    def end(self, down_ms: int) -> None:
        """In order: the lease is given back, where nothing of ours may have an effect at the inventory any more."""
        if self.alive and self.world.now >= self.paused_until:
            self.event(self.life, lambda now: self.member.release(self.busy_ms, now))
            self.kill(down_ms)

    def revive(self, life: int) -> None:
        if self.life == life and not self.alive:
            self.world.tell(f"{self.name} starts again")
            self.start()

    def pause(self, ms: int) -> None:
        if self.alive:
            self.world.tell(f"{self.name} is stopped for {ms / 1000:.1f} s")
            self.pauses += 1
            self.paused_until = self.bare_since = max(self.paused_until, self.world.now + ms)

    def wipe_disk(self) -> None:
        self.world.truth.disk_wiped(self)
        self.disk = Disk(spool_id=self.world.random.randbytes(8))
        self.disks += 1

    # --- events ------------------------------------------------------------------------------------------------------

    def event(self, life: int, decide: Callable[[int], act.Actions]) -> None:
        """decide: given this machine's time.  Later, if the process is stopped; never, if it is gone."""
        if life != self.life:
            return
        if self.world.now < self.paused_until:
            self.world.at(self.paused_until, self.event, life, decide)
            return
        now = self.clock(self.world.now)
        self.carry_out(life, decide(now))

    def tick(self, life: int) -> None:
        if life != self.life:
            return
        self.world.later(1000, self.tick, life)
        if self.world.now >= self.paused_until:
            self.event(life, self.ticked)

    def ticked(self, now: int) -> act.Actions:
        world = self.world
        if self.serving is not None:
            served_ms = world.now - self.served_since
            restarts = served_ms // POISON_MS if world.tables[self.serving.digest].poison else 0
            self.member.counted(adoption.Counted(self.serving.digest, served_ms // 1000, restarts, 0))
        if not world.inventory_up:
            self.bare_since = world.now
        world.truth.bare(self, world.now)
        world.truth.look_ups_end(self, world.now)
        actions = self.member.tick(WALL_S + self.wall_off + world.now // 1000, now)
        if self.member.leads(now) and world.random.random() < 0.3:
            self.build()
        if world.random.random() < 0.7 and self.member.may_write(INVENTORY_TIMEOUT_MS, now):
            self.busy_ms = now + INVENTORY_TIMEOUT_MS
            actions = (*actions, Write(world.now))
        return actions

    def carry_out(self, life: int, actions: act.Actions) -> None:
        for number, action in enumerate(actions):
            stop = self.stop_in
            if stop is None or type(action).__name__ != stop[1]:
                HANDS[type(action)](self, action)
                continue
            self.stop_in = None
            kind, name, after, ms = stop
            if after:
                HANDS[type(action)](self, action)
            self.world.tell(f"{self.name} is caught {'after' if after else 'before'} {name}")
            if kind == "kill":
                self.kill(ms)
                return
            self.pause(ms)
            rest = actions[number + after :]
            self.world.at(self.paused_until, self.event, life, lambda _now, rest=rest: rest)
            return

    # --- hands -------------------------------------------------------------------------------------------------------

    def ask(self, answer: Callable[[int], Any], then: Callable[[Any, int], act.Actions], patient: bool = False) -> None:
        """A request to the engine: answer at its arrival, then() when the reply arrives; either may be lost."""
        life = self.life

        def arrived() -> None:
            world = self.world
            if not world.engine.up or "engine" in self.cut:
                return
            result = answer(world.now)
            for delay in world.ways(False):
                world.later(delay, returned, result)

        def returned(result: Any) -> None:
            if "engine" not in self.cut:
                self.event(life, lambda now: then(result, now))

        if "engine" not in self.cut:
            for delay in self.world.ways(not patient):
                self.world.later(delay, arrived)

    def read_lease(self, action: act.ReadLease) -> None:
        member = self.member
        self.ask(lambda _: self.world.engine.read("lease"),
                 lambda found, now: member.lease_read(action.asked_ms, *found, now))  # fmt: skip

    def write_lease(self, action: act.WriteLease) -> None:
        member = self.member
        self.world.tell(f"{self.name} writes the lease, last {action.last}")
        self.ask(lambda now: self.world.engine.write("lease", action.value, action.last, now),
                 lambda revision, now: member.lease_written(action.beat, revision, now))  # fmt: skip

    def read_head(self, action: act.ReadHead) -> None:
        member, world = self.member, self.world

        def answer(now: int) -> tuple[bytes | None, int]:
            found = world.engine.read("head") if action.hub else world.engine.mirrored_head(now, self.lag)
            return found if action.hub else world.meddle_head(found)

        self.ask(answer, lambda found, now: member.head_read(action.hub, action.asked_ms, *found, now))

    def write_head(self, action: act.WriteHead) -> None:
        member = self.member
        self.ask(lambda now: self.world.engine.write("head", action.value, action.last, now),
                 lambda revision, now: member.head_written(action.generation, revision, now))  # fmt: skip

    def announce(self, action: act.Announce) -> None:
        self.send(self.world.machines, lambda other, now: other.member.announcement(action.value, now))

    def tell(self, action: act.Tell) -> None:
        self.world.truth.told(self, self.member.responder.mark)
        self.send(self.leaders(), lambda other, now: other.member.have(action.value, now))

    def pass_on(self, action: act.PassOn) -> None:
        self.send(self.leaders(), lambda other, now: other.member.seen(action.value, self.name, now))

    # --- look-ups ----------------------------------------------------------------------------------------------------

    def look_up(self, macs: list[bytes], asked: bool) -> None:
        if self.alive and self.world.now >= self.paused_until:
            self.event(self.life, lambda now: self.member.look_up(macs, [], asked, now))
            self.world.truth.looks_up(self, self.member.asking.number, self.world.now)

    def ask_leader(self, action: act.AskLeader) -> None:
        self.send(self.leaders(), lambda other, now: other.member.seen(action.value, self.name, now))

    def learnt(self, action: act.Learnt) -> None:
        self.world.truth.learnt(self, action.said.number)

    def look_into(self, action: act.LookInto) -> None:
        """The planner: what it finds is built first."""
        world, life = self.world, self.life
        world.truth.looks_into(self, action.macs, world.now)
        term = self.member.lease.taken

        def answered(now: int) -> act.Actions:
            world.truth.looked(self)
            found = Found(missing=tuple(mac for mac in action.macs if mac[-1] % 2), fault=fault)
            return self.member.looked(action.number, found, now) if self.member.lease.taken == term else ()

        fault = "" if world.inventory_up else "the inventory is down"
        if not fault and world.random.random() < 0.3:
            self.build()
        world.later(world.random.randint(20, 1500), self.event, life, answered)

    def answer(self, action: act.Answer) -> None:
        self.send([m for m in self.world.machines if m.name == action.host],
                  lambda other, _now: other.member.looked_up(action.value))  # fmt: skip

    def leaders(self) -> list[Machine]:
        """Who listens to what is for the leader: whoever believes that he is."""
        return [machine for machine in self.world.machines if machine.alive and machine.member.lease.held]

    def confirm(self, action: act.Confirm) -> None:
        def forget(other: Machine, _now: int) -> act.Actions:
            for number in other.member.trap_confirmed(action.value):
                other.disk.spool.pop(number, None)
            return ()

        self.send([m for m in self.world.machines if m.name == action.host], forget)

    def send(self, others: list[Machine], receive: Callable[[Machine, int], act.Actions]) -> None:
        """By core NATS: lost, doubled, late, overtaken."""
        world = self.world
        if not world.engine.up or "engine" in self.cut:
            return
        for other in others:
            if other.alive and "engine" not in other.cut:
                for delay in world.ways(True):
                    world.later(delay, other.event, other.life, partial(receive, other))

    def put_blobs(self, action: act.PutBlobs) -> None:
        member, content = self.member, action.content
        data = self.world.tables[content.digest].data

        def put(now: int) -> bool:
            for blob in content.blobs:
                for number, chunk in enumerate(split(data[blob.sha256])):
                    self.world.engine.put(blob, number, chunk, now)
            return True

        self.ask(put, lambda done, now: member.blobs_put(content.digest, done, now))

    def read_blob(self, action: act.ReadBlob) -> None:
        blob, world = action.blob, self.world

        def answer(now: int) -> list[bytes | None]:
            found = [world.engine.chunk(blob, n, now, 0 if action.hub else self.lag) for n in range(blob.chunks)]
            if not action.hub and world.random.random() < self.holes:
                found[world.random.randrange(len(found))] = None
            return world.meddle_blob(blob, found)

        self.ask(answer, lambda found, now: self.blob_came(blob, found, now))

    def blob_came(self, blob: Blob, found: list[bytes | None], now: int) -> act.Actions:
        assembly, data = Assembly(blob), b""
        try:
            for chunk in found:
                if chunk is None:
                    raise Refused(Reason.BLOB_MISSING, blob.sha256.hex()[:8])
                whole = assembly.take(chunk)
                data += chunk
            if not found or not whole:
                raise Refused(Reason.BLOB_WRONG, "cut")
        except Refused as fault:
            return self.member.blob_read(blob.sha256, fault, now)
        self.cache[blob.sha256] = data
        return self.member.blob_read(blob.sha256, None, now)

    def check_table(self, action: act.CheckTable) -> None:
        content, life = action.content, self.life

        def checked(now: int) -> act.Actions:
            fault = None if is_whole(content, self.cache) else Refused(Reason.TABLE_WRONG, "not this table")
            return self.member.table_checked(content.digest, fault, now)

        self.world.later(self.world.random.randint(5, 300), self.event, life, checked)

    def keep_mark(self, action: act.KeepMark) -> None:
        self.world.truth.accepted(self, action.mark, action.head)
        self.disk.mark, self.disk.head = action.mark, action.head

    def serve(self, action: act.Serve) -> None:
        world, responder = self.world, self.member.responder
        content = action.content
        if responder.by_itself:
            self.cache.update(world.tables[content.digest].data)
        head = None if responder.by_itself else responder.head
        world.truth.swapped(self, self.serving, content, head)
        world.truth.serves(world, self, content, head)
        world.truth.told(self, responder.mark)
        world.tell(f"{self.name} serves version {world.tables[content.digest].version} by {tuple(responder.mark)}")
        self.serving, self.served_since = content, world.now
        self.disk.table = content
        wanted = {blob.sha256 for blob in content.blobs}
        self.cache = {sha256: data for sha256, data in self.cache.items() if sha256 in wanted}
        self.disk.cache = dict(self.cache)

    def read_inventory(self, _action: act.ReadInventory) -> None:
        self.read_then(lambda content, now: self.member.inventory_read(content, now))

    def build(self, _action: act.Action | None = None) -> None:
        if not self.building:
            self.building = True
            self.read_then(self.built)

    def built(self, content: Content, now: int) -> act.Actions:
        self.building = False
        head = self.member.leading.head
        before = self.world.tables[head.stable.digest].base if head else 0
        table = self.world.tables[content.digest]
        return self.member.built(content, 1 if table.base == before else 10_000, now)

    def read_then(self, then: Callable[[Content, int], act.Actions]) -> None:
        """What the inventory says when the reading begins; nothing while it is down."""
        world, life = self.world, self.life
        if world.inventory_up:
            content = world.inventory.content
            world.later(world.random.randint(50, 1500), self.event, life, lambda now: then(content, now))
        else:
            self.building = False

    def journal(self, action: act.Journal) -> None:
        """It takes the disk a while."""

        def written(_now: int) -> act.Actions:
            self.disk.journal[action.key] = action.what
            return self.member.journaled(action.key)

        self.world.later(self.world.random.choice((2, 20, 800)), self.event, self.life, written)

    def trap(self, what: bytes) -> None:
        """On disk first."""
        if self.alive and self.world.now >= self.paused_until:
            self.disk.numbers += 1
            number = self.disk.numbers
            self.disk.spool[number] = what
            self.world.truth.traps[what] = None
            self.event(self.life, lambda _now: self.member.trap_kept(number, what))

    def write_inventory(self, action: Write) -> None:
        world = self.world
        until = world.now + int(INVENTORY_TIMEOUT_MS / self.rate) + world.random.randrange(LINGER_MS)
        world.truth.may_write(self.name, world.now, until, self.pauses if world.now > action.decided else 0)

    def stepped_down(self, action: act.StepDown) -> None:
        self.world.truth.looked(self)
        self.world.tell(f"{self.name} steps down: {action.why}")


HANDS: dict[type[act.Action], Callable[[Machine, Any], None]] = {
    act.ReadLease: Machine.read_lease, act.WriteLease: Machine.write_lease, act.ReadHead: Machine.read_head,
    act.WriteHead: Machine.write_head, act.Announce: Machine.announce, act.Tell: Machine.tell,
    act.PassOn: Machine.pass_on, act.Confirm: Machine.confirm, act.PutBlobs: Machine.put_blobs,
    act.ReadBlob: Machine.read_blob, act.CheckTable: Machine.check_table, act.KeepMark: Machine.keep_mark,
    act.Serve: Machine.serve, act.ReadInventory: Machine.read_inventory, act.Build: Machine.build,
    act.Journal: Machine.journal, act.StepDown: Machine.stepped_down, Write: Machine.write_inventory,
    act.AskLeader: Machine.ask_leader, act.Learnt: Machine.learnt, act.LookInto: Machine.look_into,
    act.Answer: Machine.answer,
}  # fmt: skip
