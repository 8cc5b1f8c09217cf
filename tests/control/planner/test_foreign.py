"""control/planner/foreign.py: another machine's table is checked like ours, and served with our own interfaces."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from ext.table import Generation

from control.planner.foreign import Foreign, NoStore
from control.planner.jobs import Failed, Planned, TableChecked
from control.planner.planner import Planner
from control.table.digest import rows_digest
from fastpath.protocol import close_all
from tests.control.planning import LINKS, OTHER_LINKS, Control, Inventory, config, end, mac, site


@pytest.fixture
def leader(inventory: Inventory, tmp_path: Path) -> Iterator[tuple[Planner, Control]]:
    """Another machine's planner, with other interfaces, whose tables no disk gets."""
    control = Control()
    folder = tmp_path / "leader"
    folder.mkdir()
    made = Planner(config(inventory, folder), OTHER_LINKS, control.send)
    made.store = NoStore(folder)
    made.served.number = 1_000_000
    yield made, control
    end(made)
    control.close()
    assert list(folder.iterdir()) == []


def digest_of(planner: Planner) -> bytes:
    assert planner.served.pair is not None
    return rows_digest(planner.served.pair)


def adopted(foreign: Foreign, leader: Planner, control: Control) -> Planned:
    digest = digest_of(leader)
    foreign.check(leader.served.fds(), digest)
    assert control.last == TableChecked(digest=digest), control.last
    foreign.serve(digest)
    assert isinstance(control.last, Planned), control.last
    return control.last


def test_rows_are_the_leader_s_and_interfaces_our_own(
    planner: Planner, control: Control, leader: tuple[Planner, Control], inventory: Inventory
) -> None:
    other, said = leader
    other.refresh(False)
    foreign = Foreign(planner)
    asked: list[str] = []
    inventory.on_request = asked.append
    planned = adopted(foreign, other, control)
    assert planned.origin == "fleet" and planned.hosts == 6 and asked == []
    pair = control.pair()
    assert rows_digest(pair) == digest_of(other) and planned.generation > pair.base.number == said.pair().base.number
    for fd in planner.served.fds():
        Generation(fd).verify()
    assert planner.store.base_path.exists() and planner.store.delta_path.exists(), "the disk has it"
    # A delta upon the base that is here, and interfaces that change.
    site(changed={2}).store_in(inventory.store)
    other.refresh(False)
    assert adopted(foreign, other, control).base == planned.base and planner.served.pair is not None
    row = planner.served.pair.lookup(mac(2))
    assert row is not None and row["leases"][0]["address"] == 0x0A010000 + 112
    planner.relink(OTHER_LINKS)
    assert digest_of(planner) == digest_of(other)


def test_a_start_from_disk_serves_it(
    planner: Planner, control: Control, leader: tuple[Planner, Control], inventory: Inventory
) -> None:
    other, _said = leader
    other.refresh(False)
    adopted(Foreign(planner), other, control)
    again_control = Control()
    again = Planner(planner.config, LINKS, again_control.send)
    again.load_from_disk()
    assert digest_of(again) == digest_of(other)
    end(again)
    again_control.close()


def test_what_is_not_as_it_should_be_is_refused(
    planner: Planner, control: Control, leader: tuple[Planner, Control], inventory: Inventory
) -> None:
    planner.refresh(False)
    served = digest_of(planner)
    other, _said = leader
    other.refresh(False)
    foreign = Foreign(planner)
    fds = other.served.fds()

    def refused(tables: list[int], digest: bytes, reason: str, says: str) -> None:
        foreign.check(tables, digest)
        assert control.last.reason == reason and says in control.last.said, control.last
        foreign.serve(digest)
        assert isinstance(control.last, Failed) and control.last.job == "fleet"
        assert digest_of(planner) == served

    refused(fds, bytes(32), "table-wrong", "other rows than the head says")
    refused([], served, "table-wrong", "")
    raw = bytearray(os.pread(fds[0], os.fstat(fds[0]).st_size, 0))
    raw[len(raw) // 2] ^= 1
    damaged = os.memfd_create("damaged", os.MFD_ALLOW_SEALING)
    os.write(damaged, raw)
    refused([damaged], digest_of(other), "table-wrong", "")
    os.close(damaged)
    site(hosts=2).store_in(inventory.store)
    other.refresh(True)
    refused(other.served.fds(), digest_of(other), "guarded", "4 of 6 hosts would no longer be answered")


def test_only_the_last_one_that_was_checked_is_served(
    planner: Planner, control: Control, leader: tuple[Planner, Control], inventory: Inventory
) -> None:
    other, _said = leader
    other.refresh(False)
    first, fds = digest_of(other), [os.dup(fd) for fd in other.served.fds()]
    site(hosts=7).store_in(inventory.store)
    other.refresh(False)
    foreign = Foreign(planner)
    foreign.check(fds, first)
    foreign.check(other.served.fds(), digest_of(other))
    foreign.serve(first)
    assert isinstance(control.last, Failed)
    foreign.serve(digest_of(other))
    assert isinstance(control.last, Planned) and control.last.hosts == 7
    close_all(fds)
