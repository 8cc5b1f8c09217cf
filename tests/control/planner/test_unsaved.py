"""Changes that the disk does not take: after a restart while the inventory is down, nobody gets an address by the word
of before."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from control.planner.planner import Planner
from control.planner.process import SaveAgain
from control.table.file import TableStore
from fastpath.process import table_proof, unsaved_rows
from fastpath.protocol import close_all
from tests.control.planning import LINKS, OTHER_LINKS, Control, Inventory, config, end, mac, refresh, site
from tests.control.spoiling import http


def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """No new file finds room; what is there can be written over."""

    def sendfile(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "sendfile", sendfile)


def test_the_disk_is_tried_again_soon_however_much_control_asks(
    served: Planner, inventory: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was tried only where control said nothing for a second: look-ups of strangers kept the older table there."""
    now_s = 100.0
    monkeypatch.setattr("control.planner.process.time.monotonic", lambda: now_s)
    again = SaveAgain(served)
    told = [again.wait_ms()]
    for _ in range(4):
        now_s += 0.2
        told.append(again.wait_ms())
    assert told == [500, 300, 100, None, None] and not served.store.fault
    next_one = TableStore(served.store.state_dir)
    loaded = next_one.load()
    assert loaded is not None and not next_one.unsaved(loaded[1])
    close_all([fd for fd in loaded[:2] if fd >= 0])


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


@pytest.mark.parametrize("damage", [b"x" * 100, b"", b"\0" * 40 + b"x", b"bootstorm rows"])
def test_what_is_no_note_costs_itself(
    planner: Planner, control: Control, inventory: Inventory, tmp_path: Path, damage: bytes
) -> None:
    planner.refresh(False)
    (tmp_path / unsaved_rows.FILE).write_bytes(damage)
    again = cold(inventory, tmp_path, control)
    assert control.pair().lookup(mac(1)) is not None
    end(again)


@pytest.mark.parametrize("how", ["a bit", "a link", "half"])
def test_of_a_note_that_cannot_be_read_nobody_is_answered_by_the_word_of_before(
    served: Planner, control: Control, inventory: Inventory, tmp_path: Path, how: str
) -> None:
    path = tmp_path / unsaved_rows.FILE
    content = bytearray(path.read_bytes())
    if how == "a bit":
        content[unsaved_rows.HEAD.size + 1] ^= 4
        path.write_bytes(content)
    elif how == "a link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.write_bytes(content[: unsaved_rows.HEAD.size + 8])
    many = len(control.sent)
    again = cold(inventory, tmp_path, control)
    assert len(control.sent) == many and again.served.pair is None
    inventory.down = None
    refresh(again, inventory, site(7, changed={2}, gone={4}))
    assert control.pair().lookup(mac(2))["leases"][0]["address"] == 0x0A010070
    assert unsaved_rows.read(str(path)) is None and unsaved_rows.has_room(str(path))
    end(again)


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("after", range(4))
def test_a_note_that_is_broken_off_says_all_rows_or_these(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    path, true, calls = str(tmp_path / "note"), os.pwrite, iter(range(100))
    unsaved_rows.make_room(path)
    unsaved_rows.note(path, "a" * 64, [1, 2])

    def pwrite(*arguments: Any) -> int:
        if next(calls) >= after:
            raise Killed
        return true(*arguments)

    with monkeypatch.context() as dying:
        dying.setattr(os, "pwrite", pwrite)
        with contextlib.suppress(Killed):
            unsaved_rows.note(path, "a" * 64, [7, 8, 9])
    found = unsaved_rows.read(path)
    assert found is not None
    keys = list(found.keys) if found.keys is not None else None
    assert keys == [[1, 2], None, None, [7, 8, 9]][after]


@pytest.mark.parametrize("step", range(12))
def test_the_proof_never_outlives_its_table(
    served: Planner, inventory: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Room comes back, and the planner is killed at any step of saving: the note holds until the proof is there."""
    calls = iter(range(100))

    def dies(true: Any) -> Any:
        def call(*arguments: Any, **more: Any) -> Any:
            if next(calls) >= step:
                raise Killed
            return true(*arguments, **more)

        return call

    with monkeypatch.context() as dying, contextlib.suppress(Killed):
        for name in ("rename", "pwrite", "utime", "unlink", "fsync", "fdatasync"):
            dying.setattr(os, name, dies(getattr(os, name)))
        served.save()
    note = unsaved_rows.read(str(tmp_path / unsaved_rows.FILE))
    proof = tmp_path / table_proof.FILE
    if note is None and proof.exists():
        told = table_proof.read(proof.read_bytes())
        fd = os.open(tmp_path / "table.delta", os.O_RDONLY)
        assert table_proof.name_of(fd) == told.delta and served.served.delta_fd >= 0
        assert table_proof.name_of(served.served.delta_fd) == told.delta
        os.close(fd)


def test_without_room_for_the_proof_there_is_none(
    planner: Planner, control: Control, inventory: Inventory, tmp_path: Path
) -> None:
    planner.refresh(False)
    assert (tmp_path / table_proof.FILE).exists()
    (tmp_path / "table.proof.new").mkdir()
    refresh(planner, inventory, site(changed={2}))
    assert not (tmp_path / table_proof.FILE).exists()
    (tmp_path / "table.proof.new").rmdir()
    planner.save()
    assert (tmp_path / table_proof.FILE).exists()


def test_a_pipe_in_the_place_of_the_note_holds_nobody(
    planner: Planner, control: Control, inventory: Inventory, tmp_path: Path
) -> None:
    path = tmp_path / unsaved_rows.FILE
    os.mkfifo(path)
    planner.refresh(False)
    assert unsaved_rows.has_room(str(path))


@pytest.mark.parametrize("loss", [b"", b"x" * 100, None])
def test_room_that_was_lost_is_taken_again(
    planner: Planner, control: Control, inventory: Inventory, tmp_path: Path, loss: bytes | None
) -> None:
    planner.refresh(False)
    path = tmp_path / unsaved_rows.FILE
    path.unlink() if loss is None else path.write_bytes(loss)
    planner.save()
    assert unsaved_rows.has_room(str(path))


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
