"""control/planner/closure.py and served.py: what a look-up takes along, and that nothing is published with an address
twice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ext.builder import Builder, Surroundings, identity_of_object
from ext.layout5 import identity_of_name
from ext.leases import LeaseState as State

from control.config.config import Config, Dhcp
from control.plan.rows import Row
from control.planner import served as served_module
from control.planner.jobs import Failed, Planned
from control.planner.planner import Planner
from fastpath.protocol import close_all
from tests.control.inventories import Site
from tests.control.moving import FIRST_ADDRESS, Machine, Moving, addresses_of, check, fresh, mac_text, rows_of
from tests.control.planning import (
    LINKS,
    OTHER_LINKS,
    Control,
    Inventory,
    end,
    figures,
    mac,
    open_memfds,
    refresh,
    site,
    text,
)
from tests.control.spoiling import http

TABLES = Path(__file__).resolve().parents[2] / "data/tables"


def states(control: Control) -> dict[str, tuple[str, list[int]]]:
    """Name -> state and last octets of the addresses."""
    rows = rows_of(control.pair()).values()
    return {row["name"].decode(): (row["state"], [address & 255 for address in addresses_of(row)]) for row in rows}


def moved(number: int, address: str, mac_number: int, others: int = 6) -> Site:
    """A site in which one host has this address and this MAC, whoever had them before."""
    content = site(others, gone={number})
    content.host(f"h{number}", address, mac=text(mac_number), pools=["boot"], dhcp={})
    return content


# --- what the issue says ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["new-mac", "old-mac", "name"])
def test_another_mac_takes_the_old_one_along(planner: Planner, control: Control, inventory: Inventory, by: str) -> None:
    """Whoever asks first: the old MAC is not answered any more in the very delta that answers the new one."""
    planner.refresh(False)
    moved(2, "10.1.0.12", 50).store_in(inventory.store)
    macs = {"new-mac": [text(50)], "old-mac": [text(2)], "name": []}[by]
    planner.look_up(macs, ["h2"] if by == "name" else [])
    assert figures(control.last) == (6, 1, 0, 1)
    pair = control.pair()
    assert pair.lookup(mac(2)) is None and addresses_of(pair.lookup(mac(50))) == [FIRST_ADDRESS + 12]
    check(pair)


def test_an_address_of_a_deleted_host_takes_its_row_along(
    planner: Planner, control: Control, inventory: Inventory
) -> None:
    planner.refresh(False)
    content = site(6, gone={2, 3})
    content.host("h3", "10.1.0.12", mac=text(3), pools=["boot"], dhcp={})
    content.store_in(inventory.store)
    planner.look_up([text(3)], [])
    assert figures(control.last) == (5, 0, 1, 1)
    assert control.pair().lookup(mac(2)) is None
    assert addresses_of(control.pair().lookup(mac(3))) == [FIRST_ADDRESS + 12]


def test_hosts_that_swapped_their_addresses(planner: Planner, control: Control, inventory: Inventory) -> None:
    planner.refresh(False)
    content = site(6, gone={2, 3})
    content.host("h2", "10.1.0.13", mac=text(2), pools=["boot"], dhcp={})
    content.host("h3", "10.1.0.12", mac=text(3), pools=["boot"], dhcp={})
    content.store_in(inventory.store)
    planner.look_up([text(3)], [])
    assert figures(control.last) == (6, 0, 2, 0)
    assert [addresses_of(control.pair().lookup(mac(n))) for n in (2, 3)] == [[FIRST_ADDRESS + 13], [FIRST_ADDRESS + 12]]


def test_a_card_that_went_into_another_host(planner: Planner, control: Control, inventory: Inventory) -> None:
    """Of whom had it before the new card is read, too."""
    planner.refresh(False)
    content = site(6, gone={2, 3})
    content.host("h2", "10.1.0.12", mac=text(60), pools=["boot"], dhcp={})
    content.host("h3", "10.1.0.13", mac=text(2), pools=["boot"], dhcp={})
    content.store_in(inventory.store)
    planner.look_up([text(2)], [])
    pair = control.pair()
    assert [addresses_of(pair.lookup(mac(n))) for n in (60, 2)] == [[FIRST_ADDRESS + 12], [FIRST_ADDRESS + 13]]
    assert pair.lookup(mac(3)) is None and figures(control.last) == (6, 1, 1, 1)


def test_another_name_at_another_mac(planner: Planner, control: Control, inventory: Inventory) -> None:
    planner.refresh(False)
    content = site(6, gone={2})
    content.host("renamed", "10.1.0.12", mac=text(50), pools=["boot"], dhcp={})
    content.store_in(inventory.store)
    planner.look_up([text(50)], [])
    assert control.pair().lookup(mac(2)) is None and states(control)["renamed"] == ("served", [12])


def test_a_conflict_ends_with_its_cause(planner: Planner, control: Control, inventory: Inventory) -> None:
    """One of two moves on and is looked up: the other one is answered again, and the report takes its reason back."""
    content = site()
    content.host("thief", "10.1.0.11", mac=text(50), pools=["boot"], dhcp={})
    refresh(planner, inventory, content)
    assert states(control)["h1"] == states(control)["thief"] == ("conflict", [])
    content = site()
    content.host("thief", "10.1.0.99", mac=text(50), pools=["boot"], dhcp={})
    content.store_in(inventory.store)
    planner.look_up([text(50)], [])
    assert states(control)["h1"] == ("served", [11]) and states(control)["thief"] == ("served", [99])
    assert sorted(control.report()["answered"]) == [text(1), text(50)]


def test_a_conflict_about_a_mac_ends_with_its_cause(planner: Planner, control: Control, inventory: Inventory) -> None:
    content = site()
    content.host("twin", "10.1.0.98", mac=text(1), pools=["boot"], dhcp={})
    refresh(planner, inventory, content)
    assert states(control)["h1, twin"] == ("conflict", [])
    content = site()
    content.host("twin", "10.1.0.98", mac=text(51), pools=["boot"], dhcp={})
    content.store_in(inventory.store)
    planner.look_up([text(51)], [])
    assert states(control)["h1"] == ("served", [11]) and states(control)["twin"] == ("served", [98])


def test_a_conflict_that_a_look_up_made_ends_by_one(planner: Planner, control: Control, inventory: Inventory) -> None:
    planner.refresh(False)
    content = site()
    content.host("thief", "10.1.0.11", mac=text(50), pools=["boot"], dhcp={})
    content.store_in(inventory.store)
    planner.look_up([text(50)], [])
    assert states(control)["h1"] == ("conflict", [])
    site().store_in(inventory.store)
    planner.look_up([text(50)], [])
    assert states(control)["h1"] == ("served", [11]) and "thief" not in states(control)


def test_a_second_question_that_fails_leaves_all_as_it_was(
    planner: Planner, control: Control, inventory: Inventory
) -> None:
    """Half an answer is none: what is served contradicts nothing, and the new MAC is asked for again."""
    planner.refresh(False)
    content = site(6, gone={2, 3})
    content.host("h3", "10.1.0.12", mac=text(3), pools=["boot"], dhcp={})
    content.store_in(inventory.store)
    before, asked = control.pair(), []

    def fail_later(target: str) -> None:
        asked.append(target)
        if '"value": "' + text(2) in target:
            inventory.down = http("Traceback", "500 Oops")

    inventory.on_request = fail_later
    planner.look_up([text(3)], [])
    assert isinstance(control.last, Failed) and (control.last.kind, control.last.job) == ("down", "hosts")
    assert control.pair().top.number == before.top.number and inventory.down is not None
    inventory.forget()
    planner.look_up([text(3)], [])
    assert isinstance(control.last, Planned) and states(control)["h3"] == ("served", [12])


def test_a_stranger_costs_one_question(planner: Planner, control: Control, inventory: Inventory) -> None:
    """No second round where nothing is touched: strangers come by the thousand."""
    planner.refresh(False)
    asked: list[str] = []
    inventory.on_request = asked.append
    planner.look_up([text(99)], [])
    assert len(asked) == 1 and control.last.missing == [text(99)]


def test_objects_of_one_name_are_two(control: Control, tmp_path: Path) -> None:
    with moving(control, tmp_path, a=Machine(1, [20]), b=Machine(2, [21])) as (planner, inventory):
        inventory.hosts["a#"] = Machine(3, [20], type_="appliance")
        planner.look_up([mac_text(3)], [])
        rows = rows_of(control.pair())
        assert {key & 15: (row["name"], row["state"]) for key, row in rows.items()} == {
            1: (b"a", "conflict"), 2: (b"b", "served"), 3: (b"a", "conflict"),
        }  # fmt: skip
        assert control.report()["reasons"][mac_text(3)] == "address 10.1.0.20 belongs to a and another object named a"
        planner.refresh(True)
        assert rows_of(control.pair()) == fresh(inventory, planner.config.dhcp)


# --- beside a refresh ------------------------------------------------------------------------------------------------


class moving:
    """A planner that reads a Moving of these machines, read once."""

    def __init__(self, control: Control, folder: Path, update_ipmi: bool = False, **hosts: Machine) -> None:
        self.inventory = Moving(dict(hosts))
        self.planner = Planner(Config(dhcp=Dhcp(state_dir=folder, update_ipmi=update_ipmi)), LINKS, control.send)
        self.planner.source = self.inventory  # type: ignore[assignment]

    def __enter__(self) -> tuple[Planner, Moving]:
        self.planner.refresh(True)
        return self.planner, self.inventory

    def __exit__(self, *_: Any) -> None:
        end(self.planner)


def test_a_refresh_does_not_bring_back_what_a_look_up_replaced(control: Control, tmp_path: Path) -> None:
    """It had read the host already, with its old MAC; the look-up is younger."""
    machines = {"a": Machine(1, [20]), "b": Machine(2, [21], part="q")}
    with moving(control, tmp_path, **machines) as (planner, inventory):

        def meanwhile(part: str) -> None:
            if part == "q":
                inventory.hosts["a"].mac = 3
                planner.look_up([mac_text(3)], [])
                check(control.pair())

        inventory.before_part = meanwhile
        planner.refresh(False)
        rows = rows_of(control.pair())
        assert sorted(key & 15 for key in rows) == [2, 3]


def test_a_refresh_that_read_a_host_after_a_look_up_adds_no_second_row(control: Control, tmp_path: Path) -> None:
    """Another MAC again in between: one of the two words counts, never both."""
    machines = {"a": Machine(1, [20], part="q"), "b": Machine(2, [21])}
    with moving(control, tmp_path, **machines) as (planner, inventory):

        def meanwhile(part: str) -> None:
            if part == "p":
                inventory.hosts["a"].mac = 3
                planner.look_up([mac_text(3)], [])
                inventory.hosts["a"].mac = 4

        inventory.before_part = meanwhile
        planner.refresh(False)
        check(control.pair())
        assert sorted(key & 15 for key in rows_of(control.pair())) == [2, 3]
        inventory.before_part = lambda _part: None
        planner.refresh(False)
        assert sorted(key & 15 for key in rows_of(control.pair())) == [2, 4]


def test_a_part_that_cannot_be_read_brings_nobody_back(control: Control, tmp_path: Path) -> None:
    """Deleted, looked up and gone; then its part is lost: what was read of it last is older than the look-up."""
    machines = {"a": Machine(1, [20]), "b": Machine(2, [21]), "c": Machine(3, [22], part="q")}
    with moving(control, tmp_path, **machines) as (planner, inventory):
        del inventory.hosts["a"]
        planner.look_up([mac_text(1)], [])
        inventory.lost = {"p"}
        inventory.hosts["c"].addresses = [30]
        planner.refresh(False)
        rows = rows_of(control.pair())
        assert {key & 15: addresses_of(row)[0] & 255 for key, row in rows.items()} == {2: 21, 3: 30}


def test_a_part_that_cannot_be_read_does_not_give_back_a_row_that_a_look_up_removed(
    control: Control, tmp_path: Path
) -> None:
    """The object is still listed, with its address; its MAC was taken away."""
    machines = {"a": Machine(1, [20]), "b": Machine(2, [21]), "c": Machine(3, [22], part="q")}
    with moving(control, tmp_path, **machines) as (planner, inventory):
        inventory.hosts["a"].mac = None
        planner.look_up([mac_text(1)], [])
        inventory.lost = {"p"}
        inventory.hosts["c"].addresses = [30]
        planner.refresh(False)
        assert sorted(key & 15 for key in rows_of(control.pair())) == [2, 3]


def test_one_of_two_objects_of_a_name_left_an_unreadable_part(control: Control, tmp_path: Path) -> None:
    """The name is still listed there; the object is read elsewhere, with another MAC."""
    machines = {"a": Machine(1, [20]), "a#": Machine(2, [21], type_="appliance"), "c": Machine(3, [22], part="q")}
    with moving(control, tmp_path, **machines) as (planner, inventory):
        inventory.hosts["a"] = Machine(4, [20], part="q")
        inventory.lost = {"p"}
        planner.refresh(False)
        check(control.pair())
        assert sorted(key & 15 for key in rows_of(control.pair())) == [2, 3, 4]


def test_a_host_that_left_an_unreadable_part_has_one_row(control: Control, tmp_path: Path) -> None:
    """It is read in another part, with another MAC: as it was there it may not stay."""
    machines = {"a": Machine(1, [20]), "b": Machine(2, [21]), "c": Machine(3, [22], part="q")}
    with moving(control, tmp_path, **machines) as (planner, inventory):
        inventory.hosts["a"] = Machine(4, [20], part="q")
        inventory.lost = {"p"}
        planner.refresh(False)
        check(control.pair())
        assert sorted(key & 15 for key in rows_of(control.pair())) == [2, 3, 4]


def test_a_host_between_two_unreadable_parts_stays(control: Control, tmp_path: Path) -> None:
    """It moved from one to the other, and both are lost later: nothing in doubt is removed."""
    machines = {"a": Machine(1, [20]), "b": Machine(2, [21]), "c": Machine(3, [22], part="q")}
    with moving(control, tmp_path, **machines) as (planner, inventory):
        inventory.hosts["a"].part = "q"
        inventory.lost = {"p"}
        planner.refresh(False)
        inventory.lost = {"p", "q"}
        inventory.hosts["d"] = Machine(5, [25], part="p")
        planner.refresh(False)
        assert {1, 2, 3} <= {key & 15 for key in rows_of(control.pair())}


# --- the invariant ---------------------------------------------------------------------------------------------------


def contradiction() -> int:
    """A base in which a and b are answered with 10.1.0.5, by their objects' paths, and c with 10.1.0.6."""
    builder = Builder()
    template = builder.add_template()
    for number, (name, address) in enumerate([(b"a", 5), (b"b", 5), (b"c", 6)], 1):
        lease = ((FIRST_ADDRESS + address, 24, template),)
        builder.add_host(mac(number), name=name, leases=lease, thing=b"/server/" + name)
    return builder.seal(7, Surroundings(), created_s=1)


@pytest.fixture
def alone(control: Control, tmp_path: Path) -> Iterator[Planner]:
    made = Planner(Config(dhcp=Dhcp(state_dir=tmp_path)), LINKS, control.send)
    yield made
    end(made)


@pytest.mark.parametrize("origin", ["restart", "disk", "rollback"])
def test_what_contradicts_itself_becomes_conflicts_whatever_its_origin(
    alone: Planner, control: Control, origin: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A table of an older build, a disk, a memory: the rest is published, the two are named."""
    fd = contradiction()
    if origin == "restart":
        alone.adopt(fd, -1)
        alone.relink(LINKS)
    elif origin == "disk":
        (alone.store.base_path).write_bytes(os.pread(fd, 1 << 20, 0))
        os.close(fd)
        alone.load_from_disk()
    else:
        alone.adopt(fd, -1)
        changes = alone.served.changes_by({}, {mac(3)})
        former = alone.served.remember()
        assert former is not None
        alone.served.delta(alone.served.rows_of_delta({mac(1), mac(3)}), Surroundings(), 1)
        alone.served.keep_former(former, changes, "inventory")
        alone.rollback()
    assert isinstance(control.last, Planned) and control.last.published
    assert states(control) == {"a": ("conflict", []), "b": ("conflict", []), "c": ("served", [6])}
    report = control.report()
    assert report["reasons"] == {text(n): "address 10.1.0.5 belongs to a and b" for n in (1, 2)}
    assert report["faults"].keys() == {"a", "b"}
    assert "a is not answered: address 10.1.0.5 belongs to a and b" in caplog.text
    assert control.pair().lookup(mac(1))["identity"] == identity_of_object(b"/server/a")


def test_a_new_base_that_contradicts_itself_gets_a_delta_with_the_conflicts(alone: Planner, control: Control) -> None:
    """Assembling a refresh has found them before; this is for the day when it has not."""
    fd = contradiction()
    full = served_module.Generation(fd)
    changes = served_module.compare(None, full)
    published, silenced = alone.served.take(fd, full, changes, Surroundings())
    assert published and [row.name for row in silenced.rows] == ["a", "b"]
    pair = alone.served.pair
    assert pair is not None and (pair.base.number, pair.top.number) == (7, 8)
    assert [pair.lookup(mac(n))["state"] for n in (1, 2, 3)] == ["conflict", "conflict", "served"]


def test_only_what_cannot_be_silenced_is_refused(
    planner: Planner, control: Control, inventory: Inventory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whoever asked hears it, and what was served serves on, under every origin."""
    planner.refresh(False)
    open_before = open_memfds()
    before = control.pair()

    class Blind(served_module.View):  # type: ignore[misc]
        def twice(self) -> dict[int, Any]:
            return {FIRST_ADDRESS + 9: [(mac(1), b"h1", 1), (mac(2), b"h2", 2)]}

    with monkeypatch.context() as patched:
        patched.setattr(served_module, "View", Blind)
        for job, kind in (
            (lambda: planner.relink(OTHER_LINKS), "links"),
            (lambda: refresh(planner, inventory, site(changed={1})), "refresh"),
            (lambda: planner.look_up([text(1)], [], True), "hosts"),
        ):
            job()
            assert isinstance(control.last, Failed) and (control.last.kind, control.last.job) == ("contested", kind)
            assert "10.1.0.9 belongs to h1 and h2" in control.last.reason and planner.served.pair is not None
            assert planner.served.pair.top.number == before.top.number
    control.close()
    assert open_memfds() <= open_before
    planner.refresh(False)
    assert isinstance(control.last, Planned) and figures(control.last) == (6, 0, 1, 0)


def test_a_table_on_disk_that_is_refused_is_not_there(
    alone: Planner, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the first refresh would find that nothing changed, and nobody would ever be answered."""
    fd = contradiction()
    alone.store.base_path.write_bytes(os.pread(fd, 1 << 20, 0))
    os.close(fd)
    monkeypatch.setattr(served_module, "conflicts", lambda contested, faults: {1: _bystander()})
    alone.load_from_disk()
    assert isinstance(control.last, Failed) and alone.served.pair is None and not alone.served.fds()


def _bystander() -> Row:
    return Row(mac(9), State.CONFLICT, "z", b"", (), "for no reason")


# --- after an upgrade ------------------------------------------------------------------------------------------------


def test_a_table_of_the_layout_before_is_replaced_as_a_whole(control: Control, tmp_path: Path) -> None:
    """Though nothing has changed: its rows tell objects apart by name.  Until then that is no contradiction."""
    hosts = {"a": Machine(1, [20]), "b": Machine(2, [21])}
    with moving(control, tmp_path, **hosts) as (planner, inventory):
        named = Builder()
        served = planner.served.pair
        assert served is not None
        for key, row in rows_of(served).items():
            leases = [(e["address"], e["prefix"], named.add_template(**e["template"])) for e in row["leases"]]
            by_name = identity_of_name(row["name"])
            named.add_host(key, name=row["name"], own=row["own"], leases=leases, thing=by_name)
        fd = named.seal(5, Surroundings(networks=served.top.networks), created_s=1)
        planner.served.adopt(fd, -1)
        assert planner.served.pair is not None and planner.served.pair.base.is_converted
        planner.refresh(False)
        assert control.last.published and figures(control.last) == (2, 0, 0, 0)
        assert not control.pair().base.is_converted and control.pair().delta is None
        planner.refresh(False)
        assert not control.last.published
        assert rows_of(planner.served.pair) == fresh(inventory, planner.config.dhcp)


def test_a_cold_start_from_the_layout_before(alone: Planner, control: Control) -> None:
    for kind in ("base", "delta"):
        (alone.store.state_dir / f"table.{kind}").write_bytes((TABLES / f"layout5.{kind}").read_bytes())
    alone.load_from_disk()
    assert (control.last.origin, control.last.published, control.last.base) == ("disk", True, 7)
    assert states(control)["alice"] == ("served", [51])


def test_fds_are_given_back(control: Control, tmp_path: Path) -> None:
    with moving(control, tmp_path, a=Machine(1, [20]), b=Machine(2, [21])) as (planner, inventory):
        counts = []
        for turn in range(4):
            inventory.hosts["a"].mac = 3 + turn
            planner.look_up([mac_text(3 + turn)], [], True)
            planner.rollback()
            planner.refresh(True)
            close_all([fd for fds in control.fds for fd in fds])
            control.fds.clear()
            counts.append(open_memfds())
        assert counts[1] == counts[-1]


def test_addresses_of_a_proxied_host_are_nobodys(control: Control, tmp_path: Path) -> None:
    machines = {"a": Machine(1, [20], proxy=True), "b": Machine(2, [21], proxy=True)}
    with moving(control, tmp_path, **machines) as (planner, _inventory):
        planner.look_up([mac_text(1)], [])
        assert isinstance(control.last, Planned) and {row["state"] for row in rows_of(control.pair()).values()} == {
            "proxied"
        }


def test_a_container_that_gave_its_address_away(planner: Planner, control: Control, inventory: Inventory) -> None:
    """A switch holds its servers and an address, without a MAC that anybody could ask for: it is not in the table, and
    what it said at the last full read is no reason to silence who has the address now."""

    def content(switch: str, host: str) -> Site:
        made = site()
        made.host("sw", switch, mac=(), type_="networkswitch", dhcp={})
        made.put("h1", "sw")
        made.host("new", host, mac=text(50), pools=["boot"], dhcp={})
        return made

    refresh(planner, inventory, content("10.1.0.70", "10.1.0.80"))
    content("10.1.0.71", "10.1.0.70").store_in(inventory.store)
    planner.look_up([text(50)], [])
    assert states(control)["new"] == ("served", [70])
    content("10.1.0.72", "10.1.0.71").store_in(inventory.store)
    planner.look_up([], ["new"])
    assert states(control)["new"] == ("served", [71])
    content("10.1.0.72", "10.1.0.72").store_in(inventory.store)
    planner.look_up([], ["new"])
    assert states(control)["new"] == ("conflict", [])


@pytest.mark.parametrize("mac_number", [70, None])
def test_a_container_is_a_host_too(
    planner: Planner, control: Control, inventory: Inventory, mac_number: int | None
) -> None:
    def content(chassis: str, chassis_mac: Any, host: str) -> Site:
        made = site()
        made.host("ch", chassis, mac=chassis_mac, dhcp={"enabled": 1})
        made.put("h1", "ch")
        made.host("new", host, mac=text(50), pools=["boot"], dhcp={})
        return made

    refresh(planner, inventory, content("10.1.0.70", text(60), "10.1.0.80"))
    content("10.1.0.71", text(mac_number) if mac_number else (), "10.1.0.70").store_in(inventory.store)
    planner.look_up([text(50)], [])
    assert states(control)["new"] == ("served", [70])
    assert states(control).get("ch") == (("served", [71]) if mac_number else None)
    assert control.pair().lookup(mac(60)) is None


def test_the_same_conflict_is_remembered_once(planner: Planner, control: Control, inventory: Inventory) -> None:
    content = site()
    content.host("thief", "10.1.0.11", mac=text(50), pools=["boot"], dhcp={})
    refresh(planner, inventory, content)
    counts = set()
    for _ in range(3):
        planner.look_up([text(50)], [])
        counts.add(len(planner.disputes.known))
    assert counts == {1}


def test_the_address_of_a_container_that_cannot_be_read(
    planner: Planner, control: Control, inventory: Inventory
) -> None:
    content = site()
    content.host("sw", "10.1.0.70", mac=(), type_="networkswitch", dhcp={})
    content.put("h1", "sw")
    refresh(planner, inventory, content)
    content.host("new", "10.1.0.70", mac=text(50), pools=["boot"], dhcp={})
    content.store_in(inventory.store)
    inventory.spoiled = {"name=sw": http("Traceback\nKeyError: 'x'", "500 Oops")}
    planner.look_up([text(50)], [])
    assert states(control)["new"] == ("conflict", [])


def test_who_cannot_be_read_costs_himself_alone(planner: Planner, control: Control, inventory: Inventory) -> None:
    """The other party of a conflict that is over is asked for and cannot be read: who moved away is answered."""
    content = site()
    content.host("thief", "10.1.0.11", mac=text(50), pools=["boot"], dhcp={})
    refresh(planner, inventory, content)
    content = site()
    content.host("thief", "10.1.0.99", mac=text(50), pools=["boot"], dhcp={})
    content.store_in(inventory.store)
    inventory.spoiled = {"name=h1": http("Traceback\nKeyError: 'x'", "500 Oops")}
    planner.look_up([text(50)], [])
    assert isinstance(control.last, Planned), control.last
    assert states(control)["thief"] == ("served", [99]) and states(control)["h1"] == ("conflict", [])
    assert "h1" in control.report()["faults"]
    inventory.spoiled = {}
    planner.look_up([], ["h1"])
    assert states(control)["h1"] == ("served", [11])


def test_an_address_that_somebody_has_who_cannot_be_read(
    planner: Planner, control: Control, inventory: Inventory
) -> None:
    """Nobody knows whether he still has it: a conflict, named, and never both."""
    planner.refresh(False)
    content = site()
    content.host("new", "10.1.0.11", mac=text(50), pools=["boot"], dhcp={})
    content.things["/server/h1"] = [a for a in content.things["/server/h1"] if a.key != "ip"]
    content.store_in(inventory.store)
    inventory.spoiled = {"name=h1": http("Traceback\nKeyError: 'x'", "500 Oops")}
    planner.look_up([text(50)], [])
    assert states(control)["new"] == ("conflict", [])
    check(control.pair())
    inventory.spoiled = {}
    planner.look_up([], ["h1"])
    assert states(control)["new"] == ("served", [11]) and states(control)["h1"] == ("no-address", [])


def test_what_a_look_up_confirmed_is_younger_than_a_part_that_is_lost_later(control: Control, tmp_path: Path) -> None:
    """A refresh reads what somebody takes back meanwhile, a look-up says so; then the part cannot be read any more."""
    with moving(control, tmp_path, a=Machine(1, [20]), b=Machine(2, [21], part="q")) as (planner, inventory):
        inventory.hosts["a"].addresses = [22]

        def back(part: str) -> None:
            if part == "q":
                inventory.hosts["a"].addresses = [20]
                planner.look_up([mac_text(1)], [])

        inventory.before_part, inventory.lost = back, {"q"}
        planner.refresh(False)
        assert states(control)["a"] == ("served", [20])
        inventory.before_part, inventory.lost = (lambda _part: None), {"p"}
        planner.refresh(False)
        assert states(control)["a"] == ("served", [20])
