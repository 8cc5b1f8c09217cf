"""What must hold in every schedule, watched by somebody who sees all machines and has the true clock."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from control.fleet.adoption import goal_of
from control.fleet.messages import HEAD_BYTES_MAX, NOWHERE, Content, Head, Mark, decode
from control.fleet.signing import opened
from control.fleet.strangers import HOST_BURST, HOST_PER_S
from control.fleet.wire import Refused
from tests.fleet.keys import LEADERS

if TYPE_CHECKING:
    from tests.fleet.machine import Machine
    from tests.fleet.world import World

BARE_MS = 20_000  # without a table, with an inventory that answers
LOOK_UP_MS = 17_000  # until a look-up is answered or given up


class Broken(AssertionError):
    """rule: its short name."""

    def __init__(self, rule: str, what: str) -> None:
        super().__init__(f"{rule}: {what}")
        self.rule = rule


@dataclass(slots=True)
class Truth:
    windows: dict[str, int] = field(default_factory=dict)  # host -> until when its last request may have an effect
    stalled: Counter[tuple[str, int]] = field(default_factory=Counter)  # (host, pause) -> requests sent after it
    tops: dict[tuple[str, int], Mark] = field(default_factory=dict)  # (host, disk) -> the highest it served by
    heads: dict[Mark, bytes] = field(default_factory=dict)
    in_store: Mark = NOWHERE
    orders: int = 0  # in the store's head
    store_wipes: int = 0
    forced: set[bytes] = field(default_factory=set)  # promoted by a person
    traps: dict[bytes, None] = field(default_factory=dict)  # on a disk when they were taken
    newest: dict[tuple[str, int], Head] = field(default_factory=dict)  # (host, disk) -> the newest head it accepted
    look_ups: dict[tuple[str, int, int], int] = field(default_factory=dict)  # (host, life, number) -> since when
    looking: set[str] = field(default_factory=set)  # hosts whose planner is at a question of others
    looked_into: dict[tuple[str, int, bytes], tuple[int, int]] = field(default_factory=dict)  # -> (since when, MACs)

    def may_write(self, host: str, sent: int, until: int, pause: int) -> None:
        """A request to the inventory that may have an effect from sent until until.  pause: number of the one that lay
        between the decision and the sending; 0 for none."""
        others = {other: end for other, end in self.windows.items() if other != host and end > sent}
        if pause:
            self.stalled[host, pause] += 1
            if self.stalled[host, pause] > 1:
                raise Broken("one writer", f"{host} sent {self.stalled[host, pause]} requests after one pause")
            return
        if others:
            raise Broken("one writer", f"{host} writes at {sent}, while requests of {others} may have an effect")
        self.windows[host] = max(until, self.windows.get(host, 0))

    def head_written(self, raw: bytes, wipes: int, first: bool) -> None:
        """wipes: how often the store lost something; first: perhaps nobody whom its leader could hear has accepted one,
        which it asks at the beginning of its epoch only."""
        head = decode(Head, opened(raw, LEADERS, len(raw)))
        mark = head.mark
        if wipes != self.store_wipes:
            self.store_wipes, self.in_store, self.orders = wipes, NOWHERE, 0
        if first and mark.epoch != self.in_store.epoch:
            self.forced.add(head.stable.digest)  # there is no other: the first table of all has no trial
        if mark <= self.in_store:
            raise Broken("heads go on", f"{tuple(mark)} was accepted by the store after {tuple(self.in_store)}")
        if head.orders < self.orders:
            raise Broken("orders go on", f"after number {self.orders}, {head.orders} was obeyed again")
        self.in_store, self.orders = mark, head.orders

    def tables_go_on(self, world: World, raw: bytes) -> None:
        """Whoever leads knows the newest head that he accepted himself: by none of his an older table is served, unless
        a person went back."""
        head = decode(Head, opened(raw, LEADERS, len(raw)))
        writer = next(machine for machine in world.machines if machine.name == head.leader)
        known = self.newest.get((writer.name, writer.disks))
        if known is None or head.orders > known.orders:
            return
        before, after = (world.tables[each.stable.digest].version for each in (known, head))
        if after < before:
            raise Broken("tables go on", f"{writer.name} published version {after}; it had accepted version {before}")

    def accepted(self, machine: Machine, mark: Mark, raw: bytes) -> None:
        self.newest[machine.name, machine.disks] = decode(Head, opened(raw, LEADERS, len(raw)))
        if self.heads.setdefault(mark, raw) != raw:
            raise Broken("one head a mark", f"{machine.name} accepted another head of {tuple(mark)}")

    def told(self, machine: Machine, mark: Mark) -> None:
        """A responder acts by that head, or says that it has it."""
        key = machine.name, machine.disks
        top = self.tops.get(key, NOWHERE)
        if mark < top:
            raise Broken("never back", f"{machine.name} is at {tuple(mark)}, it was at {tuple(top)}")
        self.tops[key] = mark

    def serves(self, world: World, machine: Machine, content: Content, head: Head | None) -> None:
        table = world.tables.get(content.digest)
        if table is None or content != table.content:
            raise Broken("verified", f"{machine.name} serves {content.digest.hex()[:8]}, which nobody built")
        for sha256, data in table.data.items():
            if machine.cache.get(sha256) != data:
                raise Broken("verified", f"{machine.name} serves bytes that are not those of version {table.version}")
        if head is None or machine.member.responder.by_itself:
            return
        if table.poison and head.trial is not None and content == head.trial and machine.name in head.canary:
            return
        if table.poison and world.canaries and table.digest not in self.forced:
            raise Broken("canary", f"{machine.name} serves version {table.version}, which kills workers")

    def swapped(self, machine: Machine, before: Content | None, content: Content, head: Head | None) -> None:
        if head is not None and head.held and before is not None and before.digest != content.digest:
            raise Broken("hold", f"{machine.name} changed its table by a head that is held")

    def bare(self, machine: Machine, now: int) -> None:
        if machine.serving is None and now - machine.bare_since > BARE_MS:
            raise Broken("a table", f"{machine.name} has had none for {(now - machine.bare_since) // 1000} s")

    # --- look-ups ----------------------------------------------------------------------------------------------------

    def looks_up(self, machine: Machine, number: int, now: int) -> None:
        if number in machine.member.asking.under_way:
            self.look_ups[machine.name, machine.life, number] = now

    def learnt(self, machine: Machine, number: int) -> None:
        self.look_ups.pop((machine.name, machine.life, number), None)

    def look_ups_end(self, machine: Machine, now: int) -> None:
        for (name, life, number), since in self.look_ups.items():
            if (name, life) == (machine.name, machine.life) and now - max(since, machine.paused_until) > LOOK_UP_MS:
                raise Broken(
                    "look-ups end", f"{name} has heard nothing of number {number} for {(now - since) // 1000} s"
                )

    def looks_into(self, machine: Machine, macs: tuple[bytes, ...], now: int) -> None:
        """The first octet of a MAC says whose it is."""
        if machine.name in self.looking:
            raise Broken("look-ups", f"{machine.name} is asked for others before it has answered")
        self.looking.add(machine.name)
        for who in {mac[:1] for mac in macs}:
            key = machine.name, machine.life, who
            since, count = self.looked_into.get(key, (now, 0))
            count += sum(mac[:1] == who for mac in macs)
            self.looked_into[key] = since, count
            if who != b"\xff" and count > HOST_BURST + HOST_PER_S * (1.01 * (now - since) / 1000 + 1):
                raise Broken(
                    "look-ups", f"{machine.name} asked for {count} MACs of one machine within {now - since} ms"
                )

    def looked(self, machine: Machine) -> None:
        self.looking.discard(machine.name)

    def disk_wiped(self, machine: Machine) -> None:
        """What only that disk had is nobody's to keep."""
        for what in machine.disk.spool.values():
            self.traps.pop(what, None)
        for what in machine.disk.journal.values():
            self.traps.pop(what, None)

    def traps_kept(self, machines: list[Machine]) -> None:
        kept = {what for m in machines for what in (*m.disk.spool.values(), *m.disk.journal.values())}
        for what in self.traps:
            if what not in kept:
                raise Broken("traps", f"{what.decode()} is in no spool and in no journal")

    def unsettled(self, world: World) -> str:
        """Why the fleet has not converged yet; nothing when it has."""
        raw, _revision = world.engine.read("head")
        leaders = [m.name for m in world.machines if m.alive and m.member.leads(m.clock(world.now))]
        if len(leaders) != 1:
            return f"leaders: {leaders}"
        try:
            head = decode(Head, opened(raw or b"", LEADERS, HEAD_BYTES_MAX))
        except Refused as fault:
            return f"no head: {fault}"
        if head.held or head.pinned or head.trial is not None:
            return f"held {head.held}, pinned {head.pinned}, trial {head.trial is not None}"
        if head.stable.digest != world.inventory.digest:
            at = world.tables[head.stable.digest].version
            return f"the head has version {at}, the inventory {world.inventory.version}"
        for machine in world.machines:
            wanted = goal_of(head, machine.name, None)
            if machine.serving is None or machine.serving.digest != wanted.digest:
                at = world.tables[machine.serving.digest].version if machine.serving else 0
                return f"{machine.name} serves version {at}, refused: {machine.member.responder.refused!r}"
        waiting = [m.name for m in world.machines if m.disk.spool]
        return f"traps wait at {waiting}" if waiting else ""
