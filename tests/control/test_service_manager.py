"""`bootstorm serve` below a service manager (tests/service_manager.py): ready, killed, reloaded, stopped."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.control.service.test_service import content
from tests.control.serving import WAIT_S, Running, may_serve, serving
from tests.ext import packets

MANAGER = Path(__file__).resolve().parents[1] / "service_manager.py"
REQUESTS = 300
MAC = 0x02_00_00_00_00_01


@pytest.fixture(autouse=True)
def _may() -> None:
    may_serve()


def managed(folder: Path, *options: str) -> dict[str, Any]:
    """For serving(): hosts, and the manager that starts it."""
    (folder / "hosts.csv").write_text(content(1))
    within = [sys.executable, "-I", str(MANAGER), *options, str(folder / "notify")]
    return {"api_url": f"file://{folder / 'hosts.csv'}", "within": within, "boot_port": 0}


def started(running: Running) -> int:
    """The service's pid, once it is ready."""
    found = re.search(r"started (\d+)", running.wait_for("^manager: started"))
    running.wait_for("^manager: says READY=1")
    assert found is not None
    return int(found[1])


def received(running: Running) -> int:
    return sum(int(worker["rx"]) for worker in running.status()["workers"])


def ctl(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-P", "-m", "control", "ctl", "--socket", str(folder / "control.sock"), *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=WAIT_S, check=False)


def test_a_killed_service_loses_nothing_that_waited_and_goes_on_with_what_was_accepted(tmp_path: Path) -> None:
    conf = tmp_path / "services.conf"
    with serving(tmp_path, **managed(tmp_path)) as running:
        pid, accepted = started(running), conf.read_text()
        port = json.loads(accepted)["dhcp"]["port"]
        before = running.status()
        conf.write_text("{")  # nobody can start from that
        os.kill(pid, signal.SIGKILL)
        running.wait_for("^manager: ended by signal 9")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            for _ in range(REQUESTS):
                client.sendto(packets.discover(MAC), ("127.0.0.1", port))
        started(running)
        deadline = time.monotonic() + WAIT_S
        while received(running) < REQUESTS:
            assert time.monotonic() < deadline, running.status()
        after = running.status()
        assert received(running) == REQUESTS, "each of them once"
        assert after["generation"] >= before["generation"] and after["hosts"] == before["hosts"]
        # The file is still the one that nobody can start from.
        done = ctl(tmp_path, "reload")
        assert done.returncode == 1 and done.stdout == ""
        assert re.match(r"bootstorm: not reloaded: .*services\.conf", done.stderr), done.stderr
        conf.write_text(accepted)
        done = ctl(tmp_path, "--json", "reload")
        assert done.returncode == 0 and json.loads(done.stdout)["refused"] == []
        # A clean restart begins with nothing.
        running.process.send_signal(signal.SIGUSR1)
        running.wait_for("^manager: says STOPPING=1")
        assert running.wait_for("^manager: started").endswith(" with 0")
        running.wait_for("^manager: says READY=1")
