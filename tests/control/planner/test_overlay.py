"""Rows that an operator holds, laid over what the inventory says: published at once, over refreshes, look-ups,
rollbacks and the planner's death; and what stands beneath is there when they are released."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ext.leases import LeaseState
from ext.table import Generation, Pair, row_key

from control.planner.jobs import Failed, Planned
from control.planner.overrides import lay
from control.planner.planner import Planner
from tests.control.planning import LINKS, Control, Inventory, config, end, mac, refresh, site, text


def row(planner: Planner, number: int, role: int = 0) -> dict[str, Any]:
    """As it is published."""
    assert planner.served.shown is not None
    found: dict[str, Any] = planner.served.shown.lookup(mac(number), role)
    return found


def beneath(planner: Planner) -> dict[int, Any]:
    """What the inventory says, by key."""
    pair = planner.served.pair
    assert pair is not None
    return {row_key(*key): pair.lookup(*key) for key in pair.keys()}  # noqa: SIM118


def identity(planner: Planner, number: int) -> int:
    assert planner.served.pair is not None
    return int(planner.served.pair.lookup(mac(number))["identity"])


def heir_of(planner: Planner, control: Control, folder: Path, inventory: Inventory) -> Planner:
    """Another planner, which is given what is published."""
    base, delta = (os.dup(fd) if fd >= 0 else -1 for fd in planner.served.shown_fds())
    made = Planner(config(inventory, folder), LINKS, control.send)
    made.adopt(base, delta)
    return made


@pytest.fixture
def held(planner: Planner) -> Iterator[Planner]:
    """One whose host h2 is held."""
    planner.refresh(False)
    lay(planner, [[identity(planner, 2), 0]])
    yield planner


def test_a_held_host_is_not_answered_and_all_others_are(planner: Planner, control: Control) -> None:
    planner.refresh(False)
    before = control.pair()
    lay(planner, [[identity(planner, 2), 0]])
    planned = control.last
    assert isinstance(planned, Planned) and planned.origin == "overrides" and planned.published
    assert (planned.generation, planned.changed, planned.hosts) == (before.top.number + 1, 1, 5)
    pair = control.pair()
    found = pair.lookup(mac(2))
    assert (found["state"], found["name"], found["leases"]) == ("held", b"h2", [])
    assert found["identity"] == before.lookup(mac(2))["identity"] and pair.in_state("held") == [(mac(2), 0)]
    assert pair.number_of(mac(2)) == before.number_of(mac(2)), "its place in the boot ledger stays"
    assert all(pair.content_hash(mac(n)) == before.content_hash(mac(n)) for n in (1, 3, 4, 5, 6))


def test_what_is_released_is_as_the_inventory_says_without_asking_it(held: Planner, control: Control) -> None:
    assert held.served.pair is not None
    was, generation = held.served.pair.top.digest, control.last.generation
    lay(held, [])
    assert control.last.published and control.last.generation > generation and control.last.hosts == 6
    assert control.pair().top.digest == was and control.pair().top.beneath == b""


def test_the_same_overrides_again_publish_nothing(held: Planner, control: Control) -> None:
    many = len(control.sent)
    lay(held, [[identity(held, 2), 0]])
    lay(held, [[identity(held, 2), 0], [12345, 0]])
    assert len(control.sent) == many


def test_nothing_that_changes_the_table_ends_a_hold(held: Planner, control: Control, inventory: Inventory) -> None:
    before = beneath(held)
    refresh(held, inventory, site(changed={2, 3}))
    assert row(held, 2)["state"] == "held" and row(held, 3)["leases"][0]["address"] == 0x0A010071
    site(changed={2, 3, 4}).store_in(inventory.store)
    held.look_up([text(2), text(4)], [])
    assert row(held, 2)["state"] == "held" and row(held, 4)["leases"][0]["address"] == 0x0A010072
    held.relink(LINKS)
    assert row(held, 2)["state"] == "held"
    held.rollback()
    assert control.last.origin == "rollback" and row(held, 2)["state"] == "held"
    assert row(held, 3)["leases"][0]["address"] == 0x0A01000D and control.pair().in_state("held") == [(mac(2), 0)]
    lay(held, [])
    assert beneath(held) == before and row(held, 2)["leases"][0]["address"] == 0x0A01000C, "held or not, it went back"


def test_a_large_change_makes_a_new_base_under_a_hold(
    held: Planner, inventory: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control.planner.served.DELTA_ROWS_MAX", 2)
    refresh(held, inventory, site(12))
    assert held.served.pair is not None and held.served.pair.delta is None
    assert row(held, 2)["state"] == "held" and row(held, 12)["state"] == "served"
    assert held.served.shown is not None and held.served.shown.top.host_count == 11


def test_the_hold_is_the_host_s_and_not_its_card_s(held: Planner, inventory: Inventory) -> None:
    """A board is replaced: the new one is held; the old MAC, by then somebody else's, is not."""
    content = site(gone={2, 3})
    content.host("h2", "10.1.0.12", mac=text(20), pools=["boot"], dhcp={})
    content.host("h3", "10.1.0.13", mac=text(2), pools=["boot"], dhcp={})
    refresh(held, inventory, content, force=True)
    assert row(held, 20)["state"] == "held"
    assert row(held, 2)["name"] == b"h3" and row(held, 2)["state"] == "served"


def test_who_leaves_and_comes_back_is_held(held: Planner, control: Control, inventory: Inventory) -> None:
    refresh(held, inventory, site(gone={2}))
    assert held.served.shown is not None and held.served.shown.lookup(mac(2)) is None
    refresh(held, inventory, site())
    assert row(held, 2)["state"] == "held" and control.last.published


def test_a_conflict_with_a_held_host_is_one_all_the_same(held: Planner, inventory: Inventory) -> None:
    """Its address is nobody else's, although no row of the published table gives it."""
    content = site()
    content.host("thief", "10.1.0.12", mac=text(30), pools=["boot"], dhcp={})
    content.store_in(inventory.store)
    held.look_up([text(30)], [])
    assert row(held, 30)["state"] == "conflict" and row(held, 2)["state"] == "conflict"
    held.refresh(True)
    assert row(held, 30)["state"] == "conflict" and row(held, 2)["state"] == "conflict"
    refresh(held, inventory, site())
    assert row(held, 2)["state"] == "held"


@pytest.mark.parametrize("released", [False, True])
def test_the_next_planner_has_what_stands_beneath(
    held: Planner, control: Control, inventory: Inventory, tmp_path: Path, released: bool
) -> None:
    before = beneath(held)
    inventory.down = b""
    heir = heir_of(held, control, tmp_path, inventory)
    heir.overlay.set([] if released else [[identity(held, 2), 0]])
    heir.relink(LINKS)
    assert beneath(heir) == before, "without a word of the inventory"
    assert row(heir, 2)["state"] == ("served" if released else "held")
    assert control.last.generation > 2 and control.pair().number_of(mac(2)) == before_number(held)
    end(heir)


def before_number(planner: Planner) -> int:
    assert planner.served.pair is not None
    return int(planner.served.pair.number_of(mac(2)))


def test_the_disk_has_the_hold_too(held: Planner, control: Control, inventory: Inventory) -> None:
    inventory.down = b""
    again = Planner(held.config, LINKS, control.send)
    again.overlay.set([[identity(held, 2), 0]])
    again.load_from_disk()
    assert row(again, 2)["state"] == "held" and beneath(again) == beneath(held)
    lay(again, [])
    assert row(again, 2)["state"] == "served"
    end(again)


def test_a_hold_before_the_first_table_is_in_the_first(
    planner: Planner, control: Control, inventory: Inventory
) -> None:
    other = Planner(planner.config, LINKS, control.send)
    planner.refresh(False)
    lay(other, [[identity(planner, 2), 0]])
    other.refresh(False)
    assert control.pair().in_state("held") == [(mac(2), 0)]
    end(other)


def test_a_machine_that_is_not_answered_keeps_its_own_reason(planner: Planner, inventory: Inventory) -> None:
    refresh(planner, inventory, site(off=True))
    lay(planner, [[identity(planner, 2), 0]])
    assert row(planner, 2)["state"] == "disabled"
    refresh(planner, inventory, site())
    assert row(planner, 2)["state"] == "held", "as soon as it would be answered"


def test_a_pinned_table_may_be_held_and_released(held: Planner, control: Control, inventory: Inventory) -> None:
    refresh(held, inventory, site(changed={3}))
    held.rollback()
    lay(held, [])
    assert not isinstance(control.last, Failed) and row(held, 2)["state"] == "served" and held.pinned_s
    lay(held, [[identity(held, 3), 0]])
    assert row(held, 3)["state"] == "held"


def test_builds_before_this_one_read_a_held_row_as_unanswered() -> None:
    """Its octets are those of a card at a port that is not served, which they do not answer either."""
    assert int(LeaseState.HELD) > int(LeaseState.TOMBSTONE), "no row bears it: their check of a table refuses more"


def test_what_stands_beneath_is_checked_before_it_is_believed(held: Planner) -> None:
    assert held.served.shown is not None
    image = held.served.shown.top.beneath
    from control.planner.served import sealed_image

    fd = sealed_image(image)
    found = Generation(fd)
    os.close(fd)
    found.verify()
    assert held.served.pair is not None
    assert Pair(held.served.pair.base, found).lookup(mac(2))["state"] == "served"


# --- options for one boot ---

SAID = [["tftp_filename", "/install.0"], ["lease_time", "600"]]


def file_of(planner: Planner, number: int) -> bytes:
    return bytes(row(planner, number)["leases"][0]["template"]["file"])


@pytest.fixture
def once(planner: Planner) -> Iterator[Planner]:
    """One whose host h2 gets other options for one boot."""
    planner.refresh(False)
    lay(planner, [], [[identity(planner, 2), "h2", SAID, False]])
    yield planner


def test_nothing_that_changes_the_table_ends_the_options_of_one_boot(once: Planner, inventory: Inventory) -> None:
    assert file_of(once, 2) == b"/install.0" and file_of(once, 3) == b""
    refresh(once, inventory, site(changed={3}))
    assert file_of(once, 2) == b"/install.0", "its own part of the inventory is as it was, or was planned anew"
    site(changed={2, 3}).store_in(inventory.store)
    once.look_up([], ["h2"])
    assert file_of(once, 2) == b"/install.0" and row(once, 2)["leases"][0]["address"] == 0x0A010070
    once.look_up([], ["h2"])
    once.rollback()
    assert row(once, 2)["leases"][0]["address"] == 0x0A01000C and file_of(once, 2) == b"/install.0"
    once.relink(LINKS)
    assert file_of(once, 2) == b"/install.0"
    lay(once, [])
    assert file_of(once, 2) == b"" and row(once, 2)["leases"][0]["template"]["lease_s"] == 3600


@pytest.mark.parametrize("known", [True, False])
def test_the_next_planner_has_the_options_without_the_inventory(
    once: Planner, control: Control, inventory: Inventory, tmp_path: Path, known: bool
) -> None:
    """Unless control says that the table has those of another boot."""
    inventory.down = b""
    wanted = [[identity(once, 2), "h2", SAID, known]]
    heir = Planner(config(inventory, tmp_path), LINKS, control.send)
    heir.overlay.set([], wanted)
    heir.known_onces = {each[0] for each in wanted if each[3]}
    base, delta = (os.dup(fd) if fd >= 0 else -1 for fd in once.served.shown_fds())
    heir.adopt(base, delta)
    heir.relink(LINKS)
    assert file_of(heir, 2) == (b"/install.0" if known else b"") and beneath(heir) == beneath(once)
    inventory.forget()
    heir.refresh(False)
    assert file_of(heir, 2) == b"/install.0", "planned anew by what is read"
    end(heir)


def test_a_hold_counts_more_than_the_options_of_one_boot(once: Planner) -> None:
    wanted = [[identity(once, 2), "h2", SAID, True]]
    lay(once, [[identity(once, 2), 0]], wanted)
    assert row(once, 2)["state"] == "held"
    lay(once, [], wanted)
    assert file_of(once, 2) == b"/install.0"


def test_the_disk_vouches_for_no_table_with_the_options_of_one_boot(once: Planner) -> None:
    """The boot may be over by the next start, which waits for the planner therefore."""
    assert not (once.store.state_dir / "table.proof").exists()
    lay(once, [])
    assert (once.store.state_dir / "table.proof").exists()
