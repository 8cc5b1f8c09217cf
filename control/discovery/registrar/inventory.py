"""What discovery asks the inventory and what it writes there: single requests, plain answers; registration.py decides.

Each write is a transaction of its own (the original knows no other), so callers order them and read before they write.
Driver classes are of no use here: a site's switches have drivers of its own, and only the inventory knows their ports.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any, Final

from control.clusto.client.api import Api, ClustoError, NoSuchObject, failure, quoted
from control.mac import same_mac, spellings

_ADDRESSABLE: Final = re.compile(r"[\w-]+", re.ASCII)
ADDRESS_BIAS: Final = 2**31  # clusto keeps an address as a signed number (docs/inventory.md)
NIC: Final = "nic-eth"
MEMBER: Final = "_contains"


class DryRun(Exception):
    """A write was asked for while nothing may be written: a fault of ours."""


@dataclass(frozen=True, slots=True)
class Row:
    """One attribute as it is read and written.  relation: the value is the path of another entity."""

    key: str
    value: Any
    subkey: str | None = None
    number: int | None = None
    relation: bool = False

    @property
    def slot(self) -> tuple[str, str | None, int | None]:
        return self.key, self.subkey, self.number

    def parameters(self) -> dict[str, str]:
        """As `setattr` takes them; the datatype follows Python's type."""
        given = {"key": self.key, "value": str(self.value)}
        if self.subkey is not None:
            given["subkey"] = self.subkey
        if self.number is not None:
            given["number"] = str(self.number)
        if self.relation:
            given["datatype"] = "relation"
        elif isinstance(self.value, int):
            given["datatype"] = "int"
        return given


@dataclass(frozen=True, slots=True)
class Step:
    """One change: an action of the inventory and its parameters.

    claimattr: set only where nothing else stands.  The original cannot: with it, who steps has looked before."""

    path: str
    action: str
    parameters: dict[str, str]


def setting(path: str, *rows: Row, claim: bool = False) -> list[Step]:
    return [Step(path, "claimattr" if claim else "setattr", row.parameters()) for row in rows]


def inserting(container: str, member: str, unit: int | None = None) -> Step:
    """unit: of a rack."""
    return Step(container, "insert", {"object": member} | ({} if unit is None else {"ru": str(unit)}))


@dataclass(slots=True)
class Entity:
    """A show document.  rows: its own attributes without the hidden ones, in the inventory's order."""

    path: str
    driver: str
    rows: list[Row] = field(default_factory=list)
    parents: list[str] = field(default_factory=list)
    contents: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return name_of(self.path)

    @property
    def type(self) -> str:
        return self.path.split("/", 2)[1]

    def all(self, key: str, subkey: str | None = None, number: int | None = None) -> list[Any]:
        return [row.value for row in self.rows if row.slot == (key, subkey, number)]

    def one(self, key: str, subkey: str | None = None, number: int | None = None) -> Any:
        return next(iter(self.all(key, subkey, number)), None)

    def numbers(self, key: str, subkey: str, value: Any) -> list[int]:
        """The numbers under which something is said, of a MAC its ports."""
        return [
            row.number
            for row in self.rows
            if (row.key, row.subkey) == (key, subkey)
            and row.number is not None
            and (row.value == value or same_mac(row.value, value))
        ]


@dataclass(frozen=True, slots=True)
class Far:
    """The other end of a port.  path None: nothing is connected, whatever number stands there."""

    path: str | None
    number: int | None


def name_of(path: str) -> str:
    return path.rpartition("/")[2]


class Inventory:
    """One clusto-httpd.  Raises ClustoError; status None or 500 and above: it may work later.

    dry: every write raises DryRun.  in_one: whether to try many attributes in one request, as ours can."""

    def __init__(self, api: Api, *, dry: bool = False, in_one: bool = True) -> None:
        self.api = api
        self.dry = dry
        self.in_one = in_one

    # --- reading -------------------------------------------------------------------------------------------------

    def entity(self, name: str) -> Entity | None:
        try:
            document = self.api.query(f"entity {name!r}", "get_by_name", {"name": name})
        except NoSuchObject:
            return None
        return self._entity(document)

    @staticmethod
    def _entity(document: Mapping[str, Any]) -> Entity:
        rows = _rows(document["attrs"])
        return Entity(document["object"], document["driver"], rows, list(document["parents"]), document["contents"])

    def owners_of_mac(self, mac: str) -> list[str]:
        """Paths of everything that has this MAC on a NIC, as its BMC's, or as one seen on the wire."""
        keys = ((f"port-{NIC}", "mac"), (f"port-{NIC}", "ipmi-mac"), ("bootstrap", "mac"))
        wanted = [{"key": key, "subkey": subkey, "value": text} for key, subkey in keys for text in spellings(mac)]
        return sorted(self.api.entity_paths(attrs=wanted))

    def owners_of_address(self, address: IPv4Address) -> list[str]:
        """Half-bound ones, too."""
        wanted: list[dict[str, Any]] = [
            {"key": "ip", "subkey": "ipstring", "value": str(address)},
            {"key": "ip", "subkey": None, "value": int(address) - ADDRESS_BIAS},
        ]
        return sorted(self.api.entity_paths(attrs=wanted))

    def owners_of_addresses(self, addresses: Iterable[IPv4Address]) -> list[str]:
        wanted = [{"key": "ip", "subkey": "ipstring", "value": str(address)} for address in addresses]
        return self.api.entity_paths(attrs=wanted)

    def rows(self, path: str, key: str) -> list[Row]:
        """Its own attributes of a key, hidden ones too when the key is."""
        return _rows(self._act(path, "attrs", {"key": key})["attrs"])

    def ports(self, path: str) -> dict[tuple[str, int], Far]:
        """Every port that the driver defines.  Raises NoSuchObject for a type without port actions."""
        document = self._act(path, "ports", {})
        return {(port["type"], port["num"]): Far(port["other"] or None, port["othernum"]) for port in document["ports"]}

    def names_with(self, text: str) -> list[str]:
        if not text:
            return [name_of(path) for path in self.api.json("servers", "/server")]
        return [name_of(path) for path in self.api.json(f"names with {text!r}", "/search", {"q": text})]

    # --- writing -------------------------------------------------------------------------------------------------

    def create(self, driver: str, name: str) -> str | None:
        """The new entity's path, or None when the name is taken.  Raises NoSuchDriver."""
        self._may_write(f"create {driver} {name}")
        response = self.api.request("POST", f"/{driver}/{quoted(name)}")
        if response.status_code == 201:
            return str(response.json()["object"])
        if response.status_code == 409:
            return None
        error = failure(f"create {driver} {name}", response, "wanted 201 or 409")
        if response.status_code == 500 and "KeyError" in str(error):
            raise NoSuchDriver(f"the inventory has no driver {driver}: {error}", status=404)
        raise error

    def delete(self, path: str) -> None:
        self._may_write(f"delete {path}")
        response = self.api.request("DELETE", path)
        if response.status_code not in (200, 404):
            raise failure(f"delete {path}", response, "wanted 200 or 404")

    def set(self, path: str, rows: Sequence[Row]) -> None:
        """Each in the place of the one with its key, subkey and number."""
        self.carry_out(setting(path, *rows))

    def carry_out(self, steps: Sequence[Step]) -> None:
        """In this order; all of them or none where the inventory is ours.

        Raises Unclaimed, with nothing done, when something else stands where a step claims, or when whether it does was
        not looked at because we took the inventory for ours."""
        if not steps:
            return
        self._may_write(f"{steps[0].action} {steps[0].path}: {steps[0].parameters}")
        claims = any(step.action == "claimattr" for step in steps)
        if self.in_one and (claims or len(steps) > 1):
            if self._together(steps):
                return
            if claims:
                raise Unclaimed(f"{self.api.url} knows no `together`: look first, then change", status=404)
        for step in steps:
            if step.action == "insert":
                self._insert(step)
            else:
                self._act(step.path, step.action.replace("claim", "set"), step.parameters)

    def _together(self, steps: Sequence[Step]) -> bool:
        for step in steps:
            self._check_addressable(step.path)
        text = json.dumps([{"path": step.path, "action": step.action, **step.parameters} for step in steps])
        response = self.api.request("GET", f"{steps[0].path}/together", {"steps": text})
        if response.status_code == 200:
            return True
        if response.status_code == 409:
            raise Unclaimed(response.text.strip(), status=409)
        if response.status_code != 404 or "Invalid action" not in response.text:
            raise failure(f"{steps[0].path} together {text}", response, "wanted 200")
        self.in_one = False  # the original does not know it
        return False

    def add(self, path: str, row: Row) -> None:
        """Beside what is there already."""
        self._may_write(f"add {row} to {path}")
        self._act(path, "addattr", row.parameters())

    def _insert(self, step: Step) -> None:
        """The original inserts into a rack and answers 500, so only reading tells."""
        try:
            self._act(step.path, "insert", step.parameters)
        except ClustoError as error:
            unit = step.parameters.get("ru")
            if unit is None or error.status != 500:
                raise
            if self.units(step.path).get(int(unit)) != step.parameters["object"]:
                raise

    def units(self, rack: str) -> dict[int, str]:
        """Rack unit -> path of what is in it."""
        return {row.number: row.value for row in self.rows(rack, MEMBER) if row.number is not None}

    # --- requests ------------------------------------------------------------------------------------------------

    def _may_write(self, what: str) -> None:
        if self.dry:
            raise DryRun(f"snmp.dry_run is on, and yet: {what}")

    @staticmethod
    def _check_addressable(path: str) -> None:
        if not _ADDRESSABLE.fullmatch(name_of(path)):
            # The inventory would answer for the entity that is named like the part before the dot.
            raise ClustoError(f"{path}: over HTTP a name has letters, digits, _ and - only; rename it", status=400)

    def _act(self, path: str, action: str, parameters: Mapping[str, str]) -> Any:
        self._check_addressable(path)
        return self.api.json(f"{path} {action} {dict(parameters)}", f"{path}/{action}", parameters)


class Unclaimed(ClustoError):
    """Nothing was changed: somebody else's value stands where ours was to be the first."""


class NoSuchDriver(ClustoError):
    """The inventory cannot make such an entity."""


def _rows(documents: Iterable[Mapping[str, Any]]) -> list[Row]:
    return [Row(d["key"], d["value"], d["subkey"], d["number"], d["datatype"] == "relation") for d in documents]
