"""What the control socket tells of hosts: a page of them, sums, and the overview of all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ext.table import Pair

from control.service.doors.console import CommandFailed, Handler, Report
from control.service.machines.hosts import Hosts
from control.service.machines.scans import WrongFilter


class HostCommands:
    """hosts: None where the supervisor keeps no ledger.  pair: what is served now; reason_of: why a machine is not
    answered."""

    def __init__(
        self, hosts: Hosts | None, pair: Callable[[], Pair | None], reason_of: Callable[[str], str | None]
    ) -> None:
        self.known = hosts
        self.pair = pair
        self.reason_of = reason_of

    def handlers(self) -> dict[str, Handler]:
        return {"hosts": self.hosts, "overview": self.overview}

    async def hosts(self, arguments: dict[str, Any], _report: Report) -> dict[str, Any]:
        known = self.with_ledger("hosts")
        try:
            if arguments.get("by") is not None:
                return await known.scans.sums(self.pair(), arguments["by"])
            return await known.page(self.pair(), arguments, self.reason_of)
        except WrongFilter as wrong:
            raise CommandFailed(f"hosts: {wrong}") from wrong

    async def overview(self, _arguments: dict[str, Any], _report: Report) -> dict[str, Any]:
        return await self.with_ledger("overview").scans.overview(self.pair())

    def with_ledger(self, command: str) -> Hosts:
        if self.known is None:
            raise CommandFailed(f"{command}: there is no boot ledger that this build can read; the log says why")
        return self.known
