"""`bootstorm lint`: an inventory planned as a whole, without a service, and every fault of it, as it is found.

What the service would report, and besides it remarks: what is meant to work, works, and is perhaps not what was meant.
Of the faults those of one batch are in memory, those of containers, and the conflicts.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from itertools import islice
from typing import Final, NamedTuple

from control.clusto.errors import InventoryDown
from control.config.config import Dhcp
from control.plan.classes import SEPARATOR, URL_KEY
from control.plan.compile import Compilation, Compiler, Merge, Younger, read_contested
from control.plan.conflicts import conflicts
from control.plan.contexts import Context, Faults, Merged, is_enabled, is_proxied
from control.plan.networks import SHARED, BadRecord
from control.plan.plan import Rules
from control.sources.by_url import open_source
from control.sources.contract.source import HostsSource
from control.sources.fetch import Progress
from control.sources.filesource import FileSource
from control.sources.model import Batch, Inventory, Source, Thing, name_of
from control.sources.reasons import KINDS, Reason, clipped

BOOT_FILES: Final = {"67": "boot file", URL_KEY: "URL of the boot file"}
LINT_KINDS: Final = KINDS | {
    "unknown-pool": "a pool that is named and has no row; a fault where its name is like another's, else a remark",
    "hidden-value": "a boot file of a host that some classes do not get, since a container says another to them",
    "no-address": "a host with DHCP enabled and without an address",
    "overlap": "two networks that share addresses",
}
NEAR_MAX: Final = 100  # pools whose likes are looked for; each search goes through all
REASON_CHARS_MAX: Final = 1_000
_LINES: Final = re.compile(r"\bline (\d+)")
_DIGITS: Final = re.compile(r"\d+")
OF_ROWS: Final = (FileSource, HostsSource)  # what says things in rows, each of which has a place
Where = Callable[[str], str]
"""Name of an object -> the place of its row; "" where there is none."""


class Finding(NamedTuple):
    """line: of the file, 0: not known.  remark: no fault."""

    object: str
    kind: str
    reason: str
    line: int = 0
    remark: bool = False


class Lint:
    """hosts: planned so far."""

    def __init__(self, source: Source, config: Dhcp) -> None:
        self.source = source
        self.config = config
        self.hosts = 0
        self.told: set[tuple[str, str]] = set()  # faults of containers, which come with each context
        self.contexts = 0  # whose faults were told

    def findings(self) -> Iterator[Finding]:
        """All, in the order of the file as far as that is possible.  One that cannot be read ends with the reason."""
        if isinstance(self.source, OF_ROWS):
            self.source.bad_rows_named = 1 << 62
        try:
            reading = self.source.read()
            work = Compiler(self.config).begin(reading.frame)
            yield from self.of_frame(work)
            for batch in reading.batches:
                yield from self.of_batch(work, batch)
            yield from self.of_pools(reading.frame)
            yield from self.of_conflicts(work)
        except InventoryDown as down:
            lines = _LINES.findall(str(down))  # the last one is where it ends to make sense
            yield Finding("", "unread", str(down), int(lines[-1]) if lines else 0)

    # --- parts -------------------------------------------------------------------------------------------------------

    def of_frame(self, work: Compilation) -> Iterator[Finding]:
        """Containers, whether anything is in them or not, and networks."""
        rules, frame = work.rules, work.rules.frame
        for path, why in frame.unread.items():
            yield finding(name_of(path), Reason(why, "unread"), self.place(name_of(path)))
        for path in frame.managers:
            thing = frame.things[path]
            said = {key: values for key, values in rules.reader.own(thing).items() if key != SHARED}
            rules.reader.payloads(said, rules.manager_faults.blame)
        yield from self.of_faults(rules.manager_faults, self.place)
        managers = set(frame.managers)
        for path in frame.things:
            if path not in managers:
                rules.contexts.of((path,))
        yield from self.of_contexts(work)
        yield from overlaps(work, self.place)

    def of_batch(self, work: Compilation, batch: Batch) -> Iterator[Finding]:
        remarks: list[Finding] = []
        lost = work.parts_lost

        def looked_at() -> Iterator[Thing]:
            for thing in batch.things():
                remarks.extend(self.look_at(work, thing, batch.where))
                yield thing

        work.add(replace(batch, things=looked_at))
        self.hosts += len(batch.paths)
        if work.parts_lost > lost:
            yield Finding(batch.key, "unread", work.doubts[-1])
        segment = work.segments.get(batch.key)
        yield from self.of_contexts(work)
        if segment is not None:
            yield from self.of_faults(segment.faults, lambda name: batch.where(name) or self.place(name))
            segment.faults = Faults()
        yield from remarks

    def look_at(self, work: Compilation, thing: Thing, where: Where) -> Iterator[Finding]:
        """Its options are encoded also where it is not served; and remarks about it."""
        rules = work.rules
        own, context = rules.reader.own(thing), rules.context(thing.path)
        if own:
            rules.reader.payloads(own, rules.faults.blame)
            wider = [context.merged, *said_by_networks(rules, thing, is_proxied_or_off(own, context))]
            yield from self.hidden(thing, own, wider, where, rules.classes.why_nobody)
        try:
            enabled = is_enabled(own.get("enabled", context.enabled)) and is_proxied(own, context) is None
        except BadRecord:  # told as a fault
            return
        if enabled and thing.has_mac() and not thing.addresses():
            said = Reason("dhcp is enabled and no address is bound: it is not answered", "no-address")
            yield finding(thing.name, said, where(thing.name), remark=True)

    def hidden(
        self, thing: Thing, own: Merged, wider: list[Merged], where: Where, why_nobody: Callable[[str, str], str]
    ) -> Iterator[Finding]:
        """A value for a class beats one without, wherever the two stand.

        wider: what is said above the host, what counts first; why_nobody: ClientClasses."""
        nearest: Merged = {}
        for merged in wider:
            nearest = merged | nearest
        for key, what in BOOT_FILES.items():
            if key not in own:
                continue
            winners = [
                values
                for other, values in nearest.items()
                if other.startswith(key + SEPARATOR) and other not in own and values.values != own[key].values
                if not why_nobody(*other.split(SEPARATOR))
            ]
            if winners:
                said = ", ".join(f"{each.subkey} of {each.origin}" for each in winners[:4])
                more = f" and {len(winners) - 4} more" if winners[4:] else ""
                text = (
                    f"dhcp {own[key].subkey}: this {what} is not sent to the classes of {said}{more}: a value for a "
                    "class counts wherever it stands; say it to these classes, too"
                )
                yield finding(thing.name, Reason(text, "hidden-value", own[key].subkey), where(thing.name), remark=True)

    def of_contexts(self, work: Compilation) -> Iterator[Finding]:
        """Of those that are new."""
        for context in islice(work.rules.contexts.by_parents.values(), self.contexts, None):
            self.contexts += 1
            for name, reasons in context.faults.items():
                for reason in reasons:
                    if (name, reason) not in self.told:
                        self.told.add((name, reason))
                        yield finding(name, reason, self.place(name))

    def of_faults(self, faults: Faults, where: Where) -> Iterator[Finding]:
        for name, reasons in faults.items():
            place = where(name)
            for reason in reasons:
                if (name, reason) not in self.told:
                    yield finding(name, reason, place)

    def of_pools(self, frame: Inventory) -> Iterator[Finding]:
        """Those that are only named."""
        if not isinstance(self.source, OF_ROWS):
            return
        read = self.source.last
        described = sorted(name for name in read.containers if name in read.places)
        for at, (name, where) in enumerate(read.only_named().items()):
            near = nearest(name, described) if at < NEAR_MAX else None
            said = f"a pool that has no row, so it says nothing; first named in {where or 'another row'}"
            said += f"; did you mean {near}?" if near else ""
            yield finding(name, Reason(said, "unknown-pool"), where, remark=near is None)

    def of_conflicts(self, work: Compilation) -> Iterator[Finding]:
        """Only the whole shows them."""
        faults = Faults()
        conflicts(read_contested(*Merge(work, None, set(), Younger()).rows(frozenset()).contested()), faults)
        places = self.places_of(faults)
        yield from self.of_faults(faults, lambda name: places.get(name, ""))

    # --- places ------------------------------------------------------------------------------------------------------

    def place(self, name: str) -> str:
        return self.source.last.places.get(name, "") if isinstance(self.source, OF_ROWS) else ""

    def places_of(self, names: Mapping[str, object]) -> dict[str, str]:
        """Of hosts whose batch is gone; the file is read once more."""
        if not isinstance(self.source, FileSource) or not names:
            return {}
        return {row.name: row.where for row in self.source.host_rows() if row.name in names}


def open_lint(config: Dhcp, progress: Progress) -> Lint:
    """Of what dhcp.api_url names."""
    return Lint(open_source(config, progress), config)


def finding(name: str, reason: Reason, place: str, *, remark: bool = False) -> Finding:
    """place: of the object's row."""
    line = reason.line or int(getattr(place, "options", {}).get(reason.about, getattr(place, "line", 0)))
    return Finding(name, reason.kind, clipped(reason, REASON_CHARS_MAX), line, remark)


def is_proxied_or_off(own: Merged, context: Context) -> bool:
    """What a network says does not reach it.  What is wrong with it is told as a fault."""
    try:
        return is_proxied(own, context) is not None or not is_enabled(own.get("enabled", context.enabled))
    except BadRecord:
        return True


def said_by_networks(rules: Rules, thing: Thing, left_out: bool) -> Iterator[Merged]:
    """By those that a host has an address in, and not its BMC."""
    told = set()
    for address in () if left_out else thing.addresses():
        if address.port_name and address.port_name == rules.bmc_port:
            continue
        try:
            manager = rules.usable(address)[1]
        except BadRecord:  # told as a fault
            continue
        if manager.network not in told:
            told.add(manager.network)
            yield dict(manager.said)


def overlaps(work: Compilation, where: Where) -> Iterator[Finding]:
    """Each network with the one before it that reaches furthest."""
    managers = sorted((each.first, -each.last, path, each) for path, each in work.rules.managers.items())
    before = None
    for _first, _last, path, manager in managers:
        if before is not None and manager.first <= before[1].last:
            other, last = before[0], min(before[1].last, manager.last)
            said = (
                f"{manager.network} and {before[1].network} of {name_of(other)} overlap, from "
                f"{IPv4Address(manager.first)} to {IPv4Address(last)}: an address there that names none is in both"
            )
            yield finding(name_of(path), Reason(said, "overlap"), where(name_of(path)), remark=True)
        if before is None or manager.last > before[1].last:
            before = path, manager


def nearest(name: str, others: Iterable[str]) -> str | None:
    """One that it is a misspelling of: names that differ in their numbers are names of different things."""
    numbers = [int(each) for each in _DIGITS.findall(name)]
    alike = [other for other in others if [int(each) for each in _DIGITS.findall(other)] == numbers]
    folded = {other.lower().replace("_", "-"): other for other in alike}
    close = difflib.get_close_matches(name.lower().replace("_", "-"), folded, n=1, cutoff=0.75)
    return folded[close[0]] if close else None
