"""`ctl hold`, `release`, `overrides`: an operator's word over the inventory's, who gave it, and when it ends.

Control keeps them and tells the planner all that are in force (control/planner/overlay.py lays them over the table);
every change is a line in the log and an event, with the uid."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final

from ext.table import Pair

from control.explain.sentences import lasting
from control.mac import parse_mac, show_mac
from control.plan.compile import encoded
from control.planner.jobs import Lay, RefreshFailed
from control.service.clocks import boottime_s, wall_clock_at_boot_ns
from control.service.doors.console import CommandFailed, Handler, Report, caller
from control.service.event_ring import Note
from control.service.fleet.keeper import FleetKeeper
from control.service.machines import once
from control.service.machines.hosts import Hosts, NotFound, keys_of, text_of
from control.service.machines.override_book import HOLD, KINDS, MACS_MAX, ONCE, Book, Full, Override
from control.service.served_table import ServedTable
from fastpath.process.log_forms import about

log = logging.getLogger("bootstorm.overrides")

LOOK_S: Final = 1.0
SET, ENDED = "override-set", "override-ended"
NAMED_MAX: Final = 5  # in status
HELD_STATE: Final = "held"
ROLE_WORDS: Final = ("", " (BMC)")
DOES: Final = {HOLD: "is held", ONCE: "gets other options for one boot"}
RELEASED: Final = "is released"
WORDS_MAX: Final = 300
Rows = Callable[[list[int]], Awaitable[list[dict[str, Any]]]]


@dataclass(frozen=True, slots=True)
class Target:
    """Rows of one object that have a role."""

    identity: int
    role: int
    name: str
    macs: list[str]
    addresses: list[str]


class Overrides:
    """pair: what is served.  lay(overrides): publishes them, RefreshFailed where that cannot be just now.  refused():
    why this machine takes none, or nothing.  adopted(generation): waits until every worker answers from it.
    rows(MACs): of the boot ledger, of the cards that are there; None where no ledger is kept."""

    def __init__(
        self,
        book: Book,
        pair: Callable[[], Pair | None],
        lay: Callable[[Lay], Awaitable[None]],
        refused: Callable[[], str],
        adopted: Callable[[int], Awaitable[None]],
        note: Note,
        rows: Rows | None = None,
    ) -> None:
        self.rows = rows
        self.book, self.pair, self.lay, self.refused, self.adopted, self.note = book, pair, lay, refused, adopted, note
        self.absent: set[int] = set()  # numbers of those whose object the table does not have
        self.looked_at: Pair | None = None
        self.unlaid = ""  # why the planner has not taken the last change

    def handlers(self) -> dict[str, Handler]:
        return {"hold": self.hold, "once": self.once, "release": self.release, "overrides": self.overrides}

    async def run(self) -> None:
        """For ever: what is over ends, what the disk or the planner did not take is tried again."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Once."""
        over = {each.number: "its time has come" for each in self.book.expired()}
        noted = await self.look_at_boots(over)
        if over:
            gone = [self.book.all[number] for number in over]
            self.book.drop(gone)
            self.book.save()
            for each in gone:
                self.tell(ENDED, each, f"{described(each)}: over, {over[each.number]}")
        elif noted or self.book.fault or self.book.clock_was_set():
            self.book.save()
        if over or self.unlaid:
            with contextlib.suppress(CommandFailed):  # workers that are late: the status names them
                await self.apply()
        if (pair := self.pair()) is not self.looked_at and pair is not None:
            await self.look_for_absent(pair)

    async def look_at_boots(self, over: dict[int, str]) -> bool:
        """Notes in `over` whose boot is over, and why; whether an ACK was seen that has to be kept."""
        onces, noted = [each for each in self.book.onces() if each.number not in over], False
        if not onces or self.rows is None:
            return False
        keys = {number_of(mac): each.number for each in onces for mac in each.macs}
        found: dict[int, list[Mapping[str, Any]]] = {}
        for row in await self.rows(list(keys)):
            found.setdefault(keys[row["mac"]], []).append(row)
        for each in onces:
            if each.number not in self.book.all:
                continue  # released meanwhile
            if each.seen is None:
                self.take_snapshot(each, found.get(each.number, ()))
                noted = True
                continue
            before = each.acked_phase
            why = once.over(each, found.get(each.number, ()), self.book.ahead_s(), self.book.boottime_s())
            noted = noted or each.acked_phase != before
            if why:
                over[each.number] = why
        return noted

    @staticmethod
    def take_snapshot(override: Override, rows: Iterable[Mapping[str, Any]]) -> None:
        """Once workers answer accordingly: what the ledger shows from now on is of the boot that is meant."""
        override.seen = {show_mac(row["mac"]): once.snapshot(row) for row in rows}

    async def apply(self) -> None:
        """Returns when every worker answers accordingly, or the reason why not is in `unlaid`."""
        try:
            await self.publish()
        except RefreshFailed as failed:
            if str(failed) != self.unlaid:
                log.error("the overrides are not in force yet: %s; tried again", failed)
            self.unlaid = str(failed)
            return
        if (pair := self.pair()) is not None:
            await self.adopted(pair.top.number)

    async def publish(self) -> None:
        """Raises RefreshFailed."""
        told = self.book.onces()
        await self.lay(self.book.told())
        self.unlaid = ""
        if not all(each.laid for each in told):
            for each in told:
                each.laid = True
            self.book.save()

    async def look_for_absent(self, pair: Pair) -> None:
        """Which MACs they are about by now; whose object has left the inventory is named once.

        It stays in force: an inventory that loses a record for one reading must not end a hold."""
        self.looked_at, kept = pair, list(self.book.all.values())
        names = {encoded(each.name) for each in kept}
        keys = await asyncio.to_thread(pair.with_names, names) if names else []
        there: dict[tuple[int, int], list[str]] = {}
        for key in keys:
            row = pair.lookup(*key)
            there.setdefault((row["identity"], row["role"]), []).append(show_mac(row["mac"]))
        absent = set()
        for each in kept:
            if each.target in there:
                each.macs = sorted(there[each.target])[:MACS_MAX]
                continue
            absent.add(each.number)
            if each.number not in self.absent:
                words = "the inventory does not have it now; it is held when it comes back"
                self.tell(SET, each, f"{described(each)}: {words}")
        self.absent = absent

    # --- commands ----------------------------------------------------------------------------------------------------

    async def hold(self, arguments: dict[str, Any], _report: Report) -> dict[str, Any]:
        self.check_allowed("hold")
        text = str(arguments.get("host"))
        targets = self.targets("hold", text)
        made = []
        try:
            for each in targets:
                override = Override(
                    number=0, kind=HOLD, identity=each.identity, role=each.role, name=each.name, uid=caller.get().uid,
                    made_s=0.0, because=arguments.get("because", ""), for_s=arguments.get("for"),
                    macs=each.macs, addresses=each.addresses,
                )  # fmt: skip
                self.book.add(override)
                made.append(override)
        except Full as full:
            raise CommandFailed(f"hold: {full}") from full
        return await self.changed(made, SET, DOES[HOLD])

    async def once(self, arguments: dict[str, Any], _report: Report) -> dict[str, Any]:
        """Refused, and nothing kept, where the options cannot be encoded or the host cannot be read."""
        self.check_allowed("once")
        text, until = str(arguments.get("host")), str(arguments.get("until", ""))
        if until and until not in once.UNTIL:
            raise CommandFailed(f"once: until {until[:40]!r}: wanted {' or '.join(once.UNTIL)}")
        if self.rows is None and arguments.get("for") is None:
            raise CommandFailed("once: no boot ledger says when a boot is over; wanted --for as well")
        targets = [each for each in self.targets("once", text) if not each.role]
        if not targets:
            raise CommandFailed(f"once: {text!r} is a BMC; wanted the host")
        override = Override(
            number=0, kind=ONCE, identity=targets[0].identity, role=0, name=targets[0].name, uid=caller.get().uid,
            made_s=0.0, because=arguments.get("because", ""), for_s=arguments.get("for"), macs=targets[0].macs,
            addresses=targets[0].addresses, options=read_options(arguments.get("options")), until=until,
        )  # fmt: skip
        try:
            before = self.book.add(override)
        except Full as full:
            raise CommandFailed(f"once: {full}") from full
        try:
            await self.publish()
        except RefreshFailed as failed:
            self.book.drop([override])
            if before is not None:
                self.book.enter(before)
            await self.apply()
            raise CommandFailed(f"once: {failed}") from failed
        try:
            return await self.changed([override], SET, DOES[ONCE])
        finally:
            if self.rows is not None and override.seen is None:
                self.take_snapshot(override, await self.rows([number_of(mac) for mac in override.macs]))
                self.book.save()

    async def release(self, arguments: dict[str, Any], _report: Report) -> dict[str, Any]:
        self.check_allowed("release")
        gone = self.meant(str(arguments.get("host")))
        if not gone:
            raise CommandFailed(f"release: no override of {arguments.get('host')!r}; `ctl overrides` lists them all")
        self.book.drop(gone)
        return await self.changed(gone, ENDED, RELEASED)

    async def overrides(self, _arguments: dict[str, Any], _report: Report) -> dict[str, Any]:
        rows = [self.told(each) for each in self.book.all.values()]
        return {"overrides": rows, "unsaved": self.book.fault, "unlaid": self.unlaid}

    async def changed(self, changed: list[Override], kind: str, outcome: str) -> dict[str, Any]:
        unsaved = self.book.save()
        for each in changed:
            self.tell(kind, each, f"{described(each, outcome)}, by {caller.get()}")
        await self.apply()
        return {"overrides": [self.told(each) for each in changed], "unsaved": unsaved, "unlaid": self.unlaid}

    def check_allowed(self, command: str) -> None:
        if why := self.refused():
            raise CommandFailed(f"{command}: {why}")

    def tell(self, kind: str, override: Override, words: str) -> None:
        mac = override.macs[0] if override.macs else None
        log.warning("%s", words, extra=about(mac=mac, host=override.name))
        self.note(kind, override.name, mac, words)

    # --- which -------------------------------------------------------------------------------------------------------

    def targets(self, command: str, text: str) -> list[Target]:
        """What a person means: a host's cards; the rows of a MAC and of what has an address are those of its role."""
        pair = self.pair()
        if pair is None:
            raise CommandFailed(f"{command}: there is no table yet: the inventory has not been read")
        try:
            rows = self.rows_meant(pair, text)
        except NotFound as missing:
            raise CommandFailed(f"{command}: {missing}") from missing
        for row in rows:
            if row["state"] == "conflict" and b", " in row["name"]:
                raise CommandFailed(
                    f"{command}: {text!r} belongs to {text_of(row['name'])}, and is not answered anyway"
                )
            if row["identity"] >> 63:
                step = "`ctl refresh` replaces it"
                raise CommandFailed(f"{command}: the table is one of an earlier build, without identities; {step}")
        which = {(row["identity"], row["role"]): row["name"] for row in rows}
        return [self.target(pair, name, *each) for each, name in which.items()]

    def rows_meant(self, pair: Pair, text: str) -> list[dict[str, Any]]:
        """Raises NotFound."""
        mac = parse_mac(text)
        rows = [row for role in (0, 1) if mac is not None and (row := pair.lookup(mac, role)) is not None]
        if rows:
            return rows
        keys = keys_of(pair, text)
        found = [row for key in keys if (row := pair.lookup(*key)) is not None]
        rows = [row for row in found if not row["role"]] or [row for row in found if text_of(row["name"]) != text]
        if not rows:  # a row that is held gives no address
            known = [each for each in self.book.all.values() if each.means(text)]
            macs = [(int(mac.replace(":", ""), 16), each.role) for each in known for mac in each.macs]
            rows = [row for key in macs if (row := pair.lookup(*key)) is not None]
        if not rows:
            of_bmc = "; its BMC is meant by its MAC address" if found else ""
            raise NotFound(
                f"the table has no host {text!r}; wanted a name, a MAC or an IPv4 address that it has{of_bmc}"
            )
        if len({row["identity"] for row in rows}) > 1:
            macs_shown = ", ".join(show_mac(row["mac"]) for row in rows[:MACS_MAX])
            raise NotFound(f"{text!r} is of several objects, with {macs_shown}; wanted one of these")
        return rows

    def target(self, pair: Pair, name: bytes, identity: int, role: int) -> Target:
        found = [row for key in pair.with_name(name) if (row := pair.lookup(*key)) is not None]
        rows = [row for row in found if (row["identity"], row["role"]) == (identity, role)]
        addresses = [str(IPv4Address(lease["address"])) for row in rows for lease in row["leases"] if lease["address"]]
        known = self.book.of(HOLD, (identity, role))
        if not addresses and known is not None:
            addresses = known.addresses
        macs = [show_mac(row["mac"]) for row in rows]
        return Target(identity, role, text_of(name), macs[:MACS_MAX], list(dict.fromkeys(addresses))[:MACS_MAX])

    def meant(self, text: str) -> list[Override]:
        """Overrides of what a person names, also of who has left the table: by name, number, address or MAC."""
        mac = parse_mac(text)
        if mac is not None:
            pair, shown = self.pair(), show_mac(mac)
            rows = [pair.lookup(mac, role) for role in (0, 1)] if pair is not None else []
            now = {(row["identity"], row["role"]) for row in rows if row is not None}
            found = [each for each in self.book.all.values() if each.target in now or (not now and shown in each.macs)]
            if found:
                return found
        return [each for each in self.book.all.values() if each.means(text)]

    # --- views -------------------------------------------------------------------------------------------------------

    def of_card(self, mac: int, role: int) -> list[dict[str, Any]]:
        """For views, of a row of the table."""
        pair = self.pair()
        return [self.told(each) for each in self.of_row(pair.lookup(mac, role))] if pair is not None else []

    def lines(self, mac: int) -> list[str]:
        """A sentence for each of a MAC address."""
        pair = self.pair()
        rows = [pair.lookup(mac, role) for role in (0, 1)] if pair is not None else []
        return [f"{each.name}{ROLE_WORDS[each.role]}: {self.words(each)}" for row in rows for each in self.of_row(row)]

    def of_row(self, row: Mapping[str, Any] | None) -> list[Override]:
        """row: as of Pair.lookup."""
        return list(self.book.by_target.get((row["identity"], row["role"]), ())) if row is not None else []

    def reason(self, mac: str, otherwise: str | None = None) -> str | None:
        """Why nothing is answered to a MAC address, where an operator says so.  otherwise: what the inventory says,
        which stays the reason where it is one by itself."""
        pair = self.pair()
        if pair is None:
            return otherwise
        rows = [pair.lookup(int(mac.replace(":", ""), 16), role) for role in (0, 1)]
        words = [self.words(each) for row in rows for each in self.of_row(row) if each.kind == HOLD]
        if any(row is not None and row["state"] == HELD_STATE for row in rows):
            return "; ".join(words) or "held by an operator, whose release is not published yet"
        return "; ".join([otherwise, *words] if otherwise else words) or None

    def card(self, text: str) -> tuple[int, int] | None:
        """(MAC, role) of what is held and has an address: a row that is not answered gives none."""
        for each in self.book.all.values():
            if text in each.addresses and each.macs:
                return int(each.macs[0].replace(":", ""), 16), each.role
        return None

    def words(self, override: Override) -> str:
        left_s = self.book.left_s(override)
        if override.kind == ONCE:
            said = " ".join(f"{name}={value}" for name, value in override.options)
            return f"for one boot, by uid {override.uid}: {said}"[:WORDS_MAX]
        until = "until it is released" if left_s is None else f"for {lasting(left_s)} more"
        because = f": {override.because}" if override.because else ""
        return f"held by uid {override.uid} {until}{because}"

    def told(self, override: Override) -> dict[str, Any]:
        left_s = self.book.left_s(override)
        return {
            "number": override.number, "kind": override.kind, "host": override.name,
            "role": ("host", "bmc")[override.role], "macs": override.macs,
            "addresses": override.addresses, "uid": override.uid, "because": override.because,
            "made_s": round(override.made_s, 1), "left_s": round(left_s, 1) if left_s is not None else None,
            "absent": override.number in self.absent, "options": override.options, "until": override.until,
        }  # fmt: skip

    def status(self) -> dict[str, Any]:
        kinds = {kind: sum(each.kind == kind for each in self.book.all.values()) for kind in KINDS}
        shown = list(self.book.all.values())[:NAMED_MAX]
        first = [f"{each.name}{ROLE_WORDS[each.role]}: {self.words(each)}" for each in shown]
        return {
            "total": len(self.book.all), "kinds": kinds, "first": first, "absent": len(self.absent),
            "unsaved": self.book.fault, "unlaid": self.unlaid,
        }  # fmt: skip


def described(override: Override, outcome: str = "") -> str:
    """A sentence: what it does, or what became of it."""
    because = f" ({override.because})" if override.because else ""
    until = f" for {lasting(override.for_s)}" if override.for_s is not None and outcome != RELEASED else ""
    said = f": {' '.join(f'{name}={value}' for name, value in override.options)}" if override.options else ""
    outcome = outcome or DOES[override.kind]
    return f"{override.name}{ROLE_WORDS[override.role]} {outcome}{until}{because}{said}"


def number_of(mac: str) -> int:
    return int(mac.replace(":", ""), 16)


def read_options(said: Any) -> list[list[str]]:
    """From NAME=VALUE each.  Raises CommandFailed."""
    found = []
    for text in said or []:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise CommandFailed(f"once: {text[:40]!r}: wanted OPTION=VALUE, such as tftp_filename--ipxe=install.ipxe")
        found.append([name, value])
    if not found:
        raise CommandFailed("once: no options; wanted OPTION=VALUE, such as tftp_filename--ipxe=install.ipxe")
    return found


def open_overrides(
    state_dir: Path,
    table: ServedTable,
    fleet: FleetKeeper,
    adopted: Callable[[int], Awaitable[None]],
    note: Note,
    hosts: Hosts | None,
) -> Overrides:
    """With what the disk has, which the first planner is told of before it publishes anything."""
    book = Book(state_dir, boottime_s, lambda: wall_clock_at_boot_ns() / 1e9, boot_id())
    book.load()
    fleet.overrides = book.told()
    fleet.tell_overrides()

    async def rows(macs: list[int]) -> list[dict[str, Any]]:
        return await hosts.cards(table.pair, macs) if hosts is not None else []

    refused, known = fleet.takes_no_overrides, rows if hosts is not None else None
    return Overrides(book, lambda: table.pair, fleet.lay, refused, adopted, note, known)


def boot_id() -> str:
    """Which boot of the machine this is; where the kernel does not say, none that was before."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
