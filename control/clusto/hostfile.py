"""Files of networks, containers and hosts, YAML or CSV -> rows and back; server/loading.py brings rows into the store.
Pure.

YAML has `networks`, `pools`, `containers`, `hosts`.  CSV has tables with a header each, blank lines anywhere:
`base,mask,gateway` for networks, `name,mac,address,pool,dhcp.OPTION...` for hosts; a field takes several addresses or
pools.  Rows are read one by one: a file of a million hosts is never in memory as a whole.
"""

import io
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address, IPv4Network, IPv6Address, NetmaskValueError
from pathlib import Path
from typing import Any, Final, NamedTuple, TextIO

import yaml

from control.clusto.drivers import DRIVERS, POOL_DRIVERS
from control.clusto.rawrows import KINDS, Fault, Heard, Unreadable, check_file, csv_rows, lost, shown, yaml_rows

__all__ = ["KINDS", "Fault", "Unreadable"]

CONTAINER_DRIVERS: Final = frozenset(d.name for d in DRIVERS.values() if d.container in ("place", "rack"))
HOST_DRIVERS: Final = frozenset(d.name for d in DRIVERS.values() if "nic-eth" in d.ports)

_NAME: Final = re.compile(r"[\w.-]{1,128}", re.ASCII)
_USUAL_MAC: Final = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_MAC: Final = re.compile(r"[0-9a-f]{12}")
_OPTION: Final = re.compile(r"\w[\w-]{0,255}", re.ASCII)
_INTEGER: Final = re.compile(r"-?\d{1,18}", re.ASCII)
PORT_MAX: Final = 65_535
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1


class BadRow(ValueError):
    """A field that cannot be taken: what it is, what came, what was wanted."""


class PassedOver(Exception):
    """A row of IPv6, which is another service's."""


class Numbered(NamedTuple):
    """One of several values of an option, with its attribute's number."""

    number: int | None
    value: str | int


OptionValue = str | int | tuple[Numbered, ...] | None
"""What the file says of an option: one value without a number, or all of them; None: what cannot be taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRow:
    where: str
    name: str
    network: IPv4Network
    gateway: IPv4Address | None
    dhcp: Mapping[str, OptionValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRow:
    """A pool or another container; pools and containers: those that it is in itself."""

    where: str
    name: str
    driver: str = "pool"
    pools: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    dhcp: Mapping[str, OptionValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRow:
    """mac, addresses, hostname, rack are None when the file does not speak of them: then what is there stays.

    macs: of the ports behind the first, by number, and portnames: of ports, what the operating system calls them; a
    port that the file does not speak of stays as it is.
    osportnames: of the addresses that have one.  ru: the units of the rack that it takes.
    """

    where: str
    name: str
    driver: str = "basicserver"
    mac: str | None = None
    addresses: tuple[IPv4Address, ...] | None = None
    pools: tuple[str, ...] = ()
    dhcp: Mapping[str, OptionValue] = field(default_factory=dict)
    hostname: str | None = None
    osportnames: Mapping[IPv4Address, str] = field(default_factory=dict)
    containers: tuple[str, ...] = ()
    rack: str | None = None
    ru: tuple[int, ...] = ()
    macs: Mapping[int, str] = field(default_factory=dict)
    portnames: Mapping[int, str] = field(default_factory=dict)

    @property
    def cards(self) -> dict[int, str]:
        """MACs of all ports, by number."""
        return ({1: self.mac} if self.mac is not None else {}) | dict(self.macs)


Row = NetworkRow | PoolRow | HostRow


@dataclass(slots=True)
class HostFile:
    """Good rows, and one line a bad one."""

    networks: list[NetworkRow] = field(default_factory=list)
    pools: list[PoolRow] = field(default_factory=list)
    hosts: list[HostRow] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    containers: list[PoolRow] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.networks) + len(self.pools) + len(self.containers) + len(self.hosts)

    def add(self, row: Row | Fault) -> None:
        if isinstance(row, Fault):
            self.errors.append(row.text)
        elif isinstance(row, NetworkRow):
            self.networks.append(row)
        elif isinstance(row, HostRow):
            self.hosts.append(row)
        elif row.driver in POOL_DRIVERS:
            self.pools.append(row)
        else:
            self.containers.append(row)


def numbered(value: OptionValue) -> tuple[Numbered, ...]:
    """All values of an option, whichever way the file says them; none where it says what cannot be taken."""
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (Numbered(None, value),)


def parse(text: str, name: str) -> HostFile:
    """name: the file's; its ending tells CSV from YAML.  Never raises for what it says, see HostFile.errors."""
    found = HostFile()
    try:
        for row in read_rows(io.StringIO(text), name):
            found.add(row)
    except Unreadable as error:
        found.errors.append(str(error))
    return found


def opened(path: Path) -> TextIO:
    """Whatever it is: a FIFO does not wait for a writer."""
    return open(path, encoding="utf-8-sig", newline="", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))


def rows_of(path: Path, kinds: Collection[str] = KINDS, heard: Heard = lambda _: None) -> Iterator[Row | Fault]:
    """The rows of a file, see read_rows.  Raises OSError, too."""
    with opened(path) as stream:
        check_file(stream, path.name)
        yield from read_rows(stream, path.name, kinds, heard)


def read_rows(
    stream: TextIO, name: str, kinds: Collection[str] = KINDS, heard: Heard = lambda _: None
) -> Iterator[Row | Fault]:
    """Rows of these kinds, in the order of the file; a bad one is a Fault in its place, a bad option of a row one
    before it.

    Raises Unreadable, wherever in the file it turns out that it is none of ours.
    """
    raw = (csv_rows if name.lower().endswith(".csv") else yaml_rows)(stream, name, kinds, heard)
    for item in raw:
        if isinstance(item, Fault):
            yield item
            continue
        yield from rows_in(*item)


def rows_in(kind: str, where: str, fields: dict[str, Any]) -> Iterator[Row | Fault]:
    """One row as it stands there -> its faults, and itself unless it is bad.  kind: of KINDS."""
    faults: list[str] = []
    try:
        row = _ROW_OF[kind](where, fields, faults)
    except PassedOver:
        return
    except BadRow as error:
        yield lost(f"{where}: {error}", where, kind, fields)
        return
    for fault in faults:
        yield Fault(f"{where}: {fault}", where)
    yield row


# One row --------------------------------------------------------------------------------------------------------------


def _network(where: str, fields: dict[str, Any], faults: list[str]) -> NetworkRow:
    _only(fields, "name", "base", "mask", "gateway", "dhcp")
    base, mask = fields.get("base"), fields.get("mask")
    if _is_ipv6(base):
        raise PassedOver
    if not isinstance(base, (str, int)) or not isinstance(mask, (str, int)):
        raise BadRow(f"base {shown(base)} and mask {shown(mask)}; wanted a network's first address and mask")
    try:
        network = IPv4Network(f"{base}/{mask}")
    except (AddressValueError, NetmaskValueError, ValueError) as error:
        raise BadRow(
            f"base {shown(base)} and mask {shown(mask)}: {str(error)[:200]}; wanted a network's first address and mask"
        ) from error
    gateway = _address("gateway", fields["gateway"]) if fields.get("gateway") else None
    if gateway is not None and gateway not in network and network.prefixlen < 32:
        raise BadRow(f"gateway {gateway}; wanted one inside {network}")
    name = fields.get("name") or f"net-{str(network.network_address).replace('.', '-')}"
    return NetworkRow(where=where, name=_name(name), network=network, gateway=gateway, dhcp=_dhcp(fields, faults))


def _pool(where: str, fields: dict[str, Any], faults: list[str]) -> PoolRow:
    return _container(where, fields, faults, POOL_DRIVERS, "pool")


def _place(where: str, fields: dict[str, Any], faults: list[str]) -> PoolRow:
    return _container(where, fields, faults, CONTAINER_DRIVERS, None)


def _container(
    where: str, fields: dict[str, Any], faults: list[str], drivers: Collection[str], default: str | None
) -> PoolRow:
    _only(fields, "name", "driver", "pool", "pools", "container", "containers", "dhcp")
    driver = fields.get("driver") or default
    if not isinstance(driver, str) or driver not in drivers:
        raise BadRow(f"driver {shown(driver)}; wanted one of {', '.join(sorted(drivers))}")
    return PoolRow(
        where=where,
        name=_name(fields.get("name")),
        driver=driver,
        pools=_names(fields, "pool", "pools"),
        containers=_names(fields, "container", "containers"),
        dhcp=_dhcp(fields, faults),
    )


_HOST_FIELDS: Final = (
    *("name", "driver", "mac", "macs", "address", "addresses", "pool", "pools", "dhcp"),
    *("hostname", "container", "containers", "rack", "ru"),
)


def _host(where: str, fields: dict[str, Any], faults: list[str]) -> HostRow:
    _only(fields, *_HOST_FIELDS)
    driver = fields.get("driver") or "basicserver"
    if not isinstance(driver, str) or driver not in HOST_DRIVERS:
        raise BadRow(f"driver {shown(driver)}; wanted one with network ports, for instance basicserver")
    addresses: tuple[IPv4Address, ...] | None = None
    osportnames: dict[IPv4Address, str] = {}
    if "address" in fields or "addresses" in fields:
        said = [_bound_address(item) for item in _listed(fields, "address", "addresses")]
        bound = [item for item in said if item is not None]
        addresses = tuple(address for address, _ in bound)
        osportnames = {address: osportname for address, osportname in bound if osportname is not None}
    macs, portnames = _cards(fields)
    hostname = fields.get("hostname")
    rack, ru = fields.get("rack"), _units(fields)
    if (rack is None) != (not ru):
        raise BadRow(f"rack {shown(rack)} with ru {shown(fields.get('ru'))}; wanted both, or neither")
    return HostRow(
        where=where,
        name=_name(fields.get("name")),
        driver=driver,
        mac=macs.pop(1, None),
        addresses=addresses,
        pools=_names(fields, "pool", "pools"),
        dhcp=_dhcp(fields, faults),
        hostname=None if hostname is None else _text("hostname", hostname),
        osportnames=osportnames,
        containers=_names(fields, "container", "containers"),
        rack=None if rack is None else _name(rack),
        ru=ru,
        macs=macs,
        portnames=portnames,
    )


_ROW_OF: Final[Mapping[str, Callable[[str, dict[str, Any], list[str]], Row]]] = {
    "networks": _network,
    "pools": _pool,
    "containers": _place,
    "hosts": _host,
}


def _only(fields: Mapping[str, Any], *known: str) -> None:
    for name in fields:
        if name not in known:
            raise BadRow(f"field {shown(name)}; wanted only {', '.join(known)}")


def _name(value: Any) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise BadRow(f"name {shown(value)}; wanted up to 128 letters, digits, _ - .")
    return value


def is_name(name: str) -> bool:
    """Whether a row can have that name; a store holds others, too."""
    return _NAME.fullmatch(name) is not None


def is_option(name: str) -> bool:
    return _OPTION.fullmatch(name) is not None


def normal_mac(text: str) -> str | None:
    """Lower case with colons; None when it is no MAC."""
    if _USUAL_MAC.fullmatch(text):
        return text
    digits = re.sub(r"[:.\-\s]", "", text).lower()
    return ":".join(re.findall("..", digits)) if _MAC.fullmatch(digits) else None


def _mac(value: Any) -> str:
    mac = normal_mac(value) if isinstance(value, str) else None
    if mac is None:
        raise BadRow(f"mac {shown(value)}; wanted six octets like 00:11:22:33:44:55 (in YAML within quotes)")
    return mac


def _cards(fields: Mapping[str, Any]) -> tuple[dict[int, str], dict[int, str]]:
    """MACs and names of ports, by number: `mac` is the first port's, `macs` a list from it on, or says the numbers."""
    said = fields.get("macs") or {}
    if isinstance(said, str):
        said = said.split()
    if isinstance(said, list):
        said = dict(enumerate(said, 1))
    if not isinstance(said, dict):
        raise BadRow(f"macs {shown(said)}; wanted a list of MACs, or a mapping of a port's number to its MAC")
    if fields.get("mac") not in (None, ""):
        if 1 in said:
            raise BadRow(f"mac {shown(fields['mac'])} and macs {shown(fields['macs'])}; wanted port 1 in one of them")
        said = {1: fields["mac"], **said}
    macs: dict[int, str] = {}
    names: dict[int, str] = {}
    for number, card in said.items():
        if type(number) is not int or not 1 <= number <= PORT_MAX:
            raise BadRow(f"macs: port {shown(number)}; wanted a number from 1 to {PORT_MAX}, without quotes")
        if isinstance(card, dict):
            _only(card, "mac", "osportname")
            if card.get("osportname") is not None:
                names[number] = _text("osportname", card["osportname"])
            card = card.get("mac")
        mac = _mac(card)
        if mac in macs.values():
            raise BadRow(f"mac {mac} at two ports; wanted it at one")
        macs[number] = mac
    return macs, names


def _text(what: str, value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise BadRow(f"{what} {shown(value)}; wanted a text without NUL")
    return value


def _units(fields: Mapping[str, Any]) -> tuple[int, ...]:
    units = tuple(
        int(unit) if isinstance(unit, str) and _INTEGER.fullmatch(unit) else unit
        for unit in _listed(fields, "ru", "ru")
    )
    known = all(type(unit) is int and _INT_MIN <= unit <= _INT_MAX for unit in units)
    if not known or len(set(units)) != len(units):
        raise BadRow(f"ru {shown(fields['ru'])}; wanted a rack unit, or a list of different ones")
    return units


def _is_ipv6(value: Any) -> bool:
    try:
        return isinstance(value, str) and ":" in value and IPv6Address(value) is not None
    except AddressValueError:
        return False


def _bound_address(value: Any) -> tuple[IPv4Address, str | None] | None:
    """An address, or {address: ..., osportname: ...}; None: of IPv6, which is another service's."""
    if not isinstance(value, dict):
        return None if _is_ipv6(value) else (_address("address", value), None)
    _only(value, "address", "osportname")
    if _is_ipv6(value.get("address")):
        return None
    return _address("address", value.get("address")), _text("osportname", value.get("osportname"))


def _address(what: str, value: Any) -> IPv4Address:
    try:
        return IPv4Address(value if isinstance(value, str) else "")
    except AddressValueError as error:
        raise BadRow(f"{what} {shown(value)}; wanted an IPv4 address") from error


def _listed(fields: Mapping[str, Any], one: str, many: str) -> list[Any]:
    """One in `one`, several in `many`; a text may hold several with a blank between."""
    if one != many and None not in (fields.get(one), fields.get(many)):
        raise BadRow(f"{one} {shown(fields[one])} and {many} {shown(fields[many])}; wanted one of the two fields")
    value = fields.get(many, fields.get(one))
    if value is None:
        return []
    return value.split() if isinstance(value, str) else list(value) if isinstance(value, list) else [value]


def _names(fields: Mapping[str, Any], one: str, many: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_name(name) for name in _listed(fields, one, many)))


def _dhcp(fields: Mapping[str, Any], faults: list[str]) -> dict[str, OptionValue]:
    """A bad option costs that option alone, and is told in `faults`.  Raises BadRow for what names no options."""
    said = fields.get("dhcp") or {}
    if not isinstance(said, dict):
        raise BadRow(f"dhcp {shown(said)}; wanted a mapping of option to value")
    options: dict[str, OptionValue] = {}
    for key, value in said.items():
        option = str(key) if type(key) is int and _INT_MIN <= key <= _INT_MAX else key  # 239: ... is YAML's number
        if not isinstance(option, str) or not _OPTION.fullmatch(option):
            faults.append(f"dhcp option {shown(key)}; wanted a name like tftp_server, or a number")
        elif option in options:
            faults.append(f"dhcp option {option} stands twice; wanted it once, the first counts")
        else:
            options[option] = None
            try:
                options[option] = _option(value)
            except BadRow as error:
                faults.append(f"dhcp option {option}: {error}")
    return options


def _option(value: Any) -> OptionValue:
    if not isinstance(value, list):
        return _option_value(value)
    values = []
    for position, item in enumerate(value):
        if isinstance(item, dict):
            _only(item, "number", "value")
            number = item.get("number")
            if number is not None and (type(number) is not int or not _INT_MIN <= number <= _INT_MAX):
                raise BadRow(f"number {shown(number)}; wanted an integer of 64 bits, or null")
            values.append(Numbered(number, _option_value(item.get("value"))))
        else:
            values.append(Numbered(position, _option_value(item)))
    return tuple(values)


def _option_value(value: Any) -> str | int:
    if isinstance(value, int) and _INT_MIN <= value <= _INT_MAX:
        return int(value)
    if not isinstance(value, str) or "\0" in value:
        raise BadRow(f"{shown(value)}; wanted text or an integer, or a list of them")
    return value


# And back -------------------------------------------------------------------------------------------------------------


def render(found: HostFile) -> str:
    """YAML that parses back to the same rows."""
    lists: tuple[Sequence[Row], ...] = (found.networks, found.pools, found.containers, found.hosts)
    named = zip(KINDS, lists, strict=True)
    return "".join(f"{kind}:\n{render_rows(rows)}" if rows else f"{kind}: []\n" for kind, rows in named)


def render_rows(rows: Iterable[Row]) -> str:
    """Items of one list, to stand after its name and after one another."""
    documents = [_network_fields(row) if isinstance(row, NetworkRow) else _fields(row) for row in rows]
    dump: Callable[..., str] = yaml.dump
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return dump(documents, Dumper=dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=2000)


def _network_fields(row: NetworkRow) -> dict[str, Any]:
    return _present(
        name=row.name,
        base=str(row.network.network_address),
        mask=str(row.network.netmask),
        gateway=None if row.gateway is None else str(row.gateway),
        dhcp={option: _option_fields(value) for option, value in row.dhcp.items()},
    )


def _fields(row: PoolRow | HostRow) -> dict[str, Any]:
    memberships = {"pools": list(row.pools), "containers": list(row.containers)}
    options = {"dhcp": {option: _option_fields(value) for option, value in row.dhcp.items()}}
    if isinstance(row, PoolRow):
        return _present(name=row.name, driver=row.driver if row.driver != "pool" else None, **memberships, **options)
    addresses: list[Any] = [
        {"address": str(address), "osportname": row.osportnames[address]}
        if address in row.osportnames
        else str(address)
        for address in row.addresses or ()
    ]
    named_first = 1 in row.portnames
    cards = {number: mac for number, mac in sorted(row.cards.items()) if number != 1 or named_first}
    return _present(
        name=row.name,
        driver=row.driver if row.driver != "basicserver" else None,
        mac=None if named_first else row.mac,
        macs={
            number: {"mac": mac, "osportname": row.portnames[number]} if number in row.portnames else mac
            for number, mac in cards.items()
        },
        hostname=row.hostname,
        addresses=addresses,
        rack=row.rack,
        ru=row.ru[0] if len(row.ru) == 1 else list(row.ru),
        **memberships,
        **options,
    )


def _option_fields(value: OptionValue) -> Any:
    if not isinstance(value, tuple):
        return value
    if [item.number for item in value] == list(range(len(value))):
        return [item.value for item in value]
    return [{"number": item.number, "value": item.value} for item in value]


def _present(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in (None, [], {})}
