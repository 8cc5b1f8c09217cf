"""How `ctl hosts` looks to a person and to a program: page by page, however many hosts there are."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import click

from control.cli.ctl import FAILED, Client
from control.cli.faults_text import chain_pages, print_json
from control.service_client import CallFailed
from fastpath.process.escape import shown, shown_all

PAGE = 500
FUNNEL = ("asked", "ROM", "iPXE", "system")  # asked at all; has its address in that phase, or is in a later one
ANSWERED = ("rom-answered", "loader-answered", "system-answered")
PROGRESS = ("booting", "stuck", "done", "unknown", "refused")


def print_hosts(client: Client, wanted: Mapping[str, Any]) -> None:
    """wanted: the filters, as the command takes them.  Exit 1 with one line on stderr when there is no answer."""
    try:
        pages = pages_of(client, wanted)
        first = next(pages)
        if client.as_json:
            hosts = (host for page in chain_pages(first, pages) for host in page["hosts"])
            print_json({"since_s": first["since_s"], "generation": first["generation"]}, "hosts", hosts)
            return
        many = 0
        for page in chain_pages(first, pages):
            for host in page["hosts"]:
                many += 1
                click.echo(render_host(shown_all(host), page["now_s"]))
        click.echo(f"{many:,} hosts; {known_since(first)}")
    except CallFailed as failed:
        click.echo(f"bootstorm: {shown(str(failed))}", err=True)
        sys.exit(FAILED)


def print_sums(client: Client, by: str) -> None:
    """A line for each pool, rack or relay; exit 1 with one line on stderr when there is no answer."""
    try:
        sums = client.call("hosts", {"by": by})
        sums["of"] = dict(sorted(sums["of"].items()))
        if client.as_json:
            click.echo(json.dumps(sums, indent=2))
            return
        click.echo(f"{by:<24}" + "".join(f"{word:>9}" for word in ("never", *FUNNEL, *PROGRESS)))
        for name, counts in sums["of"].items():
            named = shown(name) or ("(directly)" if by == "relay" else "(in none)")
            click.echo(f"{named:<24}" + "".join(f"{many:>9,}" for many in sum_columns(counts)))
        click.echo(known_since(sums))
    except CallFailed as failed:
        click.echo(f"bootstorm: {shown(str(failed))}", err=True)
        sys.exit(FAILED)


def known_since(said: Mapping[str, Any]) -> str:
    since = datetime.fromtimestamp(said["since_s"], UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    return f"nothing is known of what was before {since}"


def sum_columns(counts: Mapping[str, Any]) -> Iterator[int]:
    """Of one pool, rack or relay, under the heads above.  The funnel: who has come at least so far in this boot."""
    yield counts["never"]
    stages, reached = list(counts["stages"]), list(counts["stages"].values())  # in the order in which a boot has them
    yield sum(reached)
    for stage in ANSWERED:
        yield sum(reached[stages.index(stage) :])
    yield from (counts[word] for word in PROGRESS)


def pages_of(client: Client, wanted: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Raises CallFailed.  A row is told once, and none is left out, also where another table came meanwhile."""
    after = 0
    told = set[str]()  # a card that was deleted and came back has another number
    while True:
        page = client.call("hosts", {**wanted, "after": after, "limit": PAGE})
        page["hosts"] = [host for host in page["hosts"] if host["mac"] + host["role"] not in told]
        told.update(host["mac"] + host["role"] for host in page["hosts"])
        yield page
        if not page["more"]:
            return
        after = page["after"]


def render_host(host: Mapping[str, Any], now_s: float) -> str:
    name = host["name"] + (" (BMC)" if host["role"] == "bmc" else "")
    addresses = ",".join(host["addresses"]) or "-"
    state = host["state"] + (", in doubt" if host.get("in_doubt") else "")
    line = f"{name:<20}  {host['mac']}  {addresses:<15}  {state:<11}  "
    if host["progress"] == "never":
        return f"{line}not heard" + (f": {host['reason']}" if host["reason"] else "")
    line += f"{host['stage']:<15}  {host['progress']:<7}  for {span(now_s - host['stage_s'])}"
    line += f", {host['requests']:,} requests" + (f", {host['silent']:,} not answered" if host["silent"] else "")
    line += f", by {host['relay']}" if host["relay"] else ""
    return line + (f": {host['reason']}" if host["reason"] else "")


def span(seconds: float) -> str:
    """41 s, 12 min, 5 h, 3 days."""
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
