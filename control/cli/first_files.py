"""`bootstorm init`: a services.conf for this machine, with comments, and a host file beside it as an example."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from urllib.parse import quote

CONF, HOSTS = "services.conf", "hosts.yaml"
ROUTES = Path("/proc/net/route")
NOWHERE = IPv4Interface("192.0.2.1/24")  # RFC 5737: where this machine has no address yet
PREFIX_MAX = 29  # of a network with room for us, a router and a machine
EXAMPLE_FROM = 11  # the example's host is this one of its network, if the network is that large
EXAMPLE_MAC = "02:00:00:00:00:01"  # locally administered: no card comes with it


class NotWritten(Exception):
    """A sentence: which file, why, and what to do."""


@dataclass(frozen=True, slots=True)
class Interface:
    """gateway: of the default route through it, which may be in none of its networks."""

    name: str
    addresses: tuple[IPv4Interface, ...] = ()
    gateway: IPv4Address | None = None

    @property
    def shown(self) -> str:
        return f"{self.name} ({', '.join(map(str, self.addresses)) or 'no IPv4 address'})"


@dataclass(frozen=True, slots=True)
class Machine:
    """Its interfaces without the loopback; those that lead nowhere else come first: there machines boot."""

    interfaces: tuple[Interface, ...] = field(default=())

    def with_addresses(self) -> list[Interface]:
        return [each for each in self.interfaces if each.addresses]


def this_machine() -> Machine:
    """Raises OSError."""
    from control.service.links import addresses_now

    gateways = default_gateways(ROUTES.read_text(encoding="ascii"))
    addresses: dict[str, list[IPv4Interface]] = {name: [] for _index, name in socket.if_nameindex()}
    for each in asyncio.run(addresses_now()):
        addresses.setdefault(each.name, []).append(IPv4Interface((each.address, each.prefix)))
    found = [
        Interface(name, tuple(its), gateways.get(name))
        for name, its in sorted(addresses.items())
        if not any(address.is_loopback for address in its) and name != "lo"
    ]
    return Machine(tuple(sorted(found, key=lambda each: each.gateway is not None)))


def default_gateways(routes: str) -> dict[str, IPv4Address]:
    """Interface -> router of its default route.  routes: /proc/net/route, proc(5)."""
    found: dict[str, IPv4Address] = {}
    for line in routes.splitlines()[1:]:
        name, destination, gateway, _flags, _count, _use, _metric, mask, *_rest = line.split()
        if destination == mask == "00000000":
            found.setdefault(name, IPv4Address(int(gateway, 16).to_bytes(4, sys.byteorder)))
    return {name: gateway for name, gateway in found.items() if int(gateway)}


def write_first_files(folder: Path, machine: Machine, chosen: Sequence[Interface], state_dir: Path) -> list[Path]:
    """Both, or none.  Raises NotWritten; what is there already stays as it is."""
    folder = Path(os.path.abspath(folder))
    files = {folder / HOSTS: host_file(chosen), folder / CONF: configuration(folder, machine, chosen, state_dir)}
    if there := [path for path in files if os.path.lexists(path)]:
        step = f"move {'it' if len(there) == 1 else 'them'} away, or name another folder: bootstorm init FOLDER"
        raise NotWritten(f"{' and '.join(map(str, there))}: there already, and left as it is; {step}")
    written: list[Path] = []
    try:
        for path, text in files.items():
            with path.open("x", encoding="utf-8") as file:
                written.append(path)
                file.write(text)
    except OSError as error:
        for path in written:
            with contextlib.suppress(OSError):
                path.unlink()
        wanted = "wanted a folder that you may write to, with room"
        raise NotWritten(f"{path}: {error.strerror or error}; {wanted}; bootstorm init FOLDER names one") from error
    return list(files)


# --- what stands in them ---------------------------------------------------------------------------------------------


def configuration(folder: Path, machine: Machine, chosen: Sequence[Interface], state_dir: Path) -> str:
    """services.conf, whose lines that begin with # are comments."""
    found = [f"    #   {each.shown}" for each in machine.interfaces] or ["    #   none but the loopback"]
    lines = [
        "# The configuration of bootstorm: JSON, and lines that begin with #, as `bootstorm init` wrote it.",
        f"# `bootstorm check -c {CONF}` names every fault; docs/configuration.md has every key.",
        "{",
        '"dhcp": {',
        "    # Where the machines come from: a file, which is read again when it changes; or the URL of a clusto-httpd",
        "    # or of `bootstorm inventory`, such as http://127.0.0.1:9996 (its token is dhcp.api_token).",
        f'    "api_url": "file://{quote(os.fsencode(folder / HOSTS))}",',
        "",
        "    # Interfaces on which requests are answered; [] is all of them.  A machine that the inventory does not",
        "    # have gets no answer.",
        "    # This machine has:",
        *found,
        f'    "interfaces": {json.dumps([each.name for each in chosen])},',
        "",
        "    # The user to run as once the sockets are open; without this line it stays who started it.",
        '    # "user": "bootstorm",',
        "",
        "    # Looks first and answers nobody: what would be answered otherwise than by the server that is there now?",
        '    # "mode": "observe",',
        "",
        "    # The last good table, the journal, and the socket of `bootstorm ctl`; made at the first start.",
        f'    "state_dir": {json.dumps(str(state_dir))}',
        "}",
        "",
        "# For Prometheus and probes: put a comma behind the brace above, and take the # away.",
        '# "metrics": {"bind": "127.0.0.1:9100"}',
        "}",
    ]
    return "\n".join(lines) + "\n"


def host_file(chosen: Sequence[Interface]) -> str:
    """hosts.yaml: the networks of the chosen interfaces, a pool, and one machine."""
    networks = list(networks_of(chosen))
    server = networks[0][0]
    lines = [
        "# The machines of this site: an example, as `bootstorm init` wrote it.  docs/inventory.md has all that may",
        f"# stand here; `bootstorm lint {HOSTS}` names every fault with its line.",
        "",
        "# Each network in which machines get addresses.  gateway: what they get as their router.",
        "networks:",
        *(
            f"- {{base: {address.network.network_address}, mask: {address.netmask}"
            + (f", gateway: {gateway}" if gateway else "")
            + f"}}  # {name}"
            for address, gateway, name in networks
        ),
        "",
        "# What machines have in common.  A network boot loads tftp_filename from tftp_server.",
        "pools:",
        f"- {{name: racks, dhcp: {{enabled: 1, tftp_server: {server.ip}, tftp_filename: /pxelinux.0}}}}",
        "",
        "# One line a machine.  Put MAC addresses in quotes.",
        "hosts:",
        f'- {{name: node1, mac: "{EXAMPLE_MAC}", address: {example_address(networks)}, pool: racks}}',
    ]
    return "\n".join(lines) + "\n"


def networks_of(chosen: Sequence[Interface]) -> Iterator[tuple[IPv4Interface, IPv4Address | None, str]]:
    """(this machine's address with its network, the gateway, the interface's name) of networks that do not overlap."""
    taken: list[IPv4Network] = []
    for interface in chosen:
        for address in interface.addresses:
            if address.network.prefixlen > PREFIX_MAX or any(address.network.overlaps(other) for other in taken):
                continue
            taken.append(address.network)
            gateway = interface.gateway
            yield address, gateway if gateway is not None and gateway in address.network else None, interface.name
    if not taken:
        yield NOWHERE, None, "an example: this machine has no address yet"


def example_address(networks: Sequence[tuple[IPv4Interface, IPv4Address | None, str]]) -> IPv4Address:
    """In the first network, neither ours nor the router's."""
    address, gateway, _name = networks[0]
    network = address.network
    last = network.num_addresses - 2
    numbers = range(min(EXAMPLE_FROM, last), 0, -1)
    return next(network[number] for number in numbers if network[number] not in (address.ip, gateway))
