"""Files of networks, pools and hosts, YAML or CSV -> rows and back; loading.py brings rows into the store.  Pure.

YAML has `networks`, `pools`, `hosts`.  CSV has tables with a header each, a blank line between: `base,mask,gateway` for
networks, `name,mac,address,pool,dhcp.OPTION...` for hosts; a field takes several addresses or pools.
"""

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError
from typing import Any, Final

import yaml

from control.clusto.drivers import DRIVERS

OptionValue = str | int

_NAME: Final = re.compile(r"[\w.-]{1,128}", re.ASCII)
_MAC: Final = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_OPTION: Final = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)
_INTEGER: Final = re.compile(r"-?\d{1,18}", re.ASCII)


class BadRow(ValueError):
    """A field that cannot be taken: what it is, what came, what was wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRow:
    where: str
    name: str
    network: IPv4Network
    gateway: IPv4Address | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRow:
    where: str
    name: str
    pools: tuple[str, ...] = ()
    dhcp: Mapping[str, OptionValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostRow:
    """mac and addresses are None when the file does not speak of them: then what is there stays."""

    where: str
    name: str
    driver: str = "basicserver"
    mac: str | None = None
    addresses: tuple[IPv4Address, ...] | None = None
    pools: tuple[str, ...] = ()
    dhcp: Mapping[str, OptionValue] = field(default_factory=dict)


@dataclass(slots=True)
class HostFile:
    """Good rows, and one line a bad one."""

    networks: list[NetworkRow] = field(default_factory=list)
    pools: list[PoolRow] = field(default_factory=list)
    hosts: list[HostRow] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.networks) + len(self.pools) + len(self.hosts)


def parse(text: str, name: str) -> HostFile:
    """name: the file's; its ending tells CSV from YAML.  Never raises for what a row says, see HostFile.errors."""
    found = HostFile()
    rows = _csv_rows(text, name) if name.lower().endswith(".csv") else _yaml_rows(text, name, found.errors)
    for kind, where, fields in rows:
        try:
            if kind == "networks":
                found.networks.append(_network(where, fields))
            elif kind == "pools":
                found.pools.append(_pool(where, fields))
            else:
                found.hosts.append(_host(where, fields))
        except BadRow as error:
            found.errors.append(f"{where}: {error}")
    return found


# One row --------------------------------------------------------------------------------------------------------------

_Row = tuple[str, str, dict[str, Any]]


def _network(where: str, fields: dict[str, Any]) -> NetworkRow:
    _only(fields, "name", "base", "mask", "gateway")
    base, mask = fields.get("base"), fields.get("mask")
    try:
        network = IPv4Network(f"{base}/{mask}")
    except (AddressValueError, NetmaskValueError, ValueError) as error:
        raise BadRow(f"base {base!r} and mask {mask!r}: {error}; wanted a network's first address and mask") from error
    gateway = _address("gateway", fields["gateway"]) if fields.get("gateway") else None
    if gateway is not None and gateway not in network:
        raise BadRow(f"gateway {gateway}; wanted one inside {network}")
    name = fields.get("name") or f"net-{str(network.network_address).replace('.', '-')}"
    return NetworkRow(where=where, name=_name(name), network=network, gateway=gateway)


def _pool(where: str, fields: dict[str, Any]) -> PoolRow:
    _only(fields, "name", "pool", "pools", "dhcp")
    return PoolRow(where=where, name=_name(fields.get("name")), pools=_pools(fields), dhcp=_dhcp(fields))


def _host(where: str, fields: dict[str, Any]) -> HostRow:
    _only(fields, "name", "driver", "mac", "address", "addresses", "pool", "pools", "dhcp")
    driver = fields.get("driver") or "basicserver"
    if driver not in DRIVERS or "nic-eth" not in DRIVERS[driver].ports:
        raise BadRow(f"driver {driver!r}; wanted one with network ports, for instance basicserver")
    addresses = None
    if "address" in fields or "addresses" in fields:
        addresses = tuple(_address("address", text) for text in _listed(fields, "address", "addresses"))
    mac = None if fields.get("mac") in (None, "") else _mac(fields["mac"])
    return HostRow(
        where=where,
        name=_name(fields.get("name")),
        driver=driver,
        mac=mac,
        addresses=addresses,
        pools=_pools(fields),
        dhcp=_dhcp(fields),
    )


def _only(fields: Mapping[str, Any], *known: str) -> None:
    for name in fields:
        if name not in known:
            raise BadRow(f"field {name!r}; wanted only {', '.join(known)}")


def _name(value: Any) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise BadRow(f"name {value!r}; wanted up to 128 letters, digits, _ - .")
    return value


def _mac(value: Any) -> str:
    text = str(value).lower().replace("-", ":")
    if not _MAC.fullmatch(text):
        raise BadRow(f"mac {value!r}; wanted six octets like 00:11:22:33:44:55 (in YAML within quotes)")
    return text


def _address(what: str, value: Any) -> IPv4Address:
    try:
        return IPv4Address(value if isinstance(value, str) else "")
    except AddressValueError as error:
        raise BadRow(f"{what} {value!r}; wanted an IPv4 address") from error


def _listed(fields: Mapping[str, Any], one: str, many: str) -> list[Any]:
    """One in `one`, several in `many`; a text may hold several with a blank between."""
    value = fields.get(many, fields.get(one))
    if value is None:
        return []
    return value.split() if isinstance(value, str) else list(value) if isinstance(value, list) else [value]


def _pools(fields: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(_name(name) for name in _listed(fields, "pool", "pools"))


def _dhcp(fields: Mapping[str, Any]) -> dict[str, OptionValue]:
    options = fields.get("dhcp") or {}
    if not isinstance(options, dict):
        raise BadRow(f"dhcp {options!r}; wanted a mapping of option to value")
    for option, value in options.items():
        if not isinstance(option, str) or not _OPTION.fullmatch(option):
            raise BadRow(f"dhcp option {option!r}; wanted a name like tftp_server")
        if not isinstance(value, str | int):
            raise BadRow(f"dhcp option {option}: {value!r}; wanted text or an integer")
    return {option: int(value) if isinstance(value, int) else value for option, value in options.items()}


# Files ----------------------------------------------------------------------------------------------------------------


def _yaml_rows(text: str, name: str, errors: list[str]) -> Iterator[_Row]:
    try:
        document = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        errors.append(f"{name}: not YAML: {error}")
        return
    if not isinstance(document, dict):
        errors.append(f"{name}: {type(document).__name__}; wanted a mapping with networks, pools, hosts")
        return
    for kind, rows in document.items():
        if kind not in ("networks", "pools", "hosts") or not isinstance(rows, list | None):
            errors.append(f"{name}: {kind!r}; wanted lists named networks, pools, hosts")
            continue
        for number, row in enumerate(rows or [], 1):
            if isinstance(row, dict):
                yield kind, f"{name}: {kind} {number} ({row.get('name', row.get('base', '?'))})", row
            else:
                errors.append(f"{name}: {kind} {number}: {row!r}; wanted a mapping")


def _csv_rows(text: str, name: str) -> Iterator[_Row]:
    header: list[str] = []
    reader = csv.reader(io.StringIO(text))
    for values in reader:
        where = f"{name}: line {reader.line_num}"
        if not any(value.strip() for value in values):
            header = []
        elif not header:
            header = [value.strip() for value in values]
        elif "base" in header:
            yield "networks", where, _csv_fields(header, values)
        else:
            kind = "hosts" if {"mac", "address", "addresses"} & set(header) else "pools"
            yield kind, where, _csv_fields(header, values)


def _csv_fields(header: Sequence[str], values: Sequence[str]) -> dict[str, Any]:
    """Empty fields are left out; an option of digits alone is an integer, for CSV cannot tell."""
    fields: dict[str, Any] = {}
    if len(values) > len(header):
        fields[f"column {len(header) + 1}"] = values[len(header)]
    for column, value in zip(header, (value.strip() for value in values), strict=False):
        if column.startswith("dhcp."):
            if value:
                option = int(value) if _INTEGER.fullmatch(value) else value
                fields.setdefault("dhcp", {})[column.removeprefix("dhcp.")] = option
        elif value:
            fields[column] = value
    return fields


def render(found: HostFile) -> str:
    """YAML that parses back to the same rows."""
    document = {
        "networks": [
            _present(
                name=row.name,
                base=str(row.network.network_address),
                mask=str(row.network.netmask),
                gateway=None if row.gateway is None else str(row.gateway),
            )
            for row in found.networks
        ],
        "pools": [_present(name=row.name, pools=list(row.pools), dhcp=dict(row.dhcp)) for row in found.pools],
        "hosts": [
            _present(
                name=row.name,
                driver=row.driver if row.driver != "basicserver" else None,
                mac=row.mac,
                addresses=[str(address) for address in row.addresses or ()],
                pools=list(row.pools),
                dhcp=dict(row.dhcp),
            )
            for row in found.hosts
        ],
    }
    dump: Callable[..., str] = yaml.dump
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    return dump(document, Dumper=dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=2000)


def _present(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in (None, [], {})}
