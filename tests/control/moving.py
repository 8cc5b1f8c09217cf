"""An inventory in which hosts move, as a model and as a source that may fail; what a table made of it must never say.

inventory = Moving()
inventory.hosts["a"] = Machine(mac=1, addresses=[10])
planner.source = inventory                       # the planner reads it, part by part
check(control.pair())
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import Any

from ext.builder import Surroundings
from ext.table import Generation, Pair, row_key

from control.clusto.errors import InventoryDown
from control.config.bmc import ROLE_BIT
from control.config.config import Dhcp
from control.plan.compile import Compiler
from control.sources.model import Batch, Inventory, PartLost, Reading, Thing, dotted, name_of
from tests.control.inventories import At, Site, attribute

FIRST_ADDRESS = 0x0A010000
BMC_PORT = "ipmi"
SWITCH = "/networkswitch/sw"


@dataclass(slots=True)
class Machine:
    """mac, bmc_mac: small numbers, None for none.  addresses, bmc_address: the last octet.  part: read together."""

    mac: int | None
    addresses: list[int]
    type_: str = "server"
    enabled: bool = True
    proxy: bool = False
    part: str = "p"
    bmc_mac: int | None = None
    bmc_address: int | None = None
    inside: bool = False  # in the switch
    second: int | None = None  # MAC at port 2
    ports: int | str | None = None  # boot_ports


def mac_text(number: int) -> str:
    return (0x020000000000 + number).to_bytes(6, "big").hex(":")


@dataclass
class Moving:
    """hosts: by name; an object is a type and a name, and "a#" shows the name a.  switch: last octet of the address of
    a container without a MAC; unreadable: paths, of hosts or of SWITCH.  lost: parts that cannot be read;
    missing: paths that are listed and not given; fail_at: how many single reads still work before one fails, None: all
    do; before_part: called before each part."""

    hosts: dict[str, Machine] = field(default_factory=dict)
    switch: int | None = None
    unreadable: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    down: bool = False
    fail_at: int | None = None
    before_part: Any = lambda _part: None

    def thing(self, name: str, host: Machine) -> Thing:
        site = Site(None)
        bound = [At(dotted(FIRST_ADDRESS + address)) for address in host.addresses]
        if host.bmc_address is not None:
            bound.append(At(dotted(FIRST_ADDRESS + host.bmc_address), port=BMC_PORT))
        dhcp: dict[str, Any] = {"enabled": int(host.enabled)} | ({"proxy": 1} if host.proxy else {})
        extra = []
        if host.second is not None:
            extra.append(attribute("port-nic-eth", "mac", mac_text(host.second), 2))
        if host.ports is not None:
            dhcp["boot_ports"] = host.ports
        if host.bmc_mac is not None:
            extra.append(attribute("port-nic-eth", "ipmi-mac", mac_text(host.bmc_mac), 1))
        macs = () if host.mac is None else mac_text(host.mac)
        shown = name.partition("#")[0]  # objects of two types may show one name
        site.host(shown, *bound, mac=macs, type_=host.type_, extra=extra, dhcp=dhcp)
        return Thing(f"/{host.type_}/{shown}", tuple(site.things[f"/{host.type_}/{shown}"]))

    def things(self) -> dict[str, tuple[str, Thing]]:
        """Path -> part and thing."""
        made = [(host.part, self.thing(name, host)) for name, host in self.hosts.items()]
        return {thing.path: (part, thing) for part, thing in made} | {SWITCH: ("p", self.container())}

    def container(self) -> Thing:
        site = Site(None)
        bound = [] if self.switch is None else [At(dotted(FIRST_ADDRESS + self.switch))]
        site.host(name_of(SWITCH), *bound, mac=(), type_="networkswitch", dhcp={"enabled": 1})
        return Thing(SWITCH, tuple(site.things[SWITCH]))

    def frame(self) -> Inventory:
        """Managers, the container, and who is in it."""
        inventory = Site().inventory()
        frame = Inventory(dict(inventory.things), self.parents(), managers=list(inventory.managers))
        if SWITCH in self.unreadable:
            frame.unread[SWITCH] = "a test wants it so"
        else:
            frame.things[SWITCH] = self.container()
        return frame

    def parents(self) -> dict[str, Sequence[str]]:
        inside = [(name.partition("#")[0], host) for name, host in self.hosts.items() if host.inside]
        return {f"/{host.type_}/{shown}": (SWITCH,) for shown, host in inside}

    # --- a source ------------------------------------------------------------------------------------------------

    def read(self) -> Reading:
        if self.down:
            raise InventoryDown("it is down")
        listed: dict[str, list[str]] = {"p": [], "q": []}
        for path, (part, _thing) in self.things().items():
            listed[part].append(path)
        return Reading(self.frame(), self.batches(listed))

    def batches(self, listed: dict[str, list[str]]) -> Iterator[Batch]:
        for part, paths in listed.items():
            self.before_part(part)
            now = self.things()
            given = [now[path][1] for path in paths if path in now and path not in self.missing | self.unreadable]
            digest = hashlib.blake2b(repr(given).encode(), digest_size=16).digest()
            yield self.batch(part, paths, given, b"" if part in self.lost else digest)

    def batch(self, part: str, paths: list[str], given: list[Thing], digest: bytes) -> Batch:
        lost = part in self.lost

        def things() -> Iterator[Thing]:
            if lost:
                raise PartLost(f"{part} cannot be read")
            yield from given

        return Batch(part, paths, digest, things)

    def read_hosts(self, macs: Iterable[str], names: Iterable[str], frame: Inventory) -> Inventory:
        if self.down or self.fail_at == 0:
            raise InventoryDown("it is down")
        if self.fail_at is not None:
            self.fail_at -= 1
        macs, names = set(macs), set(names)
        inventory = Inventory(dict(frame.things), dict(frame.parents), [], frame.managers)
        inventory.lost, inventory.unread = dict(frame.lost), dict(frame.unread)
        first, inventory.fresh = not frame.fresh, frame.fresh | {""}
        inventory.claimed = {path: set(claimed) for path, claimed in frame.claimed.items()}
        found = [thing for _part, thing in self.things().values()]
        wanted = [
            thing for thing in found if macs & {*dict(thing.macs()).values(), *thing.ipmi_mac()} or thing.name in names
        ]
        readable = [thing for thing in wanted if thing.path not in self.unreadable]
        if wanted and not readable and first:
            raise InventoryDown("nothing of it can be read")
        addresses = {address.text for thing in readable for address in thing.addresses()}
        inside = self.parents()
        for thing in found:
            if thing in wanted or addresses & {address.text for address in thing.addresses()}:
                self.take(inventory, thing, inside.get(thing.path, ()))
                self.note_claims(inventory, thing, addresses)
        read = [thing for path, thing in inventory.things.items() if path in inventory.hosts]
        others = {address.text for thing in read for address in thing.addresses()} - addresses
        for thing in found:
            self.note_claims(inventory, thing, others)
        return inventory

    def note_claims(self, inventory: Inventory, thing: Thing, asked: set[str]) -> None:
        """What of the addresses that were asked for it has, if it does not say so itself."""
        shared = asked & {address.text for address in thing.addresses()}
        if shared and (thing.path in inventory.lost or thing.path not in inventory.fresh):
            inventory.claimed.setdefault(thing.path, set()).update(int(IPv4Address(text)) for text in shared)

    def take(self, inventory: Inventory, thing: Thing, above: Sequence[str]) -> None:
        """Into the answer about single hosts, with what it is in, as far as that can be read."""
        if SWITCH in above:
            if SWITCH in self.unreadable:
                inventory.unread[SWITCH] = "a test wants it so"
                inventory.things.pop(SWITCH, None)
            else:
                inventory.things[SWITCH] = self.container()
        if thing.path in self.unreadable:
            inventory.lost[thing.path] = f"{thing.path} cannot be read"
            return
        inventory.fresh.add(thing.path)
        inventory.things[thing.path] = thing
        inventory.parents[thing.path] = above
        if thing.has_mac():
            inventory.hosts.append(thing.path)

    def copy(self) -> Moving:
        return Moving({name: replace(host, addresses=list(host.addresses)) for name, host in self.hosts.items()})


def fresh(inventory: Moving, config: Dhcp) -> dict[int, Any]:
    """What a table would say that was made of the inventory now, by key."""
    whole = Moving(inventory.hosts, inventory.switch)
    reading = whole.read()
    done = Compiler(config).begin(reading.frame)
    for batch in reading.batches:
        done.add(batch)
    fd = done.assemble(None, set()).rows.seal(1, Surroundings(), created_s=1)
    try:
        return rows_of(Pair(Generation(fd)))
    finally:
        os.close(fd)


def rows_of(pair: Pair) -> dict[int, Any]:
    return {row_key(*key): pair.lookup(*key) for key in pair.keys()}  # noqa: SIM118


def addresses_of(row: dict[str, Any] | None) -> list[int]:
    return [lease["address"] for lease in row["leases"]] if row is not None and row["state"] == "served" else []


def check(pair: Pair, cards: int = 1) -> None:
    """No address in answered rows of two objects; nor at more MACs of one than it has cards, but a BMC may ask with
    both of its own.  No MAC is one's card and another's BMC."""
    owners: dict[int, set[int]] = {}
    hosts: dict[int, int] = {}
    for key, row in rows_of(pair).items():
        for address in addresses_of(row):
            owners.setdefault(address, set()).add(row["identity"])
            if not key >> 48:
                hosts[address] = hosts.get(address, 0) + 1
    twice = [dotted(address) for address, found in owners.items() if len(found) > 1]
    assert not twice, f"{twice}: answered to several objects"
    twice = [dotted(address) for address, count in hosts.items() if count > cards]
    assert not twice, f"{twice}: answered at several MACs"
    of_mac: dict[int, set[int]] = {}
    rows = rows_of(pair)
    for key, row in rows.items():
        if row["leases"] or rows.get(key ^ ROLE_BIT, {"leases": ()})["leases"]:
            of_mac.setdefault(row["mac"], set()).add(row["identity"])
    twice = [f"{mac:012x}" for mac, found in of_mac.items() if len(found) > 1]
    assert not twice, f"{twice}: one object's card and another's BMC"
    answered = {row["identity"] for key, row in rows_of(pair).items() if row["leases"] and not key >> 48}
    assert pair.top.host_count == len(answered), "hosts are counted, not their cards"
