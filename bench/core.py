"""`bootstorm bench core`: what a packet costs without I/O, in nanoseconds and, with valgrind, in instructions."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from ipaddress import IPv4Address, ip_network
from pathlib import Path
from typing import Any

import click
from ext.builder import Builder, Surroundings
from ext.leases import LeaseState
from ext.ledger import create_ledger
from ext.rows import Numbers
from ext.table import Generation, Pair
from ext.verdict import Verdict

from bench.engine.core import Core
from bench.engine.forms import DISCOVER, REQUEST, SERVER_ID, Form, form, options_of
from bench.lab.lab import which
from bench.report import record
from bench.report.machine import ROOT
from bench.report.picture import draw_core
from bench.rig.options import finish, record_options, tell
from bench.rig.rules import RULE_SETS, Options, RuleSet
from bench.rig.stage import FIRST_ADDRESS, FIRST_MAC, HOSTS_MAX, NETWORK, RELAY, SERVER, two_cores

BATCH = 64
IFINDEX, MTU = 2, 1500
COUNTED_HOSTS, COUNTED_BATCHES = 1000, 300
VALGRIND_S = 300
SIZES = (1_000, 10_000, 100_000, 1_000_000)


def table(hosts: int, rules: RuleSet | None = None, cards: int = 1) -> Pair:
    """Hosts counted up, options as a small rack has them: mask, router, DNS, domain, boot server; a name of its own.

    cards: of each host; those behind the first are known and not served."""
    builder = Builder()
    mask, router = NETWORK.netmask.packed, IPv4Address(SERVER).packed
    shared = b"".join(
        bytes([code, len(value)]) + value
        for code, value in ((1, mask), (3, router), (6, router), (15, b"example.org"), (66, SERVER.encode()))
    )
    template = builder.add_template(options=shared, file=b"/pxelinux.0", siaddr=int(IPv4Address(SERVER)))
    for i in range(hosts):
        name = b"node%06d" % i
        lease = (FIRST_ADDRESS + i, NETWORK.prefixlen, template)
        builder.add_host(FIRST_MAC + i, name=name, own=bytes([12, len(name)]) + name, leases=(lease,))
        for card in range(1, cards):
            builder.add_host(FIRST_MAC + card * HOSTS_MAX + i, name=name, state=LeaseState.OTHER_PORT, port=card + 1)
    whole = ip_network(NETWORK)
    around = Surroundings(
        networks=((int(whole.network_address), int(whole.broadcast_address)),),
        links=((IFINDEX, int(IPv4Address(SERVER)), NETWORK.prefixlen, MTU, True),),
        classes=rules.classes if rules is not None else (),
    )
    fd = builder.seal(1, around, created_s=1, numbers=Numbers([]))
    try:
        return Pair(Generation(fd))
    finally:
        os.close(fd)


def core(pair: Pair, hosts: int, seed: int, options: Options = ()) -> Core:
    """The loop over that table: relayed DISCOVERs and REQUESTs in turn, with some options more."""
    server, giaddr = int(IPv4Address(SERVER)), int(IPv4Address(RELAY))
    ledger = create_ledger()
    try:
        return _core(pair, hosts, seed, options, server, giaddr, ledger)
    finally:
        os.close(ledger)


def _core(pair: Pair, hosts: int, seed: int, options: Options, server: int, giaddr: int, ledger: int) -> Core:
    forms = [_filled(form(DISCOVER, options)), _filled(form(REQUEST, options))]
    return Core(
        pair,
        first_mac=FIRST_MAC,
        first_address=FIRST_ADDRESS,
        hosts=hosts,
        server=server,
        giaddr=giaddr,
        ifindex=IFINDEX,
        forms=[(each.data, each.requested_at, each.client_id_at) for each in forms],
        seed=seed,
        ledger_fd=ledger,
    )


def _filled(made: Form) -> Form:
    """With our server's id where a client repeats it."""
    data = bytearray(made.data)
    for code, at, length in options_of(made.data):
        if code == SERVER_ID:
            data[at : at + length] = IPv4Address(SERVER).packed
    return Form(bytes(data), made.kind, made.wants, made.requested_at, client_id_at=made.client_id_at)


class WrongVerdict(Exception):
    """The loop met packets that were not answered: what it measured is not what it says."""


def measure(hosts: int, batches: int, seed: int, cards: int = 1) -> dict[str, Any]:
    """ns a packet over `batches` batches of 64: least, median, p99 of the batches.  WrongVerdict."""
    pair = table(hosts, cards=cards)
    return measure_in(pair, hosts, batches, seed) | {"bytes_a_host": round(pair.base.size / hosts, 1)}


def measure_in(pair: Pair, hosts: int, batches: int, seed: int) -> dict[str, Any]:
    """The same in a table that is there, of which the first `hosts` hosts ask."""
    loop = core(pair, hosts, seed)
    loop.measure(max(1, batches // 10))  # caches and branch predictors as in a busy worker
    times = sorted(loop.measure(batches))
    counted = dict(zip((v.name for v in Verdict if v.name != "GO_ON"), loop.counters(), strict=True))
    if counted.pop("OFFERED") + counted.pop("ACKED") == 0 or any(counted.values()):
        other = {name: count for name, count in counted.items() if count}
        raise WrongVerdict(f"{hosts} hosts: verdicts {other or 'none'}, wanted OFFERED and ACKED alone")
    return {
        "hosts": hosts,
        "least_ns": round(times[0] / BATCH, 1),
        "median_ns": round(times[len(times) // 2] / BATCH, 1),
        "p99_ns": round(times[int(len(times) * 0.99)] / BATCH, 1),
    }


def instructions() -> float | None:
    """Instructions a packet, by callgrind: a run that thinks less one that only fills; None without valgrind."""
    if which("valgrind") is None:
        return None
    return (_collected(True) - _collected(False)) / (COUNTED_BATCHES * BATCH)


def instructions_for(name: str) -> float | None:
    """What a set of rules (rig/rules.py) adds to a packet: the same requests, with the rules and without."""
    if which("valgrind") is None:
        return None
    with_rules = _collected(True, name) - _collected(False, name)
    without = _collected(True, name, "--without-rules") - _collected(False, name, "--without-rules")
    return (with_rules - without) / (COUNTED_BATCHES * BATCH)


def _collected(thinking: bool, rules: str = "", *more: str) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={scratch}/out", sys.executable]
        command += ["-m", "bench.core", "--count", str(int(thinking)), *(["--rules", rules] if rules else []), *more]
        environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=VALGRIND_S, check=False, env=environment, cwd=ROOT
        )
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or found is None:
        raise click.ClickException(f"callgrind: exit status {done.returncode}; it said:\n{done.stderr[-2000:]}")
    return int(found[1])


@click.command("core")
@click.option("--hosts", "sizes", multiple=True, type=click.IntRange(1, HOSTS_MAX), help="Default: 1e3 to 1e6.")
@click.option("--cards", default=1, show_default=True, type=click.IntRange(1, 4), help="Of each host; one is served.")
@click.option("--batches", default=20_000, show_default=True, type=click.IntRange(100), help="Of 64 packets each.")
@click.option("--instructions/--no-instructions", "counted", default=True, show_default=True, help="By callgrind.")
@click.option("--count", type=int, hidden=True)
@click.option("--rules", type=click.Choice(list(RULE_SETS)), hidden=True)
@click.option("--without-rules", is_flag=True, hidden=True)
@record_options
def main(
    sizes: tuple[int, ...],
    cards: int,
    batches: int,
    counted: bool,
    count: int | None,
    rules: str | None,
    without_rules: bool,
    seed: int,
    file: Path | None,
    picture: Path | None,
) -> None:
    """Parse, look up, judge and encode without I/O: ns and instructions a packet."""
    if count is not None:  # the child under callgrind
        said = RULE_SETS[rules]() if rules is not None else None
        pair = table(COUNTED_HOSTS, None if without_rules else said)
        core(pair, COUNTED_HOSTS, 1, said.options if said is not None else ()).work(COUNTED_BATCHES, bool(count))
        return
    settings = {"batches": batches, "sizes": list(sizes or SIZES)} | ({"cards": cards} if cards > 1 else {})
    begun = record.begin("core", settings, seed)
    os.sched_setaffinity(0, {two_cores()[1]})
    watch, points = record.Watch(), []
    click.echo(f"{'hosts':>10}{'least':>10}{'median':>10}{'p99':>10}   ns a packet; bytes a host")
    for hosts in sizes or SIZES:
        point = measure(hosts, batches, seed) if cards == 1 else measure(hosts, batches, seed, cards)
        points.append(point)
        line = f"{hosts:>10,}{point['least_ns']:>10}{point['median_ns']:>10}{point['p99_ns']:>10}"
        click.echo(f"{line}   {point['bytes_a_host']}")
    begun |= {"points": points, "disturbance": watch.figures()}
    if counted:
        tell("counting instructions under callgrind")
        begun["instructions"] = instructions()
        said = begun["instructions"]
        click.echo("instructions: valgrind is not installed" if said is None else f"instructions a packet: {said:,.0f}")
        begun["rules"] = {name: instructions_for(name) for name in RULE_SETS} if said is not None else {}
        for name, each in begun["rules"].items():
            click.echo(
                f"  {len(RULE_SETS[name]().classes)} classes of the site, {RULE_SETS[name]().words}: +{each:,.0f}"
            )
    drawn = None
    if picture is not None:
        rows = [(point["hosts"], point["least_ns"], point["median_ns"]) for point in points]
        drawn = draw_core(rows, record.resolved(picture), "the packet path without I/O")
    finish(begun, file, drawn)


if __name__ == "__main__":
    main()
