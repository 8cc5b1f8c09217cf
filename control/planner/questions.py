"""What control asks the planner without having anything published: what a refresh changed, and who said what."""

from __future__ import annotations

import logging
import os

from control.clusto.errors import InventoryDown
from control.plan.origins import found_origins
from control.planner.jobs import Listed, OriginsFound
from control.planner.planner import Planner
from control.planner.report import write_memfd
from control.table.changes import describe_changes

log = logging.getLogger("bootstorm.planner")


def list_changes(planner: Planner, offset: int, limit: int) -> None:
    former, pair = planner.served.former, planner.served.pair
    if former is None or pair is None:
        reason = "there was no refresh since control's planner started that changed anything"
        planner.fail("nothing", reason, "changes")
        return
    rows = describe_changes(former.pair, pair, former.changes, offset, limit)
    fd = write_memfd(rows)
    planner.send(Listed(generation=former.generation, origin=former.origin, total=len(former.changes)), [fd])
    os.close(fd)


def find_origins(planner: Planner, leases: list[tuple[int, int]]) -> None:
    """By what the inventory says now, whatever is served."""
    frame = planner.frame
    if frame is None:
        planner.send(OriginsFound(failed="the inventory has not been read as a whole yet"))
        return
    try:
        config = planner.config.dhcp
        found = found_origins(lambda macs: planner.source.read_hosts(macs, [], frame), config, leases)
    except InventoryDown as down:
        planner.send(OriginsFound(failed=str(down)))
    except Exception as bug:  # somebody wants to know something: that must not end who plans
        log.exception("origins of %s", leases)
        planner.send(OriginsFound(failed=f"internal fault: {type(bug).__name__}: {bug}"))
    else:
        fd = write_memfd(found)
        planner.send(OriginsFound(), [fd])
        os.close(fd)
