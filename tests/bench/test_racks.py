"""bench.storm: the site of racks, who hangs in it, and its inventory."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest

from bench.engine.firmware import IPXE_HASTY, OS, ROM
from bench.engine.target import Target
from bench.storm.boot import END, Pace, boot, ends_of
from bench.storm.racks import (
    HANGS,
    OF_ITSELF,
    Machine,
    Row,
    Site,
    contested,
    even_rows,
    gateway_of,
    host_file,
    network_of,
    site_of,
    with_hangs,
)
from bench.storm.standing import Part, parts_of
from control.clusto.hostfile import parse
from tests.bench.responders import FIRST_ADDRESS, FIRST_MAC, responder, right


def hanging(many: int = 37, seed: int = 1) -> Site:
    return with_hangs(site_of(even_rows(1_003, 10)), many, seed)


def test_rows_are_even_and_each_machine_has_a_place_of_its_own() -> None:
    site = hanging()
    assert [row.machines for row in site.rows] == [101] * 3 + [100] * 7
    assert (
        len({machine.address for machine in site.machines}) == len({machine.mac for machine in site.machines}) == 1_003
    )
    assert [(machine.row, machine.rack) for machine in site.machines[100:102]] == [
        (0, "row00-rack002"),
        (1, "row01-rack000"),
    ]
    assert all(machine.address >> 16 == int(network_of(machine.row)[0]) >> 16 for machine in site.machines)


def test_all_kinds_hang_in_turn_conflicts_in_pairs_and_the_seed_says_who() -> None:
    site = hanging()
    kinds = Counter(machine.hang for machine in site.machines if machine.hang)
    assert kinds.keys() == HANGS.keys() and kinds.total() == 37 and max(kinds.values()) - min(kinds.values()) <= 2
    assert kinds["conflict"] % 2 == 0 and len(contested(site)) == kinds["conflict"] // 2
    for one, two in contested(site):
        assert (one.rival, two.rival, one.hang, two.hang) == (two.number, one.number, "conflict", "conflict")
    assert hanging() == site != hanging(seed=2)
    odd = Counter(machine.hang for machine in hanging(3).machines)
    assert odd["conflict"] == 0 and odd.total() - odd[""] == 3


def test_some_rows_alone_and_on_top_of_others() -> None:
    site = with_hangs(hanging(), 5, 7, OF_ITSELF, rows=(4,))
    more = {machine.number: machine for machine in site.machines if machine.hang}
    for machine in hanging().machines:
        if machine.hang:
            assert more.pop(machine.number) == machine
    assert {machine.row for machine in more.values()} == {4} and len(more) == 5


@pytest.mark.parametrize(
    ("rows", "many", "kinds", "words"),
    [
        (10, 1_004, OF_ITSELF, "there are 1003"),
        (10, 3, ("conflict",), "wanted an even number"),
        (1, 1, ("elsewhere",), "at least two rows"),
        (1_004, 0, OF_ITSELF, "at least one machine a row"),
    ],
)
def test_what_cannot_hang(rows: int, many: int, kinds: tuple[str, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        with_hangs(site_of(even_rows(1_003, rows)), many, 1, kinds)


def test_the_inventory_is_one_that_load_takes_and_says_why_nobody_answers() -> None:
    site = with_hangs(site_of([*even_rows(200, 2), Row("last", 3, dhcp={"boot_ends": "os"})]), 22, 5)
    found = parse(host_file(site), "hosts.yaml")
    assert found.errors == [] and len(found.hosts) == 203 and len(found.networks) == 3
    assert {pool.name: dict(pool.dhcp).get("boot_ends") for pool in found.pools}["last"] == "os"
    hosts = {row.name: row for row in found.hosts}
    units = Counter((row.rack, unit) for row in found.hosts for unit in row.ru)
    assert max(units.values()) == 1
    for machine in site.machines:
        row = hosts[machine.name]
        assert (row.mac, row.rack, row.pools) == (machine.mac_text, machine.rack, (site.rows[machine.row].name,))
        assert (row.addresses is None) == (machine.hang == "no-address")
        wanted = {"disabled": {"enabled": 0}, "unusable": {"enabled": "perhaps"}}.get(machine.hang, {})
        assert dict(row.dhcp) == wanted
    assert json.loads(host_file(site))["networks"][0]["gateway"] == gateway_of(0)


def test_who_asks_from_which_wire() -> None:
    site = hanging()
    segment, relayed = parts_of(site, None)  # type: ignore[arg-type]
    assert segment.target.ifname and relayed.target.giaddrs == tuple(gateway_of(row) for row in range(1, 10))
    assert sorted(segment.numbers + relayed.numbers) == list(range(1_003))
    for number, relay in zip(relayed.numbers, relayed.relays, strict=True):
        machine = site.machines[number]
        assert (relay + 1 == machine.row) == (machine.hang != "elsewhere")
    assert all(site.machines[number].row == 0 or site.machines[number].hang for number in segment.numbers)


def test_before_the_last_boot_those_hang_that_never_boot() -> None:
    site = with_hangs(site_of([Row("known", 60), Row("fresh", 20, first_boot=2)]), 22, 3, rows=(0,))
    first, last = ends_of(site, 1, False), ends_of(site, 2, True)
    for machine, before, after in zip(site.machines, first, last, strict=True):
        if machine.row == 1:
            assert (before, after) == (None, END)
        elif machine.hang:
            hang = HANGS[machine.hang]
            assert after == hang.at and before == (hang.at if hang.made or hang.at is None else END)
        else:
            assert before == after == END


def test_a_boot_knows_where_each_machine_came_to_and_who_went_astray() -> None:
    """A service that nobody made an inventory for, and that leaves one machine without an answer."""
    machines = tuple(Machine(i, f"m{i}", FIRST_MAC + i, FIRST_ADDRESS + i) for i in range(12))
    site = with_hangs(Site((Row("hosts", 12),), machines), 6, 4, OF_ITSELF)
    lost = next(machine for machine in site.machines if not machine.hang)
    patient = {"discover_s": (5.0, 5.0), "request_s": (5.0, 5.0)}
    hasty = replace(ROM, discover_s=(1.5, 1.5), request_s=(5.0,), collect_s=0.0)
    pace = Pace((hasty, replace(IPXE_HASTY, **patient), replace(OS, **patient)), 0.0)
    with responder(lambda asked: [] if asked.host == lost.number else right(asked)) as port:
        target = Target("127.0.0.1", ("127.0.0.1",), port=port, own_port=0)
        found = boot(site, [Part(target, list(range(12)), [])], pace, core=None, seed=4)
    assert found.astray == [lost] and not found.all_right and found.where[lost.number] == ("rom", "DISCOVER")
    for each in site.machines:
        assert each == lost or found.where[each.number] == (HANGS[each.hang].at if each.hang else END)
    hung = Counter(HANGS[machine.hang].at for machine in site.machines if machine.hang)
    assert found.came_to["os"] == {"DISCOVER": 0, "OFFER": hung["os", "OFFER"], "REQUEST": 0, "ACK": 5}
    assert found.where.count(None) == hung[None] == 1
    assert sum(map(sum, zip(*found.asked, strict=True))) == sum(
        sum(steps.values()) for steps in found.datagrams.values()
    )
    made = found.record()
    assert (made["up"], made["hung"], made["dark"], made["astray"]) == (5, 6, 1, [lost.name])
    assert f"1 are not where they had to come to: {lost.name}" in found.lines()
