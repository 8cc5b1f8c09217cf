"""Upgrades between two different builds, there and back under load: every request is answered, none waits for long."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.faults.builds import ROOT, Installed, build_of, other_build
from bench.lab.lab import CommandFailed, Host, Lab, Process
from bench.lab.site import ENVIRONMENT, RunningSite, many_hosts, running_site, send_signal

pytestmark = pytest.mark.faults

HOSTS, RATE, TURNS = 500, 5000, 2
SERVER, RELAY, NETWORK = "10.89.0.1", "10.89.0.2", "10.89.0.0/255.255.0.0/10.89.0.1"
FIRST_ADDRESS = "10.89.1.0"
STEP_S = 60.0
# Another layout ("all") takes minutes to compile: make test-faults.
WAIT_MS = {"same": 300.0, "messages": 300.0, "all": 500.0}  # on a quiet machine
FROM = os.environ.get("BOOTSTORM_FROM", "")
BUSY = float(os.environ.get("BOOTSTORM_BUSY", "1"))  # `make test`: waits may be so many times as long


class Site:
    """A running site whose code can be exchanged, and a client beside it."""

    def __init__(self, running: RunningSite, client: Host, installed: Installed) -> None:
        self.running, self.client, self.installed = running, client, installed

    def log(self) -> str:
        assert self.running.server is not None
        return self.running.server.log()

    def status(self) -> dict[str, Any]:
        return dict(self.running.ctl("status"))

    def ask_to_upgrade(self) -> None:
        send_signal([self.running.supervisor()], signal.SIGUSR2)

    def pids(self) -> set[int]:
        return {pid for pid, words in self.running.processes() if words[-2] in ("worker", "run")}

    def upgrade(self, tree: Path) -> None:
        """To what is in a folder; returns when every process is of it."""
        before = self.pids()
        self.installed.switch(tree)
        self.ask_to_upgrade()
        until(lambda: not before & self.pids(), f"every process is of {tree.name}", self.log)
        until(lambda: len(self.pids()) == 4, "control, 2 workers and a spare", self.log)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if reason := Lab.available():
        pytest.skip(reason)
    installed = Installed(tmp_path_factory.mktemp("installed") / "code")
    with Lab() as lab, wired(lab, installed) as made:
        yield made


@contextmanager
def wired(lab: Lab, installed: Installed, workers: int = 2, **dhcp: Any) -> Iterator[Site]:
    server, client = lab.host("server"), lab.host("client")
    lab.wire(server, client, a_if="sv", b_if="cl", a_addr=f"{SERVER}/16", b_addr=f"{RELAY}/16")
    hosts = many_hosts(HOSTS, NETWORK, (10 << 24) + (89 << 16) + (1 << 8), 0x020000000000)
    with running_site(server, hosts, HOSTS, workers, environment=installed.environment, **dhcp) as running:
        yield Site(running, client, installed)


def until(good: Callable[[], bool], what: str, said: Callable[[], str]) -> None:
    """Polls /proc, the log and the status, which have no events to wait for; bounded."""
    deadline = time.monotonic() + STEP_S
    while time.monotonic() < deadline:
        if good():
            return
        time.sleep(0.01)
    raise AssertionError(f"not within {STEP_S:.0f} s: {what}; the service said:\n{said()[-6000:]}")


class Load:
    """A relay's worth of requests in the background, and the account of them at the end."""

    def __init__(self, client: Host) -> None:
        command = [sys.executable, "-m", "bench.engine.crowd", "--server", SERVER, "--giaddr", RELAY, "--mix"]
        command += ["--hosts", str(HOSTS), "--first-address", FIRST_ADDRESS, "--rate", str(RATE)]
        self.process: Process = client.popen([*command, "--most", "1000000"], env=ENVIRONMENT)
        self.process.wait_for("crowd: sending", 10.0)

    def end(self) -> dict[str, Any]:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30.0)
        return dict(json.loads(self.process.log().strip().splitlines()[-1]))


def account(figures: dict[str, Any], wait_ms: float) -> None:
    print(json.dumps(figures))
    assert figures["unanswered"] == 0 and figures["wrong"] == 0, figures
    assert figures["sent"] > RATE / 10, "the load ran, if only for the second that a refused trial takes"
    assert figures["late_ms"]["p100"] <= BUSY * wait_ms, figures


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind == "messages" else [pytest.mark.long]) for kind in WAIT_MS]
)
def test_there_and_back_under_load(site: Site, kind: str) -> None:
    """The status names the build each time; what was counted goes on; a refresh reaches every worker."""
    other = other_build(kind)
    before = site.status()
    load = Load(site.client)
    try:
        for _turn in range(TURNS):
            site.upgrade(other)
            assert site.status()["build"] == kind
            site.upgrade(ROOT)
            assert site.status()["build"] == before["build"]
    finally:
        figures = load.end()
    account(figures, WAIT_MS[kind])
    after = site.status()
    answered = sum(after["counters"].get(name, 0) - before["counters"].get(name, 0) for name in ("ACKED", "OFFERED"))
    assert answered == figures["sent"], "counters are carried over by name"
    done = site.running.ctl("refresh", "--wait")
    assert done["hosts"] == HOSTS
    assert after["restarts"] == before["restarts"], "nobody died of it"


@pytest.mark.skipif(not FROM, reason="make test-upgrade FROM=COMMIT names the commit to upgrade from")
@pytest.mark.long
def test_from_another_commit_and_back(tmp_path: Path) -> None:
    """As a site upgrades that has that commit's build: it may refuse, which is no loss, and then takes a restart."""
    if reason := Lab.available():
        pytest.skip(reason)
    older = build_of(FROM)
    installed = Installed(tmp_path / "code", older)
    with Lab() as lab, wired(lab, installed) as old:
        before, load = old.status(), Load(old.client)
        try:
            for _turn in range(TURNS):
                old.upgrade(ROOT)
                assert old.status()["build"] != before["build"]
                old.upgrade(older)
                assert old.status()["build"] == before["build"]
        finally:
            figures = load.end()
        account(figures, WAIT_MS["all"])
        old.upgrade(ROOT)
        assert old.running.ctl("refresh", "--wait")["hosts"] == HOSTS


@pytest.mark.long
def test_workers_that_die_before_the_exec_hold_up_nobody(site: Site) -> None:
    """Layouts differ: their slots wait for the new control's table, which must not wait for them.

    Killed while the trial runs, when nothing of the old build can be started any more."""
    said = len(site.log())
    site.installed.switch(other_build("all"))
    site.ask_to_upgrade()
    until(lambda: "try" in trial_words(site), "a trial runs", site.log)
    send_signal([pid for pid, words in site.running.processes() if words[-2] == "worker"])
    until(lambda: "this is 0.1.0+all" in site.log()[said:], "the new image", site.log)
    until(lambda: len(answering(site)) == 2, "both slots answer", site.log)
    load = Load(site.client)
    time.sleep(0.5)
    account(load.end(), WAIT_MS["all"])
    site.upgrade(ROOT)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["worker", "run"])
def test_deaths_between_the_installation_and_the_signal_begin_the_upgrade(site: Site, kind: str) -> None:
    """Nothing that could take their places goes with the old supervisor, and nobody may ever send the signal."""
    said = len(site.log())
    site.installed.switch(other_build("all"))
    send_signal([pid for pid, words in site.running.processes() if words[-2] == kind])
    until(lambda: "this is 0.1.0+all" in site.log()[said:], "the new image", site.log)
    until(lambda: len(answering(site)) == 2, "both slots answer", site.log)
    assert site.log()[said:].count("upgrading without having been asked to") == 1
    load = Load(site.client)
    time.sleep(0.5)
    account(load.end(), WAIT_MS["all"])
    site.upgrade(ROOT)


def answering(site: Site) -> list[int]:
    """Slots whose workers have a table; none while control is being replaced."""
    try:
        workers = site.status()["workers"]
    except CommandFailed:
        return []
    return [worker["slot"] for worker in workers if worker["pid"] and worker["generation"]]


@pytest.mark.long
def test_pools_of_another_layout_give_way_to_sockets(tmp_path: Path) -> None:
    """Under load; the program is off the interface, log and status say why."""
    if reason := Lab.available():
        pytest.skip(reason)
    if os.geteuid() != 0:
        pytest.skip("bpf(2) needs root, which a user namespace does not give")
    installed, other = Installed(tmp_path / "code"), other_build("all")
    with Lab() as lab, wired(lab, installed, io="xdp", interfaces=["sv"]) as xdp:
        assert xdp.status()["io"] == "xdp", xdp.log()
        load = Load(xdp.client)
        try:
            xdp.upgrade(other)
        finally:
            figures = load.end()
        account(figures, 500.0)
        status = xdp.status()
        assert status["io"] == "socket" and "restart" in status["io_reason"]
        assert "prog/xdp" not in xdp.running.host.run(["ip", "link", "show", "sv"]).stdout


@pytest.mark.parametrize("kind, why", [("broken", "SyntaxError"), ("slow", "took over 10 s")])
def test_code_that_does_not_load_is_told_and_everybody_stays(site: Site, kind: str, why: str) -> None:
    """Meanwhile a worker that dies is replaced."""
    before, said, other = site.pids(), len(site.log()), other_build(kind)
    load = Load(site.client)
    try:
        site.installed.switch(other)
        site.ask_to_upgrade()
        until(lambda: "try" in trial_words(site), "a trial runs", site.log)
        victim = serving(site)
        send_signal([victim])
        until(lambda: victim not in site.pids() and len(site.pids()) == 4, "it was replaced", site.log)
        until(lambda: "not upgraded" in site.log()[said:], "the log says why", site.log)
    finally:
        figures = load.end()
        site.installed.switch(ROOT)
    account(figures, 300.0)
    assert why in next(line for line in site.log()[said:].splitlines() if "not upgraded" in line)
    assert len(before & site.pids()) >= len(before) - 1, "but for the one that was killed"


def trial_words(site: Site) -> list[str]:
    """The command line of a trial that runs."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
                if words[-2:-1] == ["try"] and (folder / "ns/net").stat().st_ino == site.running.network():
                    return words
            except OSError:
                continue
    return []


def serving(site: Site) -> int:
    """The pid that we see of a worker with a slot."""
    inner = {worker["pid"] for worker in site.status()["workers"]}
    for pid in site.pids():
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            if any(line.startswith("NSpid:") and int(line.split()[-1]) in inner for line in file):
                return pid
    raise AssertionError(f"none of {sorted(site.pids())} is one of {sorted(inner)} in the laboratory")


def test_a_stopped_control_is_replaced(site: Site) -> None:
    """Its loop does not turn: noticed within the 3 s, and clients do not notice."""
    (control,) = (pid for pid, words in site.running.processes() if words[-2] == "run")
    load = Load(site.client)
    try:
        os.kill(control, signal.SIGSTOP)
        started = time.monotonic()
        until(lambda: control not in site.pids() and len(site.pids()) == 4, "another control", site.log)
        assert time.monotonic() - started < 10.0
    finally:
        figures = load.end()
    account(figures, 300.0)
    assert site.status()["hosts"] == HOSTS


def test_a_stopped_worker_dies_with_the_supervisor(site: Site) -> None:
    """And holds port 67 no longer: a second start serves."""
    victim = serving(site)
    before, supervisor = site.pids(), site.running.supervisor()
    os.kill(victim, signal.SIGSTOP)
    os.kill(supervisor, signal.SIGKILL)  # before it replaces the worker
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in before), "all are gone", site.log)
    assert site.running.server is not None
    site.running.server.wait(10.0)
    site.running.serve(HOSTS)


def test_sigterm_during_a_trial_is_obeyed(site: Site) -> None:
    """The last of this file: it ends the service."""
    server = site.running.server
    assert server is not None
    site.installed.switch(other_build("slow"))
    site.ask_to_upgrade()
    until(lambda: "try" in trial_words(site), "a trial runs", site.log)
    started = time.monotonic()
    send_signal([site.running.supervisor()], signal.SIGTERM)
    assert server.wait(20.0) == 0
    assert time.monotonic() - started < 5.0
