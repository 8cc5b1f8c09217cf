"""Whether control has a fleet at all: nothing of it is loaded before services.conf has the section."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from control.config.config import Config
from control.discovery.coordinator import Coordinator
from control.discovery.reserved import Reserved
from control.discovery.trapseen import TrapSeen
from control.planner.jobs import Lay, Planned
from control.service.doors.console import CommandFailed, Handler, Report
from control.service.links import LinkAddress
from control.service.refresh import Refresher
from control.service.served_table import ServedTable
from control.service.watch import watched_path

if TYPE_CHECKING:
    from control.service.fleet.link import FleetLink
    from control.service.fleet.registering import Registering

log = logging.getLogger("bootstorm.fleet")

AGAIN_S = 5.0


class FleetKeeper:
    """One link after the other, for as long as there is the section.  restarts(): of workers so far."""

    def __init__(self, config: Config, refresher: Refresher, table: ServedTable, restarts: Callable[[], int]) -> None:
        self.config, self.refresher, self.table, self.restarts = config, refresher, table, restarts
        self.links: list[LinkAddress] = []
        self.changed = asyncio.Event()
        self.link: FleetLink | None = None
        self.on_lead: Callable[[], None] = lambda: None  # called when this machine takes or loses the lead
        self.discovery: tuple[Coordinator, Reserved] | None = None
        self.lead_page = -1  # for the registrars, who keep it from one link to the next
        self.overrides = Lay()
        self.open()

    def open(self) -> None:
        if self.config.in_fleet:
            from control.fleet.process.page import new_page
            from control.service.fleet.link import FleetLink

            if self.lead_page < 0:
                self.lead_page = new_page()
            self.link = FleetLink(
                self.config, self.refresher, self.table, self.restarts, self.lead_page, lambda: self.on_lead()
            )
            self.link.links = self.links
            self.join()
        self.tell_overrides()

    def attach(self, coordinator: Coordinator, reserved: Reserved) -> None:
        """Discovery, whose machines are the fleet's."""
        self.discovery = coordinator, reserved
        self.on_lead = coordinator.ring
        self.join()

    def join(self) -> None:
        if self.link is not None and self.discovery is not None:
            from control.service.fleet.registering import Registering

            self.link.registering = Registering(self.link, *self.discovery)

    async def run(self) -> None:
        while True:
            changed: asyncio.Future[Any] = asyncio.ensure_future(self.changed.wait())
            work: asyncio.Future[Any] | None = asyncio.ensure_future(self.link.run()) if self.link is not None else None
            try:
                await asyncio.wait(
                    [changed, *([work] if work is not None else [])], return_when=asyncio.FIRST_COMPLETED
                )
                if work is not None and work.done() and (bug := work.exception()) is not None:
                    log.error("the fleet's part of control failed and is made anew", exc_info=bug)
                    await asyncio.sleep(AGAIN_S)
                else:
                    await self.changed.wait()
            finally:
                changed.cancel()
                if work is not None:
                    work.cancel()
            self.changed.clear()
            await self.end()
            self.open()

    async def end(self) -> None:
        link, self.link = self.link, None
        if link is not None:
            await link.end()

    def reconfigure(self, config: Config) -> None:
        before, self.config = self.config, config
        if (before.in_fleet, before.fleet, before.dhcp) != (config.in_fleet, config.fleet, config.dhcp):
            self.changed.set()

    async def relink(self, links: list[LinkAddress]) -> None:
        self.links = links
        if self.link is not None:
            await self.link.relink(links)

    def published(self, planned: Planned, fds: list[int]) -> None:
        if self.link is not None:
            self.link.on_published(planned, fds)

    def reader(self) -> Refresher:
        """Who reads the inventory, if anybody does here: on a machine that leads that is not the one whose tables are
        served."""
        builder = self.link.builder if self.link is not None else None
        return builder or self.refresher

    def may_register(self) -> bool:
        """Whether discovery may write to the inventory from here: in a fleet who leads does, and nobody else."""
        return not self.config.in_fleet or (self.link is not None and self.link.registers)

    def elsewhere(self) -> Registering | None:
        """What takes traps and sightings to the leader, where that is another machine."""
        return self.link.registering if self.link is not None and not self.link.registers else None

    def traps(self, seen: Sequence[TrapSeen]) -> None:
        elsewhere = self.elsewhere()
        if elsewhere is not None:
            elsewhere.traps(seen)
        elif self.discovery is not None:
            self.discovery[0].take(seen)

    def sighted(self, sighting: dict[str, Any]) -> None:
        elsewhere = self.elsewhere()
        if elsewhere is not None:
            elsewhere.sighted(sighting)
        elif self.discovery is not None:
            self.discovery[0].sighted(sighting)

    def registered_elsewhere(self) -> str:
        """Where to say what discovery is told; nothing where that is here."""
        if self.may_register():
            return ""
        leader = self.link.state.leader if self.link is not None and self.link.state is not None else ""
        if self.link is not None and self.link.leads:
            return "this machine has just taken the lead of its fleet, and reads the journal of discovery; in a moment"
        return f"discovery is the fleet's, which {leader or 'nobody'} leads just now: say it there"

    def page(self) -> int:
        """For registrars: each request that writes is allowed by it.  -1 without a fleet."""
        return self.lead_page if self.config.in_fleet else -1

    def tell_overrides(self) -> None:
        """To who makes tables, for its next planner: of a fleet that is who leads, whose table says it to all."""
        self.refresher.overrides = Lay() if self.link is not None else self.overrides
        if self.link is not None:
            self.link.overrides = self.overrides

    async def lay(self, overrides: Lay) -> None:
        """As Refresher.lay, of the one that makes the tables here."""
        self.overrides = overrides
        self.tell_overrides()
        if self.link is None or self.link.builder is not None:
            await self.reader().lay(overrides)

    def takes_no_overrides(self) -> str:
        """Why, on a machine that serves what another one makes; or nothing."""
        if self.link is None or self.link.builder is not None:
            return ""
        state = self.link.state
        leader = state.leader if state is not None else ""
        return f"overrides are the leader's, which is {leader or 'nobody'} just now; `ctl fleet` names it"

    def status(self) -> dict[str, Any] | None:
        return self.link.status() if self.link is not None else None

    async def look_up(
        self, macs: list[str], names: list[str] | None = None, asked: bool = False
    ) -> tuple[dict[str, Any], list[str]]:
        """As Refresher.look_up; by the leader where that is another machine.  Raises RefreshFailed."""
        if self.link is not None and self.reader().follows:
            return await self.link.look_up(macs, names or [], asked or bool(names))
        return await self.reader().look_up(macs, names, asked)

    def looks_up(self) -> bool:
        """Whether a stranger is worth a question: a file is read as soon as it changes, and a pinned table is what
        somebody wants."""
        reader = self.reader()
        if reader.follows:
            return self.link is not None and self.link.looks_up
        return watched_path(self.config.dhcp.api_url) is None and not reader.state.pinned_s

    def reason_of(self, mac: str) -> str | None:
        """Why a stranger was not looked up, where the leader was asked and nobody answered."""
        return self.link.unanswered.get(mac) if self.link is not None else None

    async def served(self, here: bool) -> dict[str, Any]:
        """After a refresh by the machine that leads: until it serves that itself, and, unless only `here` is asked for,
        all others of the shard do: how many do, and who is silent.  Raises CommandFailed."""
        from control.service.fleet.link import FleetSilent

        builder = self.link.builder if self.link is not None else None
        if self.link is None or builder is None:
            return {}
        digest = builder.digest
        try:
            await self.link.wait_served(digest)
            return {} if here else await self.link.wait_everywhere(digest)
        except FleetSilent as late:
            raise CommandFailed(f"refresh: {late}") from late

    def handlers(self) -> dict[str, Handler]:
        return {"fleet": self.fleet, "fleet_order": self.order}

    async def fleet(self, _arguments: dict[str, Any], _report: Report) -> dict[str, Any]:
        return await self.asked("", "", b"")

    async def order(self, arguments: dict[str, Any], _report: Report) -> dict[str, Any]:
        verb, digest = str(arguments.get("verb", "")), str(arguments.get("digest", ""))
        if verb not in ("hold", "release", "promote", "rollback"):
            raise CommandFailed(f"fleet: {verb!r}; wanted hold, release, promote or rollback")
        return await self.asked(verb, digest, arguments.get("signed", b""))

    async def asked(self, verb: str, digest: str, signed: bytes) -> dict[str, Any]:
        """Raises CommandFailed."""
        if self.link is None:
            raise CommandFailed("fleet: services.conf has no section fleet")
        from control.service.fleet.link import FleetSilent

        try:
            return await self.link.ask(verb, digest, signed)
        except FleetSilent as silent:
            raise CommandFailed(f"fleet: {silent}") from silent
