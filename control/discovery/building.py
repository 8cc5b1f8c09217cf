"""Puts a server where its rack's declared layout says, by steps that may be repeated and interrupted anywhere.

The switch's end of the connection is written last: a port that shows a server has a server that is complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from itertools import islice
from typing import Final

from control.discovery.facts import Facts
from control.discovery.inventory import ADDRESS_BIAS, MEMBER, NIC, Entity, Far, Inventory, Row, name_of
from control.discovery.jobs import Waits
from control.discovery.layouts import FIELDS, FREE, KEY, OWN_KEYS, Layout, LayoutFault, Seat, parse_layout

POWER: Final = "pwr-nema-5"
CONSOLE: Final = "console-serial"
ADDRESSES_AT_ONCE: Final = 32
ADDRESSES_TRIED_MAX: Final = 1 << 16
RACES_MAX: Final = 5
DRIVERS: Final = {1: ("penguinserver", "basicserver"), 2: ("penguinserver2u",)}


def layout_of(facts: Facts, rack: Entity) -> Layout | None:
    """What the rack and its containers say, each field by its most specific word; None when there is no ru_map.

    Raises Waits with every fault."""
    said: dict[str, str] = {}
    for level in ([rack], *facts.levels(rack)):
        here: dict[str, str] = {}
        for container in level:
            for row in container.rows:
                if row.number is not None or row.value is None:
                    continue
                name = row.subkey if row.key == KEY else row.key if row.key in OWN_KEYS and not row.subkey else None
                if name is not None:
                    here.setdefault(name, str(row.value))
        said = here | said
    if "ru_map" not in said:
        if unknown := sorted(said.keys() - FIELDS.keys()):
            raise Waits(f"layout of rack {rack.name}: no ru_map, and unknown {', '.join(unknown)}; see racklayout")
        return None
    try:
        return parse_layout(rack.name, said)
    except LayoutFault as fault:
        raise Waits(str(fault)) from fault


class Declared:
    """One rack's layout, carried out.  Every method raises Waits where the inventory does not fit the layout."""

    def __init__(self, inventory: Inventory, facts: Facts, rack: Entity, layout: Layout) -> None:
        self.inventory = inventory
        self.facts = facts
        self.rack = rack
        self.layout = layout
        self.what = f"the layout of rack {rack.name}"

    def seat(self, switch: str, port: int) -> Seat:
        try:
            return self.layout.seat(switch, port)
        except LayoutFault as fault:
            raise Waits(str(fault)) from fault

    def nic(self, switch: str, port: int) -> int:
        return self.seat(switch, port).nic

    def drivers(self, switch: str, port: int) -> tuple[str, ...]:
        if self.layout.driver:
            return (self.layout.driver,)
        return DRIVERS.get(len(self.seat(switch, port).units), DRIVERS[1])

    def occupant(self, switch: str, port: int) -> str:
        """The server that stands in the units already; "" when they are free.  Raises Waits when it cannot be it."""
        seat = self.seat(switch, port)
        units = self.inventory.units(self.rack.path)
        holders = sorted({units[unit] for unit in seat.units if unit in units})
        where = f"rack {self.rack.name} unit {', '.join(map(str, seat.units))}"
        if len(holders) > 1:
            raise Waits(f"{where}: holds {', '.join(holders)}; wanted one server, or none; correct the rack")
        if not holders:
            return ""
        return holders[0]

    def check(self, switch: str, port: int) -> None:
        """Before anything is made: whether all that the layout names is there."""
        seat = self.seat(switch, port)
        for strip, outlet in self.layout.strips(seat):
            self.ports_of(strip, "power strip", POWER, outlet)
        if seat.console is not None:
            self.ports_of(self.layout.console, "console server", CONSOLE, seat.console)
        for pool in self.layout.pools:
            self.named(pool, "pool")
        if seat.address is not None:
            manager, network = self.manager()
            if isinstance(seat.address, int):
                self.numbered(network, manager, seat.address)

    def would(self, switch: str, port: int) -> list[str]:
        """What `add` would do for a new server, in words."""
        self.check(switch, port)
        seat, layout = self.seat(switch, port), self.layout
        lines = [f"rack {self.rack.name} unit {', '.join(map(str, seat.units))}"]
        lines += [f"into pool {pool}" for pool in layout.pools]
        lines += [f"power {number} to {strip}:{o}" for number, (strip, o) in enumerate(layout.strips(seat), 1)]
        if seat.console is not None:
            lines.append(f"console to {layout.console}:{seat.console}")
        if seat.address is not None:
            lines.append(f"an address of {layout.ipmanager}: {seat.address}")
        return [*lines, f"nic-eth {seat.nic} to {switch}:{port}"]

    def add(self, server: str, switch_path: str, port: int) -> list[str]:
        """Returns what it wrote, in words.  Repeated on a complete server it writes nothing."""
        switch = name_of(switch_path)
        seat, layout = self.seat(switch, port), self.layout
        self.check(switch, port)
        entity = self.inventory.entity(name_of(server))
        if entity is None:
            raise Waits(f"{server} went away while it was registered; the next trap starts anew")
        did = [*self.put_into_rack(entity, seat), *self.put_into_pools(entity)]
        for number, (strip, outlet) in enumerate(layout.strips(seat), 1):
            did += self.connect(entity, POWER, number, self.named(strip, "power strip").path, outlet, must=False)
        if seat.console is not None:
            console = self.named(layout.console, "console server").path
            did += self.connect(entity, CONSOLE, 1, console, seat.console, must=False)
        did += self.bind_address(entity, seat)
        return did + self.connect(entity, NIC, seat.nic, switch_path, port, must=True)

    # --- what the layout names -----------------------------------------------------------------------------------

    def named(self, name: str, what: str) -> Entity:
        found = self.facts.entity(name)
        if found is None:
            raise Waits(f"{self.what} names {what} {name}, which does not exist; create it, or correct racklayout")
        return found

    def ports_of(self, name: str, what: str, porttype: str, number: int) -> dict[tuple[str, int], Far]:
        entity = self.named(name, what)
        known = self.facts.ports(entity.path)
        if (porttype, number) not in known:
            raise Waits(f"{self.what}: {what} {name} has no {porttype} {number}; correct the map")
        return known

    def manager(self) -> tuple[Entity, IPv4Network]:
        manager = self.named(self.layout.ipmanager, "IP manager")
        base, mask = manager.one("baseip", "property"), manager.one("netmask", "property")
        try:
            return manager, IPv4Network(f"{base}/{mask}", strict=False)
        except ValueError as error:
            raise Waits(f"{self.what}: IP manager {manager.name} has no network ({base}/{mask}: {error})") from error

    def numbered(self, network: IPv4Network, manager: Entity, number: int) -> IPv4Address:
        if not 0 < number < network.num_addresses - 1:
            raise Waits(f"{self.what}: number {number} is no host's in {network} of {manager.name}; correct `address`")
        return network[number]

    # --- steps ---------------------------------------------------------------------------------------------------

    def put_into_rack(self, server: Entity, seat: Seat) -> Iterator[str]:
        others = [path for path in server.parents if path.startswith("/rack/") and path != self.rack.path]
        if others:
            raise Waits(f"{server.path} is in {', '.join(others)}, not in {self.rack.path}; correct the inventory")
        units = self.inventory.units(self.rack.path)
        for unit in seat.units:
            if (holder := units.get(unit, server.path)) != server.path:
                raise Waits(f"rack {self.rack.name} unit {unit}: holds {holder}; {server.path} was to get it")
        missing = [unit for unit in seat.units if unit not in units]
        elsewhere = [unit for unit, path in units.items() if path == server.path and unit not in seat.units]
        if elsewhere:
            raise Waits(f"{server.path} is in {self.rack.path} unit {elsewhere[0]}, the layout says {seat.units}")
        for unit in missing:
            if len(seat.units) == 1:
                self.inventory.insert(self.rack.path, server.path, unit)
            else:  # insert takes devices of one unit only
                self.inventory.add(self.rack.path, Row(MEMBER, server.path, "ru", unit, relation=True))
        if missing:
            yield f"rack {self.rack.name} unit {', '.join(map(str, seat.units))}"

    def put_into_pools(self, server: Entity) -> Iterator[str]:
        for name in self.layout.pools:
            pool = self.named(name, "pool")
            if pool.path not in server.parents:
                self.inventory.insert(pool.path, server.path)
                yield f"pool {name}"

    def connect(
        self, server: Entity, porttype: str, number: int, far_path: str, far_number: int, *, must: bool
    ) -> list[str]:
        """must: a port that is taken otherwise raises Waits; else it is only told."""
        key = f"port-{porttype}"
        what = f"{server.name} {porttype} {number} to {name_of(far_path)}:{far_number}"
        near = Far(server.one(key, "connection", number) or None, server.one(key, "otherportnum", number))
        far = self.inventory.ports(far_path).get((porttype, far_number), Far(None, None))
        fault = ""
        if near.path is not None and (near.path != far_path or near.number not in (None, far_number)):
            fault = f"{what}: the server's port is connected to {near.path}:{near.number}"
        elif far.path is not None and (far.path != server.path or far.number not in (None, number)):
            fault = f"{what}: that port is connected to {far.path}:{far.number}"
        if fault and must:
            raise Waits(f"{fault}; correct the inventory")
        if fault:
            return [f"not connected: {fault}"]
        ours = [Row(key, far_number, "otherportnum", number), Row(key, far_path, "connection", number, relation=True)]
        theirs = [
            Row(key, number, "otherportnum", far_number),
            Row(key, server.path, "connection", far_number, relation=True),
        ]
        wrote = False
        if near != Far(far_path, far_number):
            self.inventory.set(server.path, ours)
            wrote = True
        if far != Far(server.path, number):
            self.inventory.set(far_path, theirs)
            wrote = True
        return [what] if wrote else []

    # --- addresses -----------------------------------------------------------------------------------------------

    def bind_address(self, server: Entity, seat: Seat) -> list[str]:
        """One of the manager's, unless the server has one there already; a half-bound one is completed."""
        if seat.address is None:
            return []
        manager, network = self.manager()
        number, address = bound_in(server, network)
        if address is not None and number is not None:
            return self.write_address(server, number, address, manager, network)
        slot = 1 + max((row.number for row in server.rows if row.key == "ip" and row.number is not None), default=-1)
        for _race in range(RACES_MAX):
            address = self.choose(network, manager, seat)
            self.inventory.set(server.path, self.address_rows(slot, address, manager, network))
            owners = self.inventory.owners_of_address(address)
            if owners == [server.path]:
                return [f"address {address}"]
            if seat.address != FREE:
                others = ", ".join(path for path in owners if path != server.path)
                raise Waits(f"{server.path}: {address} was bound to {others} at the same time; unbind one")
            if min(owners) == server.path:  # of two registrars that chose it at a time the other moves
                return [f"address {address}"]
        raise Waits(f"{server.path}: no address of {manager.name} could be had alone, tried {RACES_MAX} times")

    def choose(self, network: IPv4Network, manager: Entity, seat: Seat) -> IPv4Address:
        if isinstance(seat.address, int):
            address = self.numbered(network, manager, seat.address)
            if owners := self.inventory.owners_of_address(address):
                raise Waits(f"{self.what}: {address} belongs to {', '.join(owners)}; unbind it, or correct `address`")
            return address
        gateway = str(manager.one("gateway", "property"))
        free = (address for address in network.hosts() if str(address) != gateway)
        limit = islice(free, self.facts.first_free.get(manager.path, 0), ADDRESSES_TRIED_MAX)
        tried = self.facts.first_free.get(manager.path, 0)
        while chunk := list(islice(limit, ADDRESSES_AT_ONCE)):
            owners = self.inventory.owners_of_addresses(chunk)
            if len(owners) < len(chunk):  # as many owners as addresses: all taken
                for at, address in enumerate(chunk):
                    if not owners or not self.inventory.owners_of_address(address):
                        self.facts.first_free[manager.path] = tried + at
                        return address
            tried += len(chunk)
        self.facts.first_free.pop(manager.path, None)
        raise Waits(f"{self.what}: {manager.name} ({network}) has no free address; widen it, or unbind some")

    def address_rows(self, slot: int, address: IPv4Address, manager: Entity, network: IPv4Network) -> list[Row]:
        """The number comes last: who reads the inventory meanwhile finds half an address, and no address in half."""
        return [
            Row("ip", str(address), "ipstring", slot),
            Row("ip", f"{address}/{network.prefixlen}", "cidr", slot),
            Row("ip", self.layout.osport, "osportname", slot),
            Row("ip", manager.path, "manager", slot, relation=True),
            Row("ip", int(address) - ADDRESS_BIAS, None, slot),
        ]

    def write_address(
        self, server: Entity, slot: int, address: IPv4Address, manager: Entity, network: IPv4Network
    ) -> list[str]:
        """What is missing of it; a bound one is left as it is, port name included."""
        there = {row.subkey for row in server.rows if (row.key, row.number) == ("ip", slot)}
        missing = [row for row in self.address_rows(slot, address, manager, network) if row.subkey not in there]
        complete = {"ipstring", "manager", None} <= there
        if complete or not missing:
            return []
        self.inventory.set(server.path, missing)
        return [f"address {address}"]


def bound_in(server: Entity, network: IPv4Network) -> tuple[int | None, IPv4Address | None]:
    """The server's first address in the network, and the number of its attributes."""
    for row in server.rows:
        if row.key != "ip" or row.subkey not in ("ipstring", None) or row.number is None:
            continue
        try:
            address = IPv4Address(row.value + ADDRESS_BIAS if isinstance(row.value, int) else row.value)
        except ValueError:
            continue
        if address in network:
            return row.number, address
    return None, None
