"""What is served, seen from the planner: the pair with its fds, the one before the last refresh, and deltas upon it."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ext.builder import Builder, Surroundings, delta_builder
from ext.table import Changes, Generation, Pair, compare, row_key

DELTA_ROWS_MAX = 1000  # or a twentieth of the base: beyond that a new base is cheaper for everybody


@dataclass(slots=True)
class Former:
    """The pair before the last refresh, with fds of its own, and what that refresh changed."""

    pair: Pair
    fds: list[int]
    changes: Changes
    origin: str
    generation: int  # that the refresh made


class Served:
    """Owner of the fds of what is served.  number: of the youngest generation that was ever made."""

    def __init__(self) -> None:
        self.base_fd = self.delta_fd = -1
        self.pair: Pair | None = None
        self.number = 0
        self.former: Former | None = None

    def fds(self) -> list[int]:
        return [fd for fd in (self.base_fd, self.delta_fd) if fd >= 0]

    def adopt(self, base_fd: int, delta_fd: int) -> None:
        """Take over both fds as what is served."""
        delta = Generation(delta_fd) if delta_fd >= 0 else None
        known = self.pair is not None and base_fd == self.base_fd
        base = self.pair.base if self.pair is not None and known else Generation(base_fd)
        self.pair = Pair(base, delta)
        for old in {self.base_fd, self.delta_fd} - {base_fd, delta_fd, -1}:
            os.close(old)
        self.base_fd, self.delta_fd = base_fd, delta_fd
        self.number = max(self.number, self.pair.top.number)

    def delta(self, builder: Builder, surroundings: Surroundings, created_s: int) -> None:
        """A new delta upon the present base is what is served."""
        self.number += 1
        self.adopt(self.base_fd, builder.seal(self.number, surroundings, created_s=created_s))

    def rows_of_delta(self, left_out: set[int]) -> Builder:
        """A Builder with the rows of the present delta, except those of some keys."""
        assert self.pair is not None
        builder = Builder(self.pair.base)
        delta = self.pair.delta
        for mac, role in list(delta.keys()) if delta is not None else []:
            if row_key(mac, role) in left_out:
                continue
            if delta.lookup(mac, role)["state"] == "tombstone":
                builder.add_tombstone(mac, role)
            else:
                builder.copy_host(delta, mac, role)
        return builder

    def take(self, full_fd: int, full: Generation, changes: Changes, surroundings: Surroundings) -> bool:
        """Serve new content: as it is already (False), as a delta on the present base, or as a new base."""
        if self.pair is not None and not changes and self.pair.top.networks == full.networks:
            os.close(full_fd)
            return False
        self.number = max(self.number, full.number)
        if self.pair is not None:
            from_base = compare(Pair(self.pair.base), full) if self.pair.delta is not None else changes
            if len(from_base) <= max(DELTA_ROWS_MAX, self.pair.base.host_count // 20):
                builder = delta_builder(self.pair.base, full, from_base)
                fd = builder.seal(full.number, surroundings, created_s=full.created_s)
                os.close(full_fd)
                self.adopt(self.base_fd, fd)
                return True
        self.adopt(full_fd, -1)
        return True

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

    def go_back(self) -> Changes:
        """Serve the former pair, under its old number: delta(rows_of_delta()) has to follow.  What that changes."""
        assert self.former is not None and self.pair is not None
        changes = compare(self.pair, self.former.pair)
        base_fd, *delta_fd = (os.dup(fd) for fd in self.former.fds)
        number = self.number
        self.adopt(base_fd, delta_fd[0] if delta_fd else -1)
        self.number = number
        return changes
