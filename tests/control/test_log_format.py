"""The log of a whole service: lines of JSON by log.format, entries of the journal where standard error leads there; of
every process, those that are confined among them."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastpath.process.journald import PATH_VARIABLE
from tests.control.service.test_service import content
from tests.control.serving import WAIT_S, Running, may_serve, serving
from tests.ext.packets import discover
from tests.fastpath.process.test_log_forms import fields

AS_SYSTEMD = "import os, sys; s = os.fstat(2); os.environ['JOURNAL_STREAM'] = f'{s.st_dev}:{s.st_ino}'; "
AS_SYSTEMD += "os.execv(sys.argv[1], sys.argv[1:])"
STRANGER = "DISCOVER from 02:00:00:00:00:ff on lo not answered: not in the inventory"


@pytest.fixture(autouse=True)
def _may(monkeypatch: pytest.MonkeyPatch) -> None:
    may_serve()
    monkeypatch.setenv("BOOTSTORM_BENCH_BRAKE_NS", "1")  # for a line of a worker's


def write_inventory(folder: Path) -> str:
    path = folder / "hosts.csv"
    path.write_text(content(1))
    return f"file://{path}"


def ask(folder: Path) -> None:
    port = json.loads((folder / "services.conf").read_text())["dhcp"]["port"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(discover(0x0200000000FF), ("127.0.0.1", port))


def test_every_line_of_every_process_is_json(tmp_path: Path) -> None:
    with serving(tmp_path, write_inventory(tmp_path), log={"format": "json"}) as running:
        running.wait_for("generation 1: 1 hosts")
        ask(tmp_path)
        running.wait_for("02:00:00:00:00:ff")
    lines = [json.loads(line) for line in running.lines if line != "it has ended"]
    loggers = {line["logger"] for line in lines}
    assert {"bootstorm.supervisor", "bootstorm.worker", "bootstorm.refresh", "bootstorm.dhcp"} <= loggers
    assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)
    (stranger,) = [line for line in lines if line["logger"] == "bootstorm.dhcp"]
    assert stranger.pop("time") and stranger == {
        "level": "info", "logger": "bootstorm.dhcp", "message": STRANGER,
        "mac": "02:00:00:00:00:ff", "verdict": "IGNORED_UNKNOWN_MAC",
    }  # fmt: skip
    assert [line["level"] for line in lines if line["logger"] == "bootstorm.worker"] == ["warning"]


class Journal:
    """What a journald would have got."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(path))
        self.entries: list[dict[str, str]] = []
        self.news = threading.Condition()
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self) -> None:
        while datagram := self.sock.recv(1 << 18):
            with self.news:
                self.entries.append(fields(datagram))
                self.news.notify_all()

    def wait_for(self, fits: Callable[[dict[str, str]], bool]) -> dict[str, str]:
        def found() -> dict[str, str] | None:
            return next((entry for entry in self.entries if fits(entry)), None)

        with self.news:
            entry = self.news.wait_for(found, WAIT_S)
        assert entry, self.entries
        return entry

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.sock.getsockname())
        self.thread.join(WAIT_S)
        self.sock.close()


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Journal]:
    monkeypatch.setenv(PATH_VARIABLE, str(tmp_path / "journal"))
    made = Journal(tmp_path / "journal")
    yield made
    made.close()


def under_systemd(folder: Path) -> Any:
    return serving(folder, write_inventory(folder), within=[sys.executable, "-c", AS_SYSTEMD])


def test_the_journal_gets_every_process_s_messages_with_their_fields(tmp_path: Path, journal: Journal) -> None:
    running: Running
    with under_systemd(tmp_path) as running:
        journal.wait_for(lambda entry: "generation 1: 1 hosts" in entry["MESSAGE"])
        slow = journal.wait_for(lambda entry: entry["LOGGER"] == "bootstorm.worker")
        assert "SLOWED DOWN" in slow["MESSAGE"] and slow["PRIORITY"] == "4", "of a worker that may open no socket"
        ask(tmp_path)
        stranger = journal.wait_for(lambda entry: entry["LOGGER"] == "bootstorm.dhcp")
    assert stranger == {
        "MESSAGE": f"bootstorm.dhcp: {STRANGER}", "PRIORITY": "6", "SYSLOG_IDENTIFIER": "bootstorm",
        "LOGGER": "bootstorm.dhcp", "MAC": "02:00:00:00:00:ff", "VERDICT": "IGNORED_UNKNOWN_MAC",
    }  # fmt: skip
    said = {entry["MESSAGE"] for entry in journal.entries}
    twice = [line for line in running.lines if line[3:] in said or not line.startswith(("<", "it has ended"))]
    assert not twice, "what the journal had no room for, if anything, and nothing twice"


def test_a_service_whose_journal_is_not_there_serves_and_says_all_on_standard_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PATH_VARIABLE, str(tmp_path / "nothing"))
    with under_systemd(tmp_path) as running:
        running.wait_for(r"^<6>bootstorm\.refresh: generation 1: 1 hosts")
        ask(tmp_path)
        assert running.wait_for("02:00:00:00:00:ff") == f"<6>bootstorm.dhcp: {STRANGER}"
        assert running.status()["log_journal_missed"] >= 2


def test_text_stays_as_it_is_by_default(tmp_path: Path) -> None:
    with serving(tmp_path, write_inventory(tmp_path)) as running:
        running.wait_for("generation 1: 1 hosts")
        ask(tmp_path)
        line = running.wait_for("02:00:00:00:00:ff")
    assert line[23:] == f" bootstorm.dhcp: {STRANGER}"
