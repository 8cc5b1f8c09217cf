"""The workers' event rings -> warnings with details: one a host and reason, then a count, never a flood.

A worker only notes what happened (ext/page.pxd: Event); here it becomes a sentence that an operator can act on.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from control.table import ServedTable

log = logging.getLogger("bootstorm.dhcp")

REPEAT_S = 300.0  # the same host for the same reason: one line in this time
LINES_PER_S = 20.0  # all hosts together, with a reserve of LINES_BURST
LINES_BURST = 200.0
HOSTS_MAX = 10_000
RECENT_MAX = 1_000
MESSAGES = {1: "DISCOVER", 3: "REQUEST", 4: "DECLINE", 7: "RELEASE", 8: "INFORM"}
WORDS = {
    "IGNORED_GIADDR": "giaddr can be no relay",
    "IGNORED_RELAY": "relay is not in dhcp.relays",
    "IGNORED_UNKNOWN_MAC": "not in the inventory",
    "IGNORED_DISABLED": "DHCP is not enabled",
    "IGNORED_NO_ADDRESS": "no address is bound",
    "IGNORED_CONFLICT": "MAC or address belongs to two objects",
    "IGNORED_QUARANTINED": "its record is not usable",
    "IGNORED_OTHER_LINK": "none of its addresses fits where it asks from",
    "IGNORED_CIADDR": "it uses an address that is not its own",
    "IGNORED_NAK_UNKNOWN_LINK": "asks for a wrong address on a link that no IP manager contains",
    "IGNORED_NAK_STALE_TABLE": "asks for another address, and the table is older than dhcp.max_nak_age",
    "IGNORED_NO_SERVER_ID": "this machine has no address on the interface to answer with; set dhcp.server_id",
    "IGNORED_NO_ROOM": "the mandatory options exceed what it takes",
    "NAKED": "asked for an address that is not its own here",
    "NOTED_DECLINE": "declined: somebody else uses its address",
    "ABANDONED": "its packet ended three workers",
}


@dataclass(slots=True)
class Seen:
    logged_s: float
    held_back: int = 0


class Warnings:
    """Reads the rings when the bell rings.  clock: monotonic seconds."""

    def __init__(
        self,
        table: ServedTable,
        bell: int,
        interface_name: Callable[[int], str],
        reason_of: Callable[[str], str | None],
        clock: Callable[[], float] = time.monotonic,
        on_unknown: Callable[[str, str], None] = lambda _mac, _place: None,
    ) -> None:
        self.table = table
        self.bell = bell
        self.interface_name = interface_name
        self.reason_of = reason_of
        self.on_unknown = on_unknown
        self.clock = clock
        self.seen: OrderedDict[tuple[str, str], Seen] = OrderedDict()
        self.recent: deque[dict[str, Any]] = deque(maxlen=RECENT_MAX)
        self.budget = LINES_BURST
        self.budget_s = clock()
        self.suppressed = 0

    def watch(self) -> None:
        asyncio.get_running_loop().add_reader(self.bell, self.on_bell)
        self.drain()  # what waited while there was no control

    def on_bell(self) -> None:
        os.eventfd_read(self.bell)
        self.drain()

    def drain(self) -> None:
        """A bounded share of each ring; what is left is taken in the loop's next turn."""
        more = False
        for page in self.table.pages:
            events = page.drain(256)
            more = more or len(events) == 256
            for event in events:
                self.take(event)
        if more:
            asyncio.get_running_loop().call_soon(self.drain)

    def take(self, event: dict[str, Any]) -> None:
        words = self.describe(event)
        self.recent.append(words)
        if event["verdict"] == "IGNORED_UNKNOWN_MAC" and words["host"] is None:
            self.on_unknown(event["mac"], words["relay"] or words["interface"])
        key = (event["mac"], event["verdict"])
        now = self.clock()
        seen = self.seen.pop(key, None)
        if seen is not None and now - seen.logged_s < REPEAT_S:
            seen.held_back += 1
            self.seen[key] = seen
            return
        if not self.may_log(now):
            self.suppressed += 1
            if seen is not None:
                seen.held_back += 1
                self.seen[key] = seen
            return
        repeated = f" ({seen.held_back} more since the last line)" if seen is not None and seen.held_back else ""
        log.warning("%s%s", sentence(words), repeated)
        self.seen[key] = Seen(now)
        while len(self.seen) > HOSTS_MAX:
            self.seen.popitem(last=False)

    def may_log(self, now: float) -> bool:
        self.budget = min(LINES_BURST, self.budget + (now - self.budget_s) * LINES_PER_S)
        self.budget_s = now
        if self.budget < 1:
            return False
        self.budget -= 1
        return True

    def newest(self, most: int, mac: str | None = None) -> list[dict[str, Any]]:
        """The last warnings, newest first, with their age."""
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        fitting = [words for words in reversed(self.recent) if mac in (None, words["mac"])][:most]
        return [
            {"seconds_ago": round(now - words["boottime_s"], 3)} | {k: v for k, v in words.items() if k != "boottime_s"}
            for words in fitting
        ]

    def describe(self, event: dict[str, Any]) -> dict[str, Any]:
        row = self.table.lookup(int(event["mac"].replace(":", ""), 16))
        return {
            "mac": event["mac"],
            "host": row["host"] if row else None,
            "message": MESSAGES.get(event["message_type"], str(event["message_type"])),
            "verdict": event["verdict"],
            "reason": WORDS.get(event["verdict"], event["verdict"]),
            "detail": self.reason_of(event["mac"]),
            "interface": self.interface_name(event["ifindex"]),
            "relay": _text(event["giaddr"]),
            "source": _text(event["source"]),
            "ciaddr": _text(event["ciaddr"]),
            "requested": _text(event["requested"]),
            "server_id": _text(event["server_id"]),
            "vendor_class": event["vendor_class"].decode("latin-1").encode("unicode_escape").decode("ascii"),
            "xid": f"{event['xid']:08x}",
            "boottime_s": event["boottime_ns"] / 1e9,
        }


def sentence(words: dict[str, Any]) -> str:
    """One line: who, what, where, why."""
    parts = [f"{words['message']} from {words['mac']}"]
    if words["host"]:
        parts.append(f"({words['host']})")
    parts.append(f"on {words['interface']}")
    if words["relay"]:
        parts.append(f"by relay {words['relay']}")
    parts.append("was refused:" if words["verdict"] == "NAKED" else "not answered:")
    parts.append(words["reason"])
    if words["detail"]:
        parts.append(f"[{words['detail']}]")
    parts += [f"{name}={words[name]}" for name in ("ciaddr", "requested", "vendor_class") if words[name]]
    return " ".join(parts)


def _text(address: int) -> str | None:
    return str(IPv4Address(address)) if address else None
