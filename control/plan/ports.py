"""The network cards of one object: which there are, which of them are served, and whose an address is.  Pure.

A card is a `port-nic-eth` number with a `mac`; `boot_ports` says which numbers are served.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from control.mac import parse_mac
from control.plan.networks import BadRecord, Manager, quote
from control.sources.model import Address, Thing

FIRST = 1
PORT_MAX = 65535
_SEPARATORS = re.compile(r"[\s,]+")


class Ports(NamedTuple):
    """Which numbers are served.  origin: who said it; "" for the configuration's default."""

    numbers: frozenset[int] | None = frozenset((FIRST,))  # None: all
    origin: str = ""

    def serves(self, number: int) -> bool:
        return self.numbers is None or number in self.numbers

    def __str__(self) -> str:
        return "all" if self.numbers is None else ", ".join(map(str, sorted(self.numbers)))


def configured(said: tuple[int, ...] | str) -> Ports:
    """`dhcp.boot_ports`."""
    numbers = None if isinstance(said, str) else frozenset(said)
    return Ports(numbers, "" if numbers == Ports().numbers else "dhcp.boot_ports")


def parse_ports(subkey: str, values: Iterable[object], origin: str) -> Ports:
    """The values of a `dhcp` attribute: numbers, several in one text too, or "all".  Raises BadRecord."""
    numbers: set[int] = set()
    words: list[str] = []
    for value in values:
        words += [word for word in _SEPARATORS.split(str(value)) if word] if value is not None else []
    for word in words:
        if word.lower() == "all":
            return Ports(None, origin)
        if not (word.isascii() and word.isdecimal() and len(word) < 10 and int(word) >= FIRST):
            raise BadRecord(f"dhcp {subkey} = {quote(word)} of {origin}: wanted numbers of ports such as 1, or all")
        numbers.add(int(word))
    if not numbers:
        raise BadRecord(f"dhcp {subkey} of {origin} is empty: wanted numbers of ports such as 1, or all")
    return Ports(frozenset(numbers), origin)


class Cards(NamedTuple):
    """by_number: MAC -> as it is written, of each port that has any.  faults: of what is no card."""

    by_number: Mapping[int, Mapping[int, str]]
    faults: list[str]


def read_cards(thing: Thing) -> Cards:
    """Port 1 first; of a port with several MACs all."""
    found: dict[int, dict[int, str]] = {}
    faults = []
    for number, text in sorted(thing.macs(), key=lambda each: each[0]):
        mac = parse_mac(text)
        if not FIRST <= number <= PORT_MAX:
            faults.append(
                f"port-nic-eth {number} mac {quote(text)} counts for nothing: ports are counted from 1 to {PORT_MAX}"
            )
        elif mac is None:
            faults.append(f"port-nic-eth {number} mac {quote(text)} is no MAC address of a single card")
        else:
            found.setdefault(number, {})[mac] = text
    return Cards(found, faults)


def port_names(thing: Thing, numbers: Collection[int]) -> dict[int, str]:
    """The operating system's names of some ports: eth0 is the first, where nothing is said."""
    said = {
        number: str(value)
        for number, value in thing.of_ports("osportname")
        if number in numbers and value not in (None, "")
    }
    return {number: said.get(number, f"eth{number - 1}") for number in numbers}


def rank(address: Address, own: str, names: Collection[str], is_taken: bool) -> int | None:
    """How well an address suits a port behind the first, 0 the best; None: it is another port's.

    own: the port's name; names: of all ports that have a card; is_taken: a port before this one is answered with it.
    An address that is said to be nobody's serves all of them: whichever card boots, the server has its address."""
    if address.port_name == own:
        return 0
    if address.port_name in names:
        return None
    return 2 if is_taken else 1


@dataclass(slots=True)
class Port:
    """A served one that wants addresses.  names: of all that have a card; bmc_name: the
    port whose addresses are the BMC's, also where BMCs are not served; taken: what ports before this one are
    answered with; unused: address -> why this port does not use it, None where it has no other ports beside it."""

    number: int
    names: Mapping[int, str]
    bmc_name: str = ""
    taken: Collection[int] = ()
    unused: dict[int, str] | None = None
    bound_elsewhere: list[str] = field(default_factory=list)

    def order(self, usable: Iterable[tuple[Address, int, Manager]]) -> Iterator[tuple[int, Manager]]:
        """Those that it may have, the best first.  The first port has all of them, as they were bound."""
        if self.number == FIRST:
            yield from ((value, manager) for _address, value, manager in usable)
            return
        own, names = self.names[self.number], set(self.names.values())
        ranked: list[list[tuple[int, Manager]]] = [[], [], []]
        for address, value, manager in usable:
            of_bmc = address.port_name == self.bmc_name != own
            at = None if of_bmc else rank(address, own, names, value in self.taken)
            if at is None:
                self.bound_elsewhere.append(f"{address.text} is bound to {address.port_name}")
            else:
                ranked[at].append((value, manager))
        for some in ranked:
            yield from some

    def no_address(self) -> str:
        """Why it has none, although none was refused."""
        if not self.bound_elsewhere:
            return "no address bound"
        return f"no address for port {self.number} ({self.names[self.number]}): {', '.join(self.bound_elsewhere)}"
