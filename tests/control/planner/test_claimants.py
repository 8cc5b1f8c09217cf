"""Who has something together with a host that is looked up: known by name though it cannot be read, read only for that,
or not read at all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control.planner.planner import Planner
from tests.control.inventories import At, Site
from tests.control.moving import addresses_of, check, rows_of
from tests.control.planning import LINKS, Control, Inventory, config, end, refresh, site, text
from tests.control.spoiling import http

OOPS = http("Traceback\nKeyError: 'x'", "500 Oops")


def states(control: Control) -> dict[str, tuple[str, list[int]]]:
    """Name -> state and last octets of the addresses."""
    rows = rows_of(control.pair()).values()
    return {row["name"].decode(): (row["state"], [address & 255 for address in addresses_of(row)]) for row in rows}


# --- who cannot be read -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(OOPS, id="status-500"),
        pytest.param(http('{"object": "/'), id="cut-off"),
        pytest.param(http(json.dumps({"object": "/server/other", "attrs": [], "parents": []})), id="another-object"),
        pytest.param(http(json.dumps({"object": "/networkswitch/z", "attrs": 5})), id="malformed"),
    ],
)
@pytest.mark.parametrize("owner", ["switch", "disabled"])
def test_an_address_of_who_is_known_by_name_alone(
    planner: Planner, control: Control, inventory: Inventory, owner: str, answer: bytes
) -> None:
    """In no table, and its document fails: the answer to the question who has the address names it."""

    def content(*addresses: str) -> Site:
        made = site()
        of_owner: dict[str, Any] = {"mac": (), "type_": "networkswitch"} if owner == "switch" else {"mac": text(99)}
        made.host("z", "10.1.0.70", dhcp={"enabled": 0}, **of_owner)
        if addresses:
            made.host("new", *addresses, mac=text(50), pools=["boot"], dhcp={})
        return made

    refresh(planner, inventory, content())
    content("10.1.0.70").store_in(inventory.store)
    inventory.spoiled = {"name=z": answer}
    planner.look_up([text(50)], [])
    assert states(control)["new"] == ("conflict", [])
    assert control.report()["reasons"][text(50)] == "address 10.1.0.70 belongs to new and z"
    assert "cannot be read" in " ".join(control.report()["faults"]["z"])
    inventory.spoiled = {}
    content("10.1.0.71").store_in(inventory.store)
    planner.look_up([text(50)], [])
    assert states(control)["new"] == ("served", [71])


def test_who_cannot_be_read_has_the_addresses_that_were_asked_for_and_no_others(
    planner: Planner, control: Control, inventory: Inventory
) -> None:
    """Of all hosts below a container only the one is in conflict."""
    content = site()
    content.host("z", "10.1.0.14", mac=(), type_="networkswitch", dhcp={})
    refresh(planner, inventory, site())
    content.store_in(inventory.store)
    inventory.spoiled = {"name=z": OOPS}
    planner.look_up([], ["boot"])
    found = states(control)
    assert found.pop("h4") == ("conflict", [])
    assert found == {f"h{n}": ("served", [10 + n]) for n in (1, 2, 3, 5, 6)}
    check(control.pair())


def test_whose_name_stands_twice_has_its_address(planner: Planner, control: Control, inventory: Inventory) -> None:
    refresh(planner, inventory, site())
    content = site()
    content.host("new", "10.1.0.70", mac=text(50), pools=["boot"], dhcp={})
    content.store_in(inventory.store)

    def twice(target: str) -> None:
        asked = "get_entities" in target and "10.1.0.70" in target
        inventory.spoiled = {"get_entities": http(json.dumps(["/server/new", "/x/z", "/x/z"]))} if asked else {}

    inventory.on_request = twice
    planner.look_up([text(50)], [])
    assert states(control)["new"] == ("conflict", [])


# --- who was not read -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["served", "disabled"])
def test_a_mac_of_a_third_host_that_nobody_read(
    planner: Planner, control: Control, inventory: Inventory, state: str
) -> None:
    """h1 takes the address of h2, which moved on, and bears the MAC of h3 by a typo."""
    refresh(planner, inventory, site())
    content = site(gone={1, 2})
    content.host("h1", "10.1.0.12", mac=text(1), pools=["boot"], dhcp={})
    content.host("h2", "10.1.0.77", mac=text(3), pools=["boot"], dhcp={} if state == "served" else {"enabled": 0})
    content.store_in(inventory.store)
    planner.look_up([text(1)], [])
    found = states(control)
    assert found["h1"] == ("served", [12]) and found["h2, h3"] == ("conflict", [])
    assert "h2" not in found and "h3" not in found
    assert control.report()["reasons"][text(3)] == f"MAC {text(3)} belongs to h2 and h3"
    assert control.report()["faults"].keys() >= {"h2", "h3"}
    check(control.pair())
    by_look_up = rows_of(control.pair())
    planner.refresh(True)
    assert rows_of(planner.served.pair) == by_look_up


def test_the_conflict_with_it_ends_by_a_look_up(planner: Planner, control: Control, inventory: Inventory) -> None:
    refresh(planner, inventory, site())
    content = site(gone={1, 2})
    content.host("h1", "10.1.0.12", mac=text(1), pools=["boot"], dhcp={})
    content.host("h2", "10.1.0.77", mac=text(3), pools=["boot"], dhcp={})
    content.store_in(inventory.store)
    planner.look_up([text(1)], [])
    assert states(control)["h2, h3"] == ("conflict", [])
    content = site(gone={1, 2})
    content.host("h1", "10.1.0.12", mac=text(1), pools=["boot"], dhcp={})
    content.host("h2", "10.1.0.77", mac=text(2), pools=["boot"], dhcp={})
    content.store_in(inventory.store)
    planner.look_up([text(2)], [])
    found = states(control)
    assert found["h2"] == ("served", [77]) and found["h3"] == ("served", [13])


def test_a_mac_of_who_is_gone_is_free(planner: Planner, control: Control, inventory: Inventory) -> None:
    """As h3 before, but the look-up has asked for it by name, and it is not there any more."""
    refresh(planner, inventory, site())
    content = site(gone={1, 2, 3})
    content.host("h1", "10.1.0.12", "10.1.0.13", mac=text(1), pools=["boot"], dhcp={})
    content.host("h2", "10.1.0.77", mac=text(3), pools=["boot"], dhcp={})
    content.store_in(inventory.store)
    planner.look_up([], ["h1"])
    found = states(control)
    assert found["h2"] == ("served", [77]) and "h3" not in found


def test_a_mac_of_several_that_were_in_conflict_before(
    planner: Planner, control: Control, inventory: Inventory
) -> None:
    """The third and the fourth host have one MAC already; neither was read, and both stay named."""

    def content(first: str, second: str, second_mac: int) -> Site:
        made = site(gone={1, 2})
        made.host("h1", first, mac=text(1), pools=["boot"], dhcp={})
        made.host("h2", second, mac=text(second_mac), pools=["boot"], dhcp={})
        made.host("twin", "10.1.0.90", mac=text(3), pools=["boot"], dhcp={})
        return made

    refresh(planner, inventory, content("10.1.0.11", "10.1.0.12", 2))
    content("10.1.0.12", "10.1.0.77", 3).store_in(inventory.store)
    planner.look_up([text(1)], [])
    assert states(control)["h2, h3, twin"] == ("conflict", [])
    assert control.report()["reasons"][text(3)] == f"MAC {text(3)} belongs to h2 and h3 and twin"


# --- who was read only as an owner ------------------------------------------------------------------------------------


@pytest.fixture
def with_bmcs(inventory: Inventory, control: Control, tmp_path: Path) -> Iterator[Planner]:
    made = Planner(config(inventory, tmp_path, update_ipmi=True), LINKS, control.send)
    yield made
    end(made)


def test_another_address_of_an_owner_is_asked_about_too(
    with_bmcs: Planner, control: Control, inventory: Inventory
) -> None:
    """x is read because of its BMC's address; its own has changed, and is that of an object without a MAC."""

    def content(x: str, *new: str) -> Site:
        made = site()
        made.host("z", "10.1.0.31", mac=())
        made.host("x", x, At("10.1.0.20", port="ipmi"), mac=text(40), pools=["boot"], dhcp={})
        if new:
            made.host("new", *new, mac=text(50), pools=["boot"], dhcp={})
        return made

    refresh(with_bmcs, inventory, content("10.1.0.30"))
    assert [row["state"] for row in rows_of(control.pair()).values() if row["name"] == b"x"] == ["served"] * 2
    content("10.1.0.31", "10.1.0.20").store_in(inventory.store)
    with_bmcs.look_up([text(50)], [])
    rows = rows_of(control.pair())
    assert [row["state"] for row in rows.values() if row["name"] in (b"x", b"new")] == ["conflict"] * 3
    assert "address 10.1.0.31 belongs to x and z" in control.report()["faults"]["x"]
    with_bmcs.refresh(True)
    assert with_bmcs.served.pair is not None and rows_of(with_bmcs.served.pair) == rows


def test_an_owner_that_the_second_question_reads(planner: Planner, control: Control, inventory: Inventory) -> None:
    """h1 takes the address of h2, which took one of h3, which took that of z besides."""

    def content(h1: int, h2: int, *h3: int) -> Site:
        made = site(gone={1, 2, 3})
        made.host("z", "10.1.0.31", mac=())
        for number, last in enumerate([(h1,), (h2,), h3], 1):
            made.host(f"h{number}", *(f"10.1.0.{each}" for each in last), mac=text(number), pools=["boot"], dhcp={})
        return made

    refresh(planner, inventory, content(11, 12, 13))
    content(12, 13, 31, 13).store_in(inventory.store)
    planner.look_up([text(1)], [])
    found = states(control)
    assert found["h1"] == ("served", [12])
    assert found["h2"] == found["h3"] == ("conflict", [])
    assert "address 10.1.0.31 belongs to h3 and z" in control.report()["faults"]["h3"]


@pytest.mark.parametrize("number, count", [(99, 1), (1, 5), (50, 6)])
def test_how_many_requests_a_look_up_takes(
    planner: Planner, control: Control, inventory: Inventory, number: int, count: int
) -> None:
    """A stranger; a host that is alone with its address; one that is not, while the other has no other address."""
    content = site()
    refresh(planner, inventory, content)
    if number == 50:
        content.host("thief", "10.1.0.11", mac=text(50), pools=["boot"], dhcp={})
        content.store_in(inventory.store)
    asked: list[str] = []
    inventory.on_request = asked.append
    planner.look_up([text(number)], [])
    assert len(asked) == count, asked
