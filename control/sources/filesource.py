"""An inventory that is a file: `dhcp.api_url` = file:///etc/bootstorm/hosts.csv, in the format of `inventory load`.

The same things come out as if the file had been loaded into an inventory and read over HTTP, so the same rules decide.
A bad row costs that row and is reported; a file that is no such file, or that changes while it is read, costs nothing.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from itertools import islice

from control.clusto.drivers import DRIVERS
from control.clusto.errors import InventoryDown
from control.clusto.hostfile import (
    KINDS,
    Fault,
    HostRow,
    NetworkRow,
    OptionValue,
    PoolRow,
    Unreadable,
    is_name,
    numbered,
    rows_of,
)
from control.sources.fetch import Progress
from control.sources.file_url import path_in
from control.sources.model import BELOW_MAX, Attribute, Batch, Inventory, Reading, Said, Thing, TooMany, name_of
from control.sources.reasons import Reason

ROWS_A_BATCH = 5_000
BAD_ROWS_NAMED = 100_000  # of one reading; the rest is counted
Row = NetworkRow | PoolRow | HostRow | Fault


class FileSource:
    """progress(stage, done, total) is called while the hosts are read; done and total are rows."""

    def __init__(self, url: str, progress: Progress = lambda *_: None) -> None:
        self.path = path_in(url)
        self.progress = progress
        self.size = 0  # as it was when the reading began
        self.containers: dict[str, str] = {}  # name -> path
        self.frame_faults: dict[str, list[str]] = {}
        self.places: dict[str, str] = {}  # name of a network or container -> the place of its row
        self.named: dict[str, str] = {}
        self.bad_rows, self.bad_rows_named = 0, BAD_ROWS_NAMED

    def read(self) -> Reading:
        self.size = 0
        version = self.version()
        frame, networks = self.read_frame()
        return Reading(frame, self.batches(frame, networks, version))

    def version(self) -> tuple[int, int, int]:
        """Another one is another content."""
        try:
            found = os.stat(self.path)
        except OSError as error:
            raise InventoryDown(f"{self.path}: {error.strerror}") from error
        self.size = self.size or found.st_size
        return found.st_ino, found.st_mtime_ns, found.st_size

    def rows(self, *kinds: str) -> Iterator[Row]:
        try:
            yield from rows_of(self.path, kinds or KINDS, self.heard)
        except OSError as error:
            raise InventoryDown(f"{self.path}: {error.strerror}") from error
        except Unreadable as error:
            raise InventoryDown(str(error)) from error

    def heard(self, count: int) -> None:
        """count: characters read so far.  One that grows as fast as it is read would have no end."""
        self.progress("bytes", count, 0)
        if 0 < self.size < count:
            raise InventoryDown(f"{self.path}: was written to while it was read; once more")

    def lines(self) -> int:
        """How many there are, hosts or not: what progress is measured by."""
        try:
            with self.path.open("rb") as file:
                left = iter(range(self.size, 0, -(1 << 20)))
                return sum(file.read(min(most, 1 << 20)).count(b"\n") for most in left)
        except OSError as error:
            raise InventoryDown(f"{self.path}: {error.strerror}") from error

    def read_frame(self) -> tuple[Inventory, Networks]:
        """First pass: networks and containers.  What two rows describe differently counts as one that cannot be read:
        either may be right, and hosts that depend on it stay as they are served."""
        frame, networks = Inventory(), Networks()
        self.containers = {}
        self.frame_faults, self.places, self.named = {}, {}, {}
        self.bad_rows = 0
        above: dict[str, tuple[str, ...]] = {}
        first: dict[str | IPv4Network, NetworkRow | PoolRow] = {}
        for row in self.rows("networks", "pools", "containers"):
            if isinstance(row, NetworkRow):
                if self.is_second(first, frame, row):
                    continue
                path = path_of("ipmanager", row.name)
                frame.things[path] = Thing(path, manager_attributes(row))
                frame.managers.append(path)
                networks.add(path, int(row.network.network_address), row.network.prefixlen)
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
        return frame, networks

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

    def batches(self, frame: Inventory, networks: Networks, version: tuple[int, int, int]) -> Iterator[Batch]:
        """Second pass.  The parents of a batch's hosts are in the frame for as long as the batch is the last one."""
        if self.frame_faults:
            faults = self.frame_faults
            yield Batch("networks and pools", [], digest_of(faults), lambda: (), faults)
        rows, lines = self.rows("hosts"), self.lines()
        done = 0
        seen: set[int] = set()  # hashes: a million names would not fit
        self.progress("hosts", 0, lines)
        while part := list(islice(rows, ROWS_A_BATCH)):
            yield self.batch(part, done, frame, networks, seen)
            for row in part:
                if isinstance(row, HostRow):
                    frame.parents.pop(path_of(row.driver, row.name), None)
            done += len(part)
            self.progress("hosts", done, lines)
        self.check_unchanged(version)

    def check_unchanged(self, version: tuple[int, int, int]) -> None:
        if self.version() != version:
            raise InventoryDown(f"{self.path}: was written to while it was read; once more")

    def batch(self, part: list[Row], before: int, frame: Inventory, networks: Networks, seen: set[int]) -> Batch:
        hosts: dict[str, HostRow] = {}
        faults: dict[str, list[str]] = {}
        for row in part:
            if isinstance(row, HostRow):
                path = path_of(row.driver, row.name)
                if hash(path) in seen:
                    said = f"{row.where}: this name stands twice in the file"
                    faults.setdefault(row.name, []).append(Reason(said, "twice", line=line_of(row.where)))
                    continue
                seen.add(hash(path))
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

        def things() -> Iterable[Thing]:
            return [Thing(path, host_attributes(row, networks)) for path, row in hosts.items()]

        places: dict[str, str] = {}

        def where(name: str) -> str:
            if not places:
                places.update((row.name, row.where) for row in hosts.values())
            return places.get(name, "")

        return Batch(f"rows from {before + 1}", list(hosts), digest_of((content, faults)), things, faults, where)

    def blame_row(self, faults: dict[str, list[str]], fault: Fault) -> None:
        """On the object that the row is about, or its place where none is known; on the file when there are many."""
        named = getattr(fault.where, "subject", "")
        self.bad_rows += 1
        blamed = self.path.name
        if self.bad_rows <= self.bad_rows_named:
            blamed = named if is_name(named) else str(fault.where) or blamed
        faults.setdefault(blamed, []).append(Reason(fault.text, "bad-row", line=line_of(fault.where)))

    def read_hosts(self, macs: Iterable[str], names: Iterable[str], frame: Inventory) -> Inventory:
        """The rows that are asked for, those below a container that is, and those that have one of their addresses;
        containers and networks as the file has them now, whatever the frame says."""
        self.size = 0
        version = self.version()
        wanted_macs, wanted_names = set(macs), set(names)
        own_frame, networks = self.read_frame()
        above = names_below(own_frame, wanted_names) if not frame.fresh else set[str]()

        def is_wanted(row: HostRow) -> bool:
            return (
                not wanted_macs.isdisjoint(row.cards.values())
                or row.name in wanted_names
                or not above.isdisjoint(above_of(row))
            )

        wanted: set[IPv4Address] = set()
        count = 0
        for row in self.host_rows():
            if is_wanted(row):
                wanted.update(row.addresses or ())
                count += row.name not in wanted_names and wanted_macs.isdisjoint(row.cards.values())
                if count > BELOW_MAX:
                    raise TooMany
        others: set[IPv4Address] = set()
        for path, row in self.first_rows():
            if is_wanted(row) or wanted.intersection(row.addresses or ()):
                own_frame.things[path] = Thing(path, host_attributes(row, networks))
                for name in row.pools:
                    self.name_pool(name, own_frame)
                own_frame.parents[path] = self.paths_of(above_of(row))
                if row.cards:
                    own_frame.hosts.append(path)
                    others.update(row.addresses or ())
        others -= wanted
        # The rows of whoever has one of these are published, too: with no address that is somebody else's.
        for path, row in self.first_rows() if others else ():
            shared = others.intersection(row.addresses or ())
            if shared and path not in own_frame.things:
                own_frame.claimed[path] = set(map(int, shared))
        self.check_unchanged(version)
        own_frame.fresh = set(own_frame.things)
        return own_frame

    def first_rows(self) -> Iterator[tuple[str, HostRow]]:
        """By path; of two of one name the first, as in batch()."""
        seen: set[int] = set()
        for row in self.host_rows():
            path = path_of(row.driver, row.name)
            if hash(path) not in seen:
                seen.add(hash(path))
                yield path, row

    def host_rows(self) -> Iterator[HostRow]:
        for row in self.rows("hosts"):
            if isinstance(row, HostRow):
                yield row


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
