"""Parts of an inventory -> rows of the table; a part that has not changed since the last refresh is not planned again.

A Segment holds the rows of one batch, natively; assembling some hundred of them, with the conflicts between them,
takes milliseconds.  What decides about a segment: its batch's content, its hosts' contexts, the rules' own digest.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field

from ext.builder import Builder, identity_of_object
from ext.table import Pair, row_key

from control.config.config import Dhcp
from control.mac import show_mac
from control.plan.contexts import Context, Faults
from control.plan.plan import Claims, Contested, Row, Rules, State, conflicts
from control.plan.templates import Template
from control.sources.model import Batch, Inventory, PartLost, name_of

REPORT_LINES_MAX = 10_000
ROWS_TOLD = 1_000  # planned between two words of progress


@dataclass(slots=True)
class Segment:
    """reasons: MAC -> why it is not answered, the first REPORT_LINES_MAX."""

    digest: bytes
    rows: Builder = field(default_factory=Builder)
    faults: Faults = field(default_factory=Faults)
    reasons: dict[str, str] = field(default_factory=dict)
    quarantined: int = 0
    lost: list[str] = field(default_factory=list)  # names whose records could not be read


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
        self.rules = rules
        self.digest = rules.digest
        self.segments: dict[str, Segment] = {}
        self.stale: dict[str, Segment] = {}  # of parts that could not be read: as they were at the last read
        self.gone: dict[str, set[int]] = {}  # keys of rows in those that are not even listed there any more
        self.unread: set[str] = set()  # names that those are about
        self.lost: set[str] = set()  # names that could not be read, and nothing is remembered of them
        self.hosts = self.kept_segments = self.planned = 0
        self.decided = 0  # things that were planned, and do not depend on what cannot be read
        self.below = dict.fromkeys(rules.frame.unread, 0)  # what cannot be read -> objects that depend on it
        self.doubts = [""] * len(self.below)  # what could not be read, with the reason, and what that costs
        self.places = {path: place for place, path in enumerate(self.below)}  # in doubts
        for path in self.below:
            self.say_unread(path)
        self.parse_s = self.plan_s = 0.0
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
            if known is not None:
                self.stale[batch.key] = known
                self.unread.update(map(name_of, batch.paths))
                self.gone[batch.key] = known.rows.keys_of_others({encoded(name_of(path)) for path in batch.paths})
            else:
                self.lost.update(map(name_of, batch.paths))
            return
        self.segments[batch.key] = segment
        segment.faults.include(batch.faults)
        if missing:
            self.note_missing(batch, segment, missing)
        self.plan_s += plan_s
        self.parse_s += time.monotonic() - started - plan_s

    def stale_keys(self) -> set[int]:
        """Of the hosts that stay as they were when their part was read the last time."""
        return {
            key
            for part, segment in self.stale.items()
            for key in segment.rows.keys_of_others(frozenset()) - self.gone[part]
        }

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
                self.note_undecided(segment, thing.name, unread)
            for row in rows:
                filler.add(row)
                if row.reason:
                    segment.quarantined += row.state is State.QUARANTINED and unread is None
                    if len(segment.reasons) < REPORT_LINES_MAX:
                        segment.reasons.setdefault(show_mac(row.key), row.reason)
            for address, name, path in claims:
                rows_of_segment.add_claim(address, encoded(name), told_apart(path))
            plan_s += clock() - started
        rules.faults = Faults()  # or this part's would be told before those of the parts ahead of it
        return missing, plan_s

    def note_undecided(self, segment: Segment, name: str, unread: str) -> None:
        """It stays as it is served, and is planned anew next time."""
        segment.digest = b""
        self.lost.add(name)
        self.below[unread] += 1
        self.say_unread(unread)

    @property
    def knows_nothing(self) -> bool:
        """Not one part could be read, or everybody in them depends on what could not."""
        undecided = any(self.below.values()) and not self.decided and not self.kept_segments
        return bool(self.doubts) and (not self.segments or undecided)

    def say_unread(self, path: str) -> None:
        """With the reason, and what that costs so far."""
        self.doubts[self.places[path]] = (
            f"{path} cannot be read: {self.rules.frame.unread[path]}; "
            f"{self.below[path]} objects that depend on it stay as they were"
        )

    def note_missing(self, batch: Batch, segment: Segment, missing: set[str]) -> None:
        """Listed and then not given: an error of that record's, or it moved while we read.  The next read will tell."""
        segment.digest = b""
        segment.lost = sorted(map(name_of, missing))
        self.lost.update(segment.lost)
        name = next((name for name in segment.lost if name in batch.faults), segment.lost[0])
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
                said = context(path).digest
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
        contested = read_contested(builder)
        losers = conflicts(contested, faults)
        if losers:
            builder = merge.rows(frozenset(losers))
            Filler(builder).add_all(losers.values())
            reasons = {show_mac(row.key): row.reason for row in losers.values()} | reasons
        if served is not None and any(self.below.values()):
            for key in carried:  # undecided, and answered as they were
                row = served.lookup(key)
                if row is not None and row["state"] == "served":
                    reasons.pop(show_mac(key), None)
        parts = (*self.segments.values(), *self.stale.values())
        return Assembled(builder, faults, reasons, sum(segment.quarantined for segment in parts), contested)


@dataclass(slots=True)
class Younger:
    """What look-ups have read after the last read of the parts that it is in.

    rows: keys.  claims: of the objects that were read; touched: of those among them that were read during this refresh,
    so that what it has read of them may be older, too."""

    rows: Collection[int] = frozenset()
    claims: Claims = field(default_factory=dict)
    touched: Claims = field(default_factory=dict)


class Merge:
    """Rows of many segments in one Builder.  An object never has a row as it was beside another as it is, or two
    machines could be answered with its address: what is carried stays as it is served, with all other rows of those
    objects, and a part as it was gives no row of an object that is read in another part.  Nor has it a claim of before
    beside a row of after."""

    def __init__(self, done: Compilation, served: Pair | None, carried: set[int], younger: Younger) -> None:
        self.done = done
        self.served = served
        self.carried = carried
        rows = [] if served is None else [(key, served.lookup(key)) for key in sorted(carried)]
        self.kept = [key for key, row in rows if row is not None]
        self.objects = {row["identity"] for _key, row in rows if row is not None}
        self.looked_up = frozenset(younger.rows)
        of_stale = {path: claims for path, claims in younger.claims.items() if name_of(path) in done.unread}
        self.claims: Claims = of_stale | dict(younger.touched)
        self.claimants = {identity_of(path) for path in self.claims}
        self.touched = {identity_of(path) for path in younger.touched}
        self.elsewhere: set[int] = set()  # objects that are in a part as it was, and in another as it is
        if done.stale:
            stale = set[int]().union(*(segment.rows.objects() for segment in done.stale.values()))
            self.elsewhere = set[int]().union(*(segment.rows.objects(stale) for segment in done.segments.values()))

    def rows(self, left_out: frozenset[int]) -> Builder:
        builder = Builder()
        skipped = left_out.union(self.carried)
        for segment in self.done.segments.values():
            builder.append(segment.rows, skipped, self.objects, self.touched)
        for part, segment in self.done.stale.items():
            gone = skipped.union(self.done.gone[part], self.looked_up)
            builder.append(segment.rows, gone, self.objects | self.elsewhere, self.claimants)
        for claims in self.claims.values():
            for address, name, path in claims:
                builder.add_claim(address, encoded(name), told_apart(path))
        for key in self.kept:
            if key not in left_out and self.served is not None:
                builder.copy_host(self.served.holder_of(key), key)
        return builder


def read_contested(builder: Builder) -> Contested:
    macs, addresses = builder.contested()
    return Contested(
        {key: [(decoded(name), thing) for name, thing in found] for key, found in macs.items()},
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


def identity_of(path: str) -> int:
    """As rows and claims bear it."""
    return int(identity_of_object(path.encode("utf-8", "backslashreplace")))


def decoded(name: bytes) -> str:
    return name.decode("utf-8", "replace")
