"""What the planner says beside a table: faults, reasons, and which containers each row's object is in."""

from __future__ import annotations

import os
from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

import msgpack
from ext.rows import grouped
from ext.table import Pair

from control.plan.compile import Compilation
from control.plan.groups import UNKNOWN, Groups
from control.plan.rows import Row
from control.planner.faultlist import listed, packed_faults
from control.sources.model import Inventory

REPORT_LINES_MAX = 10_000


def write_report(
    faults: Mapping[str, Sequence[str]],
    reasons: dict[str, str],
    answered: Iterable[str] = (),
    read: Iterable[str] = (),
    more: Mapping[str, Any] | None = None,
) -> int:
    """A memfd with msgpack: {"faults": {name: [reason]}, "reasons": {mac: reason}}, of each the first lines.

    answered: MACs that have no such reason any more.  read: of a look-up, names of the objects that were read, whose
    faults are those of this report alone.  "book": all faults, as bytes (control/planner/faultlist.py).
    more: of Whereabouts."""
    report: dict[str, Any] = {
        "faults": {name: listed(faults, name) for name in islice(faults, REPORT_LINES_MAX)},
        "reasons": dict(list(reasons.items())[:REPORT_LINES_MAX]),
        "faults_total": len(faults),
        "answered": list(answered)[:REPORT_LINES_MAX],
    }
    if faults:  # an older control that waits for its upgrade takes one object of msgpack, and passes over these keys
        report["book"], report["book_left_out"] = packed_faults(faults)
    if names := list(read)[:REPORT_LINES_MAX]:
        report["read"] = names
    return write_memfd(report | dict(more or {}))


def write_memfd(content: Any) -> int:
    fd = os.memfd_create("bootstorm-report", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(fd), "wb") as file:
        msgpack.pack(content, file, unicode_errors="backslashreplace")
    return fd


class Whereabouts:
    """The group of each row number, and which are in doubt, as control was told last."""

    def __init__(self) -> None:
        self.placed = self.doubtful = b""
        self.groups: list[list[Any]] | None = None

    def of_refresh(self, pair: Pair, done: Compilation, doubted: Collection[int]) -> dict[str, Any]:
        """ "placed": all, unless that is as it was; "groups": what they are; "doubtful": 1 of each row number that
        stays as it was, empty where none does.  doubted: keys of these."""
        self.doubtful = grouped(pair, [(array("Q", doubted), array("I", [1]) * len(doubted))]) if doubted else b""
        return {"doubtful": self.doubtful} | self.placed_now(pair, done)

    def placed_now(self, pair: Pair, done: Compilation) -> dict[str, Any]:
        if self.placed and done.kept_segments == len(done.segments):
            return self.groups_now(done.groups, done.rules.frame)
        parts = [(part.keys, part.groups) for part in (*done.segments.values(), *done.stale.values())]
        self.placed = grouped(pair, parts, self.placed)
        return {"placed": self.placed} | self.groups_now(done.groups, done.rules.frame)

    def groups_now(self, groups: Groups, inventory: Inventory) -> dict[str, Any]:
        self.groups = groups.told(inventory)
        return {"groups": self.groups}

    def of_look_up(self, pair: Pair, rows: Mapping[int, Row], inventory: Inventory, groups: Groups) -> dict[str, Any]:
        """The same of some rows, of what it changes: where their boots end stays as the last refresh has read it.

        A site has a group for each rack, and strangers are looked up all the time: what control knows is not told
        anew."""
        ends = {number: ends for (_parents, ends), number in groups.numbers.items()}
        known = array("I", self.placed)
        keys, found = array("Q"), array("I")
        for key, row in rows.items():
            if not isinstance(row.thing, str):
                continue
            number = pair.number_of(key & (1 << 48) - 1, key >> 48) if pair.lookup(key) is not None else 0
            before = ends.get(known[number] if number < len(known) else UNKNOWN, "")
            keys.append(key)
            found.append(groups.of(inventory.parents.get(row.thing, ()), before))
        if not keys:
            return {}
        told: dict[str, Any] = {}
        placed, before_it = grouped(pair, [(keys, found)], self.placed), self.groups
        if placed != self.placed:
            told["placed"] = self.placed = placed
        told |= self.groups_now(groups, inventory)
        if told["groups"] == before_it:
            del told["groups"]
        if self.doubtful:  # what was read and decided about is in doubt no more
            self.doubtful = grouped(pair, [(keys, array("I", [0]) * len(keys))], self.doubtful)
            told["doubtful"] = self.doubtful
        return told
