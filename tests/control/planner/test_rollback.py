"""Going back: what `ctl diff` lists, what `ctl rollback` serves and how long, and look-ups beside all that."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ext.table import Pair

from control.cli.ctl import CallFailed
from control.planner.jobs import Failed, Planned, RefreshFailed
from control.planner.planner import Planner
from control.planner.process import finish_rollback
from control.planner.questions import list_changes
from control.service.doors.commands import COMMANDS
from tests.control.planner.test_doubts import many
from tests.control.planning import (
    LINKS,
    OTHER_LINKS,
    Control,
    Inventory,
    config,
    end,
    mac,
    number,
    open_memfds,
    refresh,
    site,
    text,
)
from tests.control.refreshing import Ctl, commanded, inventory_server
from tests.control.refreshing import Inventory as Held


def digest(planner: Planner) -> str:
    assert planner.served.pair is not None
    return str(planner.served.pair.top.digest)


def address(pair: Pair, host: int) -> int:
    return int(pair.lookup(mac(host))["leases"][0]["address"])


# --- the planner -----------------------------------------------------------------------------------------------------


def test_a_rollback_serves_what_was_before_the_last_refresh(
    planner: Planner, control: Control, inventory: Inventory
) -> None:
    planner.refresh(False)
    first = digest(planner)
    refresh(planner, inventory, site(7, changed={2}, gone={3}))
    planner.rollback()
    assert isinstance(control.last, Planned)
    assert (control.last.origin, control.last.published, control.last.generation) == ("rollback", True, 3)
    assert (control.last.added, control.last.changed, control.last.removed) == (1, 1, 1), (
        "h3 back, h2 as it was, h7 gone"
    )
    assert digest(planner) == first == control.pair().top.digest and control.pair().top.host_count == 6
    assert control.last.pinned_s > 0 and address(control.pair(), 2) == 0x0A01000C


def test_a_rollback_over_a_new_base(
    planner: Planner, control: Control, inventory: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("control.planner.served.DELTA_ROWS_MAX", 0)
    planner.refresh(False)
    first = digest(planner)
    refresh(planner, inventory, site(changed={1, 2, 3}))
    assert control.last.base == 2
    planner.rollback()
    assert (control.last.generation, control.last.base) == (3, 1) and digest(planner) == first
    planner.refresh(True)
    assert (control.last.generation, control.last.base, control.last.changed) == (4, 4, 3)


def test_a_pinned_table_follows_nobody(planner: Planner, control: Control, inventory: Inventory) -> None:
    planner.refresh(False)
    first = digest(planner)
    refresh(planner, inventory, site(changed={2}))
    planner.rollback()
    asked = len(inventory.server.targets)
    planner.refresh(False)
    assert isinstance(control.last, Failed) and (control.last.kind, control.last.job) == ("pinned", "refresh")
    want = "pinned to generation 3 by ctl rollback; to follow the inventory again: ctl refresh --force"
    assert control.last.reason == want
    planner.look_up([text(2)], [])
    assert control.last == Failed(kind="pinned", reason=want, job="hosts")
    planner.rollback()
    assert control.last == Failed(kind="pinned", reason=f"went back already: {want}")
    assert len(inventory.server.targets) == asked, "nobody was even asked"
    assert (digest(planner), number(planner)) == (first, 3)


def test_force_follows_again(planner: Planner, control: Control, inventory: Inventory) -> None:
    planner.refresh(False)
    refresh(planner, inventory, site(changed={2}))
    second = digest(planner)
    planner.rollback()
    planner.refresh(True)
    assert isinstance(control.last, Planned) and control.last.published and control.last.pinned_s == 0
    assert digest(planner) == second and not planner.store.pin_path.exists()
    refresh(planner, inventory, site(changed={3}))
    assert isinstance(control.last, Planned) and control.last.changed == 2
    planner.look_up([text(1)], [])
    assert control.last.origin == "hosts"


def test_a_forced_refresh_that_fails_leaves_the_pin(planner: Planner, control: Control, inventory: Inventory) -> None:
    planner.refresh(False)
    refresh(planner, inventory, site(changed={2}))
    planner.rollback()
    inventory.down = b""
    planner.refresh(True)
    assert isinstance(control.last, Failed) and control.last.kind == "down"
    inventory.forget()
    planner.refresh(False)
    assert isinstance(control.last, Failed) and control.last.kind == "pinned"
    assert planner.store.pinned_s() == pytest.approx(planner.pinned_s)


def test_changed_interfaces_do_not_end_a_pin(planner: Planner, control: Control, inventory: Inventory) -> None:
    planner.refresh(False)
    first = digest(planner)
    refresh(planner, inventory, site(changed={2}))
    planner.rollback()
    planner.relink(OTHER_LINKS)
    assert control.last.pinned_s > 0 and control.last.generation == 4 and digest(planner) == first
    planner.refresh(False)
    assert isinstance(control.last, Failed) and control.last.kind == "pinned"


@pytest.mark.parametrize("start", ["cold", "restart"])
def test_a_pin_outlives_the_planner(
    planner: Planner, control: Control, inventory: Inventory, tmp_path: Path, start: str
) -> None:
    planner.refresh(False)
    first = digest(planner)
    refresh(planner, inventory, site(changed={2}))
    planner.rollback()
    since_s = planner.pinned_s
    next_one = Planner(config(inventory, tmp_path), LINKS, control.send)
    if start == "cold":
        next_one.load_from_disk()
        assert control.last.origin == "disk"
    else:
        next_one.adopt(*(os.dup(fd) for fd in planner.served.fds()))
        next_one.relink(LINKS)
    assert control.last.pinned_s == pytest.approx(since_s) and digest(next_one) == first
    next_one.refresh(False)
    assert isinstance(control.last, Failed) and control.last.kind == "pinned"
    next_one.refresh(True)
    assert isinstance(control.last, Planned) and control.last.changed == 1 and control.last.pinned_s == 0
    end(next_one)


def test_a_planner_that_ended_before_anybody_heard_of_its_rollback(
    planner: Planner, control: Control, inventory: Inventory, tmp_path: Path
) -> None:
    """The pin was on disk, and control had the table that somebody went away from: pinned was that one."""
    planner.refresh(False)
    first = digest(planner)
    refresh(planner, inventory, site(changed={2}))
    given = [os.dup(fd) for fd in planner.served.fds()]
    planner.rollback()
    next_one = Planner(config(inventory, tmp_path), LINKS, control.send)
    next_one.served.number = 2
    assert next_one.take_over(given)
    finish_rollback(next_one)
    next_one.relink(LINKS)
    assert digest(next_one) == first == control.pair().top.digest
    assert control.last.pinned_s > 0 and control.last.generation > 2
    end(next_one)


def test_a_pin_of_an_older_rollback_is_not_taken_for_one_that_nobody_heard_of(
    planner: Planner, control: Control, inventory: Inventory, tmp_path: Path
) -> None:
    """Of a disk that is read-only since: the pin could not be removed, and its table is older than what is served."""
    planner.refresh(False)
    refresh(planner, inventory, site(changed={2}))
    planner.rollback()
    planner.store.unpin = lambda: None
    refresh(planner, inventory, site(changed={3}), force=True)
    given, third = [os.dup(fd) for fd in planner.served.fds()], digest(planner)
    next_one = Planner(config(inventory, tmp_path), LINKS, control.send)
    assert next_one.pinned_s and next_one.take_over(given)
    finish_rollback(next_one)
    assert digest(next_one) == third
    end(next_one)


def test_what_a_full_disk_did_not_take_is_not_pinned(
    planner: Planner, control: Control, inventory: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty file needs no room: the pin was written, and held the very table that somebody went away from."""
    planner.refresh(False)
    refresh(planner, inventory, site(changed={2}))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr("control.table.file.write_aside", full)
        planner.rollback()
    assert control.last.unsaved == "cannot keep the table: No space left on device" and control.last.pinned_s > 0
    pin = planner.store.state_dir / "pinned"
    assert not pin.exists()
    planner.refresh(False)
    assert isinstance(control.last, Failed) and control.last.kind == "pinned", "this planner holds it"
    next_one = Planner(config(inventory, tmp_path), LINKS, control.send)
    next_one.load_from_disk()
    next_one.refresh(False)
    assert isinstance(control.last, Planned) and control.last.pinned_s == 0
    end(next_one)
    planner.rollback()  # the disk has room again
    assert isinstance(control.last, Planned) and control.last.unsaved == "" and pin.exists()
    planner.rollback()
    assert isinstance(control.last, Failed) and "went back already" in control.last.reason


def test_a_pin_without_a_table_holds_nothing(
    planner: Planner, control: Control, inventory: Inventory, tmp_path: Path
) -> None:
    """Somebody cleared the folder by half, or the table was damaged: silence until --force would help nobody."""
    planner.refresh(False)
    refresh(planner, inventory, site(changed={2}))
    planner.rollback()
    planner.store.base_path.unlink()
    next_one = Planner(config(inventory, tmp_path), LINKS, control.send)
    next_one.load_from_disk()
    next_one.refresh(False)
    assert isinstance(control.last, Planned) and control.last.hosts == 6
    end(next_one)


def test_there_is_nothing_to_go_back_to(planner: Planner, control: Control, inventory: Inventory) -> None:
    want = Failed(kind="nothing", reason="there was no refresh since control's planner started that changed anything")
    planner.rollback()
    assert control.last == want
    planner.refresh(False)
    planner.refresh(False)
    planner.rollback()
    assert control.last == want, "the first table replaced none, the second read changed nothing"
    assert number(planner) == 1


def test_one_generation_back_is_the_last_refresh_that_changed_something(
    planner: Planner, control: Control, inventory: Inventory
) -> None:
    """Neither an unchanged read, nor changed interfaces, nor a stranger's look-up takes the way back away."""
    planner.refresh(False)
    first = digest(planner)
    refresh(planner, inventory, site(changed={2}))
    planner.refresh(False)
    planner.relink(OTHER_LINKS)
    site(7, changed={2}).store_in(inventory.store)
    planner.look_up([text(7)], [])
    planner.rollback()
    assert digest(planner) == first and control.last.removed == 1


def test_a_look_up_that_somebody_asked_for_is_a_refresh_to_go_back_from(
    planner: Planner, control: Control, inventory: Inventory
) -> None:
    planner.refresh(False)
    first = digest(planner)
    site(changed={2, 3}).store_in(inventory.store)
    planner.look_up([text(2)], [], True)
    list_changes(planner, 0, 10)
    assert (control.last.origin, control.last.total) == ("hosts", 1)
    planner.rollback()
    assert digest(planner) == first


def test_going_back_does_not_pile_up_fds(planner: Planner, control: Control, inventory: Inventory) -> None:
    counts = []
    for turn in range(4):
        refresh(planner, inventory, site(changed={turn + 1}), force=True)
        planner.rollback()
        planner.refresh(True)
        control.close()
        counts.append(open_memfds())
    assert counts[1] == counts[-1], counts


# --- diff ------------------------------------------------------------------------------------------------------------


def listed(planner: Planner, control: Control, offset: int = 0, limit: int = 1000) -> list[dict[str, Any]]:
    list_changes(planner, offset, limit)
    found: list[dict[str, Any]] = control.unpacked()
    return found


def test_a_diff_lists_mac_host_old_and_new(planner: Planner, control: Control, inventory: Inventory) -> None:
    planner.refresh(False)
    content = site(7, changed={2}, gone={3})
    content.things["/server/h4"].append(content.things["/pool/boot"][1]._replace(value="own.example"))
    refresh(planner, inventory, content)
    rows = listed(planner, control)
    assert (control.last.generation, control.last.origin, control.last.total) == (2, "inventory", 4)
    new, *changed, gone = rows
    assert (new["mac"], new["host"], new["old"]) == (text(7), "h7", None)
    assert new["new"]["state"] == "served" and new["new"]["address"] == "10.1.0.17/24" and new["new"]["host"] == "h7"
    assert (gone["mac"], gone["host"], gone["new"]) == (text(3), "h3", None) and gone["old"][
        "address"
    ] == "10.1.0.13/24"
    by_name = {row["host"]: row for row in changed}
    assert by_name.keys() == {"h2", "h4"}
    assert (by_name["h2"]["old"], by_name["h2"]["new"]) == ({"address": "10.1.0.12/24"}, {"address": "10.1.0.112/24"})
    assert by_name["h4"]["new"] == {"option 15": b"own.example".hex()}, "what is the same is left out"


def test_a_diff_of_nothing(planner: Planner, control: Control) -> None:
    for _again in range(2):
        list_changes(planner, 0, 10)
        assert isinstance(control.last, Failed) and (control.last.kind, control.last.job) == ("nothing", "changes")
        planner.refresh(False)


def test_a_diff_stays_that_of_the_last_refresh_that_changed_something(
    planner: Planner, control: Control, inventory: Inventory
) -> None:
    planner.refresh(False)
    refresh(planner, inventory, site(changed={2}))
    before = listed(planner, control)
    planner.refresh(False)
    planner.relink(OTHER_LINKS)
    assert listed(planner, control) == before and control.last.generation == 2


def test_a_diff_after_a_rollback_is_the_way_back(planner: Planner, control: Control, inventory: Inventory) -> None:
    planner.refresh(False)
    refresh(planner, inventory, site(7, changed={2}))
    there = {row["host"]: (row["old"], row["new"]) for row in listed(planner, control)}
    planner.rollback()
    back = {row["host"]: (row["new"], row["old"]) for row in listed(planner, control)}
    assert back == there and control.last.origin == "rollback"


def test_a_page_of_a_diff(planner: Planner, control: Control, inventory: Inventory) -> None:
    planner.refresh(False)
    refresh(planner, inventory, site(9, changed={1, 2}, gone={3}), force=True)
    whole = listed(planner, control)
    assert len(whole) == 6
    assert [row for at in range(0, 8, 2) for row in listed(planner, control, at, 2)] == whole
    assert listed(planner, control, 6, 2) == [] and control.last.total == 6


# --- the whole of control --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def holding(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    with inventory_server(tmp_path_factory.mktemp("held")) as made:
        yield made


@pytest.fixture
def held(holding: Held) -> Iterator[Held]:
    holding.forget()
    site().store_in(holding.store)
    yield holding
    holding.release()


def test_ctl_rollback_and_back_again(held: Held, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "bootstorm.refresh")

    async def scenario(ctl: Ctl) -> None:
        with pytest.raises(CallFailed, match=r"^rollback: there was no refresh"):
            await ctl("rollback")
        with pytest.raises(CallFailed, match=r"^diff: there was no refresh"):
            await ctl("diff")
        await ctl("refresh")
        first = await ctl.status()
        assert first["pinned_s"] is None
        site(changed={2}).store_in(held.store)
        await ctl("refresh")
        figures = await ctl("rollback")
        assert (figures["generation"], figures["changed"]) == (3, 1)
        status = await ctl.status()
        assert status["pinned_s"] is not None and 0 <= status["pinned_s"] < 60
        assert (status["digest"], status["inventory"]) == (first["digest"], "ok"), "the inventory is not to blame"
        for _again in range(2):
            with pytest.raises(CallFailed, match=r"^pinned to generation 3 by ctl rollback; .*ctl refresh --force$"):
                await ctl("refresh")
            with pytest.raises(CallFailed, match=r"^pinned to generation 3"):
                await ctl("refresh", mac=text(2))
        status = await ctl.status()
        assert status["refresh"]["outcomes"]["pinned"] == 2 and status["generation"] == 3
        ctl.service.on_unknown(text(99), "eth0")
        assert not ctl.service.lookups.waiting, "a stranger is not looked up"
        assert (await ctl("refresh", force=True))["changed"] == 1
        status = await ctl.status()
        assert (status["pinned_s"], status["generation"]) == (None, 4)
        ctl.service.on_unknown(text(99), "eth0")
        assert list(ctl.service.lookups.waiting) == [text(99)]

    commanded(held.server.url, tmp_path, scenario)
    assert not [line for line in caplog.messages if "refresh failed" in line]


def test_a_pin_outlives_the_machine(held: Held, tmp_path: Path) -> None:
    async def life(ctl: Ctl) -> None:
        await ctl("refresh")
        site(changed={2}).store_in(held.store)
        await ctl("refresh")
        await ctl("rollback")

    async def cold(ctl: Ctl) -> None:
        with pytest.raises(CallFailed, match=r"^pinned to generation"):
            await ctl("refresh")
        status = await ctl.status()
        assert status["pinned_s"] is not None and status["hosts"] == 6
        assert (await ctl("lookup", mac=text(2)))["leases"][0]["address"] == "10.1.0.12"
        assert (await ctl("refresh", force=True))["changed"] == 1

    commanded(held.server.url, tmp_path, life)
    commanded(held.server.url, tmp_path, cold)


def test_every_command_has_a_right(held: Held, tmp_path: Path) -> None:
    async def scenario(ctl: Ctl) -> None:
        console = ctl.service.console
        assert {*console.handlers, *console.streams} == set(COMMANDS)

    commanded(held.server.url, tmp_path, scenario)


def test_a_page_that_cannot_be(held: Held, tmp_path: Path) -> None:
    async def scenario(ctl: Ctl) -> None:
        for offset, limit in ((-1, 10), (0, 0), (0, 1001)):
            with pytest.raises(
                CallFailed, match=f"^diff: offset {offset}, limit {limit}; wanted 0 or more, and 1 to 1000"
            ):
                await ctl("diff", offset=offset, limit=limit)

    commanded(held.server.url, tmp_path, scenario)


def test_2500_changes_come_in_pages(tmp_path: Path) -> None:
    path = tmp_path / "hosts.csv"
    path.write_text(many(0, 100))

    async def scenario(ctl: Ctl) -> None:
        await ctl("refresh")
        path.write_text(many(0, 2600))
        await ctl("refresh")
        pages = [await ctl("diff", offset=at, limit=1000) for at in range(0, 3000, 1000)]
        assert [len(page["changes"]) for page in pages] == [1000, 1000, 500]
        assert {(page["total"], page["generation"], page["origin"]) for page in pages} == {(2500, 2, "inventory")}
        assert len({change["mac"] for page in pages for change in page["changes"]}) == 2500

    commanded(f"file://{path}", tmp_path, scenario)


# --- look-ups while a refresh is reading -----------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["changed", "new", "gone"])
def test_a_look_up_during_a_refresh_is_published_at_once_and_stays(held: Held, tmp_path: Path, how: str) -> None:
    """The refresh read the host before it changed: the younger word counts, and the next refresh agrees with it."""
    host = {"changed": 2, "new": 7, "gone": 3}[how]
    later = {"changed": site(changed={2}), "new": site(7), "gone": site(gone={3})}[how]

    async def scenario(ctl: Ctl) -> None:
        await ctl("refresh")
        content = site()
        content.host("other", "10.1.0.99", mac=text(99), pools=["boot"], dhcp={})
        content.store_in(held.store)
        held.hold("prefetch_attrs")
        under_way = asyncio.create_task(ctl("refresh"))
        await held.wait_asked()
        later.store_in(held.store)
        figures = await asyncio.wait_for(ctl("refresh", mac=text(host)), 30)
        assert not under_way.done() and figures["added"] + figures["changed"] + figures["removed"] == 1
        young = await seen(ctl, host)
        content.store_in(held.store)
        held.release()
        await under_way
        assert await seen(ctl, host) == young, "not taken back"
        assert await ctl.state_of(text(99)) == "served", "and the refresh did its own work"
        later.store_in(held.store)
        assert (await ctl("refresh"))["removed"] == 1 and await seen(ctl, host) == young
        content.store_in(held.store)
        await ctl("refresh")
        assert await seen(ctl, host) != young, "an inventory that goes back is followed again"

    commanded(held.server.url, tmp_path, scenario)


async def seen(ctl: Ctl, host: int) -> Any:
    try:
        found = await ctl("lookup", mac=text(host))
    except CallFailed:
        return None
    return found["leases"][0]["address"]


def test_a_look_up_waits_for_the_first_read_of_the_whole(held: Held, tmp_path: Path) -> None:
    """As after an upgrade or the planner's death: a person who asks then, or a new server, need not come again."""

    async def scenario(ctl: Ctl) -> None:
        held.hold("prefetch_attrs")
        under_way = asyncio.create_task(ctl("refresh"))
        await held.wait_asked()
        look_up = asyncio.create_task(ctl("refresh", mac=text(2)))
        stranger = asyncio.create_task(ctl.service.refresher.look_up([text(3)]))
        done, _waiting = await asyncio.wait((look_up, stranger, under_way), timeout=0.5)
        assert not done, "it waits, and asks nothing itself"
        held.release()
        assert (await under_way)["hosts"] == 6
        assert (await look_up)["hosts"] == 6 and (await stranger)[1] == []
        with pytest.raises(RefreshFailed):
            held.down = b""
            await ctl.service.refresher.look_up([text(2)])

    commanded(held.server.url, tmp_path, scenario)


def test_changed_interfaces_during_a_refresh(held: Held, tmp_path: Path) -> None:
    """The relink does not wait for the inventory, and the refresh builds upon it."""

    async def scenario(ctl: Ctl) -> None:
        await ctl("refresh")
        site(changed={2}).store_in(held.store)
        held.hold("prefetch_attrs")
        under_way = asyncio.create_task(ctl("refresh"))
        await held.wait_asked()
        await ctl.service.refresher.relink([])
        await ctl("refresh", mac=text(1))
        assert (await ctl.status())["generation"] == 2 and not under_way.done()
        held.release()
        figures = await under_way
        assert (figures["generation"], figures["changed"]) == (3, 1)

    commanded(held.server.url, tmp_path, scenario)


def test_the_planner_carries_only_what_was_looked_up_meanwhile(
    planner: Planner, control: Control, inventory: Inventory
) -> None:
    """A look-up before the refresh began is older than what the refresh reads."""
    planner.refresh(False)
    site(changed={2}).store_in(inventory.store)
    planner.look_up([text(2)], [])
    refresh(planner, inventory, site())
    assert control.last.kept_hosts == 0 and control.last.changed == 1
