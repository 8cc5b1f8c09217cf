"""The figures of docs/fleet.md: `python -m tests.fleet.rig.figures`, with the real engine, everything on the loopback.

Whole servers for what ends in workers; fleet processes alone, with a control that is none, for the fan-out to many.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import click
import requests
from ext.builder import Builder, Surroundings
from ext.table import Generation

from bench.lab.site import ENVIRONMENT, ROOT, many_hosts
from bench.report import record
from bench.rig.host_file import host_file
from control.fleet.process import jobs
from tests.fleet.real.test_members import make_lease
from tests.fleet.real.test_service import is_fleet_of
from tests.fleet.rig.members import Inventory, Member, new_base
from tests.fleet.rig.members import until as until_async
from tests.fleet.rig.nats import PROGRAM, Nats, running
from tests.fleet.rig.services import ADDRESS, MAC, Server, until
from tests.ports import free_port

NETWORK = "10.96.0.0/255.240.0.0/10.96.0.1"
MACHINES, CROWD = 10, 100
CHANGES, NEW_BASES, KILLS, STARTS = 100, 5, 3, 5
IDLE_S = 30.0
READY_S = 240.0
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def spread(seconds: list[float]) -> dict[str, Any]:
    """In milliseconds."""
    found = sorted(round(value * 1000, 1) for value in seconds)
    return {
        "median_ms": round(statistics.median(found), 1),
        "worst_ms": found[-1],
        "times": len(found),
        "all_ms": found,
    }


def write_csv(path: Path, hosts: int, boot_file: str) -> None:
    with path.open("w") as out:
        out.writelines(host_file(hosts, boot_file))


def cpu_s(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) * TICK_S


def children(pid: int) -> Iterator[int]:
    """It, and all below it."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            yield from children(int(child))


def cpu_of(servers: list[Server]) -> float:
    """Of all their processes, in the mean of the servers, seconds."""
    pids = [pid for server in servers if server.process is not None for pid in children(server.process.pid)]
    return sum(cpu_s(pid) for pid in pids) / len(servers)


def memory_mb(pid: int) -> dict[str, float]:
    """What is resident, and what of it is the process' own and no file's or table's."""
    text = Path(f"/proc/{pid}/status").read_text()
    return {
        name: round(int(re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)[1]) / 1024, 1)  # type: ignore[index]
        for name, field in (("resident", "VmRSS"), ("own", "RssAnon"))
    }


def idle(pids: list[int]) -> dict[str, Any]:
    """Of processes that have nothing to do: per cent of a core, and memory."""
    before, began = [cpu_s(pid) for pid in pids], time.monotonic()
    time.sleep(IDLE_S)
    took_s = time.monotonic() - began
    shares = [100 * (cpu_s(pid) - since) / took_s for pid, since in zip(pids, before, strict=True)]
    sizes = [memory_mb(pid) for pid in pids]
    return {
        "processes": len(pids), "seconds": round(took_s, 1), "median_percent": round(statistics.median(shares), 2),
        "worst_percent": round(max(shares), 2), "resident_mb": max(size["resident"] for size in sizes),
        "own_mb": max(size["own"] for size in sizes),
    }  # fmt: skip


# --- whole servers ---------------------------------------------------------------------------------------------------


class Site:
    def __init__(self, folder: Path, engine: Nats, api_url: str) -> None:
        self.folder, self.engine, self.api_url = folder, engine, api_url
        self.servers: list[Server] = []

    def add(self, reads: bool = True) -> Server:
        name = f"s{len(self.servers)}"
        url = self.api_url if reads else f"file://{self.folder}/nowhere.csv"
        made = Server(self.folder, name, url, self.engine.url)
        made.dhcp["refresh_interval"] = 3600
        made.write(url, {"servers": [self.engine.url], "name": name, "lead": reads})
        self.servers.append(made)
        made.start()
        return made

    def alive(self) -> list[Server]:
        return [server for server in self.servers if server.process is not None]

    def leader(self, limit_s: float = READY_S) -> Server:
        found: list[Server] = []

        def leads() -> bool:
            found[:] = [server for server in self.alive() if server.state.get("leads")]
            return len(found) == 1

        until(leads, limit_s, "one leads")
        return found[0]

    def settled(self, hosts: int) -> Server:
        """All serve by the head; the leader."""
        leader = self.leader()
        for server in self.alive():
            until(
                lambda server=server: server.hosts() == hosts and bool(server.state.get("follows")), READY_S, "serves"
            )
        return leader

    def fleet_pid(self, server: Server) -> int:
        return next(int(pid) for pid in os.listdir("/proc") if pid.isdigit() and is_fleet_of(int(pid), server))


@contextmanager
def site(folder: Path, api_url: str, hosts: int, all_read: bool) -> Iterator[tuple[Site, Server]]:
    """MACHINES servers; unless all may read the inventory, the first alone, which then leads."""
    folder.mkdir()
    with running(folder / "nats") as engine:
        asyncio.run(make_lease(engine))
        made = Site(folder, engine, api_url)
        try:
            made.add()
            if not all_read:
                made.settled(hosts)
            for _ in range(1, MACHINES):
                made.add(all_read)
            yield made, made.settled(hosts)
        finally:
            for server in made.alive():
                server.stop(signal.SIGKILL)


@contextmanager
def http_inventory(folder: Path, hosts: int) -> Iterator[str]:
    """Its address, host:port."""
    folder.mkdir()
    file, at = folder / "hosts.yaml", f"127.0.0.1:{free_port()}"
    file.write_text(many_hosts(hosts, NETWORK, ADDRESS + 1, MAC))
    command = [sys.executable, "-m", "control", "inventory", "--dsn", f"sqlite:///{folder}/inventory.db"]
    environment = {**os.environ, **ENVIRONMENT}
    subprocess.run([*command, "load", str(file)], cwd=ROOT, env=environment, check=True, capture_output=True)
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen([*command, "--bind", at], cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        until(lambda: "listening on" in (folder / "log").read_text(), 60, "the inventory listens")
        yield at
    finally:
        process.kill()
        process.wait()


def small_changes(folder: Path, hosts: int) -> dict[str, Any]:
    """One host's change until all workers of all machines answer with it; what else needs whole servers."""
    found: dict[str, Any] = {"machines": MACHINES, "hosts": hosts}
    with (
        http_inventory(folder / "inventory", hosts) as at,
        site(folder / "site", f"http://{at}", hosts, True) as (made, leader),
        requests.Session() as session,
    ):
        session.trust_env = False

        def change(number: int, **arguments: Any) -> float:
            name = f"node{number % hosts:06d}"
            said = {"key": "dhcp", "subkey": "domain", "value": f"d{number}.example"}
            session.get(f"http://{at}/server/{name}/setattr", params=said, timeout=60).raise_for_status()
            began = time.monotonic()
            figures = leader.call("refresh", wait=True, host=name, **arguments)
            took_s = time.monotonic() - began
            served = figures["fleet"].get("machines", MACHINES)
            if figures["changed"] != 1 or served != MACHINES:
                raise RuntimeError(f"{name}: {figures}")
            return took_s

        click.echo(f"{MACHINES} servers serve {hosts:,} hosts; {leader.name} leads", err=True)
        found["idle"] = idle([made.fleet_pid(server) for server in made.alive() if server is not leader])
        found["idle_leader"] = idle([made.fleet_pid(leader)])
        others = [server for server in made.alive() if server is not leader]
        before = cpu_of(others), cpu_of([leader])
        found["one_host"] = spread([change(number) for number in range(CHANGES)])
        found["one_host_cpu_ms"] = {
            "responder": round((cpu_of(others) - before[0]) * 1000 / CHANGES, 1),
            "leader": round((cpu_of([leader]) - before[1]) * 1000 / CHANGES, 1),
        }
        found["one_host_here"] = spread([change(CHANGES + number, here=True) for number in range(CHANGES // 5)])
        found["new_responder"] = spread([new_responder(made, hosts) for _ in range(STARTS)])
        found["leader_killed"] = spread([leader_killed(made) for _ in range(KILLS)])
    return found


def new_responder(made: Site, hosts: int) -> float:
    """From its start until its worker answers from the shard's table."""
    began = time.monotonic()
    server = made.add()
    until(lambda: server.hosts() == hosts and bool(server.state.get("follows")), 60, "a new one serves")
    until(lambda: all(worker["generation"] for worker in server.status()["workers"]), 60, "its worker does")
    took_s = time.monotonic() - began
    server.stop()
    return took_s


def leader_killed(made: Site) -> float:
    """All processes of its machine at once, until another has written a head."""
    leader = made.leader()
    mark = leader.state["mark"]
    others = [server for server in made.alive() if server is not leader]
    pid = made.fleet_pid(leader)
    began = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    leader.stop(signal.SIGKILL)
    until(lambda: any(server.state.get("mark", mark)[:2] > mark[:2] for server in others), 60, "another writes")
    return time.monotonic() - began


def new_bases(folder: Path, hosts: int) -> dict[str, Any]:
    """Every host changes: from the leader's log line of the table it built until all workers of all machines answer."""
    folder.mkdir()
    file = folder / "hosts.csv"
    write_csv(file, hosts, "/first")
    times, whole = [], []
    with site(folder / "site", f"file://{file}", hosts, False) as (made, leader):
        click.echo(f"{MACHINES} servers serve {hosts:,} hosts; {leader.name} leads", err=True)
        others = [server for server in made.alive() if server is not leader]
        before = cpu_of(others)
        for number in range(NEW_BASES):
            aside = file.with_suffix(".new")
            write_csv(aside, hosts, f"/boot{number}")
            begun, told = time.time(), len(leader.log())
            aside.rename(file)
            figures = leader.call("refresh", wait=True)
            ended = time.time()
            if figures["fleet"].get("machines") != MACHINES:
                raise RuntimeError(f"base {number}: {figures}")
            built = built_at(leader.log()[told:])
            times.append(ended - built)
            whole.append(ended - begun)
        cpu_a_base_s = round((cpu_of(others) - before) / NEW_BASES, 2)
        head = leader.call("fleet")["head"]["stable"]
        sizes = [memory_mb(made.fleet_pid(server)) for server in made.alive() if server is not leader]
    return {
        "machines": MACHINES, "hosts": hosts, "blobs": head["blobs"], "responder_cpu_s": cpu_a_base_s,
        "after_built": spread(times),
        "with_reading": spread(whole), "resident_mb": max(size["resident"] for size in sizes),
    }  # fmt: skip


def built_at(log: str) -> float:
    """When the leader's reader had its table, seconds since 1970, of its log line."""
    lines = [line for line in log.splitlines() if re.search(r": generation \d+: ", line) and "of the fleet" not in line]
    return datetime.strptime(lines[-1][:23], "%Y-%m-%d %H:%M:%S,%f").astimezone().timestamp()


# --- fleet processes alone -------------------------------------------------------------------------------------------


class Listener(Member):
    """Notes when its process had a table, whole and hashed.  It looks at none: a hundred would wait for each other."""

    had: dict[bytes, float]

    def check(self, message: jobs.Check, tables: list[int]) -> None:
        self.had[message.digest] = time.monotonic()
        self.candidate = [os.dup(fd) for fd in tables]
        self.send(jobs.Checked(digest=message.digest))


def changed_by_one(inventory: Inventory, base: int, number: int) -> bytes:
    """A delta on that base; the new digest."""
    builder = Builder(Generation(base))
    template = builder.add_template()
    builder.add_host(0x02FFFFFF0000 + number, name=b"new%d" % number, leases=((0x0B000000 + number, 8, template),))
    inventory.number += 1
    inventory.fds = [base, int(builder.seal(inventory.number, Surroundings(), created_s=6))]
    return inventory.digest


async def crowd(folder: Path, engine: Nats) -> dict[str, Any]:
    inventory, members = Inventory(), []
    inventory.fds = [new_base(1, 10_000)]
    inventory.number, digest = 1, inventory.digest
    await make_lease(engine)
    for number in range(CROWD):
        member = Listener(folder, f"m{number:03}", inventory, engine.url, lead=number < 3)
        member.had = {}
        members.append(member)
        member.start()
        if number % 5 == 4:
            await until_async(lambda: members[-1].state.connected, 60, "it is connected")
    try:
        await until_async(lambda: all(digest in member.had for member in members), READY_S, "all have the first table")
        leader = next(member for member in members if member.state.leads)
        found: dict[str, Any] = {"processes": CROWD}

        async def arrives(digest: bytes) -> tuple[float, float]:
            began = time.monotonic()
            leader.built()
            await until_async(lambda: all(digest in member.had for member in members), 120, "all have it")
            had = sorted(member.had[digest] - began for member in members)
            await asyncio.sleep(0.5)
            return had[len(had) // 2], had[-1]

        base = inventory.fds[0]
        figures = [await arrives(changed_by_one(inventory, base, number)) for number in range(20)]
        found["delta"] = {
            "half": spread([half for half, _last in figures]),
            "last": spread([last for _h, last in figures]),
        }
        for hosts in (10_000, 100_000):
            figures = [await arrives(inventory.changed(hosts, hosts + number)) for number in range(3)]
            found[f"base_{hosts}"] = {
                "bytes": os.fstat(inventory.fds[0]).st_size, "half": spread([half for half, _last in figures]),
                "last": spread([last for _half, last in figures]),
            }  # fmt: skip
        pids = [member.process.pid for member in members if member.process is not None and member is not leader]
        found["idle"] = await asyncio.to_thread(idle, pids)
        return found
    finally:
        for member in members:
            await member.kill()


def fan_out(folder: Path) -> dict[str, Any]:
    folder.mkdir()
    with running(folder / "nats") as engine:
        return asyncio.run(crowd(folder, engine))


PARTS: dict[str, Callable[[Path], dict[str, Any]]] = {
    "small": lambda folder: small_changes(folder, 1_000),
    "base": lambda folder: new_bases(folder / "base", 100_000),
    "crowd": lambda folder: fan_out(folder / "crowd"),
    "million": lambda folder: new_bases(folder / "million", 1_000_000),
}


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(PARTS)), help="Default: all but the million hosts.")
@click.option("--out", default="fleet.json", type=click.Path(path_type=Path), show_default=True)
def main(only: tuple[str, ...], out: Path) -> None:
    """What docs/fleet.md promises, measured; parts that are not run stay in the record as they were."""
    if PROGRAM is None:
        raise click.ClickException("nats-server is not installed (Debian package nats-server)")
    wanted = only or ("small", "base", "crowd")
    engine = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    made = record.begin("fleet", {"engine": engine, "machines": MACHINES, "crowd": CROWD}, 0)
    kept = record.read(out).get("parts", {}) if record.resolved(out).exists() else {}
    made["parts"] = kept
    for name in wanted:
        watch, load = record.Watch(), os.getloadavg()[0]
        with tempfile.TemporaryDirectory(prefix="bootstorm-figures-") as folder:
            (Path(folder) / name).mkdir()
            kept[name] = PARTS[name](Path(folder) / name) | {
                "engine": engine, "load_before": round(load, 1), "disturbance": watch.figures()
            }  # fmt: skip
        click.echo(f"{name}: {said(kept[name])}")
        record.write(out, made)


def said(part: dict[str, Any]) -> str:
    lines = []
    for name, value in part.items():
        if isinstance(value, dict) and "median_ms" in value:
            lines.append(f"{name}: median {value['median_ms']} ms, worst {value['worst_ms']} ms of {value['times']}")
        elif name not in ("disturbance", "blobs"):
            lines.append(f"{name}: {value}")
    return "\n    ".join(["", *lines])


if __name__ == "__main__":
    main()
