"""Parts of an inventory -> rows of the table; a part that has not changed since the last refresh is not planned again.

A Segment holds the rows of one batch, natively; assembling some hundred of them, with the conflicts between them,
takes milliseconds.  What decides about a segment: its batch's content, its hosts' contexts, the rules' own digest.
"""

from __future__ import annotations

import hashlib
import time
from array import array
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ext.builder import Builder, identity_of_object
from ext.layout5 import identity_of_name
from ext.leases import LeaseState as State
from ext.table import Pair, row_key

from control.config.config import Dhcp
from control.mac import show_mac
from control.plan.conflicts import conflicts, contested_keys
from control.plan.contexts import Context, Faults
from control.plan.groups import Groups
from control.plan.otherwise import saying
from control.plan.plan import Rules
from control.plan.rows import Claims, Contested, Row
from control.plan.templates import Template
from control.sources.model import CONTAINERS, Batch, Inventory, PartLost, Thing, name_of

REPORT_LINES_MAX = 10_000
Holding = tuple[int, bytes, int]  # address, name and identity of who has it
ROWS_TOLD = 1_000  # planned between two words of progress


@dataclass(slots=True)
class Segment:
    """reasons: MAC -> why it is not answered, the first REPORT_LINES_MAX.  keys, groups: of each row, Groups.of()."""

    digest: bytes
    rows: Builder = field(default_factory=Builder)
    keys: array[int] = field(default_factory=lambda: array("Q"))
    groups: array[int] = field(default_factory=lambda: array("I"))
    faults: Faults = field(default_factory=Faults)
    reasons: dict[str, str] = field(default_factory=dict)
    quarantined: int = 0


@dataclass(slots=True)
class Assembled:
    """All rows, and what there is to say about them."""

    rows: Builder
    faults: Faults
    reasons: dict[str, str]
    quarantined: int
    contested: Contested


class Compiler:
    """Keeps segments and contexts from one refresh to the next.  One configuration for its whole life."""

    def __init__(self, config: Dhcp) -> None:
        self.config = config
        self.segments: dict[str, Segment] = {}
        self.contexts: Mapping[bytes, Context] = {}
        self.groups = Groups()

    def begin(self, frame: Inventory) -> Compilation:
        return Compilation(self, Rules(frame, self.config, self.contexts))

    def keep(self, done: Compilation) -> None:
        """The next refresh may build on this one."""
        self.segments = done.segments | done.stale
        self.contexts = done.rules.contexts.in_use()


class Compilation:
    """One refresh under way."""

    def __init__(self, compiler: Compiler, rules: Rules) -> None:
        self.before = compiler.segments
        self.groups = compiler.groups
        self.rules = rules
        self.digest = rules.digest
        self.segments: dict[str, Segment] = {}
        self.stale: dict[str, Segment] = {}  # of parts that could not be read: as they were at the last read
        self.unread: set[str] = set()  # paths of what could not be read itself
        self.undecided: set[str] = set()  # and of what depends on what could not
        self.remembered: list[Holding] = []  # what those of the stale parts had at the last read
        self.hosts = self.kept_segments = self.planned = self.parts_lost = 0
        self.decided = 0  # things that were planned, and do not depend on what cannot be read
        self.below = dict.fromkeys(rules.frame.unread, 0)  # what cannot be read -> objects that depend on it
        self.doubts = [""] * len(self.below)  # what could not be read, with the reason, and what that costs
        self.places = {path: place for place, path in enumerate(self.below)}  # in doubts
        for path in self.below:
            self.say_unread(path)
        self.parse_s = self.plan_s = 0.0
        # Whether somebody wants something else of an object for its next boot: of a path, its identity and Once.said.
        self.said_by: Callable[[str], tuple[int, Any] | None] | None = None
        self.onces: dict[int, dict[int, Row]] = {}  # what that makes of its rows, by identity and key
        self.on_rows: Callable[[int], None] = lambda _rows: None  # told how many things were planned so far

    def add(self, batch: Batch) -> None:
        started = time.monotonic()
        self.hosts += len(batch.paths)
        digest = self.digest_of(batch)
        known = self.before.get(batch.key)
        if known is not None and known.digest == digest and batch.digest:
            self.segments[batch.key] = known
            self.kept_segments += 1
            self.plan_s += time.monotonic() - started
            return
        segment = Segment(digest)
        try:
            missing, plan_s = self.fill(segment, batch)
        except PartLost as lost:
            self.doubts.append(f"{lost}; its {len(batch.paths)} objects stay as they were")
            self.unread.update(batch.paths)
            self.parts_lost += 1
            if known is not None:
                self.stale[batch.key] = known
                self.remembered += known.rows.holdings(identities(batch.paths))
            return
        self.segments[batch.key] = segment
        segment.faults.include(batch.faults)
        if missing:
            self.note_missing(batch, segment, missing, known)
        self.plan_s += plan_s
        self.parse_s += time.monotonic() - started - plan_s

    @property
    def lost(self) -> set[str]:
        """Paths of what stays as it is served."""
        return self.unread | self.undecided

    def objects_lost(self) -> set[int]:
        """Identities of what stays as it is served.  Not what was listed in a lost part and read in another one."""
        unread = identities(self.unread)
        read = [segment.rows.objects(unread) for segment in self.segments.values()] if unread else []
        return unread.difference(*read) | identities(self.undecided)

    def fill(self, segment: Segment, batch: Batch) -> tuple[set[str], float]:
        """Each thing as it is parsed, while the caches have it.  What is missing, and the seconds of planning."""
        missing = set(batch.paths)
        rules, rows_of_segment, filler = self.rules, segment.rows, Filler(segment.rows)
        frame = rules.frame
        rules.faults = segment.faults
        plan_s, clock = 0.0, time.perf_counter
        for thing in batch.things():
            if thing.path not in missing:
                continue
            started = clock()
            missing.discard(thing.path)
            self.planned += 1
            if not self.planned % ROWS_TOLD:
                self.on_rows(self.planned)
            unread = frame.doubt(thing) if frame.unread else None
            if unread is None:
                rows, claims = rules.plan(thing)
                self.decided += 1
            else:
                rows, claims = rules.undecided(thing, unread)
                self.note_undecided(segment, thing.path, unread)
            group = self.groups.of(frame.parents.get(thing.path, ()), rules.ends) if rows else 0
            for row in rows:
                filler.add(row)
                segment.keys.append(row.key)
                segment.groups.append(group)
                if row.reason and len(segment.reasons) < REPORT_LINES_MAX:
                    segment.reasons.setdefault(show_mac(row.key), row.reason)
            segment.quarantined += unread is None and any(row.state is State.QUARANTINED for row in rows)
            for address, name, path in claims:
                rows_of_segment.add_claim(address, encoded(name), told_apart(path))
            if self.said_by is not None and unread is None:
                self.plan_once(thing)
            plan_s += clock() - started
        rules.faults = Faults()  # or this part's would be told before those of the parts ahead of it
        return missing, plan_s

    def plan_once(self, thing: Thing) -> None:
        """What an operator wants of it for one boot was checked when he said it: what is wrong with it is no fault of
        the inventory's."""
        assert self.said_by is not None
        found, rules = self.said_by(thing.path), self.rules
        if found is None:
            return
        faults, rules.faults = rules.faults, Faults()
        rows, _claims = rules.plan(saying(thing, found[1].said, rules.reader))
        rules.faults = faults
        self.onces[found[0]] = {row.key: row for row in rows}

    def note_undecided(self, segment: Segment, path: str, unread: str) -> None:
        """It stays as it is served, and is planned anew next time."""
        segment.digest = b""
        self.undecided.add(path)
        self.below[unread] += 1
        self.say_unread(unread)

    @property
    def knows_nothing(self) -> bool:
        """Not one part could be read, besides the containers, or everybody in them depends on what could not."""
        undecided = any(self.below.values()) and not self.decided and not self.kept_segments
        nothing = not self.segments or (self.parts_lost > 0 and self.segments.keys() <= {CONTAINERS})
        return bool(self.doubts) and (nothing or undecided)

    def say_unread(self, path: str) -> None:
        """With the reason, and what that costs so far."""
        self.doubts[self.places[path]] = (
            f"{path} cannot be read: {self.rules.frame.unread[path]}; "
            f"{self.below[path]} objects that depend on it stay as they were"
        )

    def note_missing(self, batch: Batch, segment: Segment, missing: set[str], known: Segment | None) -> None:
        """Listed and then not given: an error of that record's, or it moved while we read.  The next read will tell.

        Until then what it had is nobody else's."""
        segment.digest = b""
        self.unread |= missing
        if known is not None:
            for address, holder, identity in known.rows.holdings(identities(missing)):
                segment.rows.add_claim(address, holder, identity)
        names = sorted(map(name_of, missing))
        name = next((name for name in names if name in batch.faults), names[0])
        reason = batch.faults.get(name, ["listed but not given"])[0]
        self.doubts.append(f"{len(missing)} objects of {batch.key} stay as they were: {name} {reason}")

    def digest_of(self, batch: Batch) -> bytes:
        """Of everything that decides about a segment."""
        digest = hashlib.blake2b(self.digest + batch.digest, digest_size=16)
        context, parents = self.rules.context, self.rules.frame.parents
        known: dict[object, bytes] = {}
        parts = []
        for path in batch.paths:
            above = parents.get(path, ())
            said = known.get(above) if above.__class__ is tuple else None
            if said is None:
                said = context(path).digest + b"%d" % self.groups.of(above, "")  # who it is told to be in counts, too
                if above.__class__ is tuple:
                    known[above] = said
            parts.append(path.encode("utf-8", "backslashreplace") + said)
        digest.update(b"\0".join(parts))
        return digest.digest()

    def assemble(self, served: Pair | None, carried: set[int], younger: Younger | None = None) -> Assembled:
        """All segments as one; the rows of the keys in `carried` exactly as they are served now, or not at all."""
        faults = self.rules.all_faults()
        reasons: dict[str, str] = {}
        for segment in (*self.segments.values(), *self.stale.values()):
            faults.include(segment.faults)
            if len(reasons) < REPORT_LINES_MAX:
                reasons |= segment.reasons
        if self.lost and served is not None:
            # What they contested is not in the table: who is in conflict stays so.
            carried = carried.union(row_key(mac, role) for mac, role in served.in_state("conflict"))
        merge = Merge(self, served, carried, younger or Younger())
        builder = merge.rows(frozenset())
        contested = read_contested(*builder.contested())
        losers = conflicts(contested, faults)
        if losers:
            builder = merge.rows(frozenset(losers))
            Filler(builder).add_all(losers.values())
            reasons = {show_mac(row.key): row.reason for row in losers.values()} | reasons
        if served is not None:
            for key in carried:  # of what was not read, or is not decided about, and is answered as it was
                row = served.lookup(key)
                if row is not None and row["state"] == "served":
                    reasons.pop(show_mac(key), None)
        parts = (*self.segments.values(), *self.stale.values())
        return Assembled(builder, faults, reasons, sum(segment.quarantined for segment in parts), contested)


@dataclass(slots=True)
class Younger:
    """What look-ups have read after the last read of the parts that it is in.

    claims: by path, of all objects that were read.  touched: of those among them that were read during this refresh;
    rows: the keys that those look-ups decided about.  What the refresh has read of these may be older."""

    rows: Collection[int] = frozenset()
    claims: Claims = field(default_factory=dict)
    touched: Claims = field(default_factory=dict)


class Merge:
    """Rows of many segments in one Builder.  An object never has a row as it was beside another as it is, or two
    machines could be answered with its address: what is carried stays as it is served, with all other rows of those
    objects.  What was read of it and does not count, and what it had where it cannot be read, are claims."""

    def __init__(self, done: Compilation, served: Pair | None, carried: set[int], younger: Younger) -> None:
        self.done = done
        self.served = served
        rows = [] if served is None else [(key, served.lookup(key)) for key in sorted(carried)]
        self.kept = [key for key, row in rows if row is not None]
        self.objects = {row["identity"] for _key, row in rows if row is not None}
        self.older = frozenset(younger.rows)
        self.held = frozenset(carried) - self.older
        of_unread = {path: claims for path, claims in younger.claims.items() if path in done.unread}
        self.claims: Claims = of_unread | dict(younger.touched)
        self.touched = identities(younger.touched)
        known = identities(self.claims)  # better than by the last read of their part
        lost = done.objects_lost()
        self.remembered = [each for each in done.remembered if each[2] in lost and each[2] not in known]

    def rows(self, left_out: frozenset[int]) -> Builder:
        builder = Builder()
        skipped = left_out | self.older
        for segment in self.done.segments.values():
            builder.append(segment.rows, skipped, self.held, self.objects, self.touched)
        for address, name, identity in self.remembered:
            builder.add_claim(address, name, identity)
        for claims in self.claims.values():
            for address, holder, path in claims:
                builder.add_claim(address, encoded(holder), told_apart(path))
        for key in self.kept:
            if key not in left_out and self.served is not None:
                builder.copy_host(self.served.holder_of(key), key)
        return builder


def read_contested(macs: Mapping[int, Iterable[Any]], addresses: Mapping[int, Iterable[Any]]) -> Contested:
    """macs, addresses: as of Builder.contested(), or View.crossed() and View.twice()."""
    return Contested(
        contested_keys(
            {mac: [(key, decoded(name), thing) for key, name, thing in found] for mac, found in macs.items()}
        ),
        {address: [(key, decoded(name), thing) for key, name, thing in found] for address, found in addresses.items()},
    )


class Filler:
    """Puts rows into a Builder; templates that it has had are known by their content."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.indexes: dict[Template, int] = {}

    def add(self, row: Row) -> None:
        leases = [(address, prefix, self.index(template)) for address, prefix, template in row.leases]
        self.builder.add_host(
            row.key,
            state=int(row.state),
            name=encoded(row.name),
            own=row.own,
            leases=leases,
            thing=told_apart(row.thing),
            port=row.port,
        )

    def add_all(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self.add(row)

    def index(self, template: Template) -> int:
        index = self.indexes.get(template)
        if index is None:
            index = self.indexes[template] = self.builder.add_template(**template.fields())
        return index


def encoded(name: str) -> bytes:
    """As the table keeps a name: half a letter does not stop it, nor does length."""
    return name.encode("utf-8", "backslashreplace")[:255]


def told_apart(thing: str | int) -> bytes | int | None:
    """Row.thing as Builder takes it."""
    return (thing.encode("utf-8", "backslashreplace") or None) if isinstance(thing, str) else thing


def identities(paths: Iterable[str]) -> set[int]:
    """Of objects, as rows bear them; those of the layout before, that knew names alone, too."""
    found = set[int]()
    for path in paths:
        found.add(identity_of_object(path.encode("utf-8", "backslashreplace")))
        found.add(identity_of_name(encoded(name_of(path))))
    return found


def decoded(name: bytes) -> str:
    return name.decode("utf-8", "replace")
