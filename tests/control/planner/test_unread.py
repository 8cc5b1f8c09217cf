"""What cannot be read costs who depends on it, by name, also at a cold start; nobody is given a guess."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

from control.clusto.server.httpd import application
from control.planner.jobs import Failed, Planned
from control.planner.planner import Planner
from control.sources import fetch
from tests.control.clusto.support import new_store
from tests.control.inventories import At, Site
from tests.control.planning import LINKS, Control, Inventory, config, end, mac, site, text
from tests.control.spoiling import http, spoiling
from tests.control.twins import with_twins

POOLS = ("red", "blue")  # odd hosts are in blue, even ones in red
CUT = http('{"object": "/pool/red", ', length=9999)
CRASH = http("Traceback\nKeyError: 'x'", "500 Oops")


@contextmanager
def planning(inventory: Inventory, folder: Path) -> Iterator[tuple[Planner, Control]]:
    control = Control()
    planner = Planner(config(inventory, folder), LINKS, control.send)
    try:
        yield planner, control
    finally:
        end(planner)
        control.close()


def state(control: Control, number: int) -> str | None:
    row = control.pair().lookup(mac(number))
    return None if row is None else row["state"]


def address(control: Control, number: int) -> str:
    row = control.pair().lookup(mac(number))
    assert row is not None
    return ".".join(str(octet) for octet in row["leases"][0]["address"].to_bytes(4, "big"))


def both(inventory: Inventory, **more: Any) -> Site:
    """Eight hosts in red and blue by turns; 9 in both, 10 in a pool inside red, 11 in none."""
    made = site(8, pools=POOLS, **more)
    made.pool("inner", pools=["red"])
    made.host("h9", "10.1.0.90", mac=text(9), pools=POOLS, dhcp={})
    made.host("h10", "10.1.0.91", mac=text(10), pools=["inner"], dhcp={})
    made.host("h11", "10.1.0.92", mac=text(11), dhcp={"enabled": 1})
    made.store_in(inventory.store)
    return made


BELOW, REST = (2, 4, 6, 8, 9, 10), (1, 3, 5, 7, 11)


# --- a container -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [CUT, CRASH, http("[5]"), http('{"object": "/pool/other", "attrs": []}')])
def test_a_container_that_cannot_be_read_at_a_cold_start(inventory: Inventory, tmp_path: Path, raw: bytes) -> None:
    both(inventory)
    inventory.spoiled = {"name=red": raw}
    with planning(inventory, tmp_path) as (planner, control):
        planner.refresh(False)
        assert [state(control, number) for number in REST] == ["served"] * len(REST)
        assert [state(control, number) for number in BELOW] == ["quarantined"] * len(BELOW)
        (doubt,) = control.last.doubts
        assert doubt.startswith("/pool/red cannot be read: ") and doubt.endswith(
            "; 6 objects that depend on it stay as they were"
        )
        reason = control.report()["reasons"][text(10)]
        assert reason.startswith("depends on /pool/red, which cannot be read: ")
        inventory.spoiled = {}
        planner.refresh(False)
        assert {state(control, number) for number in (*BELOW, *REST)} == {"served"} and not control.last.doubts


def test_a_container_that_cannot_be_read_any_more(inventory: Inventory, tmp_path: Path) -> None:
    """Who is below stays as he is, whatever his own record says now; who came is not given what the rest would say."""
    both(inventory)
    with planning(inventory, tmp_path) as (planner, control):
        planner.refresh(False)
        made = both(inventory, changed={1, 2})
        made.host("h12", "10.1.0.93", mac=text(12), pools=POOLS, dhcp={})
        made.things["/server/h9"] = [a for a in made.things["/server/h9"] if a.key != "ip"]
        made.store_in(inventory.store)
        inventory.spoiled = {"name=red": CRASH}
        planner.refresh(False)
        assert (address(control, 1), address(control, 2), address(control, 9)) == (
            "10.1.0.111", "10.1.0.12", "10.1.0.90",
        )  # fmt: skip
        assert [state(control, number) for number in BELOW] == ["served"] * len(BELOW)
        assert state(control, 12) == "quarantined"
        assert control.last.doubts[0].startswith("/pool/red cannot be read: ") and control.last.quarantined == 0
        assert text(2) not in control.report()["reasons"] and "h2" in control.report()["faults"]

        planner.look_up([text(2), text(12)], [])
        assert isinstance(control.last, Planned) and not control.last.published
        planner.look_up([text(4)], ["h9"])
        assert not control.last.published and control.report()["faults"]["h9"]

        inventory.spoiled = {}
        planner.refresh(False)
        assert address(control, 2) == "10.1.0.112" and state(control, 9) == "no-address"
        assert state(control, 12) == "served"


def test_a_glitch_costs_nothing(inventory: Inventory, tmp_path: Path) -> None:
    both(inventory)
    asked = []

    def once(target: str) -> None:
        asked.append(target)
        inventory.spoiled = {"name=red": CRASH} if sum("name=red" in each for each in asked) == 1 else {}

    inventory.on_request = once
    with planning(inventory, tmp_path) as (planner, control):
        planner.refresh(False)
        assert not control.last.doubts and control.last.hosts == 11
        assert not [each for each in asked if "name=h1&" in each or each.endswith("name=h1")], "nobody by himself"


def test_too_many_to_ask_one_by_one(inventory: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "ONE_BY_ONE_MAX", 10)
    both(inventory)
    inventory.spoiled = {"name=red": CRASH}
    with planning(inventory, tmp_path) as (planner, control):
        planner.refresh(False)
        assert isinstance(control.last, Failed) and control.last.kind == "down"
        assert "/pool/red cannot be read" in control.last.reason and "the limit is 10" in control.last.reason


def test_a_host_that_does_not_say_what_it_is_in(inventory: Inventory, tmp_path: Path) -> None:
    """With a container unread and its own record unread, too: it is not taken to be in nothing."""
    both(inventory)
    inventory.spoiled = {"name=red": CRASH, "name=h9": CRASH}
    with planning(inventory, tmp_path) as (planner, control):
        planner.refresh(False)
        assert state(control, 9) is None and state(control, 11) == "served"
        assert any("h9" in doubt for doubt in control.last.doubts)


def test_a_manager_that_cannot_be_read(inventory: Inventory, tmp_path: Path) -> None:
    made = site(3)
    made.network("other", "10.2.0.0/24", "10.2.0.1")
    made.host("far", mac=text(9), dhcp={"enabled": 1})
    made.things["/server/far"] += made.bound(At("10.2.0.9", "other"))
    made.store_in(inventory.store)
    with planning(inventory, tmp_path) as (planner, control):
        inventory.spoiled = {"/resourcemanager/other/attrs": CRASH}
        planner.refresh(False)
        assert (state(control, 1), state(control, 9)) == ("served", "quarantined")
        inventory.spoiled = {}
        planner.refresh(False)
        networks = control.pair().top.networks
        assert state(control, 9) == "served" and len(networks) == 2
        inventory.spoiled = {"/resourcemanager/other/attrs": CRASH}
        planner.refresh(False)
        assert state(control, 9) == "served" and control.last.doubts
        assert planner.served.pair is not None and planner.served.pair.top.networks == networks


# --- a name that stands twice ----------------------------------------------------------------------------------------


def twin_of(kind: str) -> tuple[str, Site, set[int]]:
    """The name, the site with its twin, and whom that costs."""
    made = site(4)
    made.host("h11", "10.1.0.92", mac=text(11), dhcp={"enabled": 1})
    twin = {"mac": text(99), "pools": ["boot"], "dhcp": {}}
    if kind == "hosts in one pool":
        made.host("h3__twin", "10.1.0.99", **twin)  # type: ignore[arg-type]
    elif kind == "hosts with one MAC":
        made.host("h3__twin", "10.1.0.99", **(twin | {"mac": text(3)}))  # type: ignore[arg-type]
    elif kind == "hosts that are alone":
        made.host("h3__twin", "10.1.0.99", mac=text(99), dhcp={"enabled": 1})
    elif kind == "a host without MAC or address":
        made.pool("more", domain="more.example")
        made.host("h3__twin", mac=(), pools=["more"], dhcp={})
    elif kind == "a host and a pool":
        made.pool("h3__twin", domain="twin.example")
        made.put("h1", "h3__twin")
        return "h3", made, {1, 3}
    elif kind == "pools":
        made.pool("boot__twin", enabled=0)
        made.put("h11", "boot__twin")
        return "boot", made, {1, 2, 3, 4, 11}
    elif kind == "a host and a manager":
        made.network("h3__twin", "10.9.0.0/24", "10.9.0.1")
    return "h3", made, {3}


KINDS = (
    "hosts in one pool", "hosts with one MAC", "hosts that are alone", "a host without MAC or address",
    "a host and a pool", "pools", "a host and a manager",
)  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cold", [True, False], ids=["cold", "warm"])
def test_a_name_that_stands_twice_costs_these_two(tmp_path: Path, kind: str, cold: bool) -> None:
    name, content, lost = twin_of(kind)
    if kind == "pools":
        content.host("h12", "10.1.0.93", mac=text(12), dhcp={"enabled": 1})
    store = new_store(tmp_path)
    inventory = Inventory(store)
    with spoiling(application(store), inventory.spoil) as server, planning_at(inventory, server, tmp_path) as found:
        planner, control = found
        if not cold:
            site(4).store_in(store)
            planner.refresh(False)
        server.client_of = lambda: Client(with_twins(application(store), name))
        content.store_in(store)
        planner.refresh(False)
        assert isinstance(control.last, Planned), control.last
        assert any("stands twice" in doubt and name in doubt for doubt in control.last.doubts)
        everybody = {1, 2, 3, 4, 11} | ({12} if kind == "pools" else set())
        assert {number for number in everybody - lost if state(control, number) == "served"} == everybody - lost
        before = "served" if not cold else None
        for number in lost - {11}:
            assert state(control, number) in ((before,) if before else (None, "quarantined")), number
        assert state(control, 99) is None
        for number in (1, 2, 3, 11, 99):  # and every look-up goes on
            planner.look_up([text(number)], [])
            assert isinstance(control.last, (Planned, Failed))
            if number not in lost and number != 99:
                assert isinstance(control.last, Planned) and not control.last.published
            elif isinstance(control.last, Failed):
                assert name in control.last.reason and control.last.kind == "down"
        assert state(control, 99) is None
    store.close()


@contextmanager
def planning_at(inventory: Inventory, server: Any, folder: Path) -> Iterator[tuple[Planner, Control]]:
    inventory.server = server
    with planning(inventory, folder) as found:
        yield found
