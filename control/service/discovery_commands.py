"""`ctl discovered`, `adopt`, `ignore`, `unignore`: what the console hands over, checked; the coordinator's answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from control.discovery.coordinator import Coordinator
from control.mac import parse_mac, show_mac
from control.service.doors.console import CommandFailed, Handler, Report

ROWS_MAX: Final = 1_000  # in one answer; the client asks for the rest


class DiscoveryCommands:
    """elsewhere: in a fleet, where these are to be said; nothing where that is here."""

    def __init__(self, coordinator: Coordinator, elsewhere: Callable[[], str] = lambda: "") -> None:
        self.coordinator = coordinator
        self.elsewhere = elsewhere

    def handlers(self) -> dict[str, Handler]:
        commands = (self.discovered, self.adopt, self.ignore, self.unignore)
        return {command.__name__: self.here(command) for command in commands}

    def here(self, command: Handler) -> Handler:
        async def checked(arguments: dict[str, Any], report: Report) -> Any:
            if where := self.elsewhere():
                raise CommandFailed(f"{command.__name__}: {where}")
            return await command(arguments, report)

        return checked

    async def discovered(self, arguments: dict[str, Any], _report: Report) -> dict[str, Any]:
        """{"machines", "total", "states", "uplinks"}; with a MAC that one alone."""
        offset, limit = int(arguments.get("offset", 0)), int(arguments.get("limit", ROWS_MAX))
        if offset < 0 or not 0 < limit <= ROWS_MAX:
            raise CommandFailed(f"discovered: offset {offset}, limit {limit}; wanted 0 or more, and 1 to {ROWS_MAX}")
        if arguments.get("mac") is None:
            return self.coordinator.listing(offset=offset, limit=limit)
        mac = read_mac("discovered", arguments["mac"])
        found = self.coordinator.listing([mac])
        if not found["machines"]:
            raise CommandFailed(f"discovered: no trap and no DHCP request of {mac} was seen; is its switch set up?")
        return found

    async def adopt(self, arguments: dict[str, Any], _report: Report) -> dict[str, Any]:
        mac = read_mac("adopt", arguments.get("mac"))
        row = await self.coordinator.adopt(mac)
        if row is None:
            raise CommandFailed(f"adopt: {mac} was not seen by a trap; nobody knows where it is")
        return row

    async def ignore(self, arguments: dict[str, Any], _report: Report) -> dict[str, Any]:
        mac = read_mac("ignore", arguments.get("mac"))
        row = self.coordinator.ignore(mac)
        if row is None:
            raise CommandFailed(f"ignore: {mac}: too many machines wait; see ctl discovered")
        return row

    async def unignore(self, arguments: dict[str, Any], _report: Report) -> dict[str, Any]:
        mac = read_mac("unignore", arguments.get("mac"))
        row = self.coordinator.unignore(mac)
        if row is None:
            raise CommandFailed(f"unignore: {mac} is not ignored; `ctl discovered` lists what is")
        return row


def read_mac(command: str, text: Any) -> str:
    mac = parse_mac(str(text))
    if mac is None:
        raise CommandFailed(f"{command}: {text!r} is no MAC address, wanted one such as 00:11:22:33:44:55")
    return show_mac(mac)
