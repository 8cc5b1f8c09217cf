"""How long a change takes: from the inventory's word to every worker, by stage, at several sizes; and who notices.

`python -m bench.refresh` runs it all; `probe` is the part that runs beside the server, in its namespace.
"""

from __future__ import annotations

import json
import os
import random
import re
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import requests
from ext.addresses import Index, View
from ext.builder import Builder, Surroundings
from ext.rows import Numbers
from ext.table import Generation, Pair

from bench.lab.console import ANSWER_S, ask
from bench.lab.lab import Host
from bench.lab.site import ENVIRONMENT, INVENTORY, RunningSite
from bench.report import record
from bench.rig import load
from bench.rig.host_file import PARENT, host_file
from bench.rig.stage import invented, two_cores, two_hosts

ONE_HOST_TIMES, GENERATIONS = 20, 50
STAGES = ("fetch", "parse", "plan", "build", "pack", "publish", "ack")
COMPILE = STAGES[2:]
LATE_S = 0.005


# --- beside the server -----------------------------------------------------------------------------------------------


class Site:
    """Changes something in the inventory and waits for the workers."""

    def __init__(self, console: str, file: str) -> None:
        self.console, self.file = console, Path(file) if file else None
        self.session = requests.Session()
        self.session.trust_env = False

    def set(self, path: str, subkey: str, value: str) -> None:
        parameters = {"key": "dhcp", "subkey": subkey, "value": value}
        self.session.get(f"http://{INVENTORY}{path}/setattr", params=parameters, timeout=60).raise_for_status()

    def change_all(self, hosts: int, number: int) -> None:
        boot_file = f"/boot{number}"
        if self.file is None:
            self.set(f"/pool/{PARENT}", "tftp_filename", boot_file)
            return
        aside = self.file.with_suffix(".new")
        with aside.open("w") as out:
            out.writelines(host_file(hosts, boot_file))
        aside.rename(self.file)

    def refresh(self, **arguments: Any) -> dict[str, Any]:
        """Its figures, with the seconds from here to the last worker, and by stage."""
        started = time.monotonic()
        figures: dict[str, Any] = ask(self.console, "refresh", wait=True, force=True, **arguments)
        stages = ask(self.console, "status")["refresh"]["stages_s"] if not arguments else {}
        return figures | {"total_s": round(time.monotonic() - started, 4), "stages_s": stages}

    def one_host(self, number: int) -> float:
        """Seconds from the inventory's reply to a change of one host until every worker answers with it."""
        self.set(f"/server/node{number:07d}", "domain", f"d{time.monotonic_ns()}.example")
        started = time.monotonic()
        ask(self.console, "refresh", wait=True, host=f"node{number:07d}")
        return time.monotonic() - started


@click.group()
def probe() -> None:
    """In the server's namespace; prints JSON."""


@probe.command()
@click.argument("console")
@click.argument("hosts", type=int)
@click.option("--file", default="")
def sizes(console: str, hosts: int, file: str) -> None:
    site = Site(console, file)
    site.change_all(hosts, 1)
    found: dict[str, Any] = {"full_change": site.refresh(), "no_change": site.refresh()}
    if not file:
        times = [site.one_host(number * 7 % hosts) for number in range(ONE_HOST_TIMES)]
        found["one_host_ms"] = [round(seconds * 1000, 1) for seconds in times]
    click.echo(json.dumps(found))


@probe.command()
@click.argument("console")
@click.argument("hosts", type=int)
def generations(console: str, hosts: int) -> None:
    """Full changes one after the other; says "ready" first."""
    site = Site(console, "")
    click.echo("ready")
    for number in range(GENERATIONS):
        site.change_all(hosts, 100 + number)
        figures = site.refresh()
        if figures["changed"] != hosts:
            raise RuntimeError(f"refresh {number} changed {figures['changed']} hosts, wanted {hosts}")
    click.echo("done")


# --- the bench -------------------------------------------------------------------------------------------------------


@contextmanager
def serving(server: Host, hosts: int, file: bool, workers: int) -> Iterator[RunningSite]:
    path = server.scratch / "hosts.csv"
    with path.open("w") as out:
        out.writelines(host_file(hosts))
    source: dict[str, Any] = {"api_url": f"file://{path}"} if file else {}
    site = RunningSite(server, workers, **source)
    if not file:
        site.load(path)
        site.start_inventory()
    try:
        site.serve()
        site.await_status(lambda s: s["hosts"] == hosts and all(w["generation"] for w in s["workers"]), ANSWER_S)
        yield site
    finally:
        site.stop()


def peak_mb(pid: int) -> dict[str, float]:
    """Of one process: the most that it ever had, and what of today's is its own (not the shared table)."""
    text = Path(f"/proc/{pid}/status").read_text()
    return {
        name: round(int(re.search(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)[1]) / 1024, 1)  # type: ignore[index]
        for name, field in (("peak", "VmHWM"), ("own", "RssAnon"))
    }


def memory(site: RunningSite) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for pid, words in site.processes():
        found.setdefault({"run": "control"}.get(words[-2], words[-2]), []).append(peak_mb(pid))
    return found


def at_size(hosts: int, file: bool) -> dict[str, Any]:
    with two_hosts() as stage, serving(stage.server, hosts, file, workers=2) as site:
        first = site.ctl("status")["refresh"]
        command = [sys.executable, "-m", "bench.refresh", "probe", "sizes", str(site.console), str(hosts)]
        if file:
            command += ["--file", str(site.host.scratch / "hosts.csv")]
        found: dict[str, Any] = json.loads(stage.server.run(command, timeout=ANSWER_S, env=ENVIRONMENT).stdout)
        found["first"] = {"total_s": first["last_seconds"], "stages_s": first["stages_s"]}
        found["table_bytes_a_host"] = round(site.ctl("status")["table_bytes"] / hosts, 1)
        found["invariant"] = invariant(hosts)
        return found | {"hosts": hosts, "inventory": "file" if file else "http", "memory_mb": memory(site)}


def under_load(hosts: int, rate: float) -> dict[str, Any]:
    """GENERATIONS full changes in a row, while all hosts ask at a steady rate."""
    people = invented(hosts)
    with two_hosts() as stage, serving(stage.server, hosts, False, workers=1) as site:
        command = [sys.executable, "-m", "bench.refresh", "probe", "generations", str(site.console), str(hosts)]
        calm = load.start(stage.target, people, rate, int(rate * 5), limit_s=LATE_S, core=two_cores()[1]).wait()
        process = stage.server.popen(command, env=ENVIRONMENT)
        process.wait_for("ready", 60.0)
        loading = load.start(stage.target, people, rate, int(rate * ANSWER_S), limit_s=LATE_S, core=two_cores()[1])
        try:
            process.wait_for("done", ANSWER_S)
        finally:
            loading.stop()
        meanwhile = loading.wait()
        return {
            "hosts": hosts,
            "rate": rate,
            "generations": GENERATIONS,
            "without": calm.record(),
            "with": meanwhile.record(),
        }


def invariant(hosts: int, changed: int = 1000, turns: int = 5) -> dict[str, Any]:
    """What it costs to look for an address of two objects before a publication, in ms (median): the index of a base,
    once a base, the check of a delta of `changed` rows with new addresses, and sealing it with its rows' numbers.

    MACs and addresses come at random, the worst order to sort."""
    dice, builder = random.Random(1), Builder()
    template = builder.add_template()
    macs, addresses = dice.sample(range(1, 1 << 40), hosts), dice.sample(range(1 << 24, 1 << 31), hosts + changed)

    def add(to: Builder, number: int, address: int, template: int) -> None:
        name = b"node%07d" % number
        own = bytes([12, len(name)]) + name
        to.add_host(macs[number], name=name, own=own, leases=((address, 24, template),), thing=b"/server/" + name)

    def made(of: Builder, number: int, numbers: Numbers | None = None, hosts: int | None = None) -> Generation:
        fd = of.seal(number, Surroundings(), created_s=1, numbers=numbers, hosts=hosts)
        try:
            return Generation(fd)
        finally:
            os.close(fd)

    for number in range(hosts):
        add(builder, number, addresses[number], template)
    base = made(builder, 1, Numbers([]))
    builder = Builder(base)
    template = builder.add_template()
    for at, number in enumerate(dice.sample(range(hosts), min(changed, hosts))):
        add(builder, number, addresses[hosts + at], template)
    pair = Pair(base, made(builder, 2))
    index_s, check_s, seal_s = [], [], []
    for _ in range(turns):
        started = time.perf_counter()
        index = Index(base)
        if View(Pair(base), index).twice():
            raise RuntimeError("a base in which nobody shares an address is said to have such")
        index_s.append(time.perf_counter() - started)
        started = time.perf_counter()
        if View(pair, index).twice():
            raise RuntimeError("a delta in which nobody shares an address is said to have such")
        check_s.append(time.perf_counter() - started)
        started = time.perf_counter()
        made(builder, 2, Numbers([pair.delta, base], base), index.hosts_with(builder.answered()))
        seal_s.append(time.perf_counter() - started)
    return {
        "index_ms": round(statistics.median(index_s) * 1000, 2),
        "check_ms": round(statistics.median(check_s) * 1000, 3),
        "seal_ms": round(statistics.median(seal_s) * 1000, 3),
        "check_rows": len(pair.delta),
    }


def show(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['hosts']:>9,} hosts, inventory over {found['inventory']}; {found['table_bytes_a_host']} bytes a host"
    yield f"    {'s':>14}" + "".join(f"{stage:>9}" for stage in (*STAGES, "total", "cpu")) + "   compile + publish"
    for name in ("first", "full_change", "no_change"):
        run = found[name]
        seconds = [run["stages_s"].get(stage) for stage in STAGES]
        cells = "".join(f"{'-' if value is None else f'{value:.3f}':>9}" for value in seconds)
        compiled = sum(run["stages_s"].get(stage, 0.0) for stage in COMPILE)
        cells += f"{run['total_s']:>9.2f}{run['stages_s'].get('cpu', 0.0):>9.2f}"
        yield f"    {name.replace('_', ' '):>14}{cells}   {compiled:.3f}"
    if "one_host_ms" in found:
        times = found["one_host_ms"]
        middle = statistics.median(times)
        yield f"    one host in all workers: median {middle:.1f} ms, worst {max(times)} ms of {len(times)}"
    cost = found["invariant"]
    yield (
        f"    no address twice: index of a base {cost['index_ms']:.1f} ms, check of {cost['check_rows']:,} rows "
        f"{cost['check_ms']:.2f} ms, sealing them with their numbers {cost['seal_ms']:.2f} ms"
    )
    for kind, processes in sorted(found["memory_mb"].items()):
        yield f"    {kind}: peak " + ", ".join(f"{p['peak']} MB ({p['own']} its own)" for p in processes)


@click.command()
@click.option("--sizes", "wanted", default="10000,100000,1000000", show_default=True, help="Numbers of hosts.")
@click.option("--load-hosts", default=10_000, show_default=True, help="For the generations under load; 0: none.")
@click.option("--rate", default=2_000.0, show_default=True, help="Requests a second meanwhile.")
@click.option("--out", default="refresh.json", type=click.Path(path_type=Path), show_default=True)
def main(wanted: str, load_hosts: int, rate: float, out: Path) -> None:
    """Refreshes by stage and size, one host's change, and what hosts notice of 50 generations in a row."""
    counts = [int(word) for word in wanted.split(",") if word]
    made = record.begin("refresh", {"sizes": counts, "load_hosts": load_hosts, "rate": rate}, 0)
    watch = record.Watch()
    made["sizes"] = []
    for count in counts:
        click.echo(f"{count:,} hosts ...", err=True)
        made["sizes"].append(found := at_size(count, file=count > 100_000))
        click.echo("\n".join(show(found)))
    if load_hosts:
        click.echo(f"{GENERATIONS} generations of {load_hosts:,} hosts under load ...", err=True)
        made["under_load"] = found = under_load(load_hosts, rate)
        for name in ("without", "with"):
            click.echo(f"    {name} changes: {json.dumps(found[name])}")
    made["disturbance"] = watch.figures()
    click.echo(f"machine: {json.dumps(made['machine'])}\n{json.dumps(made['disturbance'])}\n{record.write(out, made)}")


if __name__ == "__main__":
    (probe(sys.argv[2:]) if sys.argv[1:2] == ["probe"] else main())
