"""The drivers of clusto 0.7.9 as one table; server/writing.py, server/reading.py and client/classes.py look up types,
ports and rules here.

CLUSTO-HTTPD 1.6 and 1.9.  penguinserver and penguinserver2u come from clusto's contrib, every site has them loaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from control.clusto.errors import Refused

PropertyValue = str | int

_SERVER: Final = {"nic-eth": 2, "pwr-nema-5": 1, "console-serial": 1}
_SERVER_2U: Final = {"nic-eth": 2, "pwr-nema-5": 2, "console-serial": 1}
_SWITCH: Final = {"nic-eth": 48, "pwr-nema-5": 1}
_POWERSTRIP: Final = {"nic-eth": 1, "pwr-nema-5": 24}
_CONSOLE: Final = {"nic-eth": 1, "pwr-nema-5": 1, "console-serial": 24}
_CISCO: Final = {"nic-eth": 48, "pwr-nema-5": 1, "console-serial": 1}
_POWER_TOWER: Final = {"nic-eth": 1, "pwr-nema-5": 32, "console-serial": 1}
_OPENGEAR: Final = {"nic-eth": 1, "pwr-nema-5": 1, "console-serial": 48}
_APPLIANCE: Final = {"nic-eth": 1, "pwr-nema-5": 2, "console-serial": 1}

_NAMES: Final[Mapping[str, PropertyValue]] = {"digits": 2, "basename": "", "leadingZeros": 1, "next": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Driver:
    """One driver: what its entities are, and which rules an insert into them follows (CLUSTO-HTTPD 1.3).

    container: "pool" (member once per pool), "unique_pool" (in one pool of that driver), "exclusive_pool" (in no other
    pool), "place" (in one container of that driver), "rack", or "plain" (a member has no other parent).
    example: of the drivers that clusto's example of a rack factory uses, which not every site has.
    """

    name: str
    type: str
    class_name: str
    ports: Mapping[str, int] = field(default_factory=dict)
    device: bool = False
    rack_units: int = 1
    container: str = "plain"
    properties: Mapping[str, PropertyValue] = field(default_factory=dict)
    example: bool = False


def _device(
    name: str, type_: str, class_name: str, ports: Mapping[str, int], rack_units: int = 1, *, example: bool = False
) -> Driver:
    return Driver(
        name=name, type=type_, class_name=class_name, ports=ports, device=True, rack_units=rack_units, example=example
    )


def _place(name: str, type_: str, class_name: str) -> Driver:
    return Driver(name=name, type=type_, class_name=class_name, container="place")


def _pool(name: str, class_name: str) -> Driver:
    return Driver(name=name, type="pool", class_name=class_name, container=name)


def _manager(name: str, class_name: str, properties: Mapping[str, PropertyValue] | None = None) -> Driver:
    return Driver(name=name, type="resourcemanager", class_name=class_name, properties=properties or {})


DRIVERS: Final[Mapping[str, Driver]] = {
    driver.name: driver
    for driver in (
        _device("basicserver", "server", "BasicServer", _SERVER),
        _device("basicvirtualserver", "server", "BasicVirtualServer", _SERVER),
        _device("penguinserver", "server", "PenguinServer", _SERVER),
        _device("penguinserver2u", "server", "PenguinServer2U", _SERVER_2U, rack_units=2),
        _device("basicnetworkswitch", "networkswitch", "BasicNetworkSwitch", _SWITCH),
        _device("basicpowerstrip", "powerstrip", "BasicPowerStrip", _POWERSTRIP),
        _device("basicconsoleserver", "consoleserver", "BasicConsoleServer", _CONSOLE),
        _device("basicappliance", "appliance", "BasicAppliance", _APPLIANCE),
        _device("device", "generic", "Device", {}),
        Driver(name="entity", type="generic", class_name="Driver"),
        Driver(name="clustometa", type="clustometa", class_name="ClustoMeta"),
        Driver(
            name="basicrack",
            type="rack",
            class_name="BasicRack",
            container="rack",
            properties={"minu": 1, "maxu": 45},
        ),
        _device("cisco2960", "networkswitch", "Cisco2960", _CISCO, example=True),
        _device("cisco3560", "networkswitch", "Cisco3560", _CISCO, example=True),
        _device("cisco4948", "networkswitch", "Cisco4948", _CISCO, example=True),
        _device("powertowerxm", "powerstrip", "PowerTowerXM", _POWER_TOWER, example=True),
        _device("opengearcm4148", "consoleserver", "OpenGearCM4148", _OPENGEAR, example=True),
        Driver(
            name="apcrack",
            type="rack",
            class_name="APCRack",
            container="rack",
            properties={"minu": 1, "maxu": 45},
            example=True,
        ),
        Driver(
            name="equinixdatacenter",
            type="datacenter",
            class_name="EquinixDatacenter",
            container="place",
            example=True,
        ),
        _place("basicdatacenter", "datacenter", "BasicDatacenter"),
        _place("basiccage", "cage", "BasicCage"),
        _place("basiczone", "zone", "BasicZone"),
        _place("location", "location", "Location"),
        _pool("pool", "Pool"),
        _pool("unique_pool", "UniquePool"),
        _pool("exclusive_pool", "ExclusivePool"),
        _manager("resourcemanager", "ResourceManager"),
        _manager("ipmanager", "IPManager", {"netmask": "255.255.255.255"}),
        _manager("simplenamemanager", "SimpleNameManager", _NAMES),
        _manager("simpleentitynamemanager", "SimpleEntityNameManager", _NAMES),
    )
}

TYPES: Final = tuple(sorted({driver.type for driver in DRIVERS.values()}))

POOL_DRIVERS: Final = frozenset(d.name for d in DRIVERS.values() if d.container.endswith("pool"))

PORT_ACTION_TYPES: Final = frozenset({"server", "consoleserver", "networkswitch", "powerstrip"})
"""Types whose URLs have port actions; an appliance has ports and no port actions (CLUSTO-HTTPD 4)."""


def known_type(name: object) -> str:
    """The type itself, or the original's NameError: it calls an unknown type a driver, too."""
    if not isinstance(name, str) or name not in TYPES:  # JSON holds anything
        raise Refused("NameError", f"driver name {name} doesn't exist.")
    return name


def known_driver(name: object) -> str:
    """The driver's name itself, or the original's NameError."""
    if not isinstance(name, str) or name not in DRIVERS:  # JSON holds anything
        raise Refused("NameError", f"driver name {name} doesn't exist.")
    return name


def driver_of(name: str) -> Driver:
    """The table's row; a driver that a plugin of another clusto made gets a plain row without ports."""
    return DRIVERS.get(name) or Driver(name=name, type="generic", class_name=name)
