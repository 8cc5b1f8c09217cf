"""control/planner/report.py and plan/groups.py: which containers each row's object is in, and where its boots end."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Any

from control.planner.planner import Planner
from tests.control.inventories import Site
from tests.control.planning import Control, Inventory, mac, refresh, site, text
from tests.control.spoiling import http

CRASH = http("no", "500 Oops")


def told(control: Control, number: int, before: Mapping[str, Any] | None = None) -> Any:
    """(names of the containers, where boots end) of a host's row.  before: what a report before said."""
    report = {**(before or {}), **control.report()}
    placed = array("I", report["placed"])
    row = control.pair().number_of(mac(number))
    group = placed[row] if row < len(placed) else 0
    if group == 0:
        return None
    paths, ends = report["groups"][group - 1]
    return [path.rpartition("/")[2] for path in paths], ends


def test_each_row_is_told_with_its_containers(planner: Planner, control: Control, inventory: Inventory) -> None:
    refresh(planner, inventory, site(6, pools=("a", "b")))
    assert [told(control, number) for number in (1, 2, 3)] == [(["b"], ""), (["a"], ""), (["b"], "")]


def test_who_moves_to_a_pool_that_says_the_same_is_told(
    planner: Planner, control: Control, inventory: Inventory
) -> None:
    refresh(planner, inventory, site(6, pools=("a", "b")))
    content = site(6, gone={1}, pools=("a", "b"))
    content.host("h1", "10.1.0.11", mac=text(1), pools=["a"], dhcp={})
    refresh(planner, inventory, content)
    assert told(control, 1) == (["a"], "")


def test_what_has_not_changed_is_not_told_again(planner: Planner, control: Control, inventory: Inventory) -> None:
    refresh(planner, inventory, site(6))
    planner.refresh(True)
    assert "placed" not in control.report() and control.report()["groups"]


def test_a_look_up_tells_of_its_row(planner: Planner, control: Control, inventory: Inventory) -> None:
    refresh(planner, inventory, site(6, pools=("a", "b")))
    before = control.report()
    content = site(7, pools=("a", "b"))
    content.store_in(inventory.store)
    planner.look_up([text(7)], [])
    assert told(control, 7, before) == (["b"], "") and told(control, 2, before) == (["a"], "")
    assert "groups" not in control.report(), "a site has thousands, and strangers come all the time"
    content.pool("c", enabled=1)
    content.host("h8", "10.1.0.18", mac=text(8), pools=["c"], dhcp={})
    content.store_in(inventory.store)
    planner.look_up([text(8)], [])
    assert told(control, 8) == (["c"], "") and told(control, 2) == (["a"], "")


def doubted(control: Control, hosts: int) -> list[int]:
    """Numbers of the hosts that the last report has in doubt."""
    doubtful = array("I", control.report()["doubtful"])
    numbers = [control.pair().number_of(mac(host)) for host in range(1, hosts + 1)]
    return [host for host, row in enumerate(numbers, 1) if row and row < len(doubtful) and doubtful[row]]


def test_what_stays_as_it_was_is_told_by_row(planner: Planner, control: Control, inventory: Inventory) -> None:
    """A pool that cannot be read; a look-up takes a host out of it; and then it can be read again."""
    refresh(planner, inventory, site(6, pools=("red", "blue")))
    assert control.report()["doubtful"] == b""
    inventory.spoiled = {"name=red&prefetch_attrs": CRASH}
    planner.refresh(False)
    assert doubted(control, 6) == [2, 4, 6] and control.last.kept_hosts == 3
    content = site(6, gone={2}, pools=("red", "blue"))
    content.host("h2", "10.1.0.12", mac=text(2), pools=["blue"], dhcp={})
    content.store_in(inventory.store)
    inventory.spoiled = {}
    planner.look_up([text(2)], [])
    assert doubted(control, 6) == [4, 6]
    planner.refresh(False)
    assert control.report()["doubtful"] == b""


def test_where_boots_end(planner: Planner, control: Control, inventory: Inventory) -> None:
    content = Site()
    content.pool("a", enabled=1, boot_ends="rom")
    content.host("h1", "10.1.0.11", mac=text(1), pools=["a"], dhcp={})
    content.host("h2", "10.1.0.12", mac=text(2), pools=["a"], dhcp={"boot_ends": "os"})
    content.host("h3", "10.1.0.13", mac=text(3), pools=["a"], dhcp={"boot_ends": "never"})
    refresh(planner, inventory, content)
    assert [told(control, number)[1] for number in (1, 2, 3)] == ["rom", "system", "rom"]
    assert "boot_ends = never: wanted one of rom, ipxe, os" in control.report()["faults"]["h3"][0].replace("'", "")
