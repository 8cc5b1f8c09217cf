"""control/service/refresh.py: with the real planner process; what fails shows in the status and never in what is
served."""

import asyncio
import gc
import logging
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from ext.codec import links_of

from control.config.config import load
from control.planner.jobs import KINDS, ListChanges, RefreshFailed
from control.service import refresh
from control.service.inventory_state import OUTCOMES
from control.service.links import LinkAddress
from control.service.refresh import RETRY_FIRST_S, Refresher
from control.service.served_table import NotAdopted
from fastpath.protocol import Channel
from tests.control.inventories import Site
from tests.control.refreshing import Control, Inventory, inventory_server, within
from tests.control.service.test_service import content
from tests.control.spoiling import http

LINKS = [LinkAddress(2, "eth0", 0x0A010002, 24, 1500)]
OTHER_LINKS = [LinkAddress(2, "eth0", 0x0A010003, 24, 1500)]
FIRST = 0x001122334401


def site(*names: str) -> Site:
    made = Site()
    for number, name in enumerate(names):
        made.host(name, f"10.1.0.{10 + number}")
    return made


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inventory]:
    with inventory_server(tmp_path_factory.mktemp("inventory")) as made:
        yield made


@pytest.fixture
def inventory(served: Inventory) -> Iterator[Inventory]:
    served.forget()
    site("a", "b", "c").store_in(served.store)
    yield served
    served.release()


# --- with the real planner -------------------------------------------------------------------------------------------


def test_from_the_first_refresh_to_a_cold_start(
    inventory: Inventory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bootstorm.refresh")

    async def life(control: Control) -> None:
        await control.refresher.relink(LINKS)
        assert control.word == "down" and control.table.age_s() is None
        figures = await control.refresher.refresh()
        assert {k: v for k, v in figures.items() if k != "seconds"} == {
            "generation": 1, "hosts": 3, "added": 3, "changed": 0, "removed": 0, "quarantined": 0,
        }  # fmt: skip
        assert figures["seconds"] > 0 and control.word == "ok"
        assert control.table.lookup(FIRST) is not None and (control.table.age_s() or 0) < 60
        stages = [name for name in control.refresher.state.stages_s if name != "cpu"]
        assert stages == ["fetch", "parse", "plan", "build", "pack", "publish"]
        assert control.refresher.state.stage == ""

        content = site("a", "b", "c", "d")
        content.host("odd", "10.1.0.255", mac="02:00:00:00:00:01")
        content.store_in(inventory.store)
        figures = await control.refresher.refresh()
        assert (figures["generation"], figures["added"], figures["quarantined"]) == (2, 2, 1)
        reason = control.refresher.state.reasons_of("02:00:00:00:00:01")
        assert reason and "broadcast" in reason and list(control.refresher.state.faults) == ["odd"]

        assert (await control.refresher.refresh())["generation"] == 2 and len(control.published) == 2

        inventory.down = http("Traceback\nKeyError: 'x'", "500 Oops")
        for _ in range(3):
            with pytest.raises(RefreshFailed, match="status 500, wanted 200: KeyError: 'x'"):
                await control.refresher.refresh()
        assert control.word == "stale" and control.table.hosts == 4
        assert len([line for line in caplog.messages if "refresh failed" in line]) == 1, "said once, not at every try"
        assert "generation 2 serves on" in caplog.text

        inventory.down = None
        await control.refresher.refresh()
        assert control.word == "ok" and "the inventory is back" in caplog.messages

        site("a").store_in(inventory.store)
        with pytest.raises(RefreshFailed, match=r"dhcp\.max_shrink allows 20%"):
            await control.refresher.refresh()
        assert (await control.refresher.refresh(force=True))["removed"] == 4

        await control.refresher.relink(OTHER_LINKS)
        await control.wait_published(4)
        assert control.published[-1].origin == "links" and control.table.hosts == 1
        assert control.refresher.state.faults == {}, "a relink plans nothing and forgets nothing"

    async def cold(control: Control) -> None:
        inventory.down = b""
        await control.refresher.relink(LINKS)
        await control.wait_published(1)
        assert control.published[0].origin == "disk" and control.table.hosts == 1
        assert control.word == "stale" and (control.table.age_s() or 0) < 120
        with pytest.raises(RefreshFailed):
            await control.refresher.refresh()
        assert control.word == "stale" and control.table.hosts == 1
        inventory.down = None
        assert (await control.refresher.refresh())["added"] == 0
        assert control.word == "ok" and len(control.published) == 1

    within(inventory, tmp_path, life)
    within(inventory, tmp_path, cold)


def test_a_planner_that_is_killed_in_the_middle_is_a_failure_and_is_replaced(
    inventory: Inventory, tmp_path: Path
) -> None:
    async def scenario(control: Control) -> None:
        await control.refresher.relink(LINKS)
        await control.refresher.refresh()
        inventory.hold()
        under_way = asyncio.create_task(control.refresher.refresh())
        await inventory.wait_asked()
        killed = control.pid()
        control.kill()
        with pytest.raises(RefreshFailed, match="the planner ended"):
            await under_way
        assert (control.word, control.table.hosts, control.table.generation) == ("stale", 3, 1)
        inventory.release()
        site("a", "b", "c", "d").store_in(inventory.store)
        figures = await control.refresher.refresh()
        assert (figures["added"], figures["hosts"]) == (1, 4) and figures["generation"] > 1
        assert control.pid() != killed and control.word == "ok"

    within(inventory, tmp_path, scenario)


def test_a_planner_that_died_between_two_jobs(inventory: Inventory, tmp_path: Path) -> None:
    """Found out by sending to it: neither a refresh nor a changed interface may end control over that."""

    async def scenario(control: Control) -> None:
        await control.refresher.relink(LINKS)
        await control.refresher.refresh()
        control.kill()
        with pytest.raises(RefreshFailed, match="the planner ended"):
            await control.refresher.refresh()
        assert (await control.refresher.refresh())["hosts"] == 3
        before = len(control.published)
        control.kill()
        await control.refresher.relink(OTHER_LINKS)
        await control.wait_published(before + 1)
        assert control.published[-1].origin == "links" and control.table.hosts == 3

    within(inventory, tmp_path, scenario)


def test_who_is_looked_up_by_a_planner_that_replaces_one_that_died(inventory: Inventory, tmp_path: Path) -> None:
    """It has read nothing yet: a person's question makes it read, and a server's that has just been racked soon."""

    async def scenario(control: Control) -> None:
        await control.refresher.relink(LINKS)
        await control.refresher.refresh()
        control.kill()
        with pytest.raises(RefreshFailed, match="the planner ended"):
            await control.refresher.look_up(["00:11:22:33:44:01"], asked=True)
        figures, missing = await control.refresher.look_up(["00:11:22:33:44:01"], asked=True)
        assert figures["hosts"] == 3 and missing == []
        control.refresher.due_s = time.monotonic() + 3600
        control.kill()
        with pytest.raises(RefreshFailed, match="the planner ended"):
            await control.refresher.look_up(["00:11:22:33:44:01"])
        with pytest.raises(RefreshFailed, match="not been read as a whole yet"):
            await control.refresher.look_up(["00:11:22:33:44:01"])
        assert control.refresher.due_s < time.monotonic() + 2 * RETRY_FIRST_S

    within(inventory, tmp_path, scenario)


def test_one_planner_whoever_needs_it_first(
    inventory: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []
    true = subprocess.Popen

    def counted(*arguments: Any, **keywords: Any) -> subprocess.Popen[bytes]:
        started.append(true(*arguments, **keywords))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", counted)

    async def scenario(control: Control) -> None:
        figures, _none = await asyncio.gather(control.refresher.refresh(), control.refresher.relink(LINKS))
        assert figures["hosts"] == 3
        assert len([process for process in started if process.poll() is None]) == 1

    try:
        within(inventory, tmp_path, scenario)
    finally:
        for process in started:
            assert process.returncode is not None, "a planner was left behind"


def test_who_asked_may_vanish_and_the_next_one_gets_its_own_answer(inventory: Inventory, tmp_path: Path) -> None:
    """ctl refresh, interrupted; then ctl refresh --force: the first one's answer must not be taken for its own."""

    async def scenario(control: Control) -> None:
        await control.refresher.relink(LINKS)
        await control.refresher.refresh()
        site("a").store_in(inventory.store)
        inventory.hold()
        vanished = asyncio.create_task(control.refresher.refresh())
        await inventory.wait_asked()
        vanished.cancel()
        with pytest.raises(asyncio.CancelledError):
            await vanished
        forced = asyncio.create_task(control.refresher.refresh(force=True))
        await asyncio.sleep(0)
        inventory.release()
        figures = await forced
        assert (figures["removed"], figures["hosts"]) == (2, 1)

    within(inventory, tmp_path, scenario)


def test_what_fails_for_somebody_who_vanished_leaves_no_trace_of_ours(
    inventory: Inventory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(control: Control) -> None:
        await control.refresher.relink(LINKS)
        inventory.down = http("no", "500 Oops")
        inventory.hold()
        vanished = asyncio.create_task(control.refresher.refresh())
        await inventory.wait_asked()
        vanished.cancel()
        with pytest.raises(asyncio.CancelledError):
            await vanished
        inventory.release()
        with pytest.raises(RefreshFailed):
            await control.refresher.refresh()
        gc.collect()
        assert "never retrieved" not in caplog.text and "refresh failed" in caplog.text

    within(inventory, tmp_path, scenario)


def test_who_asks_for_changes_and_goes_away_delays_nobody(
    inventory: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may only read held up a refresh for a minute: each such question was still put, one after the other."""
    listed = 0
    do_list = Refresher.do_list

    async def counted(self: Refresher, message: ListChanges) -> dict[str, Any]:
        nonlocal listed
        listed += 1
        return await do_list(self, message)

    async def scenario(control: Control) -> None:
        await control.refresher.relink(LINKS)
        await control.refresher.refresh()
        inventory.hold()
        refreshing = asyncio.create_task(control.refresher.refresh())
        await asyncio.to_thread(inventory.asked.wait, 60)
        asking = [asyncio.create_task(control.refresher.changes(0, 10)) for _ in range(50)]
        await asyncio.sleep(0)
        for question in asking:
            question.cancel()
        assert all(isinstance(end, BaseException) for end in await asyncio.gather(*asking, return_exceptions=True))
        inventory.release()
        assert (await refreshing)["hosts"] == 3
        assert listed == 0
        with pytest.raises(RefreshFailed, match="no refresh since"):
            await control.refresher.changes(0, 10)
        assert listed == 1

    monkeypatch.setattr(Refresher, "do_list", counted)
    within(inventory, tmp_path, scenario)


def test_a_planner_that_hangs_is_ended(inventory: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(control: Control) -> None:
        await control.refresher.relink(LINKS)
        await control.refresher.refresh()
        inventory.hold()
        with monkeypatch.context() as short:
            short.setattr(refresh, "PROGRESS_LIMIT_S", 0.3)
            with pytest.raises(
                RefreshFailed, match=r"no progress for 0 s \(at (its start|list 0/4, .*)\) and was ended"
            ):
                await control.refresher.refresh()
        assert control.refresher.process is None and control.table.hosts == 3
        inventory.release()
        assert (await control.refresher.refresh())["hosts"] == 3

    within(inventory, tmp_path, scenario)


async def next_planner(control: Control, before: int = 0) -> int:
    while (process := control.refresher.process) is None or process.pid == before:
        await asyncio.sleep(0.002)
    return process.pid


@pytest.mark.parametrize("what, count", [(signal.SIGKILL, 3), (signal.SIGSTOP, 1)])
def test_a_planner_that_is_lost_before_its_first_word_costs_a_cold_start_no_pause(
    inventory: Inventory, tmp_path: Path, what: signal.Signals, count: int
) -> None:
    """The table lies on the disk, the inventory is down: nothing else keeps anybody from being served."""

    async def life(control: Control) -> None:
        await control.refresher.relink(LINKS)
        await control.refresher.refresh()
        while not (tmp_path / "table.base").exists():
            await asyncio.sleep(0.01)

    async def cold(control: Control) -> None:
        inventory.down = b""
        await control.refresher.relink(LINKS)
        running = asyncio.create_task(control.refresher.run())
        lost = 0
        for _ in range(count):
            lost = await next_planner(control, lost)
            os.kill(lost, what)
        began = time.monotonic()
        await control.wait_published(1)
        assert time.monotonic() - began < RETRY_FIRST_S + refresh.STILL_LOOK_S * refresh.STILL_LOOKS
        assert control.published[0].origin == "disk" and control.table.hosts == 3 and control.pid() != lost
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    within(inventory, tmp_path, life)
    within(inventory, tmp_path, cold)


def test_a_table_is_confirmed_when_every_worker_answers_from_it(
    inventory: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not when it is published: a worker at the table before would take the word for that one's."""
    adopted = asyncio.Event()

    async def all_adopted(_generation: int, _limit_s: float) -> None:
        if not adopted.is_set():
            await asyncio.sleep(0.01)
            raise NotAdopted("workers [0] do not answer from it")

    async def scenario(control: Control) -> None:
        monkeypatch.setattr(control.table, "wait_adopted", all_adopted)
        control.refresher.generation = 1  # that some worker may still answer from
        await control.refresher.relink(LINKS)
        await control.refresher.refresh()
        await asyncio.sleep(0.05)
        assert control.word == "ok" and control.table.age_s() is None
        adopted.set()
        assert control.refresher.confirming is not None
        await control.refresher.confirming
        age_s = control.table.age_s()
        assert age_s is not None and 0.04 < age_s < 60, "since it was read"

    within(inventory, tmp_path, scenario)


def test_a_slow_refresh_is_not_ended_while_it_gets_on(
    inventory: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(control: Control) -> None:
        await control.refresher.relink(LINKS)
        await control.refresher.refresh()
        inventory.delay_s = 0.8
        monkeypatch.setattr(refresh, "PROGRESS_LIMIT_S", 1.7)
        started = time.monotonic()
        pid = control.pid()
        try:
            assert (await control.refresher.refresh())["hosts"] == 3
        finally:
            inventory.delay_s = 0.0
        assert time.monotonic() - started > 1.7 and control.pid() == pid

    within(inventory, tmp_path, scenario)


def test_who_asks_meanwhile_does_not_keep_a_stopped_planner(
    inventory: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(control: Control) -> None:
        await control.refresher.relink(LINKS)
        await control.refresher.refresh()
        plain_s = refresh.PROGRESS_LIMIT_S
        monkeypatch.setattr(refresh, "PROGRESS_LIMIT_S", 1.0)
        os.kill(control.pid(), signal.SIGSTOP)
        started = time.monotonic()
        refreshing = asyncio.create_task(control.refresher.refresh())
        await asyncio.sleep(0.7)
        for job in (control.refresher.look_up(["02:00:00:00:00:01"]), refreshing):
            with pytest.raises(RefreshFailed, match="made no progress"):
                await job
        assert 0.9 < time.monotonic() - started < 1.6
        monkeypatch.setattr(refresh, "PROGRESS_LIMIT_S", plain_s)
        assert (await control.refresher.refresh())["hosts"] == 3, "another planner"

    within(inventory, tmp_path, scenario)


def test_a_new_configuration_is_a_new_planner_with_the_same_table(inventory: Inventory, tmp_path: Path) -> None:
    async def scenario(control: Control) -> None:
        await control.refresher.relink(LINKS)
        await control.refresher.refresh()
        before, number = control.pid(), control.table.generation
        path = tmp_path / "services.conf"
        path.write_text(path.read_text().replace('{"dhcp": {', '{"dhcp": {"max_shrink": 1, '))
        await control.refresher.reconfigure(load(path))
        assert control.pid() != before and control.refresher.poke.is_set()
        await control.wait_published(2)
        assert control.published[-1].origin == "links" and control.table.generation == number + 1
        site("a").store_in(inventory.store)
        assert (await control.refresher.refresh())["removed"] == 2, "the new limit counts"

    within(inventory, tmp_path, scenario)


@pytest.mark.parametrize("cold", [True, False], ids=["cold", "with-a-table"])
def test_a_corrected_address_counts_while_the_wrong_one_hangs(
    inventory: Inventory, tmp_path: Path, caplog: pytest.LogCaptureFixture, cold: bool
) -> None:
    """Nobody waits for the old one: not the refreshes by schedule, and not who asked for one."""
    path, other = tmp_path / "services.conf", tmp_path / "hosts.csv"
    other.write_text(content(1, 2, 3, 4))

    async def scenario(control: Control) -> None:
        refresher = control.refresher
        await refresher.relink(LINKS)
        if not cold:
            await refresher.refresh()
        inventory.hold()
        by_schedule = asyncio.create_task(refresher.run())
        await inventory.wait_asked()
        queued = asyncio.create_task(refresher.refresh(force=True))
        looked_up = asyncio.create_task(refresher.look_up(["02:00:00:00:00:01"]))
        origins = asyncio.create_task(refresher.origins([(1, 2)], 60))
        await asyncio.sleep(0)
        before, had = control.pid(), len(control.published)
        path.write_text(path.read_text().replace(inventory.server.url, f"file://{other}"))
        await asyncio.wait_for(refresher.reconfigure(load(path)), 10)
        assert control.pid() != before
        for ended in (looked_up, origins):
            with pytest.raises(RefreshFailed, match="superseded by a new configuration"):
                await ended
        assert (await asyncio.wait_for(queued, 30))["hosts"] == 4, "by the new one"
        assert control.published[had:] and control.table.hosts == 4 and control.word == "ok"
        assert refresher.state.outcomes["internal"] == 0 and refresher.retry_s == RETRY_FIRST_S
        by_schedule.cancel()
        with pytest.raises(asyncio.CancelledError):
            await by_schedule

    within(inventory, tmp_path, scenario)
    assert "refresh failed" not in caplog.text, "it has not failed, nobody wants it any more"


def test_who_asked_for_a_refresh_hears_that_another_configuration_came(inventory: Inventory, tmp_path: Path) -> None:
    path = tmp_path / "services.conf"

    async def scenario(control: Control) -> None:
        await control.refresher.relink(LINKS)
        inventory.hold()
        asked = asyncio.create_task(control.refresher.refresh())
        await inventory.wait_asked()
        path.write_text(path.read_text().replace('{"dhcp": {', '{"dhcp": {"max_shrink": 1, '))
        await asyncio.wait_for(control.refresher.reconfigure(load(path)), 10)
        with pytest.raises(RefreshFailed, match="superseded by a new configuration, by which the inventory is read"):
            await asyncio.wait_for(asked, 10)
        assert control.refresher.state.failure == "" and control.refresher.poke.is_set()

    within(inventory, tmp_path, scenario)


def test_a_new_configuration_is_read_once(inventory: Inventory, tmp_path: Path) -> None:
    """By the refresh that its poke starts, and not again for the one that it ended."""
    path, other = tmp_path / "services.conf", tmp_path / "hosts.csv"
    other.write_text(content(1))

    async def scenario(control: Control) -> None:
        await control.refresher.relink(LINKS)
        inventory.hold()
        running = asyncio.create_task(control.refresher.run())
        await inventory.wait_asked()
        path.write_text(path.read_text().replace(inventory.server.url, f"file://{other}"))
        await control.refresher.reconfigure(load(path))
        await control.wait_published(1)
        await asyncio.sleep(0.5)
        assert control.refresher.state.outcomes == dict.fromkeys(OUTCOMES, 0) | {"published": 1}
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    within(inventory, tmp_path, scenario)


def test_what_does_not_concern_the_planner_leaves_it_at_its_work(inventory: Inventory, tmp_path: Path) -> None:
    path = tmp_path / "services.conf"

    async def scenario(control: Control) -> None:
        await control.refresher.relink(LINKS)
        inventory.hold()
        under_way = asyncio.create_task(control.refresher.refresh())
        await inventory.wait_asked()
        before = control.pid()
        path.write_text(path.read_text()[:-1] + ', "control": {"read_uids": [5]}}')
        await asyncio.wait_for(control.refresher.reconfigure(load(path)), 10)
        assert control.refresher.config.control.read_uids == (5,)
        inventory.release()
        assert (await under_way)["hosts"] == 3 and control.pid() == before and control.refresher.poke.is_set()

    within(inventory, tmp_path, scenario)


def test_a_machine_that_cannot_start_processes_is_a_failure(
    inventory: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    async def scenario(control: Control) -> None:
        with monkeypatch.context() as full:
            full.setattr(subprocess, "Popen", refuse)
            with pytest.raises(RefreshFailed, match=r"cannot start the planner: .*temporarily unavailable"):
                await control.refresher.refresh()
        control.refresher.links = LINKS
        assert (await control.refresher.refresh())["hosts"] == 3

    within(inventory, tmp_path, scenario)


def test_a_refresh_that_somebody_asked_for_and_that_failed_is_tried_again_soon(
    inventory: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not at the interval's end: an hour, here."""
    monkeypatch.setattr(refresh, "RETRY_FIRST_S", 0.2)

    async def scenario(control: Control) -> None:
        control.refresher.retry_s = 0.2
        await control.refresher.relink(LINKS)
        running = asyncio.create_task(control.refresher.run())
        await control.wait_published(1)
        site("a", "b", "c", "d").store_in(inventory.store)
        inventory.down = http("busy", "503 Busy")
        with pytest.raises(RefreshFailed, match="503"):
            await control.refresher.refresh()
        inventory.down = None
        await control.wait_published(2)
        assert control.table.hosts == 4 and control.word == "ok"
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    within(inventory, tmp_path, scenario, refresh_interval=3600)


# --- interfaces that change fast, and planners that talk nonsense ----------------------------------------------------


def test_a_thousand_changes_of_the_interfaces_are_a_few_messages(inventory: Inventory, tmp_path: Path) -> None:
    """250 of them filled the channel of a planner that was building, and then there was a refresh less."""

    async def scenario(control: Control) -> None:
        await control.refresher.relink(LINKS)
        await control.refresher.refresh()
        os.kill(control.pid(), signal.SIGSTOP)
        for number in range(1_000):
            await control.refresher.relink([LinkAddress(2, "eth0", 0x0A010000 + number, 24, 1500)])
        refreshing = asyncio.create_task(control.refresher.refresh())
        await asyncio.sleep(0)  # its message is the second one in the channel
        os.kill(control.pid(), signal.SIGCONT)
        await refreshing
        await control.wait_published(3)
        assert [planned.origin for planned in control.published] == ["inventory", "links", "links"]
        assert control.table.pair is not None
        assert [link[1] for link in links_of(control.table.pair)] == [0x0A010000 + 999]

    within(inventory, tmp_path, scenario)


def test_more_addresses_than_a_message_holds(inventory: Inventory, tmp_path: Path) -> None:
    many = [LinkAddress(2, "eth0", 0x0A010000 + number, 24, 1500) for number in range(5_000)]

    async def scenario(control: Control) -> None:
        await control.refresher.relink(many)
        assert (await control.refresher.refresh())["hosts"] == 3
        await control.refresher.relink(many[::-1])
        await control.wait_published(2)
        assert control.table.pair is not None and len(links_of(control.table.pair)) == 5_000
        control.kill()
        assert control.published[-1].origin == "links"

    within(inventory, tmp_path, scenario)


@pytest.mark.parametrize(
    "words",
    [b"\xc1", msgpack.packb(5), msgpack.packb(["Planned", {}]), msgpack.packb(["NoSuch", {}]), msgpack.packb([1, 2])],
    ids=repr,
)
def test_a_planner_that_talks_nonsense_costs_one_refresh(inventory: Inventory, tmp_path: Path, words: bytes) -> None:
    async def scenario(control: Control) -> None:
        await control.refresher.relink(LINKS)
        inventory.hold()
        under_way = asyncio.create_task(control.refresher.refresh())
        await inventory.wait_asked()
        refresher = control.refresher
        assert refresher.channel is not None
        ours, theirs = Channel.pair(KINDS)  # in its place
        ours.sock.setblocking(False)
        asyncio.get_running_loop().remove_reader(refresher.channel.fileno())
        refresher.channel.close()
        refresher.channel = ours
        asyncio.get_running_loop().add_reader(ours.fileno(), refresher.on_message)
        theirs.sock.send(words)
        with pytest.raises(RefreshFailed, match="the planner sent what cannot be read"):
            await under_way
        theirs.close()
        inventory.release()
        assert (await control.refresher.refresh())["hosts"] == 3

    within(inventory, tmp_path, scenario)
