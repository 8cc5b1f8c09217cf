"""How old the table is: what cannot be known is told, and nobody gets a NAK from it until the inventory confirms."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ext.builder import Builder, Surroundings
from ext.page import create_site_page, create_worker_page

from control.service import served_table as table_module
from control.service.served_table import ServedTable
from fastpath.protocol import close_all
from tests.control.service.test_service import content
from tests.control.serving import Running, may_serve, serving

DAY_S = 86400.0
NAK_AGE_MAX_S = 2678400  # the largest dhcp.max_nak_age


@pytest.fixture
def kept() -> Iterator[list[int]]:
    """What the supervisor keeps: site page, a worker's page, a bell."""
    fds = [create_site_page(), create_worker_page(0), os.eventfd(0)]
    yield fds
    close_all(fds)


def of(kept: list[int]) -> ServedTable:
    return ServedTable(kept[0], [kept[1]], kept[2])


@pytest.fixture
def table(kept: list[int]) -> ServedTable:
    return of(kept)


def as_a_worker_sees_it(table: ServedTable) -> int:
    """ext/pump.pyx, tick()."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME)) - table.site.confirmed_boottime_s


def clock_is(monkeypatch: pytest.MonkeyPatch, ahead_s: float) -> None:
    """The calendar's clock from now on; CLOCK_BOOTTIME goes on as it does."""
    boot_at = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    monkeypatch.setattr(time, "time", lambda: boot_at + ahead_s + time.clock_gettime(time.CLOCK_BOOTTIME))


def test_before_any_confirmation(table: ServedTable) -> None:
    assert table.age_s() is None and table.age_reason == "the inventory has not confirmed a table yet"
    assert as_a_worker_sees_it(table) > NAK_AGE_MAX_S


def test_a_table_from_disk_is_as_old_as_its_date(table: ServedTable) -> None:
    table.date(time.time() - 30 * DAY_S)
    assert table.age_s() == pytest.approx(30 * DAY_S, abs=2) and table.age_reason == ""
    assert as_a_worker_sees_it(table) == pytest.approx(30 * DAY_S, abs=2)


@pytest.mark.parametrize("ahead_s", [1.0, DAY_S, 400 * DAY_S])
def test_a_date_in_the_future_is_no_age(table: ServedTable, ahead_s: float) -> None:
    table.date(time.time() + ahead_s)
    assert table.age_s() is None and "it is dated 2" in table.age_reason and "the clock says" in table.age_reason
    assert as_a_worker_sees_it(table) > NAK_AGE_MAX_S


def test_a_clock_from_before_the_code_tells_no_age(table: ServedTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a working clock of its own begins in 1970, or when its firmware was made."""
    clock_is(monkeypatch, -20_000 * DAY_S)
    table.date(time.time() - 60)
    assert table.age_s() is None and "before this code was installed" in table.age_reason
    assert as_a_worker_sees_it(table) > NAK_AGE_MAX_S


@pytest.mark.parametrize("ahead_s", [-400 * DAY_S, 400 * DAY_S])
def test_a_clock_that_is_set_changes_no_confirmed_age(
    table: ServedTable, monkeypatch: pytest.MonkeyPatch, ahead_s: float
) -> None:
    table.confirm(time.clock_gettime(time.CLOCK_BOOTTIME) - 5)
    clock_is(monkeypatch, ahead_s)
    assert table.age_s() == pytest.approx(5, abs=2)
    table.confirm(time.clock_gettime(time.CLOCK_BOOTTIME) - 5)
    assert table.age_s() == pytest.approx(5, abs=2) and table.age_reason == ""


def test_a_clock_that_is_set_dates_the_table_from_disk_anew(
    table: ServedTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As time synchronisation does it some time after the boot, both ways; and no more after a confirmation."""
    monkeypatch.setattr(table_module, "CLOCK_LOOK_S", 0.01)
    dated_s = time.time() - 60

    async def scenario() -> None:
        table.watch()
        table.date(dated_s)
        assert table.age_s() == pytest.approx(60, abs=2)
        for ahead_s, want in ((30 * DAY_S, 30 * DAY_S + 60), (-30 * DAY_S, None), (0.0, 60)):
            with monkeypatch.context() as clock:
                clock_is(clock, ahead_s)
                await asyncio.sleep(0.1)
                age_s = table.age_s()
                assert age_s is None if want is None else age_s == pytest.approx(want, abs=2)
        await asyncio.sleep(0.1)
        table.confirm(time.clock_gettime(time.CLOCK_BOOTTIME))
        with monkeypatch.context() as clock:
            clock_is(clock, 30 * DAY_S)
            await asyncio.sleep(0.1)
            assert table.age_s() == pytest.approx(0, abs=2)

    asyncio.run(scenario())


@pytest.mark.parametrize("set_s", [30 * DAY_S, -30 * DAY_S], ids=["on", "back"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_successor_of_control_dates_the_table_from_disk_anew(
    kept: list[int], monkeypatch: pytest.MonkeyPatch, when: str, set_s: float
) -> None:
    """Whether the clock is set before it lives or after."""
    monkeypatch.setattr(table_module, "CLOCK_LOOK_S", 0.01)
    of(kept).date(time.time() - 60)
    want = pytest.approx(set_s + 60, abs=2) if set_s > 0 else None

    async def scenario() -> None:
        successor = of(kept)
        if when == "before":
            clock_is(monkeypatch, set_s)
        successor.watch()
        if when == "after":
            assert successor.age_s() == pytest.approx(60, abs=2)
            clock_is(monkeypatch, set_s)
            await asyncio.sleep(0.1)
        assert successor.age_s() == want
        assert as_a_worker_sees_it(successor) > 29 * DAY_S
        if want is None:
            assert "it is dated 2" in successor.age_reason

    asyncio.run(scenario())


def test_what_the_inventory_confirmed_keeps_its_age_whatever_a_successors_clock_says(
    kept: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_module, "CLOCK_LOOK_S", 0.01)
    table = of(kept)
    table.date(time.time() - 30 * DAY_S)
    table.confirm(time.clock_gettime(time.CLOCK_BOOTTIME) - 5)

    async def scenario() -> None:
        clock_is(monkeypatch, -400 * DAY_S)
        successor = of(kept)
        successor.watch()
        assert successor.age_s() == pytest.approx(5, abs=2)
        clock_is(monkeypatch, 400 * DAY_S)
        await asyncio.sleep(0.1)
        assert successor.age_s() == pytest.approx(5, abs=2)

    asyncio.run(scenario())


# --- the running service ---------------------------------------------------------------------------------------------


def ask_for_a_foreign_address(folder: Path) -> None:
    """By a relay, as a client that boots and remembers another address: a NAK, where the table is fresh."""
    port = json.loads((folder / "services.conf").read_text())["dhcp"]["port"]
    head = struct.pack(">BBBB4xHH", 1, 1, 6, 1, 0, 0) + bytes(12) + socket.inet_aton("10.1.0.1")
    chaddr = bytes((2, 0, 0, 0, 0, 1)) + bytes(10)
    options = bytes((99, 130, 83, 99, 53, 1, 3, 50, 4)) + socket.inet_aton("10.1.0.77") + b"\xff"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(head + chaddr + bytes(192) + options, ("127.0.0.1", port))


def await_verdict(running: Running, name: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if running.status()["counters"].get(name):
            return
        time.sleep(0.05)
    raise AssertionError(f"no {name} but {running.status()['counters']}")


def test_a_cold_start_from_a_table_of_the_future_sends_no_nak(tmp_path: Path) -> None:
    may_serve()
    hosts = tmp_path / "hosts.csv"
    hosts.write_text(content(1, 2))
    with serving(tmp_path, f"file://{hosts}") as running:
        running.wait_for(r"generation 1: 2 hosts")
        assert running.status()["table_age_s"] < 60
        ask_for_a_foreign_address(tmp_path)
        await_verdict(running, "NAKED")
        running.wait_saved(tmp_path / "state")
    base = tmp_path / "state" / "table.base"
    os.utime(base, (time.time() + 30 * DAY_S,) * 2)
    hosts.rename(tmp_path / "away")
    with serving(tmp_path, f"file://{hosts}") as running:
        running.wait_for(r"the table from disk is of age unknown \(it is dated .*, and the clock says ")
        running.wait_for(r"refresh failed")
        status = running.status()
        assert status["hosts"] == 2 and status["table_age_s"] is None and "it is dated" in status["table_age_reason"]
        ask_for_a_foreign_address(tmp_path)
        await_verdict(running, "IGNORED_NAK_STALE_TABLE")
        assert "NAKED" not in running.status()["counters"]
        (tmp_path / "away").rename(hosts)
        running.wait_for(r"the inventory is back")
        status = running.status()
        assert status["table_age_s"] < 60 and status["table_age_reason"] is None
        ask_for_a_foreign_address(tmp_path)
        await_verdict(running, "NAKED")


def test_a_pair_that_cannot_be_taken_leaves_the_one_before(table: ServedTable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or log and status would name a generation that no worker has."""
    first, second = (Builder().seal(number, Surroundings(), created_s=number) for number in (7, 8))
    table.serve([first])
    kept_fds = table.fds()
    with monkeypatch.context() as full, pytest.raises(OSError, match="Too many"):
        full.setattr(os, "dup", refuse_fds)
        table.serve([second])
    assert table.generation == 7 and table.fds() == kept_fds and os.fstat(kept_fds[0])
    table.serve([second])
    assert table.generation == 8
    close_all([first, second, *table.fds()])


def test_a_pair_that_cannot_be_handed_on_leaves_the_one_before(table: ServedTable) -> None:
    """Or the next planner would start from what no worker has, and find that nothing is new."""
    first, second = (Builder().seal(number, Surroundings(), created_s=number) for number in (7, 8))
    table.serve([first])
    kept_fds = table.fds()
    with pytest.raises(BlockingIOError), table.serving([second]):
        assert table.generation == 8
        raise BlockingIOError(errno.EAGAIN, "the supervisor reads nothing")
    assert table.generation == 7 and table.fds() == kept_fds and os.fstat(kept_fds[0])
    with table.serving([second]):
        pass
    assert table.generation == 8 and table.fds() != kept_fds
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(kept_fds[0])
    close_all([first, second, *table.fds()])


def refuse_fds(_fd: int) -> int:
    raise OSError(errno.EMFILE, "Too many open files")
