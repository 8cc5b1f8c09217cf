"""Puts a server where its rack's declared layout says, by steps that may be repeated and interrupted anywhere.

The switch's end of the connection is written last: a port that shows a server has a server that is complete.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from itertools import islice
from typing import Final

from control.clusto.client.api import ClustoError
from control.discovery.jobs import Waits
from control.discovery.registrar.facts import Facts
from control.discovery.registrar.inventory import (
    ADDRESS_BIAS,
    MEMBER,
    NIC,
    Entity,
    Far,
    Inventory,
    Row,
    Step,
    Unclaimed,
    inserting,
    name_of,
    setting,
)
from control.discovery.registrar.layouts import (
    FIELDS,
    FREE,
    KEY,
    OWN_KEYS,
    Binding,
    Layout,
    LayoutFault,
    Seat,
    parse_layout,
)

POWER: Final = "pwr-nema-5"
CONSOLE: Final = "console-serial"
ADDRESSES_AT_ONCE: Final = 32
ADDRESSES_TRIED_MAX: Final = 1 << 16
RACES_MAX: Final = 5
TRIES_MAX: Final = 3
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


@dataclass(slots=True)
class Tally:
    """Of one server: steps that are still to be carried out, and what was done, in words.  fresh: it was just made."""

    fresh: bool
    steps: list[Step] = field(default_factory=list)
    did: list[str] = field(default_factory=list)

    def carry_out(self, inventory: Inventory) -> None:
        inventory.carry_out(self.steps)
        self.steps.clear()


Reserving = Callable[[Sequence[IPv4Address]], list[str]]
"""Of each address what has it, although the inventory knows of nobody: this machine, a relay; "" for nothing."""


def nothing_reserved(addresses: Sequence[IPv4Address]) -> list[str]:
    return [""] * len(addresses)


class Declared:
    """One rack's layout, carried out.  Every method raises Waits where the inventory does not fit the layout."""

    def __init__(
        self,
        inventory: Inventory,
        facts: Facts,
        rack: Entity,
        layout: Layout,
        reserved: Reserving = nothing_reserved,
    ) -> None:
        self.reserved = reserved
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
        for binding in seat.bindings:
            manager, network = self.manager(binding)
            if isinstance(binding.address, int):
                self.numbered(network, manager, binding.address)

    def would(self, switch: str, port: int) -> list[str]:
        """What `add` would do for a new server, in words."""
        self.check(switch, port)
        seat, layout = self.seat(switch, port), self.layout
        lines = [f"rack {self.rack.name} unit {', '.join(map(str, seat.units))}"]
        lines += [f"into pool {pool}" for pool in layout.pools]
        lines += [f"power {number} to {strip}:{o}" for number, (strip, o) in enumerate(layout.strips(seat), 1)]
        if seat.console is not None:
            lines.append(f"console to {layout.console}:{seat.console}")
        for binding in seat.bindings:
            lines.append(f"an address of {binding.ipmanager} for {binding.osport}: {binding.address}")
        return [*lines, f"nic-eth {seat.nic} to {switch}:{port}"]

    def add(
        self, server: str, switch_path: str, port: int, also: Sequence[Step] = (), known: Entity | None = None
    ) -> list[str]:
        """Returns what it wrote, in words.  Repeated on a complete server it writes nothing.

        also: changes that go with the switch's end.  known: the server as it was just made, unknown to others."""
        for _try in range(TRIES_MAX):
            entity = known or self.inventory.entity(name_of(server))
            if entity is None:
                raise Waits(f"{server} went away while it was registered; the next trap starts anew")
            try:
                return self.complete(entity, switch_path, port, also, Tally(fresh=known is not None))
            except ClustoError as error:
                refused = known is not None and error.status is not None
                if not refused and not isinstance(error, Unclaimed):
                    raise
                self.facts.forget()  # what was remembered is old: once more, looking at everything
                known = None
        raise ClustoError(f"{server}: the ports that it was to get changed {TRIES_MAX} times meanwhile", status=503)

    def complete(self, entity: Entity, switch_path: str, port: int, also: Sequence[Step], tally: Tally) -> list[str]:
        seat, layout = self.seat(name_of(switch_path), port), self.layout
        self.check(name_of(switch_path), port)
        self.put_into_rack(entity, seat, tally)
        self.put_into_pools(entity, tally)
        for number, (strip, outlet) in enumerate(layout.strips(seat), 1):
            self.connect(entity, POWER, number, self.named(strip, "power strip").path, outlet, tally, must=False)
        if seat.console is not None:
            console = self.named(layout.console, "console server").path
            self.connect(entity, CONSOLE, 1, console, seat.console, tally, must=False)
        for binding in seat.bindings:
            self.bind_address(entity, binding, tally)
        tally.steps += also
        self.connect(entity, NIC, seat.nic, switch_path, port, tally, must=True)
        tally.carry_out(self.inventory)
        return tally.did

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

    def manager(self, binding: Binding) -> tuple[Entity, IPv4Network]:
        manager = self.named(binding.ipmanager, "IP manager")
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

    def put_into_rack(self, server: Entity, seat: Seat, tally: Tally) -> None:
        others = [path for path in server.parents if path.startswith("/rack/") and path != self.rack.path]
        if others:
            raise Waits(f"{server.path} is in {', '.join(others)}, not in {self.rack.path}; correct the inventory")
        # Ours refuses a unit that was taken since `occupant` looked.
        units = {} if tally.fresh and self.inventory.in_one else self.inventory.units(self.rack.path)
        for unit in seat.units:
            if (holder := units.get(unit, server.path)) != server.path:
                raise Waits(f"rack {self.rack.name} unit {unit}: holds {holder}; {server.path} was to get it")
        missing = [unit for unit in seat.units if unit not in units]
        elsewhere = [unit for unit, path in units.items() if path == server.path and unit not in seat.units]
        if elsewhere:
            raise Waits(f"{server.path} is in {self.rack.path} unit {elsewhere[0]}, the layout says {seat.units}")
        for unit in missing:
            if len(seat.units) == 1:
                tally.steps.append(inserting(self.rack.path, server.path, unit))
            else:  # insert takes devices of one unit only
                row = Row(MEMBER, server.path, "ru", unit, relation=True)
                tally.steps += setting(self.rack.path, row, claim=True)
        if missing:
            tally.did.append(f"rack {self.rack.name} unit {', '.join(map(str, seat.units))}")

    def put_into_pools(self, server: Entity, tally: Tally) -> None:
        for name in self.layout.pools:
            pool = self.named(name, "pool")
            if pool.path not in server.parents:
                tally.steps.append(inserting(pool.path, server.path))
                tally.did.append(f"pool {name}")

    def far_end(self, path: str, porttype: str, number: int, tally: Tally) -> Far:
        """Of a port that is to be claimed: that it was free a while ago will do where the claim itself looks."""
        if tally.fresh and self.inventory.in_one:
            known = self.facts.ports(path).get((porttype, number), Far(None, None))
            if known.path is None:
                return known
        return self.inventory.ports(path).get((porttype, number), Far(None, None))

    def connect(
        self, server: Entity, porttype: str, number: int, far_path: str, far_number: int, tally: Tally, *, must: bool
    ) -> None:
        """must: a port that is taken otherwise raises Waits; else it is only told."""
        key = f"port-{porttype}"
        what = f"{server.name} {porttype} {number} to {name_of(far_path)}:{far_number}"
        near = Far(server.one(key, "connection", number) or None, server.one(key, "otherportnum", number))
        far = self.far_end(far_path, porttype, far_number, tally)
        fault = ""
        if near.path is not None and (near.path != far_path or near.number not in (None, far_number)):
            fault = f"{what}: the server's port is connected to {near.path}:{near.number}"
        elif far.path is not None and (far.path != server.path or far.number not in (None, number)):
            fault = f"{what}: that port is connected to {far.path}:{far.number}"
        if fault and must:
            raise Waits(f"{fault}; correct the inventory")
        if fault:
            tally.did.append(f"not connected: {fault}")
            return
        before = len(tally.steps)
        if near != Far(far_path, far_number):
            ours = Row(key, far_path, "connection", number, relation=True)
            tally.steps += setting(server.path, Row(key, far_number, "otherportnum", number), ours)
        if far != Far(server.path, number):
            theirs = Row(key, server.path, "connection", far_number, relation=True)
            tally.steps += setting(far_path, Row(key, number, "otherportnum", far_number))
            tally.steps += setting(far_path, theirs, claim=True)
        if len(tally.steps) > before:
            tally.did.append(what)

    # --- addresses -----------------------------------------------------------------------------------------------

    def bind_address(self, server: Entity, binding: Binding, tally: Tally) -> None:
        """One of the manager's, unless the server has one there already; a half-bound one is completed.

        Everything so far is carried out with it: the switch's port comes when the address is the server's alone."""
        manager, network = self.manager(binding)
        number, address = self.bound_in(server, network, binding)
        if address is not None and number is not None:
            rows = self.address_rows(number, address, manager, network, binding)
            self.complete_address(server, rows, address, tally)
            return
        slot = self.slot_for(server, binding)
        for _race in range(RACES_MAX):
            address = self.choose(network, manager, binding)
            rows = self.address_rows(slot, address, manager, network, binding)
            tally.steps += setting(server.path, *rows)
            tally.carry_out(self.inventory)
            owners = self.inventory.owners_of_address(address)
            if owners != [server.path] and binding.address != FREE:
                others = ", ".join(path for path in owners if path != server.path)
                raise Waits(f"{server.path}: {address} was bound to {others} at the same time; unbind one")
            if not owners or min(owners) == server.path:  # of two registrars that chose it at a time the other moves
                tally.did.append(f"address {address}")
                server.rows += rows
                return
        raise Waits(f"{server.path}: no address of {manager.name} could be had alone, tried {RACES_MAX} times")

    def choose(self, network: IPv4Network, manager: Entity, binding: Binding) -> IPv4Address:
        if isinstance(binding.address, int):
            address = self.numbered(network, manager, binding.address)
            if owners := self.inventory.owners_of_address(address):
                raise Waits(f"{self.what}: {address} belongs to {', '.join(owners)}; unbind it, or correct `address`")
            if word := self.kept_back([address], manager)[0]:
                raise Waits(f"{self.what}: {address} is {word}; no server can have it; correct `address`")
            return address
        tried = self.facts.first_free.get(manager.path, 0)
        limit = islice(network.hosts(), tried, ADDRESSES_TRIED_MAX)
        at_once = 1  # the one behind the last that was given away is free, as a rule
        while chunk := list(islice(limit, at_once)):
            owners = self.inventory.owners_of_addresses(chunk) if at_once > 1 else []
            if at_once == 1 or len(owners) < len(chunk):  # as many owners as addresses: all taken
                for at, (address, word) in enumerate(zip(chunk, self.kept_back(chunk, manager), strict=True)):
                    if not word and not self.inventory.owners_of_address(address):
                        self.facts.first_free[manager.path] = tried + at + 1
                        return address
            tried += len(chunk)
            at_once = ADDRESSES_AT_ONCE
        self.facts.first_free.pop(manager.path, None)
        raise Waits(f"{self.what}: {manager.name} ({network}) has no free address; widen it, or unbind some")

    def kept_back(self, addresses: Sequence[IPv4Address], manager: Entity) -> list[str]:
        """Of each what else than a server of the inventory has it; "" for nothing."""
        gateway = str(manager.one("gateway", "property"))
        words = self.reserved(addresses)
        return [
            f"the gateway of {manager.name}" if str(address) == gateway else word
            for address, word in zip(addresses, words, strict=True)
        ]

    @staticmethod
    def address_rows(
        slot: int, address: IPv4Address, manager: Entity, network: IPv4Network, binding: Binding
    ) -> list[Row]:
        """The number comes last: who reads the inventory meanwhile finds half an address, and no address in half.

        The port's name comes first, so that half an address is the host's or the BMC's already."""
        return [
            Row("ip", binding.osport, "osportname", slot),
            Row("ip", str(address), "ipstring", slot),
            Row("ip", f"{address}/{network.prefixlen}", "cidr", slot),
            Row("ip", manager.path, "manager", slot, relation=True),
            Row("ip", int(address) - ADDRESS_BIAS, None, slot),
        ]

    def complete_address(self, server: Entity, rows: list[Row], address: IPv4Address, tally: Tally) -> None:
        """What is missing of it; a bound one is left as it is, port name included."""
        there = {row.subkey for row in server.rows if (row.key, row.number) == ("ip", rows[0].number)}
        missing = [row for row in rows if row.subkey not in there]
        complete = {"ipstring", "manager", None} <= there
        if not complete and missing:
            tally.steps += setting(server.path, *missing)
            tally.did.append(f"address {address}")

    def bound_in(self, server: Entity, network: IPv4Network, binding: Binding) -> tuple[int | None, IPv4Address | None]:
        """The server's (or its BMC's) first address in the network, and the number of its attributes."""
        bmcs = {row.number for row in server.rows if row.slot[:2] == ("ip", "osportname") and self.is_bmcs(row)}
        for row in server.rows:
            if row.key != "ip" or row.subkey not in ("ipstring", None) or row.number is None:
                continue
            if (row.number in bmcs) != binding.bmc:
                continue
            try:
                address = IPv4Address(row.value + ADDRESS_BIAS if isinstance(row.value, int) else row.value)
            except ValueError:
                continue
            if address in network:
                return row.number, address
        return None, None

    @staticmethod
    def slot_for(server: Entity, binding: Binding) -> int:
        """A number of its own, or the one at which an interrupted try left no more than the port's name."""
        said: dict[int, list[Row]] = {}
        for row in server.rows:
            if row.key == "ip" and row.number is not None:
                said.setdefault(row.number, []).append(row)
        for number, rows in said.items():
            if [(row.subkey, row.value) for row in rows] == [("osportname", binding.osport)]:
                return number
        return 1 + max(said, default=-1)

    def is_bmcs(self, row: Row) -> bool:
        return bool(row.value == self.layout.bmc_osport)
