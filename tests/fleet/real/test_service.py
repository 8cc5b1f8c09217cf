"""A site of three servers, one inventory that one of them reads, and the real engine."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control.fleet.process.keyfiles import make_key
from control.service_client import CallFailed
from tests.fleet.real.test_members import LEADS_S, make_lease
from tests.fleet.rig.nats import Nats, running
from tests.fleet.rig.services import Inventory, Server, until

pytestmark = pytest.mark.fleet


class Site:
    def __init__(self, folder: Path, engine: Nats) -> None:
        self.folder, self.engine = folder, engine
        self.inventory = Inventory(folder / "hosts")
        self.servers: list[Server] = []

    def add(self, name: str, reads: bool = True, **fleet: object) -> Server:
        url = self.inventory.url if reads else f"file://{self.folder}/nowhere.yaml"
        made = Server(self.folder, name, url, self.engine.url, **({} if reads else {"lead": False}), **fleet)
        self.servers.append(made)
        made.start()
        return made

    def all_serve(self, hosts: int, limit_s: float = 20) -> float:
        alive = [server for server in self.servers if server.process is not None]
        return until(lambda: all(server.hosts() == hosts for server in alive), limit_s, f"{hosts} hosts everywhere")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with running(tmp_path / "nats") as engine:
        asyncio.run(make_lease(engine))
        made = Site(tmp_path, engine)
        try:
            yield made
        finally:
            for server in made.servers:
                server.stop(signal.SIGKILL)


def three(site: Site, **fleet: object) -> tuple[Server, Server, Server]:
    """a leads, and alone knows where the inventory is."""
    site.inventory.has(50)
    a, b, c = site.add("a", **fleet), site.add("b", False, **fleet), site.add("c", False, **fleet)
    until(lambda: bool(a.state.get("leads")), 40, "a leads")
    site.all_serve(50)
    until(lambda: all(server.state.get("follows") for server in (a, b, c)), 20, "by the head")
    return a, b, c


def test_one_reads_and_all_serve(site: Site) -> None:
    a, b, c = three(site)
    assert len({server.status()["digest"] for server in (a, b, c)}) == 1
    site.inventory.has(60)
    began = time.monotonic()
    site.all_serve(60, 10)
    print(f"a change of the file was served by three {time.monotonic() - began:.2f} s later")
    assert b.status()["inventory"] != "ok" and b.status()["refresh"]["outcomes"]["published"] == 0
    with pytest.raises(CallFailed, match="serves the table of its fleet, led by a"):
        b.call("refresh")
    figures = a.call("refresh", wait=True)
    assert figures["hosts"] == 60 and figures["fleet"] == {"machines": 3, "silent": []}
    told = b.ctl("fleet")
    assert told.returncode == 0 and "led by a" in told.stdout and told.stdout.count("good") == 3, told
    assert json.loads(b.ctl("fleet", "--json").stdout)["head"]["stable"]["hosts"] == 60
    c.stop()
    until(lambda: a.ctl("fleet").returncode == 1, 30, "somebody is behind")
    told = a.ctl("fleet")
    assert "BEHIND: not heard of for" in told.stdout


def test_a_refresh_waits_for_all_of_the_shard(site: Site) -> None:
    a, _b, c = three(site)
    (pid,) = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and is_fleet_of(int(pid), c)]
    os.kill(pid, signal.SIGSTOP)
    try:
        site.inventory.has(65)
        with pytest.raises(CallFailed, match="not served by all machines of the shard: c: not within 10 s"):
            a.call("refresh", wait=True)
        told = a.ctl("refresh", "--wait", "--here")
        assert told.returncode == 0 and "machines of the shard" not in told.stdout, told
        until(lambda: "machines" in (told := a.call("fleet")) and row_of(told, "c")["heard_ms"] > 15_000, 20, "silent")
        told = a.ctl("refresh", "--wait")
        assert told.returncode == 0 and "by 2 machines of the shard; not heard of, and not waited for: c" in told.stdout
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: c.hosts() == 65, 20, "it goes on")
    row = row_of(a.call("fleet"), "a")
    assert row["version"] and row["age_s"] is not None and row["lag_ms"] == 0, row


def row_of(told: dict[str, Any], host: str) -> dict[str, Any]:
    (found,) = [row for row in told["machines"] if row["host"] == host]
    return dict(found)


def test_a_responder_starts_from_its_disk_while_the_engine_is_gone(site: Site) -> None:
    _a, b, _c = three(site)
    site.engine.kill()
    b.stop()
    b.start()
    until(lambda: b.hosts() == 50, 20, "from its disk")
    until(lambda: bool(b.state.get("fault")), 20, "it says that there is no engine")
    assert b.state["follows"] and not b.state["connected"]
    told = b.ctl("fleet")
    assert told.returncode == 1 and "FLEET DOWN" in told.stdout, told


def test_the_leader_is_killed_and_another_reads_on(site: Site) -> None:
    a, _b, _c = three(site)
    other = site.add("d")
    until(lambda: bool(other.state.get("follows")), 30, "d follows")
    a.stop(signal.SIGKILL)
    took_s = until(lambda: bool(other.state.get("leads")), LEADS_S + 4, "d leads")
    print(f"another led {took_s:.1f} s after the leader's machine died")
    site.inventory.has(70)
    site.all_serve(70)
    a.start()
    until(lambda: a.hosts() == 70, 30, "the old leader follows")
    assert not a.state["leads"]


def test_the_fleet_s_process_is_killed(site: Site) -> None:
    """Another takes its place; the table stays."""
    a, b, _c = three(site)
    for _ in range(2):
        deaths = b.status()["fleet"]["deaths"]
        (pid,) = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and is_fleet_of(int(pid), b)]
        os.kill(pid, signal.SIGKILL)
        until(lambda deaths=deaths: b.status()["fleet"]["deaths"] > deaths, 10, "it was noticed")
        assert b.hosts() == 50
        until(lambda: bool(b.state.get("follows")), 20, "another follows")
    site.inventory.has(80)
    site.all_serve(80)
    assert b.status()["restarts"].get("worker", 0) == 0 and a.state["leads"]


def is_fleet_of(pid: int, server: Server) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        grand = int(Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return False
    return b"fleet" in words and server.process is not None and grand == server.process.pid


def test_a_new_table_is_served_by_the_canary_first(site: Site) -> None:
    """And by the leader's own workers not before."""
    a, b, c = three(site, canary=["c"], canary_seconds=3, canary_rows=5)
    site.inventory.has(90)
    until(lambda: c.hosts() == 90, 15, "the canary serves it")
    assert a.hosts() == b.hosts() == 50
    site.all_serve(90, 20)


def test_too_many_hosts_gone_are_refused_by_who_reads(site: Site) -> None:
    a, _b, _c = three(site)
    site.inventory.has(10)
    with pytest.raises(CallFailed, match="hosts would no longer be answered"):
        a.call("refresh")
    assert {server.hosts() for server in site.servers} == {50}


def test_hold_and_rollback(site: Site) -> None:
    a, b, _c = three(site)
    first = a.state["serves"]
    assert b.ctl("fleet", "hold").returncode == 0
    site.inventory.has(55)
    with pytest.raises(CallFailed, match="published, but not served here yet"):
        a.call("refresh", wait=True)
    assert {server.hosts() for server in site.servers} == {50}
    released = b.ctl("fleet", "release")
    assert released.returncode == 0, released
    site.all_serve(55)
    told = a.ctl("fleet", "rollback", first[:10])
    assert told.returncode == 0 and "PINNED" in told.stdout, told
    site.all_serve(50)
    assert a.ctl("fleet", "promote").returncode == 1


def test_an_operator_s_key_is_his_alone(site: Site) -> None:
    """Machines that may lead cannot give orders where operators are named; their keys are on no server."""
    operator = site.folder / "operator.key"
    a, b, _c = three(site, operators=[make_key(operator)])
    assert "no leader obeyed it" in a.ctl("fleet", "hold").stderr
    assert not a.call("fleet")["head"]["held"]
    told = b.ctl("fleet", "hold", "--key", str(operator))
    assert told.returncode == 0 and "HELD" in told.stdout, told
    seed = operator.read_text().strip()
    assert all(seed not in server.log() for server in site.servers)


def test_a_new_server_without_an_engine_reads_the_inventory(site: Site) -> None:
    site.engine.kill()
    site.inventory.has(30)
    alone = site.add("a")
    until(lambda: alone.hosts() == 30, 40, "on its own")
    assert alone.status()["fleet"]["alone"]


def test_servers_that_read_by_themselves_take_the_fleet_s_table(site: Site) -> None:
    """Each has a base number 1 of its own: their workers have to know the leader's from theirs."""
    site.engine.kill()
    site.inventory.has(30)
    a, b = site.add("a"), site.add("b")
    until(lambda: a.hosts() == b.hosts() == 30, 40, "each on its own")
    assert a.status()["base"] == b.status()["base"] == 1
    site.engine.start()
    until(lambda: all(server.state.get("follows") for server in (a, b)), 40, "by a head")
    leader = next(server for server in (a, b) if server.state["leads"])
    site.inventory.has(31)
    assert leader.call("refresh", wait=True)["fleet"] == {"machines": 2, "silent": []}
    for server in (a, b):
        assert {worker["generation"] for worker in server.status()["workers"]} == {server.status()["generation"]}
        server.stop()
        server.start()
        until(lambda server=server: server.hosts() == 31, 20, "from its disk")
        assert "belongs to another base" not in server.log()


def test_the_section_comes_and_goes_by_reload(site: Site) -> None:
    site.inventory.has(50)
    server = Server(site.folder, "a", site.inventory.url, site.engine.url)
    server.write(site.inventory.url, None)
    site.servers.append(server)
    server.start()
    until(lambda: server.hosts() == 50, 30, "without a fleet")
    assert server.status()["fleet"] is None
    assert server.ctl("fleet").returncode == 1
    server.write(site.inventory.url, {"servers": [site.engine.url], "name": "a"})
    assert server.ctl("reload").returncode == 0
    until(lambda: bool(server.state.get("leads")) and bool(server.state.get("follows")), 40, "a fleet of one")
    server.write(site.inventory.url, None)
    assert server.ctl("reload").returncode == 0
    until(lambda: server.status()["fleet"] is None, 20, "without one again")
    site.inventory.has(51)
    until(lambda: server.hosts() == 51, 20, "it reads by itself again")
