"""control/board/figures.py: what is shown adds up, and says nothing where nothing is known."""

from __future__ import annotations

from typing import Any

import pytest

from control.board import figures
from control.board.figures import Group, History
from tests.control.service.doors.fleet_status import fleet_status

STATUS: dict[str, Any] = {
    "workers": [{"slot": 0, "pid": 7, "rx": 0, "tx": 0}], "health": {"ready": True, "reason": None},
    "inventory_reason": None, "pinned_s": None, "doubts": [], "other_servers": {}, "fault_kinds": {},
    "identities": {"cloned": 0, "loops": 0},
}  # fmt: skip


def group(**progress: int) -> Group:
    return Group("a", progress, {})


def at(received: int, sent: int) -> dict[str, Any]:
    return STATUS | {"workers": [{"slot": 0, "pid": 7, "rx": received, "tx": sent}]}


def status(**more: Any) -> dict[str, Any]:
    return STATUS | more


def test_a_bar_is_filled_by_all_machines() -> None:
    bars = group(done=1, stuck=1, never=2).bars(1000)
    assert bars == [("done", 1, 0.0, 250.0), ("stuck", 1, 250.0, 250.0), ("never", 2, 500.0, 500.0)]
    assert group().bars() == [] and group().machines == 0


def test_those_with_stuck_machines_come_first() -> None:
    by = {
        "pool": {"b": {"stuck": 0}, "a": {"stuck": 0}, "z": {"stuck": 1}, "": {"stuck": 5, "stages": {"rom-asked": 5}}}
    }
    found = figures.groups_of({"by": by}, "pool")
    assert [each.name for each in found] == ["", "z", "a", "b"]
    assert found[0].reached("rom") == 5 and found[0].reached("system") == 0
    assert figures.groups_of({"by": by}, "relay") == []


def test_rates_are_between_two_answers() -> None:
    history = History()
    history.take(10.0, at(100, 90))
    assert history.now("replies_s") is None and history.line("replies_s") == ""
    history.take(12.0, at(300, 290))
    assert (history.now("requests_s"), history.now("replies_s")) == (100.0, 100.0)
    history.take(13.0, at(5, 5))
    assert history.now("replies_s") is None, "the service began anew: that is no rate"
    history.take(14.0, at(6, 7))
    assert history.now("replies_s") == 2.0 and history.most("replies_s") == 100.0
    assert history.line("replies_s", 600, 60) == "0.0,2.0 600.0,58.8"


def test_the_history_does_not_grow() -> None:
    history = History()
    for second in range(2 * figures.SAMPLES):
        history.take(float(second), at(second, second))
    assert len(history.samples) == figures.SAMPLES and history.span_s == figures.SAMPLES - 1


@pytest.mark.parametrize(
    "said, want",
    [
        ({}, []),
        ({"health": {"ready": False, "reason": "why"}}, ["no machine is answered: why"]),
        ({"workers": [{"slot": 3, "pid": 0}]}, ["worker 3 has no process"]),
        ({"inventory_reason": "refused"}, ["the inventory: refused"]),
        ({"fault_kinds": {"conflict": 1200}}, ["1,200 conflicts of the inventory: their machines are not answered"]),
        ({"other_servers": {"10.0.0.9": {}}}, ["another DHCP server: 10.0.0.9"]),
        ({"traps": {"state": "failed", "reason": "port 162"}}, ["traps: port 162"]),
        ({"mode": "observe"}, ["dhcp.mode is observe: nothing is sent"]),
        ({"config_refused": ["a"]}, ["refused: a"]),
    ],
)
def test_what_somebody_has_to_look_at(said: dict[str, Any], want: list[str]) -> None:
    assert figures.warnings_of(STATUS | said) == want


@pytest.mark.parametrize(
    "seconds, want",
    [
        (None, "unknown"),
        (-1, "0.0 s"),
        (0.31, "0.3 s"),
        (41.2, "41 s"),
        (600, "10 min"),
        (90_000, "25 h"),
        (1e6, "12 days"),
    ],
)
def test_spans(seconds: float | None, want: str) -> None:
    assert figures.span(seconds) == want


@pytest.mark.parametrize(
    "seconds, want", [(None, "-"), (0, "0 us"), (0.00012, "120 us"), (0.0034, "3.4 ms"), (1.25, "1.25 s")]
)
def test_durations(seconds: float | None, want: str) -> None:
    assert figures.duration(seconds) == want


def test_stages() -> None:
    assert figures.stage_words("rom-offered") == "ROM was offered an address"
    assert figures.stage_words("odd") == "odd" and figures.stage_words("") == ""


def test_a_fleet_is_one_line_and_what_is_wrong_with_it_a_sentence_each() -> None:
    good = status(fleet=fleet_status())
    assert figures.fleet_words(good) == "shard main, leads; head 5.3.7; 3 machines, 0 behind"
    assert figures.warnings_of(good) == figures.warnings_of(status()) and figures.fleet_words(status()) == ""
    follows = status(fleet=fleet_status(leads=False), inventory_reason="not read yet")
    assert figures.fleet_words(follows) == "shard main, led by dhcp1; head 5.3.7"
    assert not figures.warnings_of(follows), "the inventory is read by who leads"
    down = status(fleet=fleet_status(leads=False, leader="", connected=False, fault="no route"))
    assert figures.fleet_words(down) == "shard main, led by nobody; head 5.3.7; FLEET DOWN"
    odd = fleet_status(behind=2, refused="guarded: 9", held=True, pinned=True, dropped=True) | {"alone": True}
    found = " ".join(figures.warnings_of(status(fleet=odd)))
    for words in (
        "2 machines of the fleet are behind",
        "guarded: 9",
        "is held",
        "rolled back",
        "dropped",
        "for itself",
    ):
        assert words in found, words
    assert any("no route" in words for words in figures.warnings_of(down))
    gone = status(fleet=fleet_status() | {"state": None, "fault": "nats is not installed"})
    assert figures.fleet_words(gone) == "shard main, led by nobody; head none yet; FLEET DOWN"
    assert any("nats is not installed" in words for words in figures.warnings_of(gone))
