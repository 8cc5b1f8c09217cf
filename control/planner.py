"""The planner, a child process of control: reads the inventory, plans, builds generations, keeps the last one on disk.

It may take seconds, use much memory, hang or die: control's loop does not notice, and starts another.  It answers one
message at a time with one Planned (fds: base, delta, report) or Failed, and with Progress in between.
"""

from __future__ import annotations

import gc
import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import msgpack
from ext.table import Builder, Changes, Generation, Pair, Surroundings, compare, delta_builder

from control.clusto.fetch import Fetcher, InventoryDown
from control.clusto.model import Inventory
from control.config import MAX_FILE_BYTES, Config, parse
from control.plan import Plan, Row, State, Template, plan_hosts
from control.tablefile import TableStore
from fastpath.logs import configure_logging
from fastpath.protocol import Channel, ChannelClosed, close_all

log = logging.getLogger("bootstorm.planner")

DELTA_ROWS_MAX = 1000  # or a twentieth of the base: beyond that a new base is cheaper for everybody
REPORT_LINES_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanBegin:
    """Control -> planner, first.  links: (ifindex, name, address, prefix, mtu).  fds: the text of services.conf, then
    base (and delta) being served."""

    config_path: str
    links: list[list[int | str]]
    generation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Refresh:
    """Read the inventory and plan anew.  force: even if it takes most hosts away."""

    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LookUp:
    """Read these hosts only.  macs: lower case with colons; names: of objects.  Answered like a refresh."""

    macs: list[str]
    names: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Relink:
    """The interfaces changed: same hosts, new surroundings."""

    links: list[list[int | str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    stage: str
    done: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """fds: report, then base and delta when `published`.  confirmed_s: seconds since 1970 of the inventory's word."""

    origin: str  # "inventory", "hosts" (a look-up), "disk", "links"
    generation: int
    base: int
    published: bool
    confirmed_s: float
    hosts: int
    quarantined: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    stages_s: dict[str, float] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)  # of a look-up: MACs that the inventory does not have


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """Nothing was published; what was served goes on."""

    kind: str  # "down", "shrunk"; control adds "internal" for a planner that ended
    reason: str


KINDS: dict[str, type] = {
    kind.__name__: kind for kind in (PlanBegin, Refresh, LookUp, Relink, Progress, Planned, Failed)
}


class Stages:
    """Seconds a stage, by name, in order."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.since = time.monotonic()

    def done(self, name: str) -> None:
        now = time.monotonic()
        self.seconds[name] = round(now - self.since, 4)
        self.since = now


class Planner:
    """What is served now, and how to get to what should be."""

    def __init__(self, config: Config, links: list[list[int | str]], send: Callable[..., None]) -> None:
        self.config = config
        self.links = links
        self.send = send
        self.store = TableStore(config.dhcp.state_dir)
        self.base_fd = self.delta_fd = -1
        self.pair: Pair | None = None
        self.number = 0
        self.quarantined = 0
        self.confirmed_s = 0.0  # since 1970: the inventory's last word on the whole table
        self.frame: Inventory | None = None  # containers and managers as last read

    # --- what is served ------------------------------------------------------------------------------------------

    def adopt(self, base_fd: int, delta_fd: int) -> None:
        """Take over both fds as what is served."""
        delta = Generation(delta_fd) if delta_fd >= 0 else None
        known = self.pair is not None and base_fd == self.base_fd
        base = self.pair.base if self.pair is not None and known else Generation(base_fd)
        self.pair = Pair(base, delta)
        for old in {self.base_fd, self.delta_fd} - {base_fd, delta_fd, -1}:
            os.close(old)
        self.base_fd, self.delta_fd = base_fd, delta_fd
        self.number = max(self.number, self.pair.top.number)
        self.confirmed_s = max(self.confirmed_s, self.pair.top.created_s)

    def load_from_disk(self) -> None:
        """A cold start: the last good table, with today's interfaces.  Says nothing when there is none."""
        loaded = self.store.load()
        if loaded is None:
            return
        base_fd, delta_fd, confirmed_s = loaded
        self.adopt(base_fd, delta_fd)
        self.confirmed_s = confirmed_s
        self.relink(self.links, "disk", confirmed_s)

    def surroundings(self, networks: tuple[tuple[int, int], ...]) -> Surroundings:
        dhcp = self.config.dhcp
        served = set(dhcp.interfaces)
        return Surroundings(
            networks=networks,
            links=tuple(
                (index, address, prefix, mtu, not served or name in served)
                for index, name, address, prefix, mtu in self.links
            ),
            interfaces_limited=bool(served),
            server_id=int(dhcp.server_id) if dhcp.server_id else 0,
            server_ids=tuple(int(address) for address in dhcp.server_ids),
            relays=tuple((int(relay.network_address), relay.prefixlen) for relay in dhcp.relays),
            max_nak_age_s=int(dhcp.max_nak_age),
        )

    # --- relink --------------------------------------------------------------------------------------------------

    def relink(self, links: list[list[int | str]], origin: str = "links", confirmed_s: float | None = None) -> None:
        """The same rows under new surroundings: a delta with what the present delta says."""
        self.links = links
        if self.pair is None:
            return
        top = self.pair.top
        builder = self.delta_without(set())
        self.number += 1
        fd = builder.seal(self.number, self.surroundings(top.networks), created_s=top.created_s)
        self.adopt(self.base_fd, fd)
        self.publish(origin, top.created_s if confirmed_s is None else confirmed_s, {}, Changes([], [], []), None)

    def delta_without(self, left_out: set[int]) -> Builder:
        """A Builder with the rows of the present delta, except those of some MACs."""
        assert self.pair is not None
        builder = Builder(self.pair.base)
        delta = self.pair.delta
        for mac, role in list(delta.keys()) if delta is not None else []:
            if mac in left_out:
                continue
            if delta.lookup(mac, role)["state"] == "tombstone":
                builder.add_tombstone(mac, role)
            else:
                builder.copy_host(delta, mac, role)
        return builder

    # --- single hosts --------------------------------------------------------------------------------------------

    def look_up(self, macs: list[str], names: list[str]) -> None:
        """Hosts that changed, came or went since the last full read: published as a delta."""
        if self.pair is None or self.frame is None:
            self.send(Failed(kind="down", reason="the inventory has not been read as a whole yet"))
            return
        stages = Stages()
        dhcp = self.config.dhcp
        try:
            inventory = Fetcher(dhcp.api_url, dhcp.api_token).read_hosts(macs, names, self.frame)
        except InventoryDown as down:
            self.send(Failed(kind="down", reason=str(down)))
            return
        stages.done("fetch")
        plan = plan_hosts(inventory, dhcp)
        rows = {row.mac: row for row in plan.rows}
        asked = {int(mac.replace(":", ""), 16) for mac in macs}
        asked.update(mac for name in names for mac, _role in self.pair.with_name(name.encode()))
        changes = self.host_changes(rows, asked)
        if changes:
            self.number += 1
            builder = self.delta_without(asked | rows.keys())
            add_rows(builder, [rows[mac] for mac in rows])
            for mac in asked - rows.keys():
                if self.pair.base.lookup(mac) is not None:
                    builder.add_tombstone(mac)
            top = self.pair.top
            self.adopt(
                self.base_fd, builder.seal(self.number, self.surroundings(top.networks), created_s=top.created_s)
            )
        stages.done("plan")
        missing = [mac for mac in macs if int(mac.replace(":", ""), 16) not in rows]
        self.publish("hosts", time.time(), stages.seconds, changes, plan, bool(changes), missing)

    def host_changes(self, rows: dict[int, Row], asked: set[int]) -> Changes:
        """What the rows of some hosts change in what is served."""
        assert self.pair is not None
        builder = Builder()
        add_rows(builder, [rows[mac] for mac in sorted(rows)])
        fd = builder.seal(1, Surroundings(), created_s=0)
        try:
            told = Generation(fd)
        finally:
            os.close(fd)
        differing = compare(self.pair, told)
        removed = [(mac, 0) for mac in sorted(asked - rows.keys()) if self.pair.lookup(mac) is not None]
        return Changes(differing.added, differing.changed, removed)

    # --- refresh -------------------------------------------------------------------------------------------------

    def refresh(self, force: bool) -> None:
        stages = Stages()
        dhcp = self.config.dhcp
        try:
            inventory = Fetcher(dhcp.api_url, dhcp.api_token, self.progress).read()
        except InventoryDown as down:
            self.send(Failed(kind="down", reason=str(down)))
            return
        confirmed_s = time.time()
        stages.done("fetch")
        self.frame = inventory.frame()
        self.progress("plan", 0, 1)
        plan = plan_hosts(inventory, dhcp)
        stages.done("plan")
        self.progress("build", 0, 1)
        self.number += 1
        full_fd = build(plan, self.surroundings(tuple(plan.networks)), self.number, int(confirmed_s))
        full = Generation(full_fd)
        changes = compare(self.pair, full)
        stages.done("build")
        refusal = None if force or self.pair is None else self.too_small(full, changes)
        if refusal is not None:
            os.close(full_fd)
            self.send(Failed(kind="shrunk", reason=refusal))
            return
        self.confirmed_s = confirmed_s
        self.quarantined = sum(row.state is State.QUARANTINED for row in plan.rows)
        published = self.take(full_fd, full, changes)
        stages.done("pack")
        self.publish("inventory", confirmed_s, stages.seconds, changes, plan, published)

    def too_small(self, full: Generation, changes: Changes) -> str | None:
        """Why this refresh may not replace the table; None when it may."""
        assert self.pair is not None
        before: int = self.pair.top.host_count
        gone = sum(self.pair.lookup(*key)["state"] == "served" for key in changes.removed)
        gone += sum(
            self.pair.lookup(*key)["state"] == "served" and full.lookup(*key)["state"] != "served"
            for key in changes.changed
        )
        limit = self.config.dhcp.max_shrink
        if before == 0 or gone <= limit * before:
            return None
        return (
            f"{gone} of {before} hosts would no longer be answered, dhcp.max_shrink allows {limit:.0%}; the table of "
            f"generation {self.pair.top.number} serves on; if this is meant: bootstorm ctl refresh --force"
        )

    def take(self, full_fd: int, full: Generation, changes: Changes) -> bool:
        """Serve the new content: as it is already, as a delta on the present base, or as a new base."""
        if self.pair is not None and not changes and self.same_surroundings(full):
            os.close(full_fd)
            self.number -= 1
            return False
        if self.pair is not None:
            from_base = compare(Pair(self.pair.base), full)
            if len(from_base) <= max(DELTA_ROWS_MAX, self.pair.base.host_count // 20):
                builder = delta_builder(self.pair.base, full, from_base)
                fd = builder.seal(self.number, self.surroundings(full.networks), created_s=full.created_s)
                os.close(full_fd)
                self.adopt(self.base_fd, fd)
                return True
        self.adopt(full_fd, -1)
        return True

    def same_surroundings(self, full: Generation) -> bool:
        assert self.pair is not None
        return bool(self.pair.top.networks == full.networks)

    def progress(self, stage: str, done: int, total: int) -> None:
        self.send(Progress(stage=stage, done=done, total=total))

    def publish(
        self,
        origin: str,
        confirmed_s: float,
        stages_s: dict[str, float],
        changes: Changes,
        plan: Plan | None,
        published: bool = True,
        missing: list[str] | None = None,
    ) -> None:
        """Tell control first: clients wait for it.  Then the disk."""
        assert self.pair is not None
        top = self.pair.top
        report_fd = write_report(plan)
        planned = Planned(
            origin=origin,
            generation=top.number,
            base=self.pair.base.number,
            published=published,
            confirmed_s=confirmed_s,
            hosts=top.host_count,
            quarantined=self.quarantined,
            added=len(changes.added),
            changed=len(changes.changed),
            removed=len(changes.removed),
            stages_s=stages_s,
            missing=missing or [],
        )
        fds = [report_fd]
        if published:
            fds += [fd for fd in (self.base_fd, self.delta_fd) if fd >= 0]
        self.send(planned, fds)
        os.close(report_fd)
        if origin in ("inventory", "hosts"):
            self.store.save(self.pair, self.base_fd, self.delta_fd, self.confirmed_s)


def build(plan: Plan, surroundings: Surroundings, number: int, created_s: int) -> int:
    """A whole base of a plan: the fd of a sealed generation."""
    builder = Builder()
    add_rows(builder, plan.rows)
    fd: int = builder.seal(number, surroundings, created_s=created_s)
    return fd


def add_rows(builder: Builder, rows: Iterable[Row]) -> None:
    indexes: dict[Template, int] = {}
    for row in rows:
        leases = []
        for address, prefix, template in row.leases:
            index = indexes.get(template)
            if index is None:
                index = indexes[template] = builder.add_template(**template._asdict())
            leases.append((address, prefix, index))
        name = row.name.encode("utf-8", "backslashreplace")[:255]
        builder.add_host(row.mac, state=int(row.state), name=name, own=row.own, leases=leases)


def write_report(plan: Plan | None) -> int:
    """A memfd with msgpack: {"faults": {name: [reason]}, "reasons": {mac: reason}}, empty when nothing was planned."""
    faults = dict(list(plan.faults.items())[:REPORT_LINES_MAX]) if plan is not None else {}
    silent = [row for row in plan.rows if row.reason][:REPORT_LINES_MAX] if plan is not None else []
    report = {
        "planned": plan is not None,
        "faults": faults,
        "reasons": {row.mac.to_bytes(6, "big").hex(":"): row.reason for row in silent},
    }
    fd = os.memfd_create("bootstorm-report", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(fd), "wb") as file:
        msgpack.pack(report, file, unicode_errors="backslashreplace")
    return fd


def main(fd: int) -> None:
    """The process.  fd: its channel to control."""
    configure_logging()
    gc.disable()  # a refresh makes millions of tuples and no cycles: walking them took half of its time
    run(Channel.of_fd(fd, KINDS))


def run(channel: Channel) -> None:
    """Serve control until it closes the channel."""
    begin, fds = channel.receive()
    if not isinstance(begin, PlanBegin):
        raise TypeError(f"planner: the first message is {type(begin).__name__}, wanted PlanBegin")
    config_fd, *fds = fds
    config = parse(os.pread(config_fd, MAX_FILE_BYTES, 0), Path(begin.config_path))
    planner = Planner(config, begin.links, channel.send)
    planner.number = begin.generation
    if fds:
        planner.adopt(fds[0], fds[1] if len(fds) > 1 else -1)
        planner.relink(begin.links)  # the configuration may be another one, too
    else:
        planner.load_from_disk()
    while True:
        try:
            message, fds = channel.receive()
        except ChannelClosed:
            return
        close_all(fds)
        if isinstance(message, Refresh):
            planner.refresh(message.force)
            gc.collect()
        elif isinstance(message, LookUp):
            planner.look_up(message.macs, message.names)
        elif isinstance(message, Relink):
            planner.relink(message.links)
