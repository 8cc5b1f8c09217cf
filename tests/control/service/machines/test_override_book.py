"""Overrides on disk: over restarts and reboots, with clocks that are set, with damage of every kind."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest

from control.service.machines.override_book import HOLD, ONCE, OVERRIDES_MAX, Book, Full, Override


class Clock:
    boottime_s, ahead_s = 1_000.0, 1_700_000_000.0


def book(folder: Path, clock: Clock, boot: str = "this") -> Book:
    made = Book(folder, lambda: clock.boottime_s, lambda: clock.ahead_s, boot)
    made.load()
    return made


def hold(identity: int = 7, for_s: float | None = None, **more: Any) -> Override:
    return Override(
        number=0, kind=HOLD, identity=identity, role=0, name=f"h{identity}", uid=1000, made_s=0.0, for_s=for_s, **more
    )  # fmt: skip


def test_what_is_held_is_held_after_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    before = book(tmp_path, clock)
    before.add(hold(7, 3600.0, because="its board", macs=["02:00:00:00:00:07"], addresses=["10.1.0.7"]))
    before.add(hold(8))
    assert before.save() == ""
    again = book(tmp_path, clock)
    assert again.all == before.all and again.told().holds == [[7, 0], [8, 0]]
    assert again.all[1].means("10.1.0.7") and again.all[1].means("h7") and again.all[1].means("1")


def test_a_clock_that_jumps_neither_ends_nor_prolongs_one(tmp_path: Path) -> None:
    clock = Clock()
    kept = book(tmp_path, clock)
    kept.add(hold(7, 3600.0))
    kept.save()
    for ahead_s in (0.0, 4e9, 1_700_000_000.0):
        clock.ahead_s = ahead_s
        assert kept.expired() == [] and kept.left_s(kept.all[1]) == 3600
        assert book(tmp_path, clock).left_s(kept.all[1]) == 3600, "nor of a restart in the same boot"
    clock.boottime_s += 3600
    assert [each.identity for each in kept.expired()] == [7]
    assert [each.identity for each in book(tmp_path, clock).expired()] == [7]


def test_after_a_reboot_the_date_counts(tmp_path: Path) -> None:
    clock = Clock()
    kept = book(tmp_path, clock)
    kept.add(hold(7, 3600.0))
    kept.save()
    clock.ahead_s += clock.boottime_s + 600 - 50  # 600 s later
    clock.boottime_s = 50.0
    again = book(tmp_path, clock, "next")
    assert again.left_s(again.all[1]) == pytest.approx(3000)
    clock.ahead_s = 0.0  # a machine without a battery
    again = book(tmp_path, clock, "next")
    assert again.left_s(again.all[1]) == 3600, "no longer than it was made for"
    clock.ahead_s = 4e9
    assert len(book(tmp_path, clock, "next").expired()) == 1


def test_a_clock_that_was_set_is_noticed_so_that_the_dates_are_written_anew(tmp_path: Path) -> None:
    clock = Clock()
    kept = book(tmp_path, clock)
    kept.add(hold(7, 3600.0))
    kept.save()
    assert not kept.clock_was_set()
    clock.ahead_s += 86_400
    assert kept.clock_was_set()
    kept.save()
    assert not kept.clock_was_set()
    assert json.loads(kept.path.read_text())["ends_date_s"] == clock.ahead_s + clock.boottime_s + 3600


def test_the_boot_of_one_that_was_answered_before_a_reboot_is_over_soon(tmp_path: Path) -> None:
    clock = Clock()
    kept = book(tmp_path, clock)
    made = hold(7)
    made.kind, made.options, made.acked_phase, made.acked_s, made.laid = ONCE, [["tftp_filename", "/x"]], 1, 990.0, True
    kept.add(made)
    kept.save()
    assert book(tmp_path, clock).all[1].acked_s == 990.0
    again = book(tmp_path, clock, "next")
    assert (again.all[1].acked_s or 0) < -1_000 and again.told().onces == [[7, "h7", [["tftp_filename", "/x"]], True]]


def test_a_second_one_of_the_same_rows_takes_the_place_of_the_first(tmp_path: Path) -> None:
    kept = book(tmp_path, Clock())
    first = hold(7, 60.0)
    assert kept.add(first) is None and kept.add(hold(7, because="again")) is first
    assert [each.because for each in kept.all.values()] == ["again"] and kept.told().holds == [[7, 0]]


def test_there_are_only_so_many(tmp_path: Path) -> None:
    kept = book(tmp_path, Clock())
    for identity in range(OVERRIDES_MAX):
        kept.add(hold(identity))
    with pytest.raises(Full, match=r"1,000 overrides are in force; `ctl release`"):
        kept.add(hold(OVERRIDES_MAX))
    assert kept.add(hold(3, 60.0)) is not None, "but one of them may be changed"


GOOD = {"number": 1, "kind": "hold", "identity": 7, "role": 0, "name": "h7", "uid": 0, "made_s": 1.0}


@pytest.mark.parametrize(
    "line",
    [
        "", "{", "[]", "7", '"x"', "[" * 50_000, "\x00\xff", "{}", json.dumps(GOOD | {"kind": "break"}),
        json.dumps(GOOD | {"identity": -1}), json.dumps(GOOD | {"identity": "7"}), json.dumps(GOOD | {"role": 2}),
        json.dumps(GOOD | {"role": True}), json.dumps(GOOD | {"name": None}), json.dumps(GOOD | {"name": "x" * 5_000}),
        json.dumps(GOOD | {"for_s": "soon"}), json.dumps(GOOD | {"for_s": 60}),
        json.dumps(GOOD | {"for_s": 60, "ends_date_s": "x"}), json.dumps(GOOD | {"made_s": float("nan")}),
        json.dumps(GOOD | {"macs": "x"}), json.dumps(GOOD | {"options": [["a"]]}), json.dumps(GOOD | {"until": "rom"}),
        json.dumps(GOOD | {"because": "x" * (1 << 18)}), json.dumps(GOOD | {"acked_s": 3.0}),
        "9" * 10_000, json.dumps({name: value for name, value in GOOD.items() if name != "uid"}),
    ],
)  # fmt: skip
def test_a_damaged_line_costs_itself(tmp_path: Path, line: str, caplog: pytest.LogCaptureFixture) -> None:
    other = json.dumps(GOOD | {"number": 2, "identity": 8, "of_a_later_build": 1})
    (tmp_path / "overrides").write_bytes(f"{line}\n{other}\n".encode("utf-8", "surrogateescape"))
    with caplog.at_level(logging.ERROR):
        kept = book(tmp_path, Clock())
    assert [each.identity for each in kept.all.values()] == [8]
    assert not line or "line 1 is passed over" in caplog.text


def test_what_stands_in_its_place_is_neither_followed_nor_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text(json.dumps(GOOD))
    path = tmp_path / "overrides"
    path.symlink_to(elsewhere)
    assert book(tmp_path, Clock()).all == {} and "cannot read" in caplog.text
    path.unlink()
    os.mkfifo(path)
    assert book(tmp_path, Clock()).all == {}
    kept = book(tmp_path, Clock())
    kept.add(hold())
    assert kept.save() == "" and elsewhere.read_text() == json.dumps(GOOD) and path.is_file()


def test_a_disk_that_does_not_take_them_is_told_of_and_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "gone"
    kept = book(folder, Clock())
    kept.add(hold())
    for _ in range(2):
        assert "cannot keep the overrides" in kept.save()
    assert caplog.text.count("cannot keep the overrides") == 1, "once while it lasts"
    folder.mkdir()
    assert kept.save() == "" and len(book(folder, Clock()).all) == 1
