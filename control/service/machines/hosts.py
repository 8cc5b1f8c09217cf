"""Every host of the table and how far it is: `ctl hosts`, the totals of `ctl status`, and the boot ledger on disk.

What stands in the ledger is the workers' (ext/ledger.pxd).  A million rows are looked through in pieces, between which
control's loop goes on.
"""

from __future__ import annotations

import asyncio
import fnmatch
import logging
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Final

from ext.ledger import GROUP_BYTES, PROGRESS, TALLY_BYTES, Ledger, Roll
from ext.table import STATES, Pair

from control.discovery.statefile import open_new, read_file, write_all
from control.explain.sentences import WORDS
from control.mac import parse_mac, show_mac
from control.service.doors.commands import HOSTS_A_PAGE
from control.service.machines.whereabouts import POOL, RACK, Whereabouts

log = logging.getLogger("bootstorm.ledger")

COUNTED_AT_ONCE: Final = 50_000  # rows: a millisecond
LOOKED_AT_ONCE: Final = 20_000
NAMES_AT_ONCE: Final = 2_000
TOTALS_S: Final = 1.0  # one count for all who ask within that time
MACS_NAMED: Final = 8
FILE: Final = "ledger"  # in dhcp.state_dir
FILE_BYTES_MAX: Final = 1 << 28  # nearly four million machines
PHASES: Final = {"rom": "its ROM", "loader": "iPXE", "system": "a system"}
STATE_NAMES: Final = tuple(name for name in STATES if name != "tombstone")


class WrongFilter(ValueError):
    """What is asked for cannot be; says what was found and what was wanted."""


class NotFound(ValueError):
    """No machine, or several, are meant; says which."""


def mac_of(pair: Pair | None, text: str) -> int:
    """Of a MAC address in any spelling; or of the one machine of the table that has a name or an address.  Raises
    NotFound."""
    mac = parse_mac(text)
    if mac is not None:
        return mac
    try:
        address = int(IPv4Address(text))
    except AddressValueError:
        keys = pair.with_name(text.encode("utf-8", "backslashreplace")) if pair is not None else []
    else:
        keys = pair.with_address(address) if pair is not None else []
    rows = [row for key in keys if pair is not None and (row := pair.lookup(*key)) is not None]
    cards = [row for row in rows if not row["role"]] or rows
    found = sorted(
        {row["mac"] for row in cards if row["state"] in ("served", "proxied")} or {row["mac"] for row in cards}
    )
    if len(found) == 1:
        return int(found[0])
    if found:
        shown = ", ".join(map(show_mac, found[:MACS_NAMED])) + (", ..." if found[MACS_NAMED:] else "")
        raise NotFound(f"{text!r} has {len(found)} cards: {shown}; wanted one of these")
    raise NotFound(
        f"{text!r} is no MAC address, wanted one such as 00:11:22:33:44:55, or a name or an address that the table has"
    )


class Hosts:
    """fd: of the ledger.  state_dir: where it is kept over a restart.  whereabouts: which containers rows are in."""

    def __init__(self, fd: int, state_dir: Path, whereabouts: Whereabouts) -> None:
        self.ledger = Ledger(fd)
        self.whereabouts = whereabouts
        self.path = state_dir / FILE
        self.counted: dict[str, Any] = {}
        self.counted_s = 0.0
        self.counted_of: Pair | None = None
        self.turn = asyncio.Lock()

    # --- on disk -----------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """What was saved at the last clean stop, into a ledger that has had nothing yet; nothing of what is damaged."""
        content = b""
        try:
            if self.ledger.is_loaded:  # an upgrade's stop has left it
                self.path.unlink(missing_ok=True)
                return
            content = read_file(self.path, FILE_BYTES_MAX)
            self.path.unlink()  # or a start after a crash would take it for the last word
        except FileNotFoundError:
            pass
        except OSError as error:
            content = b""
            log.error("cannot read %s: %s; what machines did before is not known", self.path, error.strerror)
        try:
            taken = self.ledger.load(content)
            log.info("%s: of %d machines it is known how far they were", self.path, taken)
        except ValueError as damaged:
            if content:
                log.error("%s is not used: %s; what machines did before is not known", self.path, damaged)

    def save(self) -> None:
        """At a clean stop; a machine that asks meanwhile may be missing."""
        aside = self.path.with_name(FILE + ".new")
        try:
            content = self.ledger.saved()
            if len(content) > FILE_BYTES_MAX:
                raise OSError(0, f"{len(content)} bytes, and at most {FILE_BYTES_MAX} are read back")
            fd = open_new(aside)
            try:
                write_all(fd, content)
            finally:
                os.close(fd)
            aside.replace(self.path)
        except OSError as error:
            log.error("cannot keep the boot ledger in %s: %s; the next start knows nothing", self.path, error.strerror)

    # --- all ---------------------------------------------------------------------------------------------------------

    async def totals(self, pair: Pair | None) -> dict[str, Any]:
        """{"since_s", "states": {state: {progress: rows}}, "stages": {stage: rows}}."""
        if pair is None:
            return {"since_s": self.ledger.since_s, "states": {}, "stages": {}}
        async with self.turn:
            if self.counted_of is pair and time.monotonic() - self.counted_s < TOTALS_S:
                return self.counted
            roll, tally, place, now_s = self.roll(pair), bytearray(TALLY_BYTES), 0, self.ledger.now_s()
            while place < len(roll):
                place = roll.count(place, COUNTED_AT_ONCE, tally, now_s)
                await asyncio.sleep(0)
            states, stages = Roll.tallied(tally)
            self.counted = {"since_s": self.ledger.since_s, "states": states, "stages": stages}
            self.counted_s, self.counted_of = time.monotonic(), pair
        return self.counted

    def roll(self, pair: Pair) -> Roll:
        return Roll(pair, self.ledger, self.whereabouts.placed, self.whereabouts.ends)

    async def sums(self, pair: Pair | None, kind: str) -> dict[str, Any]:
        """{"since_s", "of": {name of a container of a kind: {progress: rows}}}; "" is of those that are in none.

        An object in several counts in each of them.  Raises WrongFilter."""
        if kind not in (POOL, RACK):
            raise WrongFilter(f"by {kind[:40]!r}: wanted {POOL} or {RACK}")
        found: dict[str, Counter[str]] = {}
        if pair is not None:
            groups = self.whereabouts.groups
            roll, counts, place, now_s = self.roll(pair), bytearray(GROUP_BYTES * len(groups)), 0, self.ledger.now_s()
            while place < len(roll):
                place = roll.count_groups(place, COUNTED_AT_ONCE, counts, now_s)
                await asyncio.sleep(0)
            for group, progress in enumerate(Roll.counted(counts)):
                for name in self.whereabouts.of_kind(group, kind) or [""]:
                    found.setdefault(name, Counter()).update(progress)
        of = {name: dict(progress) for name, progress in sorted(found.items()) if progress.total()}
        return {"since_s": self.ledger.since_s, "of": of}

    def rows_of(self, pair: Pair, mac: int, reason_of: Callable[[str], str | None]) -> list[dict[str, Any]]:
        """What `ctl hosts` says of the card that has a MAC, and of the BMC that has it."""
        roll, now_s = self.roll(pair), self.ledger.now_s()
        places = [place for role in (0, 1) if (place := roll.place_of(mac, role)) >= 0]
        return [described(roll.row(place, now_s), reason_of, self.whereabouts) for place in places]

    async def page(
        self, pair: Pair | None, arguments: Mapping[str, Any], reason_of: Callable[[str], str | None]
    ) -> dict[str, Any]:
        """Hosts that fit, from a place on.  "after": where the next page begins; "more": whether there is one.

        The places are of one base and delta: "generation" says of which.  Raises WrongFilter."""
        wanted = Wanted(arguments, self.whereabouts)
        place, limit = int(arguments.get("after", 0)), int(arguments.get("limit", HOSTS_A_PAGE))
        times = {"since_s": self.ledger.since_s, "now_s": int(time.time())}
        told: dict[str, Any] = {**times, "generation": 0, "base": 0, "hosts": [], "more": False}
        if pair is None:
            return told | {"after": 0}
        roll, now_s = self.roll(pair), self.ledger.now_s()
        hosts = told["hosts"]
        told |= {"generation": pair.top.number, "base": pair.base.number}
        until_s = time.perf_counter() + 0.25
        while place < len(roll) and len(hosts) < limit and time.perf_counter() < until_s:
            rows = NAMES_AT_ONCE if wanted.name is not None else LOOKED_AT_ONCE
            after, found = roll.look(place, rows, now_s, *wanted.filters())
            for at in found:
                if wanted.name is not None and not wanted.name(roll.name(at)):
                    continue
                if len(hosts) == limit:
                    after = at
                    break
                hosts.append(described(roll.row(at, now_s), reason_of, self.whereabouts))
            place = after
            await asyncio.sleep(0)
        return told | {"after": place, "more": place < len(roll)}


class Wanted:
    """The filters of `ctl hosts`.  Raises WrongFilter."""

    def __init__(self, arguments: Mapping[str, Any], whereabouts: Whereabouts) -> None:
        self.states = bits("state", arguments.get("state"), STATE_NAMES, STATES)
        self.progress = bits("progress", arguments.get("progress"), PROGRESS, PROGRESS)
        named = arguments.get("name")
        self.name = (
            re.compile(fnmatch.translate(named).encode("utf-8", "backslashreplace")).fullmatch if named else None
        )
        try:
            relay, address = arguments.get("relay"), arguments.get("address")
            self.relay = int(IPv4Address(relay)) if relay is not None else None
            network = IPv4Network(address, strict=False) if address is not None else IPv4Network("0.0.0.0/0")
        except (AddressValueError, ValueError) as wrong:
            raise WrongFilter(f"{wrong}; wanted an IPv4 address, and for --address perhaps a prefix") from wrong
        self.first, self.last = int(network.network_address), int(network.broadcast_address)

        asked = [(kind, arguments[kind]) for kind in (POOL, RACK) if arguments.get(kind) is not None]
        if asked and not whereabouts.placed:
            raise WrongFilter("which containers hosts are in is known once the inventory has been read")
        self.groups: bytes | None = None
        for kind, pattern in asked:
            fitting = whereabouts.fitting(kind, pattern)
            self.groups = fitting if self.groups is None else bytes(map(min, self.groups, fitting))

    def filters(self) -> tuple[int, int, int | None, int, int, bytes | None]:
        """As Roll.look takes them."""
        return self.states, self.progress, self.relay, self.first, self.last, self.groups


def bits(what: str, said: Any, words: tuple[str, ...], order: tuple[str, ...]) -> int:
    """A bit for each of several words with commas between them; all where nothing is said."""
    if said is None:
        return (1 << len(order)) - 1
    found = 0
    for word in str(said).split(","):
        if word not in words:
            raise WrongFilter(f"{what} {word[:40]!r}: there is none; wanted one of {', '.join(words)}")
        found |= 1 << order.index(word)
    return found


def described(row: dict[str, Any], reason_of: Callable[[str], str | None], whereabouts: Whereabouts) -> dict[str, Any]:
    """A row of Roll as it is told."""
    mac, group = show_mac(row["mac"]), row.pop("group")
    return row | {
        "containers": whereabouts.containers(group),
        "mac": mac,
        "role": "bmc" if row["role"] else "host",
        "name": row["name"].decode("utf-8", "replace"),
        "addresses": [str(IPv4Address(address)) for address in row["addresses"]],
        "relay": str(IPv4Address(row["relay"])) if row["relay"] is not None else None,
        "reason": why(row, reason_of(mac) if row["state"] not in ("served", "proxied") else None),
    }


def why(row: Mapping[str, Any], reason: str | None) -> str:
    """In a sentence, where a machine stands that is not done; "" of one that is."""
    if row["progress"] == "never":
        return reason or ""
    phase, _, step = row["stage"].partition("-")
    who = PHASES[phase]
    if row["state"] not in ("served", "proxied"):
        return reason or WORDS.get(row["verdict"], row["verdict"])
    if row["verdict"] in WORDS:
        return f"{who} has no answer: {WORDS[row['verdict']]}"
    if row["progress"] not in ("stuck", "booting"):
        return ""
    if step == "asked":
        return f"{who} has no answer: {row['verdict']}"
    if step == "offered" and row["state"] == "served":
        return f"{who} was offered its address and does not take it: the offer does not arrive, or does not please it"
    took_s = row["took_s"][0 if phase == "rom" else 1]
    return f"{who} has its address, and what it boots has not asked yet; the boots before took {took_s} s"
