"""The planner of the machine that leads: it reads the inventory and makes tables that nobody serves yet.

The ordinary planner beside it serves what the head says, as on every other machine: a table that kills workers must not
be in those of the leader before it was tried.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable

from ext.table import Generation, Pair, TableInvalid

from control.config.config import Config
from control.planner.jobs import Planned
from control.service.refresh import Refresher
from control.service.served_table import ServedTable
from control.table.digest import rows_digest
from fastpath.protocol import close_all

log = logging.getLogger("bootstorm.fleet")


class BuiltTable(ServedTable):
    """What was built last, in the place of what is served: no worker has it, and nobody waits for them."""

    def __init__(self, fds: list[int]) -> None:
        """fds: what the fleet serves, borrowed; the next table is a change of that."""
        self.pair: Pair | None = None
        self.pair_fds: list[int] = []
        if fds:
            with contextlib.suppress(TableInvalid):  # of another build: the inventory says it anew
                self.serve(fds)

    def serve(self, fds: list[int]) -> None:
        pair = Pair(Generation(fds[0]), Generation(fds[1]) if len(fds) > 1 else None)
        before, self.pair, self.pair_fds = self.pair_fds, pair, [os.dup(fd) for fd in fds]
        close_all(before)

    def confirm(self, boottime_s: float) -> None:
        """The head says when it was written."""

    async def wait_adopted(self, generation: int, limit_s: float) -> None:
        """At once."""

    def close(self) -> None:
        close_all(self.pair_fds)
        self.pair, self.pair_fds = None, []


class Builder(Refresher):
    """on_built(fds): what the inventory says, after each time that it was read, borrowed."""

    keeps = False

    def __init__(self, config: Config, served: list[int], on_built: Callable[[list[int]], None]) -> None:
        # Numbers above those of every leader before: a base is told from another one by its number first.
        table = BuiltTable(served)
        number = max(int(time.time() * 1000), table.generation)
        super().__init__(config, table, lambda _planned, fds: table.serve(fds), number)
        self.built = table
        self.on_built = on_built

    def on_planned(self, planned: Planned, fds: list[int]) -> None:
        super().on_planned(planned, fds)
        if planned.origin in ("inventory", "overrides") or (planned.origin == "hosts" and planned.published):
            self.again()

    def again(self) -> None:
        if self.built.pair is not None:
            self.on_built(self.built.fds())

    @property
    def digest(self) -> bytes:
        return rows_digest(self.built.pair) if self.built.pair is not None else b""

    async def end(self) -> None:
        self.give_up("this machine does not lead any more")
        await self.end_planner()
        self.built.close()
