"""control/table/file.py: what a cold start finds, and that no damage, foreign file or full disk does harm."""

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ext.builder import Builder, Surroundings
from ext.table import TABLE_LAYOUT, Generation, Pair

from control.table.file import TableStore

NOBODY = 0x020000000000
VERSION_AT = 4


@pytest.fixture
def fds() -> Iterator[list[int]]:
    made: list[int] = []
    yield made
    for fd in made:
        os.close(fd)


@pytest.fixture
def store(tmp_path: Path) -> TableStore:
    return TableStore(tmp_path)


def base(fds: list[int], number: int, hosts: int = 3) -> int:
    builder = Builder()
    template = builder.add_template()
    for host in range(1, hosts + 1):
        builder.add_host(NOBODY + host, name=b"h%d" % host, leases=((0x0A010000 + host, 24, template),))
    fds.append(builder.seal(number, Surroundings(), created_s=number))
    return fds[-1]


def delta(fds: list[int], base_fd: int, number: int, gone: int = 1) -> int:
    builder = Builder(Generation(base_fd))
    builder.add_tombstone(NOBODY + gone)
    fds.append(builder.seal(number, Surroundings(), created_s=number))
    return fds[-1]


def pair(base_fd: int, delta_fd: int = -1) -> Pair:
    return Pair(Generation(base_fd), Generation(delta_fd) if delta_fd >= 0 else None)


def save(store: TableStore, base_fd: int, delta_fd: int = -1, confirmed_s: float = 1000.0) -> None:
    store.save(pair(base_fd, delta_fd), base_fd, delta_fd, confirmed_s)


def load(store: TableStore, fds: list[int]) -> tuple[Pair, float] | None:
    loaded = store.load()
    if loaded is None:
        return None
    base_fd, delta_fd, confirmed_s = loaded
    fds += [fd for fd in (base_fd, delta_fd) if fd >= 0]
    return pair(base_fd, delta_fd), confirmed_s


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "table.unsaved")


# --- there and back --------------------------------------------------------------------------------------------------


def test_nothing_there_says_nothing(store: TableStore, caplog: pytest.LogCaptureFixture) -> None:
    assert store.load() is None
    assert TableStore(store.state_dir / "nowhere").load() is None
    assert not caplog.records


def test_a_base(store: TableStore, fds: list[int]) -> None:
    first = base(fds, 7)
    save(store, first, confirmed_s=1234.5)
    found = load(TableStore(store.state_dir), fds)
    assert found is not None
    assert (found[0].top.number, found[0].top.digest, found[1]) == (7, Generation(first).digest, 1234.5)
    assert names(store.state_dir) == ["table.base"]
    assert store.base_path.read_bytes() == os.pread(first, 1 << 20, 0)


def test_a_base_and_its_delta(store: TableStore, fds: list[int]) -> None:
    first = base(fds, 7)
    change = delta(fds, first, 9)
    save(store, first)
    save(store, first, change, confirmed_s=2000.0)
    found = load(TableStore(store.state_dir), fds)
    assert found is not None
    assert (found[0].base.number, found[0].top.number, found[0].lookup(NOBODY + 1)) == (7, 9, None)
    assert found[0].lookup(NOBODY + 2) is not None
    assert found[1] >= 2000.0


def test_the_file_of_a_base_is_written_once(store: TableStore, fds: list[int]) -> None:
    first = base(fds, 7)
    save(store, first)
    inode = store.base_path.stat().st_ino
    for number, gone in ((8, 1), (9, 2)):
        save(store, first, delta(fds, first, number, gone))
    assert store.base_path.stat().st_ino == inode
    found = load(TableStore(store.state_dir), fds)
    assert found is not None and found[0].top.number == 9 and found[0].lookup(NOBODY + 1) is not None


def test_another_base_of_the_same_number_takes_its_place(store: TableStore, fds: list[int]) -> None:
    """Another machine's, of a fleet: each of them counted from 1 before."""
    save(store, base(fds, 1))
    theirs = base(fds, 1, hosts=5)
    save(store, theirs, delta(fds, theirs, 8))
    found = load(TableStore(store.state_dir), fds)
    assert found is not None and found[0].top.number == 8 and found[0].lookup(NOBODY + 5) is not None


def test_a_file_that_was_taken_away_is_written_again(store: TableStore, fds: list[int]) -> None:
    first = base(fds, 7)
    change = delta(fds, first, 8)
    save(store, first, change)
    store.base_path.unlink()
    store.delta_path.unlink()
    save(store, first, change)
    assert names(store.state_dir) == ["table.base", "table.delta"]


def test_a_confirmation_without_change_only_dates_the_file(store: TableStore, fds: list[int]) -> None:
    first = base(fds, 7)
    save(store, first, confirmed_s=1000.0)
    inode = store.base_path.stat().st_ino
    save(store, first, confirmed_s=5000.0)
    assert (store.base_path.stat().st_ino, store.base_path.stat().st_mtime) == (inode, 5000.0)


def test_the_delta_of_another_base_is_ignored(
    store: TableStore, fds: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """A new base is written first; a crash before the next delta leaves the old one lying there."""
    caplog.set_level("INFO")
    old = base(fds, 7)
    save(store, old, delta(fds, old, 8))
    save(store, base(fds, 9, hosts=5))
    found = load(TableStore(store.state_dir), fds)
    assert found is not None and found[0].delta is None and found[0].top.number == 9
    assert "table.delta is not used" in caplog.text
    assert names(store.state_dir) == ["table.base", "table.delta"], "it is no damage: nothing is kept aside"


def test_a_half_written_file_is_ignored_and_overwritten(store: TableStore, fds: list[int]) -> None:
    """What a power cut leaves: the rename never happened."""
    save(store, base(fds, 7))
    aside = store.state_dir / "table.base.new"
    aside.write_bytes(os.pread(base(fds, 8), 100, 0))
    found = load(TableStore(store.state_dir), fds)
    assert found is not None and found[0].top.number == 7
    save(store, base(fds, 9))
    found = load(TableStore(store.state_dir), fds)
    assert found is not None and found[0].top.number == 9 and not aside.exists()


def test_others_may_not_read_it(store: TableStore, fds: list[int]) -> None:
    save(store, base(fds, 7))
    assert store.base_path.stat().st_mode & 0o007 == 0


# --- a rollback that holds -------------------------------------------------------------------------------------------


def test_a_pin_is_there_until_it_is_taken_away(store: TableStore, fds: list[int]) -> None:
    save(store, base(fds, 7))
    assert store.pinned_s() == 0.0
    store.unpin()
    store.pin(1234.5)
    assert store.pinned_s() == TableStore(store.state_dir).pinned_s() == 1234.5
    assert names(store.state_dir) == ["pinned", "table.base"]
    store.pin(2000.0)
    assert store.pinned_s() == 2000.0
    store.unpin()
    assert store.pinned_s() == 0.0 and names(store.state_dir) == ["table.base"]


def test_a_pin_says_what_was_left_where_the_disk_has_room(store: TableStore, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.left() == ""
    store.pin(5.0, "ab" * 32)
    assert store.left() == "ab" * 32

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        assert store.pin(6.0, "cd" * 32) == "", "an empty file needs no room"
    assert (store.left(), store.pinned_s()) == ("", 6.0)
    store.unpin()
    store.pin_path.mkdir()
    assert store.left() == "" and store.pin(7.0).startswith("cannot write")


def test_a_pin_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    store = TableStore(tmp_path / "nowhere")
    assert store.pin(1.0) == f"cannot write {tmp_path}/nowhere/pinned: No such file or directory"
    assert store.pinned_s() == 0.0
    store.unpin()


# --- damage ----------------------------------------------------------------------------------------------------------


def flipped(raw: bytes) -> bytes:
    return raw[:-70] + bytes([raw[-70] ^ 1]) + raw[-69:]


def foreign(raw: bytes) -> bytes:
    return raw[:VERSION_AT] + struct.pack("<I", 99) + raw[VERSION_AT + 4 :]


DAMAGES = [
    pytest.param(flipped, "", id="one-bit"),
    pytest.param(lambda raw: raw[: len(raw) // 2], "", id="cut"),
    pytest.param(lambda _raw: b"", "0 bytes", id="empty"),
    pytest.param(lambda raw: bytes(len(raw)), "", id="zeros"),
    pytest.param(foreign, "version", id="foreign-version"),
]


@pytest.mark.parametrize("damage, reason", DAMAGES)
def test_a_damaged_base_is_kept_aside_with_its_reason(
    store: TableStore, fds: list[int], caplog: pytest.LogCaptureFixture, damage: Any, reason: str
) -> None:
    save(store, base(fds, 7))
    harmed = damage(store.base_path.read_bytes())
    store.base_path.write_bytes(harmed)
    open_before = len(os.listdir("/proc/self/fd"))
    assert TableStore(store.state_dir).load() is None
    assert len(os.listdir("/proc/self/fd")) == open_before
    (aside,) = names(store.state_dir)
    assert aside.startswith("table.base.refused-") and (store.state_dir / aside).read_bytes() == harmed
    assert "table.base is not served: " in caplog.text and reason in caplog.text and aside in caplog.text
    save(store, base(fds, 8))
    found = load(TableStore(store.state_dir), fds)
    assert found is not None and found[0].top.number == 8


@pytest.mark.parametrize("damage, reason", DAMAGES)
def test_a_damaged_delta_leaves_the_base(
    store: TableStore, fds: list[int], caplog: pytest.LogCaptureFixture, damage: Any, reason: str
) -> None:
    first = base(fds, 7)
    save(store, first, delta(fds, first, 8))
    store.delta_path.write_bytes(damage(store.delta_path.read_bytes()))
    found = load(TableStore(store.state_dir), fds)
    assert found is not None and found[0].delta is None and found[0].top.number == 7
    assert "table.delta is not served: " in caplog.text and reason in caplog.text
    assert [name.partition("-")[0] for name in names(store.state_dir)] == ["table.base", "table.delta.refused"]


@pytest.mark.parametrize("loss", ["gone", "damaged", "not readable"])
def test_a_base_whose_delta_is_lost_is_as_old_as_it_is(store: TableStore, fds: list[int], loss: str) -> None:
    """It passed for the age that both had, and machines were refused by what had changed since."""
    first = base(fds, 7)
    save(store, first, confirmed_s=1000.0)
    save(store, first, delta(fds, first, 8), confirmed_s=5000.0)
    save(store, first, delta(fds, first, 8), confirmed_s=9000.0)
    found = load(TableStore(store.state_dir), fds)
    assert found is not None and found[1] == 9000.0
    if loss == "gone":
        store.delta_path.unlink()
    elif loss == "damaged":
        store.delta_path.write_bytes(flipped(store.delta_path.read_bytes()))
    else:
        store.delta_path.unlink()
        store.delta_path.mkdir()
    found = load(TableStore(store.state_dir), fds)
    assert found is not None and found[0].delta is None and found[1] <= 1000.0


def test_a_base_that_an_older_build_dated_for_both_is_not_believed_without_its_delta(
    store: TableStore, fds: list[int]
) -> None:
    first = base(fds, 7)
    save(store, first, delta(fds, first, 8), confirmed_s=5000.0)
    os.utime(store.base_path, (9000.0, 9000.0))
    os.utime(store.delta_path, (5000.0, 5000.0))
    found = load(TableStore(store.state_dir), fds)
    assert found is not None and found[1] == 9000.0
    store.delta_path.write_bytes(flipped(store.delta_path.read_bytes()))
    found = load(TableStore(store.state_dir), fds)
    assert found is not None and found[1] == Generation(first).created_s


def test_what_cannot_be_read_is_logged_and_started_without(store: TableStore, caplog: pytest.LogCaptureFixture) -> None:
    store.base_path.mkdir()
    assert store.load() is None
    assert f"cannot read {store.base_path}" in caplog.text


def test_a_disk_that_fails_while_reading_is_logged_and_started_without(
    store: TableStore, fds: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    save(store, base(fds, 7))
    fail_at(monkeypatch, errno.EIO)
    open_before = len(os.listdir("/proc/self/fd"))
    assert store.load() is None
    assert len(os.listdir("/proc/self/fd")) == open_before
    assert "cannot read" in caplog.text and names(store.state_dir) == ["table.base"], "it may be well tomorrow"


def test_damage_that_cannot_be_moved_is_not_served_either(
    store: TableStore, fds: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    save(store, base(fds, 7))
    store.base_path.write_bytes(flipped(store.base_path.read_bytes()))

    def refuse(*_: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "rename", refuse)
    assert store.load() is None
    assert "is not served" in caplog.text and "Read-only" in caplog.text


# --- other layouts ---------------------------------------------------------------------------------------------------

TABLES = Path(__file__).resolve().parents[2] / "data/tables"


def test_a_table_of_the_layout_before_is_read_and_said(
    store: TableStore, fds: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    """An upgrade over a restart serves at once, with its delta, and at the inventory's next word it is rewritten."""
    store.base_path.write_bytes((TABLES / "layout5.base").read_bytes())
    store.delta_path.write_bytes((TABLES / "layout5.delta").read_bytes())
    os.utime(store.base_path, (1234.5, 1234.5))
    os.utime(store.delta_path, (1000.0, 1000.0))
    open_before = len(os.listdir("/proc/self/fd"))
    found = load(store, fds)
    assert len(os.listdir("/proc/self/fd")) == open_before + 2
    assert found is not None and (found[0].base.number, found[0].top.number, found[1]) == (7, 9, 1234.5)
    assert found[0].lookup(NOBODY + 1)["leases"][0]["address"] == 0x0A010033, "the delta's word"
    assert f"{store.base_path} has layout 5 and is read into layout {TABLE_LAYOUT}" in caplog.text
    assert names(store.state_dir) == ["table.base", "table.delta"]
    store.save(found[0], fds[0], fds[1], 2000.0)
    caplog.clear()
    again = load(TableStore(store.state_dir), fds)
    assert again is not None and again[0].top.number == 9 and not caplog.records


def test_a_damaged_delta_of_the_layout_before_leaves_its_base(
    store: TableStore, fds: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    store.base_path.write_bytes((TABLES / "layout5.base").read_bytes())
    store.delta_path.write_bytes(flipped((TABLES / "layout5.delta").read_bytes()))
    found = load(store, fds)
    assert found is not None and found[0].delta is None and found[0].top.number == 7
    assert "table.delta is not served: checksum differs" in caplog.text


def test_a_delta_of_the_layout_before_upon_a_base_of_this_one_is_ignored(
    store: TableStore, fds: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    save(store, base(fds, 7))
    store.delta_path.write_bytes((TABLES / "layout5.delta").read_bytes())
    found = load(TableStore(store.state_dir), fds)
    assert found is not None and found[0].delta is None and "table.delta is not used" in caplog.text


@pytest.mark.parametrize("layout", [1, 4, TABLE_LAYOUT + 1])
def test_any_other_layout_is_kept_aside_and_named(
    store: TableStore, fds: list[int], caplog: pytest.LogCaptureFixture, layout: int
) -> None:
    save(store, base(fds, 7))
    raw = store.base_path.read_bytes()
    store.base_path.write_bytes(raw[:VERSION_AT] + struct.pack("<I", layout) + raw[VERSION_AT + 4 :])
    assert load(TableStore(store.state_dir), fds) is None
    (aside,) = names(store.state_dir)
    assert aside.startswith("table.base.refused-")
    assert f"layout {layout} of another version; this build reads layouts 5 and {TABLE_LAYOUT}" in caplog.text


# --- a full disk -----------------------------------------------------------------------------------------------------


def fail_at(monkeypatch: pytest.MonkeyPatch, code: int, after: int = 0) -> None:
    """os.sendfile works `after` times, then fails."""
    true, calls = os.sendfile, iter(range(1 << 30))

    def sendfile(*arguments: Any) -> int:
        if next(calls) >= after:
            raise OSError(code, os.strerror(code))
        return true(*arguments)

    monkeypatch.setattr(os, "sendfile", sendfile)


def test_a_full_disk_costs_the_next_cold_start_not_the_service(
    store: TableStore, fds: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    save(store, base(fds, 7), confirmed_s=1000.0)
    second = base(fds, 8, hosts=5)
    with monkeypatch.context() as full:
        fail_at(full, errno.ENOSPC)
        save(store, second, confirmed_s=2000.0)
    assert "cannot keep the table" in caplog.text and "No space left" in caplog.text
    found = load(TableStore(store.state_dir), fds)
    assert found is not None and (found[0].top.number, found[1]) == (7, 1000.0), "the last whole one, with its age"
    save(store, second, confirmed_s=3000.0)
    found = load(TableStore(store.state_dir), fds)
    assert found is not None and (found[0].top.number, found[1]) == (8, 3000.0)


def test_a_copy_that_stops_short_is_a_failure(
    store: TableStore, fds: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "sendfile", lambda *_: 0)
    save(store, base(fds, 7))
    assert "short copy: 0 of" in caplog.text and not store.base_path.exists()


def test_a_delta_that_had_no_room_is_written_at_the_next_confirmation(
    store: TableStore, fds: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or the disk would say that the older delta is what the inventory confirms now."""
    first = base(fds, 7)
    save(store, first, delta(fds, first, 8, gone=1), confirmed_s=1000.0)
    later = delta(fds, first, 9, gone=2)
    with monkeypatch.context() as full:
        fail_at(full, errno.ENOSPC)
        save(store, first, later, confirmed_s=2000.0)
    save(store, first, later, confirmed_s=3000.0)
    found = load(TableStore(store.state_dir), fds)
    assert found is not None and found[0].top.number == 9 and found[0].lookup(NOBODY + 2) is None


def test_without_the_folder_it_is_logged(fds: list[int], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(TableStore(tmp_path / "nowhere"), base(fds, 7))
    assert "cannot keep the table" in caplog.text


def test_what_stands_in_the_way_of_the_file_is_named(
    store: TableStore, fds: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    aside = store.state_dir / "table.base.new"
    aside.mkdir()
    save(store, base(fds, 7))
    assert f"cannot keep the table: {aside}: Is a directory" in caplog.text


@pytest.mark.parametrize("head", [0, 8, 4096])
def test_what_is_far_too_long_is_not_read_whole(
    store: TableStore, fds: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, head: int
) -> None:
    """3 GiB without content were copied into memory before anybody looked."""
    begins = os.pread(base(fds, 7), head, 0)
    store.base_path.write_bytes(begins)
    os.truncate(store.base_path, 3 << 30)
    sendfile, sent = os.sendfile, list[int]()

    def count(*arguments: int) -> int:
        sent.append(sendfile(*arguments))
        return sent[-1]

    monkeypatch.setattr(os, "sendfile", count)
    assert store.load() is None and sum(sent) <= 4096
    assert "table.base is not served: " in caplog.text
