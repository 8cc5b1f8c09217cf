"""Changes that the disk does not take: after a restart while the inventory is down, nobody gets an address by the word
of before."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from control.planner.planner import Planner
from fastpath.process import unsaved_rows
from tests.control.planning import LINKS, OTHER_LINKS, Control, Inventory, config, end, mac, refresh, site
from tests.control.spoiling import http


def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """No new file finds room; what is there can be written over."""

    def sendfile(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "sendfile", sendfile)


def cold(inventory: Inventory, tmp_path: Path, control: Control) -> Planner:
    inventory.down = http("", "500 Down")
    made = Planner(config(inventory, tmp_path), OTHER_LINKS, control.send)
    made.load_from_disk()
    return made


@pytest.fixture
def served(planner: Planner, control: Control, inventory: Inventory, monkeypatch: pytest.MonkeyPatch) -> Planner:
    """h1 to h6 on the disk; since then h2 has another address, h4 has left, h7 is new, and none of that had room."""
    planner.refresh(False)
    with monkeypatch.context() as during:
        full(during)
        refresh(planner, inventory, site(7, changed={2}, gone={4}))
    assert control.pair().lookup(mac(2))["leases"][0]["address"] == 0x0A010070
    return planner


def test_a_cold_start_is_silent_about_rows_that_changed_while_the_disk_was_full(
    served: Planner, control: Control, inventory: Inventory, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    again = cold(inventory, tmp_path, control)
    pair = control.pair()
    assert {number: pair.lookup(mac(number)) is not None for number in range(1, 8)} == {
        1: True, 2: False, 3: True, 4: False, 5: True, 6: True, 7: False,
    }  # fmt: skip
    assert "2 of its rows had changed when the disk did not take a table any more" in caplog.text
    inventory.down = None
    refresh(again, inventory, site(7, changed={2}, gone={4}))
    assert control.pair().lookup(mac(2))["leases"][0]["address"] == 0x0A010070
    assert unsaved_rows.read(str(tmp_path / unsaved_rows.FILE)) is None
    end(again)


def test_once_the_disk_takes_it_nobody_is_held_back(
    served: Planner, control: Control, inventory: Inventory, tmp_path: Path
) -> None:
    served.save()
    again = cold(inventory, tmp_path, control)
    assert control.pair().lookup(mac(2))["leases"][0]["address"] == 0x0A010070
    assert control.pair().lookup(mac(7)) is not None and control.pair().lookup(mac(4)) is None
    end(again)


def test_the_note_follows_what_is_served(
    served: Planner, control: Control, inventory: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """h2 is as the disk has it again, h5 is not any more."""
    with monkeypatch.context() as during:
        full(during)
        refresh(served, inventory, site(7, changed={5}, gone={4}))
    again = cold(inventory, tmp_path, control)
    assert [control.pair().lookup(mac(number)) is not None for number in (2, 4, 5)] == [True, False, False]
    end(again)


def test_a_planner_that_took_over_notes_what_the_disk_has_not(
    served: Planner, control: Control, inventory: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was killed meanwhile: the next one knows what is served, and not what is on the disk."""
    fds = [os.dup(fd) for fd in control.fds[-1][1:]]
    heir = Planner(config(inventory, tmp_path), LINKS, control.send)
    heir.adopt(*fds)
    with monkeypatch.context() as during:
        during.setattr("control.table.file.write_aside", lambda path, _fd: (_ for _ in ()).throw(
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))))  # fmt: skip
        assert "No space left" in heir.save()
    again = cold(inventory, tmp_path, control)
    assert control.pair().lookup(mac(2)) is None
    end(again)
    end(heir)


def test_of_too_many_rows_the_table_on_disk_is_not_served(
    planner: Planner, control: Control, inventory: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unsaved_rows, "ROWS_MAX", 1)
    planner.refresh(False)
    with monkeypatch.context() as during:
        full(during)
        refresh(planner, inventory, site(changed={2, 3}))
    many = len(control.sent)
    again = cold(inventory, tmp_path, control)
    assert len(control.sent) == many and again.served.pair is None
    end(again)


def test_a_note_about_another_table_holds_nobody_back(
    served: Planner, control: Control, inventory: Inventory, tmp_path: Path
) -> None:
    unsaved_rows.note(str(tmp_path / unsaved_rows.FILE), "0" * 64, [mac(1), mac(2)])
    again = cold(inventory, tmp_path, control)
    assert control.pair().lookup(mac(1)) is not None
    end(again)


@pytest.mark.parametrize("damage", [b"x" * 100, b"", b"\0" * 40 + b"x", b"bootstorm rows 1\n" + b"\xff" * 72])
def test_a_damaged_note_costs_itself(
    planner: Planner, control: Control, inventory: Inventory, tmp_path: Path, damage: bytes
) -> None:
    planner.refresh(False)
    (tmp_path / unsaved_rows.FILE).write_bytes(damage)
    again = cold(inventory, tmp_path, control)
    assert control.pair().lookup(mac(1)) is not None
    end(again)


def test_a_note_that_was_written_by_half_is_damaged(tmp_path: Path) -> None:
    path = str(tmp_path / "note")
    unsaved_rows.make_room(path)
    assert unsaved_rows.read(path) is None
    unsaved_rows.note(path, "a" * 64, range(1000))
    found = unsaved_rows.read(path)
    assert found is not None and list(found.keys or ()) == list(range(1000)) and found.table == "a" * 64
    with open(path, "r+b") as file:
        file.seek(unsaved_rows.HEAD.size + 4000)
        file.write(b"\1")
    with pytest.raises(ValueError, match="checksum"):
        unsaved_rows.read(path)


def test_the_room_is_taken_while_there_is_some(planner: Planner, tmp_path: Path) -> None:
    planner.refresh(False)
    assert (tmp_path / unsaved_rows.FILE).stat().st_size == unsaved_rows.BYTES
    assert (tmp_path / unsaved_rows.FILE).stat().st_blocks * 512 >= unsaved_rows.BYTES, (
        "no hole: a full disk has no block"
    )
