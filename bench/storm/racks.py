"""The site of `bench boot`: rows of machines in racks, and which of them hang, where and why.  Pure.

A row is a pool and a network.  Row 0 stands on the server's own segment, each other one behind a relay of its own.  The
inventory is made to fit: it is the record of a machine that lets it hang, or its cabling, or what it loads.
"""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

FIRST_MAC = 0x020000000000
FIRST_HOST = 256  # in its network
MACHINES_A_RACK = 40
ROWS_MAX, MACHINES_A_ROW_MAX = 100, 60_000
SITE = "site"  # the pool of all rows


@dataclass(frozen=True, slots=True)
class Hang:
    """at: the stage and step where the client ends (Storm.set_ends), None: it has no power.

    made: the inventory or the cabling is made so; it hangs at every boot, the others at the last one alone."""

    words: str
    at: tuple[str, str] | None
    made: bool = False


HANGS = {
    "no-offer": Hang("its ROM takes no OFFER", ("rom", "OFFER")),
    "no-boot-file": Hang("what its ROM was told to load does not load", ("rom", "ACK")),
    "conflict": Hang("another machine has its address, too", ("rom", "DISCOVER"), made=True),
    "no-address": Hang("no address is bound to it", ("rom", "DISCOVER"), made=True),
    "off": Hang("it has no power", None),
    "ipxe-no-offer": Hang("its iPXE takes no OFFER", ("ipxe", "OFFER")),
    "ipxe-no-boot-file": Hang("what its iPXE was told to load does not load", ("ipxe", "ACK")),
    "os-no-offer": Hang("its system takes no OFFER", ("os", "OFFER")),
    "disabled": Hang("DHCP is off in its record", ("rom", "DISCOVER"), made=True),
    "unusable": Hang("its record cannot be used", ("rom", "DISCOVER"), made=True),
    "elsewhere": Hang("it is plugged in at another row than its record says", ("rom", "DISCOVER"), made=True),
}
OF_ITSELF = tuple(name for name, hang in HANGS.items() if not hang.made)  # with any inventory
# For a machine that the server does not answer, as it is not answered for these.
NOT_SERVED = frozenset({"conflict", "no-address", "disabled", "unusable"})


@dataclass(frozen=True, slots=True)
class Row:
    """A pool.  first_boot: at which its machines get power for the first time; dhcp: its attributes."""

    name: str
    machines: int
    first_boot: int = 1
    dhcp: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Machine:
    """address: that it has to get, 0: any.  row: of Site.rows.  hang: of HANGS, "" none.  rival: with which it shares
    its address, the machine's number."""

    number: int
    name: str
    mac: int
    address: int
    row: int = 0
    rack: str = ""
    hang: str = ""
    rival: int | None = None

    @property
    def mac_text(self) -> str:
        return self.mac.to_bytes(6, "big").hex(":")


@dataclass(frozen=True, slots=True)
class Site:
    rows: tuple[Row, ...]
    machines: tuple[Machine, ...]

    @property
    def served(self) -> int:
        """Machines that the server answers somewhere."""
        return sum(machine.hang not in NOT_SERVED for machine in self.machines)

    def link_of(self, machine: Machine) -> int:
        """The row whose wire it is plugged in at."""
        return (machine.row + 1) % len(self.rows) if machine.hang == "elsewhere" else machine.row


def network_of(row: int) -> IPv4Network:
    return IPv4Network((int(IPv4Address("10.100.0.0")) + (row << 16), 16))


def gateway_of(row: int) -> str:
    """Of row 0 the server's address, of the others the relay's."""
    return str(network_of(row)[1])


def even_rows(machines: int, rows: int) -> list[Row]:
    """As many machines in each, one more in the first where they do not divide.  ValueError."""
    if not 1 <= rows <= machines:
        raise ValueError(f"{rows} rows for {machines} machines: wanted at least one machine a row")
    return [Row(f"row{row:02d}", machines // rows + (row < machines % rows)) for row in range(rows)]


def site_of(rows: Sequence[Row]) -> Site:
    """All machines well.  ValueError for more rows, or machines in one, than there are addresses for."""
    if not 1 <= len(rows) <= ROWS_MAX or any(not 1 <= row.machines <= MACHINES_A_ROW_MAX for row in rows):
        sizes = [row.machines for row in rows]
        raise ValueError(f"rows of {sizes}: wanted 1 to {ROWS_MAX} of 1 to {MACHINES_A_ROW_MAX} machines")
    machines: list[Machine] = []
    for at, row in enumerate(rows):
        first = int(network_of(at)[FIRST_HOST])
        for i in range(row.machines):
            number, rack = len(machines), f"{row.name}-rack{i // MACHINES_A_RACK:03d}"
            name = f"{row.name}-m{i:05d}"
            machines.append(Machine(number, name, FIRST_MAC + number, first + i, at, rack))
    return Site(tuple(rows), tuple(machines))


def with_hangs(
    site: Site, many: int, seed: int, kinds: Sequence[str] = tuple(HANGS), rows: Collection[int] | None = None
) -> Site:
    """The site with so many more machines that hang, of all kinds in turn, drawn by the seed.  rows: from these alone.

    Conflicts come in pairs.  ValueError when there are not as many machines."""
    free = [each.number for each in site.machines if not each.hang and (rows is None or each.row in rows)]
    if many > len(free):
        raise ValueError(f"{many} machines are to hang, and there are {len(free)}")
    chosen = random.Random(seed).sample(free, many)
    drawn = [kinds[i % len(kinds)] for i in range(many)]
    rivals = [i for i, kind in enumerate(drawn) if kind == "conflict"]
    if len(rivals) % 2:
        spare = next((kind for kind in kinds if kind != "conflict"), None)
        if spare is None:
            raise ValueError(f"{many} machines with one address for two: wanted an even number")
        drawn[rivals.pop()] = spare
    if "elsewhere" in drawn and len(site.rows) == 1:
        raise ValueError("a machine at another row than its record says: wanted at least two rows")
    machines = list(site.machines)
    for number, kind in zip(chosen, drawn, strict=True):
        machines[number] = replace(machines[number], hang=kind)
    for one, two in zip(rivals[::2], rivals[1::2], strict=True):
        machines[chosen[one]] = replace(machines[chosen[one]], rival=chosen[two])
        machines[chosen[two]] = replace(machines[chosen[two]], rival=chosen[one])
    return replace(site, machines=tuple(machines))


def host_file(site: Site) -> str:
    """As `bootstorm inventory load` takes it.  It refuses one address for two: see `contested`."""
    networks = [
        {"name": f"net-{row.name}", "base": str(net[0]), "mask": str(net.netmask), "gateway": gateway_of(at)}
        for at, row in enumerate(site.rows)
        for net in (network_of(at),)
    ]
    boots = {"tftp_server": gateway_of(0), "tftp_filename": "snponly.efi", "tftp_filename--ipxe": "menu.ipxe"}
    pools: list[dict[str, Any]] = [{"name": SITE, "dhcp": {"enabled": 1, "lease_time": 7200, **boots}}]
    pools += [{"name": row.name, "pool": SITE} | ({"dhcp": dict(row.dhcp)} if row.dhcp else {}) for row in site.rows]
    racks = [{"name": rack, "driver": "basicrack"} for rack in dict.fromkeys(each.rack for each in site.machines)]
    hosts = [_host(site, machine) for machine in site.machines]
    return json.dumps({"networks": networks, "pools": pools, "containers": racks, "hosts": hosts})


def _host(site: Site, machine: Machine) -> dict[str, Any]:
    place = machine.address - int(network_of(machine.row)[FIRST_HOST])
    said: dict[str, Any] = {
        "name": machine.name,
        "mac": machine.mac_text,
        "pool": site.rows[machine.row].name,
        "rack": machine.rack,
        "ru": place % MACHINES_A_RACK + 1,
    }
    if machine.hang != "no-address":
        said["address"] = str(IPv4Address(machine.address))
    if machine.hang in ("disabled", "unusable"):
        said["dhcp"] = {"enabled": 0 if machine.hang == "disabled" else "perhaps"}
    return said


def contested(site: Site) -> list[tuple[Machine, Machine]]:
    """Machines that get the address of another: (who, whose)."""
    return [
        (machine, site.machines[machine.rival])
        for machine in site.machines
        if machine.rival is not None and machine.rival < machine.number
    ]
