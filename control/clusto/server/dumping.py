"""Writes a store into a file that loading.py reads, and names what the format cannot say; clusto/hostfile.py has the
format.

What is loaded from such a file and dumped again is the same file.  What cannot be said whole is left out, for a row
that says half of it would make a later load delete the other half.
"""

import logging
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Final, TextIO

from sqlalchemy import Connection, func, select

from control.clusto.drivers import DRIVERS, POOL_DRIVERS, driver_of
from control.clusto.hostfile import (
    CONTAINER_DRIVERS,
    HOST_DRIVERS,
    PORT_MAX,
    HostRow,
    NetworkRow,
    Numbered,
    OptionValue,
    PoolRow,
    Row,
    is_name,
    is_option,
    normal_mac,
    render_rows,
)
from control.clusto.server.attrs import (
    CONTAINS,
    DATATYPE,
    ID,
    INT,
    KEY,
    NUMBER,
    STRING,
    SUBKEY,
    AttrFilter,
    AttrRow,
    chunked,
    json_value,
    load_rows,
)
from control.clusto.server.reading import (
    ADDRESS_BIAS,
    NIC_KEY,
    Entity,
    Manager,
    Membership,
    entities_of_ids,
    ip_managers,
    memberships,
)
from control.clusto.server.store import Store, attributes, entities

log = logging.getLogger("bootstorm.inventory")

ROWS_PER_PIECE: Final = 1_000
NAMED_MAX: Final = 20
_OPEN_ALREADY: Final = "/dev/std", "/dev/fd/", "/proc/"  # by whoever started us, who would look into the old file

_IN_FILE: Final = POOL_DRIVERS | CONTAINER_DRIVERS
_RACK_UNITS: Final = range(
    int(DRIVERS["basicrack"].properties["minu"]), int(DRIVERS["basicrack"].properties["maxu"]) + 1
)


def dump_file(store: Store, path: Path, on_lost: Callable[[str], None] = log.warning) -> int:
    """Writes networks, containers and hosts as YAML; how many.  on_lost: called with a line a kind of what is missing.

    Raises OSError when the file cannot be written: then what was there before is still there.
    """
    with store.read() as db, _replaced(path) as stream:
        dump = _Dump(db)
        dump.write(stream)
    for line in dump.lost.lines():
        on_lost(f"{path}: {line}")
    return dump.rows


@contextmanager
def _replaced(path: Path) -> Iterator[TextIO]:
    """What is written becomes the file when all of it is on the disk; a device or a pipe is written as it is."""
    try:
        there = path.stat()
    except FileNotFoundError:
        there = None
    if (there is not None and not stat.S_ISREG(there.st_mode)) or os.path.abspath(path).startswith(_OPEN_ALREADY):
        with path.open("w", encoding="utf-8") as stream:
            yield stream
        return
    target = path.resolve()  # a link stays one
    aside = target.with_name(f".bootstorm-dump-{os.getpid()}")
    try:
        aside.unlink(missing_ok=True)
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        with open(fd, "w", encoding="utf-8") as stream:
            if there is not None:
                with suppress(PermissionError):  # not root, and somebody else's file
                    os.fchown(fd, there.st_uid, there.st_gid)
                os.fchmod(fd, stat.S_IMODE(there.st_mode))
            yield stream
            stream.flush()
            os.fsync(fd)
        aside.rename(target)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@dataclass(slots=True)
class _Lost:
    """What the file does not hold: how many objects, by kind."""

    objects: Counter[str] = field(default_factory=Counter)
    attributes: Counter[str] = field(default_factory=Counter)
    with_attributes: int = 0
    memberships: Counter[str] = field(default_factory=Counter)
    addresses: int = 0

    def rows(self, rows: Iterable[AttrRow]) -> None:
        """Left-over attributes of one object."""
        labels = {row[KEY] if row[SUBKEY] is None else f"{row[KEY]}/{row[SUBKEY]}" for row in rows}
        self.attributes.update(labels)
        self.with_attributes += bool(labels)

    def lines(self) -> Iterator[str]:
        for count, what, by_kind in (
            (self.objects.total(), "objects are not in the file", self.objects),
            (self.with_attributes, "objects have attributes that the file does not hold", self.attributes),
            (self.memberships.total(), "memberships are not in the file", self.memberships),
        ):
            if count:
                by_count = sorted(by_kind.items(), key=lambda item: (-item[1], item[0]))
                named = [f"{kind} ({number})" for kind, number in by_count[:NAMED_MAX]]
                more = f" and {len(by_kind) - NAMED_MAX} more kinds" if len(by_kind) > NAMED_MAX else ""
                yield f"{count} {what}: {', '.join(named)}{more}"
        if self.addresses:
            yield f"{self.addresses} addresses are not in the file: in no network of it, in several, or bound twice"


class _Dump:
    def __init__(self, db: Connection) -> None:
        self.db = db
        self.lost = _Lost()
        self.rows = 0
        self.managers: list[Manager] = []

    def write(self, stream: TextIO) -> None:
        ids: dict[str, list[int]] = {"networks": [], "pools": [], "containers": [], "hosts": []}
        for entity_id, name, driver in self.db.execute(
            select(entities.c.id, entities.c.name, entities.c.driver).order_by(entities.c.id)
        ):
            kind = _kind(driver)
            if kind is not None and is_name(name):
                ids[kind].append(entity_id)
            elif driver != "clustometa":
                self.lost.objects[driver if kind is None else f"{driver} with such a name"] += 1
        self.managers = list(self._managers(set(ids["networks"])))
        self._write(stream, "networks", [self._network(manager) for manager in self.managers])
        for kind in ("pools", "containers", "hosts"):
            self._write(stream, kind, self._rows(ids[kind], self._host if kind == "hosts" else self._container))
        self._hidden()

    def _write(self, stream: TextIO, kind: str, rows: Iterable[Row]) -> None:
        stream.write(f"{kind}:")
        piece: list[Row] = []
        empty = True
        for row in rows:
            stream.write("\n" if empty else "")
            empty = False
            piece.append(row)
            self.rows += 1
            if len(piece) == ROWS_PER_PIECE:
                stream.write(render_rows(piece))
                piece.clear()
        stream.write(" []\n" if empty else render_rows(piece) if piece else "")

    def _rows(
        self, ids: Sequence[int], row_of: Callable[[Entity, list[AttrRow], list[Membership]], Row]
    ) -> Iterator[Row]:
        for chunk in chunked(ids, ROWS_PER_PIECE):
            attrs = load_rows(self.db, chunk, AttrFilter())
            containers: dict[int, list[Membership]] = {}
            for membership in memberships(self.db, chunk):
                containers.setdefault(membership.member_id, []).append(membership)
            for entity in entities_of_ids(self.db, chunk):
                yield row_of(entity, attrs[entity.id], containers.get(entity.id, []))

    # One object -------------------------------------------------------------------------------------------------------

    def _managers(self, ids: set[int]) -> Iterator[Manager]:
        """Those with a network of their own: of two with one network every address would be unmanaged."""
        seen = set()
        for manager in ip_managers(self.db):
            ids.discard(manager.entity.id)
            if manager.network is None or manager.network in seen or not is_name(manager.entity.name):
                self.lost.objects["ipmanager without a network of its own"] += 1
            else:
                seen.add(manager.network)
                yield manager
        self.lost.objects.update({"ipmanager without a network of its own": len(ids)} if ids else {})

    def _network(self, manager: Manager) -> NetworkRow:
        network = manager.network
        assert network is not None, manager.entity.name
        gateway = _address_or_none(manager.gateway)
        if gateway is not None and gateway not in network and network.prefixlen < 32:
            gateway = None
        said = {"baseip": str(network.network_address), "netmask": str(network.netmask)}
        if gateway is not None:
            said["gateway"] = str(gateway)
        dhcp, left = _options(load_rows(self.db, [manager.entity.id], AttrFilter())[manager.entity.id])
        self.lost.rows(row for row in left if not _is_property(row, said))
        self._lose_memberships(memberships(self.db, [manager.entity.id]))
        return NetworkRow(where="", name=manager.entity.name, network=network, gateway=gateway, dhcp=dhcp)

    def _container(self, entity: Entity, rows: list[AttrRow], inside: list[Membership]) -> PoolRow:
        dhcp, left = _options(rows)
        defaults = driver_of(entity.driver).properties
        self.lost.rows(row for row in left if not _is_property(row, defaults))
        pools, containers, left_memberships = _places(inside)
        self._lose_memberships(left_memberships)
        return PoolRow(where="", name=entity.name, driver=entity.driver, pools=pools, containers=containers, dhcp=dhcp)

    def _host(self, entity: Entity, rows: list[AttrRow], inside: list[Membership]) -> HostRow:
        dhcp, left = _options(rows)
        cards, portnames, left = _cards(left)
        hostname, left = _only_one(left, "hostname", None, None)
        addresses, osportnames, left = self._addresses(left)
        self.lost.rows(left)
        pools, containers, other = _places(inside)
        units, other = _rack_units(other)
        self._lose_memberships(other)
        return HostRow(
            where="",
            name=entity.name,
            driver=entity.driver,
            mac=cards.pop(1, None),
            addresses=addresses,
            pools=pools,
            dhcp=dhcp,
            hostname=None if hostname is None else hostname[STRING],
            osportnames=osportnames,
            containers=containers,
            rack=units[0].container.name if units else None,
            ru=tuple(sorted({unit.number for unit in units if unit.number is not None})),
            macs=cards,
            portnames=portnames,
        )

    def _addresses(
        self, rows: Iterable[AttrRow]
    ) -> tuple[tuple[IPv4Address, ...], dict[IPv4Address, str], list[AttrRow]]:
        """In the order of their numbers, which decides between two in one network; what else rows say is left."""
        groups: dict[int | None, dict[str | None, AttrRow]] = {}
        left = []
        for row in rows:
            is_part = row[KEY] == "ip" and row[SUBKEY] in (None, "ipstring", "manager", "cidr", "osportname")
            if not is_part or groups.setdefault(row[NUMBER], {}).setdefault(row[SUBKEY], row) is not row:
                left.append(row)
        bound: list[IPv4Address] = []
        osportnames: dict[IPv4Address, str] = {}
        for number in sorted(groups, key=_null_first):
            group = groups[number]
            address = address_of(group)
            if address is None or address in bound or sum(manager.takes(address) for manager in self.managers) != 1:
                self.lost.addresses += 1
                continue
            bound.append(address)
            if "osportname" in group and _is_text(group["osportname"]):
                osportnames[address] = group["osportname"][STRING]
            elif "osportname" in group:
                left.append(group["osportname"])
        return tuple(bound), osportnames, left

    def _lose_memberships(self, left: Iterable[Membership]) -> None:
        self.lost.memberships.update(f"in a {membership.container.type}" for membership in left)

    def _hidden(self) -> None:
        """Attributes whose key begins with _, which load_rows leaves out; memberships are no attributes here."""
        statement = (
            select(attributes.c.key, func.count(attributes.c.entity_id.distinct()))
            .where(attributes.c.key >= "_", attributes.c.key < "`", attributes.c.key != CONTAINS)
            .group_by(attributes.c.key)
        )
        for key, count in self.db.execute(statement):
            self.lost.attributes[key] += count
            self.lost.with_attributes += count


def _kind(driver: str) -> str | None:
    """The list in which objects of a driver stand."""
    if driver == "ipmanager":
        return "networks"
    if driver in HOST_DRIVERS:
        return "hosts"
    return "pools" if driver in POOL_DRIVERS else "containers" if driver in CONTAINER_DRIVERS else None


def _is_property(row: AttrRow, said: Mapping[str, str | int]) -> bool:
    there = row[SUBKEY] == "property" and row[NUMBER] is None
    return there and row[KEY] in said and said[row[KEY]] == json_value(row)


def _is_text(row: AttrRow) -> bool:
    return row[DATATYPE] == "string" and row[STRING] is not None and "\0" not in row[STRING]


def _only_one(
    rows: list[AttrRow], key: str, subkey: str | None, number: int | None
) -> tuple[AttrRow | None, list[AttrRow]]:
    """The one text with this key, subkey and number, if there is exactly one; the others."""
    found = [row for row in rows if (row[KEY], row[SUBKEY], row[NUMBER]) == (key, subkey, number)]
    if len(found) != 1 or not _is_text(found[0]):
        return None, rows
    return found[0], [row for row in rows if row is not found[0]]


def _cards(rows: list[AttrRow]) -> tuple[dict[int, str], dict[int, str], list[AttrRow]]:
    """MACs and names of ports, by number, as far as the file can say them, and what else there is."""
    numbers = {row[NUMBER] for row in rows if row[KEY] == NIC_KEY and row[SUBKEY] == "mac"} - {None}
    macs: dict[int, str] = {}
    names: dict[int, str] = {}
    for number in sorted(number for number in numbers if 1 <= number <= PORT_MAX):
        found, left = _only_one(rows, NIC_KEY, "mac", number)
        mac = normal_mac(found[STRING]) if found is not None else None
        if mac is None or mac in macs.values():
            continue
        macs[number], rows = mac, left
        name, rows = _only_one(rows, NIC_KEY, "osportname", number)
        if name is not None:
            names[number] = name[STRING]
    return macs, names, rows


def _options(rows: Iterable[AttrRow]) -> tuple[dict[str, OptionValue], list[AttrRow]]:
    """The options all of whose values can be said, and what else there is."""
    by_option: dict[str | None, list[AttrRow]] = {}
    left = []
    for row in rows:
        if row[KEY] == "dhcp":
            by_option.setdefault(row[SUBKEY], []).append(row)
        else:
            left.append(row)
    options: dict[str, OptionValue] = {}
    for option, values in by_option.items():
        plain = all(_is_text(row) or (row[DATATYPE] == "int" and row[INT] is not None) for row in values)
        if option is None or not is_option(option) or not plain:
            left += values
            continue
        values.sort(key=lambda row: (*_null_first(row[NUMBER]), row[ID]))
        said = tuple(Numbered(row[NUMBER], json_value(row)) for row in values)
        options[option] = said[0].value if [item.number for item in said] == [None] else said
    return options, left


def _places(inside: Iterable[Membership]) -> tuple[tuple[str, ...], tuple[str, ...], list[Membership]]:
    """Pools and containers (one of a driver) by name, for their order means nothing; and what else it is in."""
    pools: set[str] = set()
    containers: dict[str, str] = {}
    left = []
    for membership in inside:
        name, driver = membership.container.name, membership.container.driver
        if membership.subkey is not None or driver not in _IN_FILE or not is_name(name):
            left.append(membership)
        elif driver in POOL_DRIVERS:
            pools.add(name)
        elif driver_of(driver).container == "place" and containers.setdefault(driver, name) == name:
            continue
        else:
            left.append(membership)
    return tuple(sorted(pools)), tuple(sorted(containers.values())), left


def _rack_units(inside: list[Membership]) -> tuple[list[Membership], list[Membership]]:
    """The units of the first rack, and what else it is in."""
    units = [
        membership
        for membership in inside
        if membership.subkey == "ru" and membership.number in _RACK_UNITS and membership.container.driver == "basicrack"
    ]
    units = [unit for unit in units if unit.container == units[0].container and is_name(unit.container.name)]
    return units, [membership for membership in inside if membership not in units]


def _null_first(number: int | None) -> tuple[bool, int]:
    return number is not None, number or 0


def address_of(group: Mapping[str | None, AttrRow]) -> IPv4Address | None:
    """By its integer; an address that a client of HTTP bound may have nothing but the text."""
    if None in group and group[None][INT] is not None:
        value = group[None][INT] + ADDRESS_BIAS
        return IPv4Address(value) if 0 <= value < 2**32 else None
    return _address_or_none(group["ipstring"][STRING]) if "ipstring" in group else None


def _address_or_none(text: str | None) -> IPv4Address | None:
    try:
        return None if text is None else IPv4Address(text)
    except AddressValueError:
        return None
