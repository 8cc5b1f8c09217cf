"""The workers' event rings -> warnings with details: one a host and reason, then a count, never a flood.

A worker only notes what happened (ext/page.pxd: Event); here it becomes a sentence that an operator can act on.  What
answered hosts say of themselves is no warning: it goes to identities.py, which may find something worth one.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import math
import os
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import islice
from typing import Any

from control.explain.sentences import FINDINGS, OTHER_SERVER, WORDS, asked, sentence
from control.messages.dissect import relay_words
from control.service.event_ring import Note, nowhere
from control.service.machines.identities import (
    Clone,
    Identities,
    Loop,
    Shared,
    clone_words,
    loop_words,
    printable,
    shared_words,
)
from control.service.served_table import ServedTable
from fastpath.process.log_forms import about

log = logging.getLogger("bootstorm.dhcp")

REPEAT_S = 300.0  # the same host for the same reason: one line in this time
LINES_PER_S = 20.0  # all hosts together, with a reserve of LINES_BURST
LINES_BURST = 200.0
STRANGERS_PER_S, STRANGERS_BURST = 10.0, 100.0  # MACs that the inventory does not have: anybody can make them up
HOSTS_MAX = 10_000
RECENT_MAX = 1_000
REST_S = 0.02  # of a bell that was just heard: at most 50 wakings a second
SLICE = 256  # events in one turn of control's loop, from all rings: 10 ms of work on a slow machine
SERVERS_MAX = 64
ROLES = {"host": 0, "bmc": 1}
MESSAGES = {1: "DISCOVER", 3: "REQUEST", 4: "DECLINE", 7: "RELEASE", 8: "INFORM"}
SIGHTED = "ACKED"
# How much a line matters.  What somebody has said in the inventory or in services.conf is no news, nor is a stranger;
# what this machine's own configuration, or a fault of ours, keeps from an answer is for whoever runs it.  All else: a
# warning.
LEVELS = {
    "IGNORED_UNKNOWN_MAC": logging.INFO, "IGNORED_DISABLED": logging.INFO, "IGNORED_OTHER_PORT": logging.INFO,
    "IGNORED_HELD": logging.INFO,
    "IGNORED_RELAY": logging.INFO, "IGNORED_NO_SERVER_ID": logging.ERROR, "ABANDONED": logging.ERROR,
}  # fmt: skip
# Verdict or finding -> kind of event; every other verdict of a machine of the inventory is NOT_ANSWERED.
FOLLOWED = {
    "NAKED": "refused", "NOTED_DECLINE": "declined", "ABANDONED": "abandoned", "BOOT_LOOP": "boot-loop",
    "CLONED_CLIENT_ID": "cloned-client-id", "SHARED_ADDRESS": "shared-address", OTHER_SERVER: "other-server",
}  # fmt: skip
NOT_ANSWERED, STRANGER_SEEN = "not-answered", "stranger-seen"


@dataclass(slots=True)
class Seen:
    logged_s: float
    held_back: int = 0


@dataclass(slots=True)
class OtherServer:
    """Another server's id that hosts of ours name.  requests: noted ones, at most one a second of each host."""

    place: str
    host: str
    requests: int = 0


class Ledger:
    """What was told of hosts, or of strangers: neither kind takes the other's lines or place, however many come.

    again_s: so long the same is no news to who follows the events."""

    def __init__(self, per_s: float, burst: float, now: float, again_s: float = REPEAT_S) -> None:
        self.again_s = again_s
        self.noted: OrderedDict[tuple[str, str], float] = OrderedDict()
        self.per_s, self.burst = per_s, burst
        self.seen: OrderedDict[tuple[str, str], Seen] = OrderedDict()
        self.recent: deque[dict[str, Any]] = deque(maxlen=RECENT_MAX)
        self.budget, self.budget_s = burst, now
        self.suppressed = 0

    def warn(self, key: tuple[str, str], words: dict[str, Any], now: float) -> bool:
        """Log it unless the same was logged of late, or too much is.  False: it is no news."""
        seen = self.seen.pop(key, None)
        if seen is not None and now - seen.logged_s < REPEAT_S:
            seen.held_back += 1
            self.seen[key] = seen
            return False
        if not self.may_log(now):
            self.suppressed += 1
            if seen is not None:
                seen.held_back += 1
                self.seen[key] = seen
            return True
        repeated = f" ({seen.held_back} more since the last line)" if seen is not None and seen.held_back else ""
        known = about(mac=words["mac"], host=words["host"], verdict=words["verdict"], relay=words["relay"])
        log.log(LEVELS.get(words["verdict"], logging.WARNING), "%s%s", sentence(words), repeated, extra=known)
        self.seen[key] = Seen(now)
        while len(self.seen) > HOSTS_MAX:
            self.seen.popitem(last=False)
        return True

    def is_news(self, key: tuple[str, str], now: float) -> bool:
        """For who follows the events: whatever the log has room for."""
        noted_s = self.noted.pop(key, -math.inf)
        news = now - noted_s >= self.again_s
        self.noted[key] = now if news else noted_s
        while len(self.noted) > HOSTS_MAX:
            self.noted.popitem(last=False)
        return news

    def may_log(self, now: float) -> bool:
        self.budget = min(self.burst, self.budget + (now - self.budget_s) * self.per_s)
        self.budget_s = now
        if self.budget < 1:
            return False
        self.budget -= 1
        return True


class Warnings:
    """Reads the rings when the bell rings.  clock: monotonic seconds; server_id: what we answer with on an interface.

    subscribers: called with every event as ext.page gives it; they return at once.  Without sightings_wanted they hear
    of refusals, and of those sightings that are news: a storm has some hundred thousand others."""

    def __init__(
        self,
        table: ServedTable,
        bell: int,
        interface_name: Callable[[int], str],
        reason_of: Callable[[str], str | None],
        clock: Callable[[], float] = time.monotonic,
        on_unknown: Callable[[str, str, str | None], None] = lambda _mac, _interface, _relay: None,
        server_id: Callable[[int], str | None] = lambda _ifindex: None,
        note: Note = nowhere,
        sightings_wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        self.table = table
        self.bell = bell
        self.interface_name = interface_name
        self.reason_of = reason_of
        self.on_unknown = on_unknown
        self.server_id = server_id
        self.note = note
        self.clock = clock
        self.sightings_wanted = sightings_wanted
        self.identities = Identities(table.name_of, lambda mac: table.row(int(mac.replace(":", ""), 16)))
        self.subscribers: list[Callable[[Mapping[str, Any]], None]] = []
        self.hosts = Ledger(LINES_PER_S, LINES_BURST, clock())
        self.strangers = Ledger(STRANGERS_PER_S, STRANGERS_BURST, clock(), again_s=math.inf)
        self.servers: OrderedDict[str, OtherServer] = OrderedDict()

    @property
    def suppressed(self) -> int:
        """Lines that the log was spared."""
        return self.hosts.suppressed + self.strangers.suppressed

    def watch(self) -> None:
        asyncio.get_running_loop().add_reader(self.bell, self.on_bell)
        self.drain()  # what waited while there was no control

    def on_bell(self) -> None:
        """In a storm each event would wake this process, which costs more than the event: the next one has to wait."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self.bell)
        loop.call_later(REST_S, loop.add_reader, self.bell, self.on_bell)
        os.eventfd_read(self.bell)
        self.drain()

    def drain(self) -> None:
        """A bounded share of each ring; what is left is taken in the loop's next turn."""
        more, share = False, max(1, SLICE // max(1, len(self.table.pages)))
        wanted = self.sightings_wanted()
        for page in self.table.pages:
            events = page.drain(share, self.identities.sighted, wanted)
            more = more or len(events) == share
            for event in events:
                self.take(event)
        if more:
            asyncio.get_running_loop().call_soon(self.drain)

    def take(self, event: dict[str, Any]) -> None:
        for subscriber in self.subscribers:
            try:
                subscriber(event)
            except Exception:  # one subscriber's fault must not cost the others and the operator their events
                if self.strangers.may_log(self.clock()):  # never out of what hosts have
                    log.exception("a subscriber of DHCP events failed at %s", event)
        if event["verdict"] == SIGHTED:
            self.take_sighting(event)
        elif event["verdict"] == OTHER_SERVER:
            self.take_other_server(event)
        else:
            words = self.describe(event)
            known = words["host"] is not None or self.table.row(int(words["mac"].replace(":", ""), 16), ROLES["bmc"])
            ledger = self.hosts if known else self.strangers
            ledger.recent.append(words)
            if event["verdict"] == "IGNORED_UNKNOWN_MAC" and words["host"] is None:
                self.on_unknown(event["mac"], words["interface"], words["relay"])
            ledger.warn((event["mac"], event["verdict"]), words, self.clock())
            self.tell_followers((event["mac"], event["verdict"] if known else STRANGER_SEEN), words)

    def take_sighting(self, event: dict[str, Any]) -> None:
        for found in self.identities.find(event):
            words = self.describe(event)
            if isinstance(found, Loop):
                row = self.table.row(int(found.mac.replace(":", ""), 16), ROLES[found.role])
                words |= self.finding("BOOT_LOOP", loop_words(found, row, (event["requested"], event["ciaddr"])))
                key = (found.mac, f"BOOT_LOOP {found.role} {found.client}")
            elif isinstance(found, Clone):
                words |= self.finding("CLONED_CLIENT_ID", clone_words(found, self.table.name_of))
                key = (found.identity.hex(), "CLONED_CLIENT_ID")
            elif isinstance(found, Shared):
                words |= self.finding("SHARED_ADDRESS", shared_words(found, self.table.name_of))
                key = (str(IPv4Address(found.address)), "SHARED_ADDRESS")
            if self.hosts.warn(key, words, self.clock()):
                self.hosts.recent.append(words)
            self.tell_followers(key, words)

    @staticmethod
    def finding(name: str, text: str) -> dict[str, str]:
        return {"verdict": name, "reason": FINDINGS[name], "text": text}

    def take_other_server(self, event: dict[str, Any]) -> None:
        """Normal beside a replica that is listed; then nothing comes here.  One line an id: all its hosts name it."""
        words = self.describe(event)
        theirs, ours = words["server_id"] or "0.0.0.0", self.server_id(event["ifindex"])
        place = f"{words['interface']}{' by relay ' + words['relay'] if words['relay'] else ''}"
        other = self.servers.pop(theirs, None) or OtherServer(place, words["mac"])
        self.servers[theirs] = other
        while len(self.servers) > SERVERS_MAX:
            self.servers.popitem(last=False)
        other.place, other.host = place, f"{words['mac']} ({words['host']})" if words["host"] else words["mac"]
        other.requests += 1
        words["text"] = (
            f"two servers answer with different ids: ours {ours or 'is not known'}, the other's {theirs} "
            f"({words['message']} of {other.host} on {place}; {other.requests} such so far); list {theirs} in "
            "dhcp.server_ids if it is a replica or a VIP of ours, else somebody else serves DHCP on this segment"
        )
        if self.hosts.warn((theirs, OTHER_SERVER), words, self.clock()):
            self.hosts.recent.append(words)
        self.tell_followers((theirs, OTHER_SERVER), words)

    def tell_followers(self, key: tuple[str, str], words: Mapping[str, Any]) -> None:
        """key: as of warn(), but for strangers, of whom only the first time is told."""
        stranger = key[1] == STRANGER_SEEN
        if not (self.strangers if stranger else self.hosts).is_news(key, self.clock()):
            return
        kind = STRANGER_SEEN if stranger else FOLLOWED.get(words["verdict"], NOT_ANSWERED)
        self.note(kind, words["host"], words["mac"], reason_words(words))

    # --- for the console -----------------------------------------------------------------------------------------

    def newest(self, most: int, mac: str | None = None) -> list[dict[str, Any]]:
        """The last warnings, newest first, with their age."""
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        both = heapq.merge(
            reversed(self.hosts.recent), reversed(self.strangers.recent), key=lambda words: -words["boottime_s"]
        )
        fitting = list(islice((words for words in both if mac in (None, words["mac"])), max(most, 0)))
        return [
            {"seconds_ago": round(now - words["boottime_s"], 3)} | {k: v for k, v in words.items() if k != "boottime_s"}
            for words in fitting
        ]

    def identity_counts(self) -> dict[str, Any]:
        return self.identities.counts(time.clock_gettime_ns(time.CLOCK_BOOTTIME))

    def seen_as(self, mac: str) -> list[dict[str, Any]]:
        """What a machine was seen as of late."""
        return self.identities.of(mac, time.clock_gettime_ns(time.CLOCK_BOOTTIME))

    def other_servers(self) -> dict[str, dict[str, Any]]:
        """Server id -> who named it last, where, and how often."""
        return {
            server: {"requests": other.requests, "place": other.place, "host": other.host}
            for server, other in self.servers.items()
        }

    def describe(self, event: dict[str, Any]) -> dict[str, Any]:
        return {
            "mac": event["mac"],
            "host": self.table.name_of(event["mac"]),
            "message": MESSAGES.get(event["message_type"], str(event["message_type"])),
            "state": event["state"],
            "verdict": event["verdict"],
            "reason": WORDS.get(event["verdict"], event["verdict"]),
            "detail": self.reason_of(event["mac"]),
            "interface": self.interface_name(event["ifindex"]),
            "relay": _text(event["giaddr"]),
            "source": _text(event["source"]),
            "ciaddr": _text(event["ciaddr"]),
            "requested": _text(event["requested"]),
            "server_id": _text(event["server_id"]),
            "vendor_class": printable(event["vendor_class"]),
            "relay_agent": relay_words(event["relay_agent"]) if event["relay_agent"] else None,
            "xid": f"{event['xid']:08x}",
            "boottime_s": event["boottime_ns"] / 1e9,
        }


def reason_words(words: Mapping[str, Any]) -> str:
    """As sentence(), without the machine."""
    if "text" in words:
        return str(words["text"])
    place = f"{words['interface']}{' by relay ' + words['relay'] if words['relay'] else ''}"
    detail = f" [{words['detail']}]" if words["detail"] else ""
    return f"{asked(words)} on {place}: {words['reason']}{detail}"


def _text(address: int) -> str | None:
    return str(IPv4Address(address)) if address else None
