"""Discovery in a fleet: a follower's traps go to the leader, whose coordinator takes them as its own; its journal goes
to the engine, and the next leader goes on with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from control.discovery.coordinator import Coordinator
from control.discovery.reserved import Reserved
from control.fleet.process import jobs
from control.fleet.sightings import Sighting, Trap, grouped, rows_of
from control.service.fleet import registering as module
from control.service.fleet.registering import Registering
from tests.control.discovery.support import MAC, MACS
from tests.control.discovery.test_coordinator import Refreshed, clock, configured, sighting, trap


@dataclass
class Link:
    """What Registering needs of a FleetLink."""

    leads: bool = False
    state: object | None = True
    sent: list[Any] = field(default_factory=list)
    fault: str = ""
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def say(self, message: Any) -> None:
        self.sent.append(message)

    async def fault_of(self, question: Callable[[int], Any], _limit_s: float) -> str:
        self.sent.append(question(1))
        return self.fault

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.create_task(work))

    def rows(self) -> list[Trap | Sighting]:
        return [row for each in self.sent if isinstance(each, jobs.Seen) for row in rows_of(each.what)]

    def kept(self) -> dict[str, str]:
        """MAC -> state, as the engine has it in the end."""
        found: dict[str, str] = {}
        for each in self.sent:
            if isinstance(each, jobs.Keep):
                found.pop(each.mac, None)
                if each.record:
                    found[each.mac] = json.loads(each.record)["state"]
        return found


class Machine:
    """One of the fleet: a coordinator that has its traps looked at, and registers nobody."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.link, self.reserved = Link(), Reserved()
        config = configured(folder, "http://127.0.0.1:9")
        self.coordinator = Coordinator(config, Refreshed().look_up, clock, may_work=lambda: False)
        self.registering = Registering(self.link, self.coordinator, self.reserved)  # type: ignore[arg-type]
        self.task = asyncio.create_task(self.coordinator.run())

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def takes_the_lead(self, records: dict[str, bytes]) -> None:
        """records: that the engine's journal has."""
        self.link.leads = True
        self.registering.another_lead()
        for mac, record in records.items():
            self.registering.recall(jobs.Recall(mac=mac, record=record))
        self.registering.recall(jobs.Recall(mac="", record=b""))

    async def hears(self, *rows: Trap | Sighting) -> None:
        for what in grouped(rows):
            await self.registering.take(jobs.Journal(host="b", spool=b"12345678", number=7, what=what))

    def states(self) -> dict[str, str]:
        return {mac: str(machine.state) for mac, machine in self.coordinator.machines.of_mac.items()}


def row(mac: str = MAC, port: int = 7) -> Trap:
    return Trap("10.0.0.1", mac, port, 10, True)


def test_a_follower_s_traps_go_to_the_leader_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOGETHER_S", 0.0)

    async def scenario() -> None:
        machine = Machine(tmp_path)
        machine.registering.traps([trap(mac, 7) for mac in MACS])
        await asyncio.sleep(0.001)
        assert machine.link.rows() == [row(mac) for mac in MACS] and len(machine.link.sent) <= 3
        machine.link.state = None  # its fleet process is gone for a moment
        machine.registering.traps([trap(MAC, 9)])
        machine.registering.flush()
        machine.link.state = True
        machine.registering.flush()
        assert machine.link.rows()[-1] == row(MAC, 9) and not machine.states(), "and nothing of it stays here"
        await machine.end()

    asyncio.run(scenario())


def test_of_sightings_what_is_news_goes(tmp_path: Path) -> None:
    async def scenario() -> None:
        machine = Machine(tmp_path)
        take = machine.registering.sighted
        for _ in range(3):
            take(sighting(MAC))
            take(sighting(MAC, role="bmc"))
        for number in range(1_000):  # as when a site boots: who is served leaves room for who is not
            take(sighting(f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}") | {"verdict": "ACKED"})
        take(sighting(MACS[5]))
        machine.registering.flush()
        rows = machine.link.rows()
        assert [(each.mac, each.role) for each in rows[:2] if isinstance(each, Sighting)] == [
            (MAC, "host"), (MAC, "bmc"),
        ]  # fmt: skip
        assert rows[-1].mac == MACS[5] and 200 <= len(rows) - 3 <= 230
        assert machine.registering.counts["dropped"] == 1_000 - (len(rows) - 3)
        await machine.end()

    asyncio.run(scenario())


def test_the_leader_takes_them_and_says_so_when_they_are_in_both_journals(tmp_path: Path) -> None:
    async def scenario() -> None:
        machine = Machine(tmp_path)
        machine.takes_the_lead({})
        await machine.hears(row(), Sighting(MAC, "BIOS_PXE", "bmc", "IGNORED_UNKNOWN_MAC", "10.0.0.254", b"", b"", b""))
        kinds = [type(each).__name__ for each in machine.link.sent]
        assert kinds[-2:] == ["Sync", "Journaled"] and "Keep" in kinds
        assert machine.link.kept() == {MAC: "seen"} and b'"bmc"' in machine.coordinator.journal.live[MAC]
        assert machine.reserved.word(int(IPv4Address("10.0.0.254")), machine.coordinator.config.dhcp), "a relay"
        machine.link.fault = "no connection"
        machine.link.sent.clear()
        await machine.hears(row(MACS[1]))
        assert not any(isinstance(each, jobs.Journaled) for each in machine.link.sent), "the follower keeps it"
        await machine.end()

    asyncio.run(scenario())


def test_what_cannot_be_read_is_not_said_for_ever(tmp_path: Path) -> None:
    async def scenario() -> None:
        machine = Machine(tmp_path)
        machine.takes_the_lead({})
        await machine.registering.take(jobs.Journal(host="b", spool=b"12345678", number=7, what=b"\xc1"))
        await machine.hears(Sighting(MAC, "OS", "host", "ACKED", "10.0.0", b"", b"", b""))
        await machine.hears(row()._replace(port="gi0/1"), row(MACS[1])._replace(port="ifIndex 10105"))
        assert [each.number for each in machine.link.sent if isinstance(each, jobs.Journaled)] == [7, 7, 7]
        assert machine.registering.counts["refused"] == 3 and list(machine.link.kept()) == [MACS[1]]
        await machine.end()

    asyncio.run(scenario())


def test_the_next_leader_goes_on_with_what_the_engine_has(tmp_path: Path) -> None:
    """What a person ignored, and the name that was about to be taken, too."""

    async def scenario() -> None:
        first, second = Machine(tmp_path / "a"), Machine(tmp_path / "b")
        first.takes_the_lead({})
        await first.hears(row(MAC), row(MACS[1]), row(MACS[2]))
        first.coordinator.ignore(MACS[1])
        assert (await first.coordinator.intend(MAC, "s0001")).ok
        records = {each.mac: each.record for each in first.link.sent if isinstance(each, jobs.Keep)}
        second.takes_the_lead(records | {"02:00:00:00:00:01": b"nonsense", "02:00:00:00:00:02": b"{}"})
        assert second.states() == {MAC: "seen", MACS[1]: "ignored", MACS[2]: "seen"}
        assert second.coordinator.names == {"s0001": MAC}
        assert second.coordinator.machines.of_mac[MAC].work().places == [["10.0.0.1", 7, 10]]
        assert second.link.kept() == {}, "the engine has it already"
        assert not (await second.coordinator.intend(MACS[2], "s0001")).ok, "it is another's"
        for machine in (first, second):
            await machine.end()

    asyncio.run(scenario())


def test_an_engine_that_came_back_empty_gets_what_the_disk_has(tmp_path: Path) -> None:
    async def scenario() -> None:
        machine = Machine(tmp_path)
        machine.takes_the_lead({})
        await machine.hears(row())
        machine.link.sent.clear()
        machine.takes_the_lead({})
        assert machine.link.kept() == {MAC: "seen"}
        machine.link.leads = False
        machine.registering.another_lead()
        machine.registering.flush()
        assert machine.link.rows() == [row()], "and where another leads by now, that one hears of it"
        machine.link.sent.clear()
        machine.coordinator.ignore(MAC)
        assert not machine.link.sent, "the engine's journal is another's"
        await machine.end()

    asyncio.run(scenario())


def test_a_name_is_in_the_engine_before_it_is_taken(tmp_path: Path) -> None:
    async def scenario() -> None:
        machine = Machine(tmp_path)
        machine.takes_the_lead({})
        await machine.hears(row())
        machine.link.fault = "no connection"
        granted = await machine.coordinator.intend(MAC, "s0001")
        assert not granted.ok and granted.fault == "the journal of the fleet: no connection"
        machine.registering.end()
        assert (await machine.coordinator.intend(MAC, "s0001")).ok, "without a fleet the disk is enough"
        await machine.end()

    asyncio.run(scenario())


def test_what_comes_before_the_journal_is_read_waits_for_it(tmp_path: Path) -> None:
    """Or it would be confirmed while the engine has not got it."""

    async def scenario() -> None:
        machine = Machine(tmp_path)
        machine.link.leads = True
        machine.registering.another_lead()
        await machine.hears(row())
        assert not machine.link.sent and not machine.states()
        machine.registering.recall(jobs.Recall(mac="", record=b""))
        await asyncio.gather(*machine.link.tasks)
        assert [type(each).__name__ for each in machine.link.sent] == ["Keep", "Sync", "Journaled"]
        await machine.end()

    asyncio.run(scenario())
