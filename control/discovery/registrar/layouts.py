"""A rack's layout as attributes say it: which rack unit, outlet, console port and address a switch port stands for.

Pure: facts in, a Layout or its faults out.  building.py carries it out, docs/discovery.md describes it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from control.discovery.registrar.maps import MapFault, parse_map

KEY: Final = "racklayout"
OWN_KEYS: Final = ("ru_map", "pwr_map")  # may also stand as keys of their own
FIELDS: Final = {
    "ru_map": "switch port -> rack unit(s) of the server behind it",
    "pwr_map": "switch port -> outlet(s) of the power strip",
    "console_map": "switch port -> port of the console server",
    "nic2": "switch port of a second NIC -> switch port of the same server's first",
    "switch": "names of the rack's switches",
    "switch2": "name of the switch for the second NICs, at the same port numbers",
    "power": "names of the power strips; several: one for each power supply",
    "console": "name of the console server",
    "driver": "driver of new servers",
    "ipmanager": "name of the IP manager that addresses are taken from",
    "address": "`free`, or switch port -> number of the address within the network",
    "osport": "port name that the address is bound with",
    "bmc_address": "the same for the BMC's address",
    "bmc_ipmanager": "name of the IP manager that BMCs' addresses are taken from",
    "bmc_osport": "port name that the BMC's address is bound with: dhcp.ipmi_port_name",
    "pools": "pools that new servers are put into",
}
DEFAULTS: Final = {
    "switch": "{rack}-sw1",
    "power": "{rack}-pwr1",
    "console": "{rack}-ts1",
    "ipmanager": "{rack}",
    "osport": "eth0",
    "bmc_ipmanager": "{rack}",
    "bmc_osport": "ipmi",
}
FREE: Final = "free"
_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")


class LayoutFault(ValueError):
    """Everything that is wrong with a layout, in one line."""


@dataclass(frozen=True, slots=True)
class Binding:
    """An address that a server is to get.  address: FREE, or its number within the network."""

    address: int | str
    ipmanager: str
    osport: str
    bmc: bool = False


@dataclass(frozen=True, slots=True)
class Seat:
    """Where the machine behind a switch port belongs.  first_port: the switch port of its first NIC."""

    port: int
    nic: int
    first_port: int
    units: tuple[int, ...]
    outlets: tuple[int, ...]
    console: int | None
    bindings: tuple[Binding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    rack: str
    units: Mapping[int, tuple[int, ...]]
    outlets: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    consoles: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    second: Mapping[int, int] = field(default_factory=dict)
    switches: tuple[str, ...] = ()
    switch2: str = ""
    power: tuple[str, ...] = ()
    console: str = ""
    driver: str = ""
    ipmanager: str = ""
    address: Mapping[int, int] | str | None = None
    osport: str = "eth0"
    bmc_ipmanager: str = ""
    bmc_address: Mapping[int, int] | str | None = None
    bmc_osport: str = "ipmi"
    pools: tuple[str, ...] = ()

    def seat(self, switch: str, port: int) -> Seat:
        """Raises LayoutFault when the layout has no such place."""
        nic, first = 1, port
        if switch == self.switch2:
            nic = 2
        elif switch not in self.switches:
            known = ", ".join([*self.switches, *filter(None, [self.switch2])])
            raise LayoutFault(f"rack {self.rack}: its layout knows {known}, not {switch}; correct racklayout switch")
        elif port in self.second:
            nic, first = 2, self.second[port]
        if first not in self.units:
            raise LayoutFault(f"rack {self.rack}: its ru_map has no switch port {first}; add it, or leave it unused")
        console = self.consoles.get(first)
        return Seat(
            port=port,
            nic=nic,
            first_port=first,
            units=self.units[first],
            outlets=self.outlets.get(first, ()),
            console=console[0] if console else None,
            bindings=tuple(self.bindings(first)),
        )

    def bindings(self, first_port: int) -> Iterator[Binding]:
        for said, ipmanager, osport, bmc in (
            (self.address, self.ipmanager, self.osport, False),
            (self.bmc_address, self.bmc_ipmanager, self.bmc_osport, True),
        ):
            address = said.get(first_port) if isinstance(said, Mapping) else said
            if address is not None:
                yield Binding(address, ipmanager, osport, bmc)

    def strips(self, seat: Seat) -> list[tuple[str, int]]:
        """(power strip, outlet) of each power supply of the machine, in their order."""
        if len(self.power) == 1:
            return [(self.power[0], outlet) for outlet in seat.outlets]
        return [(strip, seat.outlets[0]) for strip in self.power] if seat.outlets else []


def parse_layout(rack: str, said: Mapping[str, str]) -> Layout:
    """said: FIELDS as attributes have them.  Raises LayoutFault naming every fault."""
    faults: list[str] = []
    for name in said.keys() - FIELDS.keys():
        near = difflib.get_close_matches(name, FIELDS, n=1)
        faults.append(f"{name}: unknown; " + (f"did you mean {near[0]}?" if near else f"wanted {', '.join(FIELDS)}"))

    def numbers(name: str, *, single: bool = False) -> dict[int, tuple[int, ...]]:
        if name not in said:
            return {}
        try:
            return parse_map(said[name], single=single)
        except MapFault as fault:
            faults.append(f"{name}: {fault}")
            return {}

    def names(name: str) -> tuple[str, ...]:
        text = said.get(name, DEFAULTS.get(name, ""))
        for placeholder in _PLACEHOLDER.findall(text):
            if placeholder != "rack":
                faults.append(f"{name}: found {{{placeholder}}}; wanted {{rack}} or a plain name")
        return tuple(part for part in re.split(r"[,\s]+", text.replace("{rack}", rack)) if part)

    def sole(name: str) -> str:
        found = names(name)
        if len(found) > 1:
            faults.append(f"{name}: found {len(found)} names; wanted one")
        return found[0] if found else ""

    units = numbers("ru_map")
    if "ru_map" not in said:
        faults.append("ru_map: missing; wanted which rack unit belongs to which switch port, such as 1-20=1-20")

    def addresses(name: str) -> Mapping[int, int] | str | None:
        if said.get(name, FREE) == FREE:
            return said.get(name)
        return {port: found[0] for port, found in numbers(name, single=True).items()}

    second = {port: found[0] for port, found in numbers("nic2", single=True).items()}
    faults += [f"nic2: port {port} is in ru_map as a first NIC, too" for port in sorted(second.keys() & units.keys())]
    strangers = sorted(set(second.values()) - units.keys()) if units else []
    faults += [f"nic2: port {port} on the right is not in ru_map" for port in strangers]
    layout = Layout(
        rack=rack,
        units=units,
        outlets=numbers("pwr_map"),
        consoles=numbers("console_map", single=True),
        second=second,
        switches=names("switch"),
        switch2=sole("switch2"),
        power=names("power"),
        console=sole("console"),
        driver=sole("driver"),
        ipmanager=sole("ipmanager"),
        address=addresses("address"),
        osport=sole("osport"),
        bmc_ipmanager=sole("bmc_ipmanager"),
        bmc_address=addresses("bmc_address"),
        bmc_osport=sole("bmc_osport"),
        pools=names("pools"),
    )
    if faults:
        raise LayoutFault(f"layout of rack {rack}: {'; '.join(faults)}")
    return layout
