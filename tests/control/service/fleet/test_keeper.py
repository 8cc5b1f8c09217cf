"""control/service/fleet/keeper.py: without a section all is this machine's own; in a fleet it is the leader's."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from control.config.config import Config, parse
from control.planner.jobs import RefreshFailed
from control.service.discovery_commands import DiscoveryCommands
from control.service.doors.console import CommandFailed
from control.service.fleet.keeper import FleetKeeper
from tests.control.discovery.test_coordinator import sighting, trap


def config(text: bytes = b"{}") -> Config:
    return parse(text, Path("/services.conf"))


@dataclass
class Taker:
    """A coordinator, or what takes its traps elsewhere."""

    seen: list[Any] = field(default_factory=list)

    def take(self, seen: list[Any]) -> None:
        self.seen += seen

    traps = take

    def sighted(self, said: dict[str, Any]) -> None:
        self.seen.append(said)

    def ring(self) -> None:
        """There is work."""


class Reader(SimpleNamespace):
    """A refresher."""

    async def look_up(self, macs: list[str], names: list[str] | None, asked: bool) -> tuple[dict[str, Any], list[str]]:
        return {"by": "this machine", "asked": asked}, macs


class Link(SimpleNamespace):
    """A FleetLink."""

    async def look_up(self, macs: list[str], names: list[str], asked: bool) -> tuple[dict[str, Any], list[str]]:
        if self.fault:
            raise RefreshFailed(self.fault)
        return {"by": "the leader", "asked": asked}, []


def keeper(**link: Any) -> tuple[FleetKeeper, Taker, Taker]:
    """With what a FleetLink says; its coordinator; what is elsewhere.  Nothing: without a section."""
    here, elsewhere = Taker(), Taker()
    reader = Reader(follows="follows" if link else "", state=SimpleNamespace(pinned_s=0.0))
    made = FleetKeeper(config(), reader, None, lambda: 0)  # type: ignore[arg-type]
    if link:
        made.config = config(b'{"fleet": {}}')
        facts = {
            "builder": None, "leads": False, "registers": False, "looks_up": True, "unanswered": {}, "fault": "",
            "state": SimpleNamespace(leader="dhcp1"), "registering": elsewhere,
        }  # fmt: skip
        made.link = Link(**(facts | link))  # type: ignore[assignment]
    made.discovery = here, None  # type: ignore[assignment]
    return made, here, elsewhere


def test_without_a_section_all_is_this_machine_s() -> None:
    made, here, _elsewhere = keeper()
    made.traps([trap("00:11:22:33:44:55", 7)])
    made.sighted(sighting("00:11:22:33:44:55"))
    assert len(here.seen) == 2 and made.may_register() and made.page() == -1 and made.looks_up()
    assert made.registered_elsewhere() == "" and made.reason_of("00:11:22:33:44:55") is None
    assert asyncio.run(made.look_up(["m"], asked=True)) == ({"by": "this machine", "asked": True}, ["m"])


def test_a_follower_asks_tells_and_registers_nobody() -> None:
    made, here, elsewhere = keeper(unanswered={"m": "not looked up: no engine"})
    made.traps([trap("00:11:22:33:44:55", 7)])
    made.sighted(sighting("00:11:22:33:44:55"))
    assert not here.seen and len(elsewhere.seen) == 2 and not made.may_register() and made.looks_up()
    assert made.reason_of("m") == "not looked up: no engine"
    assert made.registered_elsewhere() == "discovery is the fleet's, which dhcp1 leads just now: say it there"
    assert asyncio.run(made.look_up(["m"])) == ({"by": "the leader", "asked": False}, [])
    assert asyncio.run(made.look_up([], ["n"]))[0]["asked"], "of a name, after a registration"
    with pytest.raises(RefreshFailed, match="no leader"):
        asyncio.run(keeper(fault="no leader")[0].look_up(["m"]))


def test_nothing_is_looked_up_while_the_head_is_held() -> None:
    assert not keeper(looks_up=False)[0].looks_up()


def test_who_leads_registers_once_it_has_read_the_journal() -> None:
    made, here, elsewhere = keeper(leads=True)
    made.traps([trap("00:11:22:33:44:55", 7)])
    assert not made.may_register() and elsewhere.seen and "has just taken the lead" in made.registered_elsewhere()
    made, here, elsewhere = keeper(leads=True, registers=True)
    made.traps([trap("00:11:22:33:44:55", 7)])
    assert made.may_register() and here.seen and not elsewhere.seen and made.registered_elsewhere() == ""


def test_the_commands_of_discovery_say_where_they_are_to_be_said() -> None:
    commands = DiscoveryCommands(SimpleNamespace(listing=lambda **_all: "here"), lambda: where).handlers()  # type: ignore[arg-type]
    where = ""
    assert asyncio.run(commands["discovered"]({}, lambda _said: None)) == "here"  # type: ignore[arg-type,return-value]
    where = "say it at dhcp1"
    for name in ("discovered", "adopt", "ignore", "unignore"):
        with pytest.raises(CommandFailed, match=f"{name}: say it at dhcp1"):
            asyncio.run(commands[name]({}, lambda _said: None))  # type: ignore[arg-type,return-value]
