"""fastpath/process/notify.py: what the manager's variables say, and what is sent to it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastpath.process.notify import (
    FIRST_FD,
    Handed,
    NotifySocket,
    beat_s,
    for_children,
    forget_handed_back,
    handed_back,
)
from tests.fastpath.supervisor.listening import Listener

PID = str(os.getpid())


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_a_word_and_a_descriptor_arrive(kind: str, tmp_path: Path) -> None:
    address = str(tmp_path / "notify") if kind == "path" else f"@bootstorm-test-{PID}"
    listener = Listener(address)
    sock = NotifySocket.of({"NOTIFY_SOCKET": address})
    assert sock is not None and not os.get_inheritable(sock.sock.fileno())
    sock.send("STATUS=h\u00e9, \udc80")
    read, write = os.pipe()
    sock.send("FDSTORE=1\nFDNAME=pipe.1\nFDPOLL=0", [write])
    os.close(write)
    assert listener.hear()[0] == "STATUS=h\u00e9, \\udc80"
    os.write(listener.store["pipe.1"], b"through")
    assert os.read(read, 9) == b"through"
    os.close(read)
    barrier = sock.barrier()
    listener.hear()
    assert os.read(barrier, 1) == b"", "the manager has closed the other end"
    os.close(barrier)
    sock.close()
    listener.close()


def test_nobody_there_is_an_error_and_never_a_wait(tmp_path: Path) -> None:
    sock = NotifySocket.of({"NOTIFY_SOCKET": str(tmp_path / "nobody")})
    assert sock is not None
    with pytest.raises(FileNotFoundError):
        sock.send("READY=1")
    listener = Listener(str(tmp_path / "nobody"))
    with pytest.raises(BlockingIOError):  # it does not read
        for _ in range(100_000):
            sock.send("READY=1")
    sock.close()
    listener.close()


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1", "@", "/"])
def test_an_address_that_is_none_is_no_manager(address: str) -> None:
    assert NotifySocket.of({"NOTIFY_SOCKET": address}) is None
    assert NotifySocket.of({}) is None


@pytest.mark.parametrize(
    "environment, seconds",
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": PID}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "0"}, 0.0),
        ({"WATCHDOG_USEC": "-5"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
    ],
)
def test_the_watchdog_is_another_s_or_ours(environment: dict[str, str], seconds: float) -> None:
    assert beat_s(environment) == seconds


def test_the_watchdog_hears_twice_within_its_time(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    listener = Listener(address)
    sock = NotifySocket.of({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"})
    assert sock is not None
    for tick in range(200):  # ten seconds, in turns of 50 ms
        sock.beat(100.0 + tick * 0.05)
        listener.hear()
    assert 19 <= len(listener.said) <= 21 and set(listener.said) == {"WATCHDOG=1"}
    sock.close()
    listener.close()


def test_what_was_handed_back_is_for_one_process_and_once() -> None:
    given = {"LISTEN_PID": PID, "LISTEN_FDS": "3", "LISTEN_FDNAMES": "a.1:b.2"}
    assert handed_back(given) == [Handed("a.1", 3), Handed("b.2", 4), Handed("unknown", 5)]
    assert FIRST_FD == 3
    for other in ({"LISTEN_PID": "1"}, {"LISTEN_FDS": "-1"}, {"LISTEN_FDS": "x"}, {"LISTEN_FDS": "0"}):
        assert handed_back(given | other) == []
    rest = {"PATH": "/bin"} | given
    forget_handed_back(rest)
    assert rest == {"PATH": "/bin"} and handed_back(rest) == []


def test_children_are_told_nothing_of_it() -> None:
    ours = {"NOTIFY_SOCKET": "/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": PID, "LISTEN_PID": PID, "LISTEN_FDS": "1"}
    assert for_children(ours | {"LISTEN_FDNAMES": "a", "PATH": "/bin"}) == {"PATH": "/bin"}


def test_it_costs_a_start_no_library() -> None:
    """What `bootstorm serve` loads for it."""
    code = "import sys, socket, array, logging, typing; a = set(sys.modules); import fastpath.process.notify"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code + "; print(*sorted(set(sys.modules) - a))"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert {name.partition(".")[0] for name in done.stdout.split()} == {"fastpath"}
