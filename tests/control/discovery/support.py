"""A small datacenter in the real embedded inventory, over HTTP, and registrations that may be cut off anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from sqlalchemy import select

from control.clusto import client
from control.clusto.client import (
    BasicConsoleServer,
    BasicDatacenter,
    BasicNetworkSwitch,
    BasicPowerStrip,
    BasicRack,
    IPManager,
    Pool,
    SimpleEntityNameManager,
    connect,
)
from control.clusto.client.api import Api
from control.clusto.server.store import Store, attributes, entities
from control.discovery.jobs import Outcome, Work
from control.discovery.registrar.factories import Factories
from control.discovery.registrar.facts import Facts
from control.discovery.registrar.inventory import Inventory
from control.discovery.registrar.names import Names
from control.discovery.registrar.registration import Registration
from tests.control.clusto.support import new_store, running

LAYOUT = {
    "ru_map": "1-20=1-20",
    "pwr_map": "1-20=1-20",
    "console_map": "1-20=1-20",
    "nic2": "21-40=1-20",
    "ipmanager": "net-{rack}",
    "address": "free",
    "pools": "pxeboot",
}
MAC = "00:11:22:33:44:55"
MACS = [f"52:54:00:00:00:{number:02x}" for number in range(60)]
Snapshot = dict[str, tuple[str, list[Any]]]


@contextmanager
def inventory(folder: Path) -> Iterator[tuple[Store, str]]:
    """A store and the URL of its server; connected, empty."""
    store = new_store(folder)
    with running(store) as url:
        connect(url)
        yield store, url


def make_site(racks: int = 1, layout: Mapping[str, str] | None = None) -> None:
    """Racks r1, r2 ... in datacenter dc; each with a switch at 10.0.0.N, power strip, console server and a network."""
    IPManager("mgmt", baseip="10.0.0.0", netmask="255.255.0.0")
    SimpleEntityNameManager("servernames", basename="s", digits=4, startingnum=1)
    dc = BasicDatacenter("dc")
    dc.set_attr("snmp", 1, subkey="discovery")
    pool = Pool("pxeboot")
    pool.set_attr("dhcp", 1, subkey="enabled")
    for name, value in (LAYOUT if layout is None else layout).items():
        dc.set_attr("racklayout", value, subkey=name)
    for number in range(1, racks + 1):
        make_rack(dc, number)


def make_rack(dc: BasicDatacenter, number: int) -> None:
    name = f"r{number}"
    rack = BasicRack(name)
    dc.insert(rack)
    high, low = divmod(number, 200)
    net = f"10.{100 + high}.{low}"
    IPManager(f"net-{name}", baseip=f"{net}.0", netmask="255.255.255.0", gateway=f"{net}.1")
    switch = BasicNetworkSwitch(f"{name}-sw1")
    switch.bind_ip(switch_address(number))
    rack.insert(switch, 40)
    rack.insert(BasicPowerStrip(f"{name}-pwr1"), 41)
    rack.insert(BasicConsoleServer(f"{name}-ts1"), 42)


def switch_address(number: int) -> str:
    return f"10.0.{number // 200}.{number % 200}"


def snapshot(store: Store) -> Snapshot:
    """Everything but ids, counters and the order of writing: name -> driver and attributes."""
    with store.read() as db:
        name_of = {row.id: row.name for row in db.execute(select(entities))}
        driver_of = {row.name: row.driver for row in db.execute(select(entities))}
        found: Snapshot = {name: (driver, []) for name, driver in driver_of.items()}
        for row in db.execute(select(attributes)):
            value = row.int_value if row.datatype == "int" else row.string_value
            value = name_of.get(row.relation_id) if row.datatype == "relation" else value
            found[name_of[row.entity_id]][1].append((row.key, row.subkey, row.number, row.datatype, value))
    for _driver, rows in found.values():
        rows.sort(key=repr)
    return found


def attribute(site: Snapshot, name: str, key: str, subkey: str | None, number: int | None = None) -> list[Any]:
    return [row[4] for row in site[name][1] if row[:3] == (key, subkey, number)]


def servers(site: Snapshot) -> list[str]:
    return sorted(name for name, (driver, _rows) in site.items() if "server" in driver and "console" not in driver)


class Killed(BaseException):
    """What SIGKILL is to the registrar: nothing runs after it."""


class MortalApi(Api):
    """Dies when the answer of its n-th request has been made and not been seen; None: lives."""

    def __init__(self, url: str, dies_at: int | None = None) -> None:
        super().__init__(url)
        self.dies_at = dies_at
        self.calls = 0
        self.on_answer: Callable[[int], None] = lambda _calls: None

    def request(self, *arguments: Any, **named: Any) -> requests.Response:
        response = super().request(*arguments, **named)
        self.calls += 1
        self.on_answer(self.calls)
        if self.calls == self.dies_at:
            raise Killed
        return response


class Hands:
    """Registrations as a registrar makes them.  names: what the coordinator has on disk, MAC -> name about to be
    taken."""

    def __init__(
        self, url: str, *, dies_at: int | None = None, in_one: bool = True, dry: bool = False, module: str | None = None
    ) -> None:
        self.api = MortalApi(url, dies_at)
        client.connect(url)
        self.inventory = Inventory(self.api, dry=dry, in_one=in_one)
        self.names: dict[str, str] = {}
        self.facts = Facts(self.inventory)
        self.reserved: dict[str, str] = {}
        factories = Factories(
            self.inventory,
            self.facts,
            module,
            lambda _text: None,
            lambda addresses: [self.reserved.get(str(address), "") for address in addresses],
        )
        names = Names(self.inventory, "servernames")
        self.mac = ""
        self.step = 0
        self.registration = Registration(self.inventory, self.facts, names, factories, 8, self.intend)

    def intend(self, name: str) -> bool:
        if name in self.names.values():
            return False
        self.names[self.mac] = name
        return True

    def register(
        self, mac: str, port: int, *, switch: str = "10.0.0.1", vlan: int = 10, roles: tuple[str, ...] = (),
        adopted: bool = False, lasting: bool = False, bmc_word: bool = False,
        places: list[list[str | int]] | None = None, served: str = "",
    ) -> Outcome:  # fmt: skip
        self.mac = mac
        seen = [[switch, port, vlan]] if places is None else places
        name = self.names.get(mac, "")
        work = Work(
            mac=mac,
            places=seen,
            roles=list(roles),
            name=name,
            adopted=adopted,
            lasting=lasting,
            bmc_word=bmc_word,
            served=served,
        )
        outcome = self.registration.run(work)
        if outcome.state not in ("waits", "down", "retry"):
            self.names.pop(mac, None)
        return outcome
