"""When control/service/refresh.py asks the inventory again, and its word for the status; without a planner."""

import asyncio
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from control.config.config import Config, Dhcp
from control.planner import child
from control.planner.child import PlannerProcess
from control.planner.jobs import Failed, Planned
from control.service import refresh
from control.service.inventory_state import InventoryState
from control.service.refresh import RETRY_FIRST_S, RETRY_MAX_S, Refresher
from fastpath.process import turns


@pytest.mark.parametrize(
    "failure, confirmed_s, hosts, want",
    [
        pytest.param("", 0.0, False, "down", id="nothing-yet"),
        pytest.param("", 0.0, True, "stale", id="from-disk-and-not-asked-yet"),
        pytest.param("", 5.0, True, "ok", id="ok"),
        pytest.param("", 5.0, False, "ok", id="ok-and-empty"),
        pytest.param("why", 5.0, True, "stale", id="failed-and-an-older-table-serves"),
        pytest.param("why", 5.0, False, "down", id="failed-and-nothing-to-serve"),
    ],
)
def test_the_word_of_the_status(failure: str, confirmed_s: float, hosts: bool, want: str) -> None:
    assert InventoryState(failure=failure, confirmed_s=confirmed_s).word(hosts) == want


def test_a_refresh_that_fails_and_one_that_does_not_are_events_once() -> None:
    noted: list[tuple[str, str | None, str | None, str]] = []
    state = InventoryState(note=lambda *event: noted.append(event))
    for reason in ("no route", "no route", "refused"):
        state.failed("down", reason, 7)
    state.failed("pinned", "by ctl rollback", 7)
    assert noted == [
        ("refresh-failed", None, None, "no route; generation 7 serves on"),
        ("refresh-failed", None, None, "refused; generation 7 serves on"),
    ]
    noted.clear()
    planned = Planned(origin="inventory", generation=8, base=8, published=False, confirmed_s=1.0, hosts=1)
    for doubts in (["rack7 cannot be read"], ["rack7 cannot be read"], [], []):
        state.succeeded(replace(planned, doubts=doubts))
    assert [(kind, reason) for kind, _named, _mac, reason in noted] == [
        ("refresh-recovered", "the inventory is back, after: refused"), ("in-doubt", "rack7 cannot be read"),
        ("doubt-ended", "nothing of the inventory is in doubt any more"),
    ]  # fmt: skip
    assert (state.outcomes["down"], state.outcomes["pinned"], state.outcomes["unchanged"]) == (3, 1, 4)


class Ended(Exception):
    """The test has seen enough turns."""


def waits_of(monkeypatch: pytest.MonkeyPatch, outcomes: list[bool], interval: float | None, took_s: float) -> list[int]:
    """Seconds until the next refresh after each of these outcomes."""
    waits: list[int] = []
    clock = [0.0]
    monkeypatch.setattr(refresh.time, "monotonic", lambda: clock[0])  # type: ignore[attr-defined]

    async def run() -> None:
        table: Any = SimpleNamespace(generation=0)
        refresher = Refresher(Config(dhcp=Dhcp(refresh_interval=interval)), table, lambda *_: None, 0)
        left = iter(outcomes)

        async def give(_message: Any, _job: str) -> Planned | Failed:
            clock[0] += took_s
            well = next(left, None)
            if well is None:
                raise Ended
            figures = {"origin": "inventory", "generation": 1, "base": 1, "hosts": 1, "confirmed_s": 1.0}
            return Planned(published=False, **figures) if well else Failed(kind="down", reason="no")

        async def due() -> None:
            waits.append(round(refresher.due_s - clock[0]))

        refresher.give = give  # type: ignore[method-assign]
        refresher.wait_due = due  # type: ignore[method-assign]
        await refresher.run()

    with pytest.raises(Ended):
        asyncio.run(run())
    return waits


def test_after_failures_the_delay_grows_and_a_success_ends_that(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = waits_of(monkeypatch, [False] * 8 + [True, False], 400.0, 1.0)
    assert waits == [RETRY_FIRST_S, 4, 8, 16, 32, RETRY_MAX_S, RETRY_MAX_S, RETRY_MAX_S, 400.0, RETRY_FIRST_S]


def test_a_slow_inventory_is_asked_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    assert waits_of(monkeypatch, [True], None, 1.0) == [300.0]
    assert waits_of(monkeypatch, [True], None, 100.0) == [2000.0]


def test_a_poke_ends_the_wait() -> None:
    async def run() -> int:
        table: Any = None
        refresher = Refresher(Config(), table, lambda *_: None, 0)
        refresher.due_s = time.monotonic() + 3600
        turns = 0

        async def well(force: bool = False) -> dict[str, Any]:
            nonlocal turns
            turns += 1
            if turns == 3:
                raise Ended
            asyncio.get_running_loop().call_soon(refresher.poke.set)
            return {}

        refresher.refresh = well  # type: ignore[method-assign]
        with pytest.raises(Ended):
            await asyncio.wait_for(refresher.run(), 60)
        return turns

    assert asyncio.run(run()) == 3


def test_a_poke_during_a_refresh_is_not_lost() -> None:
    """A file that is written when it has been read and its table is not out yet: nobody would poke again."""

    async def run() -> int:
        table: Any = None
        refresher = Refresher(Config(), table, lambda *_: None, 0)
        refresher.due_s = time.monotonic() + 3600
        turns = 0

        async def well(force: bool = False) -> dict[str, Any]:
            nonlocal turns
            turns += 1
            if turns == 3:
                raise Ended
            refresher.poke.set()
            return {}

        refresher.refresh = well  # type: ignore[method-assign]
        with pytest.raises(Ended):
            await asyncio.wait_for(refresher.run(), 10)
        return turns

    assert asyncio.run(run()) == 3


def test_who_works_or_cannot_get_a_processor_does_not_stand_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """A big table, a slow disk, a busy machine; and a look that shows nothing."""
    looks: list[tuple[str, int] | None] = []
    monkeypatch.setattr(turns, "look_at", lambda _pid: looks.pop(0))
    clock = iter(range(10_000))
    monkeypatch.setattr(child.time, "monotonic", lambda: next(clock))  # type: ignore[attr-defined]
    process = PlannerProcess()
    try:
        for seen in ([("S", n) for n in range(99)], [("R", 5)] * 99, [("D", 5)] * 99, [None] * 99, [("T", 7)] * 13):
            looks[:] = seen
            still = [process.stands_still() for _ in seen]
            assert still == [False] * (len(seen) - 1) + [seen[0] == ("T", 7)]
    finally:
        process.channel.close()
        asyncio.run(process.end())


def test_the_first_pauses_are_for_a_planner_that_never_spoke_and_nobody_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refresh.time, "monotonic", lambda: 0.0)  # type: ignore[attr-defined]

    async def waits(silent: bool, generation: int) -> list[float]:
        table: Any = None
        refresher = Refresher(Config(), table, lambda *_: None, generation)
        refresher.silent = silent
        found = []
        for _ in range(8):
            refresher.schedule(False, 1.0)
            found.append(refresher.due_s)
        return found

    assert asyncio.run(waits(True, 0)) == [0.0, 0.0, 0.1, 0.2, 0.5, 1.0, 2.0, 4.0]
    for silent, generation in ((True, 1), (False, 0)):
        assert asyncio.run(waits(silent, generation)) == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
