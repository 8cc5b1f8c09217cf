"""What is served, seen from the planner: the pair with its fds, the one before the last refresh, and deltas upon it.

Whatever is to be served, of whatever origin, is looked at as a whole first: no address in answered rows of two objects.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from ext.addresses import Index, View
from ext.builder import Builder, Surroundings, delta_builder
from ext.rows import Numbers
from ext.table import Changes, Generation, Keys, Pair, compare, row_key

from control.plan.compile import Filler, read_contested
from control.plan.conflicts import conflicts
from control.plan.contexts import Faults
from control.plan.rows import Contested, Row

DELTA_ROWS_MAX = 1000  # or a twentieth of the base: beyond that a new base is cheaper for everybody


class AnsweredTwice(Exception):
    """What was to be served gives an address to two objects, and no rows of conflict help: it is not served."""


@dataclass(slots=True)
class Former:
    """The pair before the last refresh, with fds of its own, and what that refresh changed."""

    pair: Pair
    fds: list[int]
    changes: Changes
    origin: str
    generation: int  # that the refresh made


@dataclass(slots=True)
class Silenced:
    """Rows that were made conflicts because what was to be served contradicted itself."""

    rows: list[Row] = field(default_factory=list)
    faults: Faults = field(default_factory=Faults)
    contested: Contested = field(default_factory=Contested)


class Served:
    """Owner of the fds of what is served.  number: of the youngest generation that was ever made."""

    def __init__(self) -> None:
        self.base_fd = self.delta_fd = -1
        self.pair: Pair | None = None
        self.number = 0
        self.former: Former | None = None
        self.index: Index | None = None  # of the pair's base

    def view(self) -> View:
        """What is served, by address and by object."""
        assert self.pair is not None
        return View(self.pair, self.indexed(self.pair.base))

    def indexed(self, base: Generation) -> Index:
        if self.index is None or self.index.rows is not base:
            self.index = None  # before the next one is made: 16 bytes a row
            self.index = Index(base)
        return self.index

    def numbers(self, base: Generation | None = None) -> Numbers:
        """For the rows of what is to be served.  base: of a delta."""
        pairs = [self.pair, self.former.pair if self.former is not None else None]
        return Numbers([each for pair in pairs if pair is not None for each in (pair.delta, pair.base) if each], base)

    def fds(self) -> list[int]:
        return [fd for fd in (self.base_fd, self.delta_fd) if fd >= 0]

    def adopt(self, base_fd: int, delta_fd: int, base: Generation | None = None) -> None:
        """Take over both fds as what is served.  base: what is behind base_fd, where that is known."""
        delta = Generation(delta_fd) if delta_fd >= 0 else None
        if base is None and self.pair is not None and base_fd == self.base_fd:
            base = self.pair.base
        self.pair = Pair(base or Generation(base_fd), delta)
        for old in {self.base_fd, self.delta_fd} - {base_fd, delta_fd, -1}:
            os.close(old)
        self.base_fd, self.delta_fd = base_fd, delta_fd
        self.number = max(self.number, self.pair.top.number)

    def delta(self, builder: Builder, surroundings: Surroundings, created_s: int) -> Silenced:
        """A new delta upon the present base is what is served.  Raises AnsweredTwice: then nothing has changed."""
        assert self.pair is not None
        fd, silenced = self.sealed(self.pair.base, builder, self.number + 1, surroundings, created_s)
        self.number += 1
        self.adopt(self.base_fd, fd)
        return silenced

    def sealed(
        self, base: Generation, builder: Builder, number: int, surroundings: Surroundings, created_s: int
    ) -> tuple[int, Silenced]:
        """A delta that may be served: rows that contradict each other became conflicts.  Raises AnsweredTwice."""
        index, numbers = self.indexed(base), self.numbers(base)
        hosts = index.hosts_with(builder.answered())
        fd = builder.seal(number, surroundings, created_s=created_s, numbers=numbers, hosts=hosts)
        silenced = self.contradictions(base, Generation(fd))
        if not silenced.rows:
            return fd, silenced
        again = rows_of_delta(Pair(base, Generation(fd)), {row.key for row in silenced.rows})
        os.close(fd)
        Filler(again).add_all(silenced.rows)
        hosts = index.hosts_with(again.answered())
        fd = again.seal(number, surroundings, created_s=created_s, numbers=self.numbers(base), hosts=hosts)
        left = self.contradictions(base, Generation(fd))
        if left.rows:
            os.close(fd)
            raise AnsweredTwice(
                f"the table would answer {len(left.contested.addresses)} addresses and {len(left.contested.macs) // 2} "
                "MACs to several objects, among them "
                f"{'; '.join(dict.fromkeys(row.reason for row in left.rows[:4]))}; what was served serves on"
            )
        return fd, silenced

    def contradictions(self, base: Generation, delta: Generation | None) -> Silenced:
        view = View(Pair(base, delta), self.indexed(base))
        contested = read_contested(view.crossed(), view.twice())
        faults = Faults()
        return Silenced(list(conflicts(contested, faults).values()), faults, contested)

    def rows_of_delta(self, decided: Collection[int] = frozenset(), rows: Collection[Row] = ()) -> Builder:
        """A Builder with the rows of the present delta, but some keys have these rows, or none."""
        assert self.pair is not None
        builder = rows_of_delta(self.pair, decided)
        Filler(builder).add_all(rows)
        for key in set(decided) - {row.key for row in rows}:
            if self.pair.base.lookup(key) is not None:
                builder.add_tombstone(key)
        return builder

    def changes_by(self, rows: Mapping[int, Row], decided: Collection[int]) -> Changes:
        """What it changes if some keys have these rows, or none.  rows: by key."""
        assert self.pair is not None
        pair, builder = self.pair, Builder()
        Filler(builder).add_all(rows[key] for key in sorted(rows))
        fd = builder.seal(1, Surroundings(), created_s=0)
        try:
            told = Generation(fd)
        finally:
            os.close(fd)
        differing = compare(pair, told)
        removed = [(1 << 63) | key for key in sorted(set(decided) - rows.keys()) if pair.lookup(key) is not None]
        return Changes(differing.added, differing.changed, Keys(removed))

    def take(
        self, full_fd: int, full: Generation, changes: Changes, surroundings: Surroundings
    ) -> tuple[bool, Silenced]:
        """Serve new content: as it is already (False), as a delta on the present base, or as a new base.

        Takes full_fd over.  Raises AnsweredTwice: then what was served is served on."""
        pair = self.pair
        # Rows of the layout before this one tell objects apart by name: what knows better replaces all of them.
        converted = pair is not None and (pair.base.is_converted or pair.top.is_converted) and not full.is_converted
        # Which requests are of which of the site's classes is the base's word: a delta cannot change it.
        classes = pair is not None and pair.base.site_classes != full.site_classes
        anew = pair is None or converted or classes
        same = pair is not None and (pair.top.networks, pair.top.shared) == (full.networks, full.shared)
        if same and not changes and not anew:
            os.close(full_fd)
            return False, Silenced()
        try:
            if pair is not None and not anew:
                from_base = compare(Pair(pair.base), full) if pair.delta is not None else changes
                if len(from_base) <= max(DELTA_ROWS_MAX, pair.base.host_count // 20):
                    builder = delta_builder(pair.base, full, from_base)
                    fd, silenced = self.sealed(pair.base, builder, full.number, surroundings, full.created_s)
                    os.close(full_fd)
                    self.number = max(self.number, full.number)
                    self.adopt(self.base_fd, fd)
                    return True, silenced
            delta_fd, silenced = -1, Silenced()
            if self.contradictions(full, None).rows:  # only a delta can silence rows of a base that is sealed
                number = full.number + 1
                delta_fd, silenced = self.sealed(full, Builder(full), number, surroundings, full.created_s)
        except BaseException:
            os.close(full_fd)
            raise
        self.number = max(self.number, full.number)
        self.adopt(full_fd, delta_fd, full)
        return True, silenced

    # --- going back ----------------------------------------------------------------------------------------------

    def remember(self) -> tuple[Pair, list[int]] | None:
        """What is served now, to be kept with keep_former() if it is replaced."""
        return None if self.pair is None else (self.pair, [os.dup(fd) for fd in self.fds()])

    def keep_former(self, remembered: tuple[Pair, list[int]], changes: Changes, origin: str) -> None:
        self.forget_former()
        self.former = Former(*remembered, changes, origin, self.number)

    def forget_former(self) -> None:
        if self.former is not None:
            for fd in self.former.fds:
                os.close(fd)
            self.former = None

    def go_back(self, surroundings: Callable[[Pair], Surroundings]) -> tuple[Changes, Silenced]:
        """What the former pair says is served, under a new number; what that changes.  Raises AnsweredTwice."""
        assert self.former is not None and self.pair is not None
        former, (base_fd, *_) = self.former.pair, self.former.fds
        changes = compare(self.pair, former)
        around, created_s = surroundings(former), former.top.created_s
        fd, silenced = self.sealed(former.base, rows_of_delta(former), self.number + 1, around, created_s)
        self.number += 1
        self.adopt(os.dup(base_fd), fd, former.base)
        return changes, silenced

    def drop(self) -> None:
        """Nothing is served."""
        for fd in self.fds():
            os.close(fd)
        self.base_fd = self.delta_fd = -1
        self.pair = self.index = None


def rows_of_delta(pair: Pair, left_out: Collection[int] = frozenset()) -> Builder:
    """A Builder with the rows of a pair's delta, except those of some keys."""
    builder = Builder(pair.base)
    delta = pair.delta
    for mac, role in list(delta.keys()) if delta is not None else []:
        if row_key(mac, role) in left_out:
            continue
        if delta.lookup(mac, role)["state"] == "tombstone":
            builder.add_tombstone(mac, role)
        else:
            builder.copy_host(delta, mac, role)
    return builder
