"""`bootstorm bench cold`: from the start of `bootstorm serve` to its first reply, with the inventory down.

`asker` is the part that runs beside the generator: it asks as a relay, again and again, from before the server starts.
"""

from __future__ import annotations

import json
import select
import socket
import statistics
import sys
import time
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import click

from bench.engine.crowd import Crowd
from bench.lab.lab import Lab
from bench.lab.site import ENVIRONMENT, RunningSite
from bench.report import record
from bench.rig.host_file import host_file
from bench.rig.options import finish, record_options, tell
from bench.rig.stage import FIRST_ADDRESS, FIRST_MAC, HOSTS_MAX, RELAY, SERVER, Stage, two_hosts

EVERY_S = 0.002
LIMIT_S = 60.0


@click.command("asker")
@click.option("--hosts", type=int, required=True)
def asker(hosts: int) -> None:
    """DISCOVERs of different hosts until one is answered rightly; prints when that was, CLOCK_MONOTONIC in s."""
    server, giaddr = int(IPv4Address(SERVER)), int(IPv4Address(RELAY))
    crowd = Crowd(hosts, FIRST_MAC, 1, FIRST_ADDRESS, server, giaddr)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((RELAY, 67))
        sys.stderr.write("asking\n")
        sys.stderr.flush()
        end = time.monotonic() + LIMIT_S
        while not crowd.answers and time.monotonic() < end:
            crowd.sent_s.append(time.monotonic())
            sock.sendto(crowd.payload(len(crowd.sent_s) - 1), (SERVER, 67))
            if select.select([sock], [], [], EVERY_S)[0]:
                crowd.take(sock.recv(4096), time.monotonic())
    told = {"answered_s": time.monotonic(), "wrong": crowd.wrong, "answered": sum(crowd.answers.values())}
    sys.stdout.write(json.dumps(told) + "\n")


class NoAnswer(Exception):
    """A start that ended in silence or in a wrong reply; with what the server said."""


def start_once(stage: Stage, site: RunningSite, hosts: int) -> float:
    """Seconds from the start of the command to the first right reply, which the relay has in its hands.  NoAnswer."""
    asking = stage.client.popen([sys.executable, "-m", "bench.cold", "--hosts", str(hosts)], env=ENVIRONMENT)
    asking.wait_for("asking", 20.0)
    begun = time.monotonic()
    site.serve()
    asking.wait(LIMIT_S + 10.0)
    told = json.loads(asking.log().strip().splitlines()[-1])
    assert site.server is not None
    if told["wrong"] or not told["answered"]:
        raise NoAnswer(f"{told['wrong'] or 'no reply'} within {LIMIT_S:.0f} s; the server said:\n{site.server.log()}")
    site.server.stop()
    return float(told["answered_s"]) - begun


def measure(hosts: int, times: int) -> list[float]:
    """Serve once from a file, so that the table is on disk; take the file away; start again and again."""
    with two_hosts() as stage:
        inventory = stage.server.scratch / "hosts.csv"
        inventory.write_text("".join(host_file(hosts)))
        site = RunningSite(stage.server, workers=1, api_url=f"file://{inventory}")
        site.serve(hosts)
        assert site.server is not None
        site.server.stop()
        inventory.unlink()
        found = []
        for number in range(times):
            found.append(start_once(stage, site, hosts))
            tell(f"  start {number + 1}: first reply after {found[-1]:.3f} s")
        return found


@click.command("cold")
@click.option("--hosts", default=100_000, show_default=True, type=click.IntRange(1, HOSTS_MAX))
@click.option("--times", default=7, show_default=True, type=click.IntRange(1, 100))
@record_options
def main(hosts: int, times: int, seed: int, file: Path | None, picture: Path | None) -> None:
    """From the start of the command to the first reply, with the inventory down: the table comes from disk."""
    if picture is not None:
        raise click.UsageError("cold: some numbers, nothing to draw")
    if reason := Lab.available():
        raise click.ClickException(f"needs a laboratory: {reason}")
    begun = record.begin("cold", {"hosts": hosts, "times": times}, seed)
    watch = record.Watch()
    try:
        found = measure(hosts, times)
    except NoAnswer as failed:
        raise click.ClickException(str(failed)) from failed
    figures: dict[str, Any] = {"least_s": min(found), "median_s": statistics.median(found), "worst_s": max(found)}
    begun |= {name: round(value, 3) for name, value in figures.items()} | {"disturbance": watch.figures()}
    words = "first reply after {least_s:.3f} s at the least, {median_s:.3f} s median, {worst_s:.3f} s at the worst"
    click.echo(f"{hosts:,} hosts, {times} starts: " + words.format(**figures))
    finish(begun, file, None)


if __name__ == "__main__":
    asker()
