"""fastpath/process/logs.py: nobody who logs ever waits, lines that are lost are counted and told, and a process always
ends."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastpath.process.logs import Writer

ROOT = Path(__file__).resolve().parents[3]
SOON_S = 10.0


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for fd in ends:
        os.close(fd)


def fill(fd: int) -> int:
    """Until it takes nothing more; the number of bytes."""
    filled = 0
    os.set_blocking(fd, False)
    try:
        while True:
            filled += os.write(fd, bytes(4096))
    except BlockingIOError:
        os.set_blocking(fd, True)
        return filled


def read_until(fd: int, word: bytes) -> bytes:
    said, deadline = b"", time.monotonic() + SOON_S
    os.set_blocking(fd, False)
    while word not in said and time.monotonic() < deadline:
        try:
            said += os.read(fd, 65536)
        except BlockingIOError:
            time.sleep(0.005)
    return said


def test_a_reader_that_stands_still_costs_lines_and_no_time(pipe: tuple[int, int]) -> None:
    filled = fill(pipe[1])
    writer = Writer(pipe[1], buffer_bytes=5_000)
    writer.begin()
    started = time.monotonic()
    for number in range(1000):
        writer.write(b"line %03d\n" % number)
    writer.flush(0.05)
    assert time.monotonic() - started < 2.0
    assert writer.lost >= 1
    said = read_until(pipe[0], b"nobody took them\n").lstrip(b"\0").splitlines()
    told = [int(found[1]) for line in said if (found := re.search(rb"bootstorm.logs: (\d+) lines lost here", line))]
    kept = [line for line in said if line.startswith(b"line ")]
    assert said[:500] == [b"line %03d" % number for number in range(500)], "the oldest stay"
    assert kept == sorted(set(kept)) and len(kept) + len(told) == len(said) and filled > 0
    assert len(kept) + writer.lost == 1000 and sum(told) == writer.lost
    writer.write(b"and on\n")
    assert read_until(pipe[0], b"and on\n") == b"and on\n"


def test_lines_before_the_beginning_wait(pipe: tuple[int, int]) -> None:
    writer = Writer(pipe[1])
    writer.write(b"early\n")
    assert writer.thread is None, "it would keep the privileges that are given up next"
    writer.begin()
    writer.write(b"late\n")
    assert read_until(pipe[0], b"late\n") == b"early\nlate\n"


def test_a_machine_without_threads_writes_at_the_end(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    writer = Writer(pipe[1])

    def refused(_thread: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", refused)
    writer.begin()
    writer.write(b"one\n")
    writer.write(b"two\n")
    writer.flush()
    assert read_until(pipe[0], b"two\n") == b"one\ntwo\n"
    fill(pipe[1])
    writer.write(b"three\n")
    writer.flush()  # takes nothing: returns
    assert writer.lost == 1


def test_a_closed_file_loses_lines_and_nothing_else() -> None:
    reader, fd = os.pipe()
    os.close(reader)
    writer = Writer(fd)
    writer.begin()
    for _ in range(10):
        writer.write(b"x\n")
        writer.flush(1.0)
    assert writer.lost == 10 and not writer.waiting
    os.close(fd)


ENDS = {
    "return": "",
    "traceback": "raise ValueError('the end ' + 'x' * 9000)",
    "leave": "logs.leave(0)",
    "direct": "sys.stderr.write('direct\\n' * 20_000)",
    "upgrade": "logs.flush_logs(); os.execv('/bin/true', ['true'])",
}


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("full", [True, False], ids=["full", "read"])
def test_a_process_ends_whoever_reads(pipe: tuple[int, int], how: str, full: bool) -> None:
    """With what it said, where somebody reads."""
    code = "import logging, os, sys\nfrom fastpath.process import logs\n"
    code += "logs.configure_logging()\nlogging.warning('said')\n"
    if full:
        fill(pipe[1])
    process = subprocess.Popen([sys.executable, "-c", code + ENDS[how]], stderr=pipe[1], cwd=ROOT)
    said = b"" if full else read_until(pipe[0], {"traceback": b"xxx\n"}.get(how, b"said\n"))
    try:
        end = time.monotonic() + SOON_S
        while process.poll() is None and time.monotonic() < end:
            said += b"" if full else read_until_nothing(pipe[0])
            time.sleep(0.01)
        assert process.poll() == (1 if how == "traceback" else 0)
    finally:
        process.kill()
        process.wait()
    if not full:
        assert b"root: said\n" in said
        assert (b"ValueError: the end xxx" in said) == (how == "traceback")
        said += read_until_nothing(pipe[0])
        assert said.count(b"direct\n") == (20_000 if how == "direct" else 0) or b"lines lost here" in said


def read_until_nothing(fd: int) -> bytes:
    os.set_blocking(fd, False)
    try:
        return os.read(fd, 1 << 20)
    except BlockingIOError:
        return b""


def test_a_stopped_reader_does_not_hold_a_term(pipe: tuple[int, int]) -> None:
    """SIGTERM's default action still ends a process whose thread waits in write()."""
    fill(pipe[1])
    code = "import logging, time\nfrom fastpath.process import logs\nlogs.configure_logging()\nlogging.error('x')\n"
    code += "print('up', flush=True)\ntime.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=pipe[1], stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdout is not None and process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGTERM)
    try:
        assert process.wait(SOON_S) == -signal.SIGTERM
    finally:
        process.kill()
        process.stdout.close()
