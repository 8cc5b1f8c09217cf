"""The planner and a site's client classes: what a change of `dhcp.classes` publishes, and what rows of a table with
other classes say to whom afterwards.  Each change is made as control makes it: another planner takes the table over."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ext.codec import trace
from ext.table import Pair

from control.config.classes import SiteClass
from control.config.config import parse
from control.planner.jobs import Failed, Planned
from control.planner.planner import Planner
from tests.control.inventories import Site, dhcp_attributes
from tests.control.planner.test_unread import CRASH
from tests.control.planning import LINKS, OTHER_LINKS, Control, Inventory, config, end, mac, refresh, site, text
from tests.ext.packets import DISCOVER, Parsed, ip, message, tlv

ONIE = {"name": "onie", "match": {"vendor_class": "onie_vendor:*"}}
ARM = {"name": "onie-arm", "parent": "onie", "match": {"vendor_class": "onie_vendor:arm*"}}
OTHER = {"name": "other", "match": {"vendor_class": "other*"}}
ASKED_AS = {"onie": b"onie_vendor:x86", "onie-arm": b"onie_vendor:arm", "other": b"other", "os": b"udhcp"}

To = Callable[..., Planner]


def classes(*described: dict[str, Any]) -> tuple[SiteClass, ...]:
    return parse(json.dumps({"dhcp": {"classes": described}}).encode(), Path("services.conf")).dhcp.classes


@pytest.fixture
def to(inventory: Inventory, control: Control, tmp_path: Path) -> Iterator[To]:
    """A planner with these classes, which takes over what the last one serves."""
    made: list[Planner] = []

    def next_one(*described: dict[str, Any]) -> Planner:
        new = Planner(config(inventory, tmp_path, classes=classes(*described)), LINKS, control.send)
        if made:
            base, *delta = map(os.dup, made[-1].served.fds())
            new.adopt(base, *(delta or [-1]))
            new.relink(LINKS)
        made.append(new)
        return new

    yield next_one
    for each in made:
        end(each)


def domains(changed: set[int] | None = None, pools: tuple[str, ...] = ("boot",), **by_class: str) -> Site:
    """Everybody's domain, and that of some classes in the pool `boot`."""
    made = site(changed=changed, pools=pools)
    said = {f"domain--{name.replace('_', '-')}": value for name, value in by_class.items()}
    made.things["/pool/boot"] += dhcp_attributes(said)
    return made


def asked(pair: Pair, asks: str, host: int = 1) -> tuple[str | int, str]:
    """(whose options the request gets, the domain in the offer)."""
    found = trace(pair, message(DISCOVER, mac(host), tlv(60, ASKED_AS[asks])), ifindex=2, local=ip("10.1.0.2"))
    domain = Parsed.of(found.reply.data).option(15)
    assert domain is not None
    return pair.base.classes.said(found.request["option_class"]), domain.decode()


def all_asked(pair: Pair, host: int = 1) -> dict[str, tuple[str | int, str]]:
    return {name: asked(pair, name, host) for name in ASKED_AS}


# --- what is published ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "before, after, asks, whose",
    [
        ((), (ONIE,), "onie", (0, "onie")),
        ((ONIE,), (), "onie", ("onie", 0)),
        ((ARM, ONIE), (ONIE, ARM), "onie-arm", ("onie-arm", "onie")),
        ((ONIE,), (ONIE | {"match": {"vendor_class": "onie_vendor:arm*"}},), "onie", ("onie", 0)),
        ((ONIE,), (ONIE | {"match": {"has_option": 60}},), "os", (0, "onie")),
        ((ONIE,), (ONIE | {"parent": "ipxe"},), "onie", ("onie", "onie")),
        ((ONIE,), (ONIE | {"name": "installer"},), "onie", ("onie", "installer")),
    ],
    ids=["came", "went", "order", "match", "other field", "parent", "name"],
)
def test_other_classes_are_a_new_base_though_no_row_changes(
    to: To, control: Control, before: Any, after: Any, asks: str, whose: tuple[str | int, str | int]
) -> None:
    to(*before).refresh(False)
    assert asked(control.pair(), asks)[0] == whose[0]
    planner = to(*after)
    assert asked(control.pair(), asks)[0] == whose[0], "definitions belong to the base; a relink changes none"
    planner.refresh(False)
    assert isinstance(control.last, Planned) and control.last.published
    assert control.last.base == control.last.generation == 3
    assert (control.last.added, control.last.changed, control.last.removed) == (0, 0, 0)
    assert asked(control.pair(), asks)[0] == whose[1]
    planner.refresh(False)
    assert control.last.published is False


def test_the_same_classes_publish_nothing(to: To, control: Control) -> None:
    to(ARM, ONIE).refresh(False)
    planner = to(ARM, ONIE)
    assert (control.last.origin, control.last.base) == ("links", 1)
    planner.refresh(False)
    assert (control.last.origin, control.last.published, control.last.base) == ("inventory", False, 1)


def test_a_class_that_somebody_says_something_to(to: To, control: Control, inventory: Inventory) -> None:
    refresh(to(ARM, ONIE), inventory, domains(onie="o.example"))
    assert all_asked(control.pair()) == {
        "onie": ("onie", "o.example"),
        "onie-arm": ("onie-arm", "o.example"),
        "other": (0, "x.example"),
        "os": (0, "x.example"),
    }
    to(ARM | {"parent": "os"}, ONIE).refresh(False)
    assert asked(control.pair(), "onie-arm") == ("onie-arm", "x.example"), "its parent says nothing to it any more"
    to(ONIE).refresh(False)
    assert asked(control.pair(), "onie-arm") == ("onie", "o.example")
    to().refresh(False)
    assert asked(control.pair(), "onie-arm") == (0, "x.example")


# --- rows that are carried over ---------------------------------------------------------------------------------------


def test_a_row_of_what_cannot_be_read_keeps_what_it_says_to_each_class(
    to: To, control: Control, inventory: Inventory
) -> None:
    """Named, though numbered otherwise; a class that is gone is forgotten, one that came gets what its parent gets."""
    refresh(to(ARM, ONIE), inventory, domains(pools=("boot", "rest"), onie="o.example", onie_arm="a.example"))
    want = all_asked(control.pair(), 2)
    assert (want["onie"], want["onie-arm"]) == (("onie", "o.example"), ("onie-arm", "a.example"))
    inventory.spoiled = {"name=boot": CRASH}
    for described in ((OTHER, ARM, ONIE), (ARM, OTHER, ONIE)):
        to(*described).refresh(False)
        assert isinstance(control.last, Planned), control.last
        assert control.last.doubts and control.last.published and control.last.kept_hosts == 3
        pair = control.pair()
        pair.base.verify()
        assert {name: all_asked(pair, 2)[name] for name in ("onie", "onie-arm", "os")} == {
            name: want[name] for name in ("onie", "onie-arm", "os")
        }
        assert asked(pair, "other", 2) == ("other", "x.example")
    to(OTHER | {"parent": "onie"}, ONIE).refresh(False)
    assert all_asked(control.pair(), 2) == {
        "onie": ("onie", "o.example"),
        "onie-arm": ("onie", "o.example"),
        "other": ("other", "o.example"),
        "os": (0, "x.example"),
    }
    to().refresh(False)
    assert set(all_asked(control.pair(), 2).values()) == {(0, "x.example")}


# --- look-ups ---------------------------------------------------------------------------------------------------------


def test_a_look_up_of_what_is_as_it_was_publishes_nothing(to: To, control: Control, inventory: Inventory) -> None:
    planner = to(ARM, ONIE)
    refresh(planner, inventory, domains(onie="o.example", uefi_riscv64="r.example"))
    planner.look_up([text(1)], [])
    assert (control.last.origin, control.last.published, control.last.changed) == ("hosts", False, 0)


def test_a_look_up_says_to_each_class_what_is_new(to: To, control: Control, inventory: Inventory) -> None:
    planner = to(ARM, ONIE)
    refresh(planner, inventory, domains(onie="o.example"))
    made = domains(onie="o.example")
    made.things["/server/h1"] += dhcp_attributes({"domain--onie-arm": "a.example"})
    made.store_in(inventory.store)
    planner.look_up([text(1)], [])
    assert (control.last.published, control.last.changed, control.last.base) == (True, 1, 1)
    assert asked(control.pair(), "onie-arm") == ("onie-arm", "a.example")
    assert asked(control.pair(), "onie-arm", 2) == ("onie-arm", "o.example")
    assert asked(control.pair(), "onie") == ("onie", "o.example")


def test_a_look_up_upon_a_base_of_other_classes_goes_by_the_base_s(
    to: To, control: Control, inventory: Inventory
) -> None:
    """What it says to a class that the base does not know is in the next base, with the rule."""
    first = to(ONIE)
    refresh(first, inventory, domains(onie="o.example"))
    planner = to(OTHER, ONIE)
    planner.frame = first.frame
    domains(changed={1}, onie="o.example", other="t.example").store_in(inventory.store)
    planner.frame = planner.source.read().frame
    planner.look_up([text(1)], [])
    pair = control.pair()
    assert control.last.published and pair.delta.lookup(mac(1)) and control.last.base == 1
    pair.delta.verify()
    assert (asked(pair, "onie"), asked(pair, "other")) == (("onie", "o.example"), (0, "x.example"))
    planner.refresh(False)
    assert (asked(control.pair(), "onie"), asked(control.pair(), "other")) == (
        ("onie", "o.example"),
        ("other", "t.example"),
    )


# --- going back, interfaces -------------------------------------------------------------------------------------------


def test_going_back_brings_the_former_rules_back(to: To, control: Control, inventory: Inventory) -> None:
    refresh(to(ONIE), inventory, domains(onie="o.example"))
    former = all_asked(control.pair())
    planner = to(OTHER, ARM | {"parent": "os"})
    planner.refresh(False)
    present = all_asked(control.pair())
    assert present["onie"] == (0, "x.example") and present["onie-arm"][0] == "onie-arm"
    planner.rollback()
    assert isinstance(control.last, Planned) and (control.last.origin, control.last.base) == ("rollback", 1)
    assert all_asked(control.pair()) == former
    planner.refresh(False)
    assert isinstance(control.last, Failed) and control.last.kind == "pinned"
    planner.relink(OTHER_LINKS)
    assert all_asked(control.pair()) == former, "pinned, rules and all"
    planner.refresh(True)
    assert isinstance(control.last, Planned) and all_asked(control.pair()) == present


def test_going_back_from_a_mere_change_of_rules(to: To, control: Control) -> None:
    to(ONIE).refresh(False)
    planner = to(OTHER)
    planner.refresh(False)
    assert (asked(control.pair(), "onie")[0], asked(control.pair(), "other")[0]) == (0, "other")
    planner.rollback()
    assert (asked(control.pair(), "onie")[0], asked(control.pair(), "other")[0]) == ("onie", 0)


def test_a_cold_start_has_the_rules_of_the_table_on_disk(
    to: To, control: Control, inventory: Inventory, tmp_path: Path
) -> None:
    refresh(to(ARM, ONIE), inventory, domains(onie="o.example"))
    want = all_asked(control.pair())
    cold = Planner(config(inventory, tmp_path, classes=classes(OTHER)), LINKS, control.send)
    cold.load_from_disk()
    assert control.last.origin == "disk" and all_asked(control.pair()) == want
    cold.refresh(False)
    assert control.last.published and asked(control.pair(), "other") == ("other", "x.example")
    end(cold)
