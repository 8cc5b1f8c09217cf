"""Three nodes of the engine, each stream on all of them: one dies, or is cut off with the leader beside it; and a leaf
that is cut from its hub."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.lab.lab import Host, Lab, Segment
from control.fleet.process.child import FleetProcess
from tests.fleet.rig.engines import Site
from tests.fleet.rig.members import Inventory, Member, until

pytestmark = pytest.mark.fleet
LEADS_S = 60.0  # from nothing: streams on three nodes, and 18 s of quiet
ELECTS_S = 40.0  # the engine elects within 10 s, and the fleet after that
NAMES = ("a", "b", "c")


class Fleet:
    """places: of member -> words that enter its machine's namespaces."""

    def __init__(self, folder: Path, site: Site, places: dict[str, list[str]] | None = None) -> None:
        self.site, self.inventory = site, Inventory()
        self.inventory.changed()
        self.members = []
        for name in NAMES:
            section: dict[str, Any] = site.section(name)
            if places and len(section["servers"]) == len(NAMES):  # each has its own node alone
                section["servers"] = [section["servers"][NAMES.index(name)]]
            made = Placed if places else Reader
            member = made(folder, name, self.inventory, section["servers"][0], **section)
            if isinstance(member, Placed) and places:
                member.enter = places[name]
            self.members.append(member)

    async def begun(self) -> Member:
        for member in self.members:
            member.start()
        await until(lambda: all(member.state.follows for member in self.members), LEADS_S, "all serve by a head")
        return await self.leader()

    async def leader(self, limit_s: float = ELECTS_S) -> Member:
        await until(lambda: len(self.leaders()) == 1, limit_s, "one leads")
        return self.leaders()[0]

    def leaders(self) -> list[Member]:
        return [member for member in self.members if member.state.leads]

    async def change(self, by: Member, limit_s: float, members: list[Member] | None = None) -> float:
        digest = self.inventory.changed()
        by.built()
        who = members or self.members
        return await until(lambda: all(member.digest == digest for member in who), limit_s, "a change arrives")

    async def end(self) -> None:
        for member in self.members:
            await member.kill()


class Reader(Member):
    """As control does it: who begins to lead reads the inventory."""

    def on_message(self) -> None:
        led = self.state.leads
        super().on_message()
        if self.state.leads and not led and self.process is not None:
            self.built()


class Placed(Reader):
    """A member on a machine of a laboratory."""

    enter: list[str]

    def new_process(self) -> FleetProcess:
        enter = self.enter

        class There(FleetProcess):
            def command(self, fd: int) -> list[str]:
                return [*enter, *super().command(fd)]

        return There()


def words(*followers: str) -> list[str]:
    return [
        *(word for name in NAMES for word in ("--follower" if name in followers else "--machine", name)),
        "--engine", "hub-leaf" if followers else "three",
    ]  # fmt: skip


def test_each_of_three_nodes_dies_and_nothing_is_lost(tmp_path: Path) -> None:
    """One after the other, killed while a change is under way; then it comes back with its store empty, and takes what
    it missed from the others."""
    site = Site(tmp_path, ("127.0.0.1", "127.0.0.2", "127.0.0.3"), *words())

    async def scene() -> None:
        fleet = Fleet(tmp_path, site)
        try:
            leader = await fleet.begun()
            digests = [leader.digest]
            for node in site.nodes:
                marks = marks_of(fleet)
                node.kill()
                took_s = await fleet.change(leader, ELECTS_S)
                digests.append(leader.digest)
                print(f"{node.host} died: a change of that moment was served by all after {took_s:.2f} s")
                led, leader = leader, await settled(fleet)
                print(f"the leader is {'the same' if led is leader else 'another'}")
                assert all(now >= before for now, before in zip(marks_of(fleet), marks, strict=True))
                node.wipe()
                node.start()
                await until(lambda: all(m.state.connected for m in fleet.members), 20, "all are connected")
                await caught_up(site)
                leader = await settled(fleet)
                await fleet.change(leader, 20)
                digests.append(leader.digest)
            assert [member.history for member in fleet.members] == [digests] * 3, "each table once, in order"
        finally:
            await fleet.end()

    with site.running():
        asyncio.run(scene())


def marks_of(fleet: Fleet) -> list[list[int]]:
    return [member.state.mark for member in fleet.members]


async def settled(fleet: Fleet) -> Member:
    """One leads, with a connection, for 3 s: a renewal was accepted meanwhile."""
    since: list[tuple[float, Member]] = []

    def stays() -> bool:
        found = [member for member in fleet.leaders() if member.state.connected]
        if len(found) != 1 or (since and since[0][1] is not found[0]):
            since.clear()
        elif not since:
            since.append((time.monotonic(), found[0]))
        return bool(since) and time.monotonic() - since[0][0] > 9.0

    await until(stays, ELECTS_S + 20, "one leads and goes on")
    return since[0][1]


async def caught_up(site: Site) -> None:
    """Otherwise the next death may be that of two of three."""
    await until(lambda: all(node.healthy() for node in site.nodes), 60, "the node has what it missed")


@pytest.fixture
def three_machines(tmp_path: Path) -> Iterator[tuple[Site, dict[str, Host], Segment]]:
    if reason := Lab.available():
        pytest.skip(reason)
    addresses = {"a": "10.77.0.1", "b": "10.77.0.2", "c": "10.77.0.3"}
    site = Site(tmp_path, tuple(addresses.values()), *words())
    with Lab() as lab:
        segment = lab.bridge()
        hosts = {}
        for name, node in zip(NAMES, site.nodes, strict=True):
            hosts[name] = lab.host(name)
            segment.plug(hosts[name], "eth0", f"{addresses[name]}/24")
            node.enter = entry(lab, hosts[name])
        with site.running():
            yield site, hosts, segment


def entry(lab: Lab, host: Host) -> list[str]:
    """The network alone: files and processes are seen as from here."""
    return ["nsenter", *lab.user_entry, f"--net=/proc/{host.pid}/ns/net"]


def test_a_leader_on_the_small_side_stops_before_another_begins(
    tmp_path: Path, three_machines: tuple[Site, dict[str, Host], Segment]
) -> None:
    """Three machines with a node of the engine each.  The leader's is cut from the other two, and sees its own node."""
    site, _hosts, segment = three_machines

    async def scene() -> None:
        places = {name: list(node.enter) for name, node in zip(NAMES, site.nodes, strict=True)}
        fleet = Fleet(tmp_path, site, places)
        try:
            leader = await fleet.begun()
            others = [member for member in fleet.members if member is not leader]
            before = leader.digest
            port = f"p{NAMES.index(leader.name) + 1}"
            segment.switch.ip(f"link set {port} down")
            cut = time.monotonic()
            stopped_s = await until(lambda: not leader.state.leads, 20, "the leader stops")
            assert not any(member.state.leads for member in others), "another began before it had stopped"
            other = await until_leads(others)
            print(f"the old leader stopped {stopped_s:.1f} s after the cut, another led {time.monotonic() - cut:.1f} s")
            lost = fleet.inventory.changed()
            leader.built()  # what it had in hand
            took_s = await fleet.change(other, 15, others)
            print(f"a change on the large side took {took_s:.2f} s")
            assert leader.digest == before and not leader.state.leads
            marks = [member.state.mark for member in others]
            segment.switch.ip(f"link set {port} up")
            healed_s = await until(lambda: leader.digest == other.digest, 60, "the small side has the change")
            print(f"the small side had it {healed_s:.1f} s after the cut was healed")
            assert len(fleet.leaders()) < 2, "never two"
            await until(lambda: len(fleet.leaders()) == 1, 20, "one leads; nobody may while the nodes elect anew")
            assert all(m.state.mark >= mark for m, mark in zip(others, marks, strict=True))
            assert all(lost not in member.history for member in fleet.members)
        finally:
            await fleet.end()

    asyncio.run(scene())


async def until_leads(members: list[Member]) -> Member:
    await until(lambda: any(member.state.leads for member in members), ELECTS_S, "another leads")
    return next(member for member in members if member.state.leads)


@pytest.fixture
def two_places(tmp_path: Path) -> Iterator[tuple[Site, dict[str, list[str]], Segment]]:
    """The hub with a, which leads; the leaf with b and c, on port p2 of the segment."""
    if reason := Lab.available():
        pytest.skip(reason)
    site = Site(tmp_path, ("10.77.0.1", "10.77.0.2"), *words("b", "c"))
    with Lab() as lab:
        segment = lab.bridge()
        for name, node in zip(("hub", "leaf"), site.nodes, strict=True):
            host = lab.host(name)
            segment.plug(host, "eth0", f"{node.host}/24")
            node.enter = entry(lab, host)
        hub, leaf = (list(node.enter) for node in site.nodes)
        with site.running():
            yield site, {"a": hub, "b": leaf, "c": leaf}, segment


def test_a_leaf_that_is_cut_from_its_hub(
    tmp_path: Path, two_places: tuple[Site, dict[str, list[str]], Segment]
) -> None:
    """Its machines serve on, a new one among them finds the table in the mirror, and all have the change when the hub
    is back."""
    site, places, segment = two_places

    async def scene() -> None:
        fleet = Fleet(tmp_path, site, places)
        try:
            leader = await fleet.begun()
            assert leader.name == "a"
            behind = fleet.members[1:]
            took_s = await fleet.change(leader, 20)
            print(f"a change was behind the leaf after {took_s:.2f} s")
            before = leader.digest
            segment.switch.ip("link set p2 down")
            await fleet.change(leader, 10, [leader])
            new = behind[1]
            await new.kill()
            new.serving.clear()
            for name in ("fleet-state", "fleet-delta"):
                (new.folder / name).unlink(missing_ok=True)
            new.start()
            reads = new.inventory_reads
            took_s = await until(
                lambda: new.digest == before and new.state.follows, 20, "a new one serves the mirror's"
            )
            print(f"a new responder behind the leaf that is cut off served the mirror's table after {took_s:.1f} s")
            assert new.inventory_reads == reads and behind[0].digest == before and behind[0].state.connected
            segment.switch.ip("link set p2 up")
            took_s = await until(lambda: {m.digest for m in behind} == {leader.digest}, 60, "they have the change")
            print(f"behind the leaf it was {took_s:.1f} s after the cut was healed")
            took_s = await fleet.change(leader, 20)
            print(f"the next change after {took_s:.2f} s")
        finally:
            await fleet.end()

    asyncio.run(scene())
