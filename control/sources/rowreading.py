"""Rows of a host file's format -> the things, containers and networks of an inventory, wherever the rows come from.

A reading is one pass over them, and has its own names: a look-up that reads meanwhile has others.  A bad row costs that
row and is reported.
"""

from __future__ import annotations

import hashlib
import zlib
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network

from control.clusto.drivers import DRIVERS
from control.clusto.hostfile import Fault, HostRow, NetworkRow, OptionValue, PoolRow, is_name, numbered
from control.sources.model import BELOW_MAX, Attribute, Batch, Inventory, Said, Thing, TooMany, name_of
from control.sources.reasons import Reason

BAD_ROWS_NAMED = 100_000  # of one reading; the rest is counted
Row = NetworkRow | PoolRow | HostRow | Fault
HostRows = Callable[[Collection[str]], Iterable[HostRow]]
"""Of the rows of hosts at least those that say one of these words: a MAC, an address, a name.  The same each time."""


@dataclass(frozen=True, slots=True)
class Outline:
    """Of a batch without faults what has to be known while its rows are the same: making it of them costs ten times as
    much.  paths: of its hosts, packed.  above: names of (pools, other containers); which: of these, for each host."""

    digest: bytes
    paths: bytes
    above: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
    which: array[int]


class RowReading:
    """title: of the source, for what is blamed on all of it.  bad_rows_named: so many faults are told by their rows."""

    def __init__(self, title: str, bad_rows_named: int) -> None:
        self.title = title
        self.containers: dict[str, str] = {}  # name -> path
        self.frame_faults: dict[str, list[str]] = {}
        self.places: dict[str, str] = {}  # name of a network or container -> the place of its row
        self.named: dict[str, str] = {}
        self.networks = Networks()
        self.seen: set[int] = set()  # hashes of hosts' paths: a million of these would not fit
        self.outline: Outline | None = None  # of the last batch
        self.bad_rows, self.bad_rows_named = 0, bad_rows_named

    def read_frame(self, rows: Iterable[Row]) -> Inventory:
        """Networks and containers.  What two rows describe differently counts as one that cannot be read: either may
        be right, and hosts that depend on it stay as they are served."""
        frame = Inventory()
        above: dict[str, tuple[str, ...]] = {}
        first: dict[str | IPv4Network, NetworkRow | PoolRow] = {}
        for row in rows:
            if isinstance(row, NetworkRow):
                if self.is_second(first, frame, row):
                    continue
                path = path_of("ipmanager", row.name)
                frame.things[path] = Thing(path, manager_attributes(row))
                frame.managers.append(path)
                self.networks.add(path, int(row.network.network_address), row.network.prefixlen)
            elif isinstance(row, PoolRow):
                if self.is_second(first, frame, row):
                    continue
                path = self.containers[row.name] = path_of(row.driver, row.name)
                frame.things[path] = Thing(path, dhcp_attributes(row.dhcp))
                above[path] = above_of(row)
                for name in row.pools:
                    self.name_pool(name, frame, row.where)
            elif isinstance(row, Fault):
                self.blame_row(self.frame_faults, row)
                self.lose(row, frame)
        frame.parents |= {path: self.paths_of(names) for path, names in above.items()}
        return frame

    def is_second(
        self, first: dict[str | IPv4Network, NetworkRow | PoolRow], frame: Inventory, row: NetworkRow | PoolRow
    ) -> bool:
        """Whether another row is about the same.  first: by path, name of a container, network, the rows so far."""
        keys: list[str | IPv4Network] = [row.name]
        if isinstance(row, NetworkRow):
            keys = [path_of("ipmanager", row.name), row.network]
        other = next((first[key] for key in keys if key in first), None)
        if other is None:
            first.update(dict.fromkeys(keys, row))
            self.places.setdefault(row.name, row.where)
            return False
        what = f"{row.name} ({row.network})" if isinstance(row, NetworkRow) else row.name
        said = f"{row.where}: {what} is also at {other.where}; wanted one row"
        self.frame_faults.setdefault(row.name, []).append(Reason(said, "twice", line=line_of(row.where)))
        if replace(row, where=other.where) != other:
            path = path_of("ipmanager" if isinstance(other, NetworkRow) else other.driver, other.name)
            frame.unread[path] = f"{what} is at {row.where} and at {other.where}; wanted one row"
        return True

    def lose(self, fault: Fault, frame: Inventory) -> None:
        """Nobody knows what a container says whose row is lost: who depends on it stays as he is served."""
        if fault.kind in ("pools", "containers") and is_name(fault.name):
            path = path_of(fault.driver if fault.driver in DRIVERS else "pool", fault.name)
            path = self.containers.setdefault(fault.name, path)
            frame.things.setdefault(path, Thing(path, ()))
            frame.unread[path] = fault.text

    def name_pool(self, name: str, frame: Inventory, where: str = "") -> None:
        """A pool that is only named is one.  where: the row that names it."""
        if name not in self.containers:
            self.named.setdefault(name, where)
            path = self.containers[name] = path_of("pool", name)
            frame.things[path] = Thing(path, ())

    def only_named(self) -> dict[str, str]:
        """Pools without a row of their own, with the place of the first row that names each."""
        return {name: where for name, where in self.named.items() if name not in self.places}

    def paths_of(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Of containers; one that nobody described is as good as none, the row's fault says so."""
        return tuple(self.containers[name] for name in names if name in self.containers)

    def parents_of(self, row: HostRow, faults: dict[str, list[str]]) -> tuple[str, ...]:
        names = above_of(row)
        for name in names:
            if name not in self.containers:
                said = f"{row.where}: container {name}: wanted one that has a row"
                faults.setdefault(row.name, []).append(Reason(said, "unknown-container", line=line_of(row.where)))
        return self.paths_of(names)

    def batch_of_frame(self) -> Iterator[Batch]:
        """What is wrong with networks and containers."""
        if self.frame_faults:
            faults = self.frame_faults
            yield Batch("networks and pools", [], digest_of(faults), lambda: (), faults)

    def batch(self, key: str, part: Iterable[Row], frame: Inventory) -> Batch:
        """The parents of its hosts come into the frame; forget() takes them out again."""
        hosts: dict[str, HostRow] = {}
        faults: dict[str, list[str]] = {}
        for row in part:
            if isinstance(row, HostRow):
                path = path_of_host(row)
                if hash(path) in self.seen:
                    said = f"{row.where}: this name stands twice in the file"
                    faults.setdefault(row.name, []).append(Reason(said, "twice", line=line_of(row.where)))
                    continue
                self.seen.add(hash(path))
                hosts[path] = row
                for name in row.pools:
                    self.name_pool(name, frame, row.where)
                frame.parents[path] = self.parents_of(row, faults)
            elif isinstance(row, Fault):
                self.blame_row(faults, row)
        content = [
            (
                path,
                row.cards,
                row.portnames,
                tuple(map(int, row.addresses or ())),
                row.hostname,
                dict(row.dhcp),
                {int(address): name for address, name in row.osportnames.items()},
            )
            for path, row in hosts.items()
        ]
        digest = digest_of((content, faults))
        self.outline = outline_of(hosts, digest) if not faults else None

        def things() -> Iterable[Thing]:
            return [Thing(path, host_attributes(row, self.networks)) for path, row in hosts.items()]

        return Batch(key, list(hosts), digest, things, faults, places_in(hosts.values))

    def batch_again(
        self, key: str, known: Outline, rows: Callable[[], Iterable[Row]], frame: Inventory
    ) -> Batch | None:
        """As batch() makes it of the rows that `known` is of, which are read only if somebody wants them.

        None: now something is wrong with them."""
        above = []
        for pools, others in known.above:
            if not self.containers.keys() >= set(others):
                return None
            for name in pools:
                self.name_pool(name, frame)
            above.append(self.paths_of(tuple(dict.fromkeys((*pools, *others)))))
        paths = zlib.decompress(known.paths).decode().split("\n")
        frame.parents.update((path, above[at]) for path, at in zip(paths, known.which, strict=True))

        def hosts() -> Iterable[HostRow]:
            return (row for row in rows() if isinstance(row, HostRow))

        def things() -> Iterable[Thing]:
            return (Thing(path_of_host(row), host_attributes(row, self.networks)) for row in hosts())

        return Batch(key, paths, known.digest, things, where=places_in(hosts))

    @staticmethod
    def forget(batch: Batch, frame: Inventory) -> None:
        """Once the next batch is made: the parents of a million hosts would be as large as the hosts."""
        for path in batch.paths:
            frame.parents.pop(path, None)

    def blame_row(self, faults: dict[str, list[str]], fault: Fault) -> None:
        """On the object that the row is about, or its place where none is known; on the file when there are many."""
        named = getattr(fault.where, "subject", "")
        self.bad_rows += 1
        blamed = self.title
        if self.bad_rows <= self.bad_rows_named:
            blamed = named if is_name(named) else str(fault.where) or blamed
        faults.setdefault(blamed, []).append(Reason(fault.text, "bad-row", line=line_of(fault.where)))

    def find_hosts(self, rows: HostRows, asked: tuple[set[str], set[str]], frame: Inventory, below: bool) -> Inventory:
        """The rows that are asked for, those below a container that is, and those that have one of their addresses.

        asked: MACs, and names.  frame: of this reading; it becomes the answer.  below: names may be of containers.
        Raises TooMany."""
        macs, names = asked
        above = names_below(frame, names) if below else set[str]()

        def is_wanted(row: HostRow) -> bool:
            return not macs.isdisjoint(row.cards.values()) or row.name in names or not above.isdisjoint(above_of(row))

        words = {*macs, *names, *above}
        wanted: set[IPv4Address] = set()
        count = 0
        for row in rows(words):
            if is_wanted(row):
                wanted.update(row.addresses or ())
                count += row.name not in names and macs.isdisjoint(row.cards.values())
                if count > BELOW_MAX:
                    raise TooMany
        others: set[IPv4Address] = set()
        for path, row in first_rows(rows(words | set(map(str, wanted)))):
            if is_wanted(row) or wanted.intersection(row.addresses or ()):
                frame.things[path] = Thing(path, host_attributes(row, self.networks))
                for name in row.pools:
                    self.name_pool(name, frame)
                frame.parents[path] = self.paths_of(above_of(row))
                if row.cards:
                    frame.hosts.append(path)
                    others.update(row.addresses or ())
        others -= wanted
        # The rows of whoever has one of these are published, too: with no address that is somebody else's.
        for path, row in first_rows(rows(set(map(str, others)))) if others else ():
            shared = others.intersection(row.addresses or ())
            if shared and path not in frame.things:
                frame.claimed[path] = set(map(int, shared))
        frame.fresh = set(frame.things)
        return frame


def outline_of(hosts: Mapping[str, HostRow], digest: bytes) -> Outline:
    above: dict[tuple[tuple[str, ...], tuple[str, ...]], int] = {}
    which = array("I")
    for row in hosts.values():
        which.append(above.setdefault((row.pools, above_of(row)[len(row.pools) :]), len(above)))
    return Outline(digest, zlib.compress("\n".join(hosts).encode(), 1), tuple(above), which)


def places_in(hosts: Callable[[], Iterable[HostRow]]) -> Callable[[str], str]:
    """As Batch.where; nobody asks for it in a service."""
    places: dict[str, str] = {}

    def where(name: str) -> str:
        if not places:
            places.update((row.name, row.where) for row in hosts())
        return places.get(name, "")

    return where


def first_rows(rows: Iterable[HostRow]) -> Iterator[tuple[str, HostRow]]:
    """By path; of two of one path the first, as in batch()."""
    seen: set[int] = set()
    for row in rows:
        path = path_of_host(row)
        if hash(path) not in seen:
            seen.add(hash(path))
            yield path, row


def names_below(frame: Inventory, names: Iterable[str]) -> set[str]:
    """Of containers: these, and those that are in one of them, at any depth."""
    below = set(names)
    inside: dict[str, list[str]] = {}
    for path, parents in frame.parents.items():
        for parent in parents:
            inside.setdefault(name_of(parent), []).append(name_of(path))
    todo = list(below)
    while todo:
        more = [name for name in inside.get(todo.pop(), ()) if name not in below]
        below.update(more)
        todo += more
    return below


def line_of(where: str) -> int:
    """0: not known."""
    return int(getattr(where, "line", 0))


def digest_of(content: object) -> bytes:
    return hashlib.blake2b(repr(content).encode("utf-8", "backslashreplace"), digest_size=16).digest()


class Networks:
    """Which IP managers contain an address."""

    def __init__(self) -> None:
        self.by_prefix: dict[int, dict[int, list[str]]] = {}

    def add(self, path: str, first: int, prefix: int) -> None:
        self.by_prefix.setdefault(prefix, {}).setdefault(first >> (32 - prefix), []).append(path)

    def containing(self, address: int) -> list[str]:
        return [
            path for prefix, networks in self.by_prefix.items() for path in networks.get(address >> (32 - prefix), ())
        ]


def above_of(row: PoolRow | HostRow) -> tuple[str, ...]:
    """Names of the containers that a row is in, each once."""
    rack = (row.rack,) if isinstance(row, HostRow) and row.rack is not None else ()
    return tuple(dict.fromkeys((*row.pools, *row.containers, *rack)))


def path_of(driver: str, name: str) -> str:
    return f"/{DRIVERS[driver].type}/{name}"


def path_of_host(row: HostRow) -> str:
    """Whoever is told apart by an id has it in front of the name: names may be shared then."""
    told_apart = getattr(row.where, "id", "")
    return f"/{DRIVERS[row.driver].type}:{told_apart}/{row.name}" if told_apart else path_of(row.driver, row.name)


def manager_attributes(row: NetworkRow) -> tuple[Attribute, ...]:
    said = [("baseip", str(row.network.network_address)), ("netmask", str(row.network.netmask))]
    if row.gateway is not None:
        said.append(("gateway", str(row.gateway)))
    of_itself = (Attribute(key, "property", None, value, "string") for key, value in said)
    return (*of_itself, *dhcp_attributes(row.dhcp))


def dhcp_attributes(options: Mapping[str, OptionValue]) -> tuple[Attribute, ...]:
    unusable = (Attribute("dhcp", subkey, None, Said.UNUSABLE, "") for subkey, said in options.items() if said is None)
    return tuple(
        Attribute("dhcp", subkey, number, value, "int" if isinstance(value, int) else "string")
        for subkey, said in options.items()
        for number, value in numbered(said)
    ) + tuple(unusable)


def host_attributes(row: HostRow, networks: Networks) -> tuple[Attribute, ...]:
    found = []
    for number, mac in row.cards.items():
        found.append(Attribute("port-nic-eth", "mac", number, mac, "string"))
        if number in row.portnames:
            found.append(Attribute("port-nic-eth", "osportname", number, row.portnames[number], "string"))
    if row.hostname is not None:
        found.append(Attribute("hostname", None, None, row.hostname, "string"))
    for number, address in enumerate(row.addresses or ()):
        found.append(Attribute("ip", "ipstring", number, str(address), "string"))
        managers = networks.containing(int(address))
        if len(managers) == 1:
            found.append(Attribute("ip", "manager", number, managers[0], "relation"))
        if address in row.osportnames:
            found.append(Attribute("ip", "osportname", number, row.osportnames[address], "string"))
    return (*found, *dhcp_attributes(row.dhcp))
