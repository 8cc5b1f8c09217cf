"""A table that another machine of the fleet made: checked like one of our own, and served with our own interfaces."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ext.table import Generation, Pair, TableInvalid, compare

from control.plan.contexts import Faults
from control.plan.guards import shrinking
from control.planner.jobs import TableChecked
from control.planner.planner import NO_CHANGES, Planner
from control.planner.served import AnsweredTwice, rows_of_delta
from control.table.digest import rows_digest
from control.table.file import TableStore, present_pair
from fastpath.protocol import close_all

WRONG, GUARDED = "table-wrong", "guarded"  # control.fleet.wire.Reason


class Foreign:
    """The one that was checked last, until it is served or another takes its place."""

    def __init__(self, planner: Planner) -> None:
        self.planner = planner
        self.digest = b""
        self.fds: list[int] = []
        self.pair: Pair | None = None

    def check(self, fds: list[int], digest: bytes) -> None:
        """fds are borrowed."""
        self.forget()
        reason, said = self.fault_of(fds, digest)
        self.planner.send(TableChecked(digest=digest, reason=reason, said=said))

    def fault_of(self, fds: list[int], digest: bytes) -> tuple[str, str]:
        """(reason, sentence), or two empty ones: then it is kept."""
        planner = self.planner
        try:
            base_fd, delta_fd = present_pair(fds)
        except (TableInvalid, IndexError) as damage:
            return WRONG, str(damage)
        ours = [base_fd, delta_fd] if delta_fd >= 0 else [base_fd]
        try:
            pair = Pair(Generation(base_fd), Generation(delta_fd) if delta_fd >= 0 else None)
        except TableInvalid as damage:
            close_all(ours)
            return WRONG, str(damage)
        if rows_digest(pair) != digest:
            close_all(ours)
            return WRONG, "it has other rows than the head says"
        served = planner.served
        if served.pair is not None:
            changes = compare(served.pair, pair)
            refusal = shrinking(served.view(), pair, changes, planner.config.dhcp.max_shrink)
            if refusal is not None:
                close_all(ours)
                return GUARDED, refusal
        self.digest, self.fds, self.pair = digest, ours, pair
        return "", ""

    def serve(self, digest: bytes) -> None:
        """As relink() does it with a table of ours."""
        planner, served, pair = self.planner, self.planner.served, self.pair
        if pair is None or digest != self.digest:
            planner.fail("nothing", "no such table was checked", "fleet")
            return
        top = pair.top
        former = served.remember()
        number = max(served.number, pair.base.number, top.number) + 1
        try:
            around = planner.surroundings(top.networks, top.shared)
            fd, silenced = served.sealed(pair.base, rows_of_delta(pair), number, around, top.created_s)
        except AnsweredTwice as refused:
            close_all(former[1] if former is not None else [])
            planner.refuse(refused, "fleet")
            return
        changes = compare(former[0], Pair(pair.base, Generation(fd))) if former is not None else NO_CHANGES
        served.number = number
        served.adopt(os.dup(self.fds[0]), fd, pair.base)
        if former is not None:
            served.keep_former(former, changes, "fleet")
        planner.unpin()
        planner.confirmed_s = float(top.created_s)
        planner.publish("fleet", planner.confirmed_s, changes, report=planner.report_with(silenced, Faults(), {}))
        self.forget()

    def forget(self) -> None:
        close_all(self.fds)
        self.digest, self.fds, self.pair = b"", [], None


class NoStore(TableStore):
    """Of a planner whose tables are served by nobody yet: the disk stays as it is."""

    def __init__(self, state_dir: Path) -> None:
        super().__init__(state_dir)

    def pinned_s(self) -> float:
        return 0.0

    def left(self) -> str:
        return ""

    def unpin(self) -> None:
        """Nothing is pinned."""

    def load(self) -> None:
        """Nothing."""

    def save(self, *_table: Any) -> str:
        return ""
