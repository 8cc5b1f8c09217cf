"""Command-line options that the benches share, and what they come to: a target, its hosts, a site of our own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import click
import yaml

from bench.engine.target import Population, Target, population
from bench.lab.lab import Lab
from bench.report.machine import pinned
from bench.report.record import remarks, write
from bench.rig.stage import HOSTS_MAX, Stage, invented, own_site, two_cores

Command = Callable[..., None]


def target_options(hosts: int, relays: int = 1) -> Callable[[Command], Command]:
    """Whom to ask, on whose behalf; the arguments are defaults."""
    every: list[Callable[[Command], Command]] = [
        click.option("--server", help="Address of a running server; default: our own, started in a laboratory."),
        click.option("--giaddr", multiple=True, help="Relay to pose as, an address of this machine; may be repeated."),
        click.option("--ifname", default="", help="Broadcast from this interface instead."),
        click.option("--hosts", default=hosts, show_default=True, type=click.IntRange(1, HOSTS_MAX)),
        click.option(
            "--first-mac", default="02:00:00:00:00:00", show_default=True, help="MACs are counted up from it."
        ),
        click.option("--first-address", help="Addresses likewise; default: each host keeps the first that it gets."),
        click.option("--hosts-from", type=click.Path(exists=True, path_type=Path), help="An inventory's host file."),
        click.option("--relays", default=relays, show_default=True, help="In the laboratory."),
        click.option("--workers", default=1, show_default=True, help="Of our own server, on one core."),
        click.option("--core", type=int, help="Core of the generator; default: the second."),
    ]
    return _all(every)


def record_options(command: Command) -> Command:
    """Where the record and the picture go, and the seed."""
    every: list[Callable[[Command], Command]] = [
        click.option("--seed", default=1, show_default=True),
        click.option("--json", "file", type=click.Path(path_type=Path), help="Record; a bare name: in bench/results."),
        click.option(
            "--picture", type=click.Path(path_type=Path), help="Picture (.svg or .png); a bare name likewise."
        ),
    ]
    return _all(every)(command)


def _all(options: list[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


@dataclass(frozen=True, slots=True, kw_only=True)
class Chosen:
    """The options of `target_options`."""

    server: str | None
    giaddr: tuple[str, ...]
    ifname: str
    hosts: int
    first_mac: str
    first_address: str | None
    hosts_from: Path | None
    relays: int
    workers: int
    core: int | None

    def scenario(self) -> dict[str, Any]:
        own = {"relays": self.relays, "workers": self.workers} if self.server is None else {"server": self.server}
        return {"hosts": self.hosts, "relayed": self.server is None or bool(self.giaddr), **own}

    def people(self) -> Population:
        """UsageError for what does not fit together."""
        if self.server is None:
            return invented(self.hosts, self.relays)
        relays = max(1, len(self.giaddr))
        if self.hosts_from is not None:
            return population(*_host_file(self.hosts_from), relays)
        first = int(self.first_mac.replace(":", ""), 16)
        start = None if self.first_address is None else int(IPv4Address(self.first_address))
        addresses = None if start is None else range(start, start + self.hosts)
        return population(range(first, first + self.hosts), addresses, relays)


def _host_file(path: Path) -> tuple[list[str], list[str | int]]:
    content = yaml.safe_load(path.read_text())
    if not isinstance(content, dict) or not isinstance(content.get("hosts"), list):
        raise click.UsageError(f"{path}: no host file: wanted a map with a list of hosts")
    known = [host for host in content["hosts"] if host.get("mac")]
    return [host["mac"] for host in known], [_address(host) for host in known]


def _address(host: dict[str, Any]) -> str | int:
    several = host.get("addresses") or ([host["address"]] if host.get("address") else [])
    return several[0] if len(several) == 1 else 0


@contextmanager
def place(chosen: Chosen, people: Population) -> Iterator[tuple[Target, Stage | None, int]]:
    """The target, our own site (None when a server was named), and the generator's core."""
    if chosen.server is not None:
        if bool(chosen.giaddr) == bool(chosen.ifname):
            raise click.UsageError("with --server give either --giaddr or --ifname")
        core = two_cores()[1] if chosen.core is None else chosen.core
        yield Target(chosen.server, chosen.giaddr, chosen.ifname), None, core
        return
    if reason := Lab.available():
        raise click.ClickException(f"a server of our own needs a laboratory: {reason}; or name one with --server")
    tell(f"starting our own server with {len(people.macs):,} hosts")
    with own_site(people, chosen.relays, chosen.workers) as stage:
        core = stage.cores[1] if chosen.core is None else chosen.core
        with pinned(core):
            yield stage.target, stage, core


def tell(text: str) -> None:
    """Progress; figures alone go to standard output."""
    click.echo(text, err=True)


@contextmanager
def progress(label: str, length: int) -> Iterator[Callable[[int], None]]:
    """A bar on standard error that is told how far a run has got."""
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:

        def watch(done: int) -> None:
            bar.update(done - bar.pos)

        yield watch


def finish(record: dict[str, Any], file: Path | None, drawn: Path | None) -> None:
    """Remarks on the machine, the record's file, the picture's."""
    for remark in remarks(record["disturbance"]):
        click.echo(remark)
    if file is not None:
        click.echo(f"record: {write(file, record)}")
    if drawn is not None:
        click.echo(f"picture: {drawn}")
