"""control/board/watcher.py: whatever the service says, or does not, the board goes on asking, and says why it shows
nothing newer.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control import service_client
from control.board import watcher as watcher_module
from control.board.watcher import Busy, Watcher
from tests.control.board.faked import Fake, host, overview, status

ODD = {
    "faults is a list": {"faults": lambda _: [], "status": lambda _: status(fault_kinds={"conflict": 1})},
    "states has no counts": {"overview": lambda _: overview(totals={"states": {"served": 5}, "stages": {}})},
    "states is a list": {"overview": lambda _: overview(totals={"states": [], "stages": {}})},
    "status is a text": {"status": lambda _: "down"},
    "stage_s is a text": {"hosts": lambda _: {"hosts": [host(1), host(2, stage_s="x")], "after": 1, "more": False}},
    "hosts are numbers": {"hosts": lambda _: {"hosts": [1, 2], "after": 1, "more": False}},
    "latency is a text": {"status": lambda _: status(latency="x")},
    "wait is a number": {"status": lambda _: status(latency={"wait": 5})},
}
ODD_EVENTS = {
    "a piece without events": {"rows": []},
    "an event without a number": {"events": [{"kind": "x"}]},
    "a number that is none": {"events": [{"number": "x"}]},
    "a piece is a text": "x",
}


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Fake]:
    made = Fake(str(tmp_path / "s"))
    yield made
    made.close()


async def reached(watcher: Watcher, wanted: Any) -> None:
    """Both followers go on until that is so."""
    with watcher.watched():
        tasks = [asyncio.create_task(watcher.follow()), asyncio.create_task(watcher.follow_events())]
        deadline = time.monotonic() + 20
        try:
            while not wanted():
                assert time.monotonic() < deadline, (watcher.failure, watcher.events_failure)
                assert not [task for task in tasks if task.done()], "a follower has ended"
                await asyncio.sleep(0.02)
        finally:
            for task in tasks:
                task.cancel()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher_module, "PACE_S", 0.05)


@pytest.mark.parametrize("how", ODD)
def test_words_that_it_does_not_understand_are_told_and_asked_for_again(fake: Fake, tmp_path: Path, how: str) -> None:
    before = dict(fake.answers)
    fake.answers |= ODD[how]  # type: ignore[operator]
    watcher = Watcher(fake.path)

    async def there_and_back() -> None:
        await reached(watcher, lambda: "another build" in watcher.failure)
        fake.answers |= before
        await reached(watcher, lambda: not watcher.failure and watcher.history.samples)

    asyncio.run(there_and_back())


@pytest.mark.parametrize("how", ODD_EVENTS)
def test_odd_events_are_told_and_take_nothing_along(fake: Fake, how: str) -> None:
    fake.answers["events"] = lambda _: ODD_EVENTS[how]
    watcher = Watcher(fake.path)

    async def there_and_back() -> None:
        await reached(watcher, lambda: "another build" in watcher.events_failure and not watcher.failure)
        fake.answers["events"] = lambda _: {"events": [{"number": 7}]}
        await reached(watcher, lambda: watcher.events and not watcher.events_failure)

    asyncio.run(there_and_back())


def test_no_descriptor_is_free_for_a_moment(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    watcher = Watcher(fake.path)
    real = service_client.socket.socket

    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async def there_and_back() -> None:
        with monkeypatch.context() as patch:
            patch.setattr(service_client.socket, "socket", full)
            await reached(watcher, lambda: watcher.version > 5)
            assert "no descriptor is free" in watcher.failure
            assert len(caplog.records) <= 2
        assert service_client.socket.socket is real
        await reached(watcher, lambda: not watcher.failure)

    asyncio.run(there_and_back())


def test_a_service_that_is_down_when_the_board_starts_is_told_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watcher = Watcher(str(tmp_path / "none"))
    asyncio.run(reached(watcher, lambda: watcher.version > 3))
    assert caplog.text.count("no figures from") == 1


def test_the_figures_wait_for_nobody_s_page(fake: Fake) -> None:
    watcher = Watcher(fake.path)
    watcher.waiting = watcher_module.WAITING_MAX
    asyncio.run(reached(watcher, lambda: not watcher.failure))


@pytest.mark.parametrize("pages_max, seen", [(40, 0), (1, 500)])
def test_the_stuck_ones_that_are_shown_stand_longest(
    fake: Fake, monkeypatch: pytest.MonkeyPatch, pages_max: int, seen: int
) -> None:
    every = [host(number, stage_s=100_000 - number) for number in range(1, 1_301)]

    def hosts(asked: Any) -> Any:
        end = asked["after"] + asked["limit"]
        return {"hosts": every[asked["after"] : end], "after": end, "more": end < len(every)}

    monkeypatch.setattr(watcher_module, "PAGES_MAX", pages_max)
    fake.answers["hosts"] = hosts
    watcher = Watcher(fake.path)
    found = asyncio.run(watcher.find_stuck())
    longest = sorted(every[: seen or None], key=lambda each: each["stage_s"])[:100]
    assert [each["name"] for each in found] == [each["name"] for each in longest]
    assert watcher.stuck_seen == seen


def test_a_service_without_a_ledger_costs_the_machines_alone(fake: Fake, caplog: pytest.LogCaptureFixture) -> None:
    before = dict(fake.answers)

    def refused(_: Any) -> Any:
        raise RuntimeError("there is no boot ledger")

    fake.answers |= {"overview": refused, "hosts": refused}
    watcher = Watcher(fake.path)

    async def there_and_back() -> None:
        await reached(watcher, lambda: len(watcher.history.samples) > 3)
        assert not watcher.failure and watcher.looked_failure == "there is no boot ledger" and watcher.overview is None
        fake.answers |= before
        await reached(watcher, lambda: watcher.overview is not None and not watcher.looked_failure)

    asyncio.run(there_and_back())
    assert [record.getMessage() for record in caplog.records] == [
        f"no machines from {fake.path}: there is no boot ledger"
    ]


def test_a_page_does_not_wait_for_ever_behind_others(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher_module, "ANSWER_S", 0.05)
    watcher = Watcher(fake.path)

    async def behind() -> None:
        await watcher.turns.acquire()
        with pytest.raises(Busy, match="try again"):
            await asyncio.wait_for(watcher.call("status", {}), 20)
        watcher.turns.release()
        assert watcher.waiting == 0 and await watcher.call("status", {}), "and nobody's turn is lost"

    asyncio.run(behind())
