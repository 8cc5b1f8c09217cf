"""Every host of the table and how far it is: `ctl hosts`, and the boot ledger on disk.

What stands in the ledger is the workers' (ext/ledger.pxd).  A million rows are looked through in pieces, between which
control's loop goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Final

from ext.ledger import Ledger, is_ledger
from ext.roll import PROGRESS
from ext.table import STATES, Pair

from control.discovery.statefile import open_new, read_file, write_all
from control.explain.sentences import OTHER_SERVER, WORDS
from control.mac import parse_mac, show_mac
from control.service.doors.commands import HOSTS_A_PAGE
from control.service.machines.scans import UNPLACED, Scans, WrongFilter
from control.service.machines.whereabouts import POOL, RACK, Index, Whereabouts

log = logging.getLogger("bootstorm.ledger")

LOOKED_AT_ONCE: Final = 20_000
NAMES_AT_ONCE: Final = 2_000
MACS_NAMED: Final = 8
BEGIN_MAX: Final = (1 << 32) - 1  # beyond it no page begins
FILE: Final = "ledger"  # in dhcp.state_dir
FILE_BYTES_MAX: Final = 1 << 28  # nearly four million machines
PHASES: Final = {"rom": "its ROM", "loader": "iPXE", "system": "a system"}
REFUSED_ONCE: Final = ("IGNORED_DISABLED", "IGNORED_OTHER_PORT", "IGNORED_HELD")  # of a row that is answered now
JUDGED_BY: Final = ("habit", "habit_s", "ends")  # of Roll.row(): for the sentence, which says it
IN_DOUBT: Final = "in-doubt"  # among the states that are asked for: IN_DOUBT_BIT of ext/roll.pyx
STATE_NAMES: Final = (*(name for name in STATES if name != "tombstone"), IN_DOUBT)


class NotFound(ValueError):
    """No machine, or several, are meant; says which."""


def card_of(pair: Pair | None, text: str) -> tuple[int, int]:
    """(MAC, role) of a MAC address in any spelling; or of the one machine of the table that has a name or an address.
    The role is a BMC's where nothing else has that MAC, name or address.

    A name may look like a MAC or an address: 200235412345, a serial number.  Raises NotFound."""
    mac = parse_mac(text)
    for role in (0, 1):
        if pair is not None and mac is not None and pair.lookup(mac, role) is not None:
            return mac, role
    keys = keys_of(pair, text) if pair is not None else []
    if mac is not None and not keys:
        return mac, 0
    rows = [row for key in keys if pair is not None and (row := pair.lookup(*key)) is not None]
    cards = [row for row in rows if not row["role"]] or rows
    found = sorted(
        {row["mac"] for row in cards if row["state"] in ("served", "proxied", "held")} or {row["mac"] for row in cards}
    )
    if len(found) == 1:
        return int(found[0]), min(row["role"] for row in cards if row["mac"] == found[0])
    if found:
        shown = ", ".join(map(show_mac, found[:MACS_NAMED])) + (", ..." if found[MACS_NAMED:] else "")
        raise NotFound(f"{text!r} has {len(found)} cards: {shown}; wanted one of these")
    raise NotFound(
        f"{text!r} is no MAC address, wanted one such as 00:11:22:33:44:55, or a name or an address that the table has"
    )


def keys_of(pair: Pair, text: str) -> list[tuple[int, int]]:
    """(MAC, role) of the rows that have an address, else of those of a name."""
    keys: list[tuple[int, int]] = []
    with contextlib.suppress(AddressValueError):
        keys = pair.with_address(int(IPv4Address(text)))
    return keys or list(pair.with_name(text.encode("utf-8", "backslashreplace")))


def open_hosts(fd: int, state_dir: Path, whereabouts: Whereabouts) -> Hosts | None:
    """fd: -1 where the supervisor keeps no ledger.  None then, where there is no address space for it, and for one of
    another layout: between an installation and the upgrade, which makes one that this build reads."""
    if fd >= 0 and not is_ledger(fd):
        log.warning("the boot ledger is of another layout than this build's; the upgrade begins a new one")
        return None
    try:
        return Hosts(fd, state_dir, whereabouts) if fd >= 0 else None
    except OSError as error:
        log.error("no boot ledger: %s; it wants 1 GiB of address space (LimitAS=, ulimit -v)", error)
        return None


class Hosts:
    """fd: of the ledger.  state_dir: where it is kept over a restart.  whereabouts: which containers rows are in."""

    def __init__(self, fd: int, state_dir: Path, whereabouts: Whereabouts) -> None:
        self.ledger = Ledger(fd)
        self.whereabouts = whereabouts
        self.path = state_dir / FILE
        self.scans = Scans(self.ledger, whereabouts)

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

    async def of_mac(self, pair: Pair, mac: int, reason_of: Callable[[str], str | None]) -> dict[str, Any]:
        """{"boots": what `ctl hosts` says of the card that has a MAC, and of the BMC that has it, "boots_since_s"}"""
        roll, now_s = await self.scans.roll(pair), self.ledger.now_s()
        places = [place for role in (0, 1) if (place := roll.place_of(mac, role)) >= 0]
        boots = [described(roll.row(place, now_s), reason_of, self.whereabouts.index) for place in places]
        return {"boots": boots, "boots_since_s": self.ledger.since_s}

    async def cards(self, pair: Pair | None, macs: list[int]) -> list[dict[str, Any]]:
        """As of Roll.row, of the cards of hosts that have some MACs."""
        if pair is None:
            return []
        roll, now_s = await self.scans.roll(pair), self.ledger.now_s()
        places = [place for mac in macs if (place := roll.place_of(mac, 0)) >= 0]
        return [roll.row(place, now_s) for place in places]

    async def page(
        self, pair: Pair | None, arguments: Mapping[str, Any], reason_of: Callable[[str], str | None]
    ) -> dict[str, Any]:
        """Hosts that fit, from "after" on.  "after": where the next page begins, of whichever table that is by then;
        "more": whether there is one.  Raises WrongFilter."""
        begin, limit = int(arguments.get("after", 0)), int(arguments.get("limit", HOSTS_A_PAGE))
        times = {"since_s": self.ledger.since_s, "now_s": int(time.time())}
        told: dict[str, Any] = {**times, "generation": 0, "base": 0, "hosts": [], "more": False}
        if pair is None:
            Wanted(arguments, self.whereabouts)
            return told | {"after": 0}
        roll, now_s = await self.scans.roll(pair), self.ledger.now_s()
        # Of the state that the roll is of: a refresh that ends meanwhile may number the groups otherwise.
        index, wanted = self.whereabouts.index, Wanted(arguments, self.whereabouts)
        await wanted.find_groups(index)
        hosts = told["hosts"]
        told |= {"generation": pair.top.number, "base": pair.base.number}
        until_s = time.perf_counter() + 0.25
        rows = NAMES_AT_ONCE if wanted.name is not None else LOOKED_AT_ONCE
        more = begin <= BEGIN_MAX
        while more and len(hosts) < limit and time.perf_counter() < until_s:
            begin, found = roll.look(begin, rows, now_s, *wanted.filters())
            more = begin > 0
            for place in found:
                if wanted.name is not None and not wanted.name(text_of(roll.name(place))):
                    continue
                if len(hosts) == limit:
                    begin, more = roll.at(place), True
                    break
                hosts.append(described(roll.row(place, now_s), reason_of, index))
            await asyncio.sleep(0)
        return told | {"after": begin, "more": more}


class Wanted:
    """The filters of `ctl hosts`.  Raises WrongFilter."""

    def __init__(self, arguments: Mapping[str, Any], whereabouts: Whereabouts) -> None:
        self.states = bits("state", arguments.get("state"), STATE_NAMES, (*STATES, IN_DOUBT))
        self.progress = bits("progress", arguments.get("progress"), PROGRESS, PROGRESS)
        named = arguments.get("name")
        self.name = re.compile(fnmatch.translate(named)).fullmatch if named is not None else None
        try:
            relay, address = arguments.get("relay"), arguments.get("address")
            self.relay = int(IPv4Address(relay)) if relay is not None else None
            network = IPv4Network(address, strict=False) if address is not None else IPv4Network("0.0.0.0/0")
        except (AddressValueError, ValueError) as wrong:
            raise WrongFilter(f"{wrong}; wanted an IPv4 address, and for --address perhaps a prefix") from wrong
        self.first, self.last = int(network.network_address), int(network.broadcast_address)

        if IN_DOUBT in str(arguments.get("state")).split(",") and whereabouts.doubtful is None:
            raise WrongFilter("which hosts are in doubt is known once the inventory has been read")
        self.containers = [(kind, arguments[kind]) for kind in (POOL, RACK) if arguments.get(kind) is not None]
        if self.containers and not whereabouts.placed:
            raise WrongFilter(UNPLACED)
        self.groups: bytes | None = None

    async def find_groups(self, index: Index) -> None:
        """Before filters(); in pieces."""
        for kind, pattern in self.containers:
            fitting = await index.fitting(kind, pattern)
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


def text_of(name: bytes) -> str:
    return name.decode("utf-8", "replace")


def described(row: dict[str, Any], reason_of: Callable[[str], str | None], index: Index) -> dict[str, Any]:
    """A row of Roll as it is told."""
    mac, group = show_mac(row["mac"]), row.pop("group")
    company = f"its pool ({index.company_name(group)})" if index.is_pool(group) else index.company_name(group)
    refused = reason_of(mac) if row["state"] not in ("served", "proxied") else None
    found = {
        "containers": list(index.groups[group]) if group < len(index.groups) else [],
        "mac": mac,
        "role": "bmc" if row["role"] else "host",
        "name": text_of(row["name"]),
        "addresses": [str(IPv4Address(address)) for address in row["addresses"]],
        "relay": str(IPv4Address(row["relay"])) if row["relay"] is not None else None,
        "reason": why(row, refused, company),
    }
    return {name: value for name, value in (row | found).items() if name not in JUDGED_BY}


def why(row: Mapping[str, Any], reason: str | None, company: str) -> str:
    """In a sentence, where a machine stands that is not done; "" of one that is.  company: whose machines tell how far
    its boot goes, where nothing else does."""
    if row["progress"] == "never":
        return reason or ""
    phase, _, step = row["stage"].partition("-")
    who = PHASES.get(phase, "it")  # none: it was looked at while a worker began the entry
    if row["state"] not in ("served", "proxied"):
        return reason or WORDS.get(row["verdict"], row["verdict"])
    if row["verdict"] in REFUSED_ONCE:
        return f"{who} has not asked since that changed: {WORDS[row['verdict']]}"
    if row["verdict"] in WORDS and row["verdict"] != OTHER_SERVER:
        return f"{who} has no answer: {WORDS[row['verdict']]}"
    if row["progress"] not in ("stuck", "booting"):
        return ""
    if step == "asked":
        return f"{who} has no answer: {row['verdict']}"
    if step == "offered" and row["state"] == "served" and row["verdict"] != OTHER_SERVER:
        return f"{who} was offered its address and does not take it: the offer does not arrive, or does not please it"
    if row["verdict"] == OTHER_SERVER:
        has = "took another server's offer"
    else:
        has = "has its address" if row["state"] == "served" else "was told what to boot"
    return f"{who} {has}, and what it boots has not asked yet; {expectation(row, phase, company)}"


def expectation(row: Mapping[str, Any], phase: str, company: str) -> str:
    """Why more is expected of a machine that has its address."""
    if row["habit"]:
        within = f", nine of ten within {row['habit_s']} s" if row["habit_s"] else ""
        return f"most machines of {company} went on to {PHASES[row['habit']]}{within}"
    took_s = row["took_s"][0 if phase == "rom" else 1]
    if row["ends"] and not took_s:
        return f"by boot_ends it goes on to {PHASES[row['ends']]}"
    return f"the boots before took {took_s} s" if took_s else "no boot before says how long that takes"
