"""What a reader of another server's configuration found: networks, groups, hosts, and notes of what it left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Final, NamedTuple

from control.importers.kinds import Kinds, Said

TEXT_CHARS_MAX, REASON_CHARS_MAX = 160, 400  # of a note: of what stood there, and why it was left out


class Place(NamedTuple):
    """Of a statement.  line: counted from 1."""

    file: str
    line: int


NOWHERE: Final = Place("", 0)


class Note(NamedTuple):
    """One statement that has no counterpart in the host file.

    lost: the new server acts otherwise for it; else it is told for completeness (a log level, a lease file)."""

    place: Place
    text: str
    reason: str
    lost: bool

    def line(self) -> str:
        """FILE:LINE: what it is: what stood there: why, as editors read it."""
        what = "not carried over" if self.lost else "not needed"
        said = f"{self.text}: " if self.text else ""
        return f"{self.place.file}:{self.place.line}: {what}: {said}{self.reason}"


class Unfit(ValueError):
    """Something that cannot be carried over; the text is the reason."""


class Notes:
    """In the order in which they were found; the same of one place once."""

    def __init__(self) -> None:
        self._found: dict[Note, None] = {}

    def lost(self, place: Place, text: str, reason: str) -> None:
        self._found[Note(place, clipped(text), clipped(reason, REASON_CHARS_MAX), True)] = None

    def needless(self, place: Place, text: str, reason: str) -> None:
        self._found[Note(place, clipped(text), clipped(reason, REASON_CHARS_MAX), False)] = None

    def __iter__(self) -> Iterator[Note]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


def clipped(text: str, most: int = TEXT_CHARS_MAX) -> str:
    text = " ".join(text[: most * 4].split())
    return text if len(text) <= most else f"{text[: most - 3]}..."


@dataclass(slots=True)
class Network:
    """said: all that its clients are told beneath their hosts and groups, what is said to the whole site included."""

    place: Place
    network: IPv4Network
    said: Said = field(default_factory=dict)
    shared: str | None = None


@dataclass(slots=True, eq=False)
class Group:
    """What several hosts are told; parent: a wider one."""

    place: Place
    name: str
    said: Said = field(default_factory=dict)
    parent: Group | None = None

    def chain(self) -> Iterator[Group]:
        """The nearest first."""
        group: Group | None = self
        while group is not None:
            yield group
            group = group.parent


@dataclass(slots=True)
class Host:
    """hostname: what is sent as option 12; None: the old server sent none."""

    place: Place
    name: str
    macs: tuple[str, ...]
    addresses: tuple[IPv4Address, ...]
    said: Said = field(default_factory=dict)
    group: Group | None = None
    hostname: str | None = None
    enabled: bool = True


@dataclass(slots=True)
class Site:
    """said: to every host, wherever it is; kept apart from the networks' where the old server lets networks, classes
    and groups count before it (then a reader puts it into Network.said)."""

    kinds: Kinds
    notes: Notes = field(default_factory=Notes)
    networks: list[Network] = field(default_factory=list)
    hosts: list[Host] = field(default_factory=list)
    always: Said = field(default_factory=dict)


class Inside:
    """Which of several networks an address is in, the narrowest; by their prefixes, of which there are few."""

    def __init__(self, networks: Iterable[IPv4Network]) -> None:
        self.by_length: dict[int, dict[int, IPv4Network]] = {}
        for network in networks:
            self.by_length.setdefault(network.prefixlen, {})[int(network.network_address)] = network
        self.lengths = sorted(self.by_length, reverse=True)

    def network(self, address: IPv4Address) -> IPv4Network | None:
        number = int(address)
        for length in self.lengths:
            found = self.by_length[length].get(number & (0xFFFFFFFF << (32 - length)) & 0xFFFFFFFF)
            if found is not None:
                return found
        return None
