"""When the inventory's word cannot be believed: the last good table serves on, and `ctl status` says why.

With control's own handlers, a real control socket and a real planner; the inventory lies in every way that it can.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control.cli.ctl import CallFailed
from tests.control.planning import site, text
from tests.control.refreshing import Ctl, Inventory, commanded, inventory_server
from tests.control.spoiling import http

POOLS = ("red", "blue")  # odd hosts are in blue, even ones in red
RED = "name=red&prefetch_attrs"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inventory]:
    with inventory_server(tmp_path_factory.mktemp("inventory")) as made:
        yield made


@pytest.fixture
def inventory(served: Inventory) -> Iterator[Inventory]:
    served.forget()
    site(8, pools=POOLS).store_in(served.store)
    yield served
    served.release()


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "bootstorm.refresh")
    return caplog


def lines(said: pytest.LogCaptureFixture, piece: str) -> list[str]:
    return [line for line in said.messages if piece in line]


async def address_of(ctl: Ctl, host: int) -> str:
    return str((await ctl("lookup", mac=text(host)))["leases"][0]["address"])


# --- everything ------------------------------------------------------------------------------------------------------


def test_an_inventory_that_shrinks(inventory: Inventory, tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    async def scenario(ctl: Ctl) -> None:
        await ctl("refresh")
        good = await ctl.status()
        site(8, gone={1, 2, 3}, pools=POOLS).store_in(inventory.store)
        for _again in range(3):
            with pytest.raises(CallFailed, match=r"3 of 8 hosts would no longer be answered \(3 removed\)"):
                await ctl("refresh")
        status = await ctl.status()
        assert (status["digest"], status["hosts"], status["generation"]) == (good["digest"], 8, 1)
        assert status["inventory"] == "stale" and "dhcp.max_shrink allows 20%" in status["inventory_reason"]
        assert status["refresh"]["outcomes"]["shrunk"] == 3 and await ctl.state_of(text(1)) == "served"
        assert len(lines(said, "refresh failed: 3 of 8")) == 1, "in the log once"
        await ctl("refresh", force=True)
        status = await ctl.status()
        assert (status["hosts"], status["inventory"], status["inventory_reason"]) == (5, "ok", None)
        assert lines(said, "the inventory is back")

    commanded(inventory.server.url, tmp_path, scenario)


@pytest.mark.parametrize(
    "piece, raw",
    [
        pytest.param("get_entities", http("no", "500 Oops"), id="the-lists"),
        pytest.param("/net/attrs", http('{"attrs": ['), id="a-manager-in-invalid-JSON"),
        pytest.param("prefetch_attrs", b"", id="every-bulk-answer-closed"),
        pytest.param("prefetch_attrs", http("no", "500 Oops"), id="every-bulk-answer-500"),
    ],
)
def test_without_the_frame_or_without_any_part_nothing_is_concluded(
    inventory: Inventory, tmp_path: Path, said: pytest.LogCaptureFixture, piece: str, raw: bytes
) -> None:
    async def scenario(ctl: Ctl) -> None:
        await ctl("refresh")
        good = await ctl.status()
        site(8, changed={1, 2}, pools=POOLS).store_in(inventory.store)
        inventory.spoiled = {piece: raw}
        for _again in range(2):
            with pytest.raises(CallFailed, match="GET http"):
                await ctl("refresh")
        status = await ctl.status()
        assert (status["digest"], status["inventory"]) == (good["digest"], "stale")
        assert status["inventory_reason"] and status["refresh"]["outcomes"]["down"] == 2
        assert len(lines(said, "refresh failed")) == 1
        inventory.spoiled = {}
        assert (await ctl("refresh"))["changed"] == 2

    commanded(inventory.server.url, tmp_path, scenario)


# --- a part ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "raw, reason",
    [
        pytest.param(
            http('{"contents": [{"/server/h2": {"attrs": [', length=99_999), "cut off in the middle", id="cut"
        ),
        pytest.param(http('{"contents": [{"/server/h2": {"attrs": ['), "no JSON", id="invalid-JSON-in-the-middle"),
        pytest.param(http("Traceback\nKeyError: 'red'", "500 Oops"), "status 500, wanted 200: KeyError", id="500"),
        pytest.param(http('{"contents": [{"/server/h2": {"attrs": 5}}]}'), "wanted a list", id="another-shape"),
    ],
)
def test_one_pool_that_cannot_be_read_stays_and_the_others_go_on_changing(
    inventory: Inventory, tmp_path: Path, said: pytest.LogCaptureFixture, raw: bytes, reason: str
) -> None:
    async def scenario(ctl: Ctl) -> None:
        await ctl("refresh")
        inventory.spoiled = {RED: raw}
        site(8, changed={1, 2}, gone={4}, pools=POOLS).store_in(inventory.store)
        figures = await ctl("refresh")
        assert (figures["changed"], figures["removed"]) == (1, 1), "the lists, which came whole, say that h4 left"
        assert (await address_of(ctl, 1), await address_of(ctl, 2)) == ("10.1.0.111", "10.1.0.12")
        site(8, changed={1, 2, 3}, gone={4}, pools=POOLS).store_in(inventory.store)
        assert (await ctl("refresh"))["changed"] == 1, "still the others go on"
        status = await ctl.status()
        assert status["inventory"] == "ok" and status["kept_hosts"] == 3
        (doubt,) = status["doubts"]
        assert reason in doubt and doubt.endswith("its 3 objects stay as they were")
        assert status["refresh"]["outcomes"]["doubtful"] == 2
        assert len(lines(said, "in doubt: ")) == 1, "in the log once"
        inventory.spoiled = {}
        figures = await ctl("refresh")
        assert (figures["changed"], figures["removed"]) == (1, 0) and await address_of(ctl, 2) == "10.1.0.112"
        assert (await ctl.status())["doubts"] == []
        assert lines(said, "nothing of the inventory is in doubt any more")

    commanded(inventory.server.url, tmp_path, scenario)


@pytest.mark.parametrize("how", ["changed", "new", "gone"])
def test_a_part_that_is_lost_does_not_take_a_look_up_back(inventory: Inventory, tmp_path: Path, how: str) -> None:
    """Its hosts stay as they are served, not as they were when the part was read the last time."""
    host = {"changed": 2, "new": 10, "gone": 4}[how]
    content = {"changed": site(8, changed={2}, pools=POOLS), "gone": site(8, gone={4}, pools=POOLS)}
    later = content.get(how) or site(10, gone={9}, pools=POOLS)

    async def seen(ctl: Ctl) -> Any:
        try:
            return (await ctl("lookup", mac=text(host)))["leases"]
        except CallFailed:
            return None

    async def scenario(ctl: Ctl) -> None:
        await ctl("refresh")
        before = await seen(ctl)
        later.store_in(inventory.store)
        await ctl("refresh", mac=text(host))
        young = await seen(ctl)
        assert young != before
        inventory.spoiled = {RED: http("no", "500 Oops")}
        for _again in range(2):
            figures = await ctl("refresh")
            assert (figures["added"], figures["changed"], figures["removed"]) == (0, 0, 0)
            assert await seen(ctl) == young
        inventory.spoiled = {}
        await ctl("refresh")
        assert await seen(ctl) == young and (await ctl.status())["doubts"] == []

    commanded(inventory.server.url, tmp_path, scenario)


def test_a_single_host_whose_record_answers_500(
    inventory: Inventory, tmp_path: Path, said: pytest.LogCaptureFixture
) -> None:
    content = site(8, pools=POOLS)
    for at in (1, 2):
        content.host(f"single{at}", f"10.1.0.9{at}", mac=text(90 + at))
    content.store_in(inventory.store)

    async def scenario(ctl: Ctl) -> None:
        await ctl("refresh")
        inventory.spoiled = {"name=single1": http("LookupError: 'single1'", "500 Oops")}
        changed = site(8, changed={1}, pools=POOLS)
        changed.host("single1", "10.1.0.93", mac=text(91))
        changed.host("single2", "10.1.0.94", mac=text(92))
        changed.store_in(inventory.store)
        for turn in range(2):
            assert (await ctl("refresh"))["changed"] == (2 if turn == 0 else 0)
        assert (await address_of(ctl, 91), await address_of(ctl, 92)) == ("10.1.0.91", "10.1.0.94")
        status = await ctl.status()
        assert status["kept_hosts"] == 1 and len(status["doubts"]) == 1
        assert "single1" in status["doubts"][0] and "status 500" in status["doubts"][0]
        assert "cannot be read: " in status["faults"]["single1"][0]
        assert len(lines(said, "in doubt: ")) == 1
        inventory.spoiled = {}
        assert (await ctl("refresh"))["changed"] == 1 and await address_of(ctl, 91) == "10.1.0.93"

    commanded(inventory.server.url, tmp_path, scenario)


def test_a_part_that_is_lost_is_no_shrinking(inventory: Inventory, tmp_path: Path) -> None:
    """Half the site unreadable is far above dhcp.max_shrink; those hosts stay, so none is gone."""

    async def scenario(ctl: Ctl) -> None:
        await ctl("refresh")
        inventory.spoiled = {RED: http("no", "500 Oops")}
        assert (await ctl("refresh"))["removed"] == 0
        with pytest.raises(CallFailed, match=r"2 of 8 hosts would no longer be answered"):
            site(8, gone={1, 3}, pools=POOLS).store_in(inventory.store)
            await ctl("refresh")

    commanded(inventory.server.url, tmp_path, scenario)


def test_a_part_that_is_lost_at_the_first_read_is_not_invented(inventory: Inventory, tmp_path: Path) -> None:
    async def scenario(ctl: Ctl) -> None:
        inventory.spoiled = {RED: http("no", "500 Oops")}
        assert (await ctl("refresh"))["hosts"] == 4
        assert len((await ctl.status())["doubts"]) == 1
        inventory.spoiled = {}
        assert (await ctl("refresh"))["added"] == 4

    commanded(inventory.server.url, tmp_path, scenario)


# --- one host --------------------------------------------------------------------------------------------------------


def test_a_host_that_flips_at_every_refresh_is_held(
    inventory: Inventory, tmp_path: Path, said: pytest.LogCaptureFixture
) -> None:
    async def scenario(ctl: Ctl) -> None:
        addresses, held = [], []
        for turn in range(9):
            content = site(8, changed={2} if turn % 2 else set(), pools=POOLS)
            content.host("other", f"10.1.0.{200 + turn}", mac=text(99), pools=["red"], dhcp={})
            content.store_in(inventory.store)
            await ctl("refresh")
            addresses.append(await address_of(ctl, 2))
            held.append(len((await ctl.status())["doubts"]))
        assert addresses == ["10.1.0.12", "10.1.0.112"] * 2 + ["10.1.0.112"] * 5
        assert held == [0] * 4 + [1] * 5
        assert await address_of(ctl, 99) == "10.1.0.208", "who moves on every time goes on moving"
        status = await ctl.status()
        assert status["doubts"][0].startswith("h2 changes to and fro") and status["kept_hosts"] == 1
        assert status["faults"]["h2"] and status["refresh"]["outcomes"]["doubtful"] == 5
        assert len(lines(said, "in doubt: ")) == 1 and not lines(said, "in doubt any more"), "in the log once"
        assert await ctl("refresh") and await address_of(ctl, 2) == "10.1.0.112"
        assert (await ctl("refresh"))["changed"] == 1, "the third read that agrees"
        assert await address_of(ctl, 2) == "10.1.0.12" and (await ctl.status())["doubts"] == []

    commanded(inventory.server.url, tmp_path, scenario)


def test_who_is_held_is_let_go_by_force(inventory: Inventory, tmp_path: Path) -> None:
    async def scenario(ctl: Ctl) -> None:
        for turn in range(5):
            site(8, changed={2} if turn % 2 else set(), pools=POOLS).store_in(inventory.store)
            await ctl("refresh")
        assert await address_of(ctl, 2) == "10.1.0.112"
        assert (await ctl("refresh", force=True))["changed"] == 1
        assert await address_of(ctl, 2) == "10.1.0.12" and (await ctl.status())["doubts"] == []

    commanded(inventory.server.url, tmp_path, scenario)


# --- very many -------------------------------------------------------------------------------------------------------

MANY = 10_000


def many(bad: int, good: int) -> str:
    """A file inventory: `bad` hosts have addresses in no network."""
    rows = ["base,mask,gateway", "10.0.0.0,255.0.0.0,10.0.0.1", "", "name,mac,address,dhcp.enabled"]
    for number in range(bad + good):
        rest = f"{number >> 16}.{number >> 8 & 255}.{number & 255}"
        octets = number.to_bytes(3, "big").hex(":")
        rows.append(f"host{number},02:00:00:{octets},{'172' if number < bad else '10'}.{rest},1")
    return "\n".join(rows[:4] + rows[6:]) + "\n"


def test_ten_thousand_quarantined_records_at_once(tmp_path: Path, said: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "hosts.csv"
    path.write_text(many(0, 500))

    async def scenario(ctl: Ctl) -> None:
        await ctl("refresh")
        good = await ctl.status()
        said.clear()
        path.write_text(many(MANY + 2, 500).replace("172.0.", "10.0.", 500))
        figures = await ctl("refresh")
        started = time.monotonic()
        status = await ctl.status()
        assert time.monotonic() - started < 2.0, "quick"
        assert status["quarantined"] == figures["quarantined"] >= MANY - 1000
        assert len(status["faults"]) == 20 and status["faults_total"] == figures["quarantined"]
        assert status["hosts"] >= good["hosts"] and status["inventory"] == "ok"
        (line,) = [record.message for record in said.records if record.name == "bootstorm.refresh"]
        assert f"{figures['quarantined']} quarantined" in line
        assert status["refresh"]["outcomes"]["published"] == 2
        found = await ctl("lookup", mac=f"02:00:00:{(9000).to_bytes(3, 'big').hex(':')}")
        assert found["state"] == "quarantined" and "0 managers contain it" in found["reason"]

    commanded(f"file://{path}", tmp_path, scenario)


def test_ten_thousand_hosts_that_turn_bad_at_once_are_not_believed(
    tmp_path: Path, said: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "hosts.csv"
    path.write_text(many(0, MANY))

    async def scenario(ctl: Ctl) -> None:
        await ctl("refresh")
        good = await ctl.status()
        said.clear()
        path.write_text(many(MANY, 0))
        with pytest.raises(CallFailed, match=r"\d+ quarantined\), dhcp.max_shrink"):
            await ctl("refresh")
        status = await ctl.status()
        assert (status["digest"], status["hosts"]) == (good["digest"], good["hosts"])
        assert status["refresh"]["outcomes"]["shrunk"] == 1 and len(said.messages) == 1
        assert len(status["inventory_reason"]) < 500

    commanded(f"file://{path}", tmp_path, scenario)


# --- progress --------------------------------------------------------------------------------------------------------


def test_a_refresh_tells_how_far_it_is_to_who_asks(inventory: Inventory, tmp_path: Path) -> None:
    async def scenario(ctl: Ctl) -> None:
        steps: list[dict[str, Any]] = []
        await ctl("refresh", steps.append)
        stages = list(dict.fromkeys(step["stage"] for step in steps))
        assert stages == ["list", "containers", "managers", "hosts", "build"]
        assert all(0 <= step["done"] <= step["total"] for step in steps)
        assert ("hosts", 8, 8) in [(step["stage"], step["done"], step["total"]) for step in steps]
        await ctl("refresh")
        assert len(ctl.service.refresher.followers) == 0

    commanded(inventory.server.url, tmp_path, scenario)


def test_status_says_how_far_a_refresh_is(inventory: Inventory, tmp_path: Path) -> None:
    async def scenario(ctl: Ctl) -> None:
        await ctl("refresh")
        inventory.hold("prefetch_attrs")
        under_way = asyncio.create_task(ctl("refresh"))
        await inventory.wait_asked()
        told = asyncio.Event()
        with ctl.service.refresher.followed_by(lambda step: told.set() if step.stage == "hosts" else None):
            if ctl.service.refresher.state.stage != "hosts":
                await asyncio.wait_for(told.wait(), 60)
        found = (await ctl.status())["refresh"]
        assert (found["stage"], found["done"], found["total"]) == ("hosts", 0, 8)
        inventory.release()
        await under_way
        found = (await ctl.status())["refresh"]
        assert (found["stage"], found["parts"], found["kept_parts"]) == (None, 2, 2)
        assert found["outcomes"]["unchanged"] == 1

    commanded(inventory.server.url, tmp_path, scenario)
