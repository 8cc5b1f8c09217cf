"""control/fleet/process/spool.py: what is added is there after a restart, whatever became of the file's end."""

from __future__ import annotations

from pathlib import Path

import pytest

from control.fleet.process import spool as spool_module
from control.fleet.process.spool import FILE, SpoolFile


def loaded(folder: Path) -> SpoolFile:
    made = SpoolFile(folder)
    made.load()
    return made


def test_what_is_added_is_there_after_a_restart_until_it_is_confirmed(tmp_path: Path) -> None:
    first = loaded(tmp_path)
    assert [first.add(what) for what in (b"a", b"b", b"c")] == [1, 2, 3]
    first.confirmed((2,))
    again = loaded(tmp_path)
    assert (again.spool, again.entries, again.number) == (first.spool, {1: b"a", 3: b"c"}, 3)
    assert again.add(b"d") == 4
    assert loaded(tmp_path).entries == {1: b"a", 3: b"c", 4: b"d"}


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_torn_end_costs_the_last_entry_alone(tmp_path: Path, cut: int) -> None:
    """And its numbers are never used again for others: the leader may have them."""
    first = loaded(tmp_path)
    first.add(b"a")
    whole = (tmp_path / FILE).stat().st_size
    first.add(b"second")
    content = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(content[: whole + cut])
    again = loaded(tmp_path)
    assert again.entries == {1: b"a"} and again.spool != first.spool
    again.add(b"b")
    assert loaded(tmp_path).entries == {1: b"a", 2: b"b"} and loaded(tmp_path).spool == again.spool


@pytest.mark.parametrize("spoilt", [b"", b"\xc1", b"\xc4\x02ab", b"x" * 5_000, b"\xdd\xff\xff\xff\xff"])
def test_a_damaged_file_is_a_new_one(tmp_path: Path, spoilt: bytes) -> None:
    (tmp_path / FILE).write_bytes(spoilt)
    made = loaded(tmp_path)
    assert not made.entries
    made.add(b"a")
    assert loaded(tmp_path).entries == {1: b"a"}


def test_the_file_is_written_anew_when_most_of_it_is_out_of_date(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "SPARE_RECORDS", 10)
    made = loaded(tmp_path)
    made.add(b"stays")
    for _ in range(100):
        made.confirmed((made.add(b"x" * 100),))
    assert (tmp_path / FILE).stat().st_size < 3_000
    assert loaded(tmp_path).entries == {1: b"stays"} and loaded(tmp_path).number >= 1


def test_a_disk_that_takes_nothing_is_told_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = loaded(tmp_path)
    made.add(b"a")

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(spool_module.os, "fdatasync", full)
        with pytest.raises(OSError):
            made.add(b"b")
    assert made.entries == {1: b"a"}
    made.add(b"c")
    assert loaded(tmp_path).entries == {1: b"a", 2: b"c"}
