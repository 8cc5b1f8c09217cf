"""What is served, seen from the planner: the pair with its fds, the one before the last refresh, and deltas upon it.

Whatever is to be served, of whatever origin, is looked at as a whole first: no address in answered rows of two objects.
The pair is what the inventory says; what workers get may have an operator's overrides laid over it (`shown`).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from ext.addresses import Index, View
from ext.builder import Builder, Surroundings, delta_builder
from ext.rows import Numbers
from ext.table import Changes, Generation, Keys, Pair, compare, new_memfd, row_key

from control.plan.compile import Filler, read_contested
from control.plan.conflicts import conflicts
from control.plan.contexts import Faults
from control.plan.rows import Contested, Row
from fastpath.process.table_proof import name_of

DELTA_ROWS_MAX = 1000  # or a twentieth of the base: beyond that a new base is cheaper for everybody
SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


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
        self.laid_fd = -1  # of a delta in place of the pair's, with rows that an operator has changed; -1: none are
        self.laid: Pair | None = None
        self.over: dict[int, Row] = {}
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

    @property
    def shown(self) -> Pair | None:
        """What workers answer from."""
        return self.laid or self.pair

    def shown_fds(self) -> tuple[int, int]:
        """Base and delta, -1 where there is none; still ours."""
        return self.base_fd, self.laid_fd if self.laid is not None else self.delta_fd

    def shown_name(self) -> str:
        """Of what workers answer from, as name_of()."""
        base_fd, delta_fd = self.shown_fds()
        return name_of(delta_fd if delta_fd >= 0 else base_fd)

    def lay(self, over: Mapping[int, Row], surroundings: Callable[[Pair], Surroundings]) -> bool:
        """What is shown from now on: the pair with other rows in the place of some.  over: by key, each of a row that
        is there.  Whether that has changed.  Raises AnsweredTwice: then what was shown is shown.

        What stands beneath goes with the delta: who starts from it, with or without the inventory, can take each
        override away again."""
        pair = self.pair
        assert pair is not None
        if dict(over) == self.over:
            return False
        around, created_s = surroundings(pair), pair.top.created_s
        if not over:  # under a number of its own: nobody goes back to a lower one
            self.uncover()
            self.delta(rows_of_delta(pair), around, created_s)
            return True
        beneath, builder = Builder(pair.base), rows_of_delta(pair, over.keys())
        for key in over:
            beneath.copy_host(pair.holder_of(key), key)
        Filler(builder).add_all(over.values())
        image = image_of(beneath.seal(self.number + 1, around, created_s=created_s))
        fd, _silenced = self.sealed(pair.base, builder, self.number + 1, around, created_s, image)
        laid = Pair(pair.base, Generation(fd))
        self.uncover()
        self.over = dict(over)
        if self.former is not None and self.former.generation == self.number:
            self.former.generation += 1  # of what that refresh made, this is what anybody sees
        self.number += 1
        self.laid_fd, self.laid = fd, laid
        return True

    def uncover(self) -> None:
        """The pair itself is shown."""
        if self.laid_fd >= 0:
            os.close(self.laid_fd)
        self.laid_fd, self.laid, self.over = -1, None, {}

    def adopt_shown(
        self, base_fd: int, delta_fd: int, surroundings: Callable[[Pair], Surroundings]
    ) -> dict[int, dict[str, Any]]:
        """adopt() of what was shown, of which the pair is what stands beneath the overrides that were laid over it.

        Returns these, by key, as of Pair.lookup."""
        self.adopt(base_fd, delta_fd)
        assert self.pair is not None
        image = self.pair.delta.beneath if self.pair.delta is not None else b""
        if not image:
            return {}
        beneath_fd = sealed_image(image)
        try:
            beneath = Generation(beneath_fd)
        finally:
            os.close(beneath_fd)
        keys = [row_key(*key) for key in beneath.keys()]  # noqa: SIM118 - no mapping
        shown = {key: self.pair.lookup(key) for key in keys}
        builder = rows_of_delta(self.pair, keys)
        for key in keys:
            builder.copy_host(beneath, key)
        self.delta(builder, surroundings(self.pair), self.pair.top.created_s)
        return {key: row for key, row in shown.items() if row is not None}

    def adopt(self, base_fd: int, delta_fd: int, base: Generation | None = None) -> None:
        """Take over both fds as what is served.  base: what is behind base_fd, where that is known."""
        delta = Generation(delta_fd) if delta_fd >= 0 else None
        if base is None and self.pair is not None and base_fd == self.base_fd:
            base = self.pair.base
        self.pair = Pair(base or Generation(base_fd), delta)
        for old in {self.base_fd, self.delta_fd} - {base_fd, delta_fd, -1}:
            os.close(old)
        self.base_fd, self.delta_fd = base_fd, delta_fd
        self.uncover()
        self.number = max(self.number, self.pair.top.number)

    def delta(self, builder: Builder, surroundings: Surroundings, created_s: int) -> Silenced:
        """A new delta upon the present base is what is served.  Raises AnsweredTwice: then nothing has changed."""
        assert self.pair is not None
        fd, silenced = self.sealed(self.pair.base, builder, self.number + 1, surroundings, created_s)
        self.number += 1
        self.adopt(self.base_fd, fd)
        return silenced

    def sealed(
        self,
        base: Generation,
        builder: Builder,
        number: int,
        surroundings: Surroundings,
        created_s: int,
        beneath: bytes = b"",
    ) -> tuple[int, Silenced]:
        """A delta that may be served: rows that contradict each other became conflicts.  Raises AnsweredTwice."""
        index, numbers = self.indexed(base), self.numbers(base)
        hosts = index.hosts_with(builder.answered())
        fd = builder.seal(number, surroundings, created_s=created_s, numbers=numbers, hosts=hosts, beneath=beneath)
        silenced = self.contradictions(base, Generation(fd))
        if not silenced.rows:
            return fd, silenced
        again = rows_of_delta(Pair(base, Generation(fd)), {row.key for row in silenced.rows})
        os.close(fd)
        Filler(again).add_all(silenced.rows)
        hosts = index.hosts_with(again.answered())
        numbers = self.numbers(base)
        fd = again.seal(number, surroundings, created_s=created_s, numbers=numbers, hosts=hosts, beneath=beneath)
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
        self.uncover()
        self.base_fd = self.delta_fd = -1
        self.pair = self.index = None


def image_of(fd: int) -> bytes:
    """All octets of a generation, whose fd is closed."""
    try:
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)


def sealed_image(image: bytes) -> int:
    """The fd of a generation with these octets."""
    fd: int = new_memfd("bootstorm-beneath")
    os.write(fd, image)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SEALS)
    return fd


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
