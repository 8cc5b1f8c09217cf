"""A whole `bootstorm serve` for the tests, on ports of its own: its log, its status, its end."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from control.cli.ctl import Client
from tests.ports import free_port

WAIT_S = 180.0


def may_serve() -> None:
    """A packet socket wants CAP_NET_RAW, and the service does not start without."""
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0).close()
    except PermissionError:
        pytest.skip("no CAP_NET_RAW for the service's packet socket; run as root, or inside `unshare -rn`")


class Running:
    """A `bootstorm serve`.  wait_for(): until its log says something, from the last line that was waited for on."""

    def __init__(self, process: subprocess.Popen[str], path: str) -> None:
        self.process = process
        self.ctl = Client(path).call
        self.lines: list[str] = []
        self.at = 0
        self.news = threading.Condition()
        self.thread = threading.Thread(target=self.read, daemon=True)
        self.thread.start()

    def read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self.news:
                self.lines.append(line.rstrip("\n"))
                self.news.notify_all()
        with self.news:
            self.lines.append("it has ended")
            self.news.notify_all()

    def wait_for(self, pattern: str) -> str:
        def found() -> str | None:
            for number in range(self.at, len(self.lines)):
                if re.search(pattern, self.lines[number]):
                    self.at = number + 1
                    return self.lines[number]
            return None

        with self.news:
            line = self.news.wait_for(found, WAIT_S)
        assert line, f"nobody said {pattern!r}:\n" + "\n".join(self.lines)
        return line

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.ctl("status", {})
        return found

    def wait_saved(self, state: Path) -> None:
        """Until the table lies in the state folder: the planner writes it behind its answer, and tells nobody."""
        deadline = time.monotonic() + WAIT_S
        while not (state / "table.base").exists():
            assert time.monotonic() < deadline, "no table was written:\n" + "\n".join(self.lines)
            time.sleep(0.01)

    def child(self, kind: str) -> int:
        """The pid of the supervisor's one child of a kind: run, traps, observe.  KeyError without one."""
        return children(self.process.pid)[kind]


def children(pid: int) -> dict[str, int]:
    """Kind -> pid of the children of a process, the last one of a kind."""
    found = {}
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(OSError):  # it has ended; until it is reaped it is there without a command line
            words = Path(f"/proc/{child}/cmdline").read_bytes().decode().split("\0")
            if "-m" in words[:-2]:
                found[words[words.index("-m") + 2]] = int(child)
    return found


@contextmanager
def serving(
    folder: Path,
    api_url: str,
    snmp: dict[str, Any] | None = None,
    metrics: dict[str, Any] | None = None,
    control: dict[str, Any] | None = None,
    log: dict[str, Any] | None = None,
    board: dict[str, Any] | None = None,
    within: Sequence[str] = (),
    **dhcp: Any,
) -> Iterator[Running]:
    """snmp, metrics, log, board: those sections, when there are to be any; control: further keys of that one; within: a
    command that becomes the service."""
    path = str(folder / "control.sock")
    fields = {
        "api_url": api_url, "state_dir": str(folder / "state"), "workers": 1, "port": free_port(), "interfaces": ["lo"],
        "refresh_interval": 3600,
    }  # fmt: skip
    conf = folder / "services.conf"
    given = {"snmp": snmp, "metrics": metrics, "log": log, "board": board}
    sections = {name: section for name, section in given.items() if section is not None}
    conf.write_text(json.dumps(sections | {"dhcp": fields | dhcp, "control": {"socket": path} | (control or {})}))
    argv = [*within, sys.executable, "-P", "-m", "control", "serve", "-c", str(conf)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        running = Running(process, path)
        try:
            yield running
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            finally:
                process.kill()
                running.thread.join(30)
