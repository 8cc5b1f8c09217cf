"""What changes seldom in the inventory, remembered for a while: switches by address, racks, what containers say."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final, TypeVar

from control.clusto.client.api import ClustoError
from control.discovery.jobs import Waits
from control.discovery.registrar.inventory import Entity, Far, Inventory, name_of
from control.discovery.registrar.maps import MapFault, parse_map
from control.discovery.trapseen import NUMBERINGS, Numbered, Port, numbered

REMEMBER_S: Final = 30.0
REMEMBERED_MAX: Final = 4_000
LEVELS_MAX: Final = 50  # of containers above a thing
ON: Final = frozenset({"1", "true", "yes", "on"})
OFF: Final = frozenset({"0", "false", "no", "off", "", "none"})
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Said:
    """One attribute's value and the name of who says it."""

    value: object
    origin: str


@dataclass(frozen=True, slots=True)
class Switch:
    """off: why nothing is discovered there; empty when it is.  ports: dot1dBasePort -> clusto's number; None: alike.

    numberings: of trapseen.NUMBERINGS, those of which the inventory has a map, to the same number; or what is wrong
    with it."""

    path: str
    off: str
    ports: dict[int, int] | None
    map_fault: str
    racks: tuple[str, ...]
    numberings: Mapping[str, dict[int, int] | str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return name_of(self.path)

    def port_of(self, said: Port) -> int:
        """Clusto's number of what a trap said.  Raises Waits."""
        return self.by_number(numbered(said)) if isinstance(said, str) else self.by_base_port(said)

    def by_number(self, said: Numbered) -> int:
        """Never without a map: an ifIndex that is taken for a port connects a server to the wrong one."""
        attribute, mapped = f"snmp {NUMBERINGS[said.numbering]}", self.numberings.get(said.numbering)
        if mapped is None:
            raise Waits(
                f"switch {self.name}: seen at {said.numbering} {said.number}, and {attribute} is set neither there nor "
                "on a container; set it, for instance 10101-10148=1-48"
            )
        if isinstance(mapped, str):
            raise Waits(mapped)
        if said.number not in mapped:
            raise Waits(f"switch {self.name}: its {attribute} has no {said.numbering} {said.number}; add it there")
        return mapped[said.number]

    def by_base_port(self, base_port: int) -> int:
        """Alike where the inventory has no map.  Raises Waits."""
        if self.map_fault:
            raise Waits(self.map_fault)
        if self.ports is None:
            return base_port
        if base_port not in self.ports:
            raise Waits(f"switch {self.name}: its snmp port_map has no bridge port {base_port}; add it there")
        return self.ports[base_port]


class Facts:
    """Reads through.  A change in the inventory counts after REMEMBER_S at the latest."""

    def __init__(self, inventory: Inventory, clock: Callable[[], float] = time.monotonic) -> None:
        self.inventory = inventory
        self.clock = clock
        self.entities: OrderedDict[str, tuple[float, Entity | None]] = OrderedDict()
        self.switches: OrderedDict[str, tuple[float, Switch | str]] = OrderedDict()
        self.of_ports: OrderedDict[str, tuple[float, dict[tuple[str, int], Far]]] = OrderedDict()
        self.first_free: dict[str, int] = {}  # IP manager -> addresses from the start that were all taken

    def forget(self) -> None:
        self.entities.clear()
        self.switches.clear()
        self.of_ports.clear()
        self.first_free.clear()

    def ports(self, path: str) -> dict[tuple[str, int], Far]:
        """Which ports there are; what they are connected to may be old."""
        known = self.of_ports.get(path)
        if known is None or known[0] <= self.clock():
            known = (self.clock() + REMEMBER_S, self.inventory.ports(path))
            remember(self.of_ports, path, known)
        return known[1]

    def entity(self, name: str) -> Entity | None:
        known = self.entities.get(name)
        if known is not None and known[0] > self.clock():
            return known[1]
        found = self.inventory.entity(name)
        remember(self.entities, name, (self.clock() + REMEMBER_S, found))
        return found

    def levels(self, thing: Entity) -> Iterator[list[Entity]]:
        """Direct containers, theirs, and so on; each once, so that a cycle ends."""
        seen, above = {thing.path}, thing.parents
        for _level in range(LEVELS_MAX):
            wanted = sorted({path for path in above if path not in seen}, key=name_of)
            level = [found for path in wanted if (found := self.entity(name_of(path))) is not None]
            if not level:
                return
            seen.update(wanted)
            yield level
            above = [path for container in level for path in container.parents]

    def merged(self, thing: Entity, key: str, subkey: str | None) -> list[Said]:
        """What the most specific level says that says anything; within a level by container name."""
        for level in ([thing], *self.levels(thing)):
            said = [Said(value, each.name) for each in level for value in each.all(key, subkey)]
            if said:
                return said
        return []

    def switch(self, address: str) -> Switch:
        """By one of its addresses.  Raises Waits when there is no such switch, or several."""
        known = self.switches.get(address)
        if known is None or known[0] <= self.clock():
            found = self.read_switch(address)
            known = (self.clock() + REMEMBER_S, found)
            remember(self.switches, address, known)
        if isinstance(known[1], str):
            raise Waits(known[1])
        return known[1]

    def read_switch(self, address: str) -> Switch | str:
        paths = self.inventory.owners_of_address(IPv4Address(address))
        if len(paths) != 1:
            owners = f"belongs to {', '.join(paths)}" if paths else "is bound to nothing in the inventory"
            return f"switch {address}: the address {owners}; wanted one switch; bind it to that one"
        entity = self.inventory.entity(name_of(paths[0]))
        if entity is None:
            return f"switch {address}: {paths[0]} went away while it was read"
        ports = self.port_map(entity, "port_map")
        fault, known = (ports, None) if isinstance(ports, str) else ("", ports)
        found = {numbering: self.port_map(entity, attribute) for numbering, attribute in NUMBERINGS.items()}
        numberings = {numbering: mapped for numbering, mapped in found.items() if mapped is not None}
        paths_of_racks = {path for path in entity.parents if path.startswith("/rack/")}  # clusto names one a unit
        racks = tuple(sorted(paths_of_racks))
        return Switch(entity.path, self.discovery_off(entity), known, fault, racks, numberings)

    def port_map(self, switch: Entity, attribute: str) -> dict[int, int] | str | None:
        """From a numbering of the switch's to clusto's; what is wrong with it; None: nobody has set one."""
        mapped = self.merged(switch, "snmp", attribute)
        if not mapped:
            return None
        try:
            table = parse_map(str(mapped[0].value), single=True, shared=True)
        except MapFault as error:
            return f"switch {switch.name}: snmp {attribute} of {mapped[0].origin}: {error}"
        return {number: ports[0] for number, ports in table.items()}

    def discovery_off(self, switch: Entity) -> str:
        """Why not; empty when the most specific word says on, and nobody beside it says off."""
        said = self.merged(switch, "snmp", "discovery")
        if not said:
            return f"switch {switch.name}: snmp discovery is set neither there nor on a container; set it to 1"
        for each in said:
            word = str(each.value).strip().lower()
            if word not in ON:
                what = "off" if word in OFF else f"{each.value!r}, wanted 1 or 0"
                return f"switch {switch.name}: snmp discovery is {what} ({each.origin})"
        return ""

    def sole_rack(self, switch: Switch) -> Entity:
        """Raises Waits when the switch is in no rack or in several."""
        if len(switch.racks) != 1:
            where = f"racks {', '.join(map(name_of, switch.racks))}" if switch.racks else "no rack"
            raise Waits(f"switch {switch.name} is in {where}; wanted exactly one; correct that in the inventory")
        rack = self.entity(name_of(switch.racks[0]))
        if rack is None:
            raise ClustoError(f"rack {switch.racks[0]} went away while it was read")
        return rack


def remember(memory: OrderedDict[str, T], key: str, value: T) -> None:
    memory[key] = value
    memory.move_to_end(key)
    while len(memory) > REMEMBERED_MAX:
        memory.popitem(last=False)
