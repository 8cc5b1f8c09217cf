"""Tables for `bootstorm explain` without a service: from its state folder or a host file, and the server's interfaces.

Reads only: a running service's files stay as they are.  The server need not be this machine."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, summarize_address_range
from pathlib import Path
from typing import Any, NamedTuple

from ext.builder import Builder
from ext.layout5 import OtherBase
from ext.table import Generation, Pair, TableInvalid

from control.config.config import Dhcp
from control.messages.dissect import options_of
from control.plan.compile import Compiler
from control.plan.contexts import Faults
from control.plan.site_facts import surroundings
from control.sources.filesource import FileSource
from control.table.file import TableStore, present_base, present_delta, sealed_copy
from fastpath.protocol import close_all

MTU = 1500


class Unusable(Exception):
    """No table can be had from there; one clear line."""


class Interface(NamedTuple):
    """Of the server: where requests come in.  address: int in host order."""

    ifindex: int
    address: int
    prefix: int

    @property
    def network(self) -> IPv4Network:
        return IPv4Network((self.address, self.prefix), strict=False)

    def __str__(self) -> str:
        return f"{IPv4Address(self.address)}/{self.prefix}"


class Planned(NamedTuple):
    """reasons: MAC -> why it is not answered; faults: name -> what is wrong."""

    pair: Pair
    reasons: dict[str, str]
    faults: Faults


def open_table(state_dir: Path) -> Pair | None:
    """What a service would start from; None when there is nothing.  Raises Unusable for a damaged table."""
    store = TableStore(state_dir)
    raw: list[int] = []
    made: list[int] = []
    try:
        raw += opened(store.base_path)
        if not raw:
            return None
        with named(store.base_path):
            made.append(present_base(raw[0]))
            base = Generation(made[0])
        raw += opened(store.delta_path)
        if len(raw) == 1:
            return Pair(base)
        try:
            with named(store.delta_path):
                made.append(present_delta(raw[0], made[0], raw[1]))
            return Pair(base, Generation(made[1]))
        except OtherBase:  # left alone from another base: the service does not use it either
            return Pair(base)
    finally:
        close_all([*raw, *made])


def opened(path: Path) -> list[int]:
    """A sealed copy of a file, or nothing when there is none.  Raises Unusable."""
    try:
        return [sealed_copy(path)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise Unusable(f"{path}: {error.strerror}") from error


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Damage raises Unusable with the file's name."""
    try:
        yield
    except OtherBase:
        raise
    except (OSError, TableInvalid) as damage:
        raise Unusable(f"{path}: {damage}") from damage


def plan_file(source: FileSource, config: Dhcp) -> Planned:
    """The table that a service would make of a host file.  Raises InventoryDown."""
    compiler = Compiler(config)
    reading = source.read()
    work = compiler.begin(reading.frame)
    for batch in reading.batches:
        work.add(batch)
    done = work.assemble(None, set())
    around = surroundings(config, work.rules.networks, (), work.rules.shared)
    fd = done.rows.seal(1, around, created_s=0)
    try:
        return Planned(Pair(Generation(fd)), done.reasons, done.faults)
    finally:
        os.close(fd)


def placed(pair: Pair, interfaces: Collection[Interface], config: Dhcp) -> Pair:
    """The same rows, served on these interfaces and with this configuration."""
    builder = Builder(pair.base)
    for mac, role in list(pair.delta.keys()) if pair.delta is not None else []:
        if pair.delta.lookup(mac, role)["state"] == "tombstone":
            builder.add_tombstone(mac, role)
        else:
            builder.copy_host(pair.delta, mac, role)
    links = ((each.ifindex, each.address, each.prefix, MTU, True) for each in interfaces)
    around = replace(surroundings(config, pair.top.networks, links, pair.top.shared), interfaces_limited=False)
    fd = builder.seal(pair.top.number + 1, around, created_s=pair.top.created_s)
    try:
        return Pair(pair.base, Generation(fd))
    finally:
        os.close(fd)


def assumed(pair: Pair, macs: Iterable[int], servers: Iterable[int], taken: Collection[int]) -> list[Interface]:
    """An interface in each network of the table: first those of the leases of some MACs, then the inventory's others.

    servers: addresses that a server was seen with, which become ours; taken: addresses that somebody else has."""
    networks: dict[IPv4Network, None] = {}
    others = set(taken)
    for mac in macs:
        row = pair.lookup(mac)
        for lease in row["leases"] if row is not None and row["state"] == "served" else ():
            networks[IPv4Network((lease["address"], lease["prefix"]), strict=False)] = None
            others.add(router_of(lease))
    for first, last in pair.top.networks:
        for network in summarize_address_range(IPv4Address(first), IPv4Address(last)):
            if not any(network.overlaps(known) for known in networks):
                networks[network] = None
    seen = [address for address in dict.fromkeys(servers) if address not in taken]
    for address in seen:
        if not any(IPv4Address(address) in network for network in networks):
            networks[IPv4Network((address, 24), strict=False)] = None
    found = []
    links = [
        network for network in networks if network.prefixlen < 32
    ]  # one address alone is a host's, on any of these
    for index, network in enumerate(links, 1):
        ours = next((address for address in seen if IPv4Address(address) in network), None)
        found.append(Interface(index, free_address(pair, network, others) if ours is None else ours, network.prefixlen))
    return found


def router_of(lease: dict[str, Any]) -> int:
    """Of a lease of Pair.lookup; 0: it has none."""
    return int.from_bytes(dict(options_of(lease["template"]["options"])).get(3, b"")[:4], "big")


def free_address(pair: Pair, network: IPv4Network, taken: Collection[int]) -> int:
    """The last one of a network that nobody is known to have."""
    first, last = int(network.network_address), int(network.broadcast_address)
    candidates = range(last - 1, max(first, last - 256), -1) if network.prefixlen < 31 else range(last, first - 1, -1)
    return next((each for each in candidates if each not in taken and not pair.with_address(each)), last)
