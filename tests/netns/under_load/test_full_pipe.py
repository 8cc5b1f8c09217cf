"""Nobody reads the service's log: it serves, replaces what dies, answers `ctl`, upgrades and stops all the same."""

from __future__ import annotations

import os
import shlex
import signal
import time
from collections.abc import Iterator

import pytest

from bench.lab.lab import Host, Lab
from bench.lab.site import BOOTSTORM, RunningSite, many_hosts, send_signal

pytestmark = pytest.mark.faults
HOSTS = 5
STEP_S = 20.0


@pytest.fixture
def host() -> Iterator[Host]:
    if reason := Lab.available():
        pytest.skip(reason)
    with Lab() as lab:
        yield lab.host("server")


def workers(site: RunningSite) -> set[int]:
    return {pid for pid, words in site.processes() if words[-2] == "worker"}


def until_gone(site: RunningSite, gone: set[int], count: int) -> None:
    """Bounded: /proc has no events."""
    deadline = time.monotonic() + STEP_S
    while time.monotonic() < deadline:
        now = workers(site)
        if not now & gone and len(now) == count:
            return
        time.sleep(0.02)
    raise AssertionError(f"workers {now} after {STEP_S:.0f} s, wanted {count} and none of {gone}")


def test_a_log_that_nobody_reads(host: Host) -> None:
    hosts = host.scratch / "hosts.yaml"
    hosts.write_text(many_hosts(HOSTS, "10.88.0.0/255.255.0.0/10.88.0.1", (10 << 24) + (88 << 16) + 256, 2 << 40))
    site = RunningSite(host, 2, api_url=f"file://{hosts}")
    fifo = host.scratch / "log"
    os.mkfifo(fifo)
    unread = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(unread, bytes(4096))
    serve = shlex.join([*BOOTSTORM, "serve", "-c", str(site.config)])
    site.server = host.popen(["sh", "-c", f"exec {serve} 2>{shlex.quote(str(fifo))}"], env=site.environment)
    site.await_status(lambda s: s["hosts"] == HOSTS and all(w["generation"] for w in s["workers"]))
    for turn in range(1, 4):
        before = workers(site)
        send_signal(sorted(before))
        until_gone(site, before, 3)
        restarts = site.ctl("status")["restarts"]
        assert sum(restarts.values()) >= 3 * turn
    before = workers(site)
    send_signal([site.supervisor()], signal.SIGUSR2)
    until_gone(site, before, 3)
    assert site.ctl("refresh", "--wait")["hosts"] == HOSTS
    started = time.monotonic()
    site.server.stop(signal.SIGTERM)
    assert time.monotonic() - started < 10.0
    os.close(unread)
