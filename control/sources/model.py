"""clusto's JSON -> things with attributes, and who contains whom.  Pure: fetch.py does the I/O, plan/plan.py concludes.

Shapes and quirks: an attribute's `datatype` alone tells a relation (a path) from a string; addresses are groups of `ip`
attributes that share a number; ports are `port-<type>` attributes that share one (docs/inventory.md).
"""

from __future__ import annotations

import enum
import json
import reprlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv6Address
from types import NoneType
from typing import Any, NamedTuple, Protocol

from control.clusto.errors import InventoryDown

_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = 80
_short.maxlevel = 3
BELOW_MAX = 5_000  # objects below a container that somebody asked for by name; 9 ms each at the real daemon
CLUSTO_INT_OFFSET = 1 << 31  # an `ip` int attribute is the address minus this


class InventoryMalformed(ValueError):
    """An answer that is JSON but not what clusto-httpd says; names the place and what stood there."""


class Said(enum.Enum):
    """In place of an attribute's value."""

    UNUSABLE = "a value that cannot be used"  # whoever read it has said why; no wider value counts instead

    def __repr__(self) -> str:
        return str(self.value)

    __str__ = __repr__


class Attribute(NamedTuple):
    key: str
    subkey: str | None
    number: int | None
    value: Any
    datatype: str


class Address(NamedTuple):
    """One bound address as the inventory says it: not checked yet."""

    number: int
    text: str  # dotted quad, or what stands there instead
    manager: str | None  # path
    port_name: str | None
    other: str | None = None  # what the record's number says, when its text says something, too


def is_ipv6(text: Any) -> bool:
    """Of a host with both kinds of addresses, or of an IP manager of that kind: not our affair, and no fault."""
    if not isinstance(text, str) or ":" not in text:
        return False
    try:
        IPv6Address(text.strip())
    except AddressValueError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Thing:
    """Any object of the inventory.  path: /type/name."""

    path: str
    attributes: tuple[Attribute, ...]

    @property
    def name(self) -> str:
        return name_of(self.path)

    def values(self, key: str, subkey: str | None) -> list[Any]:
        return [a.value for a in self.attributes if a.key == key and a.subkey == subkey]

    def first(self, key: str, subkey: str | None) -> Any:
        return next(iter(self.values(key, subkey)), None)

    def of_key(self, key: str) -> list[Attribute]:
        return [a for a in self.attributes if a.key == key]

    def mac(self) -> list[str]:
        """`port-nic-eth` / 1 / `mac`, as written; more than one is a fault of the record."""
        return [
            str(a.value)
            for a in self.attributes
            if a.key == "port-nic-eth" and a.subkey == "mac" and a.number in (1, "1") and a.value is not None
        ]

    def macs(self) -> list[tuple[int, str]]:
        """`port-nic-eth` / N / `mac` of every port: (number, as written)."""
        return [(number, str(value)) for number, value in self.of_ports("mac") if value is not None]

    def of_ports(self, subkey: str) -> Iterator[tuple[int, Any]]:
        """(number, value) of an attribute of Ethernet ports; one without a number is of none."""
        for key, said, number, value, _datatype in self.attributes:
            if key == "port-nic-eth" and said == subkey and number is not None:
                if isinstance(number, int):
                    yield number, value
                elif str(number).isdecimal():
                    yield int(number), value

    def ipmi_mac(self) -> list[str]:
        """`port-nic-eth` / 1 / `ipmi-mac`: of the BMC behind that port, as control or a person recorded it."""
        return [
            str(a.value)
            for a in self.attributes
            if a.key == "port-nic-eth" and a.subkey == "ipmi-mac" and a.number in (1, "1") and a.value is not None
        ]

    def has_mac(self) -> bool:
        """Whether it, or its BMC alone, can ask at all."""
        return bool(self.macs() or self.ipmi_mac())

    def host_name(self) -> str:
        """The attribute `hostname` (any subkey), or else the name."""
        return next((str(a.value) for a in self.attributes if a.key == "hostname" and a.value), self.name)

    def addresses(self) -> list[Address]:
        """In the order of their numbers: the address that was bound first comes first."""
        groups: dict[int, dict[str | None, Any]] = {}
        for key, subkey, number, value, _datatype in self.attributes:
            if key == "ip" and isinstance(number, int):
                if number in groups:
                    groups[number].setdefault(subkey, value)
                else:
                    groups[number] = {subkey: value}
        found = []
        for number, group in sorted(groups.items()):
            text = group.get("ipstring")
            other = dotted(group[None] + CLUSTO_INT_OFFSET) if isinstance(group.get(None), int) else None
            if text is None:
                text, other = other, None
            if text is not None:
                found.append(Address(number, str(text), group.get("manager"), group.get("osportname"), other))
        return found


@dataclass(slots=True)
class Inventory:
    """All that a plan needs, or its frame alone.  parents: path -> paths of its direct containers."""

    things: dict[str, Thing] = field(default_factory=dict)
    parents: dict[str, Sequence[str]] = field(default_factory=dict)
    hosts: list[str] = field(default_factory=list)  # paths of what has a MAC, a card's or its BMC's
    managers: list[str] = field(default_factory=list)  # paths of IP managers
    unread: dict[str, str] = field(default_factory=dict)  # containers and managers that cannot be read -> why
    lost: dict[str, str] = field(default_factory=dict)  # of a look-up: what cannot be read itself -> why
    fresh: set[str] = field(default_factory=set)  # of a look-up: what was read for it, readable or not
    # Of a look-up: path -> addresses that the inventory's answer to "who has this address" says it has; and the
    # addresses, as they are written, that somebody was asked about so.
    claimed: dict[str, set[int]] = field(default_factory=dict)
    asked_about: set[str] = field(default_factory=set)

    def frame(self) -> Inventory:
        """Of a Reading's frame what a look-up of single hosts needs: without the hosts' parents, which are many."""
        parents = {path: self.parents[path] for path in self.things if path in self.parents}
        return Inventory(things=self.things, parents=parents, managers=self.managers)

    def unheard(self) -> Iterator[tuple[str, set[int]]]:
        """Of `claimed`, whoever was not read as he is now, and so cannot say himself what he has."""
        for path, addresses in self.claimed.items():
            if path in self.lost or path in self.unread or path not in self.fresh:
                yield path, addresses

    def doubt(self, thing: Thing) -> str | None:
        """The path of what decides about a thing and cannot be read: nobody may guess what it would have said."""
        if not self.unread:
            return None
        above = next((p for level in self.levels(thing.path) for p in level if p in self.unread), None)
        if above is not None:
            return above
        for address in thing.addresses():
            if is_ipv6(address.text):
                continue
            if address.manager in self.unread:
                return address.manager
            if address.manager is None:  # any could contain it
                other = next((path for path in self.unread if path.startswith("/resourcemanager/")), None)
                if other is not None:
                    return other
        return None

    def levels(self, path: str) -> Iterator[list[str]]:
        return self.levels_above(self.parents.get(path, ()))

    def levels_above(self, parents: Sequence[str]) -> Iterator[list[str]]:
        """Containers level by level, each level by name; each once, so that a cycle of containers ends."""
        seen: set[str] = set()  # without the thing itself: its level depends on its parents alone
        level = parents
        while level:
            level = sorted({p for p in level if p not in seen}, key=lambda p: (name_of(p), p))
            if not level:
                return
            yield level
            seen.update(level)
            level = [parent for p in level for parent in self.parents.get(p, ())]


CONTAINERS = "containers"  # key of the batch of those that are hosts, or have addresses, themselves


@dataclass(slots=True)
class Batch:
    """A part of the inventory, the same part at every read.

    things(): once at most; raises PartLost.  What of `paths` it does not give could not be read, faults says why."""

    key: str
    paths: Sequence[str]  # what it was read for: hosts, and whatever else has addresses
    digest: bytes  # of the content as it came; b"" when it did not
    things: Callable[[], Iterable[Thing]]
    faults: dict[str, list[str]] = field(default_factory=dict)  # name -> what the reader itself found
    where: Callable[[str], str] = lambda _name: ""  # name of a host -> the place of its row, where the source has rows


class PartLost(Exception):
    """A part of the inventory cannot be read although the rest can; the text says what came."""


@dataclass(slots=True)
class Reading:
    """An inventory on its way.  frame: all containers and managers, and everybody's parents; batches: the hosts.

    Never all at once: a million hosts would not fit.  The iterator may raise InventoryDown: then conclude nothing."""

    frame: Inventory
    batches: Iterator[Batch]

    def whole(self) -> Inventory:
        """All of it, for who can afford that.  Raises PartLost."""
        made = Inventory(dict(self.frame.things), dict(self.frame.parents), [], self.frame.managers)
        for batch in self.batches:
            wanted = set(batch.paths)
            # A source may know a host's parents for as long as its batch is the last one.
            made.parents.update((path, self.frame.parents[path]) for path in wanted & self.frame.parents.keys())
            made.things.update((thing.path, thing) for thing in batch.things() if thing.path in wanted)
        made.hosts = sorted(path for path, thing in made.things.items() if thing.has_mac())
        return made


class TooMany(InventoryDown):
    """More than BELOW_MAX objects hang below what somebody asked for by name."""

    def __init__(self) -> None:
        super().__init__(
            f"more than {BELOW_MAX} objects hang below what was asked for; to read them all: ctl refresh without --host"
        )


class Source(Protocol):
    """An inventory, whatever it is behind: fetch.py over HTTP, filesource.py in a file."""

    def read(self) -> Reading:
        """Raises InventoryDown."""

    def read_hosts(self, macs: Iterable[str], names: Iterable[str], frame: Inventory) -> Inventory:
        """Single hosts and who else has one of their addresses, with their containers and managers as they are now.

        macs: lower case with colons.  names: of hosts, or of containers for all that hangs below.  What does not exist
        is not in the answer; what cannot be read is in `lost` and `unread`, and in `claimed` where it was found by an
        address.  Who else has another address of somebody that was read for one is in `claimed` alone.  frame: of the
        last full read, or another answer of the same job: of that nothing is read twice, and names are of objects
        alone.  Raises InventoryDown."""


def shown(value: Any) -> str:
    """For a message: the beginning, however large or deep the whole."""
    return _short.repr(value)[:80]


def as_text(value: Any, where: str) -> str:
    try:
        return json.dumps(value)
    except RecursionError as error:
        raise InventoryMalformed(f"{where}: value: lists within lists without end") from error


def name_of(path: str) -> str:
    """/type/name -> name, which may hold further slashes."""
    return path.split("/", 2)[2]


def dotted(address: int) -> str:
    """A number that is no address is shown as the number: nobody may take it for one."""
    if not 0 <= address < 1 << 32:
        return str(address)
    return ".".join(str(address >> shift & 0xFF) for shift in (24, 16, 8, 0))


def parse_attributes(rows: Any, where: str) -> tuple[Attribute, ...]:
    """A JSON list of attributes.  Raises InventoryMalformed with the place of the first bad one."""
    if not isinstance(rows, list):
        raise InventoryMalformed(f"{where}: found {type(rows).__name__}, wanted a list of attributes")
    parsed = []
    for i, row in enumerate(rows):
        try:
            attribute = Attribute(row["key"], row["subkey"], row["number"], row["value"], row["datatype"])
        except (TypeError, KeyError) as error:
            raise InventoryMalformed(f"{where}[{i}]: found {shown(row)}, wanted an attribute") from error
        if not isinstance(attribute.key, str) or not isinstance(attribute.subkey, (str, NoneType)):
            raise InventoryMalformed(f"{where}[{i}]: key and subkey of {shown(row)}: wanted text")
        if not isinstance(attribute.number, (int, NoneType)):
            raise InventoryMalformed(f"{where}[{i}]: number of {shown(row)}: wanted a whole number or null")
        if isinstance(attribute.value, (list, dict)):  # the original gives the JSON text
            attribute = attribute._replace(value=as_text(attribute.value, f"{where}[{i}]"))
        parsed.append(attribute)
    return tuple(parsed)


def parse_show(body: Any, where: str) -> tuple[Thing, list[str]]:
    """A show document -> the thing and the paths of its contents."""
    if not isinstance(body, dict) or not isinstance(body.get("object"), str):
        raise InventoryMalformed(f"{where}: found {shown(body)}, wanted a show document")
    contents = body.get("contents", [])
    if not isinstance(contents, list) or not all(isinstance(item, str) for item in contents):
        raise InventoryMalformed(f"{where}.contents: wanted a list of paths")
    return Thing(body["object"], parse_attributes(body.get("attrs"), f"{where}.attrs")), contents


def parse_parents(body: Any, where: str) -> list[str]:
    """The paths of a show document's direct containers."""
    parents = body.get("parents", []) if isinstance(body, dict) else None
    return parse_paths(parents, f"{where}.parents")


def parse_members(body: Any, where: str) -> Iterator[Thing]:
    """The `contents` of a show document with prefetched attributes -> things."""
    items = body.get("contents", []) if isinstance(body, dict) else None
    if not isinstance(items, list):
        raise InventoryMalformed(f"{where}: found {shown(body)}, wanted a show document")
    for item in items:
        yield parse_member(item, where)


def parse_member(item: Any, where: str) -> Thing:
    """One of them: {path: {"attrs": [...]}}."""
    if not isinstance(item, dict) or len(item) != 1 or not isinstance(next(iter(item.values())), dict):
        raise InventoryMalformed(f"{where}.contents: found {shown(item)}, wanted {{path: {{attrs}}}}")
    ((path, document),) = item.items()
    return Thing(path, parse_attributes(document.get("attrs"), f"{where}.contents.{path[:200]}"))


def parse_paths(body: Any, where: str) -> list[str]:
    if not isinstance(body, list) or not all(isinstance(item, str) and item.count("/") >= 2 for item in body):
        raise InventoryMalformed(f"{where}: found {shown(body)}, wanted a list of paths")
    return body
