"""Processes die, the service does not: kills and upgrades under load, with every single request accounted for."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bench.lab.lab import Host, Lab, Process
from bench.lab.site import ENVIRONMENT, RunningSite, many_hosts, running_site, send_signal

pytestmark = pytest.mark.faults

HOSTS, RATE, TURNS = 500, 5000, 10
SERVER, RELAY, NETWORK = "10.88.0.1", "10.88.0.2", "10.88.0.0/255.255.0.0/10.88.0.1"
FIRST_ADDRESS = "10.88.1.0"
STEP_S = 15.0


@pytest.fixture(scope="module")
def site() -> Iterator[tuple[RunningSite, Host]]:
    if reason := Lab.available():
        pytest.skip(reason)
    with Lab() as lab:
        server, client = lab.host("server"), lab.host("client")
        lab.wire(server, client, a_if="sv", b_if="cl", a_addr=f"{SERVER}/16", b_addr=f"{RELAY}/16")
        first = (10 << 24) + (88 << 16) + (1 << 8)
        with running_site(server, many_hosts(HOSTS, NETWORK, first, 0x020000000000), HOSTS) as running:
            yield running, client


class Load:
    """A relay's worth of requests in the background, and the account of them at the end."""

    def __init__(self, client: Host, most: int = 1_000_000, rate: int = RATE, tail_s: float = 2.0) -> None:
        command = [sys.executable, "-m", "bench.engine.crowd", "--server", SERVER, "--giaddr", RELAY, "--mix"]
        command += ["--hosts", str(HOSTS), "--first-address", FIRST_ADDRESS, "--rate", str(rate), "--most", str(most)]
        command += ["--tail", str(tail_s)]
        self.process: Process = client.popen(command, env=ENVIRONMENT)
        self.process.wait_for("crowd: sending", 10.0)

    def end(self) -> dict[str, Any]:
        self.process.send_signal(signal.SIGTERM)
        return self.figures()

    def figures(self) -> dict[str, Any]:
        """When all requests are out."""
        self.process.wait(120.0)
        return dict(json.loads(self.process.log().strip().splitlines()[-1]))


def pids(running: RunningSite, kind: str) -> list[int]:
    return sorted(pid for pid, words in running.processes() if words[-2] == kind)


def await_change(look: Callable[[], Any], good: Callable[[Any], bool], what: str) -> Any:
    """Polls /proc and the status, which have no events to wait for; bounded."""
    deadline = time.monotonic() + STEP_S
    while time.monotonic() < deadline:
        seen = look()
        if good(seen):
            return seen
        time.sleep(0.01)
    raise AssertionError(f"not within {STEP_S:.0f} s: {what}; last seen: {seen}")


def slots(running: RunningSite) -> dict[int, int]:
    return {worker["slot"]: worker["pid"] for worker in running.ctl("status")["workers"]}


def settled(running: RunningSite) -> list[int]:
    """All workers and the spare are there."""
    return await_change(lambda: pids(running, "worker"), lambda found: len(found) == 3, "2 workers and a spare")


def account(figures: dict[str, Any], least: int = RATE) -> None:
    """Every request was answered, and rightly; least: requests below which the load proved nothing."""
    print(json.dumps(figures))
    assert figures["unanswered"] == 0, figures
    assert figures["wrong"] == 0, figures
    assert figures["sent"] > least, "the load ran"


def refresh_works(running: RunningSite) -> None:
    """Also a change reaches every worker: the generation of each is at least the one that the refresh names."""
    figures = running.ctl("refresh", "--wait")
    assert figures["hosts"] == HOSTS
    assert all(worker["generation"] >= figures["generation"] for worker in running.ctl("workers"))


def kill_in_turn(running: RunningSite, client: Host, victim: Callable[[int], int], count: int) -> None:
    load = Load(client)
    try:
        for turn in range(TURNS):
            settled(running)
            pid = victim(turn)
            send_signal([pid])
            await_change(lambda pid=pid: os.path.exists(f"/proc/{pid}"), lambda there: not there, f"{pid} is gone")
        settled(running)
    finally:
        figures = load.end()
    account(figures)
    refresh_works(running)
    assert sum(running.ctl("status")["restarts"].values()) >= count


@pytest.mark.parametrize("slot", [0, 1])
def test_killed_workers_lose_nothing(site: tuple[RunningSite, Host], slot: int) -> None:
    running, client = site

    def victim(_turn: int) -> int:
        return int(await_change(lambda: local_pid(running, slots(running)[slot]), bool, f"a worker in slot {slot}"))

    kill_in_turn(running, client, victim, TURNS)


def local_pid(running: RunningSite, inner: int) -> int | None:
    """The pid that we see of the process that the laboratory knows as `inner`."""
    for pid, _words in running.processes():
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            if any(line.startswith("NSpid:") and line.split()[-1] == str(inner) for line in file):
                return pid
    return None


def test_serving_workers_are_confined(site: tuple[RunningSite, Host]) -> None:
    running, _client = site
    for pid in settled(running):
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            status = {name: value.strip() for name, _, value in (line.partition(":") for line in file)}
        assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")


def test_a_killed_spare_costs_nothing(site: tuple[RunningSite, Host]) -> None:
    running, client = site

    def victim(_turn: int) -> int:
        serving = {local_pid(running, inner) for inner in slots(running).values()}
        return next(pid for pid in pids(running, "worker") if pid not in serving)

    kill_in_turn(running, client, victim, TURNS)


def test_killed_control_costs_nothing(site: tuple[RunningSite, Host]) -> None:
    running, client = site
    kill_in_turn(
        running, client, lambda _turn: await_change(lambda: pids(running, "run"), bool, "a control process")[0], TURNS
    )


def upgrade(running: RunningSite, client: Host, turns: int) -> None:
    """In place, again and again under load: every process is another afterwards, and nothing is lost."""
    load = Load(client)
    try:
        for _turn in range(turns):
            before = set(settled(running)) | set(pids(running, "run"))
            send_signal([running.supervisor()], signal.SIGUSR2)
            await_change(
                lambda before=before: before & {pid for pid, _words in running.processes()},
                lambda old: not old,
                "every process was replaced",
            )
        settled(running)
    finally:
        figures = load.end()
    account(figures)


@pytest.mark.parametrize("turns", [3, pytest.param(TURNS, marks=pytest.mark.long)])
def test_upgrades_in_place_lose_nothing(site: tuple[RunningSite, Host], turns: int) -> None:
    upgrade(*site, turns)
    refresh_works(site[0])


def hang(running: RunningSite, client: Host, least: int) -> dict[str, Any]:
    """Stop the worker of slot 0 under load; it is replaced, and nothing is lost.  least: requests of the load, of which
    the account is returned."""
    settled(running)
    load = Load(client)
    try:
        pid = local_pid(running, slots(running)[0])
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        await_change(lambda: os.path.exists(f"/proc/{pid}"), lambda there: not there, "the stopped worker is gone")
        settled(running)
    finally:
        figures = load.end()
    account(figures, least)
    return figures


def test_a_hung_worker_is_replaced(site: tuple[RunningSite, Host]) -> None:
    """And what waited for it shows: for as long as the clients say."""
    running = site[0]
    before = running.ctl("status")["latency"]["totals"]
    figures = hang(*site, RATE // 10)  # it takes less than a second
    told = running.ctl("status")["latency"]
    came = {
        name: [now - was for now, was in zip(told["totals"][name]["counts"], before[name]["counts"], strict=True)]
        for name in ("wait", "answer")
    }
    longest_s = max(bound for bound, count in zip(told["bounds_s"], came["wait"], strict=False) if count)
    assert 0.131072 <= longest_s <= 2 * figures["late_ms"]["p100"] / 1000, (longest_s, figures)
    for counts in came.values():  # what a worker had in its hands when it was killed is in none, or in two
        assert abs(sum(counts) - figures["sent"]) <= 64, (came, figures)


def test_a_second_serve_refuses(site: tuple[RunningSite, Host]) -> None:
    running, _client = site
    command = [sys.executable, "-m", "control", "serve", "-c", str(running.config)]
    done = running.host.run(command, check=False, timeout=20.0, env=ENVIRONMENT)
    assert done.returncode == 1
    assert "another bootstorm" in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_inventory_down_then_cold_start_from_disk(site: tuple[RunningSite, Host]) -> None:
    """The last of this file: it ends the inventory."""
    running, client = site
    running.stop_inventory()
    assert running.server is not None
    with pytest.raises(Exception, match="cannot connect"):
        running.ctl("refresh")
    status = running.ctl("status")
    assert status["inventory"] == "stale" and "cannot connect" in status["inventory_reason"]
    account(Load(client, 2 * RATE).figures())
    running.server.stop()
    running.serve(HOSTS)
    assert running.ctl("status")["inventory"] == "stale"
    account(Load(client, 2 * RATE).figures())
