"""clusto's classes over HTTP: Pool, BasicServer, IPManager ...; objects.py and devices.py say what they can do.

    connect("http://127.0.0.1:9996")
    pool = Pool("pxeboot-servers")

Works with the original clusto-httpd and with ours.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from control.clusto.client.api import ClustoError, NoSuchObject, failure, quoted
from control.clusto.client.devices import Device, IPManager, get_ip_manager
from control.clusto.client.objects import (
    Attribute,
    Driver,
    api,
    connect,
    get_by_name,
    get_or_create,
    object_of,
    resolve,
)

__all__ = [
    "APCRack",
    "Attribute",
    "BasicAppliance",
    "BasicCage",
    "BasicConsoleServer",
    "BasicDatacenter",
    "BasicNetworkSwitch",
    "BasicPowerStrip",
    "BasicRack",
    "BasicServer",
    "BasicVirtualServer",
    "BasicZone",
    "Cisco2960",
    "Cisco3560",
    "Cisco4948",
    "ClustoError",
    "ClustoMeta",
    "Device",
    "Driver",
    "EquinixDatacenter",
    "ExclusivePool",
    "IPManager",
    "Location",
    "NoSuchObject",
    "OpenGearCM4148",
    "PenguinServer",
    "PenguinServer2U",
    "Pool",
    "PowerTowerXM",
    "ResourceManager",
    "SimpleEntityNameManager",
    "SimpleNameManager",
    "UniquePool",
    "connect",
    "get",
    "get_by_name",
    "get_entities",
    "get_from_pools",
    "get_ip_manager",
    "get_or_create",
]

_FREE_NAME_TRIES: Final = 1000


class BasicServer(Device):
    driver = "basicserver"


class BasicVirtualServer(Device):
    driver = "basicvirtualserver"


class PenguinServer(Device):
    driver = "penguinserver"


class PenguinServer2U(Device):
    driver = "penguinserver2u"


class BasicNetworkSwitch(Device):
    driver = "basicnetworkswitch"


class BasicPowerStrip(Device):
    driver = "basicpowerstrip"


class Cisco2960(BasicNetworkSwitch):
    driver = "cisco2960"


class Cisco3560(BasicNetworkSwitch):
    driver = "cisco3560"


class Cisco4948(BasicNetworkSwitch):
    driver = "cisco4948"


class PowerTowerXM(BasicPowerStrip):
    """Outlets are called aa1 to aa8, ab1, ba1, bb1 to bb8, from upper left to lower right: 1 to 32."""

    driver = "powertowerxm"

    def port_number(self, portnum: int | str) -> int:
        if not isinstance(portnum, str):
            return portnum
        name = re.fullmatch(r"\.?([ab])([ab])([1-8])", portnum)
        if name is None:
            raise ClustoError(f"{self!r}: no outlet is called {portnum!r}; wanted aa1 to bb8")
        return 16 * (name[1] == "b") + 8 * (name[2] == "b") + int(name[3])


class BasicConsoleServer(Device):
    driver = "basicconsoleserver"


class OpenGearCM4148(BasicConsoleServer):
    driver = "opengearcm4148"


class BasicAppliance(Device):
    driver = "basicappliance"


class ClustoMeta(Driver):
    driver = "clustometa"


class Pool(Driver):
    driver = "pool"


class UniquePool(Driver):
    driver = "unique_pool"


class ExclusivePool(Driver):
    driver = "exclusive_pool"


class BasicDatacenter(Driver):
    driver = "basicdatacenter"


class EquinixDatacenter(BasicDatacenter):
    driver = "equinixdatacenter"


class BasicCage(Driver):
    driver = "basiccage"


class BasicZone(Driver):
    driver = "basiczone"


class Location(Driver):
    driver = "location"


class BasicRack(Driver):
    """Members have rack units: number of `_contains`, subkey `ru` (CLUSTO-HTTPD 1.3)."""

    driver = "basicrack"

    def insert(self, thing: Driver, ru: int | Sequence[int] | None = None) -> None:
        """Into one unit, or into all of a list; the same units again are no error."""
        if ru is None:
            raise ClustoError(f"{self!r}.insert({thing!r}): no ru; wanted a rack unit")
        units = [ru] if isinstance(ru, int) else list(ru)
        taken = self.units()
        if {unit for unit, path in taken.items() if path == thing.path} == set(units):
            return
        if len(units) == 1:
            self._insert_one(thing, units[0])
            return
        self._check_units(thing, units, taken)
        for unit in units:
            if unit in taken:
                continue
            self.add_attr("_contains", thing, subkey="ru", number=unit)

    def _insert_one(self, thing: Driver, unit: int) -> None:
        parameters = {"object": thing.path, "ru": str(unit)}
        response = api().request("GET", f"{self.path}/insert", parameters)
        # The original inserts and answers 500; only reading tells (CLUSTO-HTTPD 8.2).
        if response.status_code != 200 and self.units().get(unit) != thing.path:
            raise failure(f"{self!r}.insert({thing!r}, {unit})", response, "wanted 200 or the device in its unit")

    def _check_units(self, thing: Driver, units: Sequence[int], taken: Mapping[int, str]) -> None:
        """addattr checks nothing, so what the library would is checked here."""
        what = f"{self!r}.insert({thing!r}, {list(units)})"
        said = {attr.key: attr.value for attr in self.attrs(subkey="property")}
        lowest, highest = int(said.get("minu", 1)), int(said.get("maxu", 45))
        for unit in units:
            if not lowest <= unit <= highest:
                raise ClustoError(f"{what}: unit {unit}; wanted {lowest} to {highest}")
            if taken.get(unit, thing.path) != thing.path:
                raise ClustoError(f"{what}: unit {unit} holds {taken[unit]}; wanted a free one")
        # In some of the units already: an insert that was interrupted.
        racks = [path for path in thing.parent_paths() if path.startswith("/rack/") and path != self.path]
        if racks:
            raise ClustoError(f"{what}: is already in {', '.join(racks)}")

    def units(self) -> dict[int, str]:
        """Rack unit -> path of the device in it."""
        return {attr.number: attr.value for attr in self.attrs("_contains", subkey="ru") if attr.number is not None}

    def get_device_in(self, ru: int) -> Driver | None:
        path = self.units().get(ru)
        return None if path is None else get_by_name(path.rpartition("/")[2])


class APCRack(BasicRack):
    driver = "apcrack"


class ResourceManager(Driver):
    driver = "resourcemanager"


class SimpleNameManager(Driver):
    driver = "simplenamemanager"


class SimpleEntityNameManager(Driver):
    """Makes entities with names counted up (CLUSTO-HTTPD 1.8)."""

    driver = "simpleentitynamemanager"

    def __init__(
        self,
        name: str,
        basename: str | None = None,
        digits: int | None = None,
        startingnum: int | None = None,
        leadingZeros: bool | None = None,
    ) -> None:
        given = {"basename": basename, "digits": digits, "next": startingnum, "leadingZeros": leadingZeros}
        super().__init__(name, **{key: value for key, value in given.items() if value is not None})

    def allocate(self, wanted: type[Driver]) -> Driver:
        """The next entity, of that class; over the original, which cannot, the first free name from there on."""
        response = api().request("POST", f"{self.path}/allocate", form={"driver": wanted.driver})
        if response.status_code == 201:
            return object_of(response.json())
        # Not the original's "may only create objects": the manager refused.
        if response.status_code != 400:
            raise failure(f"{self!r}.allocate({wanted.__name__})", response, "wanted 201")
        return self._allocate_by_trying(wanted)

    def _allocate_by_trying(self, wanted: type[Driver]) -> Driver:
        said = {attr.key: attr.value for attr in self.attrs(subkey="property")}
        base, digits = str(said.get("basename", "")), int(said.get("digits", 2))
        pattern = re.compile(re.escape(base) + r"(\d+)")
        paths = api().json(f"{self!r}: names with {base!r}", "/search", {"q": base})
        used = [int(found[1]) for path in paths if (found := pattern.fullmatch(path.rpartition("/")[2]))]
        first = max([int(said.get("next", 1)), *(number + 1 for number in used)])
        for number in range(first, first + _FREE_NAME_TRIES):
            name = f"{base}{number:0{digits}d}" if said.get("leadingZeros", 1) else f"{base}{number}"
            response = api().request("POST", f"/{wanted.driver}/{quoted(name)}")
            if response.status_code == 201:
                return object_of(response.json())
            if response.status_code != 409:
                raise failure(f"{self!r}.allocate: {name}", response, "wanted 201 or 409")
        raise ClustoError(f"{self!r}.allocate: {_FREE_NAME_TRIES} names from {base}{first} on are taken")


def get_entities(
    *,
    names: Sequence[str] | None = None,
    clusto_types: Sequence[str] | None = None,
    clusto_drivers: Sequence[str] | None = None,
    attrs: Sequence[Mapping[str, Any]] | None = None,
) -> list[Driver]:
    """Entities; parameters are ANDed, entries of attrs ORed, values count with their types (CLUSTO-HTTPD 6)."""
    return resolve(
        api().entity_paths(names=names, clusto_types=clusto_types, clusto_drivers=clusto_drivers, attrs=attrs)
    )


def get(name: str) -> list[Driver]:
    """By name, serial, IPv4 address or MAC; NoSuchObject when nothing is known that way."""
    return [object_of(document) for document in api().query(f"entity {name!r}", "get", {"name": name})]


def get_from_pools(pools: Iterable[Pool | str], clusto_types: Iterable[str] = ()) -> list[Driver]:
    """Members at all depths that every pool has."""
    names = ",".join(pool if isinstance(pool, str) else pool.name for pool in pools)
    parameters = {"pools": names}
    if types := ",".join(clusto_types):
        parameters["types"] = types
    return resolve(api().query(f"members of {names}", "get_from_pools", parameters))
