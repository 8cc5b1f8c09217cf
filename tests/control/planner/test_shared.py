"""Networks on one link, from the inventory into what is served: published, kept over everything else that publishes."""

from __future__ import annotations

from pathlib import Path

from control.plan.networks import group_number
from control.planner.jobs import Planned
from control.planner.planner import Planner
from tests.control.inventories import Site
from tests.control.planning import OTHER_LINKS, Control, Inventory, refresh, site, text
from tests.control.spoiling import http

A, B = (0x0A010000, 0x0A0100FF), (0x0A020000, 0x0A0200FF)
CRASH = http("Traceback\nKeyError: 'x'", "500 Oops")


def grouped(*, group: str = "v", hosts: int = 6, other: bool = True) -> Site:
    made = site(hosts)
    made.things["/resourcemanager/net"] = []
    made.network("net", "10.1.0.0/24", "10.1.0.1", **({"shared": group} if group else {}))
    made.network("second", "10.2.0.0/24", **({"shared": "v"} if other else {}))
    return made


def shared(planner: Planner) -> list[tuple[int, int, int]]:
    assert planner.served.pair is not None
    return list(planner.served.pair.top.shared)


BOTH = [(*A, group_number("v")), (*B, group_number("v"))]


def test_a_group_alone_is_published(planner: Planner, control: Control, inventory: Inventory) -> None:
    refresh(planner, inventory, grouped(group="", other=False))
    assert shared(planner) == []
    refresh(planner, inventory, grouped())
    assert isinstance(control.last, Planned) and control.last.published and control.last.changed == 0
    assert shared(planner) == BOTH
    refresh(planner, inventory, grouped())
    assert not control.last.published
    refresh(planner, inventory, grouped(group="", other=False))
    assert control.last.published and shared(planner) == []


def test_groups_stay_over_interfaces_look_ups_and_go_back_with_a_rollback(
    planner: Planner, control: Control, inventory: Inventory
) -> None:
    refresh(planner, inventory, grouped())
    planner.relink(OTHER_LINKS)
    assert shared(planner) == BOTH
    grouped(hosts=7).store_in(inventory.store)
    planner.look_up([text(7)], [])
    assert control.last.published and shared(planner) == BOTH
    refresh(planner, inventory, grouped(hosts=8, group="w"))
    assert (*A, group_number("w")) in shared(planner)
    planner.rollback()
    assert control.last.origin == "rollback" and shared(planner) == BOTH


def test_groups_are_there_at_a_cold_start(
    planner: Planner, control: Control, inventory: Inventory, tmp_path: Path
) -> None:
    refresh(planner, inventory, grouped())
    again = Planner(planner.config, planner.links, control.send)
    again.load_from_disk()
    assert shared(again) == BOTH
    again.served.drop()
    again.reader.shutdown()


def test_a_network_that_cannot_be_read_stays_in_its_group(
    planner: Planner, control: Control, inventory: Inventory
) -> None:
    """Its hosts would be sent a NAK for the addresses that they have."""
    refresh(planner, inventory, grouped())
    inventory.spoiled = {"/second/attrs": CRASH}
    planner.refresh(False)
    assert control.last.doubts and "second cannot be read" in control.last.doubts[0]
    assert shared(planner) == BOTH
    assert not any("no other network" in each for said in control.report()["faults"].values() for each in said)
    grouped(group="").store_in(inventory.store)
    planner.refresh(False)
    assert shared(planner) == [BOTH[1]], "what can be read counts"
