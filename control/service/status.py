"""Parts of `ctl status` that follow from what the supervisor said at the start."""

from __future__ import annotations

from typing import Any

from control.config.config import NOBODY_BELIEVED, Snmp
from control.discovery.inbox import TrapInbox
from control.service.served_table import ServedTable
from fastpath.protocol import Settings


def boot_port(settings: Settings, fault: str) -> dict[str, Any]:
    """Of PXE's port: {"port", "state": "open", "off" or "failed", "reason"}."""
    port, observing = settings.boot_port, settings.mode == "observe"
    if fault or not port or observing:
        reason = fault or ("nothing is sent while dhcp.mode is observe" if port else "dhcp.boot_port is 0")
        return {"port": port, "state": "failed" if fault else "off", "reason": reason}
    return {"port": port, "state": "open", "reason": None}


def strangers(table: ServedTable, fault: str) -> dict[str, Any]:
    """dropped: by the kernel, so that no verdict counts them."""
    if table.known is not None:
        return {"state": "dropped beyond a budget", **table.known.counts()}
    if fault:
        return {"state": "failed", "reason": fault}
    return {"state": "ignored by the workers", "reason": "dhcp.drop_strangers is off, or dhcp.mode is observe"}


def traps(inbox: TrapInbox | None, fault: str, snmp: Snmp) -> dict[str, Any]:
    if inbox is not None:
        return inbox.status() | {"advice": "" if snmp.believes_somebody() else NOBODY_BELIEVED}
    if fault:
        return {"state": "failed", "reason": fault}
    return {"state": "off", "reason": "services.conf has no section snmp"}
