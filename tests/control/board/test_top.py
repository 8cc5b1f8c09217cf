"""control/board/top.py: a service of another build or one that hangs, and a screen that comes back."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from control.board.top import Picture
from control.service_client import ServiceClient
from tests.control.board.faked import Fake, host, overview, status
from tests.control.service.doors.fleet_status import fleet_status


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[Fake]:
    made = Fake(str(tmp_path / "s"))
    yield made
    made.close()


def drawn(fake: Fake) -> str:
    picture = Picture(ServiceClient(fake.path), "rack")
    picture.ask()
    with open(os.devnull, "w") as nowhere:
        console = Console(file=nowhere, record=True, width=200)
        console.print(picture.draw())
    return console.export_text()


@pytest.mark.parametrize("field", sorted(status()))
def test_a_service_of_another_build_costs_a_part(fake: Fake, field: str) -> None:
    fake.answers["status"] = lambda _: {name: value for name, value in status().items() if name != field}
    said = drawn(fake)
    assert ("cards and BMCs" in said) or "does not understand" in said


def test_a_service_without_a_ledger_costs_the_machines_alone(fake: Fake) -> None:
    def refused(_: Any) -> Any:
        raise RuntimeError("there is no boot ledger")

    picture, lines = Picture(ServiceClient(fake.path), "rack"), []
    for change in ({"overview": refused}, {"overview": lambda _: overview(since_s=1_700_000_000)}):
        fake.answers |= change
        picture.ask()
        assert not picture.failure and len(picture.history.samples) == len(lines) + 1
        with open(os.devnull, "w") as nowhere:
            console = Console(file=nowhere, record=True, width=200)
            console.print(picture.draw())
        lines.append(console.export_text())
    assert "1 of 1 workers answer" in lines[0] and "it does not say: there is no boot ledger" in lines[0]
    assert "no boot ledger" not in lines[1] and "nothing is known of what was before 2023-11-14" in lines[1]


def test_what_stands_in_options_is_not_on_it(fake: Fake) -> None:
    said = "dhcp option vendor (43): found 'hunter2'; wanted octets"
    health = {"ready": False, "reason": said, "answering": 1, "workers": 1}
    stuck = {"served": {"stuck": 1}}
    fake.answers |= {
        "status": lambda _: status(doubts=[said], inventory_reason=said, health=health),
        "overview": lambda _: overview(totals={"states": stuck, "stages": {}}),
        "hosts": lambda _: {"hosts": [host(1, reason=said)]},
    }
    found = drawn(fake)
    assert "hunter2" not in found and found.count("not shown here") == 5, found


def test_it_grows_old_while_the_service_hangs_and_gives_the_screen_back(fake: Fake) -> None:
    main, side = pty.openpty()
    hang, over = threading.Event(), threading.Event()

    def answer(_: Any) -> Any:
        if hang.is_set():
            over.wait(60)
        return status()

    fake.answers["status"] = answer
    argv = [sys.executable, "-P", "-m", "control", "top", "--socket", fake.path, "--every", "0.5"]
    env = os.environ | {"TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    process = subprocess.Popen(argv, stdin=side, stdout=side, stderr=side, env=env)
    os.close(side)
    said = b""

    def until(text: bytes) -> None:
        nonlocal said
        deadline = time.monotonic() + 40
        while text not in said:
            assert time.monotonic() < deadline, said[-1000:]
            said += os.read(main, 1 << 16)

    try:
        until(b"figures 0.")
        hang.set()
        until(b"figures 3.")
        process.send_signal(signal.SIGTERM)
        until(b"\x1b[?1049l")
        assert process.wait(20) == 128 + signal.SIGTERM
        assert b"Traceback" not in said
    finally:
        over.set()
        process.kill()
        process.wait()
        os.close(main)


def test_a_fleet_is_one_line_and_nothing_where_there_is_none(fake: Fake) -> None:
    assert "fleet" not in drawn(fake)
    fake.answers["status"] = lambda _: status(fleet=fleet_status(behind=2))
    said = drawn(fake)
    assert "fleet: shard main, leads; head 5.3.7; 3 machines, 2 behind" in said
    assert "2 machines of the fleet are behind" in said
    fake.answers["status"] = lambda _: status(fleet={"of": "another build"})
    assert "does not understand" in drawn(fake)
