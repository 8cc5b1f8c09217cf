"""control/service/event_ring.py and `ctl events`: numbered, bounded, and what is missing is told; over a real control
socket, also when control dies."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from control.cli.ctl import Client
from control.cli.events_text import print_events, render_event
from control.service import event_ring
from control.service.event_ring import GAP, KINDS, PIECE, PLACES, EventRing
from tests.control.planning import site, text
from tests.control.refreshing import Ctl, commanded, inventory_server
from tests.control.service.test_service import content
from tests.control.serving import WAIT_S, Running, may_serve, serving
from tests.ext.packets import discover

START_S = 1_764_403_923.5
FIRST = 1_764_403_923_500_000
MAC = "02:00:00:00:00:01"


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def ring(at_s: float = START_S) -> EventRing:
    return EventRing(Clock(at_s), Clock(50.0))


def told(of: EventRing, **arguments: Any) -> list[dict[str, Any]]:
    """All that is there."""

    async def read() -> list[dict[str, Any]]:
        return [event async for piece in of.stream(arguments) for event in piece["events"]]

    return asyncio.run(read())


def numbers(events: list[dict[str, Any]]) -> list[int]:
    return [event["number"] - FIRST for event in events]


# --- the ring --------------------------------------------------------------------------------------------------------


def test_an_event_is_told_with_all_that_it_has() -> None:
    events = ring()
    events.note("conflict-appeared", "node7", None, "address 10.1.0.7 is node8's, too")
    events.note("stranger-seen", None, MAC, "asked")
    began, *others = told(events)
    assert (began["kind"], began["number"]) == ("control-started", FIRST) and str(os.getpid()) in began["reason"]
    assert others == [
        {"number": FIRST + 1, "time_s": START_S, "kind": "conflict-appeared", "object": "node7", "mac": None,
         "reason": "address 10.1.0.7 is node8's, too"},
        {"number": FIRST + 2, "time_s": START_S, "kind": "stranger-seen", "object": None, "mac": MAC,
         "reason": "asked"},
    ]  # fmt: skip
    assert all(event["number"] < 1 << 53 for event in others), "as every program takes it"


def test_since_a_number_what_came_behind_it() -> None:
    events = ring()
    for number in range(1, 2 * PIECE):
        events.note("table-changed", None, None, str(number))
    assert numbers(told(events)) == list(range(2 * PIECE)) == numbers(told(events, since=0))
    assert numbers(told(events, since=FIRST + 7)) == list(range(8, 2 * PIECE))
    assert told(events, since=events.newest) == []


def test_no_control_has_the_numbers_of_the_one_before_and_that_is_told() -> None:
    before, now = ring(START_S), ring(START_S + 1.0)
    for _ in range(1000):
        before.note("table-changed", None, None, "x")
    assert before.newest < now.first
    gap, began = told(now, since=before.newest)
    assert (gap["kind"], gap["missing"], gap["number"]) == (GAP, None, now.first - 1)
    assert f"number {before.newest} is of another control process" in gap["reason"]
    assert began["kind"] == "control-started"
    gap, *_ = told(ring(START_S - 3600.0), since=before.newest)
    assert gap["kind"] == GAP, "also after the clock was set back"


def test_what_came_too_late_for_is_told_as_a_gap_with_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PLACES, event_ring.SERVICE, 3)
    events = ring()
    for number in range(1, 11):
        events.note("table-changed" if number != 5 else "boot-loop", None, None, str(number))
    found = told(events)
    assert [(event["kind"], event["number"] - FIRST, event.get("missing")) for event in found] == [
        (GAP, 4, 5), ("boot-loop", 5, None), (GAP, 7, 2),
        ("table-changed", 8, None), ("table-changed", 9, None), ("table-changed", 10, None),
    ]  # fmt: skip
    assert "5 events are missing" in found[0]["reason"]
    assert numbers(told(events, since=FIRST + 7)) == [8, 9, 10], "who has read the gap goes on from it"


def test_who_reads_too_slowly_is_told_of_the_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PLACES, event_ring.SERVICE, 500)

    async def scenario() -> list[dict[str, Any]]:
        events = ring()
        reading: AsyncGenerator[dict[str, Any], None] = events.stream({"follow": True})
        await anext(reading)
        for number in range(1, 2001):
            events.note("table-changed", None, None, str(number))
        found = []
        while not found or found[-1]["number"] < events.newest:
            found += (await anext(reading))["events"]
        for number in range(2001, 2004):
            events.note("table-changed", None, None, str(number))
        found += (await anext(reading))["events"]
        await reading.aclose()
        assert not events.bells, "nothing is left of who went"
        return found

    gap, *others = asyncio.run(scenario())
    assert (gap["kind"], gap["missing"]) == (GAP, 1501)
    assert numbers(others) == list(range(1501, 2004))


def test_what_is_overwritten_while_it_is_read_is_no_hole_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PLACES, event_ring.SERVICE, 10)

    async def scenario() -> list[dict[str, Any]]:
        events = ring()
        reading = events.stream({})
        found = (await anext(reading))["events"]
        for number in range(1, 100):
            events.note("table-changed", None, None, str(number))
        return found + [event async for piece in reading for event in piece["events"]]

    (gap,) = asyncio.run(scenario())
    assert (gap["kind"], gap["missing"], gap["number"]) == (GAP, 1, FIRST), "it asked for what was there, and ends"


def test_a_follower_sleeps_until_something_happens() -> None:
    async def scenario() -> None:
        events = ring()
        reading = events.stream({"follow": True, "since": events.newest})
        assert (await anext(reading)) == {"events": []}, "at once: it is heard"
        waiting = asyncio.ensure_future(anext(reading))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiting.done()
        events.note("doubt-ended", None, None, "why")
        assert [event["kind"] for event in (await waiting)["events"]] == ["doubt-ended"]
        await reading.aclose()

    asyncio.run(scenario())


def test_memory_is_bounded_and_no_place_takes_the_others_room() -> None:
    events = ring()
    events.note("refresh-failed", "n" * (1 << 20), None, "r" * (1 << 20))
    for kind in ("boot-loop", "stranger-seen"):
        for number in range(20_000):
            events.note(kind, f"n{number}", MAC, "x")
    assert events.status()["kept"] == 2 + PLACES[event_ring.HOSTS] + event_ring.STRANGERS_BURST
    _began, failed, *_ = told(events)
    assert failed["kind"] == "refresh-failed" and len(failed["object"]) <= 255 and len(failed["reason"]) <= 500


def test_strangers_have_a_budget_and_the_others_are_counted() -> None:
    events = ring()
    for _ in range(1000):
        events.note("stranger-seen", None, MAC, "asked")
    events.ticks.now += 1.0  # type: ignore[attr-defined]
    for _ in range(1000):
        events.note("stranger-seen", None, MAC, "asked")
    strangers = [event for event in told(events) if event["kind"] == "stranger-seen"]
    assert len(strangers) == event_ring.STRANGERS_BURST + event_ring.STRANGERS_PER_S
    assert strangers[100]["reason"] == "asked (900 other strangers were not told)"
    assert events.status()["strangers_untold"] == 1890
    assert not [event for event in told(events) if event["kind"] == GAP], "what is not told has no number"


def test_a_kind_that_does_not_exist_is_a_fault_of_ours() -> None:
    with pytest.raises(KeyError):
        ring().note("nonsense", None, None, "why")


def test_every_kind_has_a_place() -> None:
    assert {place for place, _meaning in KINDS.values()} == set(PLACES) and GAP not in KINDS
    assert max(map(len, KINDS)) <= 18, "the column of `ctl events`"


def test_a_line_for_a_person() -> None:
    events = ring()
    events.note("not-answered", "node7", MAC, "DISCOVER on eth1: DHCP is not enabled")
    began, refused = map(render_event, told(events))
    assert began.startswith(f"2025-11-29 08:12:03.500Z  {FIRST}  control-started     pid ")
    assert refused == (
        f"2025-11-29 08:12:03.500Z  {FIRST + 1}  not-answered        node7 {MAC}: DISCOVER on eth1: DHCP is not enabled"
    )


# --- a running service -----------------------------------------------------------------------------------------------


class Follower:
    """A `ctl events --follow --json`.  wait_for(): the next event of a kind, with some words in its reason."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []
        self.at, self.ended = 0, False
        self.news = threading.Condition()
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self.news:
                self.events.append(json.loads(line))
                self.news.notify_all()
        with self.news:
            self.ended = True
            self.news.notify_all()

    def wait_for(self, kind: str, reason: str = "") -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            for number in range(self.at, len(self.events)):
                if self.events[number]["kind"] == kind and reason in self.events[number]["reason"]:
                    return self.events[number]
            return None

        with self.news:
            self.news.wait_for(lambda: found() is not None or self.ended, WAIT_S)
            event = found()
        assert event, f"no {kind}: {self.events}"
        self.at = self.events.index(event) + 1
        return event


def command(folder: Path, *words: str) -> list[str]:
    argv = [sys.executable, "-P", "-m", "control", "ctl", "--socket", str(folder / "control.sock")]
    return [*argv, "events", *words]


@contextmanager
def following(folder: Path, *words: str) -> Iterator[Follower]:
    with subprocess.Popen(command(folder, "--follow", "--json", *words), stdout=subprocess.PIPE, text=True) as process:
        follower = Follower(process)
        try:
            yield follower
        finally:
            process.kill()
            follower.thread.join(30)


@contextmanager
def served(folder: Path, path: Path) -> Iterator[tuple[Running, Follower]]:
    """A service and who follows it from its first table on."""
    with serving(folder, f"file://{path}") as running:
        running.wait_for("generation 1: 1 hosts")
        with following(folder) as follower:
            yield running, follower


def lines_of(folder: Path, *words: str) -> list[str]:
    done = subprocess.run(command(folder, *words), capture_output=True, text=True, timeout=WAIT_S, check=True)
    return done.stdout.splitlines()


@pytest.fixture
def _may() -> None:
    may_serve()


@pytest.mark.usefixtures("_may")
def test_who_follows_is_told_what_happens_and_where_control_dies_goes_on_with_a_gap(tmp_path: Path) -> None:
    path = tmp_path / "hosts.csv"
    path.write_text(content(1))
    with served(tmp_path, path) as (running, follower):
        began = follower.wait_for("control-started")
        assert "generation 1 (inventory): 1 hosts, 1 added" in follower.wait_for("table-changed")["reason"]
        port = json.loads((tmp_path / "services.conf").read_text())["dhcp"]["port"]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            for _ in range(3):
                client.sendto(discover(0x0200000000FF), ("127.0.0.1", port))
        stranger = follower.wait_for("stranger-seen")
        assert (stranger["mac"], stranger["object"]) == ("02:00:00:00:00:ff", None)
        assert stranger["reason"] == "DISCOVER on lo: not in the inventory"
        path.write_text(content(1, 2) + "twin,02:00:00:00:00:02,10.1.0.99,1\n")
        named = {follower.wait_for("conflict-appeared")["object"] for _ in range(2)}
        assert named == {"h2", "twin"}
        path.write_text(content(1, 2))
        assert {follower.wait_for("conflict-ended")["object"] for _ in range(2)} == named
        path.write_bytes(b"base,mask\n\xff\n")
        failed = follower.wait_for("refresh-failed")
        assert "hosts.csv" in failed["reason"] and "serves on" in failed["reason"]
        path.write_text(content(1, 2, 3))
        since = follower.wait_for("refresh-recovered")["number"]

        all_of_it = [json.loads(line) for line in lines_of(tmp_path, "--json")]
        assert all_of_it == follower.events and all_of_it[0] == began
        assert [event["number"] for event in all_of_it] == [began["number"] + i for i in range(len(all_of_it))]
        behind = lines_of(tmp_path, "--since", str(failed["number"]))
        assert [int(line.split()[2]) for line in behind] == list(range(failed["number"] + 1, since + 1))
        assert lines_of(tmp_path, "--since", str(since)) == []

        os.kill(running.child("run"), signal.SIGKILL)
        gap, again = follower.wait_for(GAP), follower.wait_for("control-started")
        assert gap["missing"] is None and gap["number"] == again["number"] - 1 > since
        path.write_text(content(1, 2, 3, 4))
        follower.wait_for("table-changed", "4 hosts, 1 added")
        late = [json.loads(line) for line in lines_of(tmp_path, "--json", "--since", str(since))]
        assert (late[0]["kind"], late[0]["missing"], late[1]["kind"]) == (GAP, None, "control-started")
        running.process.send_signal(signal.SIGTERM)
        assert follower.process.wait(WAIT_S) == 1, "there is nobody to follow any more"


@pytest.mark.usefixtures("_may")
def test_the_events_of_a_reload_and_of_a_process_that_died(tmp_path: Path) -> None:
    path = tmp_path / "hosts.csv"
    path.write_text(content(1))
    with served(tmp_path, path) as (running, follower):
        follower.wait_for("table-changed")
        conf = tmp_path / "services.conf"
        good = conf.read_text()
        conf.write_text("{")
        running.process.send_signal(signal.SIGHUP)
        assert "not JSON" in follower.wait_for("config-refused")["reason"]
        conf.write_text(json.dumps(json.loads(good) | {"log": {"format": "json"}}))
        running.process.send_signal(signal.SIGHUP)
        assert "log.format" in follower.wait_for("config-refused")["reason"]
        conf.write_text(good)
        running.process.send_signal(signal.SIGHUP)
        follower.wait_for("config-reloaded")
        os.kill(running.status()["workers"][0]["pid"], signal.SIGKILL)
        assert follower.wait_for("process-replaced")["reason"].startswith("worker: one ended, and was replaced; 1")


def test_a_machine_that_a_look_up_found_is_told(tmp_path: Path) -> None:
    """Of an inventory over HTTP, by control's own parts and a real planner."""

    async def scenario(ctl: Ctl) -> None:
        service = ctl.service
        await ctl("refresh")
        site(7).store_in(held.store)
        looking, since = asyncio.create_task(service.lookups.run()), service.ring.newest
        service.on_unknown(text(7), "eth0")
        while not (found := [each for each in service.ring.page(since)[0] if each["kind"] == "machine-found"]):
            await asyncio.sleep(0.01)
        looking.cancel()
        (event,) = found
        assert (event["object"], event["mac"]) == ("h7", text(7))
        assert event["reason"] == "a look-up found it in the inventory; its next try is answered"

    with inventory_server(tmp_path) as held:
        site().store_in(held.store)
        commanded(held.server.url, tmp_path, scenario)


def test_without_a_service_there_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(command(tmp_path, "--follow"), capture_output=True, text=True, timeout=WAIT_S, check=False)
    assert done.returncode == 1 and re.fullmatch(r"bootstorm: control socket .*\n", done.stderr) and not done.stdout


def test_who_reads_no_more_ends_it_without_a_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ctl events --follow | head -1`: our own output is gone, not the service."""

    class Telling(Client):
        calls = 0

        def call(self, command: str, arguments: dict[str, Any], on_progress: Any = None, limit_s: Any = None) -> Any:
            self.calls += 1
            assert self.calls == 1
            on_progress({"events": told(ring())})

    def broken(*_args: Any, **_how: Any) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("control.cli.events_text.click.echo", broken)
    with pytest.raises(BrokenPipeError):
        print_events(Telling("/nowhere", as_json=True), None, True)
