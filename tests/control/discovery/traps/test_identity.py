"""control/discovery/traps/identity.py and complaints.py: what outlives a restart, and what the log is spared."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from control.discovery.traps import complaints
from control.discovery.traps.complaints import LINES_BURST, REPEAT_S, Complaints
from control.discovery.traps.identity import FILE, Identity


def test_it_is_the_same_after_a_restart_but_for_its_boots(tmp_path: Path) -> None:
    first = Identity(tmp_path, 0.0)
    assert len(first.engine_id) == 13 and first.engine_id[0] & 0x80, "RFC 3411 section 5"
    assert [first.next_boots(), first.next_boots()] == [1, 2]
    second = Identity(tmp_path, 0.0)
    assert (second.engine_id, second.next_boots()) == (first.engine_id, 3)
    assert Identity(tmp_path / "..", 0.0).engine_id != first.engine_id


def test_clocks_of_others_outlive_a_restart(tmp_path: Path) -> None:
    first = Identity(tmp_path, 0.0)
    assert first.clocks.in_window(b"switch", 5, 1000, 50.0) and first.clocks.moved
    first.save()
    assert not first.clocks.moved
    second = Identity(tmp_path, 9000.0)
    assert not second.clocks.in_window(b"switch", 5, 800, 9001.0), "recorded before the restart"
    assert second.clocks.in_window(b"switch", 5, 1100, 9100.0)


def test_what_stands_in_the_place_of_the_file_aside_is_replaced(tmp_path: Path) -> None:
    aside = tmp_path / f"{FILE}.new"
    for make in (os.mkfifo, lambda path: path.symlink_to("elsewhere")):
        make(aside)
        Identity(tmp_path, 0.0).save()
        assert not os.path.lexists(aside) and (tmp_path / FILE).is_file()
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", '{"id": "zz", "boots": 1, "clocks": {}}', '{"id": "80", "boots": 1}']
)
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    with pytest.raises(ValueError, match=rf"{FILE}: found .*delete the file"):
        Identity(tmp_path, 0.0)


def test_one_line_a_sender_and_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    said = Complaints()
    for turn in range(100):
        said.note("10.0.0.1", "community", "one", turn / 100)
        said.note("10.0.0.1", "digest", "two", turn / 100)
        said.note("10.0.0.2", "community", "three", turn / 100)
    said.note("10.0.0.1", "community", "one", REPEAT_S + 1)
    assert [record.message for record in caplog.records] == ["one", "two", "three", "one (99 more since the last line)"]


def test_a_thousand_senders_are_not_a_thousand_lines(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setattr(complaints, "SENDERS_MAX", 100)
    said = Complaints()
    for number in range(1000):
        said.note(f"sender {number}", "community", f"sender {number}", 1000.0)
    assert len(caplog.records) == LINES_BURST
    assert len(said.said) == 100
