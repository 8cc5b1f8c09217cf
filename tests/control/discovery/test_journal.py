"""The journal on a real disk: what is read back after an end, a kill, a torn tail; how it stays small; a full disk."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from control.discovery import journal as module
from control.discovery.journal import Journal, JournalFailed


def opened(path: Path) -> tuple[Journal, dict[str, dict[str, object]]]:
    journal = Journal(path)
    records = journal.load(lambda record: record)
    return journal, {record["mac"]: record for record in records}


def test_the_last_record_counts_and_what_is_forgotten_is_gone(memory: Path) -> None:
    journal, before = opened(memory / "j")
    assert before == {}
    for number in range(100):
        journal.put(f"m{number % 10}", {"state": str(number)})
    journal.forget("m3")
    journal.forget("never")
    journal.close()
    journal, found = opened(memory / "j")
    journal.close()
    assert sorted(found) == [f"m{number}" for number in range(10) if number != 3]
    assert found["m9"]["state"] == "99"


@pytest.mark.parametrize("tail", [b'{"mac":"m9","st', b"\xff\xfe\n", b"[1]\n", b"12\n", b'{"state":"x"}\n', b"null\n"])
def test_a_torn_or_foreign_tail_costs_itself_only(memory: Path, tail: bytes) -> None:
    path = memory / "j"
    path.write_bytes(b'{"mac":"m1","state":"seen"}\n' + tail)
    journal, found = opened(path)
    journal.put("m2", {"state": "waits"})
    journal.close()
    assert list(found) == ["m1"] and journal.skipped == 1
    journal, found = opened(path)
    journal.close()
    assert sorted(found) == ["m1", "m2"] and journal.skipped == 0, "what comes after the tail is not glued to it"


@pytest.mark.parametrize("name", ["j.lost", "j.new"])
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("elsewhere")])
def test_what_stands_in_the_place_of_a_file_aside_is_replaced(
    memory: Path, name: str, make: Callable[[Path], None]
) -> None:
    """A pipe there was waited for: control never started."""
    (memory / "j").write_bytes(b"{torn\n")
    make(memory / name)
    journal, _ = opened(memory / "j")
    journal.close()
    assert (memory / "j.lost").read_bytes() == b"{torn\n" and not (memory / "j.new").exists()
    assert not (memory / "elsewhere").exists() and stat.S_ISREG((memory / "j").lstat().st_mode)


def test_a_kill_costs_nothing_that_was_flushed(memory: Path) -> None:
    program = """
import asyncio, sys
from pathlib import Path
from control.discovery.journal import Journal
journal = Journal(Path(sys.argv[1]))
journal.load(lambda record: record)
async def run():
    for number in range(100000):
        journal.put(f"m{number % 50}", {"state": str(number)})
        if number % 20 == 19:
            await journal.flush()
            sys.stdout.write(f"{number}\\n")
            sys.stdout.flush()
asyncio.run(run())
"""
    path = memory / "j"
    argv = [sys.executable, "-P", "-c", program, str(path)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        flushed = 0
        for line in process.stdout:
            flushed = int(line)
            if flushed > 400:
                break
        os.kill(process.pid, signal.SIGKILL)
        flushed = max([flushed, *(int(line) for line in process.stdout if line.endswith("\n"))])
    journal, found = opened(path)
    journal.close()
    states = {mac: int(str(record["state"])) for mac, record in found.items()}
    assert len(states) == 50 and max(states.values()) >= flushed
    for number in range(flushed - 49, flushed + 1):
        assert states[f"m{number % 50}"] >= number


def test_the_file_stays_small(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SPARE_LINES", 100)
    path = memory / "j"
    journal, _found = opened(path)

    async def run() -> None:
        for number in range(5_000):
            journal.put(f"m{number % 10}", {"state": str(number)})
            if number % 50 == 0:
                await journal.flush()
        await journal.flush()

    asyncio.run(run())
    lines = path.read_bytes().count(b"\n")
    journal.close()
    assert lines <= 100 + 2 * 10 + 50, lines


def test_a_disk_that_fails_is_told_to_who_waits_and_mends_itself(memory: Path) -> None:
    folder = memory / "state"
    folder.mkdir()
    path = folder / "j"
    journal, _found = opened(path)

    async def run() -> None:
        journal.put("m0", {"state": "seen"})
        await journal.flush()
        os.close(journal.fd)
        journal.fd = os.open("/dev/full", os.O_WRONLY)
        journal.put("m1", {"state": "seen"})
        with pytest.raises(JournalFailed, match=f"cannot write {path}"):
            await journal.flush()
        journal.put("m2", {"state": "seen"})
        await journal.flush()  # written anew, with what failed before
        assert journal.fault == ""

    asyncio.run(run())
    journal.close()
    journal, found = opened(path)
    journal.close()
    assert sorted(found) == ["m0", "m1", "m2"]
