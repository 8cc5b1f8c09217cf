"""All faults of the inventory: `ctl faults`, the book behind it, and what of it stands in the log."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgpack
import pytest
from click.testing import CliRunner

from control.cli.command_line import main
from control.plan.contexts import Faults
from control.planner import faultlist
from control.planner.report import write_report
from control.service import faultbook
from control.service.faultbook import FaultBook, WrongFilter
from control.sources.reasons import KINDS, Reason
from tests.control.refreshing import Ctl, commanded

HOSTS = """
networks:
- {base: 10.1.0.0, mask: 255.255.0.0, gateway: 10.1.0.1}
pools:
- {name: racks, dhcp: {enabled: 1, tftp_filenme: x}}
hosts:
- {name: a, mac: "02:00:00:00:00:0a", address: 10.1.0.10, pool: racks, dhcp: {lease_time: 1h}}
- {name: b, mac: "02:00:00:00:00:0b", address: 10.1.0.1, pool: racks}
- {name: c, mac: "02:00:00:00:00:0c", address: 10.1.0.12, pool: racks}
- {name: d, mac: "02:00:00:00:00:0c", address: 10.1.0.13, pool: racks}
- {name: e, mac: junk, pool: racks}
"""
SEEN = [
    ("racks", "unknown-option"), ("e", "bad-row"), ("a", "bad-value"), ("b", "gateway-address"),
    ("c", "conflict"), ("d", "conflict"),
]  # fmt: skip


def report(faults: dict[str, list[str]] | Faults, read: tuple[str, ...] = ()) -> dict[str, Any]:
    with os.fdopen(write_report(faults, {}, (), read), "rb") as file:
        file.seek(0)
        found: dict[str, Any] = msgpack.unpack(file)
    return found


def running(scenario: Coroutine[Any, Any, None]) -> None:
    asyncio.run(scenario)


async def names(book: FaultBook, **filters: Any) -> list[str]:
    return [fault["object"] for fault in (await book.page(**filters))["faults"]]


def book_at(seconds: list[float]) -> FaultBook:
    """Each taking up happens at the next of these times."""
    return FaultBook(lambda: seconds.pop(0))


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page ends where its piece of time does, which beside other tests may be after any fault."""
    monkeypatch.setattr(faultbook, "SCAN_S", 60.0)


# --- the book --------------------------------------------------------------------------------------------------------


def test_when_a_fault_was_first_seen_is_kept_and_what_is_gone_is_removed() -> None:
    async def scenario() -> None:
        book = book_at([10.0, 20.0, 30.0])
        for faults in ({"a": ["x"], "b": ["x"]}, {"c": ["x"], "a": ["x", "y"]}, {"a": ["x"], "b": ["x"]}):
            book.take(report(faults), whole=True)
        page = await book.page()
        assert [(fault["object"], fault["first_seen_s"]) for fault in page["faults"]] == [("a", 10.0), ("b", 30.0)]
        assert (page["total"], page["objects"], page["more"]) == (2, 2, False)
        book.take(report({}), whole=True)

    running(scenario())


def test_no_fault_is_left_of_a_refresh_without_any() -> None:
    async def scenario() -> None:
        book = FaultBook()
        book.take(report({"a": ["x"]}), whole=True)
        book.take(report({}), whole=True)
        assert (await book.page())["total"] == 0

    running(scenario())


def test_a_refresh_that_says_the_same_costs_nothing_unless_a_look_up_came_between() -> None:
    async def scenario() -> None:
        book = book_at([10.0, 20.0, 30.0])
        book.take(report({"a": ["x"], "b": ["x"]}), whole=True)
        book.take(report({"a": ["x"], "b": ["x"]}), whole=True)
        await book.page()
        assert len(await names(book)) == 2 and book.clock() == 20.0, "the clock was asked once"
        book.take(report({}, read=("a",)), whole=False)
        await book.page()
        book.clock = lambda: 40.0
        book.take(report({"a": ["x"], "b": ["x"]}), whole=True)
        first = await book.page()
        rest = await book.page(after=first["after"]) if first["more"] else {"faults": []}  # on a machine that was busy
        seen = {fault["object"]: fault["first_seen_s"] for fault in first["faults"] + rest["faults"]}
        assert seen == {"a": 40.0, "b": 10.0}

    running(scenario())


def test_a_look_up_changes_what_it_read_alone() -> None:
    async def scenario() -> None:
        book = FaultBook()
        book.take(report({"a": ["x"], "b": ["x"], "c": ["x"]}), whole=True)
        book.take(report({"b": ["y"], "racks": ["z"]}, read=("a", "b")), whole=False)
        assert [(f["object"], f["reason"]) for f in (await book.page())["faults"]] == [
            ("c", "x"), ("b", "y"), ("racks", "z"),
        ]  # fmt: skip
        book.take(report({}, read=("c",)), whole=False)
        assert await names(book) == ["b", "racks"]

    running(scenario())


def test_pages_miss_nothing_and_say_nothing_twice_whatever_changes_meanwhile() -> None:
    async def scenario() -> None:
        book = FaultBook()
        every = [f"h{n}" for n in range(10)]
        book.take(report({name: ["x"] for name in every}), whole=True)
        page = await book.page(limit=4)
        first = [fault["object"] for fault in page["faults"]]
        assert first == every[:4] and page["more"]
        left = {name: ["x"] for name in ("h9", "new", "h8", "h2", "h5")}
        book.take(report(left), whole=True)
        rest = await names(book, after=page["after"])
        assert rest == ["h5", "h8", "h9", "new"]

    running(scenario())


def test_by_object_and_by_kind() -> None:
    async def scenario() -> None:
        book = FaultBook()
        tie = Reason("t", "tie")
        book.take(report({"rack7-a": [tie], "rack7-b": ["x"], "rack8": [tie], "rack[7]": ["x"]}), whole=True)
        assert await names(book, named="rack7-*") == ["rack7-a", "rack7-b"]
        assert await names(book, named="rack[7]") == ["rack[7]"], "exactly that one"
        assert await names(book, kind="tie") == ["rack7-a", "rack8"]
        assert await names(book, kind="tie", named="rack8") == ["rack8"]
        assert (await book.page(kind="tie"))["kinds"] == {"other": 2, "tie": 2}, "of all"
        with pytest.raises(WrongFilter, match="did you mean conflict"):
            await book.page(kind="conflct")

    running(scenario())


def test_a_search_through_many_goes_on_in_the_next_page(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        book = FaultBook()
        book.take(report({f"h{n}": ["x"] for n in range(1_000)}), whole=True)
        monkeypatch.setattr(faultbook, "SCAN_S", -1.0)
        after, found, pages = 0, [], 0
        while True:
            page = await book.page(named="h999", after=after)
            found += page["faults"]
            after, pages = page["after"], pages + 1
            if not page["more"]:
                break
        assert [fault["object"] for fault in found] == ["h999"] and 10 < pages < 100

    running(scenario())


def test_the_loop_goes_on_while_a_hundred_thousand_are_taken_up() -> None:
    async def scenario() -> None:
        book, turns = FaultBook(), 0
        many = report({f"host{n}": [Reason(f"address 10.0.0.{n} is no IPv4 address", "bad-address")]
                       for n in range(faultlist.FAULTS_MAX + 5)})  # fmt: skip
        book.take(many, whole=True)
        while book.under_way:
            turns += 1
            await asyncio.sleep(0)
        assert turns > 200, "between pieces of a thousand"
        page = await book.page(limit=10)
        assert (page["total"], page["left_out"]) == (faultlist.FAULTS_MAX + 5, 5)
        assert len(await names(book, named="host99999")) + len(page["faults"]) >= 10
        book.take(report({}), whole=True)
        assert (await book.page())["total"] == 0

    running(scenario())


def test_new_ones_are_in_the_log_the_first_by_line_the_others_counted(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        book = FaultBook()
        book.take(report({f"h{n}": [Reason("why", "tie")] for n in range(50)}), whole=True)
        await book.page()
        lines = [record.getMessage() for record in caplog.records if record.name == "bootstorm.faults"]
        assert len(lines) == faultbook.NEW_LOGGED_MAX + 1 and lines[0] == "new: h0: why [tie]"
        assert lines[-1] == "30 more faults of the inventory are new; all of them: bootstorm ctl faults"
        caplog.clear()
        book.take(report({f"h{n}": [Reason("why", "tie")] for n in range(50)}), whole=True)
        for n in range(100):
            book.take(report({f"seen{n}": ["x"]}), whole=False)
        await book.page()
        assert len(caplog.records) == faultbook.NEW_LOGGED_MAX, "look-ups have no lines of their own"
        caplog.clear()
        book.take(report({}), whole=True)
        await book.page()
        assert [record.getMessage()[:13] for record in caplog.records] == ["80 more fault"]

    caplog.set_level(logging.INFO, "bootstorm.faults")
    running(scenario())


def test_conflicts_and_other_faults_that_come_and_go_are_events() -> None:
    noted: list[tuple[str, str | None, str | None, str]] = []

    async def scenario() -> None:
        book = FaultBook(note=lambda *event: noted.append(event))
        both = [Reason("MAC of two", "conflict")]
        book.take(report({"a": both, "b": both, "c": [Reason("why", "tie")]}), whole=True)
        await book.page()
        assert noted == [
            ("conflict-appeared", "a", None, "MAC of two"), ("conflict-appeared", "b", None, "MAC of two"),
            ("fault-appeared", "c", None, "why [tie]"),
        ]  # fmt: skip
        noted.clear()
        book.take(report({"a": both, "b": both, "c": [Reason("why", "tie")]}), whole=True)
        book.take(report({}, read=("b",)), whole=False)
        await book.page()
        assert noted == [("conflict-ended", "b", None, "MAC of two")], "a look-up speaks of what it read"
        book.take(report({"a": both}), whole=True)
        await book.page()
        assert noted[1:] == [("fault-ended", "c", None, "why [tie]")]
        noted.clear()
        many = {f"h{n}": [Reason("why", "tie")] for n in range(1_000)}
        book.take(report(many | {"a": both, "z": both}), whole=True)
        await book.page()
        assert len(noted) == faultbook.NOTED_MAX + 2, "and they take no conflict's place"
        assert noted[-2] == ("conflict-appeared", "z", None, "MAC of two")
        assert noted[-1] == ("fault-appeared", None, None, "900 more; those of now: bootstorm ctl faults")

    running(scenario())


def test_what_an_older_planner_says_is_taken_as_far_as_it_goes() -> None:
    async def scenario() -> None:
        book = FaultBook()
        book.take({"faults": {"a": ["x"]}, "reasons": {}, "faults_total": 1, "answered": []}, whole=True)
        assert [(f["object"], f["kind"]) for f in (await book.page())["faults"]] == [("a", "other")]

    running(scenario())


def test_a_damaged_list_ends_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        book = FaultBook()
        book.take(report({"a": ["x"]}), whole=True)
        book.take(report({"b": ["x"]}) | {"book": b"\x01"}, whole=True)
        assert await names(book) == ["a"]
        assert "cannot be read" in caplog.text

    running(scenario())


# --- what the planner writes -----------------------------------------------------------------------------------------


def test_a_report_counts_what_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("control.plan.contexts.REASONS_MAX", 20)
    faults = Faults()
    for n in range(50):
        faults.blame("a", f"reason {n}", "tie")
    found = report(faults)
    assert found["faults"]["a"][-1] == "... and 40 more" and len(found["faults"]["a"]) == 11
    packed = list(faultlist.unpacked_faults(found["book"]))
    assert packed[0] == ("a", "tie", "reason 0") and len(packed) == 21
    monkeypatch.setattr(faultlist, "FAULTS_MAX", 5)
    assert faultlist.packed_faults(faults)[1] == 45


def test_a_reason_without_end_is_cut() -> None:
    found = report({"a" * 1_000: ["b" * 100_000]})
    ((name, _kind, reason),) = faultlist.unpacked_faults(found["book"])
    assert len(name) <= 260 and len(reason) <= 520 and "(100000 characters)" in reason


# --- by the console --------------------------------------------------------------------------------------------------


def test_ctl_faults(tmp_path: Path) -> None:
    path = tmp_path / "hosts.yaml"
    path.write_text(HOSTS)

    async def scenario(ctl: Ctl) -> None:
        await ctl("refresh")
        page = await ctl("faults")
        assert {(fault["object"], fault["kind"]) for fault in page["faults"]} == set(SEEN)
        assert {fault["kind"] for fault in page["faults"]} <= KINDS.keys()
        reasons = {fault["object"]: fault["reason"] for fault in page["faults"]}
        assert reasons["a"].endswith("1h is 3600 seconds") and "did you mean tftp_filename?" in reasons["racks"]
        socket = str(tmp_path / "control.sock")

        def printed(*arguments: str) -> str:
            ran = CliRunner().invoke(main, ["ctl", "--socket", socket, "faults", *arguments])
            assert ran.exit_code == 0, ran.output
            return ran.stdout

        said = await asyncio.to_thread(printed)
        assert said.startswith("6 faults of 6 objects: 2 conflict, ") and len(said.splitlines()) == 7
        assert "Z  gateway-address  b: address 10.1.0.1 is the gateway of 10.1.0.0/16\n" in said
        only = await asyncio.to_thread(printed, "--kind", "conflict", "--json")
        assert {fault["object"] for fault in json.loads(only)["faults"]} == {"c", "d"}
        first = page["faults"][0]["first_seen_s"]
        path.write_text(HOSTS.replace("lease_time: 1h", "lease_time: 3600"))
        await ctl("refresh")
        page = await ctl("faults")
        assert page["total"] == 5 and {fault["first_seen_s"] for fault in page["faults"]} == {first}

    commanded(f"file://{path}", tmp_path, scenario)


def test_more_than_a_page(tmp_path: Path) -> None:
    path = tmp_path / "hosts.csv"
    rows = [f"h{n},02:00:00:00:{n >> 8:02x}:{n & 255:02x},10.9.0.1,1\n" for n in range(1, 2_500)]
    path.write_text("base,mask\n10.1.0.0,255.255.0.0\n\nname,mac,address,dhcp.enabled\n" + "".join(rows))

    async def scenario(ctl: Ctl) -> None:
        await ctl("refresh")

        def printed() -> str:
            return CliRunner().invoke(main, ["ctl", "--socket", str(tmp_path / "control.sock"), "faults"]).stdout

        said = await asyncio.to_thread(printed)
        lines = said.splitlines()[1:]
        assert len(lines) == 2 * 2_499 and len(set(lines)) == len(lines)

    commanded(f"file://{path}", tmp_path, scenario)
