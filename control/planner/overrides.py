"""A change of the overrides: what is not known of them is read, then they are laid over the table and published."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ext.table import compare

from control.clusto.errors import InventoryDown
from control.plan.compile import identities
from control.plan.otherwise import planned_otherwise
from control.planner.jobs import Laid, Lay
from control.planner.planner import Planner


class Refused(Exception):
    """What an operator wants cannot be laid over the table; says why."""


def obey(planner: Planner, wanted: Lay) -> None:
    """And say what became of it."""
    try:
        lay(planner, wanted.holds, wanted.onces)
    except Refused as why:
        planner.fail("refused", str(why), "overrides")
    else:
        planner.send(Laid())


def lay(planner: Planner, holds: Iterable[Iterable[int]], onces: Iterable[Sequence[Any]] = ()) -> None:
    """These overrides are in force from now on, and no others: published at once, but for those that cannot be planned.

    Raises Refused for the first of these."""
    overlay, served = planner.overlay, planner.served
    overlay.set(holds, onces)
    refused: Refused | None = None
    for identity in [each for each in overlay.onces if each not in overlay.planned]:
        try:
            plan_once(planner, identity)
        except Refused as why:
            refused = refused or why
    before = served.shown
    if before is not None and planner.show():
        assert served.shown is not None
        planner.publish("overrides", before.top.created_s, compare(before, served.shown))
    if refused is not None:
        raise refused


def plan_once(planner: Planner, identity: int) -> None:
    """By what the inventory says of the host now.  Raises Refused."""
    once = planner.overlay.onces[identity]
    if planner.frame is None:
        raise Refused("the inventory has not been read as a whole yet; try again after the first refresh")
    try:
        inventory = planner.source.read_hosts([], [once.name], planner.frame)
    except InventoryDown as down:
        raise Refused(f"{once.name} cannot be read: {down}") from down
    path = next((path for path in inventory.fresh if path and identity in identities([path])), "")
    if path not in inventory.things or path in inventory.lost:
        raise Refused(f"{once.name} cannot be read: {inventory.lost.get(path, 'the inventory does not have it now')}")
    rows, faults = planned_otherwise(inventory, planner.config.dhcp, path, once.said)
    if faults:
        raise Refused("; ".join(faults))
    planner.overlay.take(identity, {row.key: row for row in rows})
    if planner.served.pair is not None and not planner.overlay.has_rows(identity, planner.served.view()):
        del planner.overlay.planned[identity]
        step = f"`ctl refresh --host {once.name}`, then again"
        raise Refused(f"the inventory says other addresses of {once.name} than the table, or none: {step}")
